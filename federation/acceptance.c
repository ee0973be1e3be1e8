#include "federation/acceptance.h"

#include "federation/room/identifier.h"
#include "federation/room/power_levels.h"
#include "identity/seeded_hash.h"
#include "storage/membership_store.h"
#include "storage/relation_store.h"
#include "storage/state_store.h"

#define UNSHOWN_WALK_MAX 1000 /* events looked at on the way back through soft-failed ones */

gboolean
acceptance_state_after(RoomMemory *memory, RoomEvent *event, GError **error)
{
    const Pdu *pdu = event->pdu;
    const StateChange change = {pdu->type, pdu->state_key, pdu->event_id};

    if (!pdu_is_state(pdu)) {
        event->after = event->before;
        return TRUE;
    }
    return state_trie_change(memory->view->trie, &event->before, &change, 1, &event->after, error);
}

/* ---- rows ---- */

static void
store_event(LaneBatch *batch, const RoomEvent *event, const char *reason, gboolean is_new)
{
    const Pdu *pdu = event->pdu;
    g_autoptr(GBytes) before = event->has_state ? state_node_id_bytes(&event->before) : NULL;
    g_autoptr(GBytes) after = event->has_state ? state_node_id_bytes(&event->after) : NULL;

    event_store_insert(batch, &(NewEvent){
                                  .room_id = pdu->room_id,
                                  .event_id = pdu->event_id,
                                  .type = pdu->type,
                                  .state_key = pdu->state_key,
                                  .sender = pdu->sender,
                                  .depth = pdu->depth,
                                  .origin_server_ts = pdu->origin_server_ts,
                                  .status = event->status,
                                  .local = event->local,
                                  .state_before = before,
                                  .state_after = after,
                                  .auth_event_ids = pdu->auth_events,
                                  .prev_event_ids = pdu->prev_events,
                                  .reason = reason,
                                  .json = pdu->bytes,
                                  .device_id = event->device_id,
                                  .txn_id = event->txn_id,
                                  .is_new = is_new,
                              });
}

static void
store_new_nodes(RoomMemory *memory, LaneBatch *batch)
{
    g_autoptr(GPtrArray) nodes = room_view_store_nodes(memory->view, batch);

    for (guint i = 0; i < nodes->len; i++) {
        const StateNode *node = g_ptr_array_index(nodes, i);

        room_memory_add_node(memory, &node->id, node->body);
    }
}

/* ---- the current state, flat ---- */

static gboolean
change_membership(Rooms *rooms, RoomMemory *memory, LaneBatch *batch, const char *user_id,
                  const char *old_membership, const RoomEvent *new_event)
{
    const char *room_id = memory->info->room_id;
    const char *server = identifier_server(user_id);
    const char *membership = new_event != NULL ? pdu_membership(new_event->pdu) : NULL;
    int change = (g_strcmp0(membership, "join") == 0) - (g_strcmp0(old_membership, "join") == 0);
    gboolean local = g_strcmp0(server, rooms->server_name) == 0;

    if (membership != NULL)
        membership_store_set(batch, room_id, user_id, membership, new_event->pdu->event_id,
                             new_event->pdu->sender, local);
    else
        membership_store_remove(batch, room_id, user_id);
    if (local)
        membership_store_remove_invite(batch, user_id, room_id);
    if (server != NULL && change != 0) {
        membership_store_change_server(batch, room_id, server, change);
        room_memory_change_server(memory, server, change);
    }
    return TRUE;
}

static gboolean
old_membership(RoomMemory *memory, const char *old_event_id, char **ret_membership, GError **error)
{
    g_autoptr(RoomEvent) old = NULL;

    *ret_membership = NULL;
    if (old_event_id == NULL)
        return TRUE;
    if (!room_view_event(memory->view, old_event_id, &old, error))
        return FALSE;
    if (old != NULL)
        *ret_membership = g_strdup(pdu_membership(old->pdu));
    return TRUE;
}

static gboolean
change_entry(Rooms *rooms, RoomMemory *memory, LaneBatch *batch, const StateDifference *difference,
             GError **error)
{
    g_autoptr(RoomEvent) event = NULL;
    g_autofree char *membership = NULL;

    if (difference->new_event_id != NULL &&
        !room_view_event(memory->view, difference->new_event_id, &event, error))
        return FALSE;
    room_memory_note_state(memory, difference->type, difference->state_key, event);
    if (!g_str_equal(difference->type, "m.room.member"))
        return TRUE;
    return old_membership(memory, difference->old_event_id, &membership, error) &&
           change_membership(rooms, memory, batch, difference->state_key, membership, event);
}

static void
store_entries(RoomMemory *memory, LaneBatch *batch, const GPtrArray *differences)
{
    g_autoptr(GPtrArray) types = g_ptr_array_new();
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    g_autoptr(GPtrArray) gone_types = g_ptr_array_new();
    g_autoptr(GPtrArray) gone_keys = g_ptr_array_new();

    for (guint i = 0; i < differences->len; i++) {
        const StateDifference *difference = g_ptr_array_index(differences, i);
        gboolean gone = difference->new_event_id == NULL;

        g_ptr_array_add(gone ? gone_types : types, difference->type);
        g_ptr_array_add(gone ? gone_keys : keys, difference->state_key);
        if (!gone)
            g_ptr_array_add(ids, difference->new_event_id);
    }
    if (types->len > 0)
        state_store_set(batch, memory->info->room_id, (const char *const *)types->pdata,
                        (const char *const *)keys->pdata, (const char *const *)ids->pdata,
                        types->len);
    if (gone_types->len > 0)
        state_store_remove(batch, memory->info->room_id, (const char *const *)gone_types->pdata,
                           (const char *const *)gone_keys->pdata, gone_types->len);
}

/* The current state becomes @root. */
static gboolean
move_state(Rooms *rooms, RoomMemory *memory, LaneBatch *batch, const StateNodeId *root,
           GError **error)
{
    g_autoptr(GPtrArray) differences = NULL;

    if (state_node_id_equal(&memory->current, root))
        return TRUE;
    differences = state_trie_difference(memory->view->trie, &memory->current, root, error);
    if (differences == NULL)
        return FALSE;
    store_entries(memory, batch, differences);
    memory->current = *root;
    for (guint i = 0; i < differences->len; i++)
        if (!change_entry(rooms, memory, batch, g_ptr_array_index(differences, i), error))
            return FALSE;
    return TRUE;
}

/* ---- the graph ---- */

static int
compare_depth_falling(gconstpointer a, gconstpointer b)
{
    const RoomEvent *one = *(RoomEvent *const *)a;
    const RoomEvent *two = *(RoomEvent *const *)b;

    return one->pdu->depth < two->pdu->depth ? 1 : one->pdu->depth > two->pdu->depth ? -1 : 0;
}

/* FALSE: it is no end. */
static gboolean
remove_end(RoomMemory *memory, const char *event_id)
{
    for (guint i = 0; i < memory->extremities->len; i++) {
        const RoomEvent *end = g_ptr_array_index(memory->extremities, i);

        if (g_str_equal(end->pdu->event_id, event_id)) {
            g_ptr_array_remove_index_fast(memory->extremities, i);
            return TRUE;
        }
    }
    return FALSE;
}

static void
add_unseen(GPtrArray *ids, GHashTable *seen, const char *const *event_ids)
{
    for (; *event_ids != NULL; event_ids++) {
        char *event_id;

        if (g_hash_table_contains(seen, *event_ids))
            continue;
        event_id = g_strdup(*event_ids);
        g_hash_table_add(seen, event_id);
        g_ptr_array_add(ids, event_id);
    }
}

/* What @pdu goes on from is no end any more: the events that it names, and those behind what it
 * names that is no end here because it was soft-failed or rejected.  An end that stayed behind such
 * an event would be resolved against its own future, to another state than the partners have.
 * Beyond the bound such ends stay until an event of ours joins them. */
static gboolean
remove_ends_before(RoomMemory *memory, const Pdu *pdu, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) ids = g_ptr_array_new();

    add_unseen(ids, seen, pdu->prev_events);
    for (guint i = 0; i < ids->len && i < UNSHOWN_WALK_MAX; i++) {
        g_autoptr(RoomEvent) prev = NULL;

        if (remove_end(memory, g_ptr_array_index(ids, i)))
            continue;
        if (!room_view_event(memory->view, g_ptr_array_index(ids, i), &prev, error))
            return FALSE;
        if (prev != NULL &&
            (prev->status == STORED_EVENT_SOFT_FAILED || prev->status == STORED_EVENT_REJECTED))
            add_unseen(ids, seen, prev->pdu->prev_events);
    }
    return TRUE;
}

/* The batch writes them down at its end (rooms_memory_changed). */
static gboolean
move_extremities(RoomMemory *memory, RoomEvent *event, gboolean detached, GError **error)
{
    if (detached)
        g_ptr_array_set_size(memory->extremities, 0);
    else if (!remove_ends_before(memory, event->pdu, error))
        return FALSE;
    /* The shallowest ends go first: whoever forks the graph without end cannot make us name them
     * all. */
    g_ptr_array_sort(memory->extremities, compare_depth_falling);
    if (memory->extremities->len >= ROOM_EXTREMITIES_MAX)
        g_ptr_array_set_size(memory->extremities, ROOM_EXTREMITIES_MAX - 1);
    g_ptr_array_add(memory->extremities, room_event_ref(event));
    return TRUE;
}

/* The state that the ends of the graph resolve to. */
static gboolean
resolve_current(RoomMemory *memory, StateNodeId *ret_root, GError **error)
{
    StateNodeId roots[ROOM_EXTREMITIES_MAX];

    for (guint i = 0; i < memory->extremities->len; i++)
        roots[i] = ((RoomEvent *)g_ptr_array_index(memory->extremities, i))->after;
    return room_view_resolve(memory->view, roots, memory->extremities->len, ret_root, error);
}

/* ---- redactions ---- */

static gboolean
may_redact(RoomMemory *memory, const RoomEvent *redaction, const Pdu *redacted, gboolean *ret_may,
           GError **error)
{
    g_autoptr(RoomEvent) levels = NULL;
    PowerLevels power = {.create = memory->create};

    if (!room_view_state_event(memory->view, &redaction->before, "m.room.power_levels", "", &levels,
                               error))
        return FALSE;
    power.power_levels = levels != NULL ? levels->pdu : NULL;
    *ret_may = power_may_redact(&power, redaction->pdu, redacted);
    return TRUE;
}

/* An entry of the current state keeps its place, and is known to be redacted. */
static gboolean
note_redacted_state(RoomMemory *memory, RoomEvent *pruned, GError **error)
{
    g_autoptr(RoomEvent) current = NULL;
    const Pdu *pdu = pruned->pdu;

    if (!pdu_is_state(pdu))
        return TRUE;
    if (!room_memory_state(memory, pdu->type, pdu->state_key, &current, error))
        return FALSE;
    if (current != NULL && g_str_equal(current->pdu->event_id, pdu->event_id))
        room_memory_note_state(memory, pdu->type, pdu->state_key, pruned);
    return TRUE;
}

/* rooms/v3, "Handling redactions": carried out only when both events are here and the sender may.
 */
static gboolean
redact(RoomMemory *memory, LaneBatch *batch, const RoomEvent *redaction, GError **error)
{
    const char *redacts = redaction->pdu->redacts;
    g_autoptr(RoomEvent) target = NULL;
    g_autoptr(RoomEvent) pruned = NULL;
    gboolean may = FALSE;

    if (redacts == NULL || !g_str_equal(redaction->pdu->type, "m.room.redaction"))
        return TRUE;
    if (!room_view_event(memory->view, redacts, &target, error))
        return FALSE;
    if (target == NULL || g_str_equal(target->pdu->type, "m.room.create"))
        return TRUE;
    if (!may_redact(memory, redaction, target->pdu, &may, error))
        return FALSE;
    if (!may)
        return TRUE;
    event_store_insert_redaction(batch, memory->info->room_id, redacts, redaction->pdu->event_id);
    if (target->redaction_id != NULL)
        return TRUE;
    pruned = room_event_copy(target);
    pruned->redaction_id = g_strdup(redaction->pdu->event_id);
    room_memory_add_event(memory, pruned);
    return note_redacted_state(memory, pruned, error);
}

/* ---- relations ---- */

static void
store_relation(LaneBatch *batch, const Pdu *pdu)
{
    const cJSON *relation =
        pdu_is_state(pdu) ? NULL : json_get_object(pdu->content, "m.relates_to");
    const char *rel_type = json_get_string(relation, "rel_type");
    const char *parent_id = json_get_string(relation, "event_id");

    if (rel_type != NULL && parent_id != NULL && strlen(rel_type) <= PDU_FIELD_BYTES_MAX &&
        strlen(parent_id) <= PDU_FIELD_BYTES_MAX)
        relation_store_insert(batch, pdu->room_id, parent_id, pdu->event_id, rel_type, pdu->type,
                              pdu->sender);
}

/* ---- telling the others ---- */

static void
deliver(Rooms *rooms, RoomMemory *memory, LaneBatch *batch, const RoomEvent *event)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const Pdu *pdu = event->pdu;
    const char *membership = pdu_membership(pdu);
    const char *target = membership != NULL ? identifier_server(pdu->state_key) : NULL;
    const char *origin = identifier_server(pdu->sender);
    GHashTableIter iter;
    gpointer name;

    g_hash_table_iter_init(&iter, memory->servers);
    while (g_hash_table_iter_next(&iter, &name, NULL))
        if (!g_str_equal(name, rooms->server_name) && g_strcmp0(name, origin) != 0)
            g_ptr_array_add(names, name);
    /* Who is thrown out, or whose invite is taken back, hears of it; an invite went by its own way.
     */
    if (target != NULL && !g_str_equal(membership, "invite") &&
        !g_str_equal(target, rooms->server_name) && g_strcmp0(target, origin) != 0 &&
        !g_hash_table_contains(memory->servers, target))
        g_ptr_array_add(names, (gpointer)target);
    if (names->len == 0)
        return;
    g_ptr_array_add(names, NULL);
    rooms->deliver(batch, memory->info->room_id, pdu->event_id, pdu->bytes,
                   (const char *const *)names->pdata, rooms->deliver_data);
}

static void
write_log(RoomMemory *memory, LaneBatch *batch, const RoomEvent *event, gboolean history)
{
    const Pdu *pdu = event->pdu;
    /* Whose membership it changes: those who wait learn by it that their rooms are others now. */
    const char *member = pdu_membership(pdu) != NULL ? pdu->state_key : NULL;
    LogEntry *entry = log_entry_new(LOG_EVENT, memory->info->room_id, member, pdu->event_id);

    if (!history || event->has_state)
        entry->state_root = state_node_id_bytes(history ? &event->after : &memory->current);
    entry->payload = g_bytes_ref(pdu->bytes);
    if (history)
        lane_batch_log_history(batch, entry);
    else
        lane_batch_log(batch, entry);
}

gboolean
acceptance_add(Rooms *rooms, RoomMemory *memory, LaneBatch *batch, const Acceptance *acceptance,
               GError **error)
{
    RoomEvent *event = acceptance->event;
    StateNodeId root;

    store_event(batch, event, acceptance->reason, acceptance->is_new);
    room_memory_add_event(memory, event);
    if (event->status != STORED_EVENT_ACCEPTED) {
        store_new_nodes(memory, batch);
        return TRUE;
    }
    if (memory->create == NULL)
        memory->create = pdu_ref(event->pdu);
    if (!move_extremities(memory, event, acceptance->detached, error) ||
        !resolve_current(memory, &root, error))
        return FALSE;
    store_new_nodes(memory, batch);
    if (!move_state(rooms, memory, batch, &root, error))
        return FALSE;
    if (!redact(memory, batch, event, error))
        return FALSE;
    if (!event->local)
        event_store_clear_missing(batch, memory->info->room_id, event->pdu->event_id);
    store_relation(batch, event->pdu);
    write_log(memory, batch, event, FALSE);
    if (acceptance->deliver && rooms->deliver != NULL)
        deliver(rooms, memory, batch, event);
    return TRUE;
}

gboolean
acceptance_add_history(Rooms *rooms, RoomMemory *memory, LaneBatch *batch, RoomEvent *event,
                       GError **error)
{
    store_event(batch, event, NULL, FALSE);
    room_memory_add_event(memory, event);
    store_new_nodes(memory, batch);
    event_store_clear_missing(batch, memory->info->room_id, event->pdu->event_id);
    if (event->status == STORED_EVENT_ACCEPTED) {
        if (!redact(memory, batch, event, error))
            return FALSE;
        store_relation(batch, event->pdu);
        write_log(memory, batch, event, TRUE);
    }
    return TRUE;
}
