/* federation/room/state_resolution_v2.h: the algorithms of room versions 2 to 11 (2) and 12 (2.1).
 * For state_resolution.c; state_conflict.h says what the arguments are.  Pure. */
#pragma once

#include "federation/room/state_conflict.h"

gboolean state_resolve_v2(const Pdu *create, guint state_count, const GPtrArray *conflicts,
                          const StateUnconflicted *unconflicted, const StateEventSource *source,
                          GHashTable **ret_resolved, GError **error);
