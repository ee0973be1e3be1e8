/* storage/transaction_store.h: what clients' transaction ids became, so that a repeated request has
 * the first one's answer.  For federation/rooms.c (writes, in the event's own batch) and
 * server/client. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

extern const StoreStatement transaction_statements[];
extern const guint transaction_statement_count;

/* *ret_event_id NULL: not seen. */
gboolean
transaction_store_find(StoreConnection *connection, const char *user_id, const char *device_id,
                       const char *scope, const char *txn_id, char **ret_event_id, GError **error);
void
transaction_store_add(LaneBatch *batch, const char *user_id, const char *device_id,
                      const char *scope, const char *txn_id, const char *event_id, gint64 made_ms);
/* The transaction ids under which this device sent these events: event id -> txn id, for
 * unsigned.transaction_id.  Those that are not there it did not send. */
GHashTable *
transaction_store_of_events(StoreConnection *connection, const char *user_id, const char *device_id,
                            const char *const *event_ids, GError **error);
/* Forget what was made before @before_ms, at most @rows_max rows; returns the number in *ret_count.
 */
gboolean transaction_store_expire(StoreConnection *connection, gint64 before_ms, gint64 rows_max,
                                  guint64 *ret_count, GError **error);
