#include "server/client/device_lists.h"

#include <string.h>

#include "federation/delivery.h"
#include "identity/clock.h"
#include "identity/json.h"
#include "server/server.h"
#include "storage/device_store.h"
#include "storage/membership_store.h"

/* m.device_list_update without the keys themselves: receivers ask for the list anew, as the
 * specification wants them to whenever prev_id leaves a gap (server-server API, "Device
 * Management"). */
static GBytes *
update_edu(const char *user_id, const char *device_id, gboolean deleted)
{
    g_autoptr(cJSON) edu = cJSON_CreateObject();
    cJSON_AddStringToObject(edu, "edu_type", "m.device_list_update");
    cJSON *content = cJSON_AddObjectToObject(edu, "content");
    cJSON_AddStringToObject(content, "user_id", user_id);
    cJSON_AddStringToObject(content, "device_id", device_id);
    cJSON_AddNumberToObject(content, "stream_id", (double)clock_wall_ms());
    cJSON_AddItemToObject(content, "prev_id", cJSON_CreateArray());
    if (deleted)
        cJSON_AddTrueToObject(content, "deleted");
    return json_canonical(edu, NULL);
}

/* m.signing_key_update carries the keys: as they will be once the batch is committed. */
static GBytes *
signing_edu(const char *user_id, const cJSON *master_key, const cJSON *self_signing_key)
{
    g_autoptr(cJSON) edu = cJSON_CreateObject();
    cJSON_AddStringToObject(edu, "edu_type", "m.signing_key_update");
    cJSON *content = cJSON_AddObjectToObject(edu, "content");
    cJSON_AddStringToObject(content, "user_id", user_id);
    if (master_key != NULL)
        cJSON_AddItemToObject(content, "master_key", cJSON_Duplicate(master_key, TRUE));
    if (self_signing_key != NULL)
        cJSON_AddItemToObject(content, "self_signing_key", cJSON_Duplicate(self_signing_key, TRUE));
    return json_canonical(edu, NULL);
}

/* Who joins in the batch under way must hear of it too: the keys may be asked for before this batch
 * is durable, and never again. */
gboolean
device_lists_tell(LaneBatch *batch, const char *user_id, GError **error)
{
    StoreConnection *connection = lane_batch_settled_connection(batch, error);
    g_autoptr(GPtrArray) rooms =
        connection != NULL ? membership_store_rooms(connection, user_id, "join", error) : NULL;
    if (rooms == NULL)
        return FALSE;
    lane_batch_log(batch, log_entry_new(LOG_DEVICE_LIST, NULL, user_id, NULL));
    for (guint i = 0; i < rooms->len; i++) {
        const StoredMembership *room = g_ptr_array_index(rooms, i);
        lane_batch_log(batch, log_entry_new(LOG_DEVICE_LIST, room->room_id, user_id, NULL));
    }
    return TRUE;
}

/* One EDU to each partner with a user in a room of @user_id's. */
static gboolean
tell_partners(LaneBatch *batch, StoreConnection *connection, Server *server, const char *user_id,
              GBytes *edu, GError **error)
{
    g_autoptr(GPtrArray) servers = membership_store_servers_sharing(connection, user_id, error);
    for (guint i = 0; servers != NULL && i < servers->len; i++) {
        const char *name = g_ptr_array_index(servers, i);
        if (g_strcmp0(name, server->name) != 0)
            delivery_queue_edu(batch, server->delivery, name, edu);
    }
    return servers != NULL;
}

static gboolean
tell_everybody(LaneBatch *batch, Server *server, const char *user_id, GBytes *edu, GError **error)
{
    StoreConnection *connection = lane_batch_settled_connection(batch, error);
    return connection != NULL && device_lists_tell(batch, user_id, error) &&
           (edu == NULL || tell_partners(batch, connection, server, user_id, edu, error));
}

gboolean
device_lists_changed(LaneBatch *batch, Server *server, const char *user_id, const char *device_id,
                     GError **error)
{
    g_autoptr(GBytes) edu = update_edu(user_id, device_id, FALSE);
    return tell_everybody(batch, server, user_id, edu, error);
}

gboolean
device_lists_signing_keys_changed(LaneBatch *batch, Server *server, const char *user_id,
                                  const cJSON *master_key, const cJSON *self_signing_key,
                                  GError **error)
{
    g_autoptr(GBytes) edu = signing_edu(user_id, master_key, self_signing_key);
    return tell_everybody(batch, server, user_id, edu, error);
}

void
device_lists_removed(LaneBatch *batch, const char *user_id, const char *device_id, gpointer data)
{
    Server *server = data;
    g_autoptr(GError) error = NULL;
    StoreConnection *connection = lane_batch_settled_connection(batch, &error);
    g_autoptr(GPtrArray) devices = NULL;

    if (connection != NULL && device_lists_tell(batch, user_id, &error))
        devices = device_store_list(connection, user_id, &error);
    for (guint i = 0; devices != NULL && error == NULL && i < devices->len; i++) {
        const DeviceRow *device = g_ptr_array_index(devices, i);
        if (device_id != NULL && strcmp(device->device_id, device_id) != 0)
            continue;
        g_autoptr(GBytes) edu = update_edu(user_id, device->device_id, TRUE);
        tell_partners(batch, connection, server, user_id, edu, &error);
    }
    /* The end of the device does not wait for the news of it; but where the operation is applied
     * again, so is this. */
    if (error != NULL && !g_error_matches(error, STORE_ERROR, STORE_ERROR_CONFLICT))
        g_warning("devices of %s: partners could not be told: %s", user_id, error->message);
}
