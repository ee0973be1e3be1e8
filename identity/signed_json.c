#include "identity/signed_json.h"

#include <sodium.h>
#include <string.h>

#include "identity/unpadded_base64.h"

GBytes *
signed_json_bytes(const cJSON *object, GError **error)
{
    static const char *const not_signed[] = {"signatures", "unsigned", NULL};
    return json_canonical_without(object, not_signed, error);
}

/* The object @key of @parent, made when absent; NULL when something else is there. */
static cJSON *
object_at(cJSON *parent, const char *key)
{
    cJSON *child = (cJSON *)json_object_get(parent, key);
    if (child == NULL) {
        child = cJSON_CreateObject();
        cJSON_AddItemToObject(parent, key, child);
    }
    return cJSON_IsObject(child) ? child : NULL;
}

gboolean
signed_json_add_signature(cJSON *object, const char *entity, const char *key_id,
                          const char *signature, GError **error)
{
    cJSON *signatures = object_at(object, "signatures");
    cJSON *of_entity = signatures != NULL ? object_at(signatures, entity) : NULL;
    if (of_entity == NULL) {
        g_set_error_literal(error, JSON_ERROR, JSON_ERROR_SHAPE,
                            "'signatures' must be an object of objects");
        return FALSE;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(of_entity, key_id);
    cJSON_AddItemToObject(of_entity, key_id, cJSON_CreateString(signature));
    return TRUE;
}

const char *
signed_json_signature(const cJSON *object, const char *entity, const char *key_id)
{
    return json_get_string(json_get_object(json_get_object(object, "signatures"), entity), key_id);
}

gboolean
ed25519_verify(const guint8 public_key[PUBLIC_KEY_BYTES], const void *bytes, gsize length,
               const char *signature)
{
    guint8 raw[SIGNATURE_BYTES];
    return unpadded_base64_decode_exact(signature, BASE64_STANDARD, raw, sizeof raw) &&
           crypto_sign_verify_detached(raw, bytes, length, public_key) == 0;
}

gboolean
signed_json_verify(const cJSON *object, const char *entity, const char *key_id,
                   const guint8 public_key[PUBLIC_KEY_BYTES], GError **error)
{
    const char *signature = signed_json_signature(object, entity, key_id);
    if (signature == NULL || !g_str_has_prefix(key_id, "ed25519:")) {
        g_set_error(error, JSON_ERROR, JSON_ERROR_SHAPE, "not signed by %s with %s", entity,
                    key_id);
        return FALSE;
    }
    g_autoptr(GBytes) bytes = signed_json_bytes(object, error);
    if (bytes == NULL)
        return FALSE;
    if (!ed25519_verify(public_key, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes),
                        signature)) {
        g_set_error(error, JSON_ERROR, JSON_ERROR_SHAPE, "the signature of %s does not verify",
                    entity);
        return FALSE;
    }
    return TRUE;
}
