/* The pool, statements, values in both directions, and what happens when sessions die. */
#include "storage/store.h"

#include <string.h>

#include "storage/migrate.h"
#include "tests/support/database.h"

static const StoreStatement echo_statement = {
    "test_echo", "SELECT $1::text, $2::bigint, $3::boolean, $4::bytea, $5::text IS NULL"};
static const StoreStatement arrays_statement = {
    "test_arrays", "SELECT t, i, b FROM unnest($1::text[], $2::bigint[], $3::bytea[])"
                   " WITH ORDINALITY AS rows (t, i, b, n) ORDER BY n"};
static const StoreStatement one_statement = {"test_one", "SELECT 1::bigint"};
static const StoreStatement pid_statement = {"test_pid", "SELECT pg_backend_pid()"};
static const StoreStatement sum_statement = {"test_sum",
                                             "SELECT sum(n::bigint) FROM generate_series(1, 3) n"};
static const StoreStatement divide_statement = {"test_divide", "SELECT 1 / $1"};
static const StoreStatement insert_statement = {
    "test_insert",
    "INSERT INTO room (room_id, version, seed, created_ms) VALUES ($1, '12', '', 0)"};
static const StoreStatement limit_statement = {"test_limit",
                                               "SELECT n FROM generate_series(1, 9) n LIMIT $1"};

static void
test_values_come_back_as_they_went(void)
{
    g_autoptr(TestDatabase) database = test_database_new(2);
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(database->pool, &error);
    g_autoptr(GBytes) bytes = g_bytes_new("a\0b\xff", 4);
    g_autoptr(GBytes) back = NULL;
    g_autoptr(StoreRows) rows = NULL;

    g_assert_no_error(error);
    rows = store_run(connection, &echo_statement,
                     store_arguments("tibyt", "h\xc3\xa9", (gint64)G_MININT64, TRUE, bytes, NULL),
                     &error);
    g_assert_no_error(error);
    g_assert_cmpuint(store_rows_count(rows), ==, 1);
    g_assert_cmpstr(store_rows_text(rows, 0, 0), ==, "h\xc3\xa9");
    g_assert_cmpint(store_rows_integer(rows, 0, 1), ==, G_MININT64);
    g_assert_true(store_rows_boolean(rows, 0, 2));
    back = store_rows_bytes(rows, 0, 3);
    g_assert_true(g_bytes_equal(back, bytes));
    g_assert_true(store_rows_boolean(rows, 0, 4));
}

static void
test_arrays_keep_order_and_nulls(void)
{
    g_autoptr(TestDatabase) database = test_database_new(1);
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(database->pool, &error);
    g_autoptr(GBytes) bytes = g_bytes_new_static("xy", 2);
    g_autoptr(GBytes) empty = g_bytes_new_static("", 0);
    const char *texts[] = {"one", NULL, ""};
    const gint64 integers[] = {7, -1, G_MAXINT64};
    GBytes *blobs[] = {NULL, bytes, empty};
    StoreArguments *arguments = store_arguments_new();
    g_autoptr(StoreRows) rows = NULL;
    gsize length = 99;

    store_arguments_text_array(arguments, texts, 3);
    store_arguments_integer_array(arguments, integers, 3);
    store_arguments_bytes_array(arguments, blobs, 3);
    rows = store_run(connection, &arrays_statement, arguments, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(store_rows_count(rows), ==, 3);
    g_assert_cmpstr(store_rows_text(rows, 0, 0), ==, "one");
    g_assert_null(store_rows_text(rows, 1, 0));
    g_assert_cmpstr(store_rows_text(rows, 2, 0), ==, "");
    g_assert_cmpint(store_rows_integer(rows, 2, 1), ==, G_MAXINT64);
    g_assert_null(store_rows_data(rows, 0, 2, &length));
    g_assert_cmpmem(store_rows_data(rows, 1, 2, &length), 2, "xy", 2);
    g_assert_nonnull(store_rows_data(rows, 2, 2, &length));
    g_assert_cmpuint(length, ==, 0);

    g_clear_pointer(&rows, store_rows_free);
    arguments = store_arguments_new();
    store_arguments_text_array(arguments, NULL, 0);
    store_arguments_integer_array(arguments, NULL, 0);
    store_arguments_bytes_array(arguments, NULL, 0);
    rows = store_run(connection, &arrays_statement, arguments, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(store_rows_count(rows), ==, 0);
}

static void
test_errors_have_their_kind(void)
{
    g_autoptr(TestDatabase) database = test_database_new(1);
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(database->pool, &error);

    g_assert_false(
        store_do(connection, &divide_statement, store_arguments("i", (gint64)0), &error));
    g_assert_error(error, STORE_ERROR, STORE_ERROR_FAILED);
    g_clear_error(&error);
    /* text that is not UTF-8 never leaves */
    g_assert_false(store_do(connection, &insert_statement, store_arguments("t", "\xff"), &error));
    g_assert_error(error, STORE_ERROR, STORE_ERROR_FAILED);
    g_clear_error(&error);
    g_assert_true(store_do(connection, &insert_statement, store_arguments("t", "!a"), &error));
    g_assert_false(store_do(connection, &insert_statement, store_arguments("t", "!a"), &error));
    g_assert_error(error, STORE_ERROR, STORE_ERROR_CONFLICT);
    g_clear_error(&error);
    /* numeric is no type of ours */
    g_assert_false(store_do(connection, &sum_statement, NULL, &error));
    g_assert_error(error, STORE_ERROR, STORE_ERROR_FAILED);
    g_clear_error(&error);
    /* and the connection still works */
    g_assert_true(store_do(connection, &limit_statement, store_arguments("i", (gint64)4), &error));
    g_assert_no_error(error);
}

static void
test_returned_transaction_is_rolled_back(void)
{
    g_autoptr(TestDatabase) database = test_database_new(1);
    g_autoptr(GError) error = NULL;
    StoreConnection *connection = store_borrow(database->pool, &error);

    g_assert_true(store_begin(connection, &error));
    g_assert_true(store_do(connection, &insert_statement, store_arguments("t", "!lost"), &error));
    store_return(connection);
    connection = store_borrow(database->pool, &error);
    g_assert_true(store_begin(connection, &error));
    g_assert_true(store_do(connection, &insert_statement, store_arguments("t", "!kept"), &error));
    g_assert_true(store_commit(connection, &error));
    /* COMMIT of a failed transaction is no success */
    g_assert_true(store_begin(connection, &error));
    g_assert_false(store_do(connection, &insert_statement, store_arguments("t", "!kept"), NULL));
    g_assert_false(store_commit(connection, &error));
    store_return(connection);
    g_assert_cmpint(test_database_count(database, "SELECT count(*) FROM room"), ==, 1);
    g_assert_cmpint(
        test_database_count(database, "SELECT count(*) FROM room WHERE room_id = '!kept'"), ==, 1);
}

static void
test_terminated_sessions_are_replaced(void)
{
    g_autoptr(TestDatabase) database = test_database_new(2);
    g_autoptr(GError) error = NULL;
    StoreConnection *one = store_borrow(database->pool, &error);
    StoreConnection *two = store_borrow(database->pool, &error);
    g_autofree char *killed = NULL;

    g_assert_true(store_do(one, &pid_statement, NULL, &error));
    g_assert_true(store_do(two, &pid_statement, NULL, &error));
    store_return(one);
    killed = test_database_query(
        database, "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
                  " WHERE application_name = 'chancery' AND datname = current_database()");
    g_assert_cmpstr(killed, ==, "2");
    /* borrowed: the loss shows; idle: nobody sees it */
    g_assert_false(store_do(two, &pid_statement, NULL, &error));
    g_assert_error(error, STORE_ERROR, STORE_ERROR_UNAVAILABLE);
    g_clear_error(&error);
    store_return(two);
    for (guint i = 0; i < 4; i++) {
        one = store_borrow(database->pool, &error);
        g_assert_no_error(error);
        two = store_borrow(database->pool, &error);
        g_assert_no_error(error);
        g_assert_true(store_do(one, &one_statement, NULL, &error));
        g_assert_true(store_do(two, &one_statement, NULL, &error));
        store_return(one);
        store_return(two);
    }
}

static gpointer
borrow_and_return(gpointer data)
{
    StorePool *pool = data;
    for (guint i = 0; i < 200; i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(StoreConnection) connection = store_borrow(pool, &error);
        g_assert_no_error(error);
        g_assert_true(store_do(connection, &one_statement, NULL, &error));
    }
    return NULL;
}

static void
test_many_threads_share_few_connections(void)
{
    g_autoptr(TestDatabase) database = test_database_new(2);
    GThread *threads[8];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("borrower", borrow_and_return, database->pool);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(test_database_count(database, "SELECT count(*) FROM pg_stat_activity"
                                                  " WHERE application_name = 'chancery'"
                                                  " AND datname = current_database()"),
                    <=, 2);
}

static void
test_full_pool_says_busy(void)
{
    g_autoptr(TestDatabase) database = test_database_new(1);
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) only = store_borrow(database->pool, &error);
    g_assert_null(store_borrow(database->pool, &error));
    g_assert_error(error, STORE_ERROR, STORE_ERROR_BUSY);
}

static void
test_restart_of_postgresql_is_survived(void)
{
    g_autoptr(TestCluster) cluster = test_cluster_new();
    g_autoptr(GError) error = NULL;
    StorePool *pool;
    if (cluster == NULL) {
        g_test_skip("no PostgreSQL binaries here");
        return;
    }
    pool = store_pool_new(test_cluster_conninfo(cluster), 3);
    for (guint round = 0; round < 2; round++) {
        StoreConnection *connection = store_borrow(pool, &error);
        g_assert_no_error(error);
        g_assert_true(store_do(connection, &one_statement, NULL, &error));
        if (round == 0)
            test_cluster_stop(cluster);
        else
            test_cluster_kill(cluster);
        g_assert_false(store_do(connection, &one_statement, NULL, &error));
        g_assert_error(error, STORE_ERROR, STORE_ERROR_UNAVAILABLE);
        g_clear_error(&error);
        store_return(connection);
        g_assert_null(store_borrow(pool, &error));
        g_assert_error(error, STORE_ERROR, STORE_ERROR_UNAVAILABLE);
        g_clear_error(&error);
        test_cluster_start(cluster);
    }
    borrow_and_return(pool);
    store_pool_free(pool);
}

static void
test_encoding_other_than_utf8_is_refused(void)
{
    g_autoptr(TestDatabase) database = test_database_new_empty(1);
    g_autoptr(GError) error = NULL;
    g_autofree char *sql =
        g_strdup_printf("CREATE DATABASE %s_latin ENCODING 'LATIN1' LC_COLLATE 'C'"
                        " LC_CTYPE 'C' TEMPLATE template0",
                        database->name);
    g_autofree char *drop = g_strdup_printf("DROP DATABASE %s_latin", database->name);
    g_autofree char *conninfo =
        g_strdup_printf("%s dbname=%s_latin", database->conninfo, database->name);
    StorePool *pool = store_pool_new(conninfo, 1);
    g_free(test_database_query(database, sql));
    g_assert_false(store_migrate(pool, NULL, &error));
    g_assert_error(error, STORE_ERROR, STORE_ERROR_FAILED);
    g_assert_nonnull(strstr(error->message, "LATIN1"));
    store_pool_free(pool);
    g_free(test_database_query(database, drop));
}

static void
test_migrations_run_once(void)
{
    g_autoptr(TestDatabase) database = test_database_new_empty(1);
    g_autoptr(GError) error = NULL;
    guint applied = 0;
    g_assert_true(store_migrate(database->pool, &applied, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(applied, ==, store_migration_count);
    g_assert_true(store_migrate(database->pool, &applied, &error));
    g_assert_cmpuint(applied, ==, 0);
    g_assert_cmpint(test_database_count(database, "SELECT count(*) FROM migration"), ==,
                    store_migration_count);
}

static gpointer
migrate_thread(gpointer data)
{
    g_autoptr(GError) error = NULL;
    guint applied = 0;
    g_assert_true(store_migrate(data, &applied, &error));
    g_assert_no_error(error);
    return GUINT_TO_POINTER(applied);
}

static void
test_migrations_of_two_programs_wait_for_each_other(void)
{
    g_autoptr(TestDatabase) database = test_database_new_empty(1);
    GThread *threads[4];
    guint applied = 0;
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("migrate", migrate_thread, database->pool);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        applied += GPOINTER_TO_UINT(g_thread_join(threads[i]));
    g_assert_cmpuint(applied, ==, store_migration_count);
}

static void
test_role_without_rights_finds_nothing_to_do(void)
{
    g_autoptr(TestDatabase) database = test_database_new(1);
    g_autoptr(GError) error = NULL;
    g_autofree char *role = g_strdup_printf("%s_role", database->name);
    g_autofree char *create =
        g_strdup_printf("CREATE ROLE %s LOGIN; GRANT SELECT ON migration TO %s", role, role);
    g_autofree char *drop = g_strdup_printf("DROP OWNED BY %s; DROP ROLE %s", role, role);
    g_autofree char *conninfo = g_strdup_printf("%s user=%s", database->conninfo, role);
    StorePool *pool = store_pool_new(conninfo, 1);
    guint applied = 99;
    g_free(test_database_query(database, create));
    g_assert_true(store_migrate(pool, &applied, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(applied, ==, 0);
    g_free(test_database_query(database, "DELETE FROM migration WHERE number = 1"));
    g_assert_false(store_migrate(pool, &applied, &error));
    g_assert_error(error, STORE_ERROR, STORE_ERROR_FAILED);
    store_pool_free(pool);
    g_free(test_database_query(database, drop));
}

static void
test_newer_database_is_refused(void)
{
    g_autoptr(TestDatabase) database = test_database_new(1);
    g_autoptr(GError) error = NULL;
    g_free(test_database_query(database, "INSERT INTO migration VALUES (9999, 'from the future')"));
    g_assert_false(store_migrate(database->pool, NULL, &error));
    g_assert_error(error, STORE_ERROR, STORE_ERROR_NEWER);
}

static void
test_every_text_column_is_byte_ordered(void)
{
    g_autoptr(TestDatabase) database = test_database_new(1);
    g_autofree char *wrong = test_database_query(
        database,
        "SELECT string_agg(c.relname || '.' || a.attname, ', ') FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_collation o ON o.oid = a.attcollation"
        " WHERE n.nspname = 'public' AND c.relkind = 'r' AND a.attnum > 0"
        " AND NOT a.attisdropped AND a.attcollation <> 0 AND o.collname <> 'C'");
    g_assert_cmpstr(wrong, ==, NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store/values", test_values_come_back_as_they_went);
    g_test_add_func("/store/arrays", test_arrays_keep_order_and_nulls);
    g_test_add_func("/store/errors", test_errors_have_their_kind);
    g_test_add_func("/store/transactions", test_returned_transaction_is_rolled_back);
    g_test_add_func("/store/terminated", test_terminated_sessions_are_replaced);
    g_test_add_func("/store/threads", test_many_threads_share_few_connections);
    g_test_add_func("/store/busy", test_full_pool_says_busy);
    g_test_add_func("/store/restart", test_restart_of_postgresql_is_survived);
    g_test_add_func("/store/encoding", test_encoding_other_than_utf8_is_refused);
    g_test_add_func("/store/migrations", test_migrations_run_once);
    g_test_add_func("/store/migrations-concurrent",
                    test_migrations_of_two_programs_wait_for_each_other);
    g_test_add_func("/store/migrations-serving-role", test_role_without_rights_finds_nothing_to_do);
    g_test_add_func("/store/newer", test_newer_database_is_refused);
    g_test_add_func("/store/collation", test_every_text_column_is_byte_ordered);
    return g_test_run();
}
