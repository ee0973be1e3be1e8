/* federation/room/state_conflict.h: what a resolution algorithm is given: the entries on which
 * states differ, and a way to the others.  For state_resolution.c, which makes them, and the
 * algorithms.
 *
 * All algorithms take the same arguments.  They resolve @state_count states that differ in
 * @conflicts (StateConflict *).  @create is the room's create event.  *ret_resolved: a state map
 * (state_key.h) with what the conflicted keys resolve to; a conflicted key that is not in it has no
 * event in the resolved state.  Unconflicted entries are not in it: they stay as they are. */
#pragma once

#include "federation/room/state_resolution.h"

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
