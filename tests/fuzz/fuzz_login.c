/* Fuzz target: what strangers hand to the log-in: tokens, return addresses, signed contents. */
#include <string.h>

#include "identity/challenge.h"
#include "identity/device_link.h"
#include "identity/json.h"
#include "identity/login_token.h"
#include "identity/token.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static const char *const allowed[] = {"https://chat.alpha.example/", "http://127.0.0.1/landed",
                                          "http://localhost", NULL};
    static TokenKey *key;
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(cJSON) json = NULL;
    ChallengeContent content;
    Token token;

    if (key == NULL) {
        RecordKey *record_key = record_key_new_for_tests();
        key = token_key_new(record_key);
        record_key_free(record_key);
    }
    /* Nobody guesses sixteen bytes of MAC. */
    g_assert_false(token_read(key, text, &token));
    if (redirect_url_is_allowed(allowed, text)) {
        g_autofree char *origin = redirect_url_origin(text);
        g_assert_true(strcmp(origin, "https://chat.alpha.example") == 0 ||
                      g_str_has_prefix(origin, "http://127.0.0.1") ||
                      g_str_has_prefix(origin, "http://localhost"));
        g_assert_null(strpbrk(origin, "@\\?#"));
        g_assert_null(strpbrk(text, "\r\n\"<>"));
    }
    if (device_id_is_valid(text))
        g_assert_cmpuint(strlen(text), <=, DEVICE_ID_BYTES_MAX);
    if (challenge_content_read(bytes, &json, &content, NULL)) {
        g_assert_cmpuint(g_bytes_get_size(content.tls_exporter), ==, 32);
        g_autoptr(GBytes) again = challenge_content(&content);
        g_assert_nonnull(again);
        challenge_content_clear(&content);
    }
    return 0;
}
