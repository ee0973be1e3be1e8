/* Fuzz target: bytes that make a statement are its one canonical form, and what is read is within
 * its limits. */
#include <string.h>

#include "identity/statement.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(Statement) statement = statement_from_bytes(bytes, NULL);
    if (statement == NULL)
        return 0;
    g_assert_cmpuint(size, <=, STATEMENT_BYTES_MAX);
    g_assert_cmpuint(strlen(statement->nonce), ==, 64);
    g_assert_cmpuint(strlen(statement->reason), <=, STATEMENT_TEXT_MAX);
    g_assert_true(statement->user_id[0] == '\0' ||
                  statement_user_id_is_valid(statement->user_id, statement->server_name));
    /* Made anew from what was read, it is the same bytes. */
    g_autoptr(Statement) again = statement_make(statement, NULL);
    g_assert_nonnull(again);
    g_assert_true(g_bytes_equal(again->bytes, bytes));
    g_assert_cmpstr(again->digest_hex, ==, statement->digest_hex);
    return 0;
}
