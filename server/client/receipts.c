#include "server/client/receipts.h"

#include <string.h>

#include "federation/room/identifier.h"
#include "identity/clock.h"
#include "identity/refusal.h"
#include "server/client/account_data.h"
#include "server/client/lane_call.h"
#include "server/client/room_edus.h"
#include "server/http/route.h"
#include "storage/account_data_store.h"
#include "storage/membership_store.h"
#include "storage/receipt_store.h"

#define THREAD_BYTES_MAX 255

#define READ "m.read"
#define READ_PRIVATE "m.read.private"
#define FULLY_READ "m.fully_read"

/* ---- for sync ---- */

static void
append_receipt(cJSON *content, const StoreRows *rows, guint row)
{
    const char *thread_id = store_rows_text(rows, row, 2);
    const char *event_id = store_rows_text(rows, row, 3);
    const char *type = store_rows_text(rows, row, 1);
    cJSON *of_event = (cJSON *)json_object_get(content, event_id);
    cJSON *of_type;
    cJSON *receipt;

    if (of_event == NULL)
        of_event = cJSON_AddObjectToObject(content, event_id);
    of_type = (cJSON *)json_object_get(of_event, type);
    if (of_type == NULL)
        of_type = cJSON_AddObjectToObject(of_event, type);
    receipt = cJSON_AddObjectToObject(of_type, store_rows_text(rows, row, 0));
    cJSON_AddNumberToObject(receipt, "ts", (double)store_rows_integer(rows, row, 4));
    if (*thread_id != '\0')
        cJSON_AddStringToObject(receipt, "thread_id", thread_id);
}

gboolean
receipts_append(StoreConnection *connection, const char *room_id, const char *user_id, gint64 after,
                gint64 until, GString *out, GError **error)
{
    g_autoptr(StoreRows) rows =
        receipt_store_changed(connection, room_id, user_id, after, until, error);
    g_autoptr(cJSON) content = NULL;
    g_autofree char *text = NULL;

    if (rows == NULL)
        return FALSE;
    if (store_rows_count(rows) == 0)
        return TRUE;
    content = cJSON_CreateObject();
    for (guint i = 0; i < store_rows_count(rows); i++)
        append_receipt(content, rows, i);
    text = cJSON_PrintUnformatted(content);
    g_string_append_printf(out, "%s{\"type\":\"m.receipt\",\"content\":%s}",
                           out->len > 0 ? "," : "", text);
    return TRUE;
}

/* ---- setting receipts ---- */

/* What one request, or one receipt of a partner, sets. */
typedef struct {
    char *room_id;
    char *user_id;
    char *type; /* NULL: no receipt, the marker alone */
    char *thread_id;
    char *event_id;
    gint64 ts;
    gint64 event_position;
    GBytes *fully_read; /* content of m.fully_read, or NULL */
    char *second_type;  /* read_markers may set m.read and m.read.private at once */
    char *second_event_id;
    gint64 second_position;
} Setting;

static void
setting_free(gpointer data)
{
    Setting *setting = data;

    g_free(setting->room_id);
    g_free(setting->user_id);
    g_free(setting->type);
    g_free(setting->thread_id);
    g_free(setting->event_id);
    g_free(setting->second_type);
    g_free(setting->second_event_id);
    g_clear_pointer(&setting->fully_read, g_bytes_unref);
    g_free(setting);
}

/* What the room is told of a receipt: waiting syncs then need not read it. */
static GBytes *
told_of(const Setting *setting, GError **error)
{
    g_autoptr(cJSON) event = cJSON_CreateObject();
    cJSON *content = cJSON_AddObjectToObject(event, "content");
    cJSON *of_event = cJSON_AddObjectToObject(content, setting->event_id);
    cJSON *of_type = cJSON_AddObjectToObject(of_event, setting->type);
    cJSON *receipt = cJSON_AddObjectToObject(of_type, setting->user_id);

    cJSON_AddStringToObject(event, "type", "m.receipt");
    cJSON_AddNumberToObject(receipt, "ts", (double)setting->ts);
    if (*setting->thread_id != '\0')
        cJSON_AddStringToObject(receipt, "thread_id", setting->thread_id);
    return json_canonical(event, error);
}

static gboolean
setting_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Setting *setting = data;
    g_autoptr(GBytes) told = NULL;
    NewReceipt receipt = {.room_id = setting->room_id,
                          .user_id = setting->user_id,
                          .type = setting->type,
                          .thread_id = setting->thread_id,
                          .event_id = setting->event_id,
                          .ts = setting->ts,
                          .event_position = setting->event_position};

    if (setting->type != NULL && strcmp(setting->type, READ) == 0) {
        receipt.told = told = told_of(setting, error);
        if (told == NULL)
            return FALSE;
    }
    if (setting->type != NULL)
        receipt_store_put(batch, &receipt);
    if (setting->second_type != NULL) {
        receipt.told = NULL;
        receipt.type = setting->second_type;
        receipt.event_id = setting->second_event_id;
        receipt.event_position = setting->second_position;
        receipt_store_put(batch, &receipt);
    }
    if (setting->fully_read != NULL)
        account_data_store_put(batch, setting->user_id, setting->room_id, FULLY_READ,
                               setting->fully_read);
    return TRUE;
}

static Setting *
setting_new(const char *room_id, const char *user_id)
{
    Setting *setting = g_new0(Setting, 1);

    setting->room_id = g_strdup(room_id);
    setting->user_id = g_strdup(user_id);
    setting->thread_id = g_strdup("");
    setting->ts = clock_wall_ms();
    return setting;
}

static GBytes *
fully_read_content(const char *event_id)
{
    GString *text = g_string_new("{\"event_id\":");

    json_append_string(text, event_id);
    g_string_append_c(text, '}');
    return g_string_free_to_bytes(text);
}

/* A public receipt goes to the other servers of the room as well (server-server API, "Receipts").
 */
static gboolean
tell_partners(Server *server, StoreConnection *connection, const char *room_id, const char *user_id,
              const char *event_id, const char *thread_id, gint64 ts, GError **error)
{
    g_autofree char *replaces = g_strconcat("m.receipt ", room_id, " ", user_id, NULL);
    cJSON *content = cJSON_CreateObject();
    cJSON *of_room = cJSON_AddObjectToObject(content, room_id);
    cJSON *receipt = cJSON_AddObjectToObject(cJSON_AddObjectToObject(of_room, READ), user_id);
    cJSON *data = cJSON_AddObjectToObject(receipt, "data");
    cJSON *ids = cJSON_AddArrayToObject(receipt, "event_ids");

    cJSON_AddNumberToObject(data, "ts", (double)ts);
    if (*thread_id != '\0')
        cJSON_AddStringToObject(data, "thread_id", thread_id);
    cJSON_AddItemToArray(ids, cJSON_CreateString(event_id));
    return room_edus_send(server, connection, room_id, "m.receipt", content, replaces, error);
}

/* ---- the routes ---- */

/* A receipt that is not further than the one that stands says nothing. */
static gboolean
is_news(StoreConnection *connection, const Setting *setting, const char *type,
        gint64 event_position, gboolean *ret_news, GError **error)
{
    gint64 stands = 0;
    if (!receipt_store_position(connection, setting->room_id, setting->user_id, type,
                                setting->thread_id, &stands, error))
        return FALSE;
    *ret_news = stands < event_position;
    return TRUE;
}

static gboolean
require_joined(StoreConnection *connection, const char *room_id, const char *user_id,
               GError **error)
{
    g_autoptr(StoredMembership) membership = NULL;

    if (!membership_store_find(connection, room_id, user_id, &membership, error))
        return FALSE;
    if (membership != NULL && strcmp(membership->membership, "join") == 0)
        return TRUE;
    refusal_set(error, 403, "M_FORBIDDEN", "You are not in that room");
    return FALSE;
}

static gboolean
require_event(StoreConnection *connection, const char *room_id, const char *event_id,
              gint64 *ret_position, GError **error)
{
    if (!receipt_store_event_position(connection, room_id, event_id, ret_position, error))
        return FALSE;
    if (*ret_position != 0)
        return TRUE;
    refusal_set(error, 404, "M_NOT_FOUND", "There is no such event in that room");
    return FALSE;
}

static gboolean
read_thread(const Request *request, char **ret_thread_id, GError **error)
{
    const cJSON *thread = json_object_get(request_json(request), "thread_id");

    if (thread == NULL)
        return TRUE;
    if (strcmp(request_path(request, "receiptType"), FULLY_READ) == 0 || !cJSON_IsString(thread) ||
        *thread->valuestring == '\0' || strlen(thread->valuestring) > THREAD_BYTES_MAX) {
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "thread_id is a thread's root event or main, and not for m.fully_read");
        return FALSE;
    }
    g_free(*ret_thread_id);
    *ret_thread_id = g_strdup(thread->valuestring);
    return TRUE;
}

static Response *
receipt_post(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *type = request_path(request, "receiptType");
    const char *event_id = request_path(request, "eventId");
    const char *user_id = request_user_id(request);
    Setting *setting = setting_new(request_path(request, "roomId"), user_id);
    g_autoptr(StoreConnection) connection = NULL;
    gboolean news = FALSE;

    request_keep(request, setting, setting_free);
    if (strcmp(type, READ) != 0 && strcmp(type, READ_PRIVATE) != 0 && strcmp(type, FULLY_READ) != 0)
        return response_error(400, "M_INVALID_PARAM",
                              "Receipts are m.read, m.read.private and m.fully_read");
    connection = store_borrow(server->pool, error);
    if (connection == NULL || !read_thread(request, &setting->thread_id, error) ||
        !require_joined(connection, setting->room_id, user_id, error) ||
        !require_event(connection, setting->room_id, event_id, &setting->event_position, error))
        return NULL;
    if (strcmp(type, FULLY_READ) == 0)
        setting->fully_read = fully_read_content(event_id);
    else if (!is_news(connection, setting, type, setting->event_position, &news, error))
        return NULL;
    else if (news)
        setting->type = g_strdup(type);
    else
        return response_empty_object();
    setting->event_id = g_strdup(event_id);
    if (strcmp(type, READ) == 0 && !tell_partners(server, connection, setting->room_id, user_id,
                                                  event_id, setting->thread_id, setting->ts, error))
        return NULL;
    g_clear_pointer(&connection, store_return);
    return lane_call(request, setting_apply, setting, NULL, error);
}

static Response *
read_markers_post(Request *request, GError **error)
{
    Server *server = request_server(request);
    const cJSON *body = request_json(request);
    const char *fully = json_get_string(body, FULLY_READ);
    const char *read = json_get_string(body, READ);
    const char *private = json_get_string(body, READ_PRIVATE);
    const char *user_id = request_user_id(request);
    Setting *setting = setting_new(request_path(request, "roomId"), user_id);
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    gint64 position;

    request_keep(request, setting, setting_free);
    if (connection == NULL || !require_joined(connection, setting->room_id, user_id, error))
        return NULL;
    if (fully != NULL) {
        if (!require_event(connection, setting->room_id, fully, &position, error))
            return NULL;
        setting->fully_read = fully_read_content(fully);
    }
    if (read != NULL) {
        gboolean news = FALSE;
        if (!require_event(connection, setting->room_id, read, &setting->event_position, error) ||
            !is_news(connection, setting, READ, setting->event_position, &news, error) ||
            (news && !tell_partners(server, connection, setting->room_id, user_id, read, "",
                                    setting->ts, error)))
            return NULL;
        setting->type = news ? g_strdup(READ) : NULL;
        setting->event_id = g_strdup(read);
    }
    if (private != NULL) {
        if (!require_event(connection, setting->room_id, private, &setting->second_position, error))
            return NULL;
        setting->second_type = g_strdup(READ_PRIVATE);
        setting->second_event_id = g_strdup(private);
    }
    g_clear_pointer(&connection, store_return);
    return lane_call(request, setting_apply, setting, NULL, error);
}

/* ---- of partners ---- */

static void
setting_done(gpointer data, gint64 position, const GError *error)
{
    if (error != NULL)
        g_warning("receipt of a partner: %s", error->message);
    setting_free(data);
}

/* One user's receipt in one room; what is not theirs to send, or names nothing of ours, is passed
 * over. */
static void
receive_one(Server *server, StoreConnection *connection, const char *origin, const char *room_id,
            const cJSON *receipt)
{
    const char *user_id = receipt->string;
    const cJSON *data = json_get_object(receipt, "data");
    const cJSON *event_id = cJSON_GetArrayItem(json_get_array(receipt, "event_ids"), 0);
    const char *thread_id = json_get_string(data, "thread_id");
    g_autoptr(StoredMembership) membership = NULL;
    gboolean news = FALSE;
    gint64 position = 0;
    Setting *setting;

    if (!identifier_is_user_of(user_id, origin) || !cJSON_IsString(event_id) ||
        (thread_id != NULL && strlen(thread_id) > THREAD_BYTES_MAX) ||
        !membership_store_find(connection, room_id, user_id, &membership, NULL) ||
        membership == NULL || strcmp(membership->membership, "join") != 0 ||
        !receipt_store_event_position(connection, room_id, event_id->valuestring, &position,
                                      NULL) ||
        position == 0)
        return;
    setting = setting_new(room_id, user_id);
    setting->type = g_strdup(READ);
    setting->event_id = g_strdup(event_id->valuestring);
    setting->event_position = position;
    json_get_integer(data, "ts", &setting->ts);
    if (thread_id != NULL) {
        g_free(setting->thread_id);
        setting->thread_id = g_strdup(thread_id);
    }
    if (!is_news(connection, setting, READ, position, &news, NULL) || !news) {
        setting_free(setting);
        return;
    }
    if (!lane_submit(server->lane, setting_apply, setting_done, setting, NULL))
        setting_free(setting); /* volatile: the next receipt says more */
}

void
receipts_receive(Server *server, const char *origin, const cJSON *content, guint *budget)
{
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, NULL);
    const cJSON *room;
    const cJSON *receipt;

    if (connection == NULL)
        return;
    cJSON_ArrayForEach(room, content)
    {
        cJSON_ArrayForEach(receipt, json_get_object(room, READ))
        {
            if (*budget == 0)
                return;
            (*budget)--;
            receive_one(server, connection, origin, room->string, receipt);
        }
    }
}

#define ROOM "/_matrix/client/v3/rooms/{roomId}/"
#define POST LISTEN_CLIENT, CALLER_USER, RATE_NONE, BODY_JSON_OPTIONAL

extern const Route receipt_routes[];
const Route receipt_routes[] = {
    {"POST", ROOM "receipt/{receiptType}/{eventId}", POST, receipt_post},
    {"POST", ROOM "read_markers", POST, read_markers_post},
    {0},
};
