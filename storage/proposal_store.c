#include "storage/proposal_store.h"

#define PROPOSAL_COLUMNS                                                                           \
    "digest, kind, statement, certificate, proposer, signature, created_ms, expires_ms, state, "   \
    "done_ms"

enum {
    PROPOSAL_INSERT,
    PROPOSAL_DONE,
    PROPOSAL_PURGE,
    PROPOSAL_FIND,
    PROPOSAL_OPEN,
    PROPOSAL_COUNT_OPEN,
    N_STATEMENTS
};

const StoreStatement proposal_statements[] = {
    [PROPOSAL_INSERT] = {"proposal_insert", "INSERT INTO proposal (" PROPOSAL_COLUMNS
                                            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"},
    [PROPOSAL_DONE] = {"proposal_done",
                       "UPDATE proposal SET state = 2, done_ms = $2, certificate = '' "
                       "WHERE digest = $1 AND state = 1"},
    [PROPOSAL_PURGE] = {"proposal_purge", "DELETE FROM proposal WHERE expires_ms < $1"},
    [PROPOSAL_FIND] = {"proposal_find",
                       "SELECT " PROPOSAL_COLUMNS " FROM proposal WHERE digest = $1"},
    [PROPOSAL_OPEN] = {"proposal_open",
                       "SELECT " PROPOSAL_COLUMNS " FROM proposal WHERE state = 1 AND "
                       "expires_ms > $1 ORDER BY created_ms"},
    [PROPOSAL_COUNT_OPEN] = {"proposal_count_open",
                             "SELECT count(*) FROM proposal WHERE state = 1 AND expires_ms > $1"},
};
const guint proposal_statement_count = N_STATEMENTS;

void
proposal_row_free(ProposalRow *row)
{
    if (row == NULL)
        return;
    g_clear_pointer(&row->digest, g_bytes_unref);
    g_free(row->kind);
    g_clear_pointer(&row->statement, g_bytes_unref);
    g_clear_pointer(&row->certificate, g_bytes_unref);
    g_free(row->proposer);
    g_clear_pointer(&row->signature, g_bytes_unref);
    g_free(row);
}

static ProposalRow *
proposal_of(StoreRows *rows, guint at)
{
    ProposalRow *row = g_new0(ProposalRow, 1);
    row->digest = store_rows_bytes(rows, at, 0);
    row->kind = g_strdup(store_rows_text(rows, at, 1));
    row->statement = store_rows_bytes(rows, at, 2);
    row->certificate = store_rows_bytes(rows, at, 3);
    row->proposer = g_strdup(store_rows_text(rows, at, 4));
    row->signature = store_rows_bytes(rows, at, 5);
    row->created_ms = store_rows_integer(rows, at, 6);
    row->expires_ms = store_rows_integer(rows, at, 7);
    row->state = store_rows_integer(rows, at, 8);
    row->done_ms = store_rows_integer(rows, at, 9);
    return row;
}

void
proposal_store_insert(StoreWrites *writes, const ProposalRow *row)
{
    store_writes_add(writes, &proposal_statements[PROPOSAL_INSERT],
                     store_arguments("ytyytyiiii", row->digest, row->kind, row->statement,
                                     row->certificate, row->proposer, row->signature,
                                     row->created_ms, row->expires_ms, row->state, row->done_ms));
}

void
proposal_store_done(StoreWrites *writes, GBytes *digest, gint64 done_ms)
{
    store_writes_add(writes, &proposal_statements[PROPOSAL_DONE],
                     store_arguments("yi", digest, done_ms));
}

void
proposal_store_purge(StoreWrites *writes, gint64 now_ms)
{
    store_writes_add(writes, &proposal_statements[PROPOSAL_PURGE], store_arguments("i", now_ms));
}

gboolean
proposal_store_find(StoreConnection *connection, GBytes *digest, ProposalRow **ret_row,
                    GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &proposal_statements[PROPOSAL_FIND],
                                          store_arguments("y", digest), error);
    if (rows == NULL)
        return FALSE;
    *ret_row = store_rows_count(rows) > 0 ? proposal_of(rows, 0) : NULL;
    return TRUE;
}

GPtrArray *
proposal_store_open(StoreConnection *connection, gint64 now_ms, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &proposal_statements[PROPOSAL_OPEN],
                                          store_arguments("i", now_ms), error);
    if (rows == NULL)
        return NULL;
    GPtrArray *open = g_ptr_array_new_with_free_func((GDestroyNotify)proposal_row_free);
    for (guint i = 0; i < store_rows_count(rows); i++)
        g_ptr_array_add(open, proposal_of(rows, i));
    return open;
}

gboolean
proposal_store_count_open(StoreConnection *connection, gint64 now_ms, gint64 *ret_count,
                          GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &proposal_statements[PROPOSAL_COUNT_OPEN],
                                          store_arguments("i", now_ms), error);
    if (rows == NULL)
        return FALSE;
    *ret_count = store_rows_integer(rows, 0, 0);
    return TRUE;
}
