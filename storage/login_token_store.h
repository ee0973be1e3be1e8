/* storage/login_token_store.h: rows of login_token.  Only identity/login_token.c makes one. */
#pragma once

#include "storage/store.h"

typedef struct {
    GBytes *token_hash;
    char *redirect_url;
    GBytes *chain;
    gint64 proof_ms;
    gint64 expires_ms;
    GBytes *mac;
} LoginTokenRow;
void login_token_row_clear(LoginTokenRow *row);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(LoginTokenRow, login_token_row_clear)

gboolean
login_token_store_insert(StoreConnection *connection, const LoginTokenRow *row, GError **error);
/* Removes the row and gives it: of several who ask, one gets it.  Absent: token_hash NULL. */
gboolean login_token_store_take(StoreConnection *connection, GBytes *token_hash,
                                LoginTokenRow *ret_row, GError **error);
gboolean login_token_store_sweep(StoreConnection *connection, gint64 now_ms, GError **error);

extern const StoreStatement login_token_statements[];
extern const guint login_token_statement_count;
