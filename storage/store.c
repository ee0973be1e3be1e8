#include "storage/store.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "storage/connection.h"

#define BORROW_WAIT_MS 5000
#define SERVER_VERSION_MIN 150000

struct StorePool {
    char *conninfo;
    guint connections_max;
    GMutex lock;
    GCond returned;
    GQueue idle;      /* of StoreConnection *, the last returned first */
    guint open_count; /* idle and borrowed */
};

struct StoreRows {
    PGresult *result;
};

GQuark
store_error_quark(void)
{
    return g_quark_from_static_string("chancery-store-error");
}

/* --- rows --- */

void
store_rows_free(StoreRows *rows)
{
    if (rows == NULL)
        return;
    PQclear(rows->result);
    g_free(rows);
}

guint
store_rows_count(const StoreRows *rows)
{
    return (guint)PQntuples(rows->result);
}

guint64
store_rows_affected(const StoreRows *rows)
{
    return g_ascii_strtoull(PQcmdTuples(rows->result), NULL, 10);
}

gboolean
store_rows_is_null(const StoreRows *rows, guint row, guint column)
{
    return PQgetisnull(rows->result, (int)row, (int)column) != 0;
}

const void *
store_rows_data(const StoreRows *rows, guint row, guint column, gsize *ret_length)
{
    if (store_rows_is_null(rows, row, column)) {
        *ret_length = 0;
        return NULL;
    }
    *ret_length = (gsize)PQgetlength(rows->result, (int)row, (int)column);
    return PQgetvalue(rows->result, (int)row, (int)column);
}

const char *
store_rows_text(const StoreRows *rows, guint row, guint column)
{
    gsize length;
    return store_rows_data(rows, row, column,
                           &length); /* libpq ends every value with a zero byte */
}

gint64
store_rows_integer(const StoreRows *rows, guint row, guint column)
{
    gsize length;
    const guint8 *data = store_rows_data(rows, row, column, &length);
    guint64 value = 0;
    if (data == NULL)
        return 0;
    for (gsize i = 0; i < length; i++)
        value = value << 8 | data[i];
    if (length == 2)
        return (gint16)value;
    return length == 4 ? (gint32)value : (gint64)value;
}

gboolean
store_rows_boolean(const StoreRows *rows, guint row, guint column)
{
    gsize length;
    const guint8 *data = store_rows_data(rows, row, column, &length);
    return data != NULL && length == 1 && data[0] != 0;
}

GBytes *
store_rows_bytes(const StoreRows *rows, guint row, guint column)
{
    gsize length;
    const void *data = store_rows_data(rows, row, column, &length);
    return data != NULL ? g_bytes_new(data, length) : NULL;
}

GPtrArray *
store_rows_text_column(const StoreRows *rows, guint column)
{
    guint count = store_rows_count(rows);
    GPtrArray *texts = g_ptr_array_new_full(count, g_free);
    for (guint row = 0; row < count; row++)
        g_ptr_array_add(texts, g_strdup(store_rows_text(rows, row, column)));
    return texts;
}

/* --- errors --- */

static StoreError
error_code_of(const char *sqlstate)
{
    static const struct {
        const char *prefix;
        StoreError code;
    } table[] = {
        {"08", STORE_ERROR_UNAVAILABLE},    /* connection exceptions */
        {"53", STORE_ERROR_UNAVAILABLE},    /* out of disk, memory or connections */
        {"57", STORE_ERROR_UNAVAILABLE},    /* shutdown, starting up, cancelled, timed out */
        {"58", STORE_ERROR_UNAVAILABLE},    /* the database's own input and output */
        {"25006", STORE_ERROR_UNAVAILABLE}, /* read only: this one has become a standby */
        {"25P03", STORE_ERROR_UNAVAILABLE}, /* we left a transaction idle for too long */
        {"55P03", STORE_ERROR_UNAVAILABLE}, /* a lock did not come in time */
        {"40", STORE_ERROR_CONFLICT},       /* serialisation failure, deadlock */
        {"23505", STORE_ERROR_CONFLICT},    /* another one with this key was first */
    };
    for (gsize i = 0; sqlstate != NULL && i < G_N_ELEMENTS(table); i++) {
        if (g_str_has_prefix(sqlstate, table[i].prefix))
            return table[i].code;
    }
    return sqlstate != NULL ? STORE_ERROR_FAILED : STORE_ERROR_UNAVAILABLE;
}

void
store_error_from_result(GError **error, const char *what, PGconn *pg, const PGresult *result)
{
    const char *sqlstate = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    /* The primary message names no values; the detail line would. */
    const char *message =
        result != NULL ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    g_autofree char *text = g_strdup(message != NULL ? message : PQerrorMessage(pg));
    g_strdelimit(g_strchomp(text), "\n", ' ');
    g_set_error(error, STORE_ERROR, error_code_of(sqlstate), "%s: %s%s%s", what, text,
                sqlstate != NULL ? " " : "", sqlstate != NULL ? sqlstate : "");
}

/* --- one connection --- */

static void
connection_notice(void *data, const PGresult *result)
{
    StoreConnection *connection = data;
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (g_strcmp0(severity, "WARNING") == 0) {
        connection->warnings++;
        g_message("PostgreSQL: %s", PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
    }
}

static gboolean
connection_is_cut(const StoreConnection *connection)
{
    gint64 cut_at_us;
    if (connection->cut_at_us == NULL)
        return FALSE;
    cut_at_us = __atomic_load_n(connection->cut_at_us, __ATOMIC_RELAXED);
    return cut_at_us != 0 && g_get_monotonic_time() >= cut_at_us;
}

/* Wait for the socket; sends what is unsent.  FALSE after the answer timeout or when it is lost. */
static gboolean
connection_wait_readable(StoreConnection *connection, gint64 deadline_us)
{
    for (;;) {
        int unsent = PQflush(connection->pg);
        struct pollfd waited = {PQsocket(connection->pg), POLLIN, 0};
        gint64 left_ms = (deadline_us - g_get_monotonic_time()) / 1000;
        int ready;
        if (unsent < 0 && PQstatus(connection->pg) == CONNECTION_BAD)
            return FALSE;
        if (unsent == 1)
            waited.events |= POLLOUT;
        if (left_ms <= 0 || waited.fd < 0 || connection_is_cut(connection))
            return FALSE;
        ready = poll(&waited, 1, (int)MIN(left_ms, 200));
        if (ready < 0 && errno != EINTR)
            return FALSE;
        if (ready > 0 && (waited.revents & ~POLLOUT) != 0)
            return PQconsumeInput(connection->pg) == 1;
    }
}

gboolean
store_connection_next(StoreConnection *connection, PGresult **ret_result, GError **error)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64)STORE_ANSWER_TIMEOUT_MS * 1000;
    PQflush(connection->pg);
    while (PQisBusy(connection->pg)) {
        if (!connection_wait_readable(connection, deadline_us)) {
            g_set_error(error, STORE_ERROR, STORE_ERROR_UNAVAILABLE,
                        "the connection to PostgreSQL was lost");
            return FALSE;
        }
    }
    *ret_result = PQgetResult(connection->pg);
    if (PQstatus(connection->pg) == CONNECTION_BAD) {
        store_error_from_result(error, "connection lost", connection->pg, *ret_result);
        /* A server that ends says so with a SQLSTATE of its own; whatever it was, the session is
         * over. */
        if (error != NULL && *error != NULL)
            (*error)->code = STORE_ERROR_UNAVAILABLE;
        g_clear_pointer(ret_result, PQclear);
        return FALSE;
    }
    return TRUE;
}

gboolean
store_connection_exec(StoreConnection *connection, const char *sql, GError **error)
{
    gboolean succeeded = TRUE;
    if (!PQsendQuery(connection->pg, sql)) {
        store_error_from_result(error, "send", connection->pg, NULL);
        return FALSE;
    }
    for (;;) {
        PGresult *result = NULL;
        if (!store_connection_next(connection, &result, succeeded ? error : NULL))
            return FALSE;
        if (result == NULL)
            return succeeded;
        if (PQresultStatus(result) != PGRES_COMMAND_OK &&
            PQresultStatus(result) != PGRES_TUPLES_OK) {
            if (succeeded)
                store_error_from_result(error, sql, connection->pg, result);
            succeeded = FALSE;
        } else if (strcmp(sql, "COMMIT") == 0 && strcmp(PQcmdStatus(result), "COMMIT") != 0) {
            /* COMMIT of a failed transaction answers ROLLBACK, as a success. */
            if (succeeded)
                g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED,
                            "the transaction had failed before");
            succeeded = FALSE;
        }
        PQclear(result);
    }
}

/* What must hold for every session; the text columns' order and every length rest on it. */
static gboolean
connection_check_server(StoreConnection *connection, GError **error)
{
    int version = PQserverVersion(connection->pg);
    const char *encoding = PQparameterStatus(connection->pg, "server_encoding");
    const char *standby = PQparameterStatus(connection->pg, "in_hot_standby");
    if (version < SERVER_VERSION_MIN) {
        g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED,
                    "PostgreSQL 15 or later is needed; this server is %d.%d", version / 10000,
                    version % 10000);
        return FALSE;
    }
    if (g_strcmp0(encoding, "UTF8") != 0) {
        g_set_error(
            error, STORE_ERROR, STORE_ERROR_FAILED,
            "the database's encoding is %s; make it anew with ENCODING 'UTF8' TEMPLATE template0",
            encoding != NULL ? encoding : "unknown");
        return FALSE;
    }
    if (g_strcmp0(standby, "on") == 0) {
        g_set_error(error, STORE_ERROR, STORE_ERROR_UNAVAILABLE, "this PostgreSQL is a standby");
        return FALSE;
    }
    /* A commit that PostgreSQL does not wait for would be acknowledged without being durable. */
    return store_connection_exec(
        connection,
        "SET statement_timeout = " G_STRINGIFY(
            STORE_STATEMENT_TIMEOUT_MS) ";"
                                        "SET idle_in_transaction_session_timeout = 60000;"
                                        "SET jit = off;"
                                        "SELECT set_config('synchronous_commit', 'on', false)"
                                        " WHERE current_setting('synchronous_commit') = 'off'",
        error);
}

StoreConnection *
store_connection_open(StorePool *pool, GError **error)
{
    /* Later words win: what the operator writes in the connection string overrides ours. */
    const char *const keywords[] = {"connect_timeout",  "keepalives_idle",  "keepalives_interval",
                                    "keepalives_count", "tcp_user_timeout", "application_name",
                                    "dbname",           "client_encoding",  NULL};
    const char *const values[] = {"5",        "10",           "5",    "3", "15000",
                                  "chancery", pool->conninfo, "UTF8", NULL};
    StoreConnection *connection = g_new0(StoreConnection, 1);
    connection->pool = pool;
    connection->prepared = g_hash_table_new(NULL, NULL);
    connection->pg = PQconnectdbParams(keywords, values, 1);
    if (PQstatus(connection->pg) != CONNECTION_OK) {
        g_autofree char *text = g_strdup(PQerrorMessage(connection->pg));
        g_strdelimit(g_strchomp(text), "\n", ' ');
        g_set_error(error, STORE_ERROR, STORE_ERROR_UNAVAILABLE, "no connection to PostgreSQL: %s",
                    text);
        store_connection_close(connection);
        return NULL;
    }
    PQsetNoticeReceiver(connection->pg, connection_notice, connection);
    if (PQsetnonblocking(connection->pg, 1) != 0 || !connection_check_server(connection, error)) {
        if (error != NULL && *error == NULL)
            g_set_error(error, STORE_ERROR, STORE_ERROR_UNAVAILABLE, "no connection to PostgreSQL");
        store_connection_close(connection);
        return NULL;
    }
    return connection;
}

void
store_connection_close(StoreConnection *connection)
{
    if (connection == NULL)
        return;
    PQfinish(connection->pg);
    g_hash_table_unref(connection->prepared);
    g_free(connection);
}

gboolean
store_connection_alive(StoreConnection *connection)
{
    struct pollfd looked = {PQsocket(connection->pg), POLLIN, 0};
    if (PQstatus(connection->pg) != CONNECTION_OK || looked.fd < 0)
        return FALSE;
    /* An idle session has nothing to say, but its end, or a notice. */
    while (poll(&looked, 1, 0) > 0) {
        if (!PQconsumeInput(connection->pg) || PQstatus(connection->pg) != CONNECTION_OK)
            return FALSE;
        PQisBusy(connection->pg); /* reads the notices */
        if (PQstatus(connection->pg) != CONNECTION_OK)
            return FALSE;
        looked.fd = PQsocket(connection->pg);
    }
    return TRUE;
}

/* Read to the end of one statement's results; FALSE with @error (the first) when one of them is a
 * failure. */
static gboolean
connection_drain(StoreConnection *connection, const char *what, GError **error)
{
    gboolean succeeded = TRUE;
    for (;;) {
        PGresult *result = NULL;
        ExecStatusType status;
        if (!store_connection_next(connection, &result, succeeded ? error : NULL))
            return FALSE;
        if (result == NULL)
            return succeeded;
        status = PQresultStatus(result);
        if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && succeeded) {
            store_error_from_result(error, what, connection->pg, result);
            succeeded = FALSE;
        }
        PQclear(result);
    }
}

gboolean
store_connection_prepare(StoreConnection *connection, const StoreStatement *statement,
                         const StoreArguments *arguments, GError **error)
{
    guint count = arguments != NULL ? arguments->values->len : 0;
    g_autofree Oid *types = NULL;
    if (g_hash_table_contains(connection->prepared, statement))
        return TRUE;
    types = g_new(Oid, count + 1);
    for (guint i = 0; i < count; i++)
        types[i] = g_array_index(arguments->values, StoreValue, i).type;
    if (!PQsendPrepare(connection->pg, statement->name, statement->sql, (int)count, types)) {
        store_error_from_result(error, statement->name, connection->pg, NULL);
        return FALSE;
    }
    if (!connection_drain(connection, statement->name, error))
        return FALSE;
    g_hash_table_add(connection->prepared, (gpointer)statement);
    return TRUE;
}

gboolean
store_connection_send(StoreConnection *connection, const StoreStatement *statement,
                      const StoreArguments *arguments, GError **error)
{
    guint count = arguments != NULL ? arguments->values->len : 0;
    g_autofree const char **values = g_new(const char *, count + 1);
    g_autofree int *lengths = g_new(int, count + 1);
    g_autofree int *formats = g_new(int, count + 1);

    for (guint i = 0; i < count; i++) {
        const StoreValue *value = &g_array_index(arguments->values, StoreValue, i);
        values[i] = value->is_null ? NULL : (const char *)arguments->bytes->data + value->offset;
        lengths[i] = (int)value->length;
        formats[i] = 1;
    }
    if (!PQsendQueryPrepared(connection->pg, statement->name, (int)count, values, lengths, formats,
                             1)) {
        store_error_from_result(error, statement->name, connection->pg, NULL);
        return FALSE;
    }
    return TRUE;
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
    rows = g_new0(StoreRows, 1);
    rows->result = result;
    /* To the end of the results, so that the connection is free again. */
    if (!connection_drain(connection, statement->name, error))
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
