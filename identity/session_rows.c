#include "identity/session_private.h"

#include <string.h>

#include "identity/refusal.h"

#define SENTENCE_EXPIRED                                                                           \
    "This access token has expired; refresh it, or log in again with your certificate (your keys " \
    "stay)"

/* ---- refusals ---- */

void
session_refuse_unknown(GError **error)
{
    refusal_set(error, 401, "M_UNKNOWN_TOKEN",
                "This token is not known here; log in with your certificate");
}

void
session_refuse_ended(GError **error)
{
    refusal_set(error, 401, "M_UNKNOWN_TOKEN",
                "This session was ended; log in again with your certificate");
}

void
session_refuse_expired(GError **error)
{
    refusal_set(error, 401, "M_UNKNOWN_TOKEN", "%s", SENTENCE_EXPIRED);
}

gboolean
session_refusal_is_soft(const GError *error)
{
    return g_error_matches(error, REFUSAL, 401) &&
           strcmp(error->message, "M_UNKNOWN_TOKEN: " SENTENCE_EXPIRED) == 0;
}

/* ---- rows and their MACs ---- */

static void
session_row_mac(const TokenKey *key, const SessionRow *row, guint8 ret_mac[TOKEN_MAC_BYTES])
{
    token_key_mac(key, ret_mac, "session", "tttittyiiii", row->user_id, row->device_id,
                  row->session_id, row->kind, row->client, row->scope, row->certificate,
                  row->proof_ms, row->expires_ms, row->newest_generation, row->used_generation);
}

void
session_row_seal(const TokenKey *key, SessionRow *row)
{
    guint8 mac[TOKEN_MAC_BYTES];
    session_row_mac(key, row, mac);
    g_clear_pointer(&row->mac, g_bytes_unref);
    row->mac = g_bytes_new(mac, sizeof mac);
}

gboolean
session_row_is_ours(const TokenKey *key, const SessionRow *row)
{
    guint8 mac[TOKEN_MAC_BYTES];
    session_row_mac(key, row, mac);
    return token_key_mac_equal(mac, row->mac);
}

static void
token_row_mac(const TokenKey *key, const SessionRow *session, const TokenRow *row,
              guint8 ret_mac[TOKEN_MAC_BYTES])
{
    token_key_mac(key, ret_mac, "token", "tttyiii", session->user_id, session->device_id,
                  row->session_id, row->token_hash, row->kind, row->generation, row->expires_ms);
}

static void
token_row_seal(const TokenKey *key, const SessionRow *session, TokenRow *row)
{
    guint8 mac[TOKEN_MAC_BYTES];
    token_row_mac(key, session, row, mac);
    row->mac = g_bytes_new(mac, sizeof mac);
}

static gboolean
token_row_is_ours(const TokenKey *key, const SessionRow *session, const TokenRow *row)
{
    guint8 mac[TOKEN_MAC_BYTES];
    token_row_mac(key, session, row, mac);
    return token_key_mac_equal(mac, row->mac);
}

/* A token of @session's newest generation: its text, and the row to write. */
char *
session_token_issue(const TokenKey *key, const SessionRow *session,
                    const guint8 raw[TOKEN_SESSION_BYTES], TokenKind kind, gint64 expires_ms,
                    TokenRow *ret_row)
{
    Token token = {.kind = kind, .generation = (guint32)session->newest_generation};
    memcpy(token.session, raw, TOKEN_SESSION_BYTES);
    char *text = token_make(key, &token);
    *ret_row = (TokenRow){
        .session_id = g_strdup(session->session_id),
        .token_hash = token_hash(text),
        .kind = kind,
        .generation = session->newest_generation,
        .expires_ms = expires_ms,
    };
    token_row_seal(key, session, ret_row);
    return text;
}

void
session_tokens_free(SessionTokens *tokens)
{
    if (tokens == NULL)
        return;
    g_free(tokens->user_id);
    g_free(tokens->device_id);
    token_text_free(tokens->access_token);
    token_text_free(tokens->refresh_token);
    g_free(tokens);
}

/* The rows under @text: both ours, neither over.  FALSE with the refusal. */
gboolean
session_rows_stand(const TokenKey *key, const Token *token, const SessionRow *session,
                   const TokenRow *row, gint64 now_ms, GError **error)
{
    if (session->session_id == NULL || !session_row_is_ours(key, session)) {
        session_refuse_unknown(error);
        return FALSE;
    }
    /* A token of this session that has no row was replaced by a newer one, or swept away with an
     * expired session: the client refreshes or logs in again, and keeps its keys. */
    if (row->session_id == NULL || session->expires_ms <= now_ms) {
        session_refuse_expired(error);
        return FALSE;
    }
    if (!token_row_is_ours(key, session, row) || row->kind != (gint64)token->kind ||
        row->generation != (gint64)token->generation) {
        session_refuse_unknown(error);
        return FALSE;
    }
    if (row->expires_ms <= now_ms || row->generation < session->used_generation) {
        session_refuse_expired(error);
        return FALSE;
    }
    return TRUE;
}
