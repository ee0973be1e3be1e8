/* Reading rooms: state by root, events with their standing, and what partners ask for. */
#include "federation/rooms_private.h"
#include "identity/refusal.h"
#include "identity/unpadded_base64.h"
#include "storage/membership_store.h"

#include <sodium.h>

#define AUTH_CHAIN_EVENTS_MAX 50000

gboolean
rooms_view(Rooms *rooms, const char *room_id, RoomView **ret_view, GError **error)
{
    g_autoptr(RoomInfo) info = NULL;

    *ret_view = NULL;
    if (!room_reader_info(rooms->reader, NULL, room_id, &info, error))
        return FALSE;
    if (info != NULL)
        *ret_view = room_view_new(rooms->reader, NULL, info);
    return TRUE;
}

RoomView *
rooms_require_view(Rooms *rooms, const char *room_id, GError **error)
{
    RoomView *view = NULL;

    if (rooms_view(rooms, room_id, &view, error) && view == NULL)
        refusal_set(error, 404, "M_NOT_FOUND", "This server does not know that room");
    return view;
}

static gboolean
require_root(GBytes *bytes, StateNodeId *ret_root, GError **error)
{
    if (state_node_id_from_bytes(bytes, ret_root))
        return TRUE;
    g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED, "a state root is damaged");
    return FALSE;
}

gboolean
rooms_version(Rooms *rooms, const char *room_id, const RoomVersion **ret_version, GError **error)
{
    g_autoptr(RoomInfo) info = NULL;

    if (!room_reader_info(rooms->reader, NULL, room_id, &info, error))
        return FALSE;
    *ret_version = info != NULL ? info->version : NULL;
    return TRUE;
}

char *
rooms_new_id(Rooms *rooms, char sigil)
{
    guint8 random[15];
    g_autofree char *opaque = NULL;

    randombytes_buf(random, sizeof random);
    opaque = unpadded_base64_encode(random, sizeof random, BASE64_URL_SAFE);
    return g_strdup_printf("%c%s:%s", sigil, opaque, rooms->server_name);
}

gboolean
rooms_invite_version(Rooms *rooms, const char *room_id, const char *user_id,
                     const RoomVersion **ret_version, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(rooms->pool, error);
    g_autoptr(StoredInvite) invite = NULL;

    if (connection == NULL ||
        !membership_store_find_invite(connection, user_id, room_id, &invite, error))
        return FALSE;
    *ret_version = invite != NULL ? room_version_find_supported(invite->room_version) : NULL;
    return TRUE;
}

gboolean
rooms_event(Rooms *rooms, const char *room_id, const char *event_id, RoomEvent **ret_event,
            GError **error)
{
    g_autoptr(RoomView) view = NULL;

    *ret_event = NULL;
    if (!rooms_view(rooms, room_id, &view, error))
        return FALSE;
    return view == NULL || room_view_event(view, event_id, ret_event, error);
}

GPtrArray *
rooms_view_load_events(RoomView *view, GPtrArray *event_ids, GError **error)
{
    g_autoptr(GPtrArray) events = g_ptr_array_new_with_free_func((GDestroyNotify)room_event_unref);
    g_autofree RoomEvent **found = g_new0(RoomEvent *, event_ids->len + 1);

    if (!room_view_events(view, (const char *const *)event_ids->pdata, event_ids->len, found,
                          error))
        return NULL;
    for (guint i = 0; i < event_ids->len; i++)
        if (found[i] != NULL)
            g_ptr_array_add(events, found[i]);
    return g_steal_pointer(&events);
}

GPtrArray *
rooms_events(Rooms *rooms, const char *room_id, GPtrArray *event_ids, GError **error)
{
    g_autoptr(RoomView) view = NULL;

    if (!rooms_view(rooms, room_id, &view, error))
        return NULL;
    if (view == NULL)
        return g_ptr_array_new_with_free_func((GDestroyNotify)room_event_unref);
    return rooms_view_load_events(view, event_ids, error);
}

gboolean
rooms_current_root(Rooms *rooms, const char *room_id, GBytes **ret_root, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(rooms->pool, error);

    return connection != NULL &&
           log_state_root_at(connection, room_id, G_MAXINT64, ret_root, error);
}

gboolean
rooms_require_root(Rooms *rooms, const char *room_id, StateNodeId *ret_root, GError **error)
{
    g_autoptr(GBytes) root = NULL;

    if (!rooms_current_root(rooms, room_id, &root, error))
        return FALSE;
    if (root == NULL) {
        refusal_set(error, 404, "M_NOT_FOUND", "This server does not know that room");
        return FALSE;
    }
    return require_root(root, ret_root, error);
}

/* The event as it may be shown: a redaction takes effect on state too. */
static gboolean
shown_pdu(const RoomEvent *event, Pdu **ret_pdu, GError **error)
{
    *ret_pdu = event->redaction_id != NULL ? pdu_redacted(event->pdu, error) : pdu_ref(event->pdu);
    return *ret_pdu != NULL;
}

gboolean
rooms_state_find(Rooms *rooms, const char *room_id, GBytes *root, const char *type,
                 const char *state_key, Pdu **ret_pdu, GError **error)
{
    g_autoptr(RoomView) view = rooms_require_view(rooms, room_id, error);
    g_autoptr(RoomEvent) event = NULL;
    StateNodeId id;

    if (view == NULL || !require_root(root, &id, error) ||
        !room_view_state_event(view, &id, type, state_key, &event, error))
        return FALSE;
    *ret_pdu = NULL;
    return event == NULL || shown_pdu(event, ret_pdu, error);
}

static gboolean
collect_id(const char *type, const char *state_key, const char *event_id, gpointer data)
{
    g_ptr_array_add(data, g_strdup(event_id));
    return TRUE;
}

GPtrArray *
rooms_view_load_pdus(RoomView *view, GPtrArray *ids, GError **error)
{
    g_autoptr(GPtrArray) pdus = g_ptr_array_new_with_free_func((GDestroyNotify)pdu_unref);
    RoomEvent *events[STATE_LOAD_MAX];

    for (guint from = 0; from < ids->len; from += STATE_LOAD_MAX) {
        guint count = MIN(STATE_LOAD_MAX, ids->len - from);

        if (!room_view_events(view, (const char *const *)ids->pdata + from, count, events, error))
            return NULL;
        gboolean shown = TRUE;

        for (guint i = 0; i < count; i++) {
            Pdu *pdu = NULL;

            if (events[i] == NULL)
                continue;
            shown = shown && shown_pdu(events[i], &pdu, error);
            if (pdu != NULL)
                g_ptr_array_add(pdus, pdu);
            room_event_unref(events[i]);
        }
        if (!shown)
            return NULL;
    }
    return g_steal_pointer(&pdus);
}

static GPtrArray *
state_ids(RoomView *view, const StateNodeId *root, GError **error)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);

    if (!state_trie_foreach(view->trie, root, collect_id, ids, error))
        return NULL;
    return g_steal_pointer(&ids);
}

GPtrArray *
rooms_state_load(Rooms *rooms, const char *room_id, GBytes *root, GError **error)
{
    g_autoptr(RoomView) view = rooms_require_view(rooms, room_id, error);
    g_autoptr(GPtrArray) ids = NULL;
    StateNodeId id;

    if (view == NULL || !require_root(root, &id, error))
        return NULL;
    ids = state_ids(view, &id, error);
    return ids != NULL ? rooms_view_load_pdus(view, ids, error) : NULL;
}

GPtrArray *
rooms_state_changes(Rooms *rooms, const char *room_id, GBytes *from, GBytes *to,
                    RoomsStateWanted wanted, gpointer data, GError **error)
{
    g_autoptr(RoomView) view = rooms_require_view(rooms, room_id, error);
    g_autoptr(GPtrArray) differences = NULL;
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    StateNodeId old_root = state_node_empty;
    StateNodeId new_root;

    if (view == NULL || !require_root(to, &new_root, error) ||
        (from != NULL && !require_root(from, &old_root, error)))
        return NULL;
    differences = state_trie_difference(view->trie, &old_root, &new_root, error);
    if (differences == NULL)
        return NULL;
    for (guint i = 0; i < differences->len; i++) {
        const StateDifference *difference = g_ptr_array_index(differences, i);

        if (difference->new_event_id != NULL &&
            wanted(difference->type, difference->state_key, data))
            g_ptr_array_add(ids, difference->new_event_id);
    }
    return rooms_view_load_pdus(view, ids, error);
}

gboolean
rooms_membership_at(Rooms *rooms, const char *room_id, GBytes *root, const char *user_id,
                    char **ret_membership, GError **error)
{
    g_autoptr(Pdu) pdu = NULL;

    if (!rooms_state_find(rooms, room_id, root, "m.room.member", user_id, &pdu, error))
        return FALSE;
    *ret_membership = pdu != NULL ? g_strdup(pdu_membership(pdu)) : NULL;
    return TRUE;
}

gboolean
rooms_server_in_room(Rooms *rooms, const char *room_id, const char *server_name, gboolean *ret_in,
                     GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(rooms->pool, error);

    return connection != NULL &&
           membership_store_server_joined(connection, room_id, server_name, ret_in, error);
}

/* ---- what partners ask for ---- */

static GPtrArray *
chain_of(Rooms *rooms, RoomView *view, GPtrArray *event_ids, guint events_max, GError **error)
{
    g_autoptr(GPtrArray) ids = NULL;
    gboolean complete = FALSE;

    {
        g_autoptr(StoreConnection) connection = store_borrow(rooms->pool, error);

        if (connection == NULL)
            return NULL;
        ids = event_store_auth_chain(connection, view->info->room_id,
                                     (const char *const *)event_ids->pdata, event_ids->len,
                                     events_max, &complete, error);
    }
    return ids != NULL ? rooms_view_load_pdus(view, ids, error) : NULL;
}

GPtrArray *
rooms_auth_chain(Rooms *rooms, const char *room_id, GPtrArray *event_ids, guint events_max,
                 GError **error)
{
    g_autoptr(RoomView) view = rooms_require_view(rooms, room_id, error);

    return view != NULL ? chain_of(rooms, view, event_ids, events_max, error) : NULL;
}

gboolean
rooms_state_before(Rooms *rooms, const char *room_id, const char *event_id, GPtrArray **ret_state,
                   GPtrArray **ret_auth_chain, GError **error)
{
    g_autoptr(RoomView) view = NULL;
    g_autoptr(RoomEvent) event = NULL;
    g_autoptr(GPtrArray) ids = NULL;
    g_autoptr(GPtrArray) state = NULL;
    g_autoptr(GPtrArray) chain = NULL;

    *ret_state = NULL;
    *ret_auth_chain = NULL;
    if (!rooms_view(rooms, room_id, &view, error))
        return FALSE;
    if (view == NULL)
        return TRUE;
    if (!room_view_event(view, event_id, &event, error))
        return FALSE;
    if (event == NULL || !event->has_state || event->status == STORED_EVENT_REJECTED)
        return TRUE;
    ids = state_ids(view, &event->before, error);
    state = ids != NULL ? rooms_view_load_pdus(view, ids, error) : NULL;
    /* The event itself counts among those whose chain is told: a join's auth events may have left
     * the state. */
    if (state != NULL) {
        g_ptr_array_add(ids, g_strdup(event_id));
        chain = chain_of(rooms, view, ids, AUTH_CHAIN_EVENTS_MAX, error);
    }
    if (chain == NULL)
        return FALSE;
    *ret_state = g_steal_pointer(&state);
    *ret_auth_chain = g_steal_pointer(&chain);
    return TRUE;
}
