/* federation/room/resolution_order.h: the two orders in which a state resolution judges the events
 * of the full conflicted set.  For state_resolution_v2.c.  Pure.  Source: Matrix v1.19,
 * rooms/v2.md, "State resolution", "Reverse topological power ordering" and "Mainline ordering".
 *
 * Lists are of AuthNode *, borrowed from the graph; the caller frees the list. */
#pragma once

#include "federation/room/auth_graph.h"

/* The power events of the set and what they stand on within it, marked as `sorted`. */
GPtrArray *resolution_order_power_events(AuthGraph *graph);

/* Number the mainline of these power levels; NULL: there is none, and no event has a position on
 * it.  Each step may load an event. */
gboolean
resolution_order_number_mainline(AuthGraph *graph, const char *power_levels_id, GError **error);
/* The rest of the set, by that mainline. */
GPtrArray *resolution_order_leftovers(AuthGraph *graph);
