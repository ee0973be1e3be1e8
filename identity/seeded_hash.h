/* identity/seeded_hash.h: a hash for tables whose keys a client or partner can choose.
 * SipHash under a random key of this process, so that nobody outside can aim keys at one bucket, as
 * they could with g_str_hash.  Any thread. */
#pragma once

#include <glib.h>

guint seeded_str_hash(gconstpointer key);   /* a C string: for g_hash_table_new with g_str_equal */
guint seeded_bytes_hash(gconstpointer key); /* a GBytes: with g_bytes_equal */
