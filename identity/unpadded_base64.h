/* identity/unpadded_base64.h: base64 without padding, as keys, hashes, signatures and event ids use
 * it. Source: Matrix v1.19 appendices, "Unpadded Base64".  Any thread. */
#pragma once

#include <glib.h>

typedef enum {
    BASE64_STANDARD, /* + and / */
    BASE64_URL_SAFE, /* - and _ */
} Base64Alphabet;

/* Free with g_free; wipe first when @data was secret. */
char *unpadded_base64_encode(const void *data, gsize length, Base64Alphabet alphabet);

/* The same into @text, which has room for UNPADDED_BASE64_SIZE(length) bytes, the end included. Not
 * for secrets: it looks characters up in a table, which is quick. */
#define UNPADDED_BASE64_SIZE(length) (((length)*4 + 2) / 3 + 1)
void
unpadded_base64_encode_to(char *text, const guint8 *data, gsize length, Base64Alphabet alphabet);

/* Strict: that alphabet only, no blanks.  Padding may be there, whole ("should accept", says the
 * specification); bits behind the end are ignored.  NULL when @text is anything else. */
GBytes *unpadded_base64_decode(const char *text, Base64Alphabet alphabet);

/* The same for a value that must be exactly @length bytes; FALSE leaves @out alone. */
gboolean
unpadded_base64_decode_exact(const char *text, Base64Alphabet alphabet, void *out, gsize length);
