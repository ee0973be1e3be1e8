#include "identity/device_keys.h"

#include <olm/olm.h>
#include <sodium.h>
#include <string.h>

#include "identity/refusal.h"
#include "identity/signed_json.h"

/* 32 bytes in unpadded base64 have 43 characters. */
#define KEY_CHARACTERS 43u

static gboolean
decode(const char *text, gsize length, guint8 *ret_bytes)
{
    gsize decoded = 0;
    const char *end = NULL;
    return text != NULL &&
           sodium_base642bin(ret_bytes, length, text, strlen(text), NULL, &decoded, &end,
                             sodium_base64_VARIANT_ORIGINAL_NO_PADDING) == 0 &&
           decoded == length && *end == '\0';
}

static gboolean
is_key(const char *text)
{
    guint8 bytes[32];
    return text != NULL && strlen(text) == KEY_CHARACTERS && decode(text, sizeof bytes, bytes);
}

static gboolean
olm_accepts(const char *public_key, const void *message, gsize length, const char *signature)
{
    g_autofree void *memory = g_malloc(olm_utility_size());
    OlmUtility *utility = olm_utility(memory);
    /* libolm decodes the signature in place. */
    g_autofree char *scratch = g_strdup(signature);
    gboolean valid = olm_ed25519_verify(utility, public_key, strlen(public_key), message, length,
                                        scratch, strlen(scratch)) != olm_error();
    olm_clear_utility(utility);
    return valid;
}

gboolean
device_keys_signature_valid(const cJSON *object, const char *user_id, const char *key_id,
                            const char *public_key)
{
    const char *signature =
        json_get_string(json_get_object(json_get_object(object, "signatures"), user_id), key_id);
    guint8 key[crypto_sign_PUBLICKEYBYTES];
    guint8 raw[crypto_sign_BYTES];
    if (!decode(public_key, sizeof key, key) || !decode(signature, sizeof raw, raw))
        return FALSE;
    g_autoptr(GBytes) message = signed_json_bytes(object, NULL);
    if (message == NULL)
        return FALSE;
    gsize length = 0;
    const guint8 *bytes = g_bytes_get_data(message, &length);
    return crypto_sign_verify_detached(raw, bytes, length, key) == 0 &&
           olm_accepts(public_key, bytes, length, signature);
}

static gboolean
refuse(GError **error, const char *sentence)
{
    refusal_set(error, 400, "M_INVALID_PARAM", "%s", sentence);
    return FALSE;
}

GBytes *
device_keys_bytes(const cJSON *key, gsize bytes_max, GError **error)
{
    g_autoptr(GBytes) bytes = json_canonical(key, error);
    if (bytes == NULL || g_bytes_get_size(bytes) <= bytes_max)
        return g_steal_pointer(&bytes);
    refusal_set(error, 413, "M_TOO_LARGE", "A key of this kind may take %" G_GSIZE_FORMAT " bytes",
                bytes_max);
    return NULL;
}

const char *
device_keys_ed25519(const cJSON *keys, const char *device_id)
{
    g_autofree char *name = g_strconcat("ed25519:", device_id, NULL);
    return json_get_string(json_get_object(keys, "keys"), name);
}

static const char *
device_keys_curve25519(const cJSON *keys, const char *device_id)
{
    g_autofree char *name = g_strconcat("curve25519:", device_id, NULL);
    return json_get_string(json_get_object(keys, "keys"), name);
}

gboolean
device_keys_check(const cJSON *keys, const char *user_id, const char *device_id, GError **error)
{
    if (g_strcmp0(json_get_string(keys, "user_id"), user_id) != 0 ||
        g_strcmp0(json_get_string(keys, "device_id"), device_id) != 0)
        return refuse(error, "device_keys must name the user and device of this session");
    const cJSON *algorithms = json_get_array(keys, "algorithms");
    if (algorithms == NULL)
        return refuse(error, "device_keys needs algorithms, an array of strings");
    for (const cJSON *item = algorithms->child; item != NULL; item = item->next)
        if (!cJSON_IsString(item))
            return refuse(error, "device_keys.algorithms must hold strings only");
    for (const cJSON *item =
             json_get_object(keys, "keys") != NULL ? json_get_object(keys, "keys")->child : NULL;
         item != NULL; item = item->next)
        if (!cJSON_IsString(item))
            return refuse(error, "device_keys.keys must hold strings only");
    const char *ed25519 = device_keys_ed25519(keys, device_id);
    if (!is_key(ed25519) || !is_key(device_keys_curve25519(keys, device_id)))
        return refuse(error, "device_keys.keys needs ed25519 and curve25519 keys of this device, "
                             "32 bytes in unpadded base64");
    g_autofree char *key_id = g_strconcat("ed25519:", device_id, NULL);
    if (!device_keys_signature_valid(keys, user_id, key_id, ed25519)) {
        refusal_set(error, 400, "M_INVALID_SIGNATURE",
                    "device_keys must be signed by the device's own ed25519 key");
        return FALSE;
    }
    return TRUE;
}

gboolean
device_keys_same_identity(const cJSON *a, const cJSON *b)
{
    return cJSON_Compare(json_get_object(a, "keys"), json_get_object(b, "keys"), TRUE);
}

gboolean
device_keys_check_one_time(const char *name, const cJSON *value, const char *user_id,
                           const char *device_id, const char *ed25519, GError **error)
{
    const char *colon = strchr(name, ':');
    if (colon == NULL || colon == name || colon[1] == '\0' || strlen(name) > 255)
        return refuse(error, "a one-time key's name is algorithm:id");
    if (g_str_has_prefix(name, "signed_")) {
        if (!cJSON_IsObject(value) || !is_key(json_get_string(value, "key")))
            return refuse(
                error, "a signed one-time key is an object with key, 32 bytes in unpadded base64");
        g_autofree char *key_id = g_strconcat("ed25519:", device_id, NULL);
        if (ed25519 == NULL || !device_keys_signature_valid(value, user_id, key_id, ed25519)) {
            refusal_set(error, 400, "M_INVALID_SIGNATURE",
                        "one-time and fallback keys must be signed by this device's ed25519 key; "
                        "upload device_keys first");
            return FALSE;
        }
        return TRUE;
    }
    if (!cJSON_IsString(value) || !is_key(cJSON_GetStringValue(value)))
        return refuse(error, "an unsigned one-time key is 32 bytes in unpadded base64");
    return TRUE;
}

const char *
device_keys_cross_signing_public(const cJSON *key)
{
    const cJSON *keys = json_get_object(key, "keys");
    return keys != NULL && keys->child != NULL ? cJSON_GetStringValue(keys->child) : NULL;
}

gboolean
device_keys_check_cross_signing(const cJSON *key, const char *user_id, const char *usage,
                                const char *master_key, GError **error)
{
    if (g_strcmp0(json_get_string(key, "user_id"), user_id) != 0)
        return refuse(error, "a cross-signing key must name the user who uploads it");
    gboolean usage_found = FALSE;
    const cJSON *usages = json_get_array(key, "usage");
    for (const cJSON *item = usages != NULL ? usages->child : NULL; item != NULL; item = item->next)
        usage_found |= g_strcmp0(cJSON_GetStringValue(item), usage) == 0;
    if (!usage_found)
        return refuse(error, "a cross-signing key's usage must name what it is uploaded as");
    const cJSON *keys = json_get_object(key, "keys");
    const char *public_key = device_keys_cross_signing_public(key);
    if (keys == NULL || cJSON_GetArraySize(keys) != 1 || !is_key(public_key))
        return refuse(error, "a cross-signing key holds exactly one ed25519 key");
    g_autofree char *expected = g_strconcat("ed25519:", public_key, NULL);
    if (strcmp(keys->child->string, expected) != 0)
        return refuse(error, "a cross-signing key's id is ed25519: and the key itself");
    if (master_key == NULL)
        return TRUE;
    g_autofree char *master_id = g_strconcat("ed25519:", master_key, NULL);
    if (!device_keys_signature_valid(key, user_id, master_id, master_key)) {
        refusal_set(error, 400, "M_INVALID_SIGNATURE",
                    "self-signing and user-signing keys must be signed by the master key");
        return FALSE;
    }
    return TRUE;
}
