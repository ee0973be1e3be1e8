/* Who may see an event: users and servers, by the history visibility and the memberships at it
 * (client-server API, "Room History Visibility"). */
#include "federation/room/identifier.h"
#include "federation/rooms_private.h"

typedef enum {
    VISIBILITY_WORLD_READABLE,
    VISIBILITY_SHARED,
    VISIBILITY_INVITED,
    VISIBILITY_JOINED,
} Visibility;

static gboolean
visibility_at(RoomView *view, const StateNodeId *root, Visibility *ret_visibility, GError **error)
{
    g_autoptr(RoomEvent) event = NULL;
    const char *text;

    if (!room_view_state_event(view, root, "m.room.history_visibility", "", &event, error))
        return FALSE;
    text = event != NULL ? json_get_string(event->pdu->content, "history_visibility") : NULL;
    if (g_strcmp0(text, "world_readable") == 0)
        *ret_visibility = VISIBILITY_WORLD_READABLE;
    else if (g_strcmp0(text, "invited") == 0)
        *ret_visibility = VISIBILITY_INVITED;
    else if (g_strcmp0(text, "joined") == 0)
        *ret_visibility = VISIBILITY_JOINED;
    else
        *ret_visibility = VISIBILITY_SHARED;
    return TRUE;
}

static gboolean
visible_at(RoomView *view, const StateNodeId *root, const char *user_id,
           const char *current_membership, gboolean *ret_visible, GError **error)
{
    g_autoptr(RoomEvent) member = NULL;
    Visibility visibility;
    const char *membership;

    if (!visibility_at(view, root, &visibility, error) ||
        !room_view_state_event(view, root, "m.room.member", user_id, &member, error))
        return FALSE;
    membership = member != NULL ? pdu_membership(member->pdu) : NULL;
    *ret_visible =
        visibility == VISIBILITY_WORLD_READABLE || g_strcmp0(membership, "join") == 0 ||
        (visibility == VISIBILITY_SHARED && g_strcmp0(current_membership, "join") == 0) ||
        (visibility == VISIBILITY_INVITED && g_strcmp0(membership, "invite") == 0);
    return TRUE;
}

/* Whoever was in the room, or invited to it, may see how that ended. */
static gboolean
sees_own_end(RoomView *view, const RoomEvent *event, const char *user_id, gboolean *ret_visible,
             GError **error)
{
    g_autoptr(RoomEvent) member = NULL;
    const char *was;

    if (!room_view_state_event(view, &event->before, "m.room.member", user_id, &member, error))
        return FALSE;
    was = member != NULL ? pdu_membership(member->pdu) : NULL;
    *ret_visible = g_strcmp0(was, "join") == 0 || g_strcmp0(was, "invite") == 0 ||
                   g_strcmp0(was, "knock") == 0;
    return TRUE;
}

/* History that was fetched came without its state: it is shown only where what holds now shares it,
 * whoever was in the room then. */
static gboolean
history_visible(Rooms *rooms, RoomView *view, const char *current_membership, gboolean *ret_visible,
                GError **error)
{
    StateNodeId root;
    Visibility visibility;

    if (!rooms_require_root(rooms, view->info->room_id, &root, error) ||
        !visibility_at(view, &root, &visibility, error))
        return FALSE;
    *ret_visible = visibility == VISIBILITY_WORLD_READABLE ||
                   (visibility == VISIBILITY_SHARED && g_strcmp0(current_membership, "join") == 0);
    return TRUE;
}

gboolean
rooms_visible_to_user(Rooms *rooms, const RoomEvent *event, const char *user_id,
                      const char *current_membership, gboolean *ret_visible, GError **error)
{
    const Pdu *pdu = event->pdu;
    g_autoptr(RoomView) view = NULL;
    StateNodeId root = event->before;

    *ret_visible = FALSE;
    if (event->status != STORED_EVENT_ACCEPTED)
        return TRUE;
    view = rooms_require_view(rooms, pdu->room_id, error);
    if (view == NULL)
        return FALSE;
    if (!event->has_state)
        return history_visible(rooms, view, current_membership, ret_visible, error);
    if (!visible_at(view, &root, user_id, current_membership, ret_visible, error))
        return FALSE;
    gboolean own = pdu_is(pdu, "m.room.member", user_id);
    if (!*ret_visible && own && !sees_own_end(view, event, user_id, ret_visible, error))
        return FALSE;
    if (!*ret_visible && (own || pdu_is(pdu, "m.room.history_visibility", "")))
        return visible_at(view, &event->after, user_id, current_membership, ret_visible, error);
    return TRUE;
}

typedef struct {
    const char *server_name;
    GPtrArray *event_ids;
} ServerMembers;

static gboolean
collect_member(const char *type, const char *state_key, const char *event_id, gpointer data)
{
    ServerMembers *members = data;

    if (g_str_equal(type, "m.room.member") && identifier_is_of(state_key, members->server_name))
        g_ptr_array_add(members->event_ids, g_strdup(event_id));
    return TRUE;
}

gboolean
rooms_visible_to_server(Rooms *rooms, const RoomEvent *event, const char *server_name,
                        gboolean *ret_visible, GError **error)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) pdus = NULL;
    g_autoptr(RoomView) view = rooms_require_view(rooms, event->pdu->room_id, error);
    ServerMembers members = {server_name, ids};
    StateNodeId root = event->before;
    Visibility visibility;

    *ret_visible = FALSE;
    if (view == NULL ||
        (!event->has_state && !rooms_require_root(rooms, event->pdu->room_id, &root, error)) ||
        !visibility_at(view, &root, &visibility, error))
        return FALSE;
    if (visibility == VISIBILITY_WORLD_READABLE || visibility == VISIBILITY_SHARED) {
        *ret_visible = TRUE;
        return TRUE;
    }
    if (!event->has_state) /* history that was fetched: who was there then is not known */
        return TRUE;
    root = event->after;
    if (!state_trie_foreach(view->trie, &root, collect_member, &members, error))
        return FALSE;
    pdus = rooms_view_load_pdus(view, ids, error);
    if (pdus == NULL)
        return FALSE;
    for (guint i = 0; i < pdus->len && !*ret_visible; i++) {
        const char *membership = pdu_membership(g_ptr_array_index(pdus, i));

        *ret_visible = g_strcmp0(membership, "join") == 0 ||
                       (visibility == VISIBILITY_INVITED && g_strcmp0(membership, "invite") == 0);
    }
    return TRUE;
}
