/* server/client/typing_routes.c: PUT typing. */
#include <string.h>

#include "identity/refusal.h"
#include "server/client/room_edus.h"
#include "server/client/typing.h"
#include "server/http/route.h"
#include "server/server.h"
#include "storage/membership_store.h"

/* Server-server API, "Typing Notifications". */
static gboolean
tell_partners(Server *server, StoreConnection *connection, const char *room_id, const char *user_id,
              gboolean is_typing, GError **error)
{
    g_autofree char *replaces = g_strconcat("m.typing ", room_id, " ", user_id, NULL);
    cJSON *content = cJSON_CreateObject();

    cJSON_AddStringToObject(content, "room_id", room_id);
    cJSON_AddStringToObject(content, "user_id", user_id);
    cJSON_AddBoolToObject(content, "typing", is_typing);
    return room_edus_send(server, connection, room_id, "m.typing", content, replaces, error);
}

static gboolean
is_joined(StoreConnection *connection, const char *room_id, const char *user_id,
          gboolean *ret_joined, GError **error)
{
    g_autoptr(StoredMembership) membership = NULL;

    if (!membership_store_find(connection, room_id, user_id, &membership, error))
        return FALSE;
    *ret_joined = membership != NULL && strcmp(membership->membership, "join") == 0;
    return TRUE;
}

static Response *
typing_put(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = request_path(request, "roomId");
    const char *user_id = request_user_id(request);
    const cJSON *is_typing = json_object_get(request_json(request), "typing");
    g_autoptr(StoreConnection) connection = NULL;
    gint64 timeout_ms = 30 * 1000;
    gboolean joined = FALSE;

    if (strcmp(request_path(request, "userId"), user_id) != 0)
        return response_error(403, "M_FORBIDDEN", "You type for yourself alone");
    if (!cJSON_IsBool(is_typing))
        return response_error(400, "M_BAD_JSON", "typing must be true or false");
    json_get_integer(request_json(request), "timeout", &timeout_ms);
    connection = store_borrow(server->pool, error);
    if (connection == NULL || !is_joined(connection, room_id, user_id, &joined, error))
        return NULL;
    if (!joined)
        return response_error(403, "M_FORBIDDEN", "You are not in that room");
    typing_set(server->typing, room_id, user_id,
               cJSON_IsTrue(is_typing) ? (guint)CLAMP(timeout_ms, 0, TYPING_MS_MAX) : 0);
    if (!tell_partners(server, connection, room_id, user_id, cJSON_IsTrue(is_typing), error))
        return NULL;
    return response_empty_object();
}

extern const Route typing_routes[];
const Route typing_routes[] = {
    {"PUT", "/_matrix/client/v3/rooms/{roomId}/typing/{userId}", LISTEN_CLIENT, CALLER_USER,
     RATE_NONE, BODY_JSON, typing_put},
    {0},
};
