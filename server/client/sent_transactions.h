/* server/client/sent_transactions.h: which transaction ids a device's sends have used already.
 *
 * The rows that count stand in the database with their events (storage/event_store.h).  This knows,
 * of the devices that send, the hashes of all of them, so that a new id, which nearly every id is,
 * costs no query; an id that may have been used is looked up.  Complete because all sends of a
 * device pass through this process; what it is not sure of it asks the database.
 *
 * For server/client/room_send.c.  Thread-safe. */
#pragma once

#include "storage/store.h"

typedef struct SentTransactions SentTransactions;

SentTransactions *sent_transactions_new(StorePool *pool);
void sent_transactions_free(SentTransactions *sent);

/* *ret_event_id: the event that it made before, or NULL.  FALSE means that the database failed. */
gboolean
sent_transactions_find(SentTransactions *sent, const char *user_id, const char *device_id,
                       const char *scope, const char *txn_id, char **ret_event_id, GError **error);
/* It is committed; before anybody is told. */
void sent_transactions_add(SentTransactions *sent, const char *user_id, const char *device_id,
                           const char *scope, const char *txn_id);
/* Something went wrong with one of the device's: ask the database again. */
void sent_transactions_forget(SentTransactions *sent, const char *user_id, const char *device_id);
