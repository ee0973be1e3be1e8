/* server/partner/partner_room.h: what the room handlers of the partner listener share: may this
 * partner ask about this room at all, and lists of events as bytes.  For server/partner/. */
#pragma once

#include "federation/rooms.h"
#include "server/http/request.h"
#include "server/server.h"

/* TRUE: this server is in the room, the room's ACL has nothing against the partner, and, with
 * @must_be_in, users of the partner are joined.  Otherwise a REFUSAL: 404 M_NOT_FOUND for a room
 * that is not ours, 403 M_FORBIDDEN. */
gboolean
partner_room_allows(Request *request, const char *room_id, gboolean must_be_in, GError **error);
/* What the room's m.room.server_acl says of @origin alone. */
gboolean partner_room_acl_allows(Server *server, const char *room_id, const char *origin,
                                 gboolean *ret_allows, GError **error);
/* The event, if it is accepted and of that room; 404 M_NOT_FOUND otherwise. */
gboolean partner_room_event(Request *request, const char *room_id, const char *event_id,
                            RoomEvent **ret_event, GError **error);

/* Append @event as the partner may see it: redacted where a redaction is in force or where it may
 * not see it. */
gboolean
partner_room_append(Request *request, GString *out, const RoomEvent *event, GError **error);
/* Append `[…]` of Pdus. */
void partner_room_append_pdus(GString *out, const GPtrArray *pdus);
void partner_room_append_ids(GString *out, const GPtrArray *pdus);
