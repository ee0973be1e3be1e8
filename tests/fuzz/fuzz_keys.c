/* Fuzz target: public keys and signatures as clients and servers write them: device keys, one-time
 * keys, cross-signing keys, signed JSON, base64.  A signature that no key made is never taken. */
#include <string.h>

#include "identity/device_keys.h"
#include "identity/signed_json.h"
#include "identity/unpadded_base64.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static void
check_base64(const char *text)
{
    for (Base64Alphabet alphabet = BASE64_STANDARD; alphabet <= BASE64_URL_SAFE; alphabet++) {
        guint8 exact[PUBLIC_KEY_BYTES];
        g_autoptr(GBytes) bytes = unpadded_base64_decode(text, alphabet);
        gboolean is_key = unpadded_base64_decode_exact(text, alphabet, exact, sizeof exact);
        if (bytes == NULL) {
            g_assert_false(is_key);
            continue;
        }
        gsize length = 0;
        const void *raw = g_bytes_get_data(bytes, &length);
        g_assert_true(is_key == (length == sizeof exact));
        g_autofree char *written = unpadded_base64_encode(raw, length, alphabet);
        g_autoptr(GBytes) again = unpadded_base64_decode(written, alphabet);
        g_assert_nonnull(again);
        g_assert_true(g_bytes_equal(bytes, again));
        g_assert_cmpuint(strlen(written), <=, strlen(text));
    }
}

static void
check_keys(const cJSON *json)
{
    static const char *const usages[] = {"master", "self_signing", "user_signing"};
    static const guint8 nobody[PUBLIC_KEY_BYTES] = {9};
    const char *key = NULL;
    const cJSON *member;

    if (device_keys_check(json, "@a:b", "DEVICE", NULL)) {
        key = device_keys_ed25519(json, "DEVICE");
        g_assert_nonnull(key);
        g_assert_true(device_keys_signature_valid(json, "@a:b", "ed25519:DEVICE", key));
        g_assert_true(device_keys_same_identity(json, json));
    }
    cJSON_ArrayForEach(member, json)
    {
        if (member->string != NULL)
            device_keys_check_one_time(member->string, member, "@a:b", "DEVICE", key, NULL);
    }
    for (guint i = 0; i < G_N_ELEMENTS(usages); i++) {
        if (device_keys_check_cross_signing(json, "@a:b", usages[i], NULL, NULL))
            g_assert_nonnull(device_keys_cross_signing_public(json));
        device_keys_check_cross_signing(json, "@a:b", usages[i], "AAAA", NULL);
    }
    g_assert_false(signed_json_verify(json, "@a:b", "ed25519:DEVICE", nobody, NULL));
}

static void
check_signing(cJSON *json)
{
    g_autoptr(GBytes) before = signed_json_bytes(json, NULL);
    if (before == NULL || !signed_json_add_signature(json, "b", "ed25519:1", "c2lnbmVk", NULL))
        return;
    g_assert_cmpstr(signed_json_signature(json, "b", "ed25519:1"), ==, "c2lnbmVk");
    g_autoptr(GBytes) after = signed_json_bytes(json, NULL);
    g_assert_true(g_bytes_equal(before, after));
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(cJSON) json = json_parse((const char *)data, size, &json_limits_keys, NULL);
    check_base64(text);
    if (!cJSON_IsObject(json))
        return 0;
    check_keys(json);
    check_signing(json);
    return 0;
}
