#include "identity/device_link.h"

#include <sodium.h>
#include <string.h>

#include "identity/certificate_proof.h"
#include "identity/device_keys.h"
#include "identity/refusal.h"
#include "storage/key_store.h"
#include "storage/session_store.h"

gboolean
device_id_is_valid(const char *device_id)
{
    gsize length = strnlen(device_id, DEVICE_ID_BYTES_MAX + 1);
    if (length == 0 || length > DEVICE_ID_BYTES_MAX)
        return FALSE;
    for (gsize i = 0; i < length; i++)
        if (!g_ascii_isgraph(device_id[i]))
            return FALSE;
    return TRUE;
}

char *
device_id_new(void)
{
    char *device_id = g_malloc0(11);
    for (guint i = 0; i < 10; i++)
        device_id[i] = (char)('A' + randombytes_uniform(26));
    return device_id;
}

gboolean
device_name_is_valid(const char *display_name)
{
    return strnlen(display_name, DEVICE_NAME_BYTES_MAX + 1) <= DEVICE_NAME_BYTES_MAX &&
           g_utf8_validate(display_name, -1, NULL);
}

static gboolean
bound_key_agrees(const char *bound, const char *offered)
{
    return bound[0] == '\0' || offered == NULL || strcmp(bound, offered) == 0;
}

/* Key ids and device ids are names of one kind (client-server API, "Key and signature security").
 */
static gboolean
is_named_like_a_key(StoreConnection *connection, const char *user_id, const char *device_id,
                    gboolean *ret_is, GError **error)
{
    g_autoptr(StoreRows) rows = key_store_cross_signing_keys(connection, user_id, error);

    *ret_is = FALSE;
    for (guint row = 0; rows != NULL && row < store_rows_count(rows); row++) {
        gsize length = 0;
        const char *text = store_rows_data(rows, row, 1, &length);
        g_autoptr(cJSON) key = json_parse(text, length, &json_limits_keys, error);
        if (key == NULL)
            return FALSE;
        *ret_is |= g_strcmp0(device_keys_cross_signing_public(key), device_id) == 0;
    }
    return rows != NULL;
}

gboolean
device_link_check(StoreConnection *connection, const CertificateProof *proof, const char *device_id,
                  const char *ed25519, const char *curve25519, GError **error)
{
    g_autoptr(DeviceRow) device = NULL;
    const char *user_id = certificate_proof_user_id(proof);
    gboolean is_key = FALSE;

    if (!device_store_find(connection, user_id, device_id, &device, error))
        return FALSE;
    if (device != NULL) {
        if (bound_key_agrees(device->ed25519, ed25519) &&
            bound_key_agrees(device->curve25519, curve25519))
            return TRUE;
        refusal_set(error, 403, "M_FORBIDDEN",
                    "Device %s exists with other keys, and the keys of a device never change; log "
                    "in without "
                    "device_id to get a new device",
                    device_id);
        return FALSE;
    }
    if (!is_named_like_a_key(connection, user_id, device_id, &is_key, error))
        return FALSE;
    if (is_key) {
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "device_id is one of your cross-signing keys; leave it out to get a new one");
        return FALSE;
    }
    g_autoptr(GPtrArray) devices = device_store_list(connection, user_id, error);
    if (devices == NULL)
        return FALSE;
    if (devices->len >= DEVICES_PER_USER_MAX) {
        refusal_set(error, 403, "M_RESOURCE_LIMIT_EXCEEDED",
                    "You have %d devices, the most allowed; remove one first, or ask an identity "
                    "officer to",
                    DEVICES_PER_USER_MAX);
        return FALSE;
    }
    return TRUE;
}

gboolean
device_link_check_keys(StoreConnection *connection, const char *user_id, const char *device_id,
                       const char *ed25519, const char *curve25519, GError **error)
{
    g_autoptr(DeviceRow) device = NULL;

    if (!device_store_find(connection, user_id, device_id, &device, error))
        return FALSE;
    if (device == NULL ||
        (bound_key_agrees(device->ed25519, ed25519 != NULL ? ed25519 : "") &&
         bound_key_agrees(device->curve25519, curve25519 != NULL ? curve25519 : "")))
        return TRUE;
    refusal_set(error, 403, "M_FORBIDDEN",
                "These are not the keys that were bound to this device when it logged in");
    return FALSE;
}

void
device_link_in_batch(LaneBatch *batch, const CertificateProof *proof, const DeviceRow *row)
{
    g_assert(strcmp(certificate_proof_user_id(proof), row->user_id) == 0);
    device_store_insert_in_batch(batch, row);
}

/* Set once, before anything is served. */
static DeviceRemoved removed;
static gpointer removed_data;

void
device_link_on_removed(DeviceRemoved hook, gpointer data)
{
    removed = hook;
    removed_data = data;
}

void
device_remove_in_batch(LaneBatch *batch, const char *user_id, const char *device_id)
{
    key_store_drop_device(batch, user_id, device_id);
    session_store_delete_in_batch(batch, user_id, device_id);
    device_store_delete_in_batch(batch, user_id, device_id);
    lane_batch_log(batch, log_entry_new(LOG_SESSION_END, NULL, user_id, device_id));
    if (removed != NULL)
        removed(batch, user_id, device_id, removed_data);
    else
        lane_batch_log(batch, log_entry_new(LOG_DEVICE_LIST, NULL, user_id, NULL));
}
