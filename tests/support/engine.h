/* tests/support/engine.h: the rooms engine (federation/rooms.h) of one server, with a database, a
 * lane and a signing key of its own, and nothing else.  Several in one process know each other's
 * keys; what one has for the others waits in its outbox until a test delivers it.
 *
 * Acts are awaited and fail the test when they fail; what they return is freed by the caller. */
#pragma once

#include "federation/room/pdu_build.h"
#include "federation/rooms.h"
#include "identity/server_key.h"
#include "tests/support/database.h"

typedef struct {
    const char *name;
    TestDatabase *database;
    LogRing *ring;
    Lane *lane;
    ServerKey *key;
    Rooms *rooms;
    PduSigner signer;
    GPtrArray *outbox; /* GBytes: events for other servers */
} Engine;

Engine *engine_new(const char *name, guint8 seed_byte);
void engine_free(Engine *engine);
/* A restart: memory and caches go, the database stays. */
void engine_close(Engine *engine);
void engine_open(Engine *engine);

/* ---- waiting for the lane ---- */

/* What a call back brought.  Hand engine_wait_new() with the matching function to a call of
 * rooms.h, then engine_wait(). */
typedef struct {
    GMutex lock;
    GCond bell;
    gboolean done;
    GError *error;
    char *room_id;
    GPtrArray *event_ids;
    GPtrArray *verdicts; /* GUINT_TO_POINTER(ReceivedVerdict) */
    guint missing_prev;
    guint missing_auth;
    gint64 position;
    Pdu *pdu;
} EngineWait;

EngineWait *engine_wait_new(void);
void engine_wait_free(EngineWait *wait);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EngineWait, engine_wait_free)
void engine_proposed(const RoomsOutcome *outcome, const GError *error, gpointer data);
void engine_built(const Pdu *pdu, const GError *error, gpointer data);
void engine_received(GPtrArray *results, gint64 position, const GError *error, gpointer data);
void engine_wait_ring(EngineWait *wait, gint64 position, const GError *error); /* any other one */
void engine_wait(EngineWait *wait);
ReceivedVerdict engine_verdict(const EngineWait *wait); /* of the first event */

/* ---- what people do ---- */

EngineWait *engine_propose(Engine *engine, RoomsProposal *proposal);
/* The event's id. */
char *engine_send(Engine *engine, const char *room_id, const char *sender, const char *type,
                  const char *state_key, const char *content);
/* The same event is refused with this HTTP status. */
void
engine_assert_refused(Engine *engine, const char *room_id, const char *sender, const char *type,
                      const char *state_key, const char *content, guint status);
/* A room with its first four events, of the default version or of @version; its id. */
char *engine_make_room(Engine *engine, const char *creator, const char *join_rule);
char *engine_make_room_of(Engine *engine, const RoomVersion *version, const char *creator,
                          const char *join_rule);

/* ---- what is there ---- */

char *engine_membership(Engine *engine, const char *room_id, const char *user_id); /* or NULL */
char *engine_state_event_id(Engine *engine, const char *room_id, const char *type,
                            const char *state_key); /* or NULL */
GBytes *engine_event_bytes(Engine *engine, const char *room_id, const char *event_id);
StoredEventStatus
engine_status(Engine *engine, const char *room_id, const char *event_id); /* or 0 */
/* The flat tables say what the trie says. */
void engine_assert_flat_state(Engine *engine, const char *room_id);

/* ---- from server to server ---- */

ReceivedVerdict engine_receive(Engine *engine, const char *room_id, GBytes *event);
/* The same, with what it waits for: of @origin's, in a transaction of its own. */
EngineWait *
engine_receive_from(Engine *engine, const char *origin, const char *room_id, GBytes *event);
/* What @from had for others goes to @to, each event once. */
void engine_deliver_all(Engine *from, Engine *to, const char *room_id);
/* The bytes of @pdus (borrowed), as the wire would carry them. */
GPtrArray *engine_bytes_of(GPtrArray *pdus);
/* A template of another server, made an event of @engine's. */
Pdu *engine_sign_template(Engine *engine, const char *version_id, GBytes *template);
/* make_join, send_join, and the answer taken in, as the wire would carry them. */
void engine_join(Engine *resident, Engine *joiner, const char *room_id, const char *user_id);
