#include "identity/unpadded_base64.h"

#include <sodium.h>
#include <string.h>

static int
unpadded_variant(Base64Alphabet alphabet)
{
    return alphabet == BASE64_URL_SAFE ? sodium_base64_VARIANT_URLSAFE_NO_PADDING
                                       : sodium_base64_VARIANT_ORIGINAL_NO_PADDING;
}

static const char *
alphabet_digits(Base64Alphabet alphabet)
{
    return alphabet == BASE64_URL_SAFE
               ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
               : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
}

char *
unpadded_base64_encode(const void *data, gsize length, Base64Alphabet alphabet)
{
    int variant = unpadded_variant(alphabet);
    gsize size = sodium_base64_encoded_len(length, variant);
    char *text = g_malloc(size);
    return sodium_bin2base64(text, size, length > 0 ? data : (const void *)"", length, variant);
}

void
unpadded_base64_encode_to(char *text, const guint8 *data, gsize length, Base64Alphabet alphabet)
{
    const char *digits = alphabet_digits(alphabet);
    guint32 bits = 0;
    guint count = 0; /* of bits that no character shows yet */
    for (gsize i = 0; i < length; i++) {
        bits = bits << 8 | data[i];
        for (count += 8; count >= 6; count -= 6)
            *text++ = digits[bits >> (count - 6) & 63];
    }
    if (count > 0)
        *text++ = digits[bits << (6 - count) & 63];
    *text = '\0';
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

/* Bits behind the end of the value in the last character are ignored, as other servers do (the
 * specification's own test seed has one set); libsodium would refuse them. Gives the character
 * without them. */
static char
last_character(const char *text, gsize length, Base64Alphabet alphabet)
{
    const char *digits = alphabet_digits(alphabet);
    guint value = (guint)(strchr(digits, text[length - 1]) - digits);
    guint spare = length % 4 == 2 ? 4 : length % 4 == 3 ? 2 : 0; /* bits */
    return digits[value >> spare << spare];
}

/* FALSE leaves nothing to free. */
static gboolean
decode(const char *text, Base64Alphabet alphabet, guint8 **ret_data, gsize *ret_length)
{
    gsize length = length_without_padding(text);
    /* libsodium 1.0.18 reads bytes above 0x7F as digits, so the alphabet is checked here */
    if (strspn(text, alphabet_digits(alphabet)) < length)
        return FALSE;
    char *copy = g_try_malloc(length + 1);
    guint8 *data = g_try_malloc(length / 4 * 3 + 3);
    gboolean good = copy != NULL && data != NULL;
    if (good) {
        memcpy(copy, text, length);
        if (length > 0)
            copy[length - 1] = last_character(text, length, alphabet);
        good = sodium_base642bin(data, length / 4 * 3 + 3, copy, length, NULL, ret_length, NULL,
                                 unpadded_variant(alphabet)) == 0;
        sodium_memzero(copy, length);
    }
    g_free(copy);
    if (good)
        *ret_data = data;
    else
        g_free(data);
    return good;
}

GBytes *
unpadded_base64_decode(const char *text, Base64Alphabet alphabet)
{
    guint8 *data = NULL;
    gsize length = 0;
    return decode(text, alphabet, &data, &length) ? g_bytes_new_take(data, length) : NULL;
}

gboolean
unpadded_base64_decode_exact(const char *text, Base64Alphabet alphabet, void *out, gsize length)
{
    guint8 *data = NULL;
    gsize decoded = 0;
    if (!decode(text, alphabet, &data, &decoded))
        return FALSE;
    if (decoded == length)
        memcpy(out, data, length);
    sodium_memzero(data, decoded);
    g_free(data);
    return decoded == length;
}
