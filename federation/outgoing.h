/* federation/outgoing.h: what we ask of partners for our users and for the rooms: joins, leaves,
 * invites, missing events, history, profiles.  Each is a chain of steps that holds no thread: it
 * returns at once and calls back exactly once, from any thread (hand over: request_continue,
 * request_answer). Only partners are asked; names that are none are skipped without a connection or
 * a look-up. For server/client (rooms, profile) and federation/transaction.c. */
#pragma once

#include "federation/delivery.h"
#include "federation/partner_client.h"
#include "federation/rooms.h"

typedef struct Outgoing Outgoing;

/* All borrowed. */
Outgoing *outgoing_new(const char *own_name, const ServerKey *key, StorePool *pool, Rooms *rooms,
                       Partners *partners, PartnerClient *client, Delivery *delivery);
void outgoing_free(Outgoing *outgoing);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Outgoing, outgoing_free)

/* @error NULL: it is done. A REFUSAL otherwise: the partner's (its status and errcode), ours (not a
 * partner: 403 M_FORBIDDEN; nobody to ask: 404 M_NOT_FOUND), or 502 M_UNKNOWN when no partner
 * answered. */
typedef void (*OutgoingDone)(const char *room_id, gint64 position, const GError *error,
                             gpointer data);

/* Local @user_id joins @room_id, of which no local user is a member, through one of @via (server
 * names, NULL-terminated). @content: more members of the event's content (displayname, reason …),
 * borrowed, may be NULL. */
void outgoing_join(Outgoing *outgoing, const char *room_id, const char *user_id,
                   const cJSON *content, const char *const *via, OutgoingDone done, gpointer data);
/* Local @user_id leaves (turns an invite down) a room that we are not in. */
void outgoing_leave(Outgoing *outgoing, const char *room_id, const char *user_id,
                    const cJSON *content, const char *const *via, OutgoingDone done, gpointer data);
/* Local @user_id knocks on a room that we are not in. */
void outgoing_knock(Outgoing *outgoing, const char *room_id, const char *user_id,
                    const cJSON *content, const char *const *via, OutgoingDone done, gpointer data);
/* Append, as a JSON array, what somebody who is invited or knocks is shown of our room: whole
 * events, so that their server can check them; with @sender's member event (NULL: without). */
gboolean outgoing_append_room_state(Outgoing *outgoing, const char *room_id, const char *sender,
                                    GString *out, GError **error);
/* Local @sender invites @target_user of another server, whose server co-signs the event first. */
void
outgoing_invite(Outgoing *outgoing, const char *room_id, const char *sender,
                const char *target_user, const cJSON *content, OutgoingDone done, gpointer data);
/* Older events of a room, from the partners in it: kept as history (negative positions). */
void outgoing_backfill(Outgoing *outgoing, const char *room_id, guint events_max, OutgoingDone done,
                       gpointer data);
/* GET /query/profile of a user of another server. @profile: their JSON object, or NULL with @error.
 */
typedef void (*OutgoingProfile)(const cJSON *profile, const GError *error, gpointer data);
void outgoing_profile(Outgoing *outgoing, const char *user_id, const char *field,
                      OutgoingProfile done, gpointer data);
/* Any GET or POST of the federation API that just needs the answer (user/keys/query,
 * user/keys/claim). */
void outgoing_query(Outgoing *outgoing, const char *server_name, const char *method,
                    const char *target, const cJSON *content, OutgoingProfile done, gpointer data);
