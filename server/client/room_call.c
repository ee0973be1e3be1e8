#include "server/client/room_call.h"

#include "storage/profile_store.h"

/* ---- parking while the rooms work ---- */

typedef struct {
    Request *request;
    RoomAnswer answer;
} Call;

static void
call_done(const RoomsOutcome *outcome, const GError *error, gpointer data)
{
    g_autofree Call *call = data;
    g_autoptr(Request) request = call->request;

    request_answer(request, error == NULL ? call->answer(outcome) : NULL, error);
}

Response *
room_call(Request *request, RoomsProposal *proposal, RoomAnswer answer)
{
    Call *call = g_new(Call, 1);

    call->request = request_ref(request);
    call->answer = answer;
    rooms_propose(request_server(request)->rooms, proposal, call_done, call);
    return RESPONSE_LATER;
}

/* ---- answers ---- */

static Response *
one_string(const char *key, const char *value)
{
    GString *body = g_string_new("{");

    json_append_string(body, key);
    g_string_append_c(body, ':');
    json_append_string(body, value);
    g_string_append_c(body, '}');
    return response_json(200, body);
}

Response *
room_answer_event_id(const RoomsOutcome *outcome)
{
    return one_string("event_id", g_ptr_array_index(outcome->event_ids, 0));
}

Response *
room_answer_room_id(const RoomsOutcome *outcome)
{
    return one_string("room_id", outcome->room_id);
}

Response *
room_answer_empty(const RoomsOutcome *outcome)
{
    return response_empty_object();
}

Response *
room_id_response(const char *room_id)
{
    return one_string("room_id", room_id);
}

/* ---- who may look ---- */

void
room_access_clear(RoomAccess *access)
{
    g_clear_pointer(&access->membership, g_free);
    g_clear_pointer(&access->root, g_bytes_unref);
}

gboolean
room_membership(Server *server, const char *room_id, const char *user_id, char **ret_membership,
                GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    g_autoptr(StoredMembership) row = NULL;

    if (connection == NULL || !membership_store_find(connection, room_id, user_id, &row, error))
        return FALSE;
    *ret_membership = row != NULL ? g_strdup(row->membership) : NULL;
    return TRUE;
}

/* Comings and goings that are looked back upon, to find when the reader was last joined. */
#define GOINGS_MAX 50

/* The event by which @user_id ceased to be joined, looking back from the member event @event_id:
 * not always the last one, for a ban may follow a leave.  *ret_leave NULL: was never joined. */
static gboolean
find_leave(Server *server, const char *room_id, const char *user_id, const char *event_id,
           RoomEvent **ret_leave, GError **error)
{
    g_autofree char *at = g_strdup(event_id);

    *ret_leave = NULL;
    for (guint i = 0; i < GOINGS_MAX && at != NULL; i++) {
        g_autoptr(RoomEvent) event = NULL;
        g_autoptr(GBytes) before = NULL;
        g_autoptr(Pdu) member = NULL;

        if (!rooms_event(server->rooms, room_id, at, &event, error))
            return FALSE;
        if (event == NULL || !event->has_state)
            return TRUE;
        before = state_node_id_bytes(&event->before);
        if (!rooms_state_find(server->rooms, room_id, before, "m.room.member", user_id, &member,
                              error))
            return FALSE;
        if (member != NULL && g_strcmp0(pdu_membership(member), "join") == 0) {
            *ret_leave = g_steal_pointer(&event);
            return TRUE;
        }
        g_free(at);
        at = member != NULL ? g_strdup(member->event_id) : NULL;
    }
    return TRUE;
}

gboolean
room_event_position(Server *server, const char *room_id, const char *event_id, gint64 *ret_position,
                    GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    g_autoptr(StoredEvent) stored = NULL;

    if (connection == NULL || !event_store_find(connection, room_id, event_id, &stored, error))
        return FALSE;
    *ret_position = stored != NULL ? stored->position : 0;
    return TRUE;
}

gboolean
room_find_leave(Server *server, const StoredMembership *membership, RoomEvent **ret_leave,
                gint64 *ret_position, GError **error)
{
    g_autoptr(RoomEvent) leave = NULL;

    *ret_leave = NULL;
    if (!find_leave(server, membership->room_id, membership->user_id, membership->event_id, &leave,
                    error) ||
        (leave != NULL && !room_event_position(server, membership->room_id, leave->pdu->event_id,
                                               ret_position, error)))
        return FALSE;
    *ret_leave = g_steal_pointer(&leave);
    return TRUE;
}

/* Whoever left sees the room as it was then. */
static gboolean
access_as_left(Server *server, const StoredMembership *row, RoomAccess *access, GError **error)
{
    g_autoptr(RoomEvent) leave = NULL;
    gint64 position = 0;

    if (row->forgotten)
        return TRUE;
    if (!room_find_leave(server, row, &leave, &position, error))
        return FALSE;
    if (leave == NULL)
        return TRUE;
    access->until = position;
    access->standing = "join";
    g_bytes_unref(access->root);
    access->root = state_node_id_bytes(&leave->after);
    return TRUE;
}

static gboolean
is_world_readable(Server *server, const char *room_id, GBytes *root, gboolean *ret_is,
                  GError **error)
{
    g_autoptr(Pdu) visibility = NULL;

    if (!rooms_state_find(server->rooms, room_id, root, "m.room.history_visibility", "",
                          &visibility, error))
        return FALSE;
    *ret_is =
        visibility != NULL && g_strcmp0(json_get_string(visibility->content, "history_visibility"),
                                        "world_readable") == 0;
    return TRUE;
}

gboolean
room_access(Request *request, const char *room_id, RoomAccess *ret_access, GError **error)
{
    Server *server = request_server(request);
    const char *user_id = request_user_id(request);
    g_auto(RoomAccess) access = {.until = G_MAXINT64};
    g_autoptr(StoredMembership) row = NULL;
    gboolean world_readable = FALSE;

    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);

        if (connection == NULL ||
            !membership_store_find(connection, room_id, user_id, &row, error) ||
            !log_state_root_at(connection, room_id, G_MAXINT64, &access.root, error))
            return FALSE;
    }
    if (access.root == NULL) {
        refusal_set(error, 403, "M_FORBIDDEN", "You are not in that room");
        return FALSE;
    }
    access.membership = row != NULL ? g_strdup(row->membership) : NULL;
    access.joined = g_strcmp0(access.membership, "join") == 0;
    if (access.joined)
        access.standing = "join";
    else if (row != NULL && !access_as_left(server, row, &access, error))
        return FALSE;
    if (access.standing == NULL) {
        if (!is_world_readable(server, room_id, access.root, &world_readable, error))
            return FALSE;
        if (!world_readable) {
            refusal_set(error, 403, "M_FORBIDDEN", "You are not in that room");
            return FALSE;
        }
    }
    *ret_access = access;
    access = (RoomAccess){0};
    return TRUE;
}

gboolean
room_access_covers(Request *request, const char *room_id, const char *event_id,
                   const RoomAccess *access, GError **error)
{
    gint64 position = 0;

    if (access->until == G_MAXINT64)
        return TRUE;
    if (!room_event_position(request_server(request), room_id, event_id, &position, error))
        return FALSE;
    if (position <= access->until)
        return TRUE;
    refusal_set(error, 404, "M_NOT_FOUND", "There is no such event, or it is not for you");
    return FALSE;
}

/* ---- contents ---- */

cJSON *
plain_member_content(const char *membership, const char *reason)
{
    cJSON *content = cJSON_CreateObject();

    cJSON_AddItemToObject(content, "membership", cJSON_CreateString(membership));
    if (reason != NULL)
        cJSON_AddItemToObject(content, "reason", cJSON_CreateString(reason));
    return content;
}

cJSON *
member_content(Server *server, const char *user_id, const char *membership, const char *reason,
               GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    g_autoptr(ProfileRow) profile = NULL;
    cJSON *content;

    if (connection == NULL || !profile_store_find(connection, user_id, &profile, error))
        return NULL;
    content = plain_member_content(membership, reason);
    if (profile != NULL && profile->displayname != NULL)
        cJSON_AddItemToObject(content, "displayname", cJSON_CreateString(profile->displayname));
    if (profile != NULL && profile->avatar_url != NULL)
        cJSON_AddItemToObject(content, "avatar_url", cJSON_CreateString(profile->avatar_url));
    return content;
}

const char *
require_user_id(const cJSON *body, GError **error)
{
    const char *user_id = json_require_string(body, "user_id", error);

    if (user_id != NULL && !identifier_user_id_valid(user_id)) {
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "user_id must be a whole user ID like @name:server");
        return NULL;
    }
    return user_id;
}

gboolean
is_local_user(const Server *server, const char *user_id)
{
    return identifier_is_of(user_id, server->name);
}

const char *
body_reason(const cJSON *body)
{
    return json_get_string(body, "reason");
}
