#include "identity/seeded_hash.h"

#include <sodium.h>
#include <string.h>

static guint8 process_key[crypto_shorthash_KEYBYTES];

static guint
hash_bytes(const void *data, gsize length)
{
    static gsize ready;
    guint8 hash[crypto_shorthash_BYTES];
    guint result;
    if (g_once_init_enter(&ready)) {
        if (sodium_init() < 0)
            g_error("libsodium does not start: no source of random numbers");
        crypto_shorthash_keygen(process_key);
        g_once_init_leave(&ready, 1);
    }
    crypto_shorthash(hash, data, length, process_key);
    memcpy(&result, hash, sizeof result);
    return result;
}

guint
seeded_str_hash(gconstpointer key)
{
    return hash_bytes(key, strlen(key));
}

guint
seeded_bytes_hash(gconstpointer key)
{
    gsize length = 0;
    const void *data = g_bytes_get_data((GBytes *)key, &length);
    return hash_bytes(length > 0 ? data : "", length);
}
