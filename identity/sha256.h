/* identity/sha256.h: SHA-256 by OpenSSL, which uses the processor's own instructions: each event is
 * hashed twice, each request's token once, and libsodium takes four times as long.
 *
 * For all floors from identity/ up.  Thread-safe. */
#pragma once

#include <glib.h>

#define SHA256_BYTES 32

void sha256(const void *data, gsize length, guint8 ret_hash[SHA256_BYTES]);
