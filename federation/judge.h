/* federation/judge.h: the auth rules, asked about an event with what the room's memory holds: by
 * the event's own auth events, and by a state.  Lane thread.  For federation/receive.c, past.c and
 * join_answer.c alone. */
#pragma once

#include "federation/rooms_private.h"

/* An empty array that unrefs its RoomEvents. */
GPtrArray *judge_new_events(void);
/* The events that @ids name go to @events; those that are not here, or (@placed) may not be stood
 * on, to *ret_missing (char *), which is made where there are any. */
gboolean judge_load_named(RoomMemory *memory, const char *const *ids, guint count, gboolean placed,
                          GPtrArray *events, GPtrArray **ret_missing, GError **error);
/* By its own auth events, all of which are in @auth.  *ret_reason is static text. */
AuthVerdict judge_by_auth_events(const RoomMemory *memory, const Pdu *pdu, const GPtrArray *auth,
                                 const char **ret_reason);
/* By the state under @root. */
gboolean judge_by_state(RoomMemory *memory, const Pdu *pdu, const StateNodeId *root,
                        AuthVerdict *ret_verdict, const char **ret_reason, GError **error);
/* TRUE in *ret_known: the event was judged before, @received says how, and nothing is to be done.
 */
gboolean judge_is_known(RoomMemory *memory, const char *event_id, Received *received,
                        gboolean *ret_known, GError **error);
