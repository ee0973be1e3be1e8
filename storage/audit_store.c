#include "storage/audit_store.h"

enum {
    AUDIT_APPEND,
    AUDIT_READ,
    AUDIT_NEWEST,
    AUDIT_LOCK,
    AUDIT_HEAD,
    AUDIT_NEWS,
    N_STATEMENTS
};

const StoreStatement audit_statements[] = {
    [AUDIT_APPEND] =
        {"audit_append",
         "WITH head AS (UPDATE audit_head SET seq = seq + 1 WHERE one RETURNING seq) "
         "INSERT INTO audit (seq, time_ms, type, actor, subject, object, decision, rule, refs) "
         "SELECT head.seq, $1, $2, $3, $4, $5, $6, $7, $8 FROM head"},
    [AUDIT_READ] = {"audit_read",
                    "SELECT seq, time_ms, type, actor, subject, object, decision, rule, refs "
                    "FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2"},
    [AUDIT_NEWEST] = {"audit_newest", "SELECT time_ms FROM audit ORDER BY seq DESC LIMIT 1"},
    [AUDIT_LOCK] = {"audit_lock", "SELECT seq FROM audit_head WHERE one FOR UPDATE"},
    [AUDIT_HEAD] = {"audit_head", "SELECT seq FROM audit_head WHERE one"},
    [AUDIT_NEWS] = {"audit_news",
                    "SELECT coalesce(max(seq), $1), coalesce(bool_or(type <> ALL ($2::text[])), "
                    "false) FROM audit WHERE seq > $1"},
};
const guint audit_statement_count = N_STATEMENTS;

const StoreStatement *
audit_store_append(void)
{
    return &audit_statements[AUDIT_APPEND];
}

StoreArguments *
audit_store_arguments(const StoredAudit *line)
{
    return store_arguments("ittttttt", line->time_ms, line->type, line->actor, line->subject,
                           line->object, line->decision, line->rule, line->refs);
}

StoreRows *
audit_store_read(StoreConnection *connection, gint64 after, gint64 lines_max, GError **error)
{
    return store_run(connection, &audit_statements[AUDIT_READ],
                     store_arguments("ii", after, lines_max), error);
}

gboolean
audit_store_newest_ms(StoreConnection *connection, gint64 *ret_time_ms, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &audit_statements[AUDIT_NEWEST], NULL, error);
    if (rows == NULL)
        return FALSE;
    *ret_time_ms = store_rows_count(rows) > 0 ? store_rows_integer(rows, 0, 0) : 0;
    return TRUE;
}

gboolean
audit_store_head(StoreConnection *connection, gint64 *ret_seq, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &audit_statements[AUDIT_HEAD], NULL, error);
    if (rows == NULL)
        return FALSE;
    *ret_seq = store_rows_count(rows) > 0 ? store_rows_integer(rows, 0, 0) : 0;
    return TRUE;
}

gboolean
audit_store_news(StoreConnection *connection, gint64 *seq, const char *const *but_types,
                 gsize count, gboolean *ret_news, GError **error)
{
    StoreArguments *arguments = store_arguments("i", *seq);
    store_arguments_text_array(arguments, but_types, count);
    g_autoptr(StoreRows) rows =
        store_run(connection, &audit_statements[AUDIT_NEWS], arguments, error);
    if (rows == NULL)
        return FALSE;
    *seq = store_rows_integer(rows, 0, 0);
    *ret_news = store_rows_boolean(rows, 0, 1);
    return TRUE;
}

gboolean
audit_store_lock(StoreConnection *connection, GError **error)
{
    return store_do(connection, &audit_statements[AUDIT_LOCK], NULL, error);
}
