/* identity/token_key.h: the key, made from the record key and so never in the database, under which
 * token and session rows carry a MAC: whoever can write to the database still cannot write a row
 * that opens anything.
 *
 * For identity/ and the wiring in server/.  Immutable; any thread. */
#pragma once

#include <glib.h>

#include "identity/record_key.h"

#define TOKEN_MAC_BYTES 32

typedef struct TokenKey TokenKey;

/* The key of tokens is made from the record key: one file to keep, two uses that never meet. */
TokenKey *token_key_new(const RecordKey *record_key);
void token_key_free(TokenKey *key); /* wipes */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TokenKey, token_key_free)

/* The MAC of one row.  @table keeps rows of different tables apart; the values follow as in
 * store_arguments(): t const char *, i gint64, b gboolean, y GBytes *.  Each value is framed by its
 * kind and length, so no two different rows have the same input. */
void token_key_mac(const TokenKey *key, guint8 ret_mac[TOKEN_MAC_BYTES], const char *table,
                   const char *types, ...);
/* Constant time. */
gboolean token_key_mac_equal(const guint8 a[TOKEN_MAC_BYTES], GBytes *b);
