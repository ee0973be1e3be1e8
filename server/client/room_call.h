/* server/client/room_call.h: what the room handlers share: a proposal handed to the rooms while its request is
 * parked, answers, and the checks of identifiers.  For server/client/room_*.c and profile.c. */
#pragma once

#include "federation/rooms.h"
#include "server/http/request.h"
#include "server/server.h"

/* Makes the answer from what was committed; on the lane thread, so no waiting. */
typedef Response *(*RoomAnswer)(const RoomsOutcome *outcome);

/* Hands @proposal (consumed) to the rooms; the request answers itself when it is durable or refused. */
Response *room_call(Request *request, RoomsProposal *proposal, RoomAnswer answer);

Response *room_answer_event_id(const RoomsOutcome *outcome); /* {"event_id": …} of the first event */
Response *room_answer_empty(const RoomsOutcome *outcome);    /* {} */

/* The path's {roomId} and the caller's membership there ("join", …; NULL when none).  404 M_NOT_FOUND for a room
 * that this server never was in is the caller's choice: then *ret_root is NULL. */
gboolean room_call_membership(Request *request, const char *room_id, GBytes **ret_root,
                              char **ret_membership, GError **error);
/* The same, refusing (403 M_FORBIDDEN) who is not joined. */
gboolean room_call_require_joined(Request *request, const char *room_id, GBytes **ret_root,
                                  GError **error);

/* The content of a member event of local @user_id with the profile's name and picture; @reason may be NULL. */
cJSON *member_content(Server *server, const char *user_id, const char *membership,
                      const char *reason, GError **error);

/* 400 M_INVALID_PARAM unless @user_id is a whole user ID within 255 bytes. */
gboolean require_user_id(const char *user_id, GError **error);
/* The part behind the first colon; NULL when there is none. */
const char *server_of(const char *identifier);
gboolean is_local_user(const Server *server, const char *user_id);
