#include "storage/key_store.h"

enum {
    KEY_DEVICE_ALL,
    KEY_DEVICE_FIND,
    KEY_DEVICE_PUT,
    KEY_ONE_TIME_PUT,
    KEY_ONE_TIME_COUNT,
    KEY_ONE_TIME_CLAIM,
    KEY_FALLBACK_PUT,
    KEY_FALLBACK_UNUSED,
    KEY_FALLBACK_CLAIM,
    KEY_CROSS_SIGNING_ALL,
    KEY_CROSS_SIGNING_PUT,
    KEY_SIGNATURE_ALL,
    KEY_SIGNATURE_BY,
    KEY_SIGNATURE_PUT,
    KEY_SIGNATURE_DROP,
    KEY_DROP_DEVICE_KEY,
    KEY_DROP_ONE_TIME,
    KEY_DROP_FALLBACK,
    KEY_DROP_INBOX,
    N_STATEMENTS,
};

const StoreStatement key_store_statements[] = {
    [KEY_DEVICE_ALL] =
        {"device_key_all",
         "SELECT device_id, json FROM device_key WHERE user_id = $1 ORDER BY device_id"},
    [KEY_DEVICE_FIND] = {"device_key_find",
                         "SELECT json FROM device_key WHERE user_id = $1 AND device_id = $2"},
    [KEY_DEVICE_PUT] = {"device_key_put",
                        "INSERT INTO device_key (user_id, device_id, json) VALUES ($1, $2, $3)"
                        " ON CONFLICT (user_id, device_id) DO UPDATE SET json = excluded.json"},
    /* The update changes nothing; it makes RETURNING give the row that was there first. */
    [KEY_ONE_TIME_PUT] = {"one_time_key_put",
                          "INSERT INTO one_time_key (user_id, device_id, algorithm, key_id,"
                          " upload_order, json) VALUES ($1, $2, $3, $4, $5, $6)"
                          " ON CONFLICT (user_id, device_id, algorithm, key_id)"
                          " DO UPDATE SET upload_order = one_time_key.upload_order"
                          " RETURNING json = $6"},
    [KEY_ONE_TIME_COUNT] = {"one_time_key_count",
                            "SELECT algorithm, count(*) FROM one_time_key"
                            " WHERE user_id = $1 AND device_id = $2 GROUP BY algorithm"},
    [KEY_ONE_TIME_CLAIM] = {"one_time_key_claim",
                            "DELETE FROM one_time_key WHERE user_id = $1"
                            " AND ($2::text IS NULL OR device_id = $2)"
                            " AND algorithm = $3 AND key_id = (SELECT key_id FROM one_time_key"
                            " WHERE user_id = $1 AND device_id = $2 AND algorithm = $3"
                            " ORDER BY upload_order, key_id LIMIT 1 FOR UPDATE SKIP LOCKED)"
                            " RETURNING key_id, json"},
    [KEY_FALLBACK_PUT] =
        {"fallback_key_put",
         "INSERT INTO fallback_key (user_id, device_id, algorithm, key_id, used, json)"
         " VALUES ($1, $2, $3, $4, false, $5)"
         " ON CONFLICT (user_id, device_id, algorithm) DO UPDATE"
         " SET key_id = excluded.key_id, json = excluded.json,"
         " used = fallback_key.used AND fallback_key.key_id = excluded.key_id"},
    [KEY_FALLBACK_UNUSED] =
        {"fallback_key_unused",
         "SELECT algorithm FROM fallback_key"
         " WHERE user_id = $1 AND device_id = $2 AND NOT used ORDER BY algorithm"},
    [KEY_FALLBACK_CLAIM] = {"fallback_key_claim",
                            "UPDATE fallback_key SET used = true WHERE user_id = $1"
                            " AND device_id = $2 AND algorithm = $3 RETURNING key_id, json"},
    [KEY_CROSS_SIGNING_ALL] = {"cross_signing_key_all",
                               "SELECT usage, json FROM cross_signing_key WHERE user_id = $1"},
    [KEY_CROSS_SIGNING_PUT] = {"cross_signing_key_put",
                               "INSERT INTO cross_signing_key (user_id, usage, json)"
                               " VALUES ($1, $2, $3)"
                               " ON CONFLICT (user_id, usage) DO UPDATE SET json = excluded.json"},
    [KEY_SIGNATURE_ALL] = {"key_signature_all",
                           "SELECT target, signer_user_id, signer_key_id, signature"
                           " FROM key_signature WHERE user_id = $1"},
    [KEY_SIGNATURE_BY] = {"key_signature_by",
                          "SELECT user_id, target, signer_key_id, signature"
                          " FROM key_signature WHERE signer_user_id = $1 AND user_id <> $1"},
    [KEY_SIGNATURE_PUT] = {"key_signature_put",
                           "INSERT INTO key_signature (user_id, target, signer_user_id,"
                           " signer_key_id, signature) VALUES ($1, $2, $3, $4, $5)"
                           " ON CONFLICT (user_id, target, signer_user_id, signer_key_id)"
                           " DO UPDATE SET signature = excluded.signature"},
    [KEY_SIGNATURE_DROP] = {"key_signature_drop",
                            "DELETE FROM key_signature WHERE user_id = $1 AND target = $2"},
    [KEY_DROP_DEVICE_KEY] = {"device_key_drop", "DELETE FROM device_key WHERE user_id = $1"
                                                " AND ($2::text IS NULL OR device_id = $2)"},
    [KEY_DROP_ONE_TIME] = {"one_time_key_drop", "DELETE FROM one_time_key WHERE user_id = $1"
                                                " AND ($2::text IS NULL OR device_id = $2)"},
    [KEY_DROP_FALLBACK] = {"fallback_key_drop", "DELETE FROM fallback_key WHERE user_id = $1"
                                                " AND ($2::text IS NULL OR device_id = $2)"},
    [KEY_DROP_INBOX] = {"to_device_drop", "DELETE FROM to_device WHERE user_id = $1"
                                          " AND ($2::text IS NULL OR device_id = $2)"},
};
const guint key_store_statement_count = N_STATEMENTS;

/* What ends with a device, in one order everywhere (no deadlocks). */
static const int device_drops[] = {KEY_DROP_DEVICE_KEY, KEY_DROP_ONE_TIME, KEY_DROP_FALLBACK,
                                   KEY_DROP_INBOX};

StoreRows *
key_store_device_keys(StoreConnection *connection, const char *user_id, GError **error)
{
    return store_run(connection, &key_store_statements[KEY_DEVICE_ALL],
                     store_arguments("t", user_id), error);
}

gboolean
key_store_find_device_keys(StoreConnection *connection, const char *user_id, const char *device_id,
                           GBytes **ret_json, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &key_store_statements[KEY_DEVICE_FIND],
                                          store_arguments("tt", user_id, device_id), error);
    if (rows == NULL)
        return FALSE;
    *ret_json = store_rows_count(rows) > 0 ? store_rows_bytes(rows, 0, 0) : NULL;
    return TRUE;
}

void
key_store_put_device_keys(LaneBatch *batch, const char *user_id, const char *device_id,
                          GBytes *json)
{
    lane_batch_add(batch, &key_store_statements[KEY_DEVICE_PUT],
                   store_arguments("tty", user_id, device_id, json));
}

gboolean
key_store_put_one_time_key(StoreConnection *connection, const char *user_id, const char *device_id,
                           const char *algorithm, const char *key_id, gint64 upload_order,
                           GBytes *json, gboolean *ret_conflict, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(
        connection, &key_store_statements[KEY_ONE_TIME_PUT],
        store_arguments("ttttiy", user_id, device_id, algorithm, key_id, upload_order, json),
        error);
    if (rows == NULL)
        return FALSE;
    *ret_conflict = store_rows_count(rows) == 1 && !store_rows_boolean(rows, 0, 0);
    return TRUE;
}

gboolean
key_store_put_fallback_key(StoreConnection *connection, const char *user_id, const char *device_id,
                           const char *algorithm, const char *key_id, GBytes *json, GError **error)
{
    return store_do(connection, &key_store_statements[KEY_FALLBACK_PUT],
                    store_arguments("tttty", user_id, device_id, algorithm, key_id, json), error);
}

StoreRows *
key_store_count_one_time_keys(StoreConnection *connection, const char *user_id,
                              const char *device_id, GError **error)
{
    return store_run(connection, &key_store_statements[KEY_ONE_TIME_COUNT],
                     store_arguments("tt", user_id, device_id), error);
}

StoreRows *
key_store_unused_fallback_keys(StoreConnection *connection, const char *user_id,
                               const char *device_id, GError **error)
{
    return store_run(connection, &key_store_statements[KEY_FALLBACK_UNUSED],
                     store_arguments("tt", user_id, device_id), error);
}

gboolean
key_store_claim(StoreConnection *connection, const char *user_id, const char *device_id,
                const char *algorithm, char **ret_key_id, GBytes **ret_json, GError **error)
{
    static const int sources[] = {KEY_ONE_TIME_CLAIM, KEY_FALLBACK_CLAIM};
    for (guint i = 0; i < G_N_ELEMENTS(sources); i++) {
        g_autoptr(StoreRows) rows =
            store_run(connection, &key_store_statements[sources[i]],
                      store_arguments("ttt", user_id, device_id, algorithm), error);
        if (rows == NULL)
            return FALSE;
        if (store_rows_count(rows) > 0) {
            *ret_key_id = g_strdup(store_rows_text(rows, 0, 0));
            *ret_json = store_rows_bytes(rows, 0, 1);
            return TRUE;
        }
    }
    *ret_key_id = NULL;
    *ret_json = NULL;
    return TRUE;
}

StoreRows *
key_store_cross_signing_keys(StoreConnection *connection, const char *user_id, GError **error)
{
    return store_run(connection, &key_store_statements[KEY_CROSS_SIGNING_ALL],
                     store_arguments("t", user_id), error);
}

void
key_store_put_cross_signing_key(LaneBatch *batch, const char *user_id, const char *usage,
                                GBytes *json)
{
    lane_batch_add(batch, &key_store_statements[KEY_CROSS_SIGNING_PUT],
                   store_arguments("tty", user_id, usage, json));
}

StoreRows *
key_store_signatures(StoreConnection *connection, const char *user_id, GError **error)
{
    return store_run(connection, &key_store_statements[KEY_SIGNATURE_ALL],
                     store_arguments("t", user_id), error);
}

StoreRows *
key_store_signatures_by(StoreConnection *connection, const char *signer_user_id, GError **error)
{
    return store_run(connection, &key_store_statements[KEY_SIGNATURE_BY],
                     store_arguments("t", signer_user_id), error);
}

void
key_store_put_signature(LaneBatch *batch, const char *user_id, const char *target,
                        const char *signer_user_id, const char *signer_key_id,
                        const char *signature)
{
    lane_batch_add(
        batch, &key_store_statements[KEY_SIGNATURE_PUT],
        store_arguments("ttttt", user_id, target, signer_user_id, signer_key_id, signature));
}

void
key_store_drop_signatures(LaneBatch *batch, const char *user_id, const char *target)
{
    lane_batch_add(batch, &key_store_statements[KEY_SIGNATURE_DROP],
                   store_arguments("tt", user_id, target));
}

void
key_store_drop_device(LaneBatch *batch, const char *user_id, const char *device_id)
{
    if (device_id != NULL)
        key_store_drop_signatures(batch, user_id, device_id);
    for (guint i = 0; i < G_N_ELEMENTS(device_drops); i++)
        lane_batch_add(batch, &key_store_statements[device_drops[i]],
                       store_arguments("tt", user_id, device_id));
}
