/* server/certificate/challenge.c: log-in by a signed challenge: terminals, native clients, bots.
 *
 * On the certificate listener and on ONE TLS connection:
 *   POST /_chancery/v1/challenge {"purpose": "login"}  -> nonce, server_name, purpose,
 * expires_in_ms POST /_chancery/v1/login     {"content": …, "signature": …, and what POST /login
 * takes} content: the canonical JSON of identity/challenge.h, as text; signature: CMS over its
 * bytes, base64. The same with purpose "uia" and /_chancery/v1/uia confirms what a client
 * listener's 401 asked for. */
#include <string.h>

#include "identity/audit.h"
#include "identity/certificate_proof.h"
#include "identity/challenge.h"
#include "identity/clock_rule.h"
#include "identity/cms.h"
#include "identity/refusal.h"
#include "identity/uia.h"
#include "server/client/link.h"
#include "server/http/route.h"
#include "server/server.h"

/* The certificate of the connection is judged already here: a person learns at once what is wrong
 * with it, and the answer says as whom they would log in. */
static CertificateProof *
proof_of_connection(Request *request, GError **error)
{
    Server *server = request_server(request);
    const CertificateRule *rule = NULL;
    GError *problem = NULL;
    g_autoptr(StoreConnection) connection =
        login_is_possible(server, error) ? store_borrow(server->pool, error) : NULL;

    if (connection == NULL)
        return NULL;
    CertificateProof *proof = certificate_proof_from_tls(
        server->certificates, connection, request_certificate_chain(request), &rule, &problem);
    if (proof == NULL) {
        login_refused(request, NULL, rule != NULL ? rule->name : "certificate", problem);
        g_propagate_error(error, problem);
    }
    return proof;
}

static Response *
challenge_post(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *purpose = json_require_string(request_json(request), "purpose", error);

    if (purpose == NULL)
        return NULL;
    if (strcmp(purpose, CHALLENGE_PURPOSE_LOGIN) != 0 &&
        strcmp(purpose, CHALLENGE_PURPOSE_UIA) != 0)
        return response_error(400, "M_INVALID_PARAM", "purpose must be \"%s\" or \"%s\"",
                              CHALLENGE_PURPOSE_LOGIN, CHALLENGE_PURPOSE_UIA);
    g_autoptr(CertificateProof) proof = proof_of_connection(request, error);
    if (proof == NULL)
        return NULL;
    g_autofree char *nonce = challenges_issue(server->challenges, purpose);
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "nonce", nonce);
    cJSON_AddStringToObject(body, "server_name", server->name);
    cJSON_AddStringToObject(body, "purpose", purpose);
    cJSON_AddStringToObject(body, "user_id", certificate_proof_user_id(proof));
    cJSON_AddNumberToObject(body, "expires_in_ms", (double)CHALLENGE_LIFE_MS);
    Response *response = response_value(200, body);
    response_header(response, "Cache-Control", "no-store");
    return response;
}

/* A signed answer that was judged. */
typedef struct {
    cJSON *json;
    ChallengeContent content; /* borrows from json */
    CertificateProof *proof;
} Answer;

static void
answer_clear(Answer *answer)
{
    challenge_content_clear(&answer->content);
    g_clear_pointer(&answer->json, cJSON_Delete);
    g_clear_pointer(&answer->proof, certificate_proof_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Answer, answer_clear)

static GBytes *
signature_of(const cJSON *body, GError **error)
{
    const char *text = json_require_string(body, "signature", error);
    gsize length = 0;

    if (text == NULL)
        return NULL;
    guchar *bytes =
        strlen(text) <= CMS_BYTES_MAX * 4 / 3 + 4 ? g_base64_decode(text, &length) : NULL;
    if (bytes == NULL || length == 0 || length > CMS_BYTES_MAX) {
        g_free(bytes);
        refusal_set(error, 400, "M_BAD_JSON", "\"signature\" must be a CMS signature in base64");
        return NULL;
    }
    return g_bytes_new_take(bytes, length);
}

/* The certificate of the connection must be the one that signed: two halves of one proof. */
static gboolean
is_the_caller(Request *request, const CertificateProof *proof)
{
    GPtrArray *chain = request_certificate_chain(request);
    if (chain == NULL || chain->len == 0)
        return FALSE;
    GBytes *leaf = g_ptr_array_index(chain, 0);
    guint8 hash[32];
    gsize length = sizeof hash;
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(checksum, g_bytes_get_data(leaf, NULL), (gssize)g_bytes_get_size(leaf));
    g_checksum_get_digest(checksum, hash, &length);
    g_autoptr(GBytes) bytes = g_bytes_new(hash, length);
    return g_bytes_equal(bytes, certificate_proof_certificate(proof));
}

static gboolean
judge_answer(Request *request, const char *purpose, Answer *answer, const char **ret_rule,
             GError **error)
{
    Server *server = request_server(request);
    const char *text = json_require_string(request_json(request), "content", error);
    const CertificateRule *rule = NULL;

    *ret_rule = "challenge-form";
    if (text == NULL)
        return FALSE;
    g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));
    if (!challenge_content_read(bytes, &answer->json, &answer->content, error))
        return FALSE;
    /* The nonce is burnt before anything else can fail. */
    if (!challenges_judge(server->challenges, &answer->content, server->name, purpose,
                          request_tls_exporter(request), ret_rule, error))
        return FALSE;
    *ret_rule = "clock-step";
    if (!clock_rule_check_step(error))
        return FALSE;
    if (!login_is_possible(server, error))
        return FALSE;
    *ret_rule = "challenge-signature";
    g_autoptr(GBytes) signature = signature_of(request_json(request), error);
    g_autoptr(StoreConnection) connection =
        signature != NULL ? store_borrow(server->pool, error) : NULL;
    if (connection == NULL)
        return FALSE;
    answer->proof = certificate_proof_from_cms(server->certificates, connection, signature, bytes,
                                               &rule, error);
    if (answer->proof == NULL) {
        *ret_rule = rule != NULL ? rule->name : "challenge-signature";
        return FALSE;
    }
    *ret_rule = "challenge-user";
    if (strcmp(answer->content.user_id, certificate_proof_user_id(answer->proof)) != 0) {
        refusal_set(error, 403, "M_FORBIDDEN", "This certificate is not of %s",
                    answer->content.user_id);
        return FALSE;
    }
    *ret_rule = "challenge-caller";
    if (!is_the_caller(request, answer->proof)) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "The certificate of the connection and the one that signed are not the same");
        return FALSE;
    }
    return TRUE;
}

static Response *
refused(Request *request, const Answer *answer, const char *rule, GError *problem, GError **error)
{
    login_refused(request, answer->content.user_id, rule, problem);
    g_propagate_error(error, problem);
    return NULL;
}

static gboolean
is_key(const char *key)
{
    return key != NULL && strlen(key) == 43 &&
           strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") == 43;
}

static Response *
login_post(Request *request, GError **error)
{
    g_auto(Answer) answer = {0};
    const char *rule = NULL;
    GError *problem = NULL;

    if (!judge_answer(request, CHALLENGE_PURPOSE_LOGIN, &answer, &rule, &problem))
        return refused(request, &answer, rule, problem, error);
    const ChallengeContent *content = &answer.content;
    if ((content->ed25519 != NULL && !is_key(content->ed25519)) ||
        (content->curve25519 != NULL && !is_key(content->curve25519)))
        return response_error(400, "M_BAD_JSON",
                              "ed25519 and curve25519 must be keys in unpadded base64");
    SessionWish wish = login_wish(request, request_json(request));
    wish.device_id = content->device_id; /* as signed, not as sent beside it */
    wish.ed25519 = content->ed25519;
    wish.curve25519 = content->curve25519;
    return login_link(request, answer.proof, LOGIN_CHALLENGE, &wish, error);
}

static Response *
uia_post(Request *request, GError **error)
{
    Server *server = request_server(request);
    g_auto(Answer) answer = {0};
    const char *rule = NULL;
    GError *problem = NULL;

    if (!judge_answer(request, CHALLENGE_PURPOSE_UIA, &answer, &rule, &problem))
        return refused(request, &answer, rule, problem, error);
    if (answer.content.uia_session == NULL)
        return response_error(400, "M_BAD_JSON", "uia_session is missing from what was signed");
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    if (connection == NULL)
        return NULL;
    if (!uia_complete(server->sessions, connection, answer.content.uia_session, answer.proof,
                      &problem))
        return refused(request, &answer, "uia", problem, error);
    return response_empty_object();
}

#define CHALLENGED LISTEN_CERTIFICATE, CALLER_CERTIFICATE, RATE_LOGIN, BODY_JSON

extern const Route challenge_routes[];
const Route challenge_routes[] = {
    {"POST", "/_chancery/v1/challenge", CHALLENGED, challenge_post},
    {"POST", "/_chancery/v1/login", CHALLENGED, login_post},
    {"POST", "/_chancery/v1/uia", CHALLENGED, uia_post},
    {0},
};
