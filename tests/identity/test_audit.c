/* The audit log: it only grows, in the order of commits; refusals are counted above a rate; the
 * clock is held against it. */
#include <libpq-fe.h>
#include <string.h>

#include "identity/audit.h"
#include "identity/clock.h"
#include "identity/clock_rule.h"
#include "identity/refusal.h"
#include "storage/serving_role.h"
#include "tests/support/database.h"

#define THREADS 4
#define LINES_A_THREAD 200

typedef struct {
    TestDatabase *database;
    LogRing *ring;
    Lane *lane;
} House;

static void
set_up(House *house, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    house->database = test_database_new(THREADS + 2);
    g_autoptr(StoreConnection) connection = store_borrow(house->database->pool, &error);
    LogHead head = {0};
    log_head_read(connection, &head, &error);
    g_assert_no_error(error);
    house->ring = log_ring_new(1024 * 1024, head);
    house->lane = lane_new(house->database->pool, house->ring, 10000, &error);
    g_assert_no_error(error);
}

static void
stop_lane(House *house)
{
    if (house->lane == NULL)
        return;
    lane_stop(house->lane, 10000);
    g_clear_pointer(&house->lane, lane_free);
}

static void
tear_down(House *house, gconstpointer data)
{
    clock_shift_for_tests(0);
    clock_step_wall_for_tests(0);
    stop_lane(house);
    log_ring_free(house->ring);
    test_database_free(house->database);
}

/* The SQLSTATE that @sql fails with; "" when it succeeds. */
static char *
state_of(const char *conninfo, const char *sql)
{
    PGconn *connection = PQconnectdb(conninfo);
    g_assert_cmpint(PQstatus(connection), ==, CONNECTION_OK);
    PGresult *result = PQexec(connection, sql);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    char *copy = g_strdup(state != NULL ? state : "");
    PQclear(result);
    PQfinish(connection);
    return copy;
}

static void
assert_denied(const char *conninfo, const char *sql)
{
    g_autofree char *state = state_of(conninfo, sql);
    if (strcmp(state, "42501") != 0) /* insufficient_privilege */
        g_error("%s: \"%s\" instead of a refusal", sql, state);
}

static const char *const changes[] = {
    "UPDATE audit SET type = 'x'",
    "DELETE FROM audit",
    "TRUNCATE audit",
    "DELETE FROM audit_head",
};

static void
test_only_grows_even_for_its_owner(House *house, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(house->database->pool, &error);
    g_autoptr(StoreWrites) writes = store_writes_new();
    AuditLine line = {.type = "test"};
    audit_line(writes, &line);
    g_assert_true(store_writes_run(writes, connection, &error));
    for (gsize i = 0; i < G_N_ELEMENTS(changes); i++)
        assert_denied(house->database->conninfo, changes[i]);
    g_assert_cmpint(test_database_count(house->database, "SELECT count(*) FROM audit"), ==, 1);
}

static void
test_serving_role(House *house, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    gboolean narrow = TRUE;
    g_autofree char *role = g_strdup_printf("%s_app", house->database->name);
    g_autofree char *make = g_strdup_printf("CREATE ROLE \"%s\" LOGIN", role);
    g_autofree char *made = test_database_query(house->database, make);
    g_autoptr(StoreConnection) owner = store_borrow(house->database->pool, &error);
    serving_role_grant(owner, role, &error);
    g_assert_no_error(error);
    g_assert_true(serving_role_is_narrow(owner, &narrow, &error));
    g_assert_false(narrow);
    {
        g_autofree char *conninfo =
            g_strdup_printf("%s user='%s'", house->database->conninfo, role);
        StorePool *pool = store_pool_new(conninfo, 2);
        {
            g_autoptr(StoreConnection) serving = store_borrow(pool, &error);
            g_assert_no_error(error);
            g_autoptr(StoreWrites) writes = store_writes_new();
            AuditLine line = {.type = "test"};
            g_assert_true(serving_role_is_narrow(serving, &narrow, &error));
            g_assert_true(narrow);
            /* It appends, and it writes elsewhere. */
            audit_line(writes, &line);
            store_writes_run(writes, serving, &error);
            g_assert_no_error(error);
            g_autofree char *insert =
                state_of(conninfo, "INSERT INTO account (user_id, created_ms) VALUES ('@a:b', 0)");
            g_assert_cmpstr(insert, ==, "");
        }
        static const char *const more[] = {
            "ALTER TABLE audit DISABLE TRIGGER audit_only_grows",
            "DROP TRIGGER audit_only_grows ON audit",
            "DROP TABLE audit",
            "INSERT INTO migration (number, name) VALUES (9999, 'x')",
            "CREATE TABLE sneaky (x int)",
            "SELECT grant_serving_role(current_user::text)",
        };
        for (gsize i = 0; i < G_N_ELEMENTS(changes); i++)
            assert_denied(conninfo, changes[i]);
        for (gsize i = 0; i < G_N_ELEMENTS(more); i++)
            assert_denied(conninfo, more[i]);
        store_pool_free(pool);
    }
    g_autofree char *drop = g_strdup_printf("DROP OWNED BY \"%s\"; DROP ROLE \"%s\"", role, role);
    g_autofree char *dropped = test_database_query(house->database, drop);
    (void)made;
    (void)dropped;
}

static gboolean
append_one(LaneBatch *batch, gpointer data, GError **error)
{
    AuditLine line = {.type = "test", .actor = "thread"};
    audit_line_to_batch(batch, &line);
    return TRUE;
}

/* Some lines through the lane, some in transactions of their own, a third of those rolled back. */
static gpointer
write_lines(gpointer data)
{
    House *house = data;
    for (guint i = 0; i < LINES_A_THREAD; i++) {
        g_autoptr(GError) error = NULL;
        if (i % 2 == 0) {
            lane_submit_and_wait(house->lane, append_one, NULL, NULL, &error);
            g_assert_no_error(error);
            continue;
        }
        g_autoptr(StoreConnection) connection = store_borrow(house->database->pool, &error);
        g_autoptr(StoreWrites) writes = store_writes_new();
        AuditLine line = {.type = "test", .actor = "own"};
        g_assert_no_error(error);
        audit_line(writes, &line);
        g_assert_true(store_begin(connection, &error));
        g_assert_true(store_writes_run(writes, connection, &error));
        if (i % 3 == 0)
            store_rollback(connection);
        else
            g_assert_true(store_commit(connection, &error));
    }
    return NULL;
}

static void
test_no_number_is_missing(House *house, gconstpointer data)
{
    GThread *threads[THREADS];
    guint expected = 0;
    for (guint i = 0; i < LINES_A_THREAD; i++)
        expected += i % 2 == 0 || i % 3 != 0;
    for (guint i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("writer", write_lines, house);
    for (guint i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(test_database_count(house->database, "SELECT count(*) FROM audit"), ==,
                    expected * THREADS);
    g_assert_cmpint(test_database_count(house->database, "SELECT max(seq) FROM audit"), ==,
                    expected * THREADS);
    g_assert_cmpint(test_database_count(house->database, "SELECT min(seq) FROM audit"), ==, 1);
}

static gboolean
keep_line(gint64 seq, gint64 time_ms, const AuditLine *line, const char *refs, gpointer data)
{
    GString *text = data;
    g_string_append_printf(text, "%s|%s|%s|%s;", line->type, line->rule, line->decision, refs);
    return TRUE;
}

/* What comes from outside cannot stop a line: bytes that are no text, and too many of them. */
static void
test_outside_text(House *house, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) longest = g_string_new(NULL);
    while (longest->len < 512)
        g_string_append_c(longest, 'a');
    g_autofree char *fits = g_strdup(longest->str);
    g_string_append(longest, "\303\244");
    g_autofree char *split =
        g_strdup_printf("%.511s\303\244", fits); /* an a umlaut across the limit */
    const char *const texts[] = {"\377\376", longest->str, fits, split};
    g_autoptr(StoreConnection) connection = store_borrow(house->database->pool, &error);
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(StoreWrites) writes = store_writes_new();
        AuditLine line = {.type = "test", .object = texts[i]};
        audit_line(writes, &line);
        store_writes_run(writes, connection, &error);
        g_assert_no_error(error);
    }
    g_autofree char *lengths = test_database_query(
        house->database,
        "SELECT string_agg(octet_length(object)::text, ' ' ORDER BY seq) FROM audit");
    g_assert_cmpstr(lengths, ==, "6 512 512 511");
}

static void
test_refusals_are_counted_above_a_rate(House *house, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) text = g_string_new(NULL);
    gint64 last = 0;
    Audit *audit = audit_new(house->lane, 3);
    AuditLine expired = {.type = "login", .rule = "expired"};
    AuditLine revoked = {.type = "login", .rule = "revoked"};
    for (guint i = 0; i < 10; i++)
        audit_refusal(audit, &expired);
    for (guint i = 0; i < 3; i++)
        audit_refusal(audit, &revoked);
    clock_shift_for_tests(61 * 1000);
    audit_tick(audit); /* the minute is over: seven more in one line, none for revoked */
    for (guint i = 0; i < 4; i++)
        audit_refusal(audit, &revoked);
    audit_free(audit); /* what is open is not lost */
    stop_lane(house);
    g_autoptr(StoreConnection) connection = store_borrow(house->database->pool, &error);
    g_assert_true(audit_read(connection, 0, 100, keep_line, text, &last, &error));
    g_assert_cmpstr(text->str, ==,
                    "login|expired|refused|{};login|expired|refused|{};login|expired|refused|{};"
                    "login|revoked|refused|{};login|revoked|refused|{};login|revoked|refused|{};"
                    "login|expired|refused|{\"more\":7};"
                    "login|revoked|refused|{};login|revoked|refused|{};login|revoked|refused|{};"
                    "login|revoked|refused|{\"more\":1};");
    g_assert_cmpint(last, ==, 11);
}

/* ---- the clock ---- */

static void
test_start_before_build(House *house, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(house->database->pool, &error);
    g_assert_true(clock_rule_check_start(connection, &error));
    clock_step_wall_for_tests(clock_rule_build_ms() - clock_wall_ms() - 1000);
    g_assert_false(clock_rule_check_start(connection, &error));
    g_assert_nonnull(strstr(error->message, "was built"));
}

static void
test_start_before_newest_line(House *house, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(house->database->pool, &error);
    g_autoptr(StoreWrites) writes = store_writes_new();
    AuditLine line = {.type = "test"};
    clock_step_wall_for_tests((gint64)48 * 3600 * 1000);
    audit_line(writes, &line);
    g_assert_true(store_writes_run(writes, connection, &error));
    g_assert_true(clock_rule_check_start(connection, &error));
    clock_step_wall_for_tests(0); /* two days back */
    g_assert_false(clock_rule_check_start(connection, &error));
    g_assert_nonnull(strstr(error->message, "audit log"));
}

static void
test_step_freezes_log_ins(House *house, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(house->database->pool, &error);
    g_assert_true(clock_rule_check_start(connection, &error));
    g_assert_true(clock_rule_check_step(&error));
    clock_shift_for_tests(3600 * 1000); /* an hour passes: no step */
    g_assert_true(clock_rule_check_step(&error));
    static const gint64 steps_ms[] = {119 * 1000, -119 * 1000};
    for (gsize i = 0; i < G_N_ELEMENTS(steps_ms); i++) {
        clock_step_wall_for_tests(steps_ms[i]);
        g_assert_true(clock_rule_check_step(&error));
    }
    static const gint64 leaps_ms[] = {121 * 1000, -121 * 1000};
    for (gsize i = 0; i < G_N_ELEMENTS(leaps_ms); i++) {
        clock_step_wall_for_tests(leaps_ms[i]);
        g_assert_false(clock_rule_check_step(&error));
        g_assert_error(error, REFUSAL, 503);
        g_clear_error(&error);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add(name, House, NULL, set_up, function, tear_down)
    ADD("/audit/only-grows-even-for-its-owner", test_only_grows_even_for_its_owner);
    ADD("/audit/serving-role", test_serving_role);
    ADD("/audit/no-number-is-missing", test_no_number_is_missing);
    ADD("/audit/outside-text", test_outside_text);
    ADD("/audit/refusals-are-counted-above-a-rate", test_refusals_are_counted_above_a_rate);
    ADD("/clock-rule/start-before-build", test_start_before_build);
    ADD("/clock-rule/start-before-newest-line", test_start_before_newest_line);
    ADD("/clock-rule/step-freezes-log-ins", test_step_freezes_log_ins);
    return g_test_run();
}
