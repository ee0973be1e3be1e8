/* federation/transaction.h: transactions from partners: events into the rooms, EDUs to whom they
 * concern.
 *
 * Each event has its own fate; one bad one does not fail the others.  Events of one room are taken
 * in one after the other, whoever sends them; what an event stands on and we lack is fetched from
 * its sender (get_missing_events, then the state at the gap).  The answer is stored under (origin,
 * transaction id), so that a repeated transaction gets the same bytes and nothing is applied twice.
 * For server/partner/transaction.c. */
#pragma once

#include "federation/partner_client.h"
#include "federation/rooms.h"

#define TRANSACTION_PDUS_MAX 50
#define TRANSACTION_EDUS_MAX 100

typedef struct Transactions Transactions;

/* All borrowed. */
Transactions *
transactions_new(StorePool *pool, Rooms *rooms, Partners *partners, PartnerClient *client);
void transactions_free(Transactions *transactions);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Transactions, transactions_free)

/* The form of a transaction: a REFUSAL (400) for too many PDUs or EDUs, or no arrays. Check before
 * the EDUs. */
gboolean transactions_check(const char *txn_id, const cJSON *body, GError **error);

/* @answer: the bytes to send with status 200; NULL with @error otherwise. Borrowed. */
typedef void (*TransactionDone)(GBytes *answer, const GError *error, gpointer data);
/* @body: the transaction, checked, borrowed for the call; its PDUs are taken. Calls @done exactly
 * once, from any thread, perhaps before it returns. On a worker: signatures are checked here. */
void transactions_receive(Transactions *transactions, const char *origin, const char *txn_id,
                          const cJSON *body, TransactionDone done, gpointer data);
