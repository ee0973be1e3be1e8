/* server/client/room_call.h: what the room handlers share: a proposal handed to the rooms while its
 * request is parked, answers, and who may look into a room.
 * For server/client/room_*.c and profile.c. */
#pragma once

#include "federation/room/identifier.h"
#include "federation/rooms.h"
#include "identity/refusal.h"
#include "server/client/lane_call.h"
#include "server/http/request.h"
#include "server/server.h"
#include "storage/membership_store.h"

/* Makes the answer from what was committed; on the lane thread, so no waiting. */
typedef Response *(*RoomAnswer)(const RoomsOutcome *outcome);

/* Hands @proposal (consumed) to the rooms; the request answers itself when it is durable or
 * refused. */
Response *room_call(Request *request, RoomsProposal *proposal, RoomAnswer answer);

Response *room_answer_event_id(const RoomsOutcome *outcome); /* {"event_id": …} of the first */
Response *room_answer_room_id(const RoomsOutcome *outcome);  /* {"room_id": …} */
Response *room_answer_empty(const RoomsOutcome *outcome);    /* {} */
Response *room_id_response(const char *room_id);

/* What the caller may read of a room. */
typedef struct {
    char *membership; /* now; NULL when there is none */
    GBytes *root;     /* of the state that is theirs: the current one, or that of when they left */
    gint64 until;     /* nothing of the log after this position; G_MAXINT64 when joined */
    gboolean joined;
    const char
        *standing; /* for rooms_visible_to_user: "join" for who is or was joined; else NULL */
} RoomAccess;

void room_access_clear(RoomAccess *access);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RoomAccess, room_access_clear)

/* 403 M_FORBIDDEN for who never was joined, unless the room is world readable. */
gboolean room_access(Request *request, const char *room_id, RoomAccess *ret_access, GError **error);
/* TRUE: the event came before the caller left; otherwise 404 M_NOT_FOUND.  Whether they may see it
 * besides is for rooms_visible_to_user(). */
gboolean room_access_covers(Request *request, const char *room_id, const char *event_id,
                            const RoomAccess *access, GError **error);
/* Where the log has it; 0: nowhere. */
gboolean room_event_position(Server *server, const char *room_id, const char *event_id,
                             gint64 *ret_position, GError **error);
/* Of a user who is not joined now: the event by which they ceased to be, and its position;
 * *ret_leave NULL: they never were. */
gboolean room_find_leave(Server *server, const StoredMembership *membership, RoomEvent **ret_leave,
                         gint64 *ret_position, GError **error);
/* "join", "invite" …, as a copy, of any user now; NULL when there is none. */
gboolean room_membership(Server *server, const char *room_id, const char *user_id,
                         char **ret_membership, GError **error);

/* The content of a member event of local @user_id with the profile's name and picture; @reason may
 * be NULL. */
cJSON *member_content(Server *server, const char *user_id, const char *membership,
                      const char *reason, GError **error);
/* Without them. */
cJSON *plain_member_content(const char *membership, const char *reason);

/* The body's user_id: 400 M_INVALID_PARAM unless it is a whole user ID. */
const char *require_user_id(const cJSON *body, GError **error);
gboolean is_local_user(const Server *server, const char *user_id);
/* The optional "reason" of a body. */
const char *body_reason(const cJSON *body);
