/* federation/room/conflicted_set.h: the events that a state resolution judges again.  For
 * state_resolution_v2.c.  Pure.  Source: Matrix v1.19, rooms/v2.md and rooms/v12.md, "State
 * resolution", definitions. */
#pragma once

#include "federation/room/auth_graph.h"
#include "federation/room/state_conflict.h"

/* Mark as `full` the nodes of the full conflicted set: the conflicted events, the auth difference
 * and, in algorithm 2.1, the conflicted state subgraph.  Arguments as those of state_resolve_v2();
 * @graph is empty before.  FALSE if the budget ends or the database fails. */
gboolean conflicted_set_mark(AuthGraph *graph, guint state_count, const GPtrArray *conflicts,
                             const StateUnconflicted *unconflicted, GError **error);
