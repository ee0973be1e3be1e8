/* federation/room/state_resolution_v1.h: the algorithm of room version 1.  For state_resolution.c;
 * state_conflict.h says what the arguments are.  Pure. */
#pragma once

#include "federation/room/state_conflict.h"

gboolean state_resolve_v1(const Pdu *create, guint state_count, const GPtrArray *conflicts,
                          const StateUnconflicted *unconflicted, const StateEventSource *source,
                          GHashTable **ret_resolved, GError **error);
