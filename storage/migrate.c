#include "storage/migrate.h"

#include "storage/connection.h"

/* Any constant will do, as long as it stays: every Chancery program that migrates waits on it. */
#define MIGRATION_LOCK "7164083146612801"

static const StoreStatement statement_exists = {"migration_exists",
                                                "SELECT to_regclass('migration') IS NOT NULL"};
static const StoreStatement statement_newest = {
    "migration_newest", "SELECT coalesce(max(number), 0)::bigint FROM migration"};
static const StoreStatement statement_find = {"migration_find",
                                              "SELECT name FROM migration WHERE number = $1"};
static const StoreStatement statement_record = {
    "migration_record", "INSERT INTO migration (number, name) VALUES ($1, $2)"};

static gboolean
refuse_newer(StoreConnection *connection, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &statement_newest, NULL, error);
    gint64 newest;
    if (rows == NULL)
        return FALSE;
    newest = store_rows_integer(rows, 0, 0);
    for (unsigned i = 0; i < store_migration_count; i++) {
        if (newest <= store_migrations[i].number)
            return TRUE;
    }
    g_set_error(error, STORE_ERROR, STORE_ERROR_NEWER,
                "the database has migration %" G_GINT64_FORMAT
                ", which this program does not know: install the newer Chancery again",
                newest);
    return FALSE;
}

static gboolean
migration_is_known(StoreConnection *connection, const StoreMigration *migration,
                   gboolean *ret_known, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &statement_find,
                                          store_arguments("i", (gint64)migration->number), error);
    if (rows == NULL)
        return FALSE;
    *ret_known = store_rows_count(rows) > 0;
    return TRUE;
}

static gboolean
migration_apply(StoreConnection *connection, const StoreMigration *migration, GError **error)
{
    if (!store_begin(connection, error))
        return FALSE;
    if (!store_connection_exec(connection, "SET LOCAL statement_timeout = 0", error) ||
        !store_connection_exec(connection, migration->sql, error) ||
        !store_do(connection, &statement_record,
                  store_arguments("it", (gint64)migration->number, migration->name), error) ||
        !store_commit(connection, error)) {
        g_prefix_error(error, "migration %u (%s): ", migration->number, migration->name);
        store_rollback(connection);
        return FALSE;
    }
    return TRUE;
}

/* The role that serves may not create tables, and need not when there is nothing to do. */
static gboolean
migration_table_make(StoreConnection *connection, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &statement_exists, NULL, error);
    if (rows == NULL)
        return FALSE;
    return store_rows_boolean(rows, 0, 0) ||
           store_connection_exec(connection,
                                 "CREATE TABLE migration (number bigint PRIMARY KEY,"
                                 " name text COLLATE \"C\" NOT NULL)",
                                 error);
}

static gboolean
migrate_locked(StoreConnection *connection, guint *ret_applied, GError **error)
{
    guint applied = 0;
    if (!migration_table_make(connection, error) || !refuse_newer(connection, error))
        return FALSE;
    for (unsigned i = 0; i < store_migration_count; i++) {
        gboolean known = FALSE;
        if (!migration_is_known(connection, &store_migrations[i], &known, error))
            return FALSE;
        if (known)
            continue;
        if (!migration_apply(connection, &store_migrations[i], error))
            return FALSE;
        applied++;
    }
    if (ret_applied != NULL)
        *ret_applied = applied;
    return TRUE;
}

gboolean
store_migrate(StorePool *pool, guint *ret_applied, GError **error)
{
    /* A session of its own: its end frees the lock, whatever happened. */
    StoreConnection *connection = store_connection_open(pool, error);
    gboolean succeeded;
    if (connection == NULL)
        return FALSE;
    succeeded = store_connection_exec(connection,
                                      "SET statement_timeout = 0;"
                                      "SELECT pg_advisory_lock(" MIGRATION_LOCK ")",
                                      error) &&
                migrate_locked(connection, ret_applied, error);
    store_connection_close(connection);
    return succeeded;
}
