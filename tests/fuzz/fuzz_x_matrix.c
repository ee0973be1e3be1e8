/* Fuzz target: a header that the X-Matrix reader takes has names and values that can be signed and
 * read back. */
#include "federation/x_matrix.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static ServerKey *key;
    g_autofree char *value = g_strndup((const char *)data, size);
    g_autoptr(XMatrix) header = x_matrix_parse(value, NULL);
    if (header == NULL)
        return 0;
    if (key == NULL) {
        guint8 seed[32] = {1, 2, 3};
        key = server_key_new_for_tests("f", seed);
    }
    g_autofree char *ours =
        x_matrix_sign(key, header->origin, header->destination, "GET", "/x", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(XMatrix) again = x_matrix_parse(ours, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(again->origin, ==, header->origin);
    g_assert_cmpstr(again->destination, ==, header->destination);
    g_assert_true(x_matrix_verify(again, server_key_public(key), "GET", "/x", NULL, NULL));
    return 0;
}
