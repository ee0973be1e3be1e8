#include "server/client/uia.h"

#include <sodium.h>
#include <string.h>

#include "identity/admission.h"
#include "identity/refusal.h"
#include "identity/session.h"
#include "identity/uia.h"
#include "server/server.h"

/* SHA-256 of method, path and body without "auth": what the proof is good for. */
static GBytes *
hash_of(const Request *request, const char *path, GError **error)
{
    crypto_hash_sha256_state state;
    guint8 hash[crypto_hash_sha256_BYTES];
    const char *method = request_method(request);
    g_autoptr(cJSON) body = cJSON_Duplicate(request_json(request), TRUE);

    if (body == NULL) {
        refusal_set(error, 400, "M_BAD_JSON", "Send a JSON object");
        return NULL;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(body, "auth");
    g_autoptr(GBytes) bytes = json_canonical(body, error);
    if (bytes == NULL)
        return NULL;
    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, (const guint8 *)method, strlen(method) + 1);
    crypto_hash_sha256_update(&state, (const guint8 *)path, strlen(path) + 1);
    crypto_hash_sha256_update(&state, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    crypto_hash_sha256_final(&state, hash);
    return g_bytes_new(hash, sizeof hash);
}

static Response *
answer_401(const char *stage, const char *id, const char *errcode, const char *sentence)
{
    cJSON *body = cJSON_CreateObject();
    cJSON *flow = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(flow, "stages"), cJSON_CreateString(stage));
    cJSON_AddItemToArray(cJSON_AddArrayToObject(body, "flows"), flow);
    cJSON_AddArrayToObject(body, "completed");
    cJSON_AddObjectToObject(body, "params");
    cJSON_AddStringToObject(body, "session", id);
    if (errcode != NULL) {
        cJSON_AddStringToObject(body, "errcode", errcode);
        cJSON_AddStringToObject(body, "error", sentence);
    }
    return response_value(401, body);
}

/* The stage of @session, and whether "auth" passes it.  A stage that is not ours is the test
 * suites'. */
static gboolean
passes(Server *server, StoreConnection *connection, const Session *session, const cJSON *auth,
       GBytes *hash, gboolean *ret_passed, GError **error)
{
    const char *id = json_get_string(auth, "session");
    if (uia_stage(session_kind(session)) != NULL)
        return id == NULL ||
               uia_spend(server->sessions, connection, session, id, hash, ret_passed, error);
    if (admission_interactive_stage() != NULL && json_get_string(auth, "type") != NULL)
        *ret_passed = admission_interactive_check(connection, session_user_id(session), auth, NULL);
    return TRUE;
}

gboolean
uia_require(Request *request, Response **ret_answer, GError **error)
{
    Server *server = request_server(request);
    const Session *session = request_session(request);
    const cJSON *auth = json_get_object(request_json(request), "auth");
    const char *stage = uia_stage(session_kind(session));
    const char *target = request_target(request);
    g_autofree char *path = g_strndup(target, strcspn(target, "?"));
    g_autofree char *what = g_strdup_printf("%s %s", request_method(request), path);
    g_autofree char *id = NULL;
    gboolean passed = FALSE, open = FALSE;

    g_autoptr(GBytes) hash = hash_of(request, path, error);
    g_autoptr(StoreConnection) connection = hash != NULL ? store_borrow(server->pool, error) : NULL;
    if (connection == NULL)
        return FALSE;
    if (auth != NULL && !passes(server, connection, session, auth, hash, &passed, error))
        return FALSE;
    if (passed)
        return TRUE;

    /* A session that is open for this very request goes on; anything else begins anew. */
    const char *offered = json_get_string(auth, "session");
    if (offered != NULL &&
        !uia_is_open(server->sessions, connection, session, offered, hash, &open, error))
        return FALSE;
    if (open)
        id = g_strdup(offered);
    else if (!uia_begin(server->sessions, connection, session, what, hash, &id, error))
        return FALSE;
    if (stage == NULL)
        stage = admission_interactive_stage();
    *ret_answer =
        answer_401(stage != NULL ? stage : UIA_STAGE_SSO, id, auth != NULL ? "M_FORBIDDEN" : NULL,
                   "Not confirmed yet: show your certificate as the stage asks, then send the same "
                   "request again");
    return FALSE;
}
