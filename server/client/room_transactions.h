/* server/client/room_transactions.h: a client's repetition of a request gets the first one's
 * answer.
 *
 * What was committed stands in the database with its event (storage/event_store.h); this holds what
 * is under way, so that a repetition that overtakes its original waits for it.  For
 * server/client/room_send.c and to_device.c.  Thread-safe. */
#pragma once

#include "server/http/request.h"

typedef struct RoomTransactions RoomTransactions;

RoomTransactions *room_transactions_new(void);
void room_transactions_free(RoomTransactions *transactions); /* no request is parked any more */

/* TRUE: @request is the first and must end the transaction.  FALSE: the same is under way; @request
 * is parked and will be answered with the first one's outcome. */
gboolean room_transactions_begin(RoomTransactions *transactions, const char *key, Request *request);
/* Answers everybody who waited, with the event's id (NULL: an empty object) or the error. */
void room_transactions_end(RoomTransactions *transactions, const char *key, const char *event_id,
                           const GError *error);
