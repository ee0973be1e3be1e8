#include "server/client/key_answers.h"

#include <string.h>

#include "identity/device_keys.h"
#include "identity/refusal.h"
#include "storage/key_store.h"

cJSON *
key_answers_object(cJSON *parent, const char *name)
{
    cJSON *found = cJSON_GetObjectItemCaseSensitive(parent, name);
    if (found != NULL && cJSON_IsObject(found))
        return found;
    cJSON_DeleteItemFromObjectCaseSensitive(parent, name); /* a partner may send anything */
    return cJSON_AddObjectToObject(parent, name);
}

static cJSON *
stored_object(const StoreRows *rows, guint row, guint column, GError **error)
{
    gsize length = 0;
    const char *bytes = store_rows_data(rows, row, column, &length);
    return json_parse(bytes, length, &json_limits_keys, error);
}

/* Merge the signatures uploaded later that @requester may see: the owner's, and the requester's
 * own. */
static void
merge_signatures(cJSON *key, const char *target, const StoreRows *signatures, const char *owner,
                 const char *requester)
{
    for (guint row = 0; row < store_rows_count(signatures); row++) {
        const char *signer = store_rows_text(signatures, row, 1);
        if (strcmp(store_rows_text(signatures, row, 0), target) != 0 ||
            (strcmp(signer, owner) != 0 && g_strcmp0(signer, requester) != 0))
            continue;
        cJSON *of_signer = key_answers_object(key_answers_object(key, "signatures"), signer);
        const char *key_id = store_rows_text(signatures, row, 2);
        cJSON_DeleteItemFromObjectCaseSensitive(of_signer, key_id);
        cJSON_AddStringToObject(of_signer, key_id, store_rows_text(signatures, row, 3));
    }
}

gboolean
key_answers_add_own_signatures(StoreConnection *connection, const char *requester, cJSON *answer,
                               GError **error)
{
    const cJSON *masters = json_get_object(answer, "master_keys");
    if (masters == NULL)
        return TRUE;
    g_autoptr(StoreRows) rows = key_store_signatures_by(connection, requester, error);
    for (guint row = 0; rows != NULL && row < store_rows_count(rows); row++) {
        cJSON *key = (cJSON *)json_get_object(masters, store_rows_text(rows, row, 0));
        const char *public_key = key != NULL ? device_keys_cross_signing_public(key) : NULL;
        if (g_strcmp0(public_key, store_rows_text(rows, row, 1)) != 0)
            continue;
        cJSON *of_signer = key_answers_object(key_answers_object(key, "signatures"), requester);
        const char *key_id = store_rows_text(rows, row, 2);
        cJSON_DeleteItemFromObjectCaseSensitive(of_signer, key_id);
        cJSON_AddStringToObject(of_signer, key_id, store_rows_text(rows, row, 3));
    }
    return rows != NULL;
}

static gboolean
wants_device(const cJSON *devices, const char *device_id)
{
    if (devices == NULL || devices->child == NULL)
        return TRUE;
    for (const cJSON *item = devices->child; item != NULL; item = item->next)
        if (g_strcmp0(cJSON_GetStringValue(item), device_id) == 0)
            return TRUE;
    return FALSE;
}

static gboolean
add_devices(StoreConnection *connection, const char *user_id, const cJSON *devices,
            const char *requester, const StoreRows *signatures, cJSON *answer, GError **error)
{
    g_autoptr(StoreRows) rows = key_store_device_keys(connection, user_id, error);
    if (rows == NULL)
        return FALSE;
    cJSON *of_user = key_answers_object(key_answers_object(answer, "device_keys"), user_id);
    for (guint row = 0; row < store_rows_count(rows); row++) {
        const char *device_id = store_rows_text(rows, row, 0);
        if (!wants_device(devices, device_id))
            continue;
        cJSON *keys = stored_object(rows, row, 1, error);
        if (keys == NULL)
            return FALSE;
        merge_signatures(keys, device_id, signatures, user_id, requester);
        cJSON_AddItemToObject(of_user, device_id, keys);
    }
    return TRUE;
}

static gboolean
add_cross_signing(StoreConnection *connection, const char *user_id, const char *requester,
                  const StoreRows *signatures, cJSON *answer, GError **error)
{
    g_autoptr(StoreRows) rows = key_store_cross_signing_keys(connection, user_id, error);
    if (rows == NULL)
        return FALSE;
    for (guint row = 0; row < store_rows_count(rows); row++) {
        const char *usage = store_rows_text(rows, row, 0);
        /* Whom a person has verified is that person's own knowledge. */
        if (strcmp(usage, "user_signing") == 0 && g_strcmp0(requester, user_id) != 0)
            continue;
        cJSON *key = stored_object(rows, row, 1, error);
        if (key == NULL)
            return FALSE;
        const char *public_key = device_keys_cross_signing_public(key);
        if (public_key != NULL)
            merge_signatures(key, public_key, signatures, user_id, requester);
        g_autofree char *map = g_strconcat(usage, "_keys", NULL);
        cJSON_AddItemToObject(key_answers_object(answer, map), user_id, key);
    }
    return TRUE;
}

gboolean
key_answers_add_user(StoreConnection *connection, const char *user_id, const cJSON *devices,
                     const char *requester, cJSON *answer, GError **error)
{
    g_autoptr(StoreRows) signatures = key_store_signatures(connection, user_id, error);
    return signatures != NULL &&
           add_devices(connection, user_id, devices, requester, signatures, answer, error) &&
           add_cross_signing(connection, user_id, requester, signatures, answer, error);
}

/* An unsigned key is a bare JSON string: read it inside an object. */
static cJSON *
stored_value(GBytes *json, GError **error)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(json, &length);
    g_autoptr(GString) wrapped = g_string_new("{\"key\":");
    g_string_append_len(wrapped, bytes, (gssize)length);
    g_string_append_c(wrapped, '}');
    g_autoptr(cJSON) object = json_parse(wrapped->str, wrapped->len, &json_limits_keys, error);
    return object != NULL ? cJSON_DetachItemFromObjectCaseSensitive(object, "key") : NULL;
}

gboolean
key_answers_may_ask(const cJSON *users, gboolean claim, GError **error)
{
    guint count = 0;

    for (const cJSON *user = users->child; user != NULL; user = user->next)
        count += claim && user->child != NULL ? (guint)cJSON_GetArraySize(user) : 1;
    if (count <= KEY_ANSWERS_MAX)
        return TRUE;
    refusal_set(error, 400, "M_TOO_LARGE", "Ask about at most %u %s at a time", KEY_ANSWERS_MAX,
                claim ? "devices" : "users");
    return FALSE;
}

gboolean
key_answers_claim(SyncHub *hub, StoreConnection *connection, const char *user_id,
                  const cJSON *wanted, cJSON *one_time_keys, GError **error)
{
    for (const cJSON *item = wanted->child; item != NULL; item = item->next) {
        const char *algorithm = cJSON_GetStringValue(item);
        g_autofree char *key_id = NULL;
        g_autoptr(GBytes) json = NULL;
        if (algorithm == NULL)
            continue;
        if (!key_store_claim(connection, user_id, item->string, algorithm, &key_id, &json, error))
            return FALSE;
        if (key_id == NULL)
            continue;
        sync_hub_keys_changed(hub, user_id);
        cJSON *value = stored_value(json, error);
        if (value == NULL)
            return FALSE;
        cJSON *of_user = key_answers_object(one_time_keys, user_id);
        cJSON_AddItemToObject(key_answers_object(of_user, item->string), key_id, value);
    }
    return TRUE;
}

cJSON *
key_answers_one_time_counts(StoreConnection *connection, const char *user_id, const char *device_id,
                            GError **error)
{
    g_autoptr(StoreRows) rows =
        key_store_count_one_time_keys(connection, user_id, device_id, error);
    if (rows == NULL)
        return NULL;
    cJSON *counts = cJSON_CreateObject();
    for (guint row = 0; row < store_rows_count(rows); row++)
        cJSON_AddNumberToObject(counts, store_rows_text(rows, row, 0),
                                (double)store_rows_integer(rows, row, 1));
    /* Zero is said too: clients upload more only when told (client-server API, /sync). */
    if (cJSON_GetObjectItemCaseSensitive(counts, "signed_curve25519") == NULL)
        cJSON_AddNumberToObject(counts, "signed_curve25519", 0);
    return counts;
}

cJSON *
key_answers_unused_fallback(StoreConnection *connection, const char *user_id, const char *device_id,
                            GError **error)
{
    g_autoptr(StoreRows) rows =
        key_store_unused_fallback_keys(connection, user_id, device_id, error);
    if (rows == NULL)
        return NULL;
    cJSON *algorithms = cJSON_CreateArray();
    for (guint row = 0; row < store_rows_count(rows); row++)
        cJSON_AddItemToArray(algorithms, cJSON_CreateString(store_rows_text(rows, row, 0)));
    return algorithms;
}
