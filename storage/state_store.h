/* storage/state_store.h: the nodes of the rooms' state tries, and the current state as a flat
 * table. For federation/ (writers: the rooms engine) and server/. */
#pragma once

#include "storage/event_store.h"
#include "storage/lane.h"
#include "storage/store.h"

/* Nodes are named by their content: one that is there already stays. Each is stored as a form that
 * stands on the node base_ids[i], or, where that is NULL, on nothing. The room's row comes first.
 */
void state_store_insert_nodes(LaneBatch *batch, const char *room_id, GBytes *const *node_ids,
                              GBytes *const *base_ids, GBytes *const *forms, gsize count);
/* In the order of @node_ids: GPtrArray (owned) of GPtrArray of GBytes, a node's own form and those
 * that it stands on, one after another; NULL elements where absent. */
GPtrArray *state_store_find_nodes(StoreConnection *connection, const char *room_id,
                                  GBytes *const *node_ids, gsize count, GError **error);

typedef struct {
    char *type;
    char *state_key;
    char *event_id;
} StateRow;

void state_row_free(StateRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StateRow, state_row_free)

/* Set (type, state_key) -> event id; parallel arrays, each key once. */
void state_store_set(LaneBatch *batch, const char *room_id, const char *const *types,
                     const char *const *state_keys, const char *const *event_ids, gsize count);
void state_store_remove(LaneBatch *batch, const char *room_id, const char *const *types,
                        const char *const *state_keys, gsize count);

/* The current state: all, or of @type, or of @type and @state_key (each may be NULL): GPtrArray of
 * StateRow, owned, by type and key. */
GPtrArray *state_store_rows(StoreConnection *connection, const char *room_id, const char *type,
                            const char *state_key, GError **error);
/* The events of the given keys that are set (parallel arrays): for the few that a summary or an
 * invite shows. */
GPtrArray *
state_store_events_of(StoreConnection *connection, const char *room_id, const char *const *types,
                      const char *const *state_keys, gsize count, GError **error);
