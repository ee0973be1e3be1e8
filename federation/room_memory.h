/* federation/room_memory.h: a room as the writer holds it: where the graph ends, what the state is.
 *
 * Lane thread only.  What an open batch has added is here at once, so that further events of the
 * batch stand on it; a batch that is taken back drops the whole room from memory, to be loaded
 * again. For federation/rooms.c, acceptance.c, proposal.c and the files behind
 * submission.h. */
#pragma once

#include "federation/room_event.h"
#include "storage/lane.h"

/* New events name at most so many prev_events, and no more ends are kept. */
#define ROOM_EXTREMITIES_MAX 16

typedef struct RoomMemories RoomMemories;

typedef struct {
    RoomMemories *home; /* NULL until it is added there */
    char *
        *ends; /* ids of the ends of the graph as the open batch will write them; NULL: no batch */
    RoomInfo *info;
    RoomView *view;             /* its connection is set for the length of an operation */
    Pdu *create;                /* NULL only while a room is being made */
    GPtrArray *extremities;     /* RoomEvent: the ends of the graph */
    StateNodeId current;        /* the state that they resolve to */
    GHashTable *state_cache;    /* StateKey -> RoomEvent of the current state; NULL value: absent */
    GHashTable *servers;        /* server name -> users joined (GUINT_TO_POINTER), none with 0 */
    GHashTable *pending_events; /* event id -> RoomEvent, not yet durable */
    GHashTable *pending_nodes;  /* node id in hex -> GBytes, not yet durable */
    GPtrArray *parts;           /* of what pends, one a batch, the oldest first */
    GPtrArray *added_events; /* keys of what the running operation has put into the tables above */
    GPtrArray *added_nodes;
    GPtrArray *changed_events; /* RoomEvent: all that it has put there, new or in place of others */
    gboolean damaged; /* nothing more until no part pends, then load anew: an operation failed
                         half-way, or a batch was taken back */
} RoomMemory;

/* A room without events. */
RoomMemory *room_memory_new(RoomReader *reader, RoomInfo *info);
/* As it stands in the database. */
RoomMemory *
room_memory_load(RoomReader *reader, StoreConnection *connection, RoomInfo *info, GError **error);
void room_memory_free(RoomMemory *memory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RoomMemory, room_memory_free)

/* An entry of the current state; *ret_event NULL when absent. */
gboolean room_memory_state(RoomMemory *memory, const char *type, const char *state_key,
                           RoomEvent **ret_event, GError **error);
/* The current state's Pdus under @keys (owned), absent ones left out. */
GPtrArray *room_memory_state_pdus(RoomMemory *memory, const EventAuthKeys *keys, GError **error);
/* One entry of the current state has changed (@event NULL: it went). */
void room_memory_note_state(RoomMemory *memory, const char *type, const char *state_key,
                            RoomEvent *event);
gint64 room_memory_depth(const RoomMemory *memory); /* of the deepest end; 0 without */
guint room_memory_server_joined(const RoomMemory *memory, const char *server_name);
void room_memory_change_server(RoomMemory *memory, const char *server_name, int change);
/* An operation begins, with the lane's connection to read through. */
void room_memory_begin(RoomMemory *memory, StoreConnection *connection);
/* Stored in the open batch. */
void room_memory_add_event(RoomMemory *memory, RoomEvent *event);
void room_memory_add_node(RoomMemory *memory, const StateNodeId *id, GBytes *body);
/* An operation has succeeded: what it added is @batch's, and what the ends of the graph are now is
 * what @batch writes. TRUE when this is @batch's first part of the room. */
gboolean room_memory_changed(RoomMemory *memory, const LaneBatch *batch);
/* No batch has a part that pends. */
gboolean room_memory_is_settled(const RoomMemory *memory);
/* The oldest part is durable: it moves to the shared caches. */
void room_memory_committed(RoomMemory *memory);
/* The newest part is taken back: nothing more here, until the room is loaded anew. */
void room_memory_taken_back(RoomMemory *memory);

/* An operation of several events that is refused half-way puts its room back as it was. */
typedef struct RoomMemorySaved RoomMemorySaved;
RoomMemorySaved *room_memory_save(const RoomMemory *memory);
void room_memory_restore(RoomMemory *memory, const RoomMemorySaved *saved);
void room_memory_saved_free(RoomMemorySaved *saved);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RoomMemorySaved, room_memory_saved_free)

/* The running operation failed (not: was refused) half-way. */
void room_memory_damage(RoomMemory *memory);

/* ---- the rooms in memory ---- */
RoomMemories *room_memories_new(guint rooms_max);
void room_memories_free(RoomMemories *memories);
RoomMemory *room_memories_find(RoomMemories *memories, const char *room_id); /* or NULL */
/* Takes @memory; another room that nothing pends on may have to leave. */
void room_memories_add(RoomMemories *memories, RoomMemory *memory);
void room_memories_drop(RoomMemories *memories, const char *room_id);
