/* storage/state_store.h: the nodes of the rooms' state tries, and the current state as a flat
 * table. For federation/ (writers: the rooms engine) and server/. */
#pragma once

#include "storage/event_store.h"
#include "storage/lane.h"
#include "storage/store.h"

/* Nodes are named by their content: one that is there already stays. */
void state_store_insert_nodes(LaneBatch *batch, const char *room_id, GBytes *const *node_ids,
                              GBytes *const *bodies, gsize count);
/* An absent node is success with *ret_body NULL. */
gboolean state_store_find_node(StoreConnection *connection, const char *room_id, GBytes *node_id,
                               GBytes **ret_body, GError **error);
/* Bodies in the order of @node_ids, NULL elements where absent: GPtrArray of GBytes, owned. */
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
/* The same as events: GPtrArray of StoredEvent, owned. */
GPtrArray *state_store_events(StoreConnection *connection, const char *room_id, const char *type,
                              const char *state_key, GError **error);
/* The events of the given keys that are set (parallel arrays): for the few that a summary or an
 * invite shows. */
GPtrArray *
state_store_events_of(StoreConnection *connection, const char *room_id, const char *const *types,
                      const char *const *state_keys, gsize count, GError **error);
