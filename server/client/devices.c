/* server/client/devices.c: whose token this is, its devices, and how they end.
 * Client-server API: "Current account information", "Device Management", "Logout". */
#include "identity/audit.h"
#include "identity/device_link.h"
#include "identity/refusal.h"
#include "identity/session.h"
#include "server/client/uia.h"
#include "server/http/route.h"
#include "server/server.h"
#include "storage/device_store.h"

static Response *
whoami_get(Request *request, GError **error)
{
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "user_id", request_user_id(request));
    cJSON_AddStringToObject(body, "device_id", request_device_id(request));
    cJSON_AddFalseToObject(body, "is_guest");
    return response_value(200, body);
}

static cJSON *
device_json(const DeviceRow *device)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "device_id", device->device_id);
    if (device->display_name[0] != '\0')
        cJSON_AddStringToObject(json, "display_name", device->display_name);
    cJSON_AddNumberToObject(json, "last_seen_ts", (double)device->last_seen_ms);
    return json; /* addresses are not kept, so there is no last_seen_ip */
}

static Response *
devices_get(Request *request, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
    g_autoptr(GPtrArray) devices =
        connection != NULL ? device_store_list(connection, request_user_id(request), error) : NULL;

    if (devices == NULL)
        return NULL;
    cJSON *body = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(body, "devices");
    for (guint i = 0; i < devices->len; i++)
        cJSON_AddItemToArray(list, device_json(g_ptr_array_index(devices, i)));
    return response_value(200, body);
}

/* The caller's device of the path; NULL with @error, a 404 when it has none such. */
static DeviceRow *
device_of_path(Request *request, GError **error)
{
    DeviceRow *device = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);

    if (connection == NULL || !device_store_find(connection, request_user_id(request),
                                                 request_path(request, "deviceId"), &device, error))
        return NULL;
    if (device == NULL)
        refusal_set(error, 404, "M_NOT_FOUND", "You have no such device");
    return device;
}

static Response *
device_get(Request *request, GError **error)
{
    g_autoptr(DeviceRow) device = device_of_path(request, error);
    return device != NULL ? response_value(200, device_json(device)) : NULL;
}

/* ---- acts, through the lane ---- */

typedef struct {
    Request *request;
    char *user_id;
    char **device_ids;  /* NULL: all */
    char *display_name; /* the new name; NULL: they go */
    const char *type;   /* of the audit line */
} DeviceAct;

static void
device_act_free(DeviceAct *act)
{
    g_strfreev(act->device_ids);
    g_free(act->user_id);
    g_free(act->display_name);
    request_unref(act->request);
    g_free(act);
}

static void
apply_to_one(LaneBatch *batch, DeviceAct *act, const char *device_id)
{
    AuditLine line = {
        .type = act->type,
        .actor = act->user_id,
        .subject = act->user_id,
        .object = device_id,
        .decision = "done",
    };
    audit_line_to_batch(batch, &line);
    if (act->display_name == NULL) {
        device_remove_in_batch(batch, act->user_id, device_id);
        return;
    }
    device_store_rename_in_batch(batch, act->user_id, device_id, act->display_name);
    lane_batch_log(batch, log_entry_new(LOG_DEVICE_LIST, NULL, act->user_id, NULL));
}

static gboolean
device_act_apply(LaneBatch *batch, gpointer data, GError **error)
{
    DeviceAct *act = data;
    if (act->device_ids == NULL)
        apply_to_one(batch, act, NULL);
    for (char **device_id = act->device_ids; device_id != NULL && *device_id != NULL; device_id++)
        apply_to_one(batch, act, *device_id);
    return TRUE;
}

static void
device_act_done(gpointer data, gint64 position, const GError *error)
{
    DeviceAct *act = data;
    request_answer(act->request, error == NULL ? response_empty_object() : NULL, error);
    device_act_free(act);
}

/* Takes @device_ids and @display_name. */
static Response *
device_act(Request *request, const char *type, char **device_ids, char *display_name,
           GError **error)
{
    DeviceAct *act = g_new0(DeviceAct, 1);
    act->request = request_ref(request);
    act->user_id = g_strdup(request_user_id(request));
    act->device_ids = device_ids;
    act->display_name = display_name;
    act->type = type;
    if (lane_submit(request_server(request)->lane, device_act_apply, device_act_done, act, error))
        return RESPONSE_LATER;
    device_act_free(act);
    return NULL;
}

static char **
one_device(const char *device_id)
{
    const char *list[] = {device_id, NULL};
    return g_strdupv((char **)list);
}

static Response *
device_put(Request *request, GError **error)
{
    const char *name = json_get_string(request_json(request), "display_name");
    if (name != NULL && !device_name_is_valid(name))
        return response_error(400, "M_INVALID_PARAM", "display_name must be at most %d bytes",
                              DEVICE_NAME_BYTES_MAX);
    g_autoptr(DeviceRow) device = device_of_path(request, error);
    if (device == NULL)
        return NULL;
    if (name == NULL)
        return response_empty_object();
    return device_act(request, "device_renamed", one_device(device->device_id), g_strdup(name),
                      error);
}

static Response *
device_delete(Request *request, GError **error)
{
    Response *answer = NULL;
    if (!uia_require(request, &answer, error))
        return answer;
    g_autoptr(DeviceRow) device = device_of_path(request, error);
    return device != NULL
               ? device_act(request, "device_removed", one_device(device->device_id), NULL, error)
               : NULL;
}

static Response *
delete_devices_post(Request *request, GError **error)
{
    const cJSON *wanted = json_get_array(request_json(request), "devices");
    const cJSON *item;
    Response *answer = NULL;
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

    if (wanted == NULL || cJSON_GetArraySize(wanted) > DEVICES_PER_USER_MAX)
        return response_error(400, "M_BAD_JSON",
                              "\"devices\" must be a list of at most %d device ids",
                              DEVICES_PER_USER_MAX);
    cJSON_ArrayForEach(item, wanted)
    {
        if (!cJSON_IsString(item) || !device_id_is_valid(item->valuestring))
            return response_error(400, "M_BAD_JSON", "\"devices\" must be a list of device ids");
        g_strv_builder_add(builder, item->valuestring);
    }
    if (!uia_require(request, &answer, error))
        return answer;
    /* Ids that are nobody's, or somebody else's, remove nothing: the user's own id is in each
     * statement. */
    return device_act(request, "device_removed", g_strv_builder_end(builder), NULL, error);
}

static Response *
logout_post(Request *request, GError **error)
{
    return device_act(request, "logout", one_device(request_device_id(request)), NULL, error);
}

static Response *
logout_all_post(Request *request, GError **error)
{
    return device_act(request, "logout", NULL, NULL, error);
}

#define CLIENT "/_matrix/client/v3/"
#define USER LISTEN_CLIENT, CALLER_USER, RATE_NONE

extern const Route device_routes[];
const Route device_routes[] = {
    {"GET", CLIENT "account/whoami", USER, BODY_NONE, whoami_get},
    {"GET", CLIENT "devices", USER, BODY_NONE, devices_get},
    {"GET", CLIENT "devices/{deviceId}", USER, BODY_NONE, device_get},
    {"PUT", CLIENT "devices/{deviceId}", USER, BODY_JSON, device_put},
    {"DELETE", CLIENT "devices/{deviceId}", USER, BODY_JSON_OPTIONAL, device_delete},
    {"POST", CLIENT "delete_devices", USER, BODY_JSON, delete_devices_post},
    {"POST", CLIENT "logout", USER, BODY_NONE, logout_post},
    {"POST", CLIENT "logout/all", USER, BODY_NONE, logout_all_post},
    {0},
};
