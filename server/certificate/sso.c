/* server/certificate/sso.c: the browser's part of log-in and of interactive authentication: pages
 * on the certificate listener, where the browser shows its certificate.
 *
 * Log-in: client listener /login/sso/redirect -> here -> back to the client's address with a
 * loginToken of 30 s
 * -> POST /login on the client listener.  Nothing is asked: the token goes to a listed address
 * alone. Interactive: client listener /auth/m.login.sso/fallback/web -> here: a page that says what
 * is to be confirmed, and a button, because a link alone must not confirm anything. */
#include <string.h>

#include "identity/certificate_proof.h"
#include "identity/clock_rule.h"
#include "identity/login_token.h"
#include "identity/refusal.h"
#include "identity/token.h"
#include "identity/uia.h"
#include "server/certificate/page.h"
#include "server/client/link.h"
#include "server/config.h"
#include "server/http/route.h"
#include "server/server.h"

/* People get the sentence as a page; a failure of our own goes the dispatcher's way. */
static Response *
page_of_refusal(const GError *problem, const char *title)
{
    const char *sentence;
    g_autofree char *errcode = refusal_errcode(problem, &sentence);
    return page_new((guint)problem->code, title, sentence);
}

static Response *
refused(Request *request, const char *rule, GError *problem, const char *title, GError **error)
{
    login_refused(request, NULL, rule, problem);
    if (problem->domain != REFUSAL) {
        g_propagate_error(error, problem);
        return NULL;
    }
    Response *page = page_of_refusal(problem, title);
    g_error_free(problem);
    return page;
}

static CertificateProof *
proof_of_caller(Request *request, StoreConnection *connection, const char **ret_rule,
                GError **error)
{
    const CertificateRule *rule = NULL;
    *ret_rule = "clock-step";
    if (!clock_rule_check_step(error))
        return NULL;
    *ret_rule = "certificate";
    if (!login_is_possible(request_server(request), error))
        return NULL;
    CertificateProof *proof =
        certificate_proof_from_tls(request_server(request)->certificates, connection,
                                   request_certificate_chain(request), &rule, error);
    if (rule != NULL)
        *ret_rule = rule->name;
    return proof;
}

/* The address with loginToken among its query, before any fragment. */
static char *
with_login_token(const char *url, const char *token)
{
    gsize length = strcspn(url, "#");
    gboolean has_query = memchr(url, '?', length) != NULL;
    return g_strdup_printf("%.*s%cloginToken=%s%s", (int)length, url, has_query ? '&' : '?', token,
                           url + length);
}

static Response *
sso_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *url = request_query(request, "redirectUrl");
    const char *rule = NULL;
    GError *problem = NULL;

    if (url == NULL ||
        !redirect_url_is_allowed(config_list(server->config, "identity", "redirect_urls"), url))
        return page_new(403, "Log-in refused",
                        "The log-in does not return to that address. Start again from your client; "
                        "the administrator lists the clients' addresses.");
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    if (connection == NULL)
        return NULL;
    g_autoptr(CertificateProof) proof = proof_of_caller(request, connection, &rule, &problem);
    if (proof == NULL)
        return refused(request, rule, problem, "Log-in refused", error);
    char *token = login_token_issue(server->sessions, connection, proof,
                                    request_certificate_chain(request), url, error);
    if (token == NULL)
        return NULL;
    char *location = with_login_token(url, token);
    Response *response = response_redirect(location);
    token_text_free(token);
    token_text_free(location);
    response_header(response, "Cache-Control", "no-store");
    response_header(response, "Referrer-Policy", "no-referrer");
    return response;
}

/* ---- interactive ---- */

static Response *
page_gone(void)
{
    return page_new(404, "Nothing to confirm",
                    "This confirmation is not known, is over, or was given before. Go back to your "
                    "client and start again.");
}

static Response *
uia_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *id = request_query(request, "session");
    g_autofree char *user_id = NULL, *what = NULL;
    g_autoptr(StoreConnection) connection = id != NULL ? store_borrow(server->pool, error) : NULL;

    if (id == NULL)
        return page_gone();
    if (connection == NULL ||
        !uia_describe(server->sessions, connection, id, &user_id, &what, error))
        return NULL;
    if (what == NULL)
        return page_gone();
    g_autofree char *text = g_strdup_printf("A client that is logged in as %s asks you to confirm "
                                            "with your certificate: %s. Confirm only if you have "
                                            "just asked for this yourself.",
                                            user_id, what);
    return page_ask("Confirm with your certificate", text, "Confirm");
}

/* Another site can make a browser post here, with the certificate; but not with our own origin. */
static gboolean
is_from_our_page(Request *request)
{
    const char *base =
        config_text(request_server(request)->config, "certificate", "public_base_url");
    const char *origin = request_header(request, "Origin");
    g_autofree char *ours = base != NULL ? redirect_url_origin(base) : NULL;
    return origin != NULL && g_strcmp0(origin, ours) == 0;
}

static Response *
uia_post(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *id = request_query(request, "session");
    const char *rule = NULL;
    GError *problem = NULL;

    if (id == NULL)
        return page_gone();
    if (!is_from_our_page(request))
        return page_new(403, "Not confirmed",
                        "Open the confirmation from your client and use its button.");
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    if (connection == NULL)
        return NULL;
    g_autoptr(CertificateProof) proof = proof_of_caller(request, connection, &rule, &problem);
    if (proof == NULL)
        return refused(request, rule, problem, "Not confirmed", error);
    if (!uia_complete(server->sessions, connection, id, proof, &problem))
        return refused(request, "uia", problem, "Not confirmed", error);
    return page_done("Confirmed", "You may close this page and go on in your client.");
}

extern const Route sso_routes[];
const Route sso_routes[] = {
    {"GET", "/_chancery/v1/login/sso", LISTEN_CERTIFICATE, CALLER_CERTIFICATE, RATE_LOGIN,
     BODY_NONE, sso_get},
    {"GET", "/_chancery/v1/uia/sso", LISTEN_CERTIFICATE, CALLER_CERTIFICATE, RATE_LOGIN, BODY_NONE,
     uia_get},
    {"POST", "/_chancery/v1/uia/sso", LISTEN_CERTIFICATE, CALLER_CERTIFICATE, RATE_LOGIN,
     BODY_BYTES, uia_post},
    {0},
};
