/* server/client/key_upload.c: a device brings its public keys: /keys/upload.
 * Source: client-server API v1.19, "Key management API". */
#include "server/client/key_upload.h"

#include <string.h>

#include "identity/clock.h"
#include "identity/device_keys.h"
#include "identity/device_link.h"
#include "identity/refusal.h"
#include "server/client/device_lists.h"
#include "server/client/key_answers.h"
#include "server/client/sync_hub.h"
#include "server/server.h"
#include "storage/key_store.h"

/* What a device may have waiting to be claimed; clients stop at 50 or 100. */
#define ONE_TIME_KEYS_STORED_MAX 1000

typedef struct {
    Request *request;
    GBytes *json;
} DeviceKeysPut;

static void
device_keys_put_free(DeviceKeysPut *put)
{
    request_unref(put->request);
    g_bytes_unref(put->json);
    g_free(put);
}

static gboolean
device_keys_put_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const DeviceKeysPut *put = data;
    const char *user_id = request_user_id(put->request);
    key_store_put_device_keys(batch, user_id, request_device_id(put->request), put->json);
    return device_lists_changed(batch, request_server(put->request), user_id,
                                request_device_id(put->request), error);
}

static gboolean
check_one_time(const cJSON *keys, const char *ed25519, const Request *request, GError **error)
{
    guint count = 0;
    for (const cJSON *item = keys != NULL ? keys->child : NULL; item != NULL; item = item->next) {
        if (++count > DEVICE_KEYS_ONE_TIME_MAX) {
            refusal_set(error, 400, "M_INVALID_PARAM", "Upload at most %u one-time keys at a time",
                        DEVICE_KEYS_ONE_TIME_MAX);
            return FALSE;
        }
        g_autoptr(GBytes) bytes = device_keys_bytes(item, DEVICE_KEYS_ONE_TIME_BYTES_MAX, error);
        if (bytes == NULL ||
            !device_keys_check_one_time(item->string, item, request_user_id(request),
                                        request_device_id(request), ed25519, error))
            return FALSE;
    }
    return TRUE;
}

/* One key into its table: @name is algorithm:id. */
static gboolean
put_key(StoreConnection *connection, const Request *request, const cJSON *item, gint64 order,
        gboolean fallback, GError **error)
{
    const char *user_id = request_user_id(request);
    const char *device_id = request_device_id(request);
    g_autofree char *algorithm =
        g_strndup(item->string, (gsize)(strchr(item->string, ':') - item->string));
    g_autoptr(GBytes) json = json_canonical(item, error);
    gboolean conflict = FALSE;
    if (json == NULL)
        return FALSE;
    if (fallback)
        return key_store_put_fallback_key(connection, user_id, device_id, algorithm, item->string,
                                          json, error);
    if (!key_store_put_one_time_key(connection, user_id, device_id, algorithm, item->string, order,
                                    json, &conflict, error))
        return FALSE;
    if (conflict) {
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "One-time key %s was uploaded before with other bytes; use a new key id",
                    item->string);
        return FALSE;
    }
    return TRUE;
}

typedef struct {
    const cJSON *item;
    gint64 order;
} NewKey;

static gint
by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(((const NewKey *)a)->item->string, ((const NewKey *)b)->item->string);
}

/* Keys are claimed in the order of upload (MSC4225): microseconds, then the order in the body. They
 * are written in the order of their names, so that two uploads at once never wait for each other.
 */
static gboolean
put_all(StoreConnection *connection, const Request *request, const char *member, gboolean fallback,
        GError **error)
{
    const cJSON *keys = json_get_object(request_json(request), member);
    g_autoptr(GArray) sorted = g_array_new(FALSE, FALSE, sizeof(NewKey));
    gint64 order = clock_wall_ms() * 1000;

    for (const cJSON *item = keys != NULL ? keys->child : NULL; item != NULL; item = item->next) {
        NewKey key = {item, order++};
        g_array_append_val(sorted, key);
    }
    g_array_sort(sorted, by_name);
    for (guint i = 0; i < sorted->len; i++) {
        const NewKey *key = &g_array_index(sorted, NewKey, i);
        if (!put_key(connection, request, key->item, key->order, fallback, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
put_keys(StoreConnection *connection, const Request *request, GError **error)
{
    return put_all(connection, request, "one_time_keys", FALSE, error) &&
           put_all(connection, request, "fallback_keys", TRUE, error);
}

/* The device keys are in force: store the one-time keys and answer how many there are. */
static Response *
upload_finish(Request *request, gpointer data, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
    if (connection == NULL || !store_begin(connection, error) ||
        !put_keys(connection, request, error))
        return NULL;
    g_autoptr(cJSON) counts = key_answers_one_time_counts(connection, request_user_id(request),
                                                          request_device_id(request), error);
    if (counts == NULL)
        return NULL;
    for (const cJSON *count = counts->child; count != NULL; count = count->next)
        if (count->valuedouble > ONE_TIME_KEYS_STORED_MAX)
            return response_error(400, "M_INVALID_PARAM",
                                  "At most %d one-time keys of an algorithm wait at a time",
                                  ONE_TIME_KEYS_STORED_MAX);
    if (!store_commit(connection, error))
        return NULL;
    sync_hub_keys_changed(request_server(request)->sync, request_user_id(request));
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddItemToObject(answer, "one_time_key_counts", g_steal_pointer(&counts));
    return response_value(200, answer);
}

static void
device_keys_put_done(gpointer data, gint64 position, const GError *error)
{
    DeviceKeysPut *put = data;
    if (error != NULL)
        request_answer(put->request, NULL, error);
    else
        request_continue(put->request, upload_finish, NULL, NULL);
    device_keys_put_free(put);
}

/* The keys of this device as they are in the database; *ret_keys NULL when there are none. */
static gboolean
stored_device_keys(const Request *request, cJSON **ret_keys, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
    g_autoptr(GBytes) json = NULL;
    *ret_keys = NULL;
    if (connection == NULL || !key_store_find_device_keys(connection, request_user_id(request),
                                                          request_device_id(request), &json, error))
        return FALSE;
    if (json == NULL)
        return TRUE;
    gsize length = 0;
    const char *bytes = g_bytes_get_data(json, &length);
    *ret_keys = json_parse(bytes, length, &json_limits_keys, error);
    return *ret_keys != NULL;
}

/* A log-in by a signed challenge may have named the device's keys already. */
static gboolean
agree_with_log_in(const Request *request, const cJSON *device_keys, GError **error)
{
    const char *device_id = request_device_id(request);
    g_autofree char *curve25519 = g_strdup_printf("curve25519:%s", device_id);
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);

    return connection != NULL &&
           device_link_check_keys(connection, request_user_id(request), device_id,
                                  device_keys_ed25519(device_keys, device_id),
                                  json_get_string(json_get_object(device_keys, "keys"), curve25519),
                                  error);
}

Response *
keys_upload_post(Request *request, GError **error)
{
    const cJSON *body = request_json(request);
    const cJSON *device_keys = NULL;
    const cJSON *one_time = NULL;
    const cJSON *fallback = NULL;
    const char *device_id = request_device_id(request);
    g_autoptr(cJSON) stored = NULL;

    if (!json_optional_object(body, "device_keys", &device_keys, error) ||
        !json_optional_object(body, "one_time_keys", &one_time, error) ||
        !json_optional_object(body, "fallback_keys", &fallback, error) ||
        !stored_device_keys(request, &stored, error))
        return NULL;
    if (device_keys != NULL &&
        !device_keys_check(device_keys, request_user_id(request), device_id, error))
        return NULL;
    if (device_keys != NULL && stored != NULL && !device_keys_same_identity(device_keys, stored))
        return response_error(403, "M_FORBIDDEN",
                              "The keys of a device never change; log in again for a new device");
    if (device_keys != NULL && stored == NULL && !agree_with_log_in(request, device_keys, error))
        return NULL;
    const cJSON *in_force = device_keys != NULL ? device_keys : stored;
    const char *ed25519 = in_force != NULL ? device_keys_ed25519(in_force, device_id) : NULL;
    if (!check_one_time(one_time, ed25519, request, error) ||
        !check_one_time(fallback, ed25519, request, error))
        return NULL;
    if (device_keys == NULL || (stored != NULL && cJSON_Compare(device_keys, stored, TRUE)))
        return upload_finish(request, NULL, error);

    g_autoptr(cJSON) kept = cJSON_Duplicate(device_keys, TRUE);
    cJSON_DeleteItemFromObjectCaseSensitive(kept, "unsigned");
    GBytes *json = device_keys_bytes(kept, DEVICE_KEYS_BYTES_MAX, error);
    if (json == NULL)
        return NULL;
    DeviceKeysPut *put = g_new0(DeviceKeysPut, 1);
    put->request = request_ref(request);
    put->json = json;
    if (!lane_submit(request_server(request)->lane, device_keys_put_apply, device_keys_put_done,
                     put, error)) {
        device_keys_put_free(put);
        return NULL;
    }
    return RESPONSE_LATER;
}
