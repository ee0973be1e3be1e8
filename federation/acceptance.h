/* federation/acceptance.h: the one place where an event is stored and a room moves on.
 *
 * Everything was judged before: this writes the event, its state, the ends of the graph, the flat
 * tables, the redaction, the log entry and the delivery into the open batch, and moves the room's
 * memory with it. Lane thread.  For proposal.c, receive.c, past.c and join_answer.c
 * alone. */
#pragma once

#include "federation/rooms_private.h"

typedef struct {
    RoomEvent *event;   /* borrowed; before and after are set unless it is an outlier */
    const char *reason; /* why it was rejected or soft-failed; else NULL */
    gboolean deliver;   /* send it to the other servers in the room */
    gboolean is_new;    /* built in this very operation */
    gboolean
        detached; /* the graph begins anew with it: it becomes the only end (a join from outside) */
} Acceptance;

/* Accepted events become an end of the graph, change the current state and go to the log;
 * soft-failed, rejected and outlying ones are only kept. */
gboolean acceptance_add(Rooms *rooms, RoomMemory *memory, LaneBatch *batch,
                        const Acceptance *acceptance, GError **error);
/* An event from before the room's beginning here: negative position, no effect on the state. */
gboolean acceptance_add_history(Rooms *rooms, RoomMemory *memory, LaneBatch *batch,
                                RoomEvent *event, GError **error);
/* The state after @event if it is accepted, from event->before. */
gboolean acceptance_state_after(RoomMemory *memory, RoomEvent *event, GError **error);
