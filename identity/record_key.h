/* identity/record_key.h: MACs of database rows under a key outside the database.
 *
 * Who can write the database (its administrator, a restored backup, an injection) still cannot make
 * a row that counts: founding officers, states of enrolments, and sessions carry a MAC under this
 * key. The key is 32 random bytes in a file of its own, read at start; loss of the file means a new
 * founding.  The same key hides national identifiers: a person_ref is a keyed hash.
 *
 * For identity/ and server/.  Immutable after it is made; any thread. */
#pragma once

#include <glib.h>

typedef struct RecordKey RecordKey;

#define RECORD_KEY_BYTES 32
#define RECORD_MAC_BYTES 32

/* Reads the file; makes it (mode 0600, fresh random bytes, durable) when absent and @create.  A
 * file that others may read, or of another length, is refused. */
RecordKey *record_key_open(const char *path, gboolean create, GError **error);
RecordKey *record_key_new_for_tests(void);
void record_key_free(RecordKey *key); /* wipes; accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RecordKey, record_key_free)

/* MAC over @parts (@count of them, each preceded by its length, so no two lists run together).
 * @context names the kind of row: a MAC of one kind says nothing for another. */
GBytes *
record_key_mac(const RecordKey *key, const char *context, GBytes *const *parts, guint count);
/* Constant time. */
gboolean record_key_check(const RecordKey *key, const char *context, GBytes *const *parts,
                          guint count, GBytes *mac);
/* Two MACs compared in constant time; NULL equals nothing. */
gboolean record_mac_equal(GBytes *expected, GBytes *mac);
/* The MAC over text parts, a list that NULL ends. */
GBytes *record_key_mac_text(const RecordKey *key, const char *context, ...) G_GNUC_NULL_TERMINATED;

/* The reference to a person in statements: lower-case hex of a keyed hash of the national
 * identifier (the certificate's subject serialNumber), so that a copy of the database tells no
 * identifier. */
char *record_key_person_ref(const RecordKey *key, const char *national_identifier);
