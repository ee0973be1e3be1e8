#include "storage/connection.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define SERVER_VERSION_MIN 150000

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
    const char *const values[] = {
        "5", "10", "5", "3", "15000", "chancery", store_pool_conninfo(pool), "UTF8", NULL};
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

gboolean
store_connection_drain(StoreConnection *connection, const char *what, GError **error)
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
    if (!store_connection_drain(connection, statement->name, error))
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
