/* federation/room/state_resolution.h: one state out of several (algorithms 1, 2 and 2.1).
 *
 * Pure: events come through callbacks, and the work has a budget.  The algorithms, which see the
 * conflicted entries alone, are state_resolution_v1.h and state_resolution_v2.h.  Source: Matrix
 * v1.19, rooms/v12.md, "State resolution".
 *
 * Three points where the text leaves a choice are settled as Synapse does, so that servers agree:
 * an auth chain holds the state events themselves, so no unconflicted event is in the auth
 * difference; a power event's chain is followed inside the full conflicted set; and an event that
 * was rejected on its arrival never enters the resolved state. */
#pragma once

#include "federation/room/pdu.h"
#include "federation/room/state_trie.h"

#define STATE_RESOLUTION_ERROR (state_resolution_error_quark())
GQuark state_resolution_error_quark(void);
typedef enum {
    STATE_RESOLUTION_ERROR_BUDGET, /* more events than the budget allows would have to be read */
} StateResolutionError;

typedef struct {
    gpointer data;

    /* Read events by id: ret_pdus[i] is set to a new reference, or NULL where the event is unknown.
     * At most STATE_LOAD_MAX at once.  FALSE with @error if the database failed. */
    gboolean (*load)(gpointer data, const char *const *event_ids, guint count, Pdu **ret_pdus,
                     GError **error);

    /* Was this event, already loaded, rejected on its arrival? NULL: none was. */
    gboolean (*is_rejected)(gpointer data, const char *event_id);

    /* How many events may be loaded in all. */
    guint events_max;
} StateEventSource;

/* Resolve the states named by @roots (1 to any number; equal ones are taken once) into *ret_root.
 * New nodes wait in @trie. */
gboolean
state_resolve_roots(const Pdu *create, StateTrie *trie, const StateNodeId *roots, guint root_count,
                    const StateEventSource *source, StateNodeId *ret_root, GError **error);
