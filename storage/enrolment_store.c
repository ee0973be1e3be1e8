#include "storage/enrolment_store.h"

#define ENROLMENT_COLUMNS                                                                          \
    "user_id, digest, statement, signature_first, signature_second, certificate, spki, "           \
    "person_ref, issuer_key, serial, not_after_ms, approved_ms, state, changed_ms, mac"

enum {
    ACCOUNT_PUT,
    ACCOUNT_EXISTS,
    ENROLMENT_INSERT,
    ENROLMENT_SET_STATE,
    ENROLMENT_FIND_USER,
    ENROLMENT_FIND_CERTIFICATE,
    ENROLMENT_FIND_RIVAL,
    ENROLMENT_LIST,
    ENROLMENT_OF_ISSUER,
    N_STATEMENTS
};

const StoreStatement enrolment_statements[] = {
    [ACCOUNT_PUT] = {"account_put", "INSERT INTO account (user_id, created_ms) VALUES ($1, $2) "
                                    "ON CONFLICT (user_id) DO NOTHING"},
    [ACCOUNT_EXISTS] = {"account_exists", "SELECT 1::bigint FROM account WHERE user_id = $1"},
    [ENROLMENT_INSERT] = {"enrolment_insert",
                          "INSERT INTO enrolment (" ENROLMENT_COLUMNS ") VALUES ($1, $2, $3, $4, "
                          "$5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"},
    [ENROLMENT_SET_STATE] = {"enrolment_set_state",
                             "UPDATE enrolment SET state = $2, changed_ms = $3, mac = $4 "
                             "WHERE digest = $1"},
    [ENROLMENT_FIND_USER] = {"enrolment_find_user",
                             "SELECT " ENROLMENT_COLUMNS " FROM enrolment WHERE user_id = $1 "
                             "AND state <= 2"},
    [ENROLMENT_FIND_CERTIFICATE] = {"enrolment_find_certificate",
                                    "SELECT " ENROLMENT_COLUMNS
                                    " FROM enrolment WHERE certificate = $1 AND state <= 2"},
    [ENROLMENT_FIND_RIVAL] = {"enrolment_find_rival",
                              "SELECT user_id FROM enrolment WHERE spki = $2 AND user_id <> $1 "
                              "UNION ALL SELECT user_id FROM enrolment WHERE person_ref = $3 AND "
                              "user_id <> $1 "
                              "UNION ALL SELECT user_id FROM enrolment WHERE user_id = $1 AND "
                              "person_ref <> $3 LIMIT 1"},
    [ENROLMENT_LIST] = {"enrolment_list",
                        "SELECT " ENROLMENT_COLUMNS " FROM enrolment WHERE user_id > $1 "
                        "ORDER BY user_id, digest LIMIT $2"},
    [ENROLMENT_OF_ISSUER] = {"enrolment_of_issuer",
                             "SELECT " ENROLMENT_COLUMNS
                             " FROM enrolment WHERE issuer_key = $1 AND state <= 2"},
};
const guint enrolment_statement_count = N_STATEMENTS;

void
enrolment_row_free(EnrolmentRow *row)
{
    if (row == NULL)
        return;
    g_free(row->user_id);
    g_clear_pointer(&row->digest, g_bytes_unref);
    g_clear_pointer(&row->statement, g_bytes_unref);
    g_clear_pointer(&row->signature_first, g_bytes_unref);
    g_clear_pointer(&row->signature_second, g_bytes_unref);
    g_clear_pointer(&row->certificate, g_bytes_unref);
    g_free(row->spki);
    g_free(row->person_ref);
    g_free(row->issuer_key);
    g_free(row->serial);
    g_clear_pointer(&row->mac, g_bytes_unref);
    g_free(row);
}

static EnrolmentRow *
enrolment_of(StoreRows *rows, guint at)
{
    EnrolmentRow *row = g_new0(EnrolmentRow, 1);
    row->user_id = g_strdup(store_rows_text(rows, at, 0));
    row->digest = store_rows_bytes(rows, at, 1);
    row->statement = store_rows_bytes(rows, at, 2);
    row->signature_first = store_rows_bytes(rows, at, 3);
    row->signature_second = store_rows_bytes(rows, at, 4);
    row->certificate = store_rows_bytes(rows, at, 5);
    row->spki = g_strdup(store_rows_text(rows, at, 6));
    row->person_ref = g_strdup(store_rows_text(rows, at, 7));
    row->issuer_key = g_strdup(store_rows_text(rows, at, 8));
    row->serial = g_strdup(store_rows_text(rows, at, 9));
    row->not_after_ms = store_rows_integer(rows, at, 10);
    row->approved_ms = store_rows_integer(rows, at, 11);
    row->state = store_rows_integer(rows, at, 12);
    row->changed_ms = store_rows_integer(rows, at, 13);
    row->mac = store_rows_bytes(rows, at, 14);
    return row;
}

void
account_store_put(StoreWrites *writes, const char *user_id, gint64 created_ms)
{
    store_writes_add(writes, &enrolment_statements[ACCOUNT_PUT],
                     store_arguments("ti", user_id, created_ms));
}

gboolean
account_store_exists(StoreConnection *connection, const char *user_id, gboolean *ret_exists,
                     GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &enrolment_statements[ACCOUNT_EXISTS],
                                          store_arguments("t", user_id), error);
    if (rows == NULL)
        return FALSE;
    *ret_exists = store_rows_count(rows) > 0;
    return TRUE;
}

void
enrolment_store_insert(StoreWrites *writes, const EnrolmentRow *row)
{
    store_writes_add(writes, &enrolment_statements[ENROLMENT_INSERT],
                     store_arguments("tyyyyyttttiiiiy", row->user_id, row->digest, row->statement,
                                     row->signature_first, row->signature_second, row->certificate,
                                     row->spki, row->person_ref, row->issuer_key, row->serial,
                                     row->not_after_ms, row->approved_ms, row->state,
                                     row->changed_ms, row->mac));
}

void
enrolment_store_set_state(StoreWrites *writes, GBytes *digest, gint64 state, gint64 changed_ms,
                          GBytes *mac)
{
    store_writes_add(writes, &enrolment_statements[ENROLMENT_SET_STATE],
                     store_arguments("yiiy", digest, state, changed_ms, mac));
}

static gboolean
find_one(StoreConnection *connection, int statement, StoreArguments *arguments,
         EnrolmentRow **ret_row, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &enrolment_statements[statement], arguments, error);
    if (rows == NULL)
        return FALSE;
    *ret_row = store_rows_count(rows) > 0 ? enrolment_of(rows, 0) : NULL;
    return TRUE;
}

gboolean
enrolment_store_find_user(StoreConnection *connection, const char *user_id, EnrolmentRow **ret_row,
                          GError **error)
{
    return find_one(connection, ENROLMENT_FIND_USER, store_arguments("t", user_id), ret_row, error);
}

gboolean
enrolment_store_find_certificate(StoreConnection *connection, GBytes *certificate,
                                 EnrolmentRow **ret_row, GError **error)
{
    return find_one(connection, ENROLMENT_FIND_CERTIFICATE, store_arguments("y", certificate),
                    ret_row, error);
}

gboolean
enrolment_store_find_rival(StoreConnection *connection, const char *user_id, const char *spki,
                           const char *person_ref, char **ret_rival_user_id, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &enrolment_statements[ENROLMENT_FIND_RIVAL],
                                          store_arguments("ttt", user_id, spki, person_ref), error);
    if (rows == NULL)
        return FALSE;
    *ret_rival_user_id = store_rows_count(rows) > 0 ? g_strdup(store_rows_text(rows, 0, 0)) : NULL;
    return TRUE;
}

static GPtrArray *
find_many(StoreConnection *connection, int statement, StoreArguments *arguments, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &enrolment_statements[statement], arguments, error);
    if (rows == NULL)
        return NULL;
    GPtrArray *found = g_ptr_array_new_with_free_func((GDestroyNotify)enrolment_row_free);
    for (guint i = 0; i < store_rows_count(rows); i++)
        g_ptr_array_add(found, enrolment_of(rows, i));
    return found;
}

GPtrArray *
enrolment_store_list(StoreConnection *connection, const char *after, gint64 rows_max,
                     GError **error)
{
    return find_many(connection, ENROLMENT_LIST, store_arguments("ti", after, rows_max), error);
}

GPtrArray *
enrolment_store_of_issuer(StoreConnection *connection, const char *issuer_key, GError **error)
{
    return find_many(connection, ENROLMENT_OF_ISSUER, store_arguments("t", issuer_key), error);
}
