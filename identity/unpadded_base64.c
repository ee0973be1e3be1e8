#include "identity/unpadded_base64.h"

#include <sodium.h>
#include <string.h>

static int
unpadded_variant(Base64Alphabet alphabet)
{
    return alphabet == BASE64_URL_SAFE ? sodium_base64_VARIANT_URLSAFE_NO_PADDING
                                       : sodium_base64_VARIANT_ORIGINAL_NO_PADDING;
}

char *
unpadded_base64_encode(const void *data, gsize length, Base64Alphabet alphabet)
{
    int variant = unpadded_variant(alphabet);
    gsize size = sodium_base64_encoded_len(length, variant);
    char *text = g_malloc(size);
    return sodium_bin2base64(text, size, length > 0 ? data : (const void *)"", length, variant);
}

/* Length of @text without whole padding; a padding of the wrong length stays and fails in the
 * decoder. */
static gsize
length_without_padding(const char *text)
{
    gsize length = strlen(text);
    gsize padding = 0;
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
        padding++;
    return padding > 0 && length % 4 == 0 ? length - padding : length;
}

GBytes *
unpadded_base64_decode(const char *text, Base64Alphabet alphabet)
{
    gsize text_length = length_without_padding(text);
    gsize size = text_length / 4 * 3 + 3;
    gsize length = 0;
    g_autofree guint8 *data = g_try_malloc(size);
    if (data == NULL)
        return NULL;
    if (sodium_base642bin(data, size, text, text_length, NULL, &length, NULL,
                          unpadded_variant(alphabet)) != 0)
        return NULL;
    return g_bytes_new_take(g_steal_pointer(&data), length);
}

gboolean
unpadded_base64_decode_exact(const char *text, Base64Alphabet alphabet, void *out, gsize length)
{
    gsize text_length = length_without_padding(text);
    gsize decoded = 0;
    g_autofree guint8 *data = NULL;
    if (text_length != (length * 4 + 2) / 3)
        return FALSE;
    data = g_malloc(length + 3);
    gboolean good = sodium_base642bin(data, length + 3, text, text_length, NULL, &decoded, NULL,
                                      unpadded_variant(alphabet)) == 0 &&
                    decoded == length;
    if (good)
        memcpy(out, data, length);
    sodium_memzero(data, length + 3);
    return good;
}
