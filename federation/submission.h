/* federation/submission.h: events from outside on their way through the checks: one call of the
 * rooms_receive and rooms_accept family, from its bytes to its answer.
 *
 * The specification's order (server-server API, "Checks performed on receipt of a PDU") is kept
 * between two threads: format, signatures and content hash on the calling one
 * (submission_add_input), the auth rules on the lane thread (the submission's apply).  A submission
 * is freed by its answer.  For federation/receive.c, past.c, join_answer.c, invites.c and judge.c
 * alone. */
#pragma once

#include "federation/rooms_private.h"

typedef struct Submission Submission;
/* On the lane thread; it may run again after a batch was taken back, with the verdicts reset. */
typedef gboolean (*SubmissionApply)(Submission *submission, LaneBatch *batch, GError **error);

struct Submission {
    Rooms *rooms;
    SubmissionApply apply;
    char *room_id;
    char *origin;               /* or NULL */
    const RoomVersion *version; /* NULL: not a room of ours */
    gboolean own;               /* it holds and is delivered on, or is refused and leaves nothing */
    GPtrArray *pdus;            /* Pdu or NULL, beside received */
    GPtrArray *received;        /* Received */
    GPtrArray *
        past; /* Pdu: state and auth chain that came along, in an order that respects auth_events */
    GHashTable *state; /* event ids (borrowed from past) of the state among them */
    GBytes *stripped_state;
    RoomsReceived done;
    gpointer data;
};

Submission *submission_new(Rooms *rooms, SubmissionApply apply, const char *room_id,
                           RoomsReceived done, gpointer data);
/* Calls back and frees @submission: without having gone to the lane, or with @error. */
void submission_answer(Submission *submission, gint64 position, const GError *error);
/* To the lane; it answers after the commit, or with what went wrong. */
void submission_submit(Submission *submission);

/* Format, room, signatures and content hash of one event; one whose hash does not hold comes back
 * redacted.  NULL with *ret_reason (g_free): to be dropped. */
Pdu *submission_check(const Submission *submission, GBytes *bytes, char **ret_reason);
/* Checks @bytes and adds a Pdu (NULL when it is to be dropped) and its Received. */
void submission_add_input(Submission *submission, GBytes *bytes);
gboolean submission_is_local(const Submission *submission, const Pdu *pdu);

void received_judge(Received *received, ReceivedVerdict verdict, const char *reason);
