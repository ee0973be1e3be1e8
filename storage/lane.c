#include "storage/lane.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "storage/lane_private.h"

/* One batch at most; what is more waits for the next. */
#define BATCH_OPERATIONS_MAX 512
#define BATCH_BYTES_MAX (4 * 1024 * 1024)
/* Own ids of past batches are of use only until their answer has come. */
#define BATCH_TRIM_EVERY 256
/* How often an operation is tried again after a deadlock or a lost connection. */
#define OPERATION_TRIES_MAX 4
/* How often a lane that waits for an answer looks whether it must give up. */
#define SLEEP_MAX_MS 200
#define NOT_NULL_VIOLATION "23502"
#define RECONNECT_PAUSE_MIN_MS 20
#define RECONNECT_PAUSE_MAX_MS 500

enum {
    LANE_TAKE,
    LANE_TAKE_AGAIN,
    LANE_BEGIN,
    LANE_COMMIT,
    LANE_WRITE,
    LANE_ASK,
    LANE_TRIM,
    LANE_TRIM_OLD
};

const StoreStatement lane_statements[] = {
    /* The lock on the head makes a predecessor's batch either durable before this, or impossible
       after. */
    [LANE_TAKE] = {"lane_take", "UPDATE log_head SET fence = fence + 1, holder = $1"
                                " RETURNING epoch, position, fence"},
    [LANE_TAKE_AGAIN] = {"lane_take_again",
                         "UPDATE log_head SET fence = fence + 1 WHERE holder = $1"
                         " RETURNING epoch, position, fence"},
    [LANE_BEGIN] = {"lane_begin", "BEGIN"},
    [LANE_COMMIT] = {"lane_commit", "COMMIT"},
    /* Lock and move the head, give out the positions, write the entries and the batch's own id: one
     * statement, so that the head is locked for one statement and the commit.  No head (another
     * fence, another epoch) makes the position NULL, which the table refuses: nothing of the batch
     * happens. */
    [LANE_WRITE] =
        {"lane_write",
         "WITH head AS ("
         " UPDATE log_head SET position = position + $3, history = history - $4"
         " WHERE fence = $1 AND epoch = $5 RETURNING position, history),"
         " written AS ("
         " INSERT INTO log (position, kind, room_id, user_id, ref, state_root, committed_ms)"
         " SELECT CASE WHEN n <= $3 THEN head.position - $3 + n ELSE head.history + $4 - (n - $3) "
         "END,"
         "  kind, room_id, user_id, ref, state_root, $6"
         " FROM head, (SELECT generate_series(1, $3 + $4), unnest($7::bigint[]),"
         "  unnest($8::text[]), unnest($9::text[]), unnest($10::text[]), unnest($11::bytea[]))"
         "  AS entry (n, kind, room_id, user_id, ref, state_root))"
         " INSERT INTO lane_batch (fence, number, position, history)"
         " VALUES ($1, $2, (SELECT position FROM head), (SELECT history FROM head))"
         " RETURNING position, history"},
    [LANE_ASK] = {"lane_ask",
                  "SELECT position, history FROM lane_batch WHERE fence = $1 AND number = $2"},
    [LANE_TRIM] = {"lane_trim", "DELETE FROM lane_batch WHERE fence = $1 AND number < $2"},
    /* A predecessor may still have to ask; a hundred take-overs later nobody does. */
    [LANE_TRIM_OLD] = {"lane_trim_old", "DELETE FROM lane_batch WHERE fence < $1 - 100"},
};
const guint lane_statement_count = G_N_ELEMENTS(lane_statements);

typedef enum {
    OUTCOME_COMMITTED,
    OUTCOME_ROLLED_BACK, /* surely */
    OUTCOME_UNKNOWN,
} Outcome;

/* --- the connection and the head --- */

static gboolean
lane_gives_up(Lane *lane)
{
    gint64 at_us = __atomic_load_n(&lane->give_up_at_us, __ATOMIC_RELAXED);
    return at_us != 0 && g_get_monotonic_time() >= at_us;
}

/* A new session that holds the log: the first time by name, later only if it is still ours.  When
 * this commits without a warning everything that the log held before is durable too, on the standby
 * as well. */
static gboolean
lane_take(Lane *lane, gboolean first, GError **error)
{
    const StoreStatement *statement = &lane_statements[first ? LANE_TAKE : LANE_TAKE_AGAIN];
    StoreConnection *connection = store_connection_open(lane->pool, error);
    g_autoptr(StoreRows) rows = NULL;
    LogHead before = lane->head;

    if (connection == NULL)
        return FALSE;
    connection->cut_at_us = &lane->give_up_at_us;
    /* Statements over arrays of a few rows look cheaper planned anew each time: they are not. */
    if (!store_connection_exec(connection, "SET plan_cache_mode = force_generic_plan", error)) {
        store_connection_close(connection);
        return FALSE;
    }
    rows = store_run(connection, statement, store_arguments("t", lane->name), error);
    if (rows == NULL) {
        store_connection_close(connection);
        return FALSE;
    }
    g_clear_pointer(&lane->writer, store_connection_close);
    lane->writer = connection;
    if (store_rows_count(rows) != 1) {
        lane->fenced = TRUE;
        return TRUE; /* we know where we stand; whoever asks for a write is told */
    }
    lane->head.epoch = store_rows_integer(rows, 0, 0);
    lane->head.position = store_rows_integer(rows, 0, 1);
    lane->fence = store_rows_integer(rows, 0, 2);
    lane->number = 0;
    if (first || before.epoch != lane->head.epoch) {
        g_autoptr(GPtrArray) none = g_ptr_array_new();
        log_ring_append(lane->ring, lane->head, none);
    }
    return store_do(connection, &lane_statements[LANE_TRIM_OLD], store_arguments("i", lane->fence),
                    error);
}

static void
set_fenced_error(GError **error)
{
    g_set_error(error, STORE_ERROR, STORE_ERROR_FENCED, "another process writes the log now");
}

static gboolean
lane_ready(Lane *lane, GError **error)
{
    if (lane->writer != NULL && !store_connection_alive(lane->writer))
        g_clear_pointer(&lane->writer, store_connection_close);
    if (!lane->fenced && lane->writer == NULL && !lane_take(lane, FALSE, error)) {
        g_clear_pointer(&lane->writer, store_connection_close);
        return FALSE;
    }
    if (lane->fenced) {
        set_fenced_error(error);
        return FALSE;
    }
    return TRUE;
}

/* --- sending --- */

static StoreArguments *
batch_log_arguments(LaneBatch *batch)
{
    guint entries = batch->entries->len, history = batch->history->len, count = entries + history;
    g_autofree gint64 *kinds = g_new(gint64, count + 1);
    g_autofree const char **rooms = g_new(const char *, count + 1);
    g_autofree const char **users = g_new(const char *, count + 1);
    g_autofree const char **refs = g_new(const char *, count + 1);
    g_autofree GBytes **roots = g_new(GBytes *, count + 1);
    gint64 now_ms = g_get_real_time() / 1000;
    StoreArguments *arguments =
        store_arguments("iiiiii", batch->fence, batch->number, (gint64)entries, (gint64)history,
                        batch->lane->head.epoch, now_ms);
    for (guint i = 0; i < count; i++) {
        LogEntry *entry = i < entries ? g_ptr_array_index(batch->entries, i)
                                      : g_ptr_array_index(batch->history, i - entries);
        entry->committed_ms = now_ms;
        kinds[i] = entry->kind;
        rooms[i] = entry->room_id;
        users[i] = entry->user_id;
        refs[i] = entry->ref;
        roots[i] = entry->state_root;
    }
    store_arguments_integer_array(arguments, kinds, count);
    store_arguments_text_array(arguments, rooms, count);
    store_arguments_text_array(arguments, users, count);
    store_arguments_text_array(arguments, refs, count);
    store_arguments_bytes_array(arguments, roots, count);
    return arguments;
}

/* Everything of the batch as one list: BEGIN, the writes, the log, the late writes, COMMIT. */
static GArray *
batch_complete(LaneBatch *batch, guint *ret_log_index)
{
    GArray *all = g_array_new(FALSE, TRUE, sizeof(LaneWrite));
    LaneWrite write = {.statement = &lane_statements[LANE_BEGIN]};
    g_array_set_clear_func(all, lane_write_clear);
    g_array_append_val(all, write);
    lane_batch_gather(batch, all);
    if (batch->number % BATCH_TRIM_EVERY == 0) {
        write.statement = &lane_statements[LANE_TRIM];
        write.arguments = store_arguments("ii", batch->fence, batch->number);
        g_array_append_val(all, write);
    }
    *ret_log_index = all->len;
    write.statement = &lane_statements[LANE_WRITE];
    write.arguments = batch_log_arguments(batch);
    g_array_append_val(all, write);
    for (guint i = 0; i < batch->late_writes->len; i++) {
        write = g_array_index(batch->late_writes, LaneWrite, i);
        if (write.arguments == NULL)
            write.arguments = store_arguments_new();
        store_arguments_integer(write.arguments, (gint64)batch->entries->len - 1 - write.entry);
        g_array_append_val(all, write);
    }
    write.statement = &lane_statements[LANE_COMMIT];
    write.arguments = NULL;
    g_array_append_val(all, write);
    /* The arguments are @all's now. */
    g_array_set_clear_func(batch->writes, NULL);
    g_array_set_size(batch->writes, 0);
    g_array_set_clear_func(batch->late_writes, NULL);
    g_array_set_size(batch->late_writes, 0);
    return all;
}

/* Read one pipelined statement's results.  The first failure of the batch goes to @error. */
static gboolean
pipeline_read(StoreConnection *connection, const char *name, PGresult **ret_result,
              gboolean *failed, GError **error)
{
    *ret_result = NULL;
    for (;;) {
        PGresult *result = NULL;
        if (!store_connection_next(connection, &result, *failed ? NULL : error))
            return FALSE;
        if (result == NULL)
            return TRUE;
        switch (PQresultStatus(result)) {
        case PGRES_COMMAND_OK:
        case PGRES_TUPLES_OK:
        case PGRES_PIPELINE_ABORTED:
            break;
        default:
            if (!*failed)
                store_error_from_result(error, name, connection->pg, result);
            *failed = TRUE;
            break;
        }
        g_clear_pointer(ret_result, PQclear);
        *ret_result = result;
    }
}

static gint64
result_integer(const PGresult *result, int column)
{
    guint64 network;
    g_assert(PQgetlength(result, 0, column) == (int)sizeof network);
    memcpy(&network, PQgetvalue(result, 0, column), sizeof network);
    return (gint64)GUINT64_FROM_BE(network);
}

static void
batch_give_positions(LaneBatch *batch, gint64 position, gint64 history)
{
    guint entries = batch->entries->len, older = batch->history->len;
    for (guint i = 0; i < entries; i++)
        ((LogEntry *)g_ptr_array_index(batch->entries, i))->position = position - entries + 1 + i;
    for (guint i = 0; i < older; i++)
        ((LogEntry *)g_ptr_array_index(batch->history, i))->position = history + older - 1 - i;
    batch->lane->head.position = position;
}

/* Waits for the end of what batch_send() has sent.  @error is set unless it is committed. */
static Outcome
batch_read_outcome(LaneBatch *batch, GError **error)
{
    StoreConnection *writer = batch->lane->writer;
    const GArray *all = batch->sent;
    guint log_index = batch->log_index;
    gboolean failed = FALSE, committed = FALSE, head_refused = FALSE;
    gint64 position = 0, history = 0;
    PGresult *result = NULL;

    for (guint i = 0; i < all->len; i++) {
        const char *name = g_array_index(all, LaneWrite, i).statement->name;
        gboolean failed_before = failed;
        if (!pipeline_read(writer, name, &result, &failed, error)) {
            PQclear(result);
            return OUTCOME_UNKNOWN;
        }
        if (failed && !failed_before && i == log_index &&
            g_strcmp0(PQresultErrorField(result, PG_DIAG_SQLSTATE), NOT_NULL_VIOLATION) == 0)
            head_refused = TRUE;
        if (!failed && i == log_index && PQntuples(result) == 1) {
            position = result_integer(result, 0);
            history = result_integer(result, 1);
        }
        if (!failed && i == all->len - 1)
            committed = strcmp(PQcmdStatus(result), "COMMIT") == 0;
        PQclear(result);
    }
    /* The answer to the sync that ends the pipeline. */
    if (!store_connection_next(writer, &result, failed ? NULL : error))
        return OUTCOME_UNKNOWN;
    g_assert(PQresultStatus(result) == PGRES_PIPELINE_SYNC);
    PQclear(result);
    if (!PQexitPipelineMode(writer->pg)) {
        if (!failed)
            store_error_from_result(error, "pipeline", writer->pg, NULL);
        return OUTCOME_UNKNOWN;
    }
    if (committed && writer->warnings == 0) {
        batch_give_positions(batch, position, history);
        return OUTCOME_COMMITTED;
    }
    if (!failed)
        g_set_error(error, STORE_ERROR, STORE_ERROR_UNAVAILABLE,
                    "PostgreSQL warned on COMMIT; whether it is durable is not known");
    if (!failed)
        return OUTCOME_UNKNOWN;
    store_rollback(writer);
    /* No head with our fence and epoch: whether we still hold the log must be asked too. */
    return head_refused ? OUTCOME_UNKNOWN : OUTCOME_ROLLED_BACK;
}

/* Send the batch.  FALSE: it did not go; *ret_outcome and @error say what is known. */
static gboolean
batch_send(LaneBatch *batch, Outcome *ret_outcome, GError **error)
{
    StoreConnection *writer = batch->lane->writer;

    batch->fence = batch->lane->fence;
    batch->number = ++batch->lane->number;
    batch->sent = batch_complete(batch, &batch->log_index);
    for (guint i = 0; i < batch->sent->len; i++) {
        const LaneWrite *write = &g_array_index(batch->sent, LaneWrite, i);
        if (!store_connection_prepare(writer, write->statement, write->arguments, error)) {
            *ret_outcome =
                PQstatus(writer->pg) == CONNECTION_OK ? OUTCOME_ROLLED_BACK : OUTCOME_UNKNOWN;
            return FALSE;
        }
    }
    *ret_outcome = OUTCOME_UNKNOWN;
    writer->warnings = 0;
    if (!PQenterPipelineMode(writer->pg)) {
        store_error_from_result(error, "pipeline", writer->pg, NULL);
        return FALSE;
    }
    for (guint i = 0; i < batch->sent->len; i++) {
        const LaneWrite *write = &g_array_index(batch->sent, LaneWrite, i);
        if (!store_connection_send(writer, write->statement, write->arguments, error))
            return FALSE;
    }
    if (!PQpipelineSync(writer->pg) || PQflush(writer->pg) < 0) {
        store_error_from_result(error, "pipeline", writer->pg, NULL);
        return FALSE;
    }
    return TRUE;
}

/* --- the thread --- */

static void
lane_drain_bell(Lane *lane)
{
    guint64 rung;
    g_mutex_lock(&lane->lock);
    lane->asleep = FALSE;
    g_mutex_unlock(&lane->lock);
    if (read(lane->bell, &rung, sizeof rung) < 0 && errno != EAGAIN && errno != EINTR)
        g_warning("lane: eventfd: %s", g_strerror(errno));
}

static guint
lane_queue_length(Lane *lane)
{
    guint length;
    g_mutex_lock(&lane->lock);
    length = lane->queue.length;
    g_mutex_unlock(&lane->lock);
    return length;
}

/* Under the lock: is there one that may add its part now? */
static gboolean
lane_has_next(const Lane *lane)
{
    const LaneOperation *first = g_queue_peek_head((GQueue *)&lane->queue);
    return first != NULL && (!first->waits || (lane->under_way == NULL && lane->open == NULL));
}

static LaneOperation *
lane_next(Lane *lane)
{
    LaneOperation *operation;
    g_mutex_lock(&lane->lock);
    operation = lane_has_next(lane) ? g_queue_pop_head(&lane->queue) : NULL;
    g_mutex_unlock(&lane->lock);
    return operation;
}

static void
lane_put_back(Lane *lane, LaneOperation *operation)
{
    g_mutex_lock(&lane->lock);
    g_queue_push_head(&lane->queue, operation);
    g_mutex_unlock(&lane->lock);
}

/* Those that wait now are told @error; who comes later is not. */
static void
lane_refuse_queued(Lane *lane, const GError *error)
{
    GQueue queued = G_QUEUE_INIT;
    g_mutex_lock(&lane->lock);
    while (lane->queue.length > 0)
        g_queue_push_tail_link(&queued, g_queue_pop_head_link(&lane->queue));
    g_mutex_unlock(&lane->lock);
    lane_operations_finish(&queued, error);
}

/* The operations of the batch that gathers wait again, in front of those that wait already. */
static void
lane_take_back_open(Lane *lane)
{
    LaneBatch *batch = g_steal_pointer(&lane->open);
    LaneOperation *operation;
    GQueue *operations;
    if (batch == NULL)
        return;
    lane_batch_run_hooks(batch, 0);
    operations = lane_batch_release_operations(batch);
    g_mutex_lock(&lane->lock);
    while ((operation = g_queue_pop_tail(operations)) != NULL) {
        operation->tries--;
        g_clear_pointer(&operation->last_entry, log_entry_unref);
        g_queue_push_head(&lane->queue, operation);
    }
    g_mutex_unlock(&lane->lock);
    g_queue_free(operations);
    lane_batch_free(batch);
}

/* While the database is away whoever comes is told so at once. */
static void
lane_pause(Lane *lane, guint pause_ms)
{
    gint64 until_us = g_get_monotonic_time() + (gint64)pause_ms * 1000;
    gint64 left_us;
    g_autoptr(GError) error =
        g_error_new_literal(STORE_ERROR, STORE_ERROR_UNAVAILABLE, "PostgreSQL is away");
    while ((left_us = until_us - g_get_monotonic_time()) > 0) {
        struct pollfd bell = {lane->bell, POLLIN, 0};
        g_mutex_lock(&lane->lock);
        lane->asleep = TRUE;
        g_mutex_unlock(&lane->lock);
        lane_refuse_queued(lane, error);
        (void)poll(&bell, 1, (int)(left_us / 1000) + 1);
        lane_drain_bell(lane);
    }
    lane_refuse_queued(lane, error);
}

static gboolean
batch_ask(LaneBatch *batch, gboolean *ret_happened, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(batch->lane->writer, &lane_statements[LANE_ASK],
                  store_arguments("ii", batch->fence, batch->number), error);
    if (rows == NULL)
        return FALSE;
    *ret_happened = store_rows_count(rows) > 0;
    if (*ret_happened) {
        gint64 head = batch->lane->head.position;
        batch_give_positions(batch, store_rows_integer(rows, 0, 0), store_rows_integer(rows, 0, 1));
        batch->lane->head.position = MAX(head, batch->lane->head.position);
    }
    return TRUE;
}

/* The connection went away with the batch under way.  Come back with a higher fence, after which
 * the batch either is there or never will be; then ask.  UNKNOWN only when the lane has to end
 * before that. */
static Outcome
batch_find_out(LaneBatch *batch)
{
    Lane *lane = batch->lane;
    guint pause_ms = RECONNECT_PAUSE_MIN_MS;
    g_clear_pointer(&lane->writer, store_connection_close);
    while (!lane_gives_up(lane)) {
        g_autoptr(GError) error = NULL;
        gboolean happened = FALSE;
        if (lane_take(lane, FALSE, &error) && batch_ask(batch, &happened, &error))
            return happened ? OUTCOME_COMMITTED : OUTCOME_ROLLED_BACK;
        g_debug("lane: not back yet: %s", error->message);
        g_clear_pointer(&lane->writer, store_connection_close);
        lane_pause(lane, pause_ms);
        pause_ms = MIN(pause_ms * 2, RECONNECT_PAUSE_MAX_MS);
    }
    return OUTCOME_UNKNOWN;
}

static void
batch_finish(LaneBatch *batch, const GError *error)
{
    GQueue *operations = lane_batch_release_operations(batch);
    if (error == NULL)
        log_ring_append(batch->lane->ring, batch->lane->head, batch->entries);
    lane_operations_finish(operations, error);
    g_queue_free(operations);
}

static void
batch_finish_committed(LaneBatch *batch)
{
    lane_batch_run_commit_hooks(batch);
    batch_finish(batch, NULL);
}

static void lane_run_operations(Lane *lane, GQueue *operations, gboolean one_by_one);

/* Rolled back for sure, with memory as it was before: again, if it may help. */
static void
lane_try_again(Lane *lane, LaneBatch *batch, gboolean lost, const GError *error)
{
    GQueue *operations = lane_batch_release_operations(batch);
    GQueue *again = g_queue_new();
    gboolean alone = operations->length == 1;
    LaneOperation *operation;

    while ((operation = g_queue_pop_head(operations)) != NULL) {
        gboolean try_again =
            lost || !alone || g_error_matches(error, STORE_ERROR, STORE_ERROR_CONFLICT);
        g_clear_pointer(&operation->last_entry, log_entry_unref);
        if (lane->fenced || operation->tries >= OPERATION_TRIES_MAX || !try_again ||
            (!lost && g_error_matches(error, STORE_ERROR, STORE_ERROR_UNAVAILABLE)))
            lane_operation_finish(operation, error);
        else
            g_queue_push_tail(again, operation);
    }
    g_queue_free(operations);
    lane_run_operations(lane, again, !lost);
    g_queue_free(again);
}

/* @outcome is what is known of @batch, @error why it is not committed: everyone in it learns, or
 * runs again.  Nothing is under way, and nothing is open that stands on it. */
static void
lane_settle(Lane *lane, LaneBatch *batch, Outcome outcome, GError *cause)
{
    g_autoptr(GError) error = cause;
    gboolean lost = FALSE;

    if (outcome == OUTCOME_UNKNOWN) {
        g_message("lane: batch under way: %s; asking what became of it", error->message);
        lost = TRUE;
        outcome = batch_find_out(batch);
    }
    if (outcome == OUTCOME_COMMITTED) {
        batch_finish_committed(batch);
        return;
    }
    lane_batch_run_hooks(batch, 0);
    if (lane->fenced) {
        g_clear_error(&error);
        set_fenced_error(&error);
    }
    if (outcome == OUTCOME_UNKNOWN) {
        g_clear_error(&error);
        g_set_error(&error, STORE_ERROR, STORE_ERROR_UNAVAILABLE,
                    "PostgreSQL went away during the commit, and has not come back to tell");
        batch_finish(batch, error);
        return;
    }
    lane_try_again(lane, batch, lost, error);
}

/* The batch is complete: it goes.  FALSE: it is no more under way than before, see batch_send(). */
static gboolean
lane_send(Lane *lane, LaneBatch *batch, Outcome *ret_outcome, GError **error)
{
    lane_batch_run_end_hooks(batch);
    *ret_outcome = OUTCOME_COMMITTED; /* nothing to write: nothing to wait for */
    if (lane_batch_is_empty(batch) || !batch_send(batch, ret_outcome, error))
        return FALSE;
    lane->under_way = batch;
    lane->answer_by_us = g_get_monotonic_time() + (gint64)STORE_ANSWER_TIMEOUT_MS * 1000;
    return TRUE;
}

/* The answer to the batch under way is here, or will not come.  The next one goes before anybody
 * is told: PostgreSQL need not wait for that. */
static void
lane_take_answer(Lane *lane)
{
    LaneBatch *batch = g_steal_pointer(&lane->under_way), *next;
    GError *error = NULL;
    Outcome outcome = batch_read_outcome(batch, &error);
    gboolean sent;

    if (outcome != OUTCOME_COMMITTED) {
        lane_take_back_open(lane);
        lane_settle(lane, batch, outcome, error);
        lane_batch_free(batch);
        return;
    }
    next = g_steal_pointer(&lane->open);
    sent = next == NULL || lane_send(lane, next, &outcome, &error);
    batch_finish_committed(batch);
    lane_batch_free(batch);
    if (!sent) {
        lane_settle(lane, next, outcome, error);
        lane_batch_free(next);
    }
}

static void
lane_send_open(Lane *lane)
{
    LaneBatch *batch = g_steal_pointer(&lane->open);
    GError *error = NULL;
    Outcome outcome;

    if (lane_send(lane, batch, &outcome, &error))
        return;
    lane_settle(lane, batch, outcome, error);
    lane_batch_free(batch);
}

/* Operations that are tried again, to their end. */
static void
lane_run_operations(Lane *lane, GQueue *operations, gboolean one_by_one)
{
    while (operations->length > 0) {
        GError *error = NULL;
        Outcome outcome;
        LaneBatch *batch;
        if (!lane_ready(lane, &error)) {
            lane_operations_finish(operations, error);
            g_error_free(error);
            return;
        }
        batch = lane_batch_new(lane);
        do {
            LaneOperation *operation = g_queue_pop_head(operations);
            if (!lane_batch_apply(batch, operation)) {
                g_queue_push_head(operations, operation); /* the first of the next batch */
                break;
            }
        } while (operations->length > 0 && batch->bytes < BATCH_BYTES_MAX && !one_by_one);
        if (lane_send(lane, batch, &outcome, &error)) {
            lane->under_way = NULL;
            outcome = batch_read_outcome(batch, &error);
        }
        lane_settle(lane, batch, outcome, error);
        lane_batch_free(batch);
    }
}

/* Sleep at most @wait_ms for the answer to the batch under way, if there is one, or for @bell. */
static gboolean
lane_poll(Lane *lane, gboolean bell, int wait_ms)
{
    struct pollfd waited[] = {{bell ? lane->bell : -1, POLLIN, 0}, {-1, POLLIN, 0}};
    int unsent = 0;

    if (lane->under_way != NULL) {
        unsent = PQflush(lane->writer->pg);
        waited[1].fd = PQsocket(lane->writer->pg);
        if (unsent == 1)
            waited[1].events |= POLLOUT;
        if (unsent < 0 || waited[1].fd < 0 || lane_gives_up(lane) ||
            g_get_monotonic_time() >= lane->answer_by_us)
            return TRUE;
    }
    (void)poll(waited, G_N_ELEMENTS(waited), wait_ms);
    return (waited[1].revents & ~POLLOUT) != 0;
}

static gboolean
lane_batch_is_full(const LaneBatch *batch)
{
    return batch != NULL &&
           (batch->operations->len >= BATCH_OPERATIONS_MAX || batch->bytes >= BATCH_BYTES_MAX);
}

/* Let those that wait add their parts to the open batch; while nothing is under way only those that
 * wait now, so that PostgreSQL gets its work. */
static void
lane_gather(Lane *lane)
{
    LaneOperation *operation;
    guint left = lane->under_way != NULL ? G_MAXUINT : lane_queue_length(lane);
    while (left-- > 0 && !lane_batch_is_full(lane->open) && (operation = lane_next(lane)) != NULL) {
        g_autoptr(GError) error = NULL;
        /* The one under way has shown that the session lives. */
        if (lane->open == NULL && lane->under_way == NULL && !lane_ready(lane, &error)) {
            lane_operation_finish(operation, error);
            lane_refuse_queued(lane, error);
            return;
        }
        if (lane->open == NULL)
            lane->open = lane_batch_new(lane);
        if (!lane_batch_apply(lane->open, operation))
            lane_put_back(lane, operation);
        if (lane->under_way != NULL && lane_poll(lane, FALSE, 0))
            lane_take_answer(lane);
    }
}

/* Until there is something to do.  FALSE: the lane ends. */
static gboolean
lane_sleep(Lane *lane)
{
    for (;;) {
        gboolean work, idle;
        g_mutex_lock(&lane->lock);
        work = lane_has_next(lane) && !lane_batch_is_full(lane->open);
        idle = lane->under_way == NULL && lane->open == NULL;
        if (idle && lane->stopping && (lane->queue.length == 0 || lane_gives_up(lane))) {
            g_mutex_unlock(&lane->lock);
            return FALSE;
        }
        lane->asleep = !work;
        g_mutex_unlock(&lane->lock);
        if (work)
            return TRUE;
        if (lane_poll(lane, TRUE, lane->under_way != NULL ? SLEEP_MAX_MS : -1)) {
            lane_drain_bell(lane);
            return TRUE;
        }
        lane_drain_bell(lane);
    }
}

static gpointer
lane_thread(gpointer data)
{
    Lane *lane = data;
    g_autoptr(GError) error =
        g_error_new_literal(STORE_ERROR, STORE_ERROR_UNAVAILABLE, "the server stops");
    while (lane_sleep(lane)) {
        if (lane->under_way != NULL && lane_poll(lane, FALSE, 0))
            lane_take_answer(lane);
        lane_gather(lane);
        if (lane->under_way == NULL && lane->open != NULL)
            lane_send_open(lane);
    }
    lane_refuse_queued(lane, error);
    return NULL;
}

/* --- for other threads --- */

Lane *
lane_new(StorePool *pool, LogRing *ring, guint operations_max, GError **error)
{
    Lane *lane = g_new0(Lane, 1);
    lane->pool = pool;
    lane->ring = ring;
    lane->operations_max = operations_max;
    lane->name = g_uuid_string_random();
    g_mutex_init(&lane->lock);
    g_queue_init(&lane->queue);
    lane->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (lane->bell < 0) {
        g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED, "lane: eventfd: %s", g_strerror(errno));
        lane_free(lane);
        return NULL;
    }
    if (!lane_take(lane, TRUE, error)) {
        lane_free(lane);
        return NULL;
    }
    lane->thread = g_thread_new("lane", lane_thread, lane);
    return lane;
}

static void
lane_ring(Lane *lane)
{
    const guint64 once = 1;
    if (write(lane->bell, &once, sizeof once) < 0 && errno != EAGAIN)
        g_warning("lane: eventfd: %s", g_strerror(errno));
}

void
lane_stop(Lane *lane, guint grace_ms)
{
    g_mutex_lock(&lane->lock);
    lane->stopping = TRUE;
    __atomic_store_n(&lane->give_up_at_us, g_get_monotonic_time() + (gint64)grace_ms * 1000,
                     __ATOMIC_RELAXED);
    g_mutex_unlock(&lane->lock);
    lane_ring(lane);
    if (lane->thread != NULL)
        g_thread_join(g_steal_pointer(&lane->thread));
}

void
lane_free(Lane *lane)
{
    if (lane == NULL)
        return;
    if (lane->thread != NULL)
        lane_stop(lane, 0);
    store_connection_close(lane->writer);
    store_connection_close(lane->reader);
    g_mutex_clear(&lane->lock);
    if (lane->bell >= 0)
        close(lane->bell);
    g_free(lane->name);
    g_free(lane);
}

gboolean
lane_submit(Lane *lane, LaneApply apply, LaneDone done, gpointer data, GError **error)
{
    LaneOperation *operation;
    gboolean accepted, wake = FALSE;
    g_mutex_lock(&lane->lock);
    accepted = !lane->stopping && lane->queue.length < lane->operations_max;
    if (accepted) {
        operation = g_new0(LaneOperation, 1);
        operation->apply = apply;
        operation->done = done;
        operation->data = data;
        g_queue_push_tail(&lane->queue, operation);
        wake = lane->asleep;
        lane->asleep = FALSE;
    }
    g_mutex_unlock(&lane->lock);
    if (wake)
        lane_ring(lane);
    if (!accepted)
        g_set_error(error, STORE_ERROR, STORE_ERROR_BUSY, "too many writes are waiting");
    return accepted;
}

typedef struct {
    LaneApply apply;
    gpointer data;
    GMutex lock;
    GCond finished_cond;
    gboolean finished;
    gint64 position;
    GError *error;
} LaneWait;

static gboolean
wait_apply(LaneBatch *batch, gpointer data, GError **error)
{
    LaneWait *wait = data;
    return wait->apply(batch, wait->data, error);
}

static void
wait_done(gpointer data, gint64 position, const GError *error)
{
    LaneWait *wait = data;
    g_mutex_lock(&wait->lock);
    wait->position = position;
    wait->error = error != NULL ? g_error_copy(error) : NULL;
    wait->finished = TRUE;
    g_cond_signal(&wait->finished_cond);
    g_mutex_unlock(&wait->lock);
}

gboolean
lane_submit_and_wait(Lane *lane, LaneApply apply, gpointer data, gint64 *ret_position,
                     GError **error)
{
    LaneWait wait = {.apply = apply, .data = data};
    gboolean succeeded = FALSE;
    g_assert(g_thread_self() != lane->thread);
    g_mutex_init(&wait.lock);
    g_cond_init(&wait.finished_cond);
    if (lane_submit(lane, wait_apply, wait_done, &wait, error)) {
        g_mutex_lock(&wait.lock);
        while (!wait.finished)
            g_cond_wait(&wait.finished_cond, &wait.lock);
        g_mutex_unlock(&wait.lock);
        succeeded = wait.error == NULL;
        if (!succeeded)
            g_propagate_error(error, g_steal_pointer(&wait.error));
        else if (ret_position != NULL)
            *ret_position = wait.position;
    }
    g_mutex_clear(&wait.lock);
    g_cond_clear(&wait.finished_cond);
    return succeeded;
}
