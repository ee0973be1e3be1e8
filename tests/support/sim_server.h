/* tests/support/sim_server.h: one server of one room, made of federation/room/ alone, with a store
 * in memory.  Clock, network and chance are the caller's; nothing here asks for them.
 *
 * What a restart leaves is `stored`, `nodes` and `extremities`; everything else is forgotten. */
#pragma once

#include "federation/room/event_auth.h"
#include "federation/room/pdu_build.h"
#include "federation/room/state_trie.h"

#define SIM_EXTREMITIES_MAX 20

typedef enum {
    SIM_ACCEPTED,
    SIM_SOFT_FAILED, /* stands where it was sent, not any more now */
    SIM_REJECTED,
} SimStatus;

typedef struct {
    char *event_id;
    GBytes *bytes; /* as received, or redacted where its hash was wrong */
    SimStatus status;
    StateNodeId before;
    StateNodeId after;
} SimStored;

typedef struct {
    const char *name;
    const RoomVersion *version;
    const ServerKey *key; /* borrowed; the one key of all servers */
    /* Durable. */
    GHashTable *stored;     /* event id -> SimStored */
    GPtrArray *order;       /* SimStored *, as they came; borrowed */
    GHashTable *nodes;      /* StateNodeId -> body */
    GPtrArray *extremities; /* event ids, owned */
    char *create_id;
    /* Forgotten by a restart. */
    GHashTable *pdus;   /* event id -> Pdu */
    GPtrArray *waiting; /* Pdu *: what they refer to is missing */
    StateTrie *trie;
    StateNodeId current;
    /* The next commit ends in a restart: the state's nodes are written, the event is not. */
    gboolean dies_in_commit;
    /* Tells that an event was stored, for good or ill. */
    void (*on_stored)(gpointer data, const SimStored *stored);
    gpointer data;
    guint redacted; /* events that came with a wrong hash */
    guint deaths;
    guint walked_back; /* ends that stood behind a soft-failed or rejected event */
} SimServer;

/* @name is borrowed. */
SimServer *sim_server_new(const char *name, const RoomVersion *version, const ServerKey *key);
void sim_server_free(SimServer *server); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SimServer, sim_server_free)

void sim_server_restart(SimServer *server);

/* An event from outside: format, signatures, hash; then it waits for what it refers to, and is
 * judged with all others that can be.  FALSE if it is no event, or not well signed: dropped. */
gboolean sim_server_receive(SimServer *server, const char *bytes, gsize length, GError **error);

/* The event ids (char *, owned) that waiting events refer to and that are not here, each once. */
GPtrArray *sim_server_missing(const SimServer *server);

const SimStored *sim_server_find(const SimServer *server, const char *event_id);
/* The event of the current state under this key; borrowed, NULL if there is none. */
const Pdu *sim_server_state(SimServer *server, const char *type, const char *state_key);
const Pdu *sim_server_pdu(SimServer *server, const char *event_id);

/* An event of this server's on its extremities and its current state; NULL with *ret_reason if the
 * rules refuse it.  It is not yet stored: hand it to sim_server_receive(). @event_id as in
 * PduTemplate. */
Pdu *sim_server_make(SimServer *server, const char *sender, const char *type, const char *state_key,
                     const cJSON *content, const char *redacts, const char *event_id, gint64 now_ms,
                     const char **ret_reason);
/* The same with references of the caller's choosing, asking no rules. */
Pdu *sim_server_forge(SimServer *server, const char *sender, const char *type,
                      const char *state_key, const cJSON *content, const char *redacts,
                      const char *event_id, const char *const *prev_events,
                      const char *const *auth_events, gint64 depth, gint64 now_ms);
