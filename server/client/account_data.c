#include "server/client/account_data.h"

#include <string.h>

#include "identity/refusal.h"
#include "server/client/lane_call.h"
#include "server/client/push_rules.h"
#include "server/http/route.h"
#include "server/server.h"
#include "storage/account_data_store.h"

#define TYPE_BYTES_MAX 255
#define TYPES_MAX 5000 /* of one user, all rooms together */
#define TAGS_MAX 100
#define TAG "m.tag"

/* ---- for sync ---- */

static void
append_event(GString *out, const char *type, const char *content, gsize length)
{
    if (out->len > 0)
        g_string_append_c(out, ',');
    g_string_append(out, "{\"type\":");
    json_append_string(out, type);
    g_string_append(out, ",\"content\":");
    g_string_append_len(out, content, (gssize)length);
    g_string_append_c(out, '}');
}

static gboolean
append_rows(const StoreRows *rows, const char *room_id, const FilterEvents *filter, GString *out)
{
    gboolean has_rules = FALSE;

    for (guint i = 0; i < store_rows_count(rows); i++) {
        const char *type = store_rows_text(rows, i, 0);
        gsize length;
        const char *content = store_rows_data(rows, i, 1, &length);
        has_rules = has_rules || strcmp(type, "m.push_rules") == 0;
        if (filter_events_want(filter, room_id, type, NULL, NULL))
            append_event(out, type, content, length);
    }
    return has_rules;
}

gboolean
account_data_append(StoreConnection *connection, const char *user_id, const char *room_id,
                    gint64 after, gint64 until, const FilterEvents *filter, GString *out,
                    GError **error)
{
    g_autoptr(StoreRows) rows = account_data_store_changed(
        connection, user_id, room_id != NULL ? room_id : "", after, until, error);
    gboolean has_rules;

    if (rows == NULL)
        return FALSE;
    has_rules = append_rows(rows, room_id, filter, out);
    if (after == 0 && room_id == NULL && !has_rules &&
        filter_events_want(filter, NULL, "m.push_rules", NULL, NULL)) {
        g_autoptr(cJSON) rules = push_rules_standard(user_id);
        g_autofree char *text = cJSON_PrintUnformatted(rules);
        append_event(out, "m.push_rules", text, strlen(text));
    }
    return TRUE;
}

GPtrArray *
account_data_changed_rooms(StoreConnection *connection, const char *user_id, gint64 after,
                           gint64 until, GError **error)
{
    g_autoptr(StoreRows) rows =
        account_data_store_changed_rooms(connection, user_id, after, until, error);
    GPtrArray *rooms;

    if (rows == NULL)
        return NULL;
    rooms = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < store_rows_count(rows); i++)
        g_ptr_array_add(rooms, g_strdup(store_rows_text(rows, i, 0)));
    return rooms;
}

/* ---- writing ---- */

typedef struct {
    char *user_id;
    char *room_id;
    char *type;
    GBytes *json;
} Change;

static void
change_free(gpointer data)
{
    Change *change = data;

    g_free(change->user_id);
    g_free(change->room_id);
    g_free(change->type);
    g_bytes_unref(change->json);
    g_free(change);
}

static gboolean
change_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Change *change = data;

    account_data_store_put(batch, change->user_id, change->room_id, change->type, change->json);
    return TRUE;
}

Response *
account_data_write(Request *request, const char *room_id, const char *type, const cJSON *content,
                   GError **error)
{
    char *text = cJSON_PrintUnformatted(content);
    Change *change = g_new(Change, 1);

    *change = (Change){g_strdup(request_user_id(request)), g_strdup(room_id), g_strdup(type),
                       g_bytes_new_take(text, strlen(text))};
    return lane_call(request, change_apply, change, change_free, error);
}

/* ---- the routes ---- */

static gboolean
account_data_require_own(const Request *request, GError **error)
{
    if (strcmp(request_path(request, "userId"), request_user_id(request)) == 0)
        return TRUE;
    refusal_set(error, 403, "M_FORBIDDEN", "Account data are seen by their own user alone");
    return FALSE;
}

static gboolean
judge_type(const char *type, GError **error)
{
    if (*type == '\0' || strlen(type) > TYPE_BYTES_MAX) {
        refusal_set(error, 400, "M_INVALID_PARAM", "A type has 1 to %d bytes", TYPE_BYTES_MAX);
        return FALSE;
    }
    /* "Servers MUST reject": they have endpoints of their own. */
    if (strcmp(type, "m.fully_read") == 0 || strcmp(type, "m.push_rules") == 0) {
        refusal_set(error, 405, "M_BAD_JSON", "%s is not set here: it has its own endpoint", type);
        return FALSE;
    }
    return TRUE;
}

static gboolean
judge_count(Request *request, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
    gint64 count;

    if (connection == NULL ||
        !account_data_store_count(connection, request_user_id(request), &count, error))
        return FALSE;
    if (count < TYPES_MAX)
        return TRUE;
    refusal_set(error, 400, "M_LIMIT_EXCEEDED", "You keep %d kinds of account data already",
                TYPES_MAX);
    return FALSE;
}

/* Room identifiers as they were written; whether the user was ever there does not matter for data
 * of their own. */
static gboolean
judge_room(const char *room_id, GError **error)
{
    if (*room_id == '!' && strlen(room_id) <= TYPE_BYTES_MAX)
        return TRUE;
    refusal_set(error, 400, "M_INVALID_PARAM", "That is not a room id");
    return FALSE;
}

static Response *
put(Request *request, const char *room_id, GError **error)
{
    const char *type = request_path(request, "type");

    if (!account_data_require_own(request, error) || !judge_type(type, error) ||
        !judge_count(request, error))
        return NULL;
    return account_data_write(request, room_id, type, request_json(request), error);
}

static gboolean
find(Request *request, const char *room_id, const char *type, GBytes **ret_json, GError **error)
{
    g_autoptr(StoreConnection) connection = NULL;

    if (!account_data_require_own(request, error))
        return FALSE;
    connection = store_borrow(request_server(request)->pool, error);
    return connection != NULL && account_data_store_find(connection, request_user_id(request),
                                                         room_id, type, ret_json, error);
}

static Response *
get(Request *request, const char *room_id, GError **error)
{
    const char *type = request_path(request, "type");
    g_autoptr(GBytes) json = NULL;

    if (!find(request, room_id, type, &json, error))
        return NULL;
    if (json == NULL && strcmp(type, "m.push_rules") == 0 && *room_id == '\0')
        return response_value(200, push_rules_standard(request_user_id(request)));
    if (json == NULL)
        return response_error(404, "M_NOT_FOUND", "There are no account data of that type");
    return response_bytes(200, "application/json", json);
}

static Response *
global_put(Request *request, GError **error)
{
    return put(request, "", error);
}

static Response *
global_get(Request *request, GError **error)
{
    return get(request, "", error);
}

static Response *
room_put(Request *request, GError **error)
{
    const char *room_id = request_path(request, "roomId");

    return judge_room(room_id, error) ? put(request, room_id, error) : NULL;
}

static Response *
room_get(Request *request, GError **error)
{
    const char *room_id = request_path(request, "roomId");

    return judge_room(room_id, error) ? get(request, room_id, error) : NULL;
}

/* ---- tags: one account data event, m.tag, changed name by name ---- */

/* {"tags": {…}}, never without "tags". */
static cJSON *
load_tags(Request *request, GError **error)
{
    g_autoptr(GBytes) json = NULL;
    g_autoptr(cJSON) tags = NULL;
    gsize length;

    if (!judge_room(request_path(request, "roomId"), error) ||
        !find(request, request_path(request, "roomId"), TAG, &json, error))
        return NULL;
    if (json != NULL) {
        const char *text = g_bytes_get_data(json, &length);
        tags = json_parse(text, length, &json_limits_request, NULL);
    }
    if (json_get_object(tags, "tags") == NULL) {
        g_clear_pointer(&tags, cJSON_Delete);
        tags = cJSON_CreateObject();
        cJSON_AddObjectToObject(tags, "tags");
    }
    return g_steal_pointer(&tags);
}

static Response *
tags_get(Request *request, GError **error)
{
    cJSON *tags = load_tags(request, error);

    return tags != NULL ? response_value(200, tags) : NULL;
}

static Response *
tag_change(Request *request, cJSON *content, GError **error)
{
    const char *name = request_path(request, "tag");
    g_autoptr(cJSON) owned = content;
    g_autoptr(cJSON) tags = load_tags(request, error);
    cJSON *map;

    if (tags == NULL || !judge_count(request, error))
        return NULL;
    if (*name == '\0' || strlen(name) > TYPE_BYTES_MAX)
        return response_error(400, "M_INVALID_PARAM", "A tag has 1 to %d bytes", TYPE_BYTES_MAX);
    map = (cJSON *)json_get_object(tags, "tags");
    cJSON_DeleteItemFromObjectCaseSensitive(map, name);
    if (owned != NULL && cJSON_GetArraySize(map) >= TAGS_MAX)
        return response_error(400, "M_LIMIT_EXCEEDED", "A room has at most %d tags", TAGS_MAX);
    if (owned != NULL)
        cJSON_AddItemToObject(map, name, g_steal_pointer(&owned));
    return account_data_write(request, request_path(request, "roomId"), TAG, tags, error);
}

static Response *
tag_put(Request *request, GError **error)
{
    return tag_change(request, cJSON_Duplicate(request_json(request), TRUE), error);
}

static Response *
tag_delete(Request *request, GError **error)
{
    return tag_change(request, NULL, error);
}

#define USER "/_matrix/client/v3/user/{userId}/"
#define GET LISTEN_CLIENT, CALLER_USER, RATE_NONE, BODY_NONE
#define PUT LISTEN_CLIENT, CALLER_USER, RATE_NONE, BODY_JSON

extern const Route account_data_routes[];
const Route account_data_routes[] = {
    {"PUT", USER "account_data/{type}", PUT, global_put},
    {"GET", USER "account_data/{type}", GET, global_get},
    {"PUT", USER "rooms/{roomId}/account_data/{type}", PUT, room_put},
    {"GET", USER "rooms/{roomId}/account_data/{type}", GET, room_get},
    {"GET", USER "rooms/{roomId}/tags", GET, tags_get},
    {"PUT", USER "rooms/{roomId}/tags/{tag}", PUT, tag_put},
    {"DELETE", USER "rooms/{roomId}/tags/{tag}", GET, tag_delete},
    {0},
};
