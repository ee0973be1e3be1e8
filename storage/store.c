#include "storage/store.h"

#include "storage/connection.h"

#define BORROW_WAIT_MS 5000

struct StorePool {
    char *conninfo;
    guint connections_max;
    GMutex lock;
    GCond returned;
    GQueue idle;      /* of StoreConnection *, the last returned first */
    guint open_count; /* idle and borrowed */
};

GQuark
store_error_quark(void)
{
    return g_quark_from_static_string("chancery-store-error");
}

/* --- the pool --- */

StorePool *
store_pool_new(const char *conninfo, guint connections_max)
{
    StorePool *pool = g_new0(StorePool, 1);
    pool->conninfo = g_strdup(conninfo);
    pool->connections_max = MAX(connections_max, 1);
    g_mutex_init(&pool->lock);
    g_cond_init(&pool->returned);
    g_queue_init(&pool->idle);
    return pool;
}

void
store_pool_free(StorePool *pool)
{
    if (pool == NULL)
        return;
    g_assert(pool->open_count == pool->idle.length);
    g_queue_clear_full(&pool->idle, (GDestroyNotify)store_connection_close);
    g_mutex_clear(&pool->lock);
    g_cond_clear(&pool->returned);
    g_free(pool->conninfo);
    g_free(pool);
}

const char *
store_pool_conninfo(const StorePool *pool)
{
    return pool->conninfo;
}

/* An idle connection, or NULL with the right to open one (counted already). */
static gboolean
pool_take(StorePool *pool, StoreConnection **ret_connection)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64)BORROW_WAIT_MS * 1000;
    gboolean in_time = TRUE;
    g_mutex_lock(&pool->lock);
    while (in_time && pool->idle.length == 0 && pool->open_count >= pool->connections_max)
        in_time = g_cond_wait_until(&pool->returned, &pool->lock, deadline_us);
    if (in_time) {
        *ret_connection = g_queue_pop_head(&pool->idle);
        if (*ret_connection == NULL)
            pool->open_count++;
    }
    g_mutex_unlock(&pool->lock);
    return in_time;
}

static void
pool_forget_one(StorePool *pool)
{
    g_mutex_lock(&pool->lock);
    pool->open_count--;
    g_cond_signal(&pool->returned);
    g_mutex_unlock(&pool->lock);
}

StoreConnection *
store_borrow(StorePool *pool, GError **error)
{
    StoreConnection *connection = NULL;
    if (!pool_take(pool, &connection)) {
        g_set_error(error, STORE_ERROR, STORE_ERROR_BUSY, "every database connection is in use");
        return NULL;
    }
    if (connection != NULL && !store_connection_alive(connection))
        g_clear_pointer(&connection, store_connection_close);
    if (connection == NULL)
        connection = store_connection_open(pool, error);
    if (connection == NULL) {
        pool_forget_one(pool);
        return NULL;
    }
    connection->pooled = TRUE;
    return connection;
}

void
store_return(StoreConnection *connection)
{
    StorePool *pool;
    if (connection == NULL)
        return;
    pool = connection->pool;
    g_assert(connection->pooled);
    store_rollback(connection);
    if (PQstatus(connection->pg) != CONNECTION_OK ||
        PQtransactionStatus(connection->pg) != PQTRANS_IDLE) {
        store_connection_close(connection);
        pool_forget_one(pool);
        return;
    }
    g_mutex_lock(&pool->lock);
    g_queue_push_head(&pool->idle, connection);
    g_cond_signal(&pool->returned);
    g_mutex_unlock(&pool->lock);
}

/* --- statements --- */

/* Every column must be of a type that StoreRows reads: a sum() of bigint, for one, is numeric. */
static gboolean
result_types_are_known(const StoreStatement *statement, const PGresult *result, GError **error)
{
    for (int column = 0; column < PQnfields(result); column++) {
        switch (PQftype(result, column)) {
        case TYPE_BOOLEAN:
        case TYPE_BYTES:
        case TYPE_NAME:
        case TYPE_INTEGER8:
        case TYPE_INTEGER2:
        case TYPE_INTEGER4:
        case TYPE_TEXT:
        case TYPE_OID:
        case TYPE_VARCHAR:
        case TYPE_VOID:
            break;
        default:
            g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED,
                        "%s: column %s has a type (%u) that no row reader takes", statement->name,
                        PQfname(result, column), PQftype(result, column));
            return FALSE;
        }
    }
    return TRUE;
}

StoreRows *
store_run(StoreConnection *connection, const StoreStatement *statement, StoreArguments *arguments,
          GError **error)
{
    g_autoptr(StoreArguments) owned = arguments;
    g_autoptr(StoreRows) rows = NULL;
    gboolean alone = PQtransactionStatus(connection->pg) == PQTRANS_IDLE;
    PGresult *result = NULL;

    connection->warnings = 0;
    if (store_arguments_malformed(owned)) {
        g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED, "%s: an argument is not UTF-8",
                    statement->name);
        return NULL;
    }
    if (!store_connection_prepare(connection, statement, owned, error) ||
        !store_connection_send(connection, statement, owned, error) ||
        !store_connection_next(connection, &result, error))
        return NULL;
    rows = store_rows_new(result);
    /* To the end of the results, so that the connection is free again. */
    if (!store_connection_drain(connection, statement->name, error))
        return NULL;
    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK) {
        store_error_from_result(error, statement->name, connection->pg, result);
        return NULL;
    }
    if (alone && connection->warnings > 0) {
        g_set_error(error, STORE_ERROR, STORE_ERROR_UNAVAILABLE,
                    "%s: PostgreSQL warned; whether it is durable is not known", statement->name);
        return NULL;
    }
    return result_types_are_known(statement, result, error) ? g_steal_pointer(&rows) : NULL;
}

gboolean
store_do(StoreConnection *connection, const StoreStatement *statement, StoreArguments *arguments,
         GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, statement, arguments, error);
    return rows != NULL;
}

gboolean
store_begin(StoreConnection *connection, GError **error)
{
    return store_connection_exec(connection, "BEGIN", error);
}

gboolean
store_begin_snapshot(StoreConnection *connection, GError **error)
{
    return store_connection_exec(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
                                 error);
}

gboolean
store_commit(StoreConnection *connection, GError **error)
{
    connection->warnings = 0;
    if (!store_connection_exec(connection, "COMMIT", error))
        return FALSE;
    if (connection->warnings > 0) {
        /* A cancelled wait for the standby: visible here, perhaps nowhere else. */
        g_set_error(error, STORE_ERROR, STORE_ERROR_UNAVAILABLE,
                    "PostgreSQL warned on COMMIT; whether it is durable is not known");
        return FALSE;
    }
    return TRUE;
}

void
store_rollback(StoreConnection *connection)
{
    PGTransactionStatusType status = PQtransactionStatus(connection->pg);
    if (status == PQTRANS_INTRANS || status == PQTRANS_INERROR)
        store_connection_exec(connection, "ROLLBACK", NULL);
}
