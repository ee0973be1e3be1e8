/* tests/support/room_events.h: a small room in memory, to make events with.
 * Every server signs with the same key: these tests are not about keys.  Nothing is checked here:
 * events that the rules refuse are what the tests are for. */
#pragma once

#include "federation/room/event_auth.h"
#include "federation/room/pdu_build.h"

#define ALICE "@alice:one.example" /* made the room */
#define BOB "@bob:one.example"
#define CAROL "@carol:two.example"
#define MALLORY "@mallory:three.example"

typedef struct {
    const RoomVersion *version;
    ServerKey *key;
    Pdu *create;
    GPtrArray *state; /* Pdu *: the current state, create event included */
    char *last;       /* event id: the next event's prev_events */
    gint64 clock_ms;
    gint64 depth;
    guint events; /* made so far: versions 1 and 2 choose their ids */
} TestRoom;

/* A room with a create event of @creator whose content has @more_content ("\"a\":1,") in it. */
TestRoom *test_room_new(const char *creator, const char *more_content);
/* The same in another version than 12. */
TestRoom *test_room_new_of(const char *version, const char *creator, const char *more_content);
void test_room_free(TestRoom *room);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestRoom, test_room_free)

/* An event on the current state; @content is JSON with ' for ".  The state stays. */
Pdu *test_room_make(TestRoom *room, const char *sender, const char *type, const char *state_key,
                    const char *content);
/* The same with auth events of one's own choosing (NULL-terminated). */
Pdu *test_room_make_with(TestRoom *room, const char *sender, const char *type,
                         const char *state_key, const char *content, const char *const *prev_events,
                         const char *const *auth_events);
/* Make it part of the room: the state (if it is a state event) and the last event.  Borrows @pdu.
 */
void test_room_apply(TestRoom *room, const Pdu *pdu);
/* Make and apply; the event is borrowed from the room's state, or freed if it is no state event. */
const Pdu *test_room_send(TestRoom *room, const char *sender, const char *type,
                          const char *state_key, const char *content);
/* send: a member event with this membership. */
const Pdu *
test_room_member(TestRoom *room, const char *sender, const char *target, const char *membership);
const Pdu *test_room_state(TestRoom *room, const char *type, const char *state_key);

/* JSON with ' for ", parsed. */
cJSON *test_json(const char *text);
PduSigner test_room_signer(TestRoom *room, const char *user_id);
