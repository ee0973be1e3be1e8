#include "storage/device_store.h"

#define DEVICE_COLUMNS                                                                             \
    "user_id, device_id, display_name, created_ms, last_seen_ms, ed25519, curve25519"

enum {
    DEVICE_FIND,
    DEVICE_LIST,
    DEVICE_LIST_ALL_OF,
    DEVICE_INSERT,
    DEVICE_RENAME,
    DEVICE_DELETE,
    DEVICE_DELETE_ALL,
    DEVICE_SEEN,
    N_STATEMENTS
};

const StoreStatement device_statements[] = {
    [DEVICE_FIND] = {"device_find",
                     "SELECT " DEVICE_COLUMNS " FROM device WHERE user_id = $1 AND device_id = $2"},
    [DEVICE_LIST] = {"device_list",
                     "SELECT " DEVICE_COLUMNS " FROM device WHERE user_id = $1 ORDER BY device_id"},
    [DEVICE_LIST_ALL_OF] = {"device_list_all_of",
                            "SELECT " DEVICE_COLUMNS
                            " FROM device WHERE user_id = ANY($1) ORDER BY user_id, device_id"},
    [DEVICE_INSERT] =
        {"device_insert",
         "INSERT INTO device AS d (" DEVICE_COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7) "
         "ON CONFLICT (user_id, device_id) DO UPDATE SET last_seen_ms = excluded.last_seen_ms, "
         "ed25519 = CASE WHEN d.ed25519 = '' THEN excluded.ed25519 ELSE d.ed25519 END, "
         "curve25519 = CASE WHEN d.curve25519 = '' THEN excluded.curve25519 ELSE d.curve25519 END"},
    [DEVICE_RENAME] = {"device_rename",
                       "UPDATE device SET display_name = $3 WHERE user_id = $1 AND device_id = $2"},
    [DEVICE_DELETE] = {"device_delete", "DELETE FROM device WHERE user_id = $1 AND device_id = $2"},
    [DEVICE_DELETE_ALL] = {"device_delete_all", "DELETE FROM device WHERE user_id = $1"},
    [DEVICE_SEEN] =
        {"device_seen",
         "UPDATE device d SET last_seen_ms = s.seen_ms "
         "FROM unnest($1::text[], $2::text[], $3::bigint[]) AS s (user_id, device_id, seen_ms) "
         "WHERE d.user_id = s.user_id AND d.device_id = s.device_id AND d.last_seen_ms < "
         "s.seen_ms"},
};
const guint device_statement_count = N_STATEMENTS;

void
device_row_free(DeviceRow *row)
{
    if (row == NULL)
        return;
    g_free(row->user_id);
    g_free(row->device_id);
    g_free(row->display_name);
    g_free(row->ed25519);
    g_free(row->curve25519);
    g_free(row);
}

static DeviceRow *
device_of(StoreRows *rows, guint row)
{
    DeviceRow *device = g_new0(DeviceRow, 1);
    device->user_id = g_strdup(store_rows_text(rows, row, 0));
    device->device_id = g_strdup(store_rows_text(rows, row, 1));
    device->display_name = g_strdup(store_rows_text(rows, row, 2));
    device->created_ms = store_rows_integer(rows, row, 3);
    device->last_seen_ms = store_rows_integer(rows, row, 4);
    device->ed25519 = g_strdup(store_rows_text(rows, row, 5));
    device->curve25519 = g_strdup(store_rows_text(rows, row, 6));
    return device;
}

gboolean
device_store_find(StoreConnection *connection, const char *user_id, const char *device_id,
                  DeviceRow **ret_row, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &device_statements[DEVICE_FIND],
                                          store_arguments("tt", user_id, device_id), error);
    if (rows == NULL)
        return FALSE;
    *ret_row = store_rows_count(rows) > 0 ? device_of(rows, 0) : NULL;
    return TRUE;
}

static GPtrArray *
devices_run(StoreConnection *connection, guint statement, StoreArguments *arguments, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &device_statements[statement], arguments, error);
    if (rows == NULL)
        return NULL;
    GPtrArray *devices = g_ptr_array_new_with_free_func((GDestroyNotify)device_row_free);
    for (guint i = 0; i < store_rows_count(rows); i++)
        g_ptr_array_add(devices, device_of(rows, i));
    return devices;
}

GPtrArray *
device_store_list(StoreConnection *connection, const char *user_id, GError **error)
{
    return devices_run(connection, DEVICE_LIST, store_arguments("t", user_id), error);
}

GPtrArray *
device_store_list_all_of(StoreConnection *connection, const char *const *user_ids, gsize count,
                         GError **error)
{
    StoreArguments *arguments = store_arguments("");

    store_arguments_text_array(arguments, user_ids, count);
    return devices_run(connection, DEVICE_LIST_ALL_OF, arguments, error);
}

void
device_store_insert_in_batch(LaneBatch *batch, const DeviceRow *row)
{
    lane_batch_add(batch, &device_statements[DEVICE_INSERT],
                   store_arguments("tttiitt", row->user_id, row->device_id, row->display_name,
                                   row->created_ms, row->last_seen_ms, row->ed25519,
                                   row->curve25519));
}

void
device_store_rename_in_batch(LaneBatch *batch, const char *user_id, const char *device_id,
                             const char *display_name)
{
    lane_batch_add(batch, &device_statements[DEVICE_RENAME],
                   store_arguments("ttt", user_id, device_id, display_name));
}

void
device_store_delete_in_batch(LaneBatch *batch, const char *user_id, const char *device_id)
{
    if (device_id != NULL)
        lane_batch_add(batch, &device_statements[DEVICE_DELETE],
                       store_arguments("tt", user_id, device_id));
    else
        lane_batch_add(batch, &device_statements[DEVICE_DELETE_ALL], store_arguments("t", user_id));
}

gboolean
device_store_seen(StoreConnection *connection, const char *const *user_ids,
                  const char *const *device_ids, const gint64 *seen_ms, gsize count, GError **error)
{
    StoreArguments *arguments = store_arguments_new();
    store_arguments_text_array(arguments, user_ids, count);
    store_arguments_text_array(arguments, device_ids, count);
    store_arguments_integer_array(arguments, seen_ms, count);
    return store_do(connection, &device_statements[DEVICE_SEEN], arguments, error);
}
