#include "server/client/to_device.h"

#include <string.h>

#include "federation/delivery.h"
#include "identity/clock.h"
#include "identity/refusal.h"
#include "identity/seeded_hash.h"
#include "server/client/room_transactions.h"
#include "server/client/user_map.h"
#include "server/server.h"
#include "storage/device_store.h"
#include "storage/event_store.h"
#include "storage/to_device_store.h"

/* What a partner takes as one EDU; a PDU's limit serves for it too. */
#define TO_DEVICE_EDU_BYTES_MAX 65536u
#define TXN_ID_BYTES_MAX 255

/* NULL without @error: longer than a message may be. */
static GBytes *
to_device_event(const char *sender, const char *type, const cJSON *content, GError **error)
{
    g_autoptr(GString) event = g_string_new("{\"content\":");
    gsize before = event->len;

    if (!json_canonical_append(event, content, error) ||
        event->len - before > TO_DEVICE_CONTENT_BYTES_MAX)
        return NULL;
    g_string_append(event, ",\"sender\":");
    json_append_string(event, sender);
    g_string_append(event, ",\"type\":");
    json_append_string(event, type);
    g_string_append_c(event, '}');
    return g_string_free_to_bytes(g_steal_pointer(&event));
}

static gboolean
deliver_to_device(LaneBatch *batch, const char *sender, const char *type, const cJSON *of_user,
                  const DeviceRow *device, GError **error)
{
    const cJSON *content = json_get_object(of_user, device->device_id);
    g_autoptr(GError) problem = NULL;
    g_autoptr(GBytes) event = NULL;

    if (content == NULL)
        content = json_get_object(of_user, "*");
    if (content == NULL)
        return TRUE;
    event = to_device_event(sender, type, content, &problem);
    if (event != NULL)
        to_device_store_put(batch, device->user_id, device->device_id, event);
    if (problem == NULL)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&problem));
    return FALSE;
}

guint
to_device_count(const cJSON *messages)
{
    guint count = 0;

    for (const cJSON *user = messages->child; user != NULL; user = user->next)
        count += user->child != NULL ? (guint)cJSON_GetArraySize(user) : 1;
    return count;
}

gboolean
to_device_deliver(LaneBatch *batch, Server *server, const char *sender, const char *type,
                  const cJSON *messages, GError **error)
{
    StoreConnection *connection = lane_batch_connection(batch, error);
    g_autoptr(GHashTable) users = g_hash_table_new(seeded_str_hash, g_str_equal);
    g_autoptr(GPtrArray) user_ids = g_ptr_array_new();
    g_autoptr(GPtrArray) devices = NULL;

    if (connection == NULL)
        return FALSE;
    for (const cJSON *user = messages->child; user != NULL; user = user->next)
        if (g_strcmp0(user_map_server(user->string), server->name) == 0 && cJSON_IsObject(user) &&
            user->child != NULL) {
            g_hash_table_insert(users, user->string, (gpointer)user);
            g_ptr_array_add(user_ids, user->string);
        }
    if (user_ids->len == 0)
        return TRUE;
    /* One look for all: nobody else writes meanwhile. */
    devices = device_store_list_all_of(connection, (const char *const *)user_ids->pdata,
                                       user_ids->len, error);
    for (guint i = 0; devices != NULL && i < devices->len; i++) {
        const DeviceRow *device = g_ptr_array_index(devices, i);
        if (!deliver_to_device(batch, sender, type, g_hash_table_lookup(users, device->user_id),
                               device, error))
            return FALSE;
    }
    return devices != NULL;
}

/* m.direct_to_device for the users of @server_name among @messages; NULL when it is too large. */
static GBytes *
direct_edu(const char *sender, const char *type, const cJSON *of_server, GError **error)
{
    g_autofree char *message_id = g_uuid_string_random();
    g_autoptr(cJSON) edu = cJSON_CreateObject();
    cJSON_AddStringToObject(edu, "edu_type", "m.direct_to_device");
    cJSON *content = cJSON_AddObjectToObject(edu, "content");
    cJSON_AddStringToObject(content, "sender", sender);
    cJSON_AddStringToObject(content, "type", type);
    cJSON_AddStringToObject(content, "message_id", message_id);
    cJSON_AddItemReferenceToObject(content, "messages", (cJSON *)of_server);
    g_autoptr(GBytes) bytes = json_canonical(edu, error);
    if (bytes != NULL && g_bytes_get_size(bytes) > TO_DEVICE_EDU_BYTES_MAX) {
        refusal_set(error, 413, "M_TOO_LARGE", "Messages to one server may take %u bytes at a time",
                    TO_DEVICE_EDU_BYTES_MAX);
        return NULL;
    }
    return g_steal_pointer(&bytes);
}

typedef struct {
    Request *request;
    GHashTable *edus; /* server name -> GBytes */
    char *key;        /* of the transaction under way */
} Sending;

static void
sending_free(gpointer data)
{
    Sending *sending = data;
    g_hash_table_unref(sending->edus);
    g_free(sending->key);
    g_free(sending);
}

/* A transaction id counts for one path (client-server API, "Transaction identifiers"). */
static char *
transaction_scope(const Request *request)
{
    return g_strjoin("/", "sendToDevice", request_path(request, "eventType"), NULL);
}

static gboolean
sending_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Sending *sending = data;
    const Request *request = sending->request;
    Server *server = request_server(request);
    GHashTableIter iterator;
    gpointer name = NULL;
    gpointer edu = NULL;

    if (!to_device_deliver(batch, server, request_user_id(request),
                           request_path(request, "eventType"),
                           json_get_object(request_json(request), "messages"), error))
        return FALSE;
    g_hash_table_iter_init(&iterator, sending->edus);
    while (g_hash_table_iter_next(&iterator, &name, &edu))
        delivery_queue_edu(batch, server->delivery, name, edu);
    g_autofree char *scope = transaction_scope(request);
    event_store_record_transaction(batch, request_user_id(request), request_device_id(request),
                                   scope, request_path(request, "txnId"), "", clock_wall_ms());
    return TRUE;
}

static void
sending_done(gpointer data, gint64 position, const GError *error)
{
    Sending *sending = data;
    RoomTransactions *transactions = request_server(sending->request)->room_transactions;
    g_autofree char *key = g_steal_pointer(&sending->key);

    request_answer(sending->request, error == NULL ? response_empty_object() : NULL, error);
    room_transactions_end(transactions, key, NULL, error);
}

/* The contents of one user's messages are objects of at most TO_DEVICE_CONTENT_BYTES_MAX. */
static gboolean
check_contents(const cJSON *user, gboolean may_be_long, GError **error)
{
    for (const cJSON *content = user->child; content != NULL; content = content->next) {
        if (!cJSON_IsObject(content)) {
            refusal_set(error, 400, "M_INVALID_PARAM", "Each message is an object");
            return FALSE;
        }
        g_autoptr(GBytes) bytes = may_be_long ? json_canonical(content, error) : NULL;
        if (may_be_long && bytes == NULL)
            return FALSE;
        if (bytes != NULL && g_bytes_get_size(bytes) > TO_DEVICE_CONTENT_BYTES_MAX) {
            refusal_set(error, 413, "M_TOO_LARGE", "A message may take %u bytes",
                        TO_DEVICE_CONTENT_BYTES_MAX);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
check_and_sort(Request *request, const cJSON *messages, GHashTable *remote, GError **error)
{
    const gboolean may_be_long =
        g_bytes_get_size(request_body(request)) > TO_DEVICE_CONTENT_BYTES_MAX;

    if (to_device_count(messages) > TO_DEVICE_MESSAGES_MAX) {
        refusal_set(error, 400, "M_INVALID_PARAM", "At most %u messages go at a time",
                    TO_DEVICE_MESSAGES_MAX);
        return FALSE;
    }
    for (const cJSON *user = messages->child; user != NULL; user = user->next) {
        const char *name = user_map_server(user->string);
        if (name == NULL || !cJSON_IsObject(user)) {
            refusal_set(error, 400, "M_INVALID_PARAM",
                        "messages maps user ids to objects of device id: content");
            return FALSE;
        }
        if (!check_contents(user, may_be_long, error))
            return FALSE;
        if (strcmp(name, request_server(request)->name) == 0)
            continue;
        user_map_add(remote, name, user);
    }
    return TRUE;
}

/* What goes to partners, ready to be queued. */
static Sending *
sending_new(Request *request, GHashTable *remote, GError **error)
{
    Sending *sending = g_new0(Sending, 1);
    GHashTableIter iterator;
    gpointer name = NULL;
    gpointer of_server = NULL;

    sending->request = request;
    sending->edus =
        g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);
    request_keep(request, sending, sending_free);
    g_hash_table_iter_init(&iterator, remote);
    while (g_hash_table_iter_next(&iterator, &name, &of_server)) {
        GBytes *edu = direct_edu(request_user_id(request), request_path(request, "eventType"),
                                 of_server, error);
        if (edu == NULL)
            return NULL;
        g_hash_table_insert(sending->edus, g_strdup(name), edu);
    }
    return sending;
}

/* TRUE and *ret_seen: was committed before. */
static gboolean
find_earlier(const Request *request, gboolean *ret_seen, GError **error)
{
    g_autofree char *scope = transaction_scope(request);
    g_autofree char *earlier = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);

    if (connection == NULL || !event_store_find_transaction(
                                  connection, request_user_id(request), request_device_id(request),
                                  scope, request_path(request, "txnId"), &earlier, error))
        return FALSE;
    *ret_seen = earlier != NULL;
    return TRUE;
}

Response *
send_to_device_put(Request *request, GError **error)
{
    Server *server = request_server(request);
    const char *txn_id = request_path(request, "txnId");
    const cJSON *messages = json_require_object(request_json(request), "messages", error);
    g_autoptr(GHashTable) remote = user_map_new();
    g_autofree char *scope = transaction_scope(request);
    g_autofree char *key =
        g_strjoin("\n", request_user_id(request), request_device_id(request), scope, txn_id, NULL);
    g_autoptr(GError) failure = NULL;
    gboolean seen = FALSE;

    if (messages == NULL || !check_and_sort(request, messages, remote, error))
        return NULL;
    if (strlen(txn_id) > TXN_ID_BYTES_MAX)
        return response_error(400, "M_INVALID_PARAM", "A transaction ID may have at most %d bytes",
                              TXN_ID_BYTES_MAX);
    Sending *sending = sending_new(request, remote, error);
    if (sending == NULL)
        return NULL;
    if (!room_transactions_begin(server->room_transactions, key, request))
        return RESPONSE_LATER;
    if (find_earlier(request, &seen, &failure) && !seen) {
        sending->key = g_strdup(key);
        if (lane_submit(server->lane, sending_apply, sending_done, sending, &failure))
            return RESPONSE_LATER;
    }
    room_transactions_end(server->room_transactions, key, NULL, failure);
    if (failure != NULL) {
        g_propagate_error(error, g_steal_pointer(&failure));
        return NULL;
    }
    return response_empty_object();
}
