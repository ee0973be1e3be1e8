#include "server/client/room_outside.h"

#define VIA_MAX 10

static void
add_server(const Server *server, GPtrArray *names, const char *name)
{
    if (names->len < VIA_MAX && name != NULL && identifier_server_name_valid(name) &&
        !g_str_equal(name, server->name) &&
        !g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL))
        g_ptr_array_add(names, g_strdup(name));
}

/* The servers of those who are named in what an invite or a knock showed of the room. */
static void
add_servers_shown(const Server *server, GPtrArray *names, const StoredInvite *invite)
{
    gsize length = 0;
    const char *text = g_bytes_get_data(invite->room_state, &length);
    g_autoptr(cJSON) events = json_parse(text, length, &json_limits_request, NULL);
    const cJSON *event;

    cJSON_ArrayForEach(event, events)
    {
        add_server(server, names, identifier_server(json_get_string(event, "sender")));
    }
}

/* Servers that may know the room: the inviter's, those that the client names, and those of whom an
 * invite or a knock told, and the room's maker's.  Free with g_strfreev. */
static char **
servers_to_ask(Request *request, const char *room_id, const char *const *known_by, GError **error)
{
    Server *server = request_server(request);
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    g_autoptr(StoredInvite) invite = NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    if (connection == NULL || !membership_store_find_invite(connection, request_user_id(request),
                                                            room_id, &invite, error))
        return NULL;
    if (invite != NULL)
        add_server(server, names, identifier_server(invite->sender));
    for (guint list = 0; list < 3; list++) {
        const char *const *via = list == 0   ? request_query_all(request, "via")
                                 : list == 1 ? request_query_all(request, "server_name")
                                             : known_by;

        for (guint i = 0; via != NULL && via[i] != NULL; i++)
            add_server(server, names, via[i]);
    }
    if (invite != NULL)
        add_servers_shown(server, names, invite);
    /* Up to version 11 a room's id names the server that made it, which may still be there. */
    add_server(server, names, identifier_server(room_id));
    g_ptr_array_set_free_func(names, NULL);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

/* More than the membership itself, for the event that a partner's template becomes. */
static cJSON *
content_beside(Request *request, const char *membership, GError **error)
{
    cJSON *content = member_content(request_server(request), request_user_id(request), membership,
                                    body_reason(request_json(request)), error);

    if (content != NULL)
        cJSON_DeleteItemFromObjectCaseSensitive(content, "membership");
    return content;
}

gboolean
room_outside_ask(Request *request, const char *room_id, const char *membership,
                 const char *const *known_by, RoomOutsideAsk ask, OutgoingDone done,
                 gboolean *ret_asked, GError **error)
{
    Server *server = request_server(request);
    g_auto(GStrv) via = servers_to_ask(request, room_id, known_by, error);
    g_autoptr(cJSON) content = NULL;

    if (via == NULL)
        return FALSE;
    *ret_asked = via[0] != NULL && server->outgoing != NULL;
    if (!*ret_asked)
        return TRUE;
    content = content_beside(request, membership, error);
    if (content == NULL)
        return FALSE;
    ask(server->outgoing, room_id, request_user_id(request), content, (const char *const *)via,
        done, request);
    return TRUE;
}
