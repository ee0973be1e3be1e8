/* storage/alias_store.h: aliases of this server, and which rooms its directory shows.  Plain rows.
 * For federation/proposal.c (a room that is made with both) and server/. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

extern const StoreStatement alias_statements[];
extern const guint alias_statement_count;

typedef struct {
    char *alias;
    char *room_id;
    char *creator;
} StoredAlias;

void stored_alias_free(StoredAlias *alias);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoredAlias, stored_alias_free)

/* An alias that is taken makes the operation fail with STORE_ERROR_CONFLICT. */
void alias_store_insert(LaneBatch *batch, const char *alias, const char *room_id,
                        const char *creator, gint64 created_ms);
void alias_store_remove(LaneBatch *batch, const char *alias);
/* An alias that names @from_room_id names @to_room_id; one that names another room by now stays. */
void alias_store_move(LaneBatch *batch, const char *alias, const char *from_room_id,
                      const char *to_room_id);
/* *ret_alias NULL: there is none. */
gboolean alias_store_find(StoreConnection *connection, const char *alias, StoredAlias **ret_alias,
                          GError **error);
/* GPtrArray of char *, owned, in byte order. */
GPtrArray *alias_store_of_room(StoreConnection *connection, const char *room_id, GError **error);

void alias_store_publish(LaneBatch *batch, const char *room_id, gint64 published_ms);
void alias_store_unpublish(LaneBatch *batch, const char *room_id);
gboolean alias_store_is_published(StoreConnection *connection, const char *room_id,
                                  gboolean *ret_is, GError **error);
/* Published rooms, in byte order of their ids, at most @rooms_max: GPtrArray of char *, owned. */
GPtrArray *alias_store_published(StoreConnection *connection, guint rooms_max, GError **error);
