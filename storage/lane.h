/* storage/lane.h: the writer lane: group commit.
 *
 * One thread a process.  It takes every operation that waits, lets each add its statements to one
 * batch, sends the batch as one libpq pipeline, last of all moves the log's head, commits, and only
 * then tells every operation.  While a commit is under way the next operations add theirs to the
 * next batch, which goes when PostgreSQL has answered: the batch size adapts to the commit time.
 *
 * An operation's apply function runs ON THE LANE THREAD, one at a time: memory that only apply and
 * rollback functions touch (the rooms of federation/rooms.c) needs no lock, and events of one room
 * in one batch chain on each other there.
 *
 * Failure: a batch that fails is rolled back (rollback hooks run, newest first; those of the batch
 * that stands on it before) and its operations are applied again one by one; then those of the
 * next batch are applied anew.  When the connection is lost during COMMIT, the batch's own id in
 * table lane_batch says after reconnecting whether it happened; a warning on COMMIT counts as
 * unknown. While PostgreSQL is away operations answer STORE_ERROR_UNAVAILABLE; those of a batch
 * whose outcome is not known yet are answered when it is known, which is after PostgreSQL is back.
 *
 * One lane a database (until rooms have leases): lane_new takes the log over by raising the head's
 * fence, and an older lane, of this process or another, fails with STORE_ERROR_FENCED from then on.
 *
 * For federation/ and server/ (and identity/ for acts that end sessions).  lane_submit: any thread.
 */
#pragma once

#include "storage/log.h"
#include "storage/log_ring.h"
#include "storage/store.h"

typedef struct Lane Lane;
typedef struct LaneBatch LaneBatch;

/* Add this operation's statements and log entries.  FALSE with @error: the operation is refused,
 * what it added is taken back, and the rest of the batch goes on.  May run again after a rollback.
 * May read through lane_batch_connection() and the two like it. */
typedef gboolean (*LaneApply)(LaneBatch *batch, gpointer data, GError **error);

/* Through lane_batch_connection() rows that another operation of the same batch, or of the one
 * under way, wrote are not seen; when both write the same key with a plain INSERT, the batch is
 * taken back, they run one by one, and the second sees the first.  A unique key that is taken
 * answers STORE_ERROR_CONFLICT.  Who decides by rows that no such key guards reads through
 * lane_batch_settled_connection() or lane_batch_first_connection(). */

/* After the commit is durable (@error NULL; @position: of the operation's last log entry, 0 if it
 * has none) or after it was refused or failed.  On the lane thread: hand over and return at once.
 */
typedef void (*LaneDone)(gpointer data, gint64 position, const GError *error);

/* @ring receives every committed entry, in order, before the done functions run.
 * @operations_max bounds the queue. */
Lane *lane_new(StorePool *pool, LogRing *ring, guint operations_max, GError **error);
/* Finishes what is queued, then ends the thread.  @grace_ms bounds the wait. */
void lane_stop(Lane *lane, guint grace_ms);
void lane_free(Lane *lane);

/* FALSE: the queue is full (STORE_ERROR_BUSY) or the lane stops; done is not called. */
gboolean lane_submit(Lane *lane, LaneApply apply, LaneDone done, gpointer data, GError **error);
/* Submit and wait.  Only for commands, start-up, and threads that may wait; never on an HTTP thread
 * or worker. */
gboolean lane_submit_and_wait(Lane *lane, LaneApply apply, gpointer data, gint64 *ret_position,
                              GError **error);

/* For apply functions.  @arguments and @entry are consumed. */
void lane_batch_add(LaneBatch *batch, const StoreStatement *statement, StoreArguments *arguments);
/* One row of a statement that takes many: all rows that the batch's operations add for @statement
 * travel as one array a column ($1, $2, … as in @row, INSERT … SELECT … FROM unnest), and it runs
 * once, where the first of them was added.  Rows that agree in their first @key_columns columns go
 * to different runs (ON CONFLICT DO UPDATE takes no row twice); 0: they may stand together. */
void lane_batch_add_row(LaneBatch *batch, const StoreStatement *statement, guint key_columns,
                        StoreArguments *row);
/* Called once when every operation of the batch has been applied, to add what is written once a
 * batch.  Taken back with the operation that registered it. */
void
lane_batch_at_end(LaneBatch *batch, void (*hook)(LaneBatch *batch, gpointer data), gpointer data);
void lane_batch_log(LaneBatch *batch, LogEntry *entry);
/* An entry of history fetched later: its position falls below every other, it is not put in the
 * ring and its position is not the operation's.  Add the newest first. */
void lane_batch_log_history(LaneBatch *batch, LogEntry *entry);
/* A statement that needs the position of @entry (borrowed; added before with lane_batch_log): it
 * runs after the log is written, with one more, last argument $n, and finds the position as (SELECT
 * position FROM log_head) - $n. */
void lane_batch_add_with_position(LaneBatch *batch, const StoreStatement *statement,
                                  StoreArguments *arguments, const LogEntry *entry);
/* Called when the batch, or this operation in it, is rolled back. */
void lane_batch_on_rollback(LaneBatch *batch, void (*hook)(gpointer data), gpointer data);
/* Called when the batch is durable, before anybody is told.  The next batch may have been begun. */
void lane_batch_on_commit(LaneBatch *batch, void (*hook)(gpointer data), gpointer data);
/* What is committed: nothing of the open batch, and nothing of the one under way. */
StoreConnection *lane_batch_connection(LaneBatch *batch, GError **error);
/* The same, and every batch before this one is committed.  NULL with STORE_ERROR_CONFLICT while one
 * is under way: the operation is taken back, whatever it answers, and applied again when that one
 * is done.  Those behind it wait with it. */
StoreConnection *lane_batch_settled_connection(LaneBatch *batch, GError **error);
/* The same, and no operation is before this one in its batch: it sees all that was before it. */
StoreConnection *lane_batch_first_connection(LaneBatch *batch, GError **error);
