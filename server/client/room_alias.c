/* Aliases of rooms: found, made, taken away. */
#include "server/client/room_alias.h"

#include "federation/outgoing.h"
#include "federation/room/power_levels.h"
#include "identity/clock.h"
#include "server/client/room_routes.h"
#include "storage/alias_store.h"

#define SERVERS_MAX 20

gboolean
require_alias(const char *alias, GError **error)
{
    const char *server = alias != NULL ? identifier_server(alias) : NULL;

    if (alias != NULL && alias[0] == '#' && server != NULL && server - alias > 2 &&
        strlen(alias) <= IDENTIFIER_BYTES_MAX && identifier_server_name_valid(server))
        return TRUE;
    refusal_set(error, 400, "M_INVALID_PARAM", "A room alias reads #name:server");
    return FALSE;
}

static gboolean
is_local_alias(const Server *server, const char *alias)
{
    return identifier_is_of(alias, server->name);
}

/* ---- finding ---- */

/* *ret_servers: ours first, then others of the room; free with g_strfreev. */
static gboolean
find_local(Server *server, const char *alias, char **ret_room_id, char ***ret_servers,
           GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    g_autoptr(StoredAlias) row = NULL;
    g_autoptr(GPtrArray) servers = NULL;
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();

    if (connection == NULL || !alias_store_find(connection, alias, &row, error))
        return FALSE;
    if (row == NULL) {
        refusal_set(error, 404, "M_NOT_FOUND", "There is no room of that name");
        return FALSE;
    }
    servers = membership_store_servers(connection, row->room_id, error);
    if (servers == NULL)
        return FALSE;
    g_strv_builder_add(names, server->name);
    for (guint i = 0; i < servers->len && i < SERVERS_MAX; i++)
        if (!g_str_equal(g_ptr_array_index(servers, i), server->name))
            g_strv_builder_add(names, g_ptr_array_index(servers, i));
    *ret_room_id = g_strdup(row->room_id);
    *ret_servers = g_strv_builder_end(names);
    return TRUE;
}

static Response *
directory_response(const char *room_id, const char *const *servers)
{
    GString *body = g_string_new("{\"room_id\":");

    json_append_string(body, room_id);
    g_string_append(body, ",\"servers\":[");
    for (guint i = 0; servers[i] != NULL; i++) {
        if (i > 0)
            g_string_append_c(body, ',');
        json_append_string(body, servers[i]);
    }
    g_string_append(body, "]}");
    return response_json(200, body);
}

Response *
room_alias_local(Server *server, const char *alias, GError **error)
{
    g_autofree char *room_id = NULL;
    g_auto(GStrv) servers = NULL;

    if (!require_alias(alias, error))
        return NULL;
    if (!is_local_alias(server, alias)) {
        refusal_set(error, 404, "M_NOT_FOUND", "That alias is not of this server");
        return NULL;
    }
    if (!find_local(server, alias, &room_id, &servers, error))
        return NULL;
    return directory_response(room_id, (const char *const *)servers);
}

typedef struct {
    RoomAliasFound found;
    gpointer data;
} Lookup;

static void
partner_found(const cJSON *answer, const GError *error, gpointer data)
{
    g_autofree Lookup *lookup = data;
    g_autoptr(GError) refusal = NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *room_id = json_get_string(answer, "room_id");
    const cJSON *item;

    if (error == NULL && (room_id == NULL || !identifier_room_id_valid(room_id)))
        refusal_set(&refusal, 502, "M_UNKNOWN", "The alias's server gave no room ID");
    if (error != NULL || refusal != NULL) {
        lookup->found(NULL, NULL, error != NULL ? error : refusal, lookup->data);
        return;
    }
    cJSON_ArrayForEach(item, json_get_array(answer, "servers"))
    {
        if (cJSON_IsString(item) && names->len < SERVERS_MAX &&
            identifier_server_name_valid(item->valuestring))
            g_ptr_array_add(names, item->valuestring);
    }
    g_ptr_array_add(names, NULL);
    lookup->found(room_id, (const char *const *)names->pdata, NULL, lookup->data);
}

void
room_alias_resolve(Server *server, const char *alias, RoomAliasFound found, gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *room_id = NULL;
    g_autofree char *escaped = g_uri_escape_string(alias, NULL, FALSE);
    g_autofree char *target =
        g_strconcat("/_matrix/federation/v1/query/directory?room_alias=", escaped, NULL);
    g_auto(GStrv) servers = NULL;
    Lookup *lookup;

    if (!require_alias(alias, &error)) {
        found(NULL, NULL, error, data);
    } else if (is_local_alias(server, alias)) {
        if (find_local(server, alias, &room_id, &servers, &error))
            found(room_id, (const char *const *)servers, NULL, data);
        else
            found(NULL, NULL, error, data);
    } else if (server->outgoing == NULL) {
        refusal_set(&error, 404, "M_NOT_FOUND", "This server does not federate");
        found(NULL, NULL, error, data);
    } else {
        lookup = g_new(Lookup, 1);
        *lookup = (Lookup){found, data};
        outgoing_query(server->outgoing, identifier_server(alias), "GET", target, NULL,
                       partner_found, lookup);
    }
}

static void
answer_alias(const char *room_id, const char *const *servers, const GError *error, gpointer data)
{
    request_answer(data, error == NULL ? directory_response(room_id, servers) : NULL, error);
}

Response *
room_alias_get(Request *request, GError **error)
{
    room_alias_resolve(request_server(request), request_path(request, "roomAlias"), answer_alias,
                       request);
    return RESPONSE_LATER;
}

Response *
room_aliases_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = request_path(request, "roomId");
    g_auto(RoomAccess) access = {0};
    g_autoptr(StoreConnection) connection = NULL;
    g_autoptr(GPtrArray) aliases = NULL;
    GString *body;

    if (!room_access(request, room_id, &access, error))
        return NULL;
    connection = store_borrow(server->pool, error);
    aliases = connection != NULL ? alias_store_of_room(connection, room_id, error) : NULL;
    if (aliases == NULL)
        return NULL;
    body = g_string_new("{\"aliases\":[");
    for (guint i = 0; i < aliases->len; i++) {
        if (i > 0)
            g_string_append_c(body, ',');
        json_append_string(body, g_ptr_array_index(aliases, i));
    }
    g_string_append(body, "]}");
    return response_json(200, body);
}

/* ---- changing ---- */

typedef struct {
    char *alias; /* or NULL */
    char *room_id;
    char *user_id;
} Naming;

static void
naming_free(gpointer data)
{
    Naming *naming = data;

    g_free(naming->alias);
    g_free(naming->room_id);
    g_free(naming->user_id);
    g_free(naming);
}

static Naming *
naming_new(Request *request, const char *alias, const char *room_id)
{
    Naming *naming = g_new0(Naming, 1);

    naming->alias = g_strdup(alias);
    naming->room_id = g_strdup(room_id);
    naming->user_id = g_strdup(request_user_id(request));
    return naming;
}

static gboolean
name_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Naming *naming = data;
    StoreConnection *connection = lane_batch_connection(batch, error);
    g_autoptr(StoredAlias) taken = NULL;

    /* Somebody may have taken the name since the request was looked at. */
    if (connection == NULL || !alias_store_find(connection, naming->alias, &taken, error))
        return FALSE;
    if (taken != NULL) {
        refusal_set(error, 409, "M_UNKNOWN", "A room has that name already");
        return FALSE;
    }
    alias_store_insert(batch, naming->alias, naming->room_id, naming->user_id, clock_wall_ms());
    return TRUE;
}

static gboolean
unname_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Naming *naming = data;

    alias_store_remove(batch, naming->alias);
    return TRUE;
}

static gboolean
require_joined(Request *request, const char *room_id, GError **error)
{
    g_autofree char *membership = NULL;

    if (!room_membership(request_server(request), room_id, request_user_id(request), &membership,
                         error))
        return FALSE;
    if (g_strcmp0(membership, "join") == 0)
        return TRUE;
    refusal_set(error, 403, "M_FORBIDDEN", "You are not in that room");
    return FALSE;
}

/* May the caller speak for the room's names: the power to set m.room.canonical_alias. */
static gboolean
may_name(Request *request, const char *room_id, gboolean *ret_may, GError **error)
{
    Server *server = request_server(request);
    g_autofree char *membership = NULL;
    g_autoptr(GBytes) root = NULL;
    g_autoptr(Pdu) create = NULL;
    g_autoptr(Pdu) power_levels = NULL;
    PowerLevels levels;

    *ret_may = FALSE;
    if (!room_membership(server, room_id, request_user_id(request), &membership, error))
        return FALSE;
    if (g_strcmp0(membership, "join") != 0)
        return TRUE;
    if (!rooms_current_root(server->rooms, room_id, &root, error) ||
        !rooms_state_find(server->rooms, room_id, root, "m.room.create", "", &create, error) ||
        !rooms_state_find(server->rooms, room_id, root, "m.room.power_levels", "", &power_levels,
                          error))
        return FALSE;
    levels = (PowerLevels){.create = create, .power_levels = power_levels};
    *ret_may = create != NULL &&
               power_at_least(power_of_user(&levels, request_user_id(request)),
                              power_level_to_send(&levels, "m.room.canonical_alias", TRUE));
    return TRUE;
}

Response *
room_alias_put(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *alias = request_path(request, "roomAlias");
    const char *room_id = json_require_string(request_json(request), "room_id", error);
    g_autoptr(StoredAlias) row = NULL;

    if (room_id == NULL || !require_alias(alias, error))
        return NULL;
    if (!is_local_alias(server, alias))
        return response_error(400, "M_INVALID_PARAM", "Aliases made here end in :%s", server->name);
    if (!require_joined(request, room_id, error))
        return NULL;
    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);

        if (connection == NULL || !alias_store_find(connection, alias, &row, error))
            return NULL;
    }
    if (row != NULL)
        return response_error(409, "M_UNKNOWN", "A room has that name already");
    return lane_call(request, name_apply, naming_new(request, alias, room_id), naming_free, error);
}

Response *
room_alias_delete(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *alias = request_path(request, "roomAlias");
    g_autoptr(StoredAlias) row = NULL;
    gboolean may = FALSE;

    if (!require_alias(alias, error))
        return NULL;
    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);

        if (connection == NULL || !alias_store_find(connection, alias, &row, error))
            return NULL;
    }
    if (row == NULL)
        return response_error(404, "M_NOT_FOUND", "There is no room of that name");
    if (!g_str_equal(row->creator, request_user_id(request))) {
        if (!may_name(request, row->room_id, &may, error))
            return NULL;
        if (!may)
            return response_error(403, "M_FORBIDDEN",
                                  "You neither made that alias nor have the power to change the "
                                  "room's names");
    }
    return lane_call(request, unname_apply, naming_new(request, alias, row->room_id), naming_free,
                     error);
}

/* ---- the directory ---- */

static gboolean
publish_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Naming *naming = data;

    alias_store_publish(batch, naming->room_id, clock_wall_ms());
    return TRUE;
}

static gboolean
unpublish_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Naming *naming = data;

    alias_store_unpublish(batch, naming->room_id);
    return TRUE;
}

Response *
room_visibility_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = request_path(request, "roomId");
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    const RoomVersion *version = NULL;
    gboolean published = FALSE;

    if (connection == NULL || !alias_store_is_published(connection, room_id, &published, error))
        return NULL;
    g_clear_pointer(&connection, store_return);
    if (!rooms_version(server->rooms, room_id, &version, error))
        return NULL;
    if (version == NULL)
        return response_error(404, "M_NOT_FOUND", "This server does not know that room");
    return response_json(200, g_string_new(published ? "{\"visibility\":\"public\"}"
                                                     : "{\"visibility\":\"private\"}"));
}

Response *
room_visibility_put(Request *request, GError **error)
{
    const char *room_id = request_path(request, "roomId");
    const char *visibility = json_get_string(request_json(request), "visibility");
    gboolean may = FALSE;
    gboolean publish = visibility == NULL || g_str_equal(visibility, "public");

    if (!publish && !g_str_equal(visibility, "private"))
        return response_error(400, "M_INVALID_PARAM", "visibility must be public or private");
    if (!may_name(request, room_id, &may, error))
        return NULL;
    if (!may)
        return response_error(403, "M_FORBIDDEN",
                              "You have not the power to change the room's names");
    return lane_call(request, publish ? publish_apply : unpublish_apply,
                     naming_new(request, NULL, room_id), naming_free, error);
}
