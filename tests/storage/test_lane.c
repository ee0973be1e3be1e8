/* The writer lane: order, refusals, rollback in memory, lost connections on either side of COMMIT,
 * fencing. */
#include "storage/lane.h"

#include <string.h>

#include "storage/migrate.h"
#include "tests/support/database.h"
#include "tests/support/proxy.h"

static const StoreStatement insert_statement = {
    "test_insert", "INSERT INTO written (name, position) VALUES ($1, 0)"};
static const StoreStatement insert_at_statement = {
    "test_insert_at",
    "INSERT INTO written (name, position) VALUES ($1, (SELECT position FROM log_head) - $2)"};
static const StoreStatement divide_statement = {
    "test_divide", "INSERT INTO written (name, position) SELECT 'divided', 1 / $1"};
/* Adds up what comes for the same name; @statements of the row says how many statements ran. */
static const StoreStatement gather_statement = {
    "test_gather", "WITH counted AS (INSERT INTO written (name, position) VALUES ('statements', 1)"
                   "  ON CONFLICT (name) DO UPDATE SET position = written.position + 1)"
                   " INSERT INTO written AS old (name, position)"
                   " SELECT name, amount / CASE WHEN whole THEN 1 ELSE 0 END"
                   "  FROM unnest($1::text[], $2::bigint[], $3::boolean[], $4::bytea[])"
                   "  AS one (name, amount, whole, nothing) WHERE nothing IS NULL"
                   " ON CONFLICT (name) DO UPDATE SET position = old.position + excluded.position"};
static const StoreStatement count_statement = {"test_count", "SELECT count(*) FROM written"};

typedef struct {
    TestDatabase *database;
    StorePool *pool; /* the database's, or through the proxy */
    LogRing *ring;
    Lane *lane;
} Fixture;

static void
fixture_open_lane(Fixture *fixture, guint operations_max)
{
    g_autoptr(GError) error = NULL;
    LogHead head = {0, 0};
    fixture->ring = log_ring_new(1024 * 1024, head);
    fixture->lane = lane_new(fixture->pool, fixture->ring, operations_max, &error);
    g_assert_no_error(error);
}

static void
fixture_init(Fixture *fixture)
{
    fixture->database = test_database_new(4);
    fixture->pool = fixture->database->pool;
    g_free(test_database_query(fixture->database,
                               "CREATE TABLE written (name text COLLATE \"C\" PRIMARY KEY,"
                               " position bigint NOT NULL)"));
}

static void
fixture_close_lane(Fixture *fixture)
{
    lane_free(fixture->lane);
    log_ring_free(fixture->ring);
}

static void
fixture_clear(Fixture *fixture)
{
    fixture_close_lane(fixture);
    test_database_free(fixture->database);
}

/* One operation of a test: writes a row and an entry, and remembers what it was told. */
typedef struct {
    const char *name;
    gboolean refuse; /* after it has added its statements */
    gint64 divisor;  /* when divide: 0 makes PostgreSQL refuse */
    gboolean divide;
    gboolean no_entry;
    gboolean row;    /* a row of the gathered statement instead */
    gboolean at_end; /* and one more when the batch ends */
    guint entries;   /* beside the first */
    GString *trace;  /* or NULL: "+name" when applied, "-name" when rolled back */
    GMutex *gate;    /* or NULL: held by the test while it queues others */
    guint applied;
    gint done; /* atomic: how often done was called */
    gint64 position;
    GError *error;
} Step;

static void
step_rolled_back(gpointer data)
{
    Step *step = data;
    g_string_append_printf(step->trace, "-%s", step->name);
}

static void
step_at_end(LaneBatch *batch, gpointer data)
{
    const Step *step = data;
    g_autofree char *name = g_strconcat("end of ", step->name, NULL);
    lane_batch_add_row(batch, &gather_statement, 1,
                       store_arguments("tiby", name, (gint64)1, TRUE, NULL));
}

static gboolean
step_apply(LaneBatch *batch, gpointer data, GError **error)
{
    Step *step = data;
    LogEntry *entry;
    step->applied++;
    if (step->gate != NULL) {
        g_mutex_lock(step->gate);
        g_mutex_unlock(step->gate);
    }
    if (step->trace != NULL) {
        g_string_append_printf(step->trace, "+%s", step->name);
        lane_batch_on_rollback(batch, step_rolled_back, step);
    }
    if (step->at_end)
        lane_batch_at_end(batch, step_at_end, step);
    if (step->row) {
        lane_batch_add_row(batch, &gather_statement, 1,
                           store_arguments("tiby", step->name, (gint64)1, TRUE, NULL));
    } else if (step->no_entry) {
        lane_batch_add(batch, &insert_statement, store_arguments("t", step->name));
    } else {
        for (guint i = 0; i < step->entries; i++)
            lane_batch_log(batch,
                           log_entry_new(LOG_PROFILE, NULL, "@more:example.org", step->name));
        entry = log_entry_new(LOG_PROFILE, NULL, "@user:example.org", step->name);
        lane_batch_log(batch, entry);
        lane_batch_add_with_position(batch, &insert_at_statement, store_arguments("t", step->name),
                                     entry);
    }
    if (step->divide)
        lane_batch_add(batch, &divide_statement, store_arguments("i", step->divisor));
    if (step->refuse) {
        g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED, "not today");
        return FALSE;
    }
    return TRUE;
}

static void
step_done(gpointer data, gint64 position, const GError *error)
{
    Step *step = data;
    step->position = position;
    step->error = error != NULL ? g_error_copy(error) : NULL;
    g_atomic_int_inc(&step->done);
}

static void
steps_wait(Step *steps, guint count)
{
    for (guint i = 0; i < count; i++) {
        while (g_atomic_int_get(&steps[i].done) == 0)
            g_usleep(500);
        g_assert_cmpint(g_atomic_int_get(&steps[i].done), ==, 1);
    }
}

/* Another session has written the row "gate" and holds its transaction open: whoever inserts that
 * row stands still, on its way to PostgreSQL, until the gate opens. */
typedef struct {
    StoreConnection *holder;
    Step step;
} Gate;

static void
gate_shut(Fixture *fixture, Gate *gate)
{
    g_autoptr(GError) error = NULL;
    gint64 waiting = 0;
    gate->step.name = "gate";
    gate->step.no_entry = TRUE;
    gate->holder = store_borrow(fixture->database->pool, &error);
    g_assert_no_error(error);
    g_assert_true(store_begin(gate->holder, &error));
    g_assert_true(store_do(gate->holder, &insert_statement, store_arguments("t", "gate"), &error));
    g_assert_true(lane_submit(fixture->lane, step_apply, step_done, &gate->step, &error));
    while (waiting == 0 && g_atomic_int_get(&gate->step.done) == 0)
        waiting = test_database_count(fixture->database,
                                      "SELECT count(*) FROM pg_stat_activity WHERE datname ="
                                      " current_database() AND wait_event_type = 'Lock'");
}

static void
gate_open(Gate *gate)
{
    store_rollback(gate->holder);
    store_return(gate->holder);
    steps_wait(&gate->step, 1);
    g_clear_error(&gate->step.error);
}

/* Let them add their parts while the batch with the gate is under way, so that they make one batch.
 */
static void
steps_apply(Fixture *fixture, Step *steps, guint count)
{
    g_autoptr(GError) error = NULL;
    for (guint i = 0; i < count; i++)
        g_assert_true(lane_submit(fixture->lane, step_apply, step_done, &steps[i], &error));
    for (guint i = 0; i < count; i++)
        while (g_atomic_int_get((gint *)&steps[i].applied) == 0 &&
               g_atomic_int_get(&steps[i].done) == 0)
            g_usleep(500);
}

static void
steps_submit(Fixture *fixture, Step *steps, guint count)
{
    Gate gate = {0};
    gate_shut(fixture, &gate);
    steps_apply(fixture, steps, count);
    gate_open(&gate);
    steps_wait(steps, count);
    g_free(test_database_query(fixture->database, "DELETE FROM written WHERE name = 'gate'"));
}

/* Until the query answers with something. */
static void
cluster_wait(TestCluster *cluster, const char *sql)
{
    for (;;) {
        g_autofree char *value = test_cluster_query(cluster, sql);
        if (value != NULL)
            return;
        g_usleep(2000);
    }
}

static void
test_entries_follow_one_another(void)
{
    Fixture fixture;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) entries = NULL;
    Step steps[20] = {0};
    char names[20][8];
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    for (guint i = 0; i < 20; i++) {
        g_snprintf(names[i], sizeof names[i], "s%02u", i);
        steps[i].name = names[i];
        steps[i].entries = i % 3;
    }
    steps_submit(&fixture, steps, 20);
    for (guint i = 0, position = 0; i < 20; i++) {
        g_assert_no_error(steps[i].error);
        position += 1 + i % 3;
        g_assert_cmpint(steps[i].position, ==, position);
    }
    g_assert_cmpint(log_ring_head(fixture.ring).position, ==, steps[19].position);
    g_assert_true(log_ring_read(fixture.ring, 0, 1000, &entries));
    g_assert_cmpuint(entries->len, ==, steps[19].position);
    for (guint i = 0; i < entries->len; i++) {
        const LogEntry *entry = g_ptr_array_index(entries, i);
        g_assert_cmpint(entry->position, ==, i + 1);
        g_assert_cmpint(entry->committed_ms, >, 0);
    }
    /* what the rows say agrees with the log */
    g_assert_cmpint(test_database_count(fixture.database,
                                        "SELECT count(*) FROM written JOIN log USING (position)"
                                        " WHERE log.ref = written.name"
                                        " AND log.user_id = '@user:example.org'"),
                    ==, 20);
    g_clear_pointer(&entries, g_ptr_array_unref);
    {
        g_autoptr(StoreConnection) connection = store_borrow(fixture.pool, &error);
        entries = log_read(connection, 2, 7, 4, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(entries->len, ==, 4);
        g_assert_cmpint(((LogEntry *)g_ptr_array_index(entries, 0))->position, ==, 3);
    }
    fixture_clear(&fixture);
}

static void
test_refused_operation_leaves_the_others(void)
{
    Fixture fixture;
    g_autoptr(GString) trace = g_string_new(NULL);
    Step steps[3] = {{.name = "a", .trace = trace},
                     {.name = "b", .trace = trace, .refuse = TRUE, .entries = 2},
                     {.name = "c", .trace = trace}};
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    steps_submit(&fixture, steps, 3);
    g_assert_no_error(steps[0].error);
    g_assert_error(steps[1].error, STORE_ERROR, STORE_ERROR_FAILED);
    g_assert_no_error(steps[2].error);
    g_assert_cmpint(steps[0].position, ==, 1);
    g_assert_cmpint(steps[2].position, ==, 2);
    g_assert_cmpstr(trace->str, ==, "+a+b-b+c");
    g_assert_cmpint(test_database_count(fixture.database, "SELECT count(*) FROM written"), ==, 2);
    g_clear_error(&steps[1].error);
    fixture_clear(&fixture);
}

static void
test_failed_batch_is_rolled_back_and_runs_one_by_one(void)
{
    Fixture fixture;
    g_autoptr(GString) trace = g_string_new(NULL);
    Step steps[3] = {{.name = "a", .trace = trace},
                     {.name = "b", .trace = trace, .divide = TRUE},
                     {.name = "c", .trace = trace}};
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    steps_submit(&fixture, steps, 3);
    g_assert_no_error(steps[0].error);
    g_assert_error(steps[1].error, STORE_ERROR, STORE_ERROR_FAILED);
    g_assert_no_error(steps[2].error);
    g_assert_cmpstr(trace->str, ==, "+a+b+c-c-b-a+a+b-b+c");
    g_assert_cmpint(steps[0].position, ==, 1);
    g_assert_cmpint(steps[2].position, ==, 2);
    g_assert_cmpint(test_database_count(fixture.database, "SELECT count(*) FROM log"), ==, 2);
    g_clear_error(&steps[1].error);
    fixture_clear(&fixture);
}

/* What gathers while a batch is under way stands on that batch: when it fails, the later goes
 * first, and is applied anew once the earlier has been told. */
static void
test_failed_batch_takes_the_next_one_back_with_it(void)
{
    Fixture fixture;
    g_autoptr(GString) trace = g_string_new(NULL);
    Gate gate = {.step = {.trace = trace, .divide = TRUE}};
    Step steps[3] = {{.name = "a", .trace = trace},
                     {.name = "b", .trace = trace, .refuse = TRUE},
                     {.name = "c", .trace = trace}};
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    gate_shut(&fixture, &gate);
    steps_apply(&fixture, steps, 3);
    g_assert_cmpint(g_atomic_int_get(&steps[0].done), ==, 0); /* nothing is durable yet */
    g_assert_cmpint(g_atomic_int_get(&steps[1].done), ==, 1);
    g_assert_cmpint(test_database_count(fixture.database, "SELECT count(*) FROM log"), ==, 0);
    gate_open(&gate);
    steps_wait(steps, 3);
    g_assert_no_error(steps[0].error);
    g_assert_error(steps[1].error, STORE_ERROR, STORE_ERROR_FAILED);
    g_assert_no_error(steps[2].error);
    g_assert_cmpstr(trace->str, ==, "+gate+a+b-b+c-c-a-gate+a+c");
    g_assert_cmpint(steps[0].position, ==, 1);
    g_assert_cmpint(steps[2].position, ==, 2);
    g_assert_cmpint(test_database_count(fixture.database, "SELECT count(*) FROM written"), ==, 2);
    g_clear_error(&steps[1].error);
    fixture_clear(&fixture);
}

/* Each batch's positions and ring follow those of the one before it. */
static void
test_next_batch_follows_the_one_under_way(void)
{
    Fixture fixture;
    g_autoptr(GPtrArray) entries = NULL;
    Gate gate = {0};
    Step steps[2] = {{.name = "a"}, {.name = "b", .entries = 1}};
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    gate_shut(&fixture, &gate);
    steps_apply(&fixture, steps, 2);
    gate_open(&gate);
    steps_wait(steps, 2);
    g_assert_cmpint(steps[0].position, ==, 1);
    g_assert_cmpint(steps[1].position, ==, 3);
    g_assert_true(log_ring_read(fixture.ring, 0, 10, &entries));
    g_assert_cmpuint(entries->len, ==, 3);
    /* two batches: the gate's, and theirs */
    g_assert_cmpint(test_database_count(fixture.database, "SELECT count(*) FROM lane_batch"), ==,
                    2);
    fixture_clear(&fixture);
}

/* Three statements: both "a" cannot stand in one, what comes at the end joins the last; a refused
 * operation's rows and its call at the end are gone. */
static void
test_rows_of_a_batch_are_gathered(void)
{
    Fixture fixture;
    Step steps[] = {
        {.name = "first", .no_entry = TRUE},
        {.name = "a", .row = TRUE, .at_end = TRUE},
        {.name = "b", .row = TRUE},
        {.name = "c", .row = TRUE, .at_end = TRUE, .refuse = TRUE},
        {.name = "a", .row = TRUE, .at_end = TRUE},
    };
    g_autofree char *rows = NULL;
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    steps_submit(&fixture, steps, G_N_ELEMENTS(steps));
    steps_wait(steps, G_N_ELEMENTS(steps));
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_assert_cmpuint(steps[i].applied, ==, 1);
        if (steps[i].refuse)
            g_assert_error(steps[i].error, STORE_ERROR, STORE_ERROR_FAILED);
        else
            g_assert_no_error(steps[i].error);
        g_clear_error(&steps[i].error);
    }
    rows = test_database_query(fixture.database, "SELECT string_agg(name || ' ' || position, ', '"
                                                 " ORDER BY name) FROM written");
    g_assert_cmpstr(rows, ==, "a 2, b 1, end of a 2, first 0, statements 3");
    fixture_clear(&fixture);
}

static void
test_same_key_twice_conflicts_for_the_second(void)
{
    Fixture fixture;
    Step steps[3] = {{.name = "same"}, {.name = "same"}, {.name = "other"}};
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    steps_submit(&fixture, steps, 3);
    g_assert_no_error(steps[0].error);
    g_assert_error(steps[1].error, STORE_ERROR, STORE_ERROR_CONFLICT);
    g_assert_no_error(steps[2].error);
    g_clear_error(&steps[1].error);
    fixture_clear(&fixture);
}

static void
test_text_that_is_not_utf8_refuses_its_operation_alone(void)
{
    Fixture fixture;
    Step steps[2] = {{.name = "\xff", .no_entry = TRUE}, {.name = "fine"}};
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    steps_submit(&fixture, steps, 2);
    g_assert_error(steps[0].error, STORE_ERROR, STORE_ERROR_FAILED);
    g_assert_no_error(steps[1].error);
    g_assert_cmpuint(steps[1].applied, ==, 1); /* the batch did not fail for it */
    g_clear_error(&steps[0].error);
    fixture_clear(&fixture);
}

static gboolean
history_apply(LaneBatch *batch, gpointer data, GError **error)
{
    LogEntry *newer = log_entry_new(LOG_EVENT, "!room", NULL, "$newer");
    LogEntry *older = log_entry_new(LOG_EVENT, "!room", NULL, "$older");
    lane_batch_log_history(batch, newer);
    lane_batch_log_history(batch, older);
    if (data != NULL)
        lane_batch_log(batch, log_entry_new(LOG_EVENT, "!room", NULL, "$now"));
    return TRUE;
}

static void
test_history_falls_below_everything(void)
{
    Fixture fixture;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) entries = NULL;
    gint64 position = -1;
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    g_assert_true(lane_submit_and_wait(fixture.lane, history_apply, &fixture, &position, &error));
    g_assert_cmpint(position, ==, 1);
    g_assert_true(lane_submit_and_wait(fixture.lane, history_apply, NULL, &position, &error));
    g_assert_cmpint(position, ==, 0);
    g_assert_cmpint(log_ring_head(fixture.ring).position, ==, 1);
    {
        static const gint64 expected[] = {1, -1, -2, -3, -4};
        static const char *const refs[] = {"$now", "$newer", "$older", "$newer", "$older"};
        g_autoptr(StoreConnection) connection = store_borrow(fixture.pool, &error);
        entries = log_read_room(connection, "!room", G_MAXINT64, TRUE, 10, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(entries->len, ==, 5);
        for (guint i = 0; i < 5; i++) {
            const LogEntry *entry = g_ptr_array_index(entries, i);
            g_assert_cmpint(entry->position, ==, expected[i]);
            g_assert_cmpstr(entry->ref, ==, refs[i]);
        }
        g_clear_pointer(&entries, g_ptr_array_unref);
        entries = log_read_room(connection, "!room", -3, FALSE, 2, &error);
        g_assert_cmpint(((LogEntry *)g_ptr_array_index(entries, 0))->position, ==, -2);
        g_assert_cmpint(((LogEntry *)g_ptr_array_index(entries, 1))->position, ==, -1);
    }
    fixture_clear(&fixture);
}

static gboolean
count_apply(LaneBatch *batch, gpointer data, GError **error)
{
    StoreConnection *connection = lane_batch_connection(batch, error);
    g_autoptr(StoreRows) rows =
        connection != NULL ? store_run(connection, &count_statement, NULL, error) : NULL;
    if (rows == NULL)
        return FALSE;
    *(gint64 *)data = store_rows_integer(rows, 0, 0);
    return TRUE;
}

static void
test_apply_reads_what_is_committed(void)
{
    Fixture fixture;
    g_autoptr(GError) error = NULL;
    Step step = {.name = "one"};
    gint64 count = -1, position = -1;
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    steps_submit(&fixture, &step, 1);
    g_assert_true(lane_submit_and_wait(fixture.lane, count_apply, &count, &position, &error));
    g_assert_cmpint(count, ==, 1);
    g_assert_cmpint(position, ==, 0);
    /* its session dies: the next read has another */
    g_free(test_database_query(
        fixture.database, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                          " WHERE application_name = 'chancery' AND datname = current_database()"));
    g_assert_true(lane_submit_and_wait(fixture.lane, count_apply, &count, &position, &error));
    g_assert_no_error(error);
    fixture_clear(&fixture);
}

/* Counts through the connection that it is told to use. */
typedef struct {
    StoreConnection *(*connect)(LaneBatch *batch, GError **error);
    gboolean swallow; /* answers success whatever the connection said */
    guint tried;
    gint64 count;
    gint done; /* atomic */
    GError *error;
} Counting;

static gboolean
counting_apply(LaneBatch *batch, gpointer data, GError **error)
{
    Counting *counting = data;
    g_autoptr(GError) problem = NULL;
    StoreConnection *connection;
    g_autoptr(StoreRows) rows = NULL;
    counting->tried++;
    lane_batch_add(batch, &insert_statement, store_arguments("t", "counted"));
    connection = counting->connect(batch, &problem);
    if (connection != NULL)
        rows = store_run(connection, &count_statement, NULL, &problem);
    if (rows != NULL)
        counting->count = store_rows_integer(rows, 0, 0);
    if (rows != NULL || counting->swallow)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&problem));
    return FALSE;
}

static void
counting_done(gpointer data, gint64 position, const GError *error)
{
    Counting *counting = data;
    counting->error = error != NULL ? g_error_copy(error) : NULL;
    g_atomic_int_inc(&counting->done);
}

/* While the gate's batch is under way: "a", what counts, "b".  How many batches there were. */
static gint64
count_between(Counting *counting)
{
    Fixture fixture;
    g_autoptr(GError) error = NULL;
    Gate gate = {0};
    Step steps[2] = {{.name = "a"}, {.name = "b"}};
    gint64 batches;
    counting->count = -1;
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    gate_shut(&fixture, &gate);
    steps_apply(&fixture, steps, 1);
    g_assert_true(lane_submit(fixture.lane, counting_apply, counting_done, counting, &error));
    g_assert_true(lane_submit(fixture.lane, step_apply, step_done, &steps[1], &error));
    while (g_atomic_int_get((gint *)&counting->tried) == 0 ||
           (counting->connect == lane_batch_connection &&
            g_atomic_int_get((gint *)&steps[1].applied) == 0))
        g_usleep(500);
    g_assert_cmpint(g_atomic_int_get(&counting->done), ==, 0);
    gate_open(&gate);
    steps_wait(steps, 2);
    while (g_atomic_int_get(&counting->done) == 0)
        g_usleep(500);
    g_assert_no_error(counting->error);
    g_assert_no_error(steps[0].error);
    g_assert_no_error(steps[1].error);
    g_assert_cmpint(steps[0].position, ==, 1);
    g_assert_cmpint(steps[1].position, ==, 2);
    /* however often it was tried, it wrote once */
    g_assert_cmpint(test_database_count(fixture.database, "SELECT count(*) FROM written"), ==, 4);
    batches = test_database_count(fixture.database, "SELECT count(*) FROM lane_batch");
    fixture_clear(&fixture);
    return batches;
}

static void
test_who_must_see_what_was_before_waits_for_it(void)
{
    Counting plain = {.connect = lane_batch_connection};
    Counting settled = {.connect = lane_batch_settled_connection};
    Counting first = {.connect = lane_batch_first_connection};
    Counting swallowing = {.connect = lane_batch_settled_connection, .swallow = TRUE};
    /* the gate's batch, and that of all three, which goes on what was there before the gate */
    g_assert_cmpint(count_between(&plain), ==, 2);
    g_assert_cmpint(plain.count, ==, 0);
    g_assert_cmpuint(plain.tried, ==, 1);
    /* what waits begins a batch, behind that of "a" */
    g_assert_cmpint(count_between(&settled), ==, 3);
    g_assert_cmpint(settled.count, ==, 2);
    g_assert_cmpuint(settled.tried, ==, 2);
    g_assert_cmpint(count_between(&first), ==, 3);
    g_assert_cmpint(first.count, ==, 2);
    g_assert_cmpint(count_between(&swallowing), ==, 3);
    g_assert_cmpint(swallowing.count, ==, 2);
}

/* Several that wait at the same time: each sees the one before it, but those that may stand in one
 * batch do. */
static void
test_those_who_wait_see_each_other(void)
{
    for (guint i = 0; i < 2; i++) {
        Fixture fixture;
        g_autoptr(GError) error = NULL;
        Gate gate = {0};
        gboolean first = i == 1;
        Counting counting[3] = {{0}};
        Step step = {.name = "a"};
        fixture_init(&fixture);
        fixture_open_lane(&fixture, 100);
        g_free(test_database_query(fixture.database,
                                   "ALTER TABLE written DROP CONSTRAINT written_pkey"));
        g_free(test_database_query(fixture.database,
                                   "CREATE UNIQUE INDEX ON written (name) WHERE name = 'gate'"));
        gate_shut(&fixture, &gate);
        for (guint j = 0; j < 3; j++) {
            counting[j].connect =
                first ? lane_batch_first_connection : lane_batch_settled_connection;
            g_assert_true(
                lane_submit(fixture.lane, counting_apply, counting_done, &counting[j], &error));
        }
        g_assert_true(lane_submit(fixture.lane, step_apply, step_done, &step, &error));
        gate_open(&gate);
        steps_wait(&step, 1);
        for (guint j = 0; j < 3; j++) {
            while (g_atomic_int_get(&counting[j].done) == 0)
                g_usleep(500);
            g_assert_no_error(counting[j].error);
            g_assert_cmpint(counting[j].count, ==, first ? 1 + j : 1);
        }
        g_assert_cmpint(test_database_count(fixture.database, "SELECT count(*) FROM lane_batch"),
                        ==, first ? 4 : 2);
        fixture_clear(&fixture);
    }
}

static void
test_full_queue_is_refused_at_its_limit(void)
{
    Fixture fixture;
    g_autoptr(GError) error = NULL;
    GMutex gate;
    Step first = {.name = "first", .no_entry = TRUE, .gate = &gate};
    Step steps[3] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 2);
    g_mutex_init(&gate);
    g_mutex_lock(&gate);
    g_assert_true(lane_submit(fixture.lane, step_apply, step_done, &first, &error));
    while (g_atomic_int_get((gint *)&first.applied) == 0) /* taken out of the queue */
        g_usleep(500);
    g_assert_true(lane_submit(fixture.lane, step_apply, step_done, &steps[0], &error));
    g_assert_true(lane_submit(fixture.lane, step_apply, step_done, &steps[1], &error));
    g_assert_false(lane_submit(fixture.lane, step_apply, step_done, &steps[2], &error));
    g_assert_error(error, STORE_ERROR, STORE_ERROR_BUSY);
    g_clear_error(&error);
    g_mutex_unlock(&gate);
    steps_wait(steps, 2);
    /* a stopped lane takes nothing */
    lane_stop(fixture.lane, 1000);
    g_assert_false(lane_submit(fixture.lane, step_apply, step_done, &steps[2], &error));
    g_assert_cmpint(steps[2].done, ==, 0);
    g_mutex_clear(&gate);
    fixture_clear(&fixture);
}

static void
test_stop_finishes_what_is_queued(void)
{
    Fixture fixture;
    g_autoptr(GError) error = NULL;
    Step steps[50] = {0};
    char names[50][8];
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    for (guint i = 0; i < 50; i++) {
        g_snprintf(names[i], sizeof names[i], "s%02u", i);
        steps[i].name = names[i];
        g_assert_true(lane_submit(fixture.lane, step_apply, step_done, &steps[i], &error));
    }
    lane_stop(fixture.lane, 20000);
    for (guint i = 0; i < 50; i++) {
        g_assert_cmpint(steps[i].done, ==, 1);
        g_assert_no_error(steps[i].error);
    }
    fixture_clear(&fixture);
}

static void
test_terminated_backend_is_replaced(void)
{
    Fixture fixture;
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    for (guint i = 0; i < 5; i++) {
        char name[8];
        Step step = {.name = name};
        g_snprintf(name, sizeof name, "s%u", i);
        steps_submit(&fixture, &step, 1);
        g_assert_no_error(step.error);
        g_assert_cmpint(step.position, ==, i + 1);
        g_free(test_database_query(fixture.database,
                                   "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                                   " WHERE application_name = 'chancery'"
                                   " AND datname = current_database()"));
    }
    fixture_clear(&fixture);
}

/* Cut the line at COMMIT: before PostgreSQL hears of it, or after it has answered and before we
 * hear. */
static void
check_lost_commit(ProxyCut cut)
{
    Fixture fixture;
    g_autoptr(TestProxy) proxy = NULL;
    g_autoptr(GString) trace = g_string_new(NULL);
    g_autoptr(GPtrArray) entries = NULL;
    Step before = {.name = "before"};
    Step steps[3] = {{.name = "a", .trace = trace},
                     {.name = "b", .trace = trace},
                     {.name = "c", .trace = trace}};
    Gate gate = {0};
    StorePool *pool;

    fixture_init(&fixture);
    proxy = test_proxy_new(fixture.database->conninfo);
    pool = fixture.pool = store_pool_new(test_proxy_conninfo(proxy), 4);
    fixture_open_lane(&fixture, 100);
    steps_submit(&fixture, &before, 1);
    gate.step.trace = trace;
    gate_shut(&fixture, &gate);
    steps_apply(&fixture, steps, 3);
    test_proxy_cut_at_commit(proxy, cut, 1); /* the gate's has passed: the batch of three */
    gate_open(&gate);
    steps_wait(steps, 3);
    g_assert_cmpuint(test_proxy_cuts(proxy), ==, 1);
    for (guint i = 0; i < 3; i++) {
        g_assert_no_error(steps[i].error);
        g_assert_cmpint(steps[i].position, ==, i + 2);
    }
    g_assert_cmpstr(trace->str, ==,
                    cut == PROXY_CUT_AFTER ? "+gate+a+b+c" : "+gate+a+b+c-c-b-a+a+b+c");
    g_assert_cmpint(
        test_database_count(fixture.database, "SELECT count(*) FROM written WHERE position > 0"),
        ==, 4);
    g_assert_cmpint(test_database_count(fixture.database, "SELECT count(*) FROM log"), ==, 4);
    g_assert_true(log_ring_read(fixture.ring, 0, 10, &entries));
    g_assert_cmpuint(entries->len, ==, 4);
    fixture_close_lane(&fixture);
    store_pool_free(pool);
    test_database_free(fixture.database);
}

static void
test_connection_lost_before_commit_writes_once(void)
{
    check_lost_commit(PROXY_CUT_BEFORE);
}

static void
test_connection_lost_after_commit_writes_once(void)
{
    check_lost_commit(PROXY_CUT_AFTER);
}

static void
test_second_lane_fences_the_first(void)
{
    Fixture fixture;
    g_autoptr(GError) error = NULL;
    LogRing *ring;
    Lane *second;
    Step one = {.name = "one"}, two = {.name = "two"}, three = {.name = "three"},
         four = {.name = "four"};
    LogHead head = {0, 0};
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    steps_submit(&fixture, &one, 1);
    ring = log_ring_new(1024, head);
    second = lane_new(fixture.pool, ring, 10, &error);
    g_assert_no_error(error);
    g_assert_cmpint(log_ring_head(ring).position, ==, 1);
    steps_submit(&fixture, &two, 1);
    g_assert_error(two.error, STORE_ERROR, STORE_ERROR_FENCED);
    g_assert_cmpint(test_database_count(fixture.database, "SELECT count(*) FROM log"), ==, 1);
    g_assert_true(lane_submit(second, step_apply, step_done, &three, &error));
    steps_wait(&three, 1);
    g_assert_no_error(three.error);
    g_assert_cmpint(three.position, ==, 2);
    steps_submit(&fixture, &four, 1); /* and it stays so */
    g_assert_error(four.error, STORE_ERROR, STORE_ERROR_FENCED);
    g_clear_error(&two.error);
    g_clear_error(&four.error);
    lane_free(second);
    log_ring_free(ring);
    fixture_clear(&fixture);
}

static void
test_raised_epoch_is_noticed(void)
{
    Fixture fixture;
    Step one = {.name = "one"}, two = {.name = "two"};
    g_autoptr(GPtrArray) entries = NULL;
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 100);
    steps_submit(&fixture, &one, 1);
    g_free(test_database_query(
        fixture.database, "UPDATE log_head SET epoch = epoch + 1, position = position + 1000"));
    steps_submit(&fixture, &two, 1);
    g_assert_no_error(two.error);
    g_assert_cmpint(two.position, ==, 1002);
    g_assert_cmpint(log_ring_head(fixture.ring).epoch, ==, 2);
    g_assert_false(log_ring_read(fixture.ring, 1, 10, &entries)); /* a hole: ask the database */
    fixture_clear(&fixture);
}

static void
test_absent_postgresql_answers_unavailable_then_comes_back(void)
{
    Fixture fixture;
    g_autoptr(TestProxy) proxy = NULL;
    StorePool *pool;
    Step one = {.name = "one"}, two = {.name = "two"}, three = {.name = "three"};
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    proxy = test_proxy_new(fixture.database->conninfo);
    pool = fixture.pool = store_pool_new(test_proxy_conninfo(proxy), 4);
    fixture_open_lane(&fixture, 100);
    g_assert_true(lane_submit(fixture.lane, step_apply, step_done, &one, &error));
    steps_wait(&one, 1);
    test_proxy_refuse(proxy, TRUE); /* cuts all and takes no one in */
    g_assert_true(lane_submit(fixture.lane, step_apply, step_done, &two, &error));
    steps_wait(&two, 1);
    g_assert_error(two.error, STORE_ERROR, STORE_ERROR_UNAVAILABLE);
    g_assert_cmpuint(two.applied, ==, 0);
    test_proxy_refuse(proxy, FALSE);
    g_assert_true(lane_submit(fixture.lane, step_apply, step_done, &three, &error));
    steps_wait(&three, 1);
    g_assert_no_error(three.error);
    g_assert_cmpint(three.position, ==, 2);
    g_clear_error(&two.error);
    fixture_close_lane(&fixture);
    store_pool_free(pool);
    test_database_free(fixture.database);
}

/* The database does not come back before the lane has to end: the operation is told once that
 * nobody knows, and memory is rolled back. */
static void
test_stop_with_an_unknown_outcome_tells_so(void)
{
    Fixture fixture;
    g_autoptr(TestProxy) proxy = NULL;
    g_autoptr(GString) trace = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    Step step = {.name = "a", .trace = trace};
    StorePool *pool;
    fixture_init(&fixture);
    proxy = test_proxy_new(fixture.database->conninfo);
    pool = fixture.pool = store_pool_new(test_proxy_conninfo(proxy), 4);
    fixture_open_lane(&fixture, 100);
    test_proxy_cut_at_commit(proxy, PROXY_CUT_AFTER_FOR_GOOD, 1);
    g_assert_true(lane_submit(fixture.lane, step_apply, step_done, &step, &error));
    while (test_proxy_cuts(proxy) == 0)
        g_usleep(500);
    g_assert_cmpint(g_atomic_int_get(&step.done), ==, 0);
    lane_stop(fixture.lane, 100);
    g_assert_cmpint(step.done, ==, 1);
    g_assert_error(step.error, STORE_ERROR, STORE_ERROR_UNAVAILABLE);
    g_assert_cmpstr(trace->str, ==, "+a-a");
    g_clear_error(&step.error);
    fixture_close_lane(&fixture);
    store_pool_free(pool);
    test_database_free(fixture.database);
}

/* PostgreSQL waits for a standby that is not there; somebody cancels the wait: COMMIT comes back
 * with a WARNING, visible here and durable nowhere else.  The lane must not take that for an
 * answer, until the standby's wait is over. */
static void
test_warning_on_commit_is_no_acknowledgement(void)
{
    g_autoptr(TestCluster) cluster = test_cluster_new();
    g_autoptr(GError) error = NULL;
    Step step = {.name = "a"};
    LogRing *ring;
    Lane *lane;
    StorePool *pool;
    if (cluster == NULL) {
        g_test_skip("no PostgreSQL binaries here");
        return;
    }
    pool = store_pool_new(test_cluster_conninfo(cluster), 2);
    g_assert_true(store_migrate(pool, NULL, &error));
    g_free(test_cluster_query(cluster, "CREATE TABLE written (name text COLLATE \"C\" PRIMARY KEY,"
                                       " position bigint NOT NULL)"));
    ring = log_ring_new(1 << 20, (LogHead){0, 0});
    lane = lane_new(pool, ring, 10, &error);
    g_assert_no_error(error);
    g_free(test_cluster_query(cluster, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'"));
    g_free(test_cluster_query(cluster, "SELECT pg_reload_conf()"));
    cluster_wait(cluster, "SELECT 1 WHERE current_setting('synchronous_standby_names') = 'nobody'");
    g_assert_true(lane_submit(lane, step_apply, step_done, &step, &error));
    cluster_wait(cluster, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                          " WHERE wait_event = 'SyncRep' AND query = 'COMMIT'");
    /* It comes back and waits again, with the take-over that settles the matter. */
    cluster_wait(cluster, "SELECT 1 FROM pg_stat_activity"
                          " WHERE wait_event = 'SyncRep' AND query LIKE 'UPDATE log_head%'");
    {
        g_autofree char *visible = test_cluster_query(cluster, "SELECT count(*) FROM written");
        g_assert_cmpstr(visible, ==, "1");
    }
    g_assert_cmpint(g_atomic_int_get(&step.done), ==, 0);
    g_assert_cmpint(log_ring_head(ring).position, ==, 0);
    g_free(test_cluster_query(cluster, "ALTER SYSTEM RESET synchronous_standby_names"));
    g_free(test_cluster_query(cluster, "SELECT pg_reload_conf()"));
    steps_wait(&step, 1);
    g_assert_no_error(step.error);
    g_assert_cmpint(step.position, ==, 1);
    g_assert_cmpuint(step.applied, ==, 1);
    lane_free(lane);
    log_ring_free(ring);
    store_pool_free(pool);
}

typedef struct {
    Lane *lane;
    guint thread;
} Writer;

static gboolean
writer_apply(LaneBatch *batch, gpointer data, GError **error)
{
    Writer *writer = data;
    g_autofree char *user = g_strdup_printf("@u%u:example.org", writer->thread);
    lane_batch_log(batch, log_entry_new(LOG_PROFILE, NULL, user, NULL));
    return TRUE;
}

static gpointer
writer_thread(gpointer data)
{
    Writer *writer = data;
    gint64 last = 0;
    for (guint i = 0; i < 100; i++) {
        g_autoptr(GError) error = NULL;
        gint64 position = 0;
        g_assert_true(lane_submit_and_wait(writer->lane, writer_apply, writer, &position, &error));
        g_assert_cmpint(position, >, last);
        last = position;
    }
    return NULL;
}

static void
test_many_writers_make_one_order(void)
{
    Fixture fixture;
    Writer writers[8];
    GThread *threads[8];
    fixture_init(&fixture);
    fixture_open_lane(&fixture, 1000);
    for (guint i = 0; i < 8; i++) {
        writers[i] = (Writer){fixture.lane, i};
        threads[i] = g_thread_new("writer", writer_thread, &writers[i]);
    }
    for (guint i = 0; i < 8; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(test_database_count(fixture.database, "SELECT count(*) FROM log"), ==, 800);
    g_assert_cmpint(test_database_count(fixture.database, "SELECT max(position) FROM log"), ==,
                    800);
    g_assert_cmpint(test_database_count(fixture.database,
                                        "SELECT count(*) FROM lane_batch WHERE position = 800"),
                    ==, 1);
    fixture_clear(&fixture);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/lane/order", test_entries_follow_one_another);
    g_test_add_func("/lane/refused", test_refused_operation_leaves_the_others);
    g_test_add_func("/lane/failed", test_failed_batch_is_rolled_back_and_runs_one_by_one);
    g_test_add_func("/lane/failed-below", test_failed_batch_takes_the_next_one_back_with_it);
    g_test_add_func("/lane/follows", test_next_batch_follows_the_one_under_way);
    g_test_add_func("/lane/rows", test_rows_of_a_batch_are_gathered);
    g_test_add_func("/lane/conflict", test_same_key_twice_conflicts_for_the_second);
    g_test_add_func("/lane/utf8", test_text_that_is_not_utf8_refuses_its_operation_alone);
    g_test_add_func("/lane/history", test_history_falls_below_everything);
    g_test_add_func("/lane/reads", test_apply_reads_what_is_committed);
    g_test_add_func("/lane/settled", test_who_must_see_what_was_before_waits_for_it);
    g_test_add_func("/lane/settled-together", test_those_who_wait_see_each_other);
    g_test_add_func("/lane/full", test_full_queue_is_refused_at_its_limit);
    g_test_add_func("/lane/stop", test_stop_finishes_what_is_queued);
    g_test_add_func("/lane/terminated", test_terminated_backend_is_replaced);
    g_test_add_func("/lane/lost-before-commit", test_connection_lost_before_commit_writes_once);
    g_test_add_func("/lane/lost-after-commit", test_connection_lost_after_commit_writes_once);
    g_test_add_func("/lane/fenced", test_second_lane_fences_the_first);
    g_test_add_func("/lane/epoch", test_raised_epoch_is_noticed);
    g_test_add_func("/lane/away", test_absent_postgresql_answers_unavailable_then_comes_back);
    g_test_add_func("/lane/stop-unknown", test_stop_with_an_unknown_outcome_tells_so);
    g_test_add_func("/lane/warning", test_warning_on_commit_is_no_acknowledgement);
    g_test_add_func("/lane/writers", test_many_writers_make_one_order);
    return g_test_run();
}
