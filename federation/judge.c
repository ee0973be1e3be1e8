#include "federation/judge.h"
#include "federation/submission.h"

GPtrArray *
judge_new_events(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)room_event_unref);
}

gboolean
judge_load_named(RoomMemory *memory, const char *const *ids, guint count, gboolean placed,
                 GPtrArray *events, GPtrArray **ret_missing, GError **error)
{
    g_autofree RoomEvent **found = g_new0(RoomEvent *, count + 1);

    if (!room_view_events(memory->view, ids, count, found, error))
        return FALSE;
    for (guint i = 0; i < count; i++) {
        if (found[i] != NULL && (!placed || room_event_is_placed(found[i]))) {
            g_ptr_array_add(events, found[i]);
            continue;
        }
        room_event_unref(found[i]);
        if (*ret_missing == NULL)
            *ret_missing = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(*ret_missing, g_strdup(ids[i]));
    }
    return TRUE;
}

AuthVerdict
judge_by_auth_events(const RoomMemory *memory, const Pdu *pdu, const GPtrArray *auth,
                     const char **ret_reason)
{
    g_autoptr(GPtrArray) pdus = g_ptr_array_new();
    g_autoptr(GPtrArray) rejected = g_ptr_array_new();

    for (guint i = 0; i < auth->len; i++) {
        const RoomEvent *event = g_ptr_array_index(auth, i);

        g_ptr_array_add(pdus, event->pdu);
        if (event->status == STORED_EVENT_REJECTED)
            g_ptr_array_add(rejected, (gpointer)event->pdu->event_id);
    }
    g_ptr_array_add(rejected, NULL);
    return event_auth_check_own(pdu, memory->create, pdus, (const char *const *)rejected->pdata,
                                ret_reason);
}

gboolean
judge_by_state(RoomMemory *memory, const Pdu *pdu, const StateNodeId *root,
               AuthVerdict *ret_verdict, const char **ret_reason, GError **error)
{
    g_autoptr(GPtrArray) state = NULL;
    EventAuthKeys keys;

    event_auth_keys_of_pdu(pdu, &keys);
    state = state_node_id_equal(root, &memory->current)
                ? room_memory_state_pdus(memory, &keys, error)
                : room_view_state_pdus(memory->view, root, &keys, error);
    if (state == NULL)
        return FALSE;
    *ret_verdict = event_auth_check(pdu, memory->create, state, ret_reason);
    return TRUE;
}

gboolean
judge_is_known(RoomMemory *memory, const char *event_id, Received *received, gboolean *ret_known,
               GError **error)
{
    g_autoptr(RoomEvent) known = NULL;

    if (!room_view_event(memory->view, event_id, &known, error))
        return FALSE;
    *ret_known = known != NULL && known->status != STORED_EVENT_OUTLIER;
    if (*ret_known)
        received_judge(
            received, known->status == STORED_EVENT_REJECTED ? RECEIVED_REJECTED : RECEIVED_KNOWN,
            known->status == STORED_EVENT_REJECTED ? "the event was rejected before" : NULL);
    return TRUE;
}
