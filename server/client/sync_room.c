/* server/client/sync_room.c: one room's section of a sync answer. */
#include <string.h>

#include "identity/seeded_hash.h"
#include "server/client/client_events.h"
#include "server/client/sync_private.h"
#include "server/client/typing.h"

SyncRoom *
sync_room_new(const char *room_id)
{
    SyncRoom *room = g_new0(SyncRoom, 1);
    room->room_id = room_id;
    room->timeline = g_ptr_array_new_with_free_func((GDestroyNotify)room_event_unref);
    room->state = g_ptr_array_new_with_free_func((GDestroyNotify)pdu_unref);
    room->ephemeral = g_string_new(NULL);
    room->account_data = g_string_new(NULL);
    room->summary = g_string_new(NULL);
    room->heroes = g_ptr_array_new_with_free_func(g_free);
    return room;
}

void
sync_room_free(SyncRoom *room)
{
    if (room == NULL)
        return;
    g_clear_pointer(&room->timeline, g_ptr_array_unref);
    g_clear_pointer(&room->state, g_ptr_array_unref);
    g_clear_pointer(&room->heroes, g_ptr_array_unref);
    g_string_free(room->ephemeral, TRUE);
    g_string_free(room->account_data, TRUE);
    g_string_free(room->summary, TRUE);
    g_free(room);
}

gboolean
sync_room_is_empty(const SyncRoom *room)
{
    return room->timeline->len == 0 && room->state->len == 0 && room->ephemeral->len == 0 &&
           room->account_data->len == 0 && room->summary->len == 0;
}

void
sync_room_add_typing(const SyncCall *call, SyncRoom *room)
{
    if (filter_events_want(call->filter->ephemeral, room->room_id, "m.typing", NULL, NULL))
        typing_append(call->server->typing, room->room_id, room->ephemeral);
}

guint
sync_timeline_limit(const SyncCall *call)
{
    return CLAMP(call->filter->timeline_limit, 1, SYNC_TIMELINE_MAX);
}

void
sync_room_limit_timeline(const SyncCall *call, SyncRoom *room)
{
    guint limit = sync_timeline_limit(call);
    for (guint i = room->timeline->len; i > 0; i--) {
        const RoomEvent *event = g_ptr_array_index(room->timeline, i - 1);
        if (!filter_events_want(call->filter->timeline, room->room_id, event->pdu->type,
                                event->pdu->sender, event->pdu->content))
            g_ptr_array_remove_index(room->timeline, i - 1);
    }
    if (room->timeline->len > limit) {
        g_ptr_array_remove_range(room->timeline, 0, room->timeline->len - limit);
        room->limited = TRUE;
    }
}

static gboolean
has_member(GPtrArray *state, const char *user_id)
{
    for (guint i = 0; i < state->len; i++)
        if (pdu_is(g_ptr_array_index(state, i), "m.room.member", user_id))
            return TRUE;
    return FALSE;
}

/* @user_id's member event under @root, unless the answer has it. */
static gboolean
add_member(const SyncCall *call, SyncRoom *room, GBytes *root, const char *user_id, GError **error)
{
    Pdu *member = NULL;
    if (has_member(room->state, user_id))
        return TRUE;
    if (!rooms_state_find(call->server->rooms, room->room_id, root, "m.room.member", user_id,
                          &member, error))
        return FALSE;
    if (member != NULL)
        g_ptr_array_add(room->state, member);
    return TRUE;
}

gboolean
sync_room_add_senders(const SyncCall *call, SyncRoom *room, GBytes *root, GError **error)
{
    if (!call->filter->lazy_members || root == NULL)
        return TRUE;
    g_autoptr(GHashTable) seen = g_hash_table_new(seeded_str_hash, g_str_equal);
    for (guint i = 0; i < room->timeline->len; i++) {
        const char *sender = ((RoomEvent *)g_ptr_array_index(room->timeline, i))->pdu->sender;
        if (g_hash_table_add(seen, (gpointer)sender) &&
            !add_member(call, room, root, sender, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
member_in_timeline(const SyncRoom *room, const char *user_id)
{
    for (guint i = 0; i < room->timeline->len; i++)
        if (pdu_is(((RoomEvent *)g_ptr_array_index(room->timeline, i))->pdu, "m.room.member",
                   user_id))
            return TRUE;
    return FALSE;
}

gboolean
sync_room_add_heroes(const SyncCall *call, SyncRoom *room, GBytes *root, GError **error)
{
    if (!call->filter->lazy_members || root == NULL)
        return TRUE;
    for (guint i = 0; i < room->heroes->len; i++) {
        const char *hero = g_ptr_array_index(room->heroes, i);
        if ((call->state_after != NULL || !member_in_timeline(room, hero)) &&
            !add_member(call, room, root, hero, error))
            return FALSE;
    }
    return TRUE;
}

static void
append_state(const SyncCall *call, const SyncRoom *room, GString *out)
{
    gboolean first = TRUE;
    g_string_append_printf(out, "\"%s\":{\"events\":[",
                           call->state_after != NULL ? call->state_after : "state");
    for (guint i = 0; i < room->state->len; i++) {
        const Pdu *pdu = g_ptr_array_index(room->state, i);
        if (!filter_events_want(call->filter->state, room->room_id, pdu->type, pdu->sender,
                                pdu->content))
            continue;
        if (!first)
            g_string_append_c(out, ',');
        first = FALSE;
        pdu_client_json(pdu, FALSE, NULL, out);
    }
    g_string_append(out, "]}");
}

gboolean
sync_room_append(const SyncCall *call, const SyncRoom *room, gboolean joined, GString *out,
                 GError **error)
{
    ClientEventsView view = {
        .room_id = room->room_id,
        .user_id = call->user_id,
        .device_id = call->device_id,
        .with_relations =
            joined && room->limited, /* what is new has nothing that relates to it yet */
    };
    g_autofree char *prev_batch = room_token_format(room->before_position);

    json_append_string(out, room->room_id);
    g_string_append_c(out, ':');
    g_string_append_c(out, '{');
    append_state(call, room, out);
    g_string_append(out, ",\"timeline\":{\"events\":[");
    if (!client_events_append(call->server, &view, room->timeline, out, error))
        return FALSE;
    g_string_append_printf(out, "],\"limited\":%s,\"prev_batch\":\"%s\"}",
                           room->limited ? "true" : "false", prev_batch);
    g_string_append_printf(out, ",\"account_data\":{\"events\":[%s]}", room->account_data->str);
    if (joined) {
        g_string_append_printf(out, ",\"ephemeral\":{\"events\":[%s]}", room->ephemeral->str);
        g_string_append_printf(out, ",\"summary\":{%s}", room->summary->str);
        g_string_append_printf(
            out, ",\"unread_notifications\":{\"highlight_count\":%u,\"notification_count\":%u}",
            room->highlights, room->notifications);
    }
    g_string_append_c(out, '}');
    return TRUE;
}
