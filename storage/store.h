/* storage/store.h: connections to PostgreSQL, named statements, and their rows.
 *
 * A connection is borrowed for the queries of one step and given back at once (g_autoptr does it);
 * nobody waits for a commit, a partner or the log while holding one.  Connections that died are
 * replaced; while PostgreSQL is away every call fails with STORE_ERROR_UNAVAILABLE, which the
 * dispatcher answers 503, and the next borrow tries again.
 *
 * For all floors.  The pool is thread-safe; one connection belongs to one thread at a time.
 * Columns are bigint, boolean, text (COLLATE "C") and bytea, and arrays of them as parameters;
 * parameters and results travel in binary form. */
#pragma once

#include <glib.h>

#define STORE_ERROR (store_error_quark())
GQuark store_error_quark(void);
typedef enum {
    STORE_ERROR_UNAVAILABLE, /* no database just now: 503, try again */
    STORE_ERROR_BUSY,        /* a bounded queue or the pool is full: 503 with Retry-After */
    STORE_ERROR_FAILED,      /* a statement failed: our mistake, 500 */
    STORE_ERROR_CONFLICT, /* serialisation or deadlock: the caller may run the transaction again */
    STORE_ERROR_NEWER,    /* the database was made by a newer program */
    STORE_ERROR_FENCED,   /* another process has taken over: stop */
} StoreError;

/* One named statement, prepared on first use of each connection.  The build gathers the statements
 * of every store (storage/statements.h), so that one test prepares and explains them all. */
typedef struct {
    const char *name; /* unique in the program: table_verb */
    const char *sql;
} StoreStatement;

/* The values of $1, $2, … in order.  Each append copies what it is given; arrays too. */
typedef struct StoreArguments StoreArguments;
StoreArguments *store_arguments_new(void);
void store_arguments_free(StoreArguments *arguments);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreArguments, store_arguments_free)
void store_arguments_text(StoreArguments *arguments, const char *value); /* NULL is NULL */
void store_arguments_integer(StoreArguments *arguments, gint64 value);   /* bigint */
void store_arguments_boolean(StoreArguments *arguments, gboolean value);
void store_arguments_bytes(StoreArguments *arguments, GBytes *value); /* NULL is NULL */
void store_arguments_data(StoreArguments *arguments, const void *data, gsize length);
void store_arguments_null(StoreArguments *arguments);
void store_arguments_text_array(StoreArguments *arguments, const char *const *values, gsize count);
void store_arguments_integer_array(StoreArguments *arguments, const gint64 *values, gsize count);
void store_arguments_bytes_array(StoreArguments *arguments, GBytes *const *values, gsize count);
/* Shorthand: one letter a value: t const char *, i gint64, b gboolean, y GBytes *, 0 (no value)
 * NULL. store_arguments("tti", room_id, user_id, (gint64)5).  Integers MUST be cast to gint64. */
StoreArguments *store_arguments(const char *types, ...);

/* The rows of a result.  Row and column count from 0; values are borrowed from the rows. */
typedef struct StoreRows StoreRows;
void store_rows_free(StoreRows *rows);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreRows, store_rows_free)
guint store_rows_count(const StoreRows *rows);
guint64 store_rows_affected(const StoreRows *rows); /* by INSERT, UPDATE, DELETE */
gboolean store_rows_is_null(const StoreRows *rows, guint row, guint column);
const char *store_rows_text(const StoreRows *rows, guint row, guint column); /* NULL for NULL */
gint64 store_rows_integer(const StoreRows *rows, guint row, guint column);   /* 0 for NULL */
gboolean store_rows_boolean(const StoreRows *rows, guint row, guint column);
const void *store_rows_data(const StoreRows *rows, guint row, guint column, gsize *ret_length);
GBytes *
store_rows_bytes(const StoreRows *rows, guint row, guint column); /* a copy; NULL for NULL */

/* One text column of all rows: GPtrArray of char *, owned. */
GPtrArray *store_rows_text_column(const StoreRows *rows, guint column);

typedef struct StorePool StorePool;
typedef struct StoreConnection StoreConnection;

/* @conninfo as libpq reads it.  Opens nothing yet. */
StorePool *store_pool_new(const char *conninfo, guint connections_max);
void store_pool_free(StorePool *pool); /* every connection must have been given back */
const char *store_pool_conninfo(const StorePool *pool);

/* Waits at most 5 s for a free connection, then STORE_ERROR_BUSY. */
StoreConnection *store_borrow(StorePool *pool, GError **error);
/* Gives back; an open transaction is rolled back. */
void store_return(StoreConnection *connection);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreConnection, store_return)

/* Run one statement; @arguments is consumed (may be NULL). */
StoreRows *store_run(StoreConnection *connection, const StoreStatement *statement,
                     StoreArguments *arguments, GError **error);
/* The same when the rows do not matter. */
gboolean store_do(StoreConnection *connection, const StoreStatement *statement,
                  StoreArguments *arguments, GError **error);

/* A transaction is opened by the caller who knows its meaning.  store_commit() is durable when it
 * returns TRUE. */
gboolean store_begin(StoreConnection *connection, GError **error);
gboolean
store_begin_snapshot(StoreConnection *connection, GError **error); /* repeatable read, read only */
gboolean store_commit(StoreConnection *connection, GError **error);
void store_rollback(StoreConnection *connection);
