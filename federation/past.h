/* federation/past.h: events that come along as the past of another one: the state and auth chain of
 * send_join's answer or of /state, and single auth events.  Each is judged by its own auth events
 * and kept as an outlier.  For federation/receive.c and join_answer.c alone. */
#pragma once

#include "federation/submission.h"

/* Checks @state and @auth_chain (GBytes each) on the calling thread and takes what passes into
 * submission->past, auth events before those that name them. */
void past_take(Submission *submission, GPtrArray *state, GPtrArray *auth_chain);

/* The others on the lane thread. */

/* Store what came along and make the state of what passed: *ret_root, or *ret_offence (g_free)
 * where it is none. */
gboolean past_store(Submission *submission, RoomMemory *memory, LaneBatch *batch,
                    StateNodeId *ret_root, char **ret_offence, GError **error);
/* An auth event that is not stored yet: @received says what became of it. */
gboolean past_receive_outlier(Submission *submission, RoomMemory *memory, LaneBatch *batch,
                              const Pdu *pdu, Received *received, GError **error);
