/* Fuzz target: what the JSON gate lets through must come out canonical, and reading that again must
 * give the same bytes. */
#include "identity/json.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    g_autoptr(cJSON) tree = json_parse((const char *)data, size, &json_limits_event, NULL);
    if (tree == NULL)
        return 0;
    g_autoptr(GBytes) once = json_canonical(tree, NULL);
    g_assert_nonnull(once);
    gsize length = 0;
    const char *bytes = g_bytes_get_data(once, &length);
    g_autoptr(GError) error = NULL;
    g_autoptr(cJSON) again = json_parse(bytes, length, &json_limits_transaction, &error);
    g_assert_no_error(error);
    g_autoptr(GBytes) twice = json_canonical(again, NULL);
    g_assert_true(g_bytes_equal(once, twice));
    return 0;
}
