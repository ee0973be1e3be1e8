#include "identity/token_key.h"

#include <sodium.h>
#include <string.h>

enum {
    KEY_BYTES = 32
};

struct TokenKey {
    guint8 *bytes; /* sodium_malloc: guarded, locked, read-only */
};

TokenKey *
token_key_new(const RecordKey *record_key)
{
    if (sodium_init() < 0)
        g_error("libsodium cannot start");
    g_autoptr(GBytes) bytes = record_key_mac_text(record_key, "token-key", NULL);
    g_assert(g_bytes_get_size(bytes) == KEY_BYTES);
    TokenKey *key = g_new0(TokenKey, 1);
    key->bytes = sodium_malloc(KEY_BYTES);
    if (key->bytes == NULL)
        g_error("no memory for a key");
    memcpy(key->bytes, g_bytes_get_data(bytes, NULL), KEY_BYTES);
    sodium_mprotect_readonly(key->bytes);
    return key;
}

void
token_key_free(TokenKey *key)
{
    if (key == NULL)
        return;
    sodium_free(key->bytes);
    g_free(key);
}

static void
mac_value(crypto_generichash_state *state, char kind, const void *bytes, gsize length)
{
    guint64 frame = GUINT64_TO_LE((guint64)length);
    crypto_generichash_update(state, (const guint8 *)&kind, 1);
    crypto_generichash_update(state, (const guint8 *)&frame, sizeof frame);
    crypto_generichash_update(state, bytes, length);
}

void
token_key_mac(const TokenKey *key, guint8 ret_mac[TOKEN_MAC_BYTES], const char *table,
              const char *types, ...)
{
    crypto_generichash_state state;
    va_list values;

    crypto_generichash_init(&state, key->bytes, KEY_BYTES, TOKEN_MAC_BYTES);
    mac_value(&state, 'T', table, strlen(table));
    va_start(values, types);
    for (const char *type = types; *type != '\0'; type++) {
        if (*type == 't') {
            const char *text = va_arg(values, const char *);
            mac_value(&state, text != NULL ? 't' : '0', text != NULL ? text : "",
                      text != NULL ? strlen(text) : 0);
        } else if (*type == 'i') {
            gint64 number = GINT64_TO_LE(va_arg(values, gint64));
            mac_value(&state, 'i', &number, sizeof number);
        } else if (*type == 'b') {
            guint8 truth = va_arg(values, gboolean) ? 1 : 0;
            mac_value(&state, 'b', &truth, sizeof truth);
        } else {
            GBytes *bytes = va_arg(values, GBytes *);
            gsize length = 0;
            const void *data = bytes != NULL ? g_bytes_get_data(bytes, &length) : NULL;
            mac_value(&state, bytes != NULL ? 'y' : '0', data != NULL ? data : "", length);
        }
    }
    va_end(values);
    crypto_generichash_final(&state, ret_mac, TOKEN_MAC_BYTES);
    sodium_memzero(&state, sizeof state);
}

gboolean
token_key_mac_equal(const guint8 a[TOKEN_MAC_BYTES], GBytes *b)
{
    gsize length = 0;
    const void *data = b != NULL ? g_bytes_get_data(b, &length) : NULL;
    return length == TOKEN_MAC_BYTES && sodium_memcmp(a, data, TOKEN_MAC_BYTES) == 0;
}
