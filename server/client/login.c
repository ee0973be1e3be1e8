/* server/client/login.c: log-in on the client listener, its refresh, and every way in that does not
 * exist. Client-server API, "Legacy API": Login, Account registration; "Refreshing access tokens".
 */
#include <string.h>

#include "identity/admission.h"
#include "identity/clock_rule.h"
#include "identity/login_token.h"
#include "identity/refusal.h"
#include "server/client/link.h"
#include "server/config.h"
#include "server/http/route.h"
#include "server/server.h"

static Response *
login_get(Request *request, GError **error)
{
    cJSON *body = cJSON_CreateObject();
    cJSON *flows = cJSON_AddArrayToObject(body, "flows");
    for (const char *const *type = admission_login_types(); *type != NULL; type++) {
        cJSON *flow = cJSON_CreateObject();
        cJSON_AddStringToObject(flow, "type", *type);
        cJSON_AddItemToArray(flows, flow);
    }
    return response_value(200, body);
}

/* The proof behind this body; the connection is given back before anybody waits for a commit. */
static CertificateProof *
proof_of(Request *request, const cJSON *body, LoginKind *ret_kind, const char **ret_rule,
         GError **error)
{
    Server *server = request_server(request);
    const char *type = json_require_string(body, "type", error);
    g_autoptr(StoreConnection) connection = type != NULL ? store_borrow(server->pool, error) : NULL;

    if (connection == NULL)
        return NULL;
    if (strcmp(type, "m.login.token") != 0) {
        *ret_kind = LOGIN_OPEN;
        *ret_rule = "login-type";
        return admission_login(server->certificates, connection, body, error);
    }
    const char *token = json_require_string(body, "token", error);
    if (token == NULL)
        return NULL;
    *ret_kind = LOGIN_BROWSER;
    return login_token_redeem(server->sessions, server->certificates, connection, token,
                              request_header(request, "Origin"), ret_rule, error);
}

static Response *
login_post(Request *request, GError **error)
{
    const cJSON *body = request_json(request);
    const char *rule = NULL;
    LoginKind kind = LOGIN_BROWSER;
    GError *problem = NULL;
    g_autoptr(CertificateProof) proof = NULL;

    if (clock_rule_check_step(&problem))
        proof = proof_of(request, body, &kind, &rule, &problem);
    else
        rule = "clock-step";
    if (proof == NULL) {
        login_refused(request, NULL, rule, problem);
        g_propagate_error(error, problem);
        return NULL;
    }
    SessionWish wish = login_wish(request, body);
    return login_link(request, proof, kind, &wish, error);
}

static Response *
refresh_post(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *token = json_require_string(request_json(request), "refresh_token", error);
    g_autoptr(SessionTokens) tokens =
        token != NULL ? sessions_refresh(server->sessions, token, error) : NULL;

    if (tokens == NULL)
        return NULL;
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "access_token", tokens->access_token);
    cJSON_AddStringToObject(body, "refresh_token", tokens->refresh_token);
    cJSON_AddNumberToObject(body, "expires_in_ms", (double)tokens->expires_in_ms);
    Response *response = response_value(200, body);
    response_header(response, "Cache-Control", "no-store");
    return response;
}

/* To the certificate listener: the client listener never asks for certificates (its requests come
 * from scripts, which browsers let show none). */
static Response *
sso_redirect_get(Request *request, GError **error)
{
    const Config *config = request_server(request)->config;
    const char *base = config_text(config, "certificate", "public_base_url");
    const char *url = request_query(request, "redirectUrl");

    if (base == NULL)
        return response_error(403, "M_FORBIDDEN",
                              "Nobody can log in here: this server has no "
                              "certificate listener");
    if (url == NULL)
        return response_error(400, "M_MISSING_PARAM",
                              "redirectUrl is missing: the address of your "
                              "client to which the browser shall return");
    if (!redirect_url_is_allowed(config_list(config, "identity", "redirect_urls"), url))
        return response_error(
            403, "M_FORBIDDEN",
            "The log-in does not return to this redirectUrl: the administrator lists the "
            "clients' addresses in [identity] redirect_urls");
    g_autofree char *escaped = g_uri_escape_string(url, NULL, FALSE);
    g_autofree char *location =
        g_strdup_printf("%s/_chancery/v1/login/sso?redirectUrl=%s", base, escaped);
    return response_redirect(location);
}

/* ---- registration: officers enrol people ---- */

static Response *
register_post(Request *request, GError **error)
{
    Server *server = request_server(request);
    const cJSON *body = request_json(request);
    g_autoptr(CertificateProof) proof = NULL;
    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
        if (connection == NULL)
            return NULL;
        proof = admission_register(server->certificates, connection, body, error);
    }
    if (proof == NULL)
        return NULL;
    if (json_get_boolean(body, "inhibit_login", FALSE)) {
        cJSON *answer = cJSON_CreateObject();
        cJSON_AddStringToObject(answer, "user_id", certificate_proof_user_id(proof));
        return response_value(200, answer);
    }
    SessionWish wish = login_wish(request, body);
    return login_link(request, proof, LOGIN_OPEN, &wish, error);
}

static Response *
register_available_get(Request *request, GError **error)
{
    if (admission_registration_is_open())
        return response_json(200, g_string_new("{\"available\":true}"));
    return response_error(
        403, "M_FORBIDDEN",
        "Accounts are not registered here: an identity officer of your agency enrols you");
}

/* ---- ways in that do not exist ---- */

static Response *
no_login_token(Request *request, GError **error)
{
    return response_error(
        403, "M_FORBIDDEN",
        "No session here can be handed to another device: log in there with your certificate");
}

static Response *
no_password(Request *request, GError **error)
{
    return response_error(403, "M_FORBIDDEN",
                          "There are no passwords here: people log in with certificates");
}

static Response *
no_third_party_id(Request *request, GError **error)
{
    return response_error(403, "M_FORBIDDEN",
                          "E-mail addresses and telephone numbers play no part in log-in here");
}

static Response *
no_deactivation(Request *request, GError **error)
{
    return response_error(403, "M_FORBIDDEN",
                          "Accounts are ended by an identity officer of your agency");
}

static Response *
no_rendezvous(Request *request, GError **error)
{
    return response_error(403, "M_FORBIDDEN",
                          "Linking devices by code is not offered: log in there with your "
                          "certificate");
}

#define CLIENT "/_matrix/client/"
#define ANYONE LISTEN_CLIENT, CALLER_ANYONE, RATE_LOGIN

extern const Route login_routes[];
const Route login_routes[] = {
    {"GET", CLIENT "v3/login", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, login_get},
    {"POST", CLIENT "v3/login", ANYONE, BODY_JSON, login_post},
    /* No rate by address: what is not a token of ours costs nothing, and a whole agency may stand
     * behind one address. */
    {"POST", CLIENT "v3/refresh", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_JSON, refresh_post},
    {"GET", CLIENT "v3/login/sso/redirect", ANYONE, BODY_NONE, sso_redirect_get},
    {"GET", CLIENT "v3/login/sso/redirect/{idpId}", ANYONE, BODY_NONE, sso_redirect_get},
    {"POST", CLIENT "v3/register", ANYONE, BODY_JSON_OPTIONAL, register_post},
    {"GET", CLIENT "v3/register/available", ANYONE, BODY_NONE, register_available_get},
    {"GET", CLIENT "v1/register/m.login.registration_token/validity", ANYONE, BODY_NONE,
     register_available_get},
    {"POST", CLIENT "v3/register/email/requestToken", ANYONE, BODY_NONE, no_third_party_id},
    {"POST", CLIENT "v3/register/msisdn/requestToken", ANYONE, BODY_NONE, no_third_party_id},
    {"POST", CLIENT "v3/account/password", ANYONE, BODY_NONE, no_password},
    {"POST", CLIENT "v3/account/password/email/requestToken", ANYONE, BODY_NONE, no_third_party_id},
    {"POST", CLIENT "v3/account/password/msisdn/requestToken", ANYONE, BODY_NONE,
     no_third_party_id},
    {"POST", CLIENT "v3/account/deactivate", ANYONE, BODY_NONE, no_deactivation},
    {"POST", CLIENT "v3/account/3pid", ANYONE, BODY_NONE, no_third_party_id},
    {"POST", CLIENT "v3/account/3pid/add", ANYONE, BODY_NONE, no_third_party_id},
    {"POST", CLIENT "v3/account/3pid/bind", ANYONE, BODY_NONE, no_third_party_id},
    {"POST", CLIENT "v3/account/3pid/delete", ANYONE, BODY_NONE, no_third_party_id},
    {"POST", CLIENT "v3/account/3pid/unbind", ANYONE, BODY_NONE, no_third_party_id},
    {"POST", CLIENT "v3/account/3pid/email/requestToken", ANYONE, BODY_NONE, no_third_party_id},
    {"POST", CLIENT "v3/account/3pid/msisdn/requestToken", ANYONE, BODY_NONE, no_third_party_id},
    {"POST", CLIENT "v1/login/get_token", ANYONE, BODY_NONE, no_login_token},
    {"POST", CLIENT "unstable/org.matrix.msc3882/login/get_token", ANYONE, BODY_NONE,
     no_login_token},
    {"POST", CLIENT "unstable/org.matrix.msc3886/rendezvous", ANYONE, BODY_NONE, no_rendezvous},
    {"POST", CLIENT "unstable/org.matrix.msc4108/rendezvous", ANYONE, BODY_NONE, no_rendezvous},
    {"GET", CLIENT "unstable/io.element.msc4388/rendezvous", ANYONE, BODY_NONE, no_rendezvous},
    {"POST", CLIENT "unstable/io.element.msc4388/rendezvous", ANYONE, BODY_NONE, no_rendezvous},
    {0},
};
