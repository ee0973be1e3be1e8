/* storage/session_store.h: rows of session and token.  No meaning here: MACs, clocks and
 * generations are identity/session.c's; identity/session_link.c is the only caller of what inserts.
 *
 * "…_in_batch" adds to a lane operation; the others run on a borrowed connection. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

typedef struct {
    char *user_id;
    char *device_id;
    char *session_id;
    gint64 kind;
    char *client;
    char *scope;
    GBytes *certificate;
    gint64 proof_ms;
    gint64 expires_ms;
    gint64 newest_generation;
    gint64 used_generation;
    GBytes *mac;
} SessionRow;
void session_row_clear(SessionRow *row);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SessionRow, session_row_clear)

typedef struct {
    char *session_id;
    GBytes *token_hash;
    gint64 kind;
    gint64 generation;
    gint64 expires_ms;
    GBytes *mac;
} TokenRow;
void token_row_clear(TokenRow *row);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(TokenRow, token_row_clear)

/* The session and its token with that hash.  Absent: success with session_id NULL in the row. */
gboolean session_store_find(StoreConnection *connection, const char *session_id, GBytes *token_hash,
                            SessionRow *ret_session, TokenRow *ret_token, GError **error);
/* The same, and the session row stays locked until the transaction ends. */
gboolean session_store_lock(StoreConnection *connection, const char *session_id, GBytes *token_hash,
                            SessionRow *ret_session, TokenRow *ret_token, GError **error);
/* Writes generations and MAC of an existing session. */
gboolean session_store_update(StoreConnection *connection, const SessionRow *row, GError **error);
gboolean
session_store_insert_token(StoreConnection *connection, const TokenRow *row, GError **error);
/* Tokens of generations outside [@from, @to] go. */
gboolean session_store_delete_tokens(StoreConnection *connection, const char *session_id,
                                     gint64 from, gint64 to, GError **error);

/* Replaces whatever session the device had. */
void session_store_insert_in_batch(LaneBatch *batch, const SessionRow *row);
void session_store_insert_token_in_batch(LaneBatch *batch, const TokenRow *row);
/* @device_id NULL: all of the user's.  Tokens and interactive proofs go with them. */
void session_store_delete_in_batch(LaneBatch *batch, const char *user_id, const char *device_id);
/* The tokens alone: the sessions stay, ended but known. */
void session_store_delete_all_tokens_in_batch(LaneBatch *batch, const char *user_id,
                                              const char *device_id);

/* Pages of live sessions for the revocation clock, by (user_id, device_id) after the given ones. */
typedef struct {
    char *user_id;
    char *device_id;
    GBytes *certificate;
    gint64 expires_ms;
} SessionBrief;
void session_brief_free(SessionBrief *brief);
GPtrArray *session_store_live(StoreConnection *connection, gint64 now_ms, const char *after_user_id,
                              const char *after_device_id, gint64 rows_max, GError **error);
/* Which of @session_ids have a row, with or without any token: added as char * to the two arrays.
 */
gboolean
session_store_existing(StoreConnection *connection, const char *const *session_ids, gsize count,
                       GPtrArray *with_tokens, GPtrArray *without_tokens, GError **error);
GPtrArray *
session_store_of_certificate(StoreConnection *connection, GBytes *certificate, GError **error);

extern const StoreStatement session_statements[];
extern const guint session_statement_count;
