/* server/client/client_events.h: events as a client may read them: the one place where redaction takes
 * effect, and where a device's own transaction ids, ages and what a state event replaced are spliced in.
 *
 * Who may see an event at all is decided before (rooms_visible_to_user).
 * For server/client: sync, messages, context, event. */
#pragma once

#include "federation/rooms.h"
#include "server/server.h"
#include "storage/store.h"

typedef struct {
    const char *room_id;
    const char *user_id;
    const char *device_id;
    gboolean with_room_id;    /* FALSE in /sync, where the room is the key */
    gboolean none_redacted;   /* the caller knows that no redaction of these exists */
    StoreConnection *connection; /* may be NULL when none_redacted and none is sent by user_id */
} ClientEventsView;

/* Append the events (Pdu, borrowed) in client form, separated by commas. */
gboolean client_events_append(Server *server, const ClientEventsView *view, GPtrArray *pdus,
                              GString *out, GError **error);
