/* server/partner/info.c: what a partner may know of this server and its users: keys, version,
 * profiles. Source: server-server API v1.19, "Retrieving server keys", "Server discovery",
 * "Querying for information". */
#include <string.h>

#include "federation/room/identifier.h"
#include "identity/clock.h"
#include "identity/server_key.h"
#include "server/http/route.h"
#include "server/server.h"
#include "storage/enrolment_store.h"
#include "storage/profile_store.h"

#define KEY_VALID_MS                                                                               \
    ((gint64)7 * 24 * 3600 * 1000) /* the longest that the specification lets count */

static Response *
server_key_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    g_autoptr(GBytes) document =
        server_key_document(server->key, server->name, clock_wall_ms() + KEY_VALID_MS, error);
    return document != NULL ? response_bytes(200, "application/json", document) : NULL;
}

static Response *
version_get(Request *request, GError **error)
{
    return response_json(200,
                         g_string_new("{\"server\":{\"name\":\"Chancery\",\"version\":\"0.1\"}}"));
}

static Response *
profile_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *user_id = request_query(request, "user_id");
    const char *field = request_query(request, "field");
    const char *of =
        user_id != NULL && identifier_user_id_valid(user_id) ? identifier_server(user_id) : NULL;
    g_autoptr(ProfileRow) row = NULL;
    gboolean exists = FALSE;

    if (of == NULL)
        return response_error(400, "M_MISSING_PARAM", "Give a user ID as user_id");
    if (strcmp(of, server->name) != 0)
        return response_error(404, "M_NOT_FOUND", "That user is not of this server");
    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
        if (connection == NULL || !account_store_exists(connection, user_id, &exists, error) ||
            !profile_store_find(connection, user_id, &row, error))
            return NULL;
    }
    if (!exists)
        return response_error(404, "M_NOT_FOUND", "There is no such user here");
    cJSON *answer = cJSON_CreateObject();
    if (row != NULL && row->displayname != NULL &&
        (field == NULL || strcmp(field, "displayname") == 0))
        cJSON_AddItemToObject(answer, "displayname", cJSON_CreateString(row->displayname));
    if (row != NULL && row->avatar_url != NULL &&
        (field == NULL || strcmp(field, "avatar_url") == 0))
        cJSON_AddItemToObject(answer, "avatar_url", cJSON_CreateString(row->avatar_url));
    return response_value(200, answer);
}

const Route routes_partner_info[] = {
    {"GET", "/_matrix/key/v2/server", LISTEN_PARTNER, CALLER_HANDSHAKE, RATE_NONE, BODY_NONE,
     server_key_get},
    {"GET", "/_matrix/federation/v1/version", LISTEN_PARTNER, CALLER_HANDSHAKE, RATE_NONE,
     BODY_NONE, version_get},
    {"GET", "/_matrix/federation/v1/query/profile", LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE,
     BODY_NONE, profile_get},
    {NULL},
};
