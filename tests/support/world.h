/* tests/support/world.h: a room whose servers go their own ways: every event that was ever made in
 * it, and the states that state resolution is asked about.  A state is an array of its events; the
 * arrays that world_fork() returns are the caller's, the events stay the world's. */
#pragma once

#include "federation/room/state_resolution.h"
#include "tests/support/room_events.h"

#define DAN "@dan:four.example"

/* A room, every event that was ever made in it, and tries of its states. */
typedef struct {
    TestRoom *room;
    RoomVersion version;
    GPtrArray *events; /* Pdu * */
    GHashTable *by_id; /* event id -> index + 1 in events */
    GHashTable *rejected;
    GHashTable *unknown; /* what the source says it does not have */
    StateTrie *trie;
    guint loaded;
} World;

/* Alice made a public room; Bob, Carol and Dan are in it; Bob has 100 and Carol 50. */
World *world_new(StateResolutionAlgorithm algorithm);
void world_free(World *world);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

/* An event on the room's present state, not applied. */
const Pdu *world_make(World *world, const char *sender, const char *type, const char *state_key,
                      const char *content);
/* The same, applied. */
const Pdu *world_send(World *world, const char *sender, const char *type, const char *state_key,
                      const char *content);
const Pdu *
world_member(World *world, const char *sender, const char *target, const char *membership);
/* From now on the world knows @pdu, made elsewhere. */
const Pdu *world_keep(World *world, const Pdu *pdu);

/* The present state; and back to it. */
GPtrArray *world_fork(const World *world);
void world_back_to(World *world, const GPtrArray *state);

StateNodeId world_root(World *world, const GPtrArray *state);
gboolean world_resolve_with(World *world, GPtrArray *const *states, guint count, guint events_max,
                            StateNodeId *ret_root, GError **error);
/* With a budget that suffices. */
StateNodeId world_resolve(World *world, GPtrArray *const *states, guint count);
/* In either order, with one result. */
StateNodeId world_resolve_two(World *world, GPtrArray *one, GPtrArray *other);
/* @expected NULL: no such entry. */
void world_check_stands(World *world, const StateNodeId *root, const char *type,
                        const char *state_key, const Pdu *expected);
