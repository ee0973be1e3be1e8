/* federation/room/state_resolution.h: one state out of several (algorithms 1, 2 and 2.1).
 *
 * Pure: events come through callbacks, and the work has a budget.  state_resolve() is the
 * algorithm on the conflicted entries alone; state_resolve_roots() is the whole way from state
 * roots to the resolved root.  Source: Matrix v1.19, rooms/v12.md, "State resolution".
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

/* One key on which the states do not agree. */
typedef struct {
    const char *type;
    const char *state_key;
    const char *const
        *event_ids; /* one a state, in the states' order; NULL where that state has no entry */
} StateConflict;

/* What is not in conflict, asked for only as far as it is needed. */
typedef struct {
    gpointer data;
    /* The event id under this key (g_free), NULL if absent or in conflict. */
    gboolean (*find)(gpointer data, const char *type, const char *state_key, char **ret_event_id,
                     GError **error);
    /* Every entry that is not in conflict. */
    gboolean (*foreach)(gpointer data, StateEntryFunc func, gpointer func_data, GError **error);
} StateUnconflicted;

/* Resolve @state_count states that differ in @conflicts (StateConflict *).  @create is the room's
 * create event. *ret_resolved: a state map (state_key.h) with what the conflicted keys resolve to;
 * a conflicted key that is not in it has no event in the resolved state.  Unconflicted entries are
 * not in it: they stay as they are. */
gboolean state_resolve(const Pdu *create, guint state_count, const GPtrArray *conflicts,
                       const StateUnconflicted *unconflicted, const StateEventSource *source,
                       GHashTable **ret_resolved, GError **error);

/* Resolve the states named by @roots (1 to any number; equal ones are taken once) into *ret_root.
 * New nodes wait in @trie. */
gboolean
state_resolve_roots(const Pdu *create, StateTrie *trie, const StateNodeId *roots, guint root_count,
                    const StateEventSource *source, StateNodeId *ret_root, GError **error);
