/* federation/rooms.h: the rooms that this server takes part in: the one way in for every event.
 *
 * Local events are proposed (type, state key, content) and become events on the lane thread, which
 * alone holds the rooms' memory: there prev_events and auth_events are chosen, the auth rules run,
 * the event is hashed, signed and added to the batch.  Events from partners are checked in the
 * specification's order (format, signature, hash, auth by their auth events, auth by the state
 * before them, auth by the current state) and come in by the rooms_receive family.  No other file
 * stores an event.
 *
 * Nothing here waits for a commit: each submission returns at once and calls back.  Callbacks run
 * on the lane thread (or on the calling thread for a refusal before the lane): hand over
 * (request_continue, request_answer) and return.  Exactly one call back for each submission.
 *
 * Reading functions may be called on any thread; what is not in the caches is read from
 * PostgreSQL with a connection borrowed for that query alone.
 *
 * For federation/ (transactions, inbound endpoints) and server/client. */
#pragma once

#include "federation/room/pdu.h"
#include "federation/room_event.h"
#include "identity/json.h"
#include "storage/lane.h"
#include "storage/store.h"

typedef struct ServerKey ServerKey; /* identity/server_key.h */
typedef struct Rooms Rooms;

/* What the floors beside and above hand in; set before serving, never changed after. */

/* A server's signing key @key_id as it was valid at @at_ms (0: at any time), from its pinned
 * partner entry: never a network call.  FALSE: no such key, the signature does not count. */
typedef gboolean (*RoomsFindKey)(const char *server_name, const char *key_id, gint64 at_ms,
                                 guint8 ret_key[32], gpointer data);
/* Called on the lane thread for each local event that other servers must get, after it was added
 * to @batch: adds the delivery rows.  @servers: NULL-terminated, without ours: those in the room
 * before or after the event (so that who leaves, is kicked or is invited hears of it). */
typedef void (*RoomsDeliver)(LaneBatch *batch, const char *room_id, const char *event_id,
                             GBytes *pdu, const char *const *servers, gpointer data);

Rooms *rooms_new(StorePool *pool, Lane *lane, const char *server_name, const ServerKey *key);
void rooms_set_key_finder(Rooms *rooms, RoomsFindKey find_key, gpointer data);
void rooms_set_delivery(Rooms *rooms, RoomsDeliver deliver, gpointer data);
void rooms_free(Rooms *rooms); /* after lane_stop */

/* ---- proposals: events of local users ---- */

typedef struct RoomsProposal RoomsProposal;

/* @room_id NULL makes a room: the first event must be m.room.create.  @sender is a local user. */
RoomsProposal *rooms_proposal_new(const char *room_id, const char *sender);
void rooms_proposal_free(RoomsProposal *proposal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RoomsProposal, rooms_proposal_free)
/* @state_key NULL: not a state event.  @content is consumed.  Several events of one proposal are
 * added in order, all or none. */
void rooms_proposal_add(RoomsProposal *proposal, const char *type, const char *state_key,
                        cJSON *content);
/* Store (user, device, @scope, @txn_id) -> the first event's id in the same batch. */
void rooms_proposal_set_transaction(RoomsProposal *proposal, const char *device_id,
                                    const char *scope, const char *txn_id);
/* A room that is made: its alias of this server (NULL: none), and whether the directory shows it.
 */
void rooms_proposal_set_names(RoomsProposal *proposal, const char *alias, gboolean published);
/* A state event equal to the one in force changes nothing and answers that one's id. */
void rooms_proposal_set_idempotent(RoomsProposal *proposal);

typedef struct {
    const char *room_id;  /* of the new room, if it was made */
    GPtrArray *event_ids; /* char *, in the order of the proposal */
    gint64 position;      /* of the last event in the log */
} RoomsOutcome;

/* @error NULL and @outcome set (borrowed for the call), or @outcome NULL: a REFUSAL (auth rules,
 * or not a room of ours: 403 M_FORBIDDEN; size: 413 M_TOO_LARGE; content: 400 M_BAD_JSON) or a
 * STORE_ERROR. */
typedef void (*RoomsDone)(const RoomsOutcome *outcome, const GError *error, gpointer data);

/* @proposal is consumed. */
void rooms_propose(Rooms *rooms, RoomsProposal *proposal, RoomsDone done, gpointer data);

/* The same, but the event (exactly one) is built, checked and signed and handed back instead of
 * being stored: an invite that its server must co-sign first.  It then comes in by
 * rooms_receive_own(). */
typedef void (*RoomsBuilt)(const Pdu *pdu, const GError *error, gpointer data);
void rooms_build(Rooms *rooms, RoomsProposal *proposal, RoomsBuilt built, gpointer data);

/* ---- events from partners ---- */

typedef enum {
    RECEIVED_ACCEPTED,
    RECEIVED_KNOWN,       /* was here already */
    RECEIVED_SOFT_FAILED, /* kept, not shown, no extremity */
    RECEIVED_REJECTED,    /* kept as rejected (auth rules) */
    RECEIVED_MISSING,     /* not kept: events it stands on are not here; fetch them, then hand it in
                             again */
    RECEIVED_REFUSED,     /* dropped: format, signature, size, unknown room, server ACL */
} ReceivedVerdict;

typedef struct {
    char *event_id; /* NULL when the bytes do not even make an event */
    ReceivedVerdict verdict;
    char *reason;            /* a sentence; NULL when accepted */
    GPtrArray *missing_prev; /* char * event ids; NULL unless RECEIVED_MISSING */
    GPtrArray *missing_auth;
    gint64 depth;
} Received;
void received_free(Received *received);

/* @received: one Received for each input, in order; borrowed.  @error: the whole submission failed
 * (storage). */
typedef void (*RoomsReceived)(GPtrArray *received, gint64 position, const GError *error,
                              gpointer data);

/* Events (GPtrArray of GBytes: JSON from @origin) of one room that we are in, oldest first.
 * Signatures are checked on the calling thread, which may take a while for many: call it from a
 * worker. */
void rooms_receive(Rooms *rooms, const char *room_id, const char *origin, GPtrArray *events,
                   RoomsReceived done, gpointer data);
/* An event whose past cannot be fetched: @state and @auth_chain (from /state of the partner, at
 * that event) stand for the state before it. */
void rooms_receive_at_state(Rooms *rooms, const char *room_id, GBytes *event, GPtrArray *state,
                            GPtrArray *auth_chain, RoomsReceived done, gpointer data);
/* History from before we joined, newest first as /backfill answers it: kept under negative
 * positions. */
void rooms_receive_history(Rooms *rooms, const char *room_id, GPtrArray *events, RoomsReceived done,
                           gpointer data);
/* A membership event that must hold or be refused with 403 (send_join, send_leave, a co-signed
 * invite of ours): nothing is kept unless it is accepted, also by the current state.  Delivered on
 * to the other servers of the room. */
void rooms_receive_own(Rooms *rooms, const char *room_id, GBytes *event, RoomsReceived done,
                       gpointer data);
/* The room as send_join answered it, and our user's join.  Everything is verified, then the room
 * begins here. */
void rooms_accept_join(Rooms *rooms, const char *room_id, GBytes *join, GPtrArray *state,
                       GPtrArray *auth_chain, RoomsReceived done, gpointer data);
/* An invite for our user to a room that we are not in (already co-signed), with its stripped state
 * (JSON array text). */
void rooms_accept_invite(Rooms *rooms, const char *room_id, const RoomVersion *version,
                         GBytes *invite, GBytes *stripped_state, RoomsReceived done, gpointer data);
/* The same for our user's knock, which a server of the room has taken. */
void rooms_accept_knock(Rooms *rooms, const char *room_id, const RoomVersion *version,
                        GBytes *knock, GBytes *stripped_state, RoomsReceived done, gpointer data);
/* Our user's leave from a room that we are not in (an invite turned down, here or by
 * make_leave/send_leave). */
void rooms_accept_leave(Rooms *rooms, const char *room_id, GBytes *leave, RoomsReceived done,
                        gpointer data);

/* Our user puts away an invite whose server cannot be told: the invite ends here alone. */
void rooms_drop_invite(Rooms *rooms, const char *room_id, const char *user_id, RoomsDone done,
                       gpointer data);

/* ---- what inbound endpoints answer ---- */

/* The template of a membership event for @user_id of another server (make_join, make_leave,
 * make_knock): *ret_event as JSON text without hashes and signatures, after the auth rules were
 * tried on it. */
gboolean
rooms_template(Rooms *rooms, const char *room_id, const char *user_id, const char *membership,
               GBytes **ret_event, char **ret_room_version, GError **error);
/* In a room that opens to members of other rooms: the local user by whose power @user_id may join
 * (content.join_authorised_via_users_server), or NULL where nobody is needed (invited already, or
 * another join rule). A REFUSAL: 403 M_FORBIDDEN (in none of those rooms), 400
 * M_UNABLE_TO_AUTHORISE_JOIN (we are in none of them, another server may know), 400
 * M_UNABLE_TO_GRANT_JOIN (nobody here has the power to invite). */
gboolean rooms_authoriser(Rooms *rooms, const char *room_id, const char *user_id,
                          char **ret_authoriser, GError **error);
/* The join of another server's user that names such a user of ours, with our signature, if it still
 * holds. */
Pdu *rooms_cosign_join(Rooms *rooms, const Pdu *join, GError **error);
/* The state before @event_id (its Pdus) and that state's auth chain, for /state, /state_ids and
 * send_join's answer. *ret_state NULL when the event is not here or is an outlier. */
gboolean rooms_state_before(Rooms *rooms, const char *room_id, const char *event_id,
                            GPtrArray **ret_state, GPtrArray **ret_auth_chain, GError **error);
/* The auth chain of @event_ids (without them), at most @events_max. */
GPtrArray *rooms_auth_chain(Rooms *rooms, const char *room_id, GPtrArray *event_ids,
                            guint events_max, GError **error);
/* TRUE in *ret_in when a user of @server_name is joined now. */
gboolean rooms_server_in_room(Rooms *rooms, const char *room_id, const char *server_name,
                              gboolean *ret_in, GError **error);
/* May @server_name see @event: history visibility and its users' memberships at that event. */
gboolean rooms_visible_to_server(Rooms *rooms, const RoomEvent *event, const char *server_name,
                                 gboolean *ret_visible, GError **error);

/* ---- reading ---- */

/* The event with its standing (status, state before and after it, redaction), or *ret_event NULL
 * when it is not here.  Whoever serves it looks at the status: only STORED_EVENT_ACCEPTED ones are
 * shown. */
gboolean rooms_event(Rooms *rooms, const char *room_id, const char *event_id, RoomEvent **ret_event,
                     GError **error);
/* Those of @event_ids (char *) that are here, in that order (GPtrArray of RoomEvent). */
GPtrArray *rooms_events(Rooms *rooms, const char *room_id, GPtrArray *event_ids, GError **error);
/* TRUE and *ret_version NULL when this server never was in that room. */
gboolean
rooms_version(Rooms *rooms, const char *room_id, const RoomVersion **ret_version, GError **error);
/* A new event id ('$') or room id ('!') of this server (g_free), for the versions in which their
 * maker chooses them: 1 and 2, 1 to 11. */
char *rooms_new_id(Rooms *rooms, char sigil);
/* The version of the room that this user of ours is invited to from outside; NULL: no invite. */
gboolean rooms_invite_version(Rooms *rooms, const char *room_id, const char *user_id,
                              const RoomVersion **ret_version, GError **error);

/* The current state's root; *ret_root NULL when we never were in the room. */
gboolean rooms_current_root(Rooms *rooms, const char *room_id, GBytes **ret_root, GError **error);
/* State by a root (LogEntry.state_root, rooms_current_root).  *ret_pdu NULL when that entry is
 * absent. */
gboolean rooms_state_find(Rooms *rooms, const char *room_id, GBytes *root, const char *type,
                          const char *state_key, Pdu **ret_pdu, GError **error);
/* All of it, as Pdus. */
GPtrArray *rooms_state_load(Rooms *rooms, const char *room_id, GBytes *root, GError **error);
/* What @to has that @from (NULL: empty) has not: Pdus of the added and replaced entries, of those
 * that are @wanted (the others are not even read). */
typedef gboolean (*RoomsStateWanted)(const char *type, const char *state_key, gpointer data);
GPtrArray *rooms_state_changes(Rooms *rooms, const char *room_id, GBytes *from, GBytes *to,
                               RoomsStateWanted wanted, gpointer data, GError **error);
/* "join", "invite", "leave", "ban", "knock" of @user_id under @root; NULL when there is no member
 * event. */
gboolean rooms_membership_at(Rooms *rooms, const char *room_id, GBytes *root, const char *user_id,
                             char **ret_membership, GError **error);
/* May local @user_id see @event: client-server API, "Server behaviour" of history visibility, by
 * the state before and after it and @current_membership (of the user now; NULL when none).  Only
 * accepted events ever are. */
gboolean
rooms_visible_to_user(Rooms *rooms, const RoomEvent *event, const char *user_id,
                      const char *current_membership, gboolean *ret_visible, GError **error);
