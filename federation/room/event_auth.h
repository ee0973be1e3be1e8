/* federation/room/event_auth.h: the authorisation rules, per room version.
 * For federation/ and server/.  Pure: no database, network or clock; the caller hands in every
 * event needed.  Source: Matrix v1.19, rooms/v12.md, "Authorisation rules" (whose numbers the
 * reasons bear for all versions; rule 3.4 is one of versions 1 to 11 alone); server-server API,
 * "Auth events selection". */
#pragma once

#include "federation/room/pdu.h"
#include "federation/room/power_levels.h"
#include "federation/room/state_key.h"

typedef enum {
    AUTH_ALLOW,
    AUTH_REJECT, /* the rules say no: an answer, not a failure */
} AuthVerdict;

/* Judge @pdu by @state (Pdu *, borrowed; any order, events that do not matter are passed over; of
 * two with one key the first counts): the state before it, the current state, or its auth events.
 * @create is the room's create event, asked where none stands in @state (one that does counts:
 * before version 12 a room may be given a second one); it may be NULL when it stands there or is
 * @pdu itself. Rule 3 (the choice of auth events) is not asked here.  On AUTH_REJECT *ret_reason is
 * static text that names the rule; otherwise it is untouched.
 *
 * Rule 5.2 (the signature of join_authorised_via_users_server) is half here: that server must have
 * signed; that the signature is good is found out with the others (pdu_required_signers). */
AuthVerdict event_auth_check(const Pdu *pdu, const Pdu *create, const GPtrArray *state,
                             const char **ret_reason);

/* Judge @pdu by its own auth events: rules 2 and 3, then all of event_auth_check().  @auth_events
 * are the events (Pdu *) that pdu->auth_events names, all of them; @rejected_event_ids
 * (NULL-terminated, may be NULL) are those among them that had been rejected. */
AuthVerdict event_auth_check_own(const Pdu *pdu, const Pdu *create, const GPtrArray *auth_events,
                                 const char *const *rejected_event_ids, const char **ret_reason);

/* The keys of the state that an event needs as auth events: what to look up before
 * event_auth_check(), and, in this order, what to put in "auth_events" (those that exist).  For
 * version 12 the create event is not among them.  Borrows the strings that it was given. */
#define EVENT_AUTH_KEYS_MAX 8
typedef struct {
    StateKey keys[EVENT_AUTH_KEYS_MAX];
    guint count;
} EventAuthKeys;

void event_auth_keys(const RoomVersion *version, const char *type, const char *state_key,
                     const char *sender, const cJSON *content, EventAuthKeys *ret_keys);
void event_auth_keys_of_pdu(const Pdu *pdu, EventAuthKeys *ret_keys);
