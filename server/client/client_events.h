/* server/client/client_events.h: events as a client may read them: the one place where redaction
 * takes effect, and where ages, what a state event replaced, and a device's own transaction ids are
 * spliced in.
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
    const char *device_id;       /* whose transaction ids are told; NULL: none are */
    gboolean with_relations;     /* tell threads and edits with their events, for a reader who is
                                    joined: two queries a call */
    gboolean with_room_id;       /* FALSE in /sync, where the room is the key */
    StoreConnection *connection; /* NULL: one is borrowed when it is needed */
} ClientEventsView;

/* Append the events (GPtrArray of RoomEvent, borrowed) in client form, separated by commas. */
gboolean client_events_append(Server *server, const ClientEventsView *view, GPtrArray *events,
                              GString *out, GError **error);
