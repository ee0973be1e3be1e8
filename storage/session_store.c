#include "storage/session_store.h"

#define SESSION_COLUMNS                                                                            \
    "s.user_id, s.device_id, s.session_id, s.kind, s.client, s.scope, s.certificate, s.proof_ms, " \
    "s.expires_ms, s.newest_generation, s.used_generation, s.mac, t.token_hash, t.kind, "          \
    "t.generation, "                                                                               \
    "t.expires_ms, t.mac"
#define SESSION_FIND                                                                               \
    "SELECT " SESSION_COLUMNS " FROM session s LEFT JOIN token t "                                 \
    "ON t.session_id = s.session_id AND t.token_hash = $2 WHERE s.session_id = $1"

enum {
    SESSION_FIND_ROW,
    SESSION_LOCK_ROW,
    SESSION_INSERT,
    SESSION_UPDATE,
    SESSION_DELETE,
    SESSION_DELETE_ALL,
    SESSION_LIVE,
    SESSION_OF_CERTIFICATE,
    SESSION_EXISTING,
    TOKEN_INSERT,
    TOKEN_DELETE_GENERATIONS,
    TOKEN_DELETE_DEVICE,
    TOKEN_DELETE_ALL,
    N_STATEMENTS
};

const StoreStatement session_statements[] = {
    [SESSION_FIND_ROW] = {"session_find", SESSION_FIND},
    [SESSION_LOCK_ROW] = {"session_lock", SESSION_FIND " FOR UPDATE OF s"},
    [SESSION_INSERT] =
        {"session_insert",
         "INSERT INTO session (user_id, device_id, session_id, kind, client, scope, certificate, "
         "proof_ms, expires_ms, newest_generation, used_generation, mac) "
         "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"},
    [SESSION_UPDATE] = {"session_update",
                        "UPDATE session SET newest_generation = $3, used_generation = $4, mac = $5 "
                        "WHERE user_id = $1 AND device_id = $2"},
    [SESSION_DELETE] = {"session_delete",
                        "DELETE FROM session WHERE user_id = $1 AND device_id = $2"},
    [SESSION_DELETE_ALL] = {"session_delete_all", "DELETE FROM session WHERE user_id = $1"},
    [SESSION_LIVE] = {"session_live",
                      "SELECT user_id, device_id, certificate, expires_ms FROM session s "
                      "WHERE (user_id, device_id) > ($2, $3) AND expires_ms > $1 "
                      "AND EXISTS (SELECT 1 FROM token t WHERE t.session_id = s.session_id) "
                      "ORDER BY user_id, device_id LIMIT $4"},
    [SESSION_OF_CERTIFICATE] = {"session_of_certificate",
                                "SELECT user_id, device_id, certificate, expires_ms FROM session "
                                "WHERE certificate = $1 ORDER BY user_id, device_id"},
    [SESSION_EXISTING] = {"session_existing",
                          "SELECT s.session_id, t.session_id IS NOT NULL FROM session s "
                          "LEFT JOIN LATERAL (SELECT session_id FROM token "
                          "WHERE token.session_id = s.session_id LIMIT 1) t ON true "
                          "WHERE s.session_id = ANY ($1::text[])"},
    [TOKEN_INSERT] =
        {"token_insert",
         "INSERT INTO token (session_id, token_hash, kind, generation, expires_ms, mac) "
         "VALUES ($1, $2, $3, $4, $5, $6)"},
    [TOKEN_DELETE_GENERATIONS] =
        {"token_delete_generations",
         "DELETE FROM token WHERE session_id = $1 AND NOT generation BETWEEN $2 AND $3"},
    [TOKEN_DELETE_DEVICE] =
        {"token_delete_device",
         "DELETE FROM token WHERE session_id IN "
         "(SELECT session_id FROM session WHERE user_id = $1 AND device_id = $2)"},
    [TOKEN_DELETE_ALL] = {"token_delete_all",
                          "DELETE FROM token WHERE session_id IN "
                          "(SELECT session_id FROM session WHERE user_id = $1)"},
};
const guint session_statement_count = N_STATEMENTS;

void
session_row_clear(SessionRow *row)
{
    g_clear_pointer(&row->user_id, g_free);
    g_clear_pointer(&row->device_id, g_free);
    g_clear_pointer(&row->session_id, g_free);
    g_clear_pointer(&row->client, g_free);
    g_clear_pointer(&row->scope, g_free);
    g_clear_pointer(&row->certificate, g_bytes_unref);
    g_clear_pointer(&row->mac, g_bytes_unref);
}

void
token_row_clear(TokenRow *row)
{
    g_clear_pointer(&row->session_id, g_free);
    g_clear_pointer(&row->token_hash, g_bytes_unref);
    g_clear_pointer(&row->mac, g_bytes_unref);
}

void
session_brief_free(SessionBrief *brief)
{
    if (brief == NULL)
        return;
    g_free(brief->user_id);
    g_free(brief->device_id);
    g_bytes_unref(brief->certificate);
    g_free(brief);
}

static gboolean
session_store_read(StoreConnection *connection, int statement, const char *session_id,
                   GBytes *token_hash, SessionRow *ret_session, TokenRow *ret_token, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &session_statements[statement],
                                          store_arguments("ty", session_id, token_hash), error);
    if (rows == NULL)
        return FALSE;
    *ret_session = (SessionRow){0};
    *ret_token = (TokenRow){0};
    if (store_rows_count(rows) == 0)
        return TRUE;
    ret_session->user_id = g_strdup(store_rows_text(rows, 0, 0));
    ret_session->device_id = g_strdup(store_rows_text(rows, 0, 1));
    ret_session->session_id = g_strdup(store_rows_text(rows, 0, 2));
    ret_session->kind = store_rows_integer(rows, 0, 3);
    ret_session->client = g_strdup(store_rows_text(rows, 0, 4));
    ret_session->scope = g_strdup(store_rows_text(rows, 0, 5));
    ret_session->certificate = store_rows_bytes(rows, 0, 6);
    ret_session->proof_ms = store_rows_integer(rows, 0, 7);
    ret_session->expires_ms = store_rows_integer(rows, 0, 8);
    ret_session->newest_generation = store_rows_integer(rows, 0, 9);
    ret_session->used_generation = store_rows_integer(rows, 0, 10);
    ret_session->mac = store_rows_bytes(rows, 0, 11);
    if (store_rows_is_null(rows, 0, 12))
        return TRUE;
    ret_token->session_id = g_strdup(ret_session->session_id);
    ret_token->token_hash = store_rows_bytes(rows, 0, 12);
    ret_token->kind = store_rows_integer(rows, 0, 13);
    ret_token->generation = store_rows_integer(rows, 0, 14);
    ret_token->expires_ms = store_rows_integer(rows, 0, 15);
    ret_token->mac = store_rows_bytes(rows, 0, 16);
    return TRUE;
}

gboolean
session_store_find(StoreConnection *connection, const char *session_id, GBytes *token_hash,
                   SessionRow *ret_session, TokenRow *ret_token, GError **error)
{
    return session_store_read(connection, SESSION_FIND_ROW, session_id, token_hash, ret_session,
                              ret_token, error);
}

gboolean
session_store_lock(StoreConnection *connection, const char *session_id, GBytes *token_hash,
                   SessionRow *ret_session, TokenRow *ret_token, GError **error)
{
    return session_store_read(connection, SESSION_LOCK_ROW, session_id, token_hash, ret_session,
                              ret_token, error);
}

gboolean
session_store_update(StoreConnection *connection, const SessionRow *row, GError **error)
{
    return store_do(connection, &session_statements[SESSION_UPDATE],
                    store_arguments("ttiiy", row->user_id, row->device_id, row->newest_generation,
                                    row->used_generation, row->mac),
                    error);
}

static StoreArguments *
token_arguments(const TokenRow *row)
{
    return store_arguments("tyiiiy", row->session_id, row->token_hash, row->kind, row->generation,
                           row->expires_ms, row->mac);
}

gboolean
session_store_insert_token(StoreConnection *connection, const TokenRow *row, GError **error)
{
    return store_do(connection, &session_statements[TOKEN_INSERT], token_arguments(row), error);
}

gboolean
session_store_delete_tokens(StoreConnection *connection, const char *session_id, gint64 from,
                            gint64 to, GError **error)
{
    return store_do(connection, &session_statements[TOKEN_DELETE_GENERATIONS],
                    store_arguments("tii", session_id, from, to), error);
}

void
session_store_insert_in_batch(LaneBatch *batch, const SessionRow *row)
{
    session_store_delete_in_batch(batch, row->user_id, row->device_id);
    lane_batch_add(batch, &session_statements[SESSION_INSERT],
                   store_arguments("tttittyiiiiy", row->user_id, row->device_id, row->session_id,
                                   row->kind, row->client, row->scope, row->certificate,
                                   row->proof_ms, row->expires_ms, row->newest_generation,
                                   row->used_generation, row->mac));
}

void
session_store_insert_token_in_batch(LaneBatch *batch, const TokenRow *row)
{
    lane_batch_add(batch, &session_statements[TOKEN_INSERT], token_arguments(row));
}

void
session_store_delete_in_batch(LaneBatch *batch, const char *user_id, const char *device_id)
{
    if (device_id != NULL)
        lane_batch_add(batch, &session_statements[SESSION_DELETE],
                       store_arguments("tt", user_id, device_id));
    else
        lane_batch_add(batch, &session_statements[SESSION_DELETE_ALL],
                       store_arguments("t", user_id));
}

void
session_store_delete_all_tokens_in_batch(LaneBatch *batch, const char *user_id,
                                         const char *device_id)
{
    if (device_id != NULL)
        lane_batch_add(batch, &session_statements[TOKEN_DELETE_DEVICE],
                       store_arguments("tt", user_id, device_id));
    else
        lane_batch_add(batch, &session_statements[TOKEN_DELETE_ALL], store_arguments("t", user_id));
}

static GPtrArray *
briefs_of(StoreRows *rows)
{
    GPtrArray *briefs = g_ptr_array_new_with_free_func((GDestroyNotify)session_brief_free);
    for (guint row = 0; row < store_rows_count(rows); row++) {
        SessionBrief *brief = g_new0(SessionBrief, 1);
        brief->user_id = g_strdup(store_rows_text(rows, row, 0));
        brief->device_id = g_strdup(store_rows_text(rows, row, 1));
        brief->certificate = store_rows_bytes(rows, row, 2);
        brief->expires_ms = store_rows_integer(rows, row, 3);
        g_ptr_array_add(briefs, brief);
    }
    return briefs;
}

GPtrArray *
session_store_live(StoreConnection *connection, gint64 now_ms, const char *after_user_id,
                   const char *after_device_id, gint64 rows_max, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &session_statements[SESSION_LIVE],
                  store_arguments("itti", now_ms, after_user_id, after_device_id, rows_max), error);
    return rows != NULL ? briefs_of(rows) : NULL;
}

GPtrArray *
session_store_of_certificate(StoreConnection *connection, GBytes *certificate, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &session_statements[SESSION_OF_CERTIFICATE],
                                          store_arguments("y", certificate), error);
    return rows != NULL ? briefs_of(rows) : NULL;
}

gboolean
session_store_existing(StoreConnection *connection, const char *const *session_ids, gsize count,
                       GPtrArray *with_tokens, GPtrArray *without_tokens, GError **error)
{
    StoreArguments *arguments = store_arguments_new();
    store_arguments_text_array(arguments, session_ids, count);
    g_autoptr(StoreRows) rows =
        store_run(connection, &session_statements[SESSION_EXISTING], arguments, error);
    if (rows == NULL)
        return FALSE;
    for (guint row = 0; row < store_rows_count(rows); row++)
        g_ptr_array_add(store_rows_boolean(rows, row, 1) ? with_tokens : without_tokens,
                        g_strdup(store_rows_text(rows, row, 0)));
    return TRUE;
}
