/* identity/token_key.h: the key, in a file beside the configuration and never in the database, under which token
 * and session rows carry a MAC: whoever can write to the database still cannot write a row that opens anything.
 *
 * For identity/ and the wiring in server/.  Immutable after opening; any thread. */
#pragma once

#include <glib.h>

#define TOKEN_KEY_BYTES 32
#define TOKEN_MAC_BYTES 32

typedef struct TokenKey TokenKey;

/* Open the key file at @path: a regular file of 32 bytes, owned by this account or root, mode 0600 or less.
 * When absent and @create, a fresh one is made (O_EXCL, 0600, synced). */
TokenKey *token_key_open(const char *path, gboolean create, GError **error);
TokenKey *token_key_new_random(void); /* lives only as long as the process: tests */
void token_key_free(TokenKey *key);   /* wipes */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TokenKey, token_key_free)

/* The MAC of one row.  @table keeps rows of different tables apart; the values follow as in store_arguments():
 * t const char *, i gint64, b gboolean, y GBytes *.  Each value is framed by its kind and length, so no two
 * different rows have the same input. */
void token_key_mac(const TokenKey *key, guint8 ret_mac[TOKEN_MAC_BYTES], const char *table,
                   const char *types, ...);
/* Constant time. */
gboolean token_key_mac_equal(const guint8 a[TOKEN_MAC_BYTES], GBytes *b);
