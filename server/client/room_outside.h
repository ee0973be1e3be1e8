/* server/client/room_outside.h: rooms that this server is not in: partners are asked to let the
 * caller in, or to tell the room that they leave.  For server/client/room_entry.c and
 * room_membership.c. */
#pragma once

#include "federation/outgoing.h"
#include "server/client/room_call.h"

/* outgoing_join, outgoing_knock or outgoing_leave. */
typedef void (*RoomOutsideAsk)(Outgoing *outgoing, const char *room_id, const char *user_id,
                               const cJSON *content, const char *const *via, OutgoingDone done,
                               gpointer data);

/* Asks the inviter's server, those that the request names (via), @known_by (NULL-terminated, may be
 * NULL), and those of whom an invite or a knock told; then @done with the request, which is parked.
 * *ret_asked FALSE: there is nobody to ask. */
gboolean room_outside_ask(Request *request, const char *room_id, const char *membership,
                          const char *const *known_by, RoomOutsideAsk ask, OutgoingDone done,
                          gboolean *ret_asked, GError **error);
