/* storage/connection.h: one connection, and what the pool (store.c), the lane and the values of
 * statements (store_arguments.c, store_rows.c) share about it.  For storage/ only. */
#pragma once

#include <libpq-fe.h>

#include "storage/store.h"

/* A statement that has not answered after this is cut off with its connection: more than the
 * statement timeout, so that PostgreSQL's own error comes first while it lives. */
#define STORE_STATEMENT_TIMEOUT_MS 30000
#define STORE_ANSWER_TIMEOUT_MS 40000

/* Built-in type numbers, fixed in PostgreSQL's catalogue (pg_type.dat). */
enum {
    TYPE_BOOLEAN = 16,
    TYPE_BYTES = 17,
    TYPE_NAME = 19,
    TYPE_INTEGER8 = 20,
    TYPE_INTEGER2 = 21,
    TYPE_INTEGER4 = 23,
    TYPE_TEXT = 25,
    TYPE_OID = 26,
    TYPE_BOOLEAN_ARRAY = 1000,
    TYPE_BYTES_ARRAY = 1001,
    TYPE_TEXT_ARRAY = 1009,
    TYPE_INTEGER8_ARRAY = 1016,
    TYPE_VARCHAR = 1043,
    TYPE_VOID = 2278,
};

struct StoreConnection {
    StorePool *pool;
    PGconn *pg;
    GHashTable *prepared; /* set of const StoreStatement *, known to this session */
    guint warnings;       /* severity WARNING seen since it was last set to 0 */
    gboolean pooled;      /* counted by the pool; the lane's own connections are not */
    const gint64
        *cut_at_us; /* or NULL: monotonic time, read atomically; 0 never; then waiting ends */
};

struct StoreArguments {
    GByteArray *bytes;  /* all values, one after another */
    GArray *values;     /* of StoreValue */
    gboolean malformed; /* text that is not UTF-8: the statement would fail */
};

typedef struct {
    Oid type;
    gboolean is_null;
    gsize offset, length; /* within bytes */
} StoreValue;

/* A connection beside the pool, for a thread that keeps it.  Free with store_connection_close. */
StoreConnection *store_connection_open(StorePool *pool, GError **error);
void store_connection_close(StoreConnection *connection);
/* FALSE when the session is known to have ended; looks at the socket, asks nothing. */
gboolean store_connection_alive(StoreConnection *connection);

/* Make the statement known to the session, if it is not yet; outside pipelines. */
gboolean store_connection_prepare(StoreConnection *connection, const StoreStatement *statement,
                                  const StoreArguments *arguments, GError **error);
/* Put a prepared statement on its way; works in pipeline mode too. */
gboolean store_connection_send(StoreConnection *connection, const StoreStatement *statement,
                               const StoreArguments *arguments, GError **error);
/* Wait until the next result is there, sending what is still unsent meanwhile.  *ret_result is NULL
 * at the end of one statement's results.  FALSE with STORE_ERROR_UNAVAILABLE when the connection is
 * lost. */
gboolean store_connection_next(StoreConnection *connection, PGresult **ret_result, GError **error);
/* Read to the end of one statement's results; FALSE with @error (the first) when one of them is a
 * failure. */
gboolean store_connection_drain(StoreConnection *connection, const char *what, GError **error);
/* Run plain SQL without parameters. */
gboolean store_connection_exec(StoreConnection *connection, const char *sql, GError **error);

/* The error of a failed result, by SQLSTATE. */
void store_error_from_result(GError **error, const char *what, PGconn *pg, const PGresult *result);
/* Takes @result. */
StoreRows *store_rows_new(PGresult *result);
gsize store_arguments_size(const StoreArguments *arguments);
gboolean store_arguments_malformed(const StoreArguments *arguments);
/* The first @columns values, to tell rows apart by. */
GBytes *store_arguments_key(const StoreArguments *arguments, guint columns);
/* Many rows of the same columns as one: an array a column. */
StoreArguments *store_arguments_of_rows(StoreArguments *const *rows, gsize count);
