/* federation/room_event.h: an event with what this server knows of it: its place, its standing, the
 * state around it.  Immutable and shared; when the standing changes, a new record takes its place.
 *
 * RoomReader keeps the newest used ones, and the nodes of state, in bounded caches; RoomView is one
 * look into one room, with the writer's uncommitted events and nodes when the writer itself looks.
 *
 * For federation/.  A RoomReader is thread-safe; a RoomView belongs to one thread. */
#pragma once

#include "federation/lru.h"
#include "federation/room/event_auth.h"
#include "federation/room/pdu.h"
#include "federation/room/state_resolution.h"
#include "federation/room/state_trie.h"
#include "storage/event_store.h"
#include "storage/lane.h"

/* ---- one event ---- */
typedef struct {
    gint references;
    Pdu *pdu;
    StoredEventStatus status;
    gboolean local;     /* made by this server */
    gboolean has_state; /* before and after are known; not so for outliers */
    StateNodeId before; /* the room's state before the event, and after it, on its branch */
    StateNodeId after;
    char *redaction_id; /* the redaction that is in force on it, or NULL */
    char *device_id;    /* of the local client that sent it with a transaction id; or NULL */
    char *txn_id;
} RoomEvent;

RoomEvent *room_event_new(const Pdu *pdu, StoredEventStatus status, gboolean local);
/* A copy that may be changed until it is shared. */
RoomEvent *room_event_copy(const RoomEvent *event);
RoomEvent *room_event_ref(RoomEvent *event);
void room_event_unref(RoomEvent *event);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RoomEvent, room_event_unref)
/* Accepted or soft-failed with a place in the graph: later events may stand on it. */
gboolean room_event_is_placed(const RoomEvent *event);

/* ---- one room: what never changes ---- */
typedef struct {
    gint references;
    char *room_id;
    const RoomVersion *version;
    guint8 seed[STATE_SEED_BYTES];
    Pdu *create; /* once known, where the room's id does not name it; see room_view_create() */
} RoomInfo;

RoomInfo *room_info_new(const char *room_id, const RoomVersion *version, const guint8 *seed);
RoomInfo *room_info_ref(RoomInfo *info);
void room_info_unref(RoomInfo *info);
/* The create event of a room that begins here, before its state is stored. */
void room_info_set_create(RoomInfo *info, const Pdu *create);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RoomInfo, room_info_unref)

/* ---- reading ---- */
typedef struct RoomReader RoomReader;

RoomReader *room_reader_new(StorePool *pool, gsize event_bytes_max, gsize node_bytes_max);
void room_reader_free(RoomReader *reader);
/* *ret_info NULL: this server never was in that room. @connection may be NULL: then one is
 * borrowed. */
gboolean room_reader_info(RoomReader *reader, StoreConnection *connection, const char *room_id,
                          RoomInfo **ret_info, GError **error);
/* After a commit. */
void room_reader_remember_event(RoomReader *reader, RoomEvent *event);
void room_reader_remember_node(RoomReader *reader, const char *room_id, const char *id_hex,
                               GBytes *body);

typedef struct RoomView {
    RoomReader *reader;
    RoomInfo *info;
    StoreConnection *connection; /* borrowed; NULL: one is taken from the pool for each query */
    GHashTable *pending_events;  /* event id -> RoomEvent; borrowed, may be NULL */
    GHashTable *pending_nodes;   /* StateNodeId in hex -> GBytes; borrowed, may be NULL */
    StateTrie *trie;
    GHashTable *rejected; /* ids of rejected events seen through this view, for resolution */
} RoomView;

RoomView *room_view_new(RoomReader *reader, StoreConnection *connection, RoomInfo *info);
void room_view_free(RoomView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RoomView, room_view_free)

/* ret_events[i] is a new reference or NULL where the event is not stored. */
gboolean room_view_events(RoomView *view, const char *const *event_ids, guint count,
                          RoomEvent **ret_events, GError **error);
gboolean
room_view_event(RoomView *view, const char *event_id, RoomEvent **ret_event, GError **error);
/* The room's create event. A failure when it is not stored. */
gboolean room_view_create(RoomView *view, Pdu **ret_create, GError **error);
/* The entry of the state under @root; *ret_event NULL when absent. */
gboolean room_view_state_event(RoomView *view, const StateNodeId *root, const char *type,
                               const char *state_key, RoomEvent **ret_event, GError **error);
/* The Pdus (owned) that @keys name in the state under @root, absent ones left out. */
GPtrArray *room_view_state_pdus(RoomView *view, const StateNodeId *root, const EventAuthKeys *keys,
                                GError **error);
/* One state out of several roots; equal ones count once. New nodes stay in view->trie. */
gboolean room_view_resolve(RoomView *view, const StateNodeId *roots, guint count,
                           StateNodeId *ret_root, GError **error);

/* Store what view->trie has made: the nodes (StateNode *, owned), which the caller remembers until
 * @batch is durable. */
GPtrArray *room_view_store_nodes(RoomView *view, LaneBatch *batch);

GBytes *state_node_id_bytes(const StateNodeId *id);
gboolean state_node_id_from_bytes(GBytes *bytes, StateNodeId *ret_id);
char *state_node_id_hex(const StateNodeId *id);
