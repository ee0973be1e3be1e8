/* storage/writes.h: the statements of one act, gathered before they run.
 *
 * An act of identity/ (enrolment, suspension, founding) reads, decides, and gathers its statements
 * and its audit line here; the caller then runs them all in one transaction: as an operation of the
 * lane while serving, on a connection of its own in commands.
 *
 * For identity/ and server/.  One thread. */
#pragma once

#include "storage/lane.h"

typedef struct StoreWrites StoreWrites;
StoreWrites *store_writes_new(void);
void store_writes_free(StoreWrites *writes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreWrites, store_writes_free)

/* @arguments is consumed. */
void
store_writes_add(StoreWrites *writes, const StoreStatement *statement, StoreArguments *arguments);
/* Hand all to the batch, in order; @writes is empty afterwards. */
void store_writes_to_batch(StoreWrites *writes, LaneBatch *batch);
/* Run all, in order, inside the caller's open transaction; @writes is empty afterwards. */
gboolean store_writes_run(StoreWrites *writes, StoreConnection *connection, GError **error);
