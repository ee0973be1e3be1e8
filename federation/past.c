#include "federation/past.h"
#include "federation/acceptance.h"
#include "federation/judge.h"
#include "identity/seeded_hash.h"

/* ---- what comes along: on the calling thread ---- */

/* Checks the bytes of @inputs and adds what passes to submission->past; what does not is left out,
 * and whatever stands on it falls by the auth rules. */
static void
add_past(Submission *submission, GPtrArray *inputs, gboolean state, GHashTable *seen)
{
    for (guint i = 0; i < inputs->len; i++) {
        g_autofree char *reason = NULL;
        g_autoptr(Pdu) pdu = submission_check(submission, g_ptr_array_index(inputs, i), &reason);
        Pdu *held;

        if (pdu == NULL) {
            g_debug("event in the past of %s left out: %s", submission->room_id, reason);
            continue;
        }
        held = g_hash_table_lookup(seen, pdu->event_id);
        if (held == NULL) {
            held = pdu_ref(pdu);
            g_ptr_array_add(submission->past, held);
            g_hash_table_insert(seen, (char *)held->event_id, held);
        }
        if (state)
            g_hash_table_add(submission->state, (char *)held->event_id);
    }
}

/* Auth events before those that name them (Kahn's order); what stands in a circle is left out. */
static void
sort_past(Submission *submission, GHashTable *seen)
{
    g_autoptr(GHashTable) children = g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL,
                                                           (GDestroyNotify)g_ptr_array_unref);
    g_autoptr(GHashTable) waits = g_hash_table_new(seeded_str_hash, g_str_equal);
    GPtrArray *sorted = g_ptr_array_new_with_free_func((GDestroyNotify)pdu_unref);

    for (guint i = 0; i < submission->past->len; i++) {
        Pdu *pdu = g_ptr_array_index(submission->past, i);
        guint count = 0;

        for (guint j = 0; pdu->auth_events[j] != NULL; j++) {
            GPtrArray *list;

            if (!g_hash_table_contains(seen, pdu->auth_events[j]))
                continue;
            list = g_hash_table_lookup(children, pdu->auth_events[j]);
            if (list == NULL) {
                list = g_ptr_array_new();
                g_hash_table_insert(children, (char *)pdu->auth_events[j], list);
            }
            g_ptr_array_add(list, pdu);
            count++;
        }
        g_hash_table_insert(waits, (char *)pdu->event_id, GUINT_TO_POINTER(count));
        if (count == 0)
            g_ptr_array_add(sorted, pdu_ref(pdu));
    }
    for (guint i = 0; i < sorted->len; i++) {
        const Pdu *pdu = g_ptr_array_index(sorted, i);
        GPtrArray *list = g_hash_table_lookup(children, pdu->event_id);

        for (guint j = 0; list != NULL && j < list->len; j++) {
            Pdu *child = g_ptr_array_index(list, j);
            guint count = GPOINTER_TO_UINT(g_hash_table_lookup(waits, child->event_id)) - 1;

            g_hash_table_insert(waits, (char *)child->event_id, GUINT_TO_POINTER(count));
            if (count == 0)
                g_ptr_array_add(sorted, pdu_ref(child));
        }
    }
    /* submission->state borrows its ids from the same Pdus, which sorted holds too; those of a
     * circle leave it. */
    for (guint i = 0; i < submission->past->len; i++) {
        const Pdu *pdu = g_ptr_array_index(submission->past, i);

        if (GPOINTER_TO_UINT(g_hash_table_lookup(waits, pdu->event_id)) != 0)
            g_hash_table_remove(submission->state, pdu->event_id);
    }
    g_ptr_array_unref(submission->past);
    submission->past = sorted;
}

void
past_take(Submission *submission, GPtrArray *state, GPtrArray *auth_chain)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(seeded_str_hash, g_str_equal);

    if (submission->version == NULL)
        return;
    add_past(submission, state, TRUE, seen);
    add_past(submission, auth_chain, FALSE, seen);
    sort_past(submission, seen);
}

/* ---- outliers: on the lane thread ---- */

gboolean
past_receive_outlier(Submission *submission, RoomMemory *memory, LaneBatch *batch, const Pdu *pdu,
                     Received *received, GError **error)
{
    g_autoptr(GPtrArray) auth = judge_new_events();
    g_autoptr(RoomEvent) event = NULL;
    const char *reason = NULL;

    if (!judge_load_named(memory, pdu->auth_events, pdu->auth_event_count, FALSE, auth,
                          &received->missing_auth, error))
        return FALSE;
    if (received->missing_auth != NULL) {
        received_judge(received, RECEIVED_MISSING, "its auth events are not here");
        return TRUE;
    }
    event = room_event_new(pdu, STORED_EVENT_OUTLIER, submission_is_local(submission, pdu));
    if (judge_by_auth_events(memory, pdu, auth, &reason) != AUTH_ALLOW) {
        event->status = STORED_EVENT_REJECTED;
        received_judge(received, RECEIVED_REJECTED, reason);
    } else {
        received_judge(received, RECEIVED_ACCEPTED, NULL);
        reason = NULL;
    }
    return acceptance_add(submission->rooms, memory, batch,
                          &(Acceptance){.event = event, .reason = reason}, error);
}

/* Which of what came along is stored already: event id (borrowed) -> RoomEvent.  In parts, so that
 * no query is without bounds. */
static GHashTable *
known_past(const Submission *submission, RoomMemory *memory, GError **error)
{
    g_autoptr(GHashTable) known =
        g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, (GDestroyNotify)room_event_unref);
    const char *ids[STATE_LOAD_MAX];
    RoomEvent *events[STATE_LOAD_MAX];

    for (guint from = 0; from < submission->past->len; from += STATE_LOAD_MAX) {
        guint count = MIN(STATE_LOAD_MAX, submission->past->len - from);

        for (guint i = 0; i < count; i++)
            ids[i] = ((Pdu *)g_ptr_array_index(submission->past, from + i))->event_id;
        if (!room_view_events(memory->view, ids, count, events, error))
            return NULL;
        for (guint i = 0; i < count; i++)
            if (events[i] != NULL)
                g_hash_table_insert(known, (gpointer)ids[i], events[i]);
    }
    return g_steal_pointer(&known);
}

/* Stored as an outlier by its own auth events, unless it is @known.  *ret_rejected: it does not
 * count. */
static gboolean
store_past_event(Submission *submission, RoomMemory *memory, LaneBatch *batch, GHashTable *known,
                 const Pdu *pdu, gboolean *ret_rejected, GError **error)
{
    const RoomEvent *held = g_hash_table_lookup(known, pdu->event_id);
    Received received = {0};
    gboolean ok;

    if (held != NULL) {
        *ret_rejected = held->status == STORED_EVENT_REJECTED;
        return TRUE;
    }
    ok = past_receive_outlier(submission, memory, batch, pdu, &received, error);
    *ret_rejected = received.verdict != RECEIVED_ACCEPTED;
    g_clear_pointer(&received.missing_prev, g_ptr_array_unref);
    g_clear_pointer(&received.missing_auth, g_ptr_array_unref);
    g_free(received.reason);
    return ok;
}

gboolean
past_store(Submission *submission, RoomMemory *memory, LaneBatch *batch, StateNodeId *ret_root,
           char **ret_offence, GError **error)
{
    g_autoptr(GArray) changes = g_array_new(FALSE, FALSE, sizeof(StateChange));
    g_autoptr(GHashTable) keys = state_map_new();
    g_autoptr(GHashTable) known = known_past(submission, memory, error);

    if (known == NULL)
        return FALSE;
    for (guint i = 0; i < submission->past->len; i++) {
        const Pdu *pdu = g_ptr_array_index(submission->past, i);
        StateChange change = {pdu->type, pdu->state_key, pdu->event_id};
        gboolean rejected = FALSE;

        if (!store_past_event(submission, memory, batch, known, pdu, &rejected, error))
            return FALSE;
        if (rejected || !g_hash_table_contains(submission->state, pdu->event_id))
            continue;
        if (!pdu_is_state(pdu) || state_map_get(keys, pdu->type, pdu->state_key) != NULL) {
            *ret_offence = g_strdup("the state that came along is none: an entry is there twice");
            return TRUE;
        }
        state_map_set(keys, pdu->type, pdu->state_key, pdu->event_id);
        g_array_append_val(changes, change);
    }
    return state_trie_change(memory->view->trie, &state_node_empty,
                             (const StateChange *)changes->data, changes->len, ret_root, error);
}
