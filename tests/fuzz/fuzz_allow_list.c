/* Fuzz target: an allow-list file that is taken can be written and read again, and means the same.
 */
#include "federation/allow_list.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    g_autoptr(GBytes) file = g_bytes_new(data, size);
    g_autoptr(GBytes) content = NULL;
    g_autoptr(GBytes) signature = NULL;
    g_autoptr(AllowList) list = allow_list_read(file, &content, &signature, NULL);
    if (list == NULL)
        return 0;
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) written = allow_list_write(content, signature, &error);
    g_assert_no_error(error);
    g_autoptr(GBytes) content_again = NULL;
    g_autoptr(GBytes) signature_again = NULL;
    g_autoptr(AllowList) again = allow_list_read(written, &content_again, &signature_again, &error);
    g_assert_no_error(error);
    g_assert_true(g_bytes_equal(content, content_again));
    g_assert_cmpint(again->serial, ==, list->serial);
    g_assert_cmpuint(again->entries->len, ==, list->entries->len);
    return 0;
}
