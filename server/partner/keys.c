/* server/partner/keys.c: our users' public keys, for partners.  What a partner may know: device
 * keys, master and self-signing keys; not whom a user has verified, and no device's name. Source:
 * server-server API v1.19, "End-to-End Encryption", "Device Management". */
#include <string.h>

#include "federation/room/identifier.h"
#include "identity/clock.h"
#include "server/client/key_answers.h"
#include "server/http/route.h"
#include "server/server.h"

/* Both questions map user ids of ours to what is wanted of them; other servers' users are not
 * answered for. */
static gboolean
answer_each(Request *request, const char *member, gboolean claim, cJSON *answer, GError **error)
{
    const cJSON *users = json_require_object(request_json(request), member, error);
    g_autoptr(StoreConnection) connection =
        users != NULL ? store_borrow(request_server(request)->pool, error) : NULL;
    if (connection == NULL || !key_answers_may_ask(users, claim, error))
        return FALSE;
    for (const cJSON *user = users->child; user != NULL; user = user->next) {
        if (!identifier_is_user_of(user->string, request_server(request)->name))
            continue;
        if (claim ? !key_answers_claim(request_server(request)->sync, connection, user->string,
                                       user, key_answers_object(answer, "one_time_keys"), error)
                  : !key_answers_add_user(connection, user->string, user, NULL, answer, error))
            return FALSE;
    }
    return TRUE;
}

static Response *
partner_keys_query_post(Request *request, GError **error)
{
    g_autoptr(cJSON) answer = cJSON_CreateObject();
    key_answers_object(answer, "device_keys");
    if (!answer_each(request, "device_keys", FALSE, answer, error))
        return NULL;
    return response_value(200, g_steal_pointer(&answer));
}

static Response *
partner_keys_claim_post(Request *request, GError **error)
{
    g_autoptr(cJSON) answer = cJSON_CreateObject();
    key_answers_object(answer, "one_time_keys");
    if (!answer_each(request, "one_time_keys", TRUE, answer, error))
        return NULL;
    return response_value(200, g_steal_pointer(&answer));
}

static Response *
partner_user_devices_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *user_id = request_path(request, "userId");
    g_autoptr(cJSON) keys = cJSON_CreateObject();

    if (!identifier_is_user_of(user_id, server->name))
        return response_error(404, "M_NOT_FOUND", "That user is not of this server");
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    if (connection == NULL || !key_answers_add_user(connection, user_id, NULL, NULL, keys, error))
        return NULL;

    cJSON *answer = cJSON_CreateObject();
    cJSON_AddStringToObject(answer, "user_id", user_id);
    cJSON_AddNumberToObject(answer, "stream_id", (double)clock_wall_ms());
    cJSON *devices = cJSON_AddArrayToObject(answer, "devices");
    cJSON *of_user = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(keys, "device_keys"), user_id);
    while (of_user != NULL && of_user->child != NULL) {
        cJSON *device = cJSON_CreateObject();
        cJSON_AddStringToObject(device, "device_id", of_user->child->string);
        cJSON_AddItemToObject(device, "keys", cJSON_DetachItemViaPointer(of_user, of_user->child));
        cJSON_AddItemToArray(devices, device);
    }
    const char *const kinds[][2] = {{"master_keys", "master_key"},
                                    {"self_signing_keys", "self_signing_key"}};
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        cJSON *map = cJSON_GetObjectItemCaseSensitive(keys, kinds[i][0]);
        cJSON *key = map != NULL ? cJSON_DetachItemFromObjectCaseSensitive(map, user_id) : NULL;
        if (key != NULL)
            cJSON_AddItemToObject(answer, kinds[i][1], key);
    }
    return response_value(200, answer);
}

const Route routes_partner_keys[] = {
    {"POST", "/_matrix/federation/v1/user/keys/query", LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE,
     BODY_JSON_KEYS, partner_keys_query_post},
    {"POST", "/_matrix/federation/v1/user/keys/claim", LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE,
     BODY_JSON_KEYS, partner_keys_claim_post},
    {"GET", "/_matrix/federation/v1/user/devices/{userId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_NONE, partner_user_devices_get},
    {NULL},
};
