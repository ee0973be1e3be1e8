#include "storage/to_device_store.h"

#include <string.h>

enum {
    TO_DEVICE_PUT,
    TO_DEVICE_READ,
    TO_DEVICE_ACKNOWLEDGE,
    N_STATEMENTS,
};

/* kind = 4 is LOG_TO_DEVICE (storage/log.h). */
const StoreStatement to_device_store_statements[] = {
    [TO_DEVICE_PUT] = {"to_device_put",
                       "INSERT INTO to_device (user_id, message_id, device_id, json)"
                       " VALUES ($1, $2, $3, $4)"},
    [TO_DEVICE_READ] = {"to_device_read",
                        "SELECT l.position, t.json FROM to_device t JOIN log l"
                        " ON l.user_id = t.user_id AND l.ref = t.message_id AND l.kind = 4"
                        " WHERE t.user_id = $1 AND t.device_id = $2"
                        " AND l.position > $3 AND l.position <= $4 ORDER BY l.position LIMIT $5"},
    [TO_DEVICE_ACKNOWLEDGE] = {"to_device_acknowledge",
                               "DELETE FROM to_device t USING log l"
                               " WHERE t.user_id = $1 AND t.device_id = $2"
                               " AND l.user_id = t.user_id AND l.ref = t.message_id AND l.kind = 4"
                               " AND l.position <= $3"},
};
const guint to_device_store_statement_count = N_STATEMENTS;

void
to_device_store_put(LaneBatch *batch, const char *user_id, const char *device_id, GBytes *json)
{
    g_autofree char *random = g_uuid_string_random();
    g_autofree char *message_id = g_strconcat(device_id, "/", random, NULL);
    lane_batch_add(batch, &to_device_store_statements[TO_DEVICE_PUT],
                   store_arguments("ttty", user_id, message_id, device_id, json));
    lane_batch_log(batch, log_entry_new(LOG_TO_DEVICE, NULL, user_id, message_id));
}

char *
to_device_ref_device_id(const char *ref)
{
    const char *slash = strrchr(ref, '/');
    return g_strndup(ref, slash != NULL ? (gsize)(slash - ref) : strlen(ref));
}

StoreRows *
to_device_store_read(StoreConnection *connection, const char *user_id, const char *device_id,
                     gint64 after, gint64 until, gint64 messages_max, GError **error)
{
    return store_run(connection, &to_device_store_statements[TO_DEVICE_READ],
                     store_arguments("ttiii", user_id, device_id, after, until, messages_max),
                     error);
}

gboolean
to_device_store_acknowledge(StoreConnection *connection, const char *user_id, const char *device_id,
                            gint64 until, GError **error)
{
    return store_do(connection, &to_device_store_statements[TO_DEVICE_ACKNOWLEDGE],
                    store_arguments("tti", user_id, device_id, until), error);
}
