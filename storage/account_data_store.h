/* storage/account_data_store.h: account data of local users: global (room_id "") or of a room.
 * For server/client/account_data.c. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

extern const StoreStatement account_data_store_statements[];
extern const guint account_data_store_statement_count;

/* With its log entry (LOG_ACCOUNT_DATA). @room_id "" for global. */
void account_data_store_put(LaneBatch *batch, const char *user_id, const char *room_id,
                            const char *type, GBytes *json);
/* An absent one is success with *ret_json NULL. */
gboolean
account_data_store_find(StoreConnection *connection, const char *user_id, const char *room_id,
                        const char *type, GBytes **ret_json, GError **error);
/* Rows of (type, json) changed after @after up to @until, by type. */
StoreRows *
account_data_store_changed(StoreConnection *connection, const char *user_id, const char *room_id,
                           gint64 after, gint64 until, GError **error);
/* Rows of (room_id): rooms with changes in that time. */
StoreRows *account_data_store_changed_rooms(StoreConnection *connection, const char *user_id,
                                            gint64 after, gint64 until, GError **error);
gboolean account_data_store_count(StoreConnection *connection, const char *user_id,
                                  gint64 *ret_count, GError **error);
