/* storage/device_store.h: rows of device.  Only identity/device_link.c makes or removes one.
 * "…_in_batch" adds to a lane operation; the others run on a borrowed connection. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

typedef struct {
    char *user_id;
    char *device_id;
    char *display_name; /* "" when none */
    gint64 created_ms;
    gint64 last_seen_ms;
    char *ed25519; /* "" unless bound by a signed challenge */
    char *curve25519;
} DeviceRow;
void device_row_free(DeviceRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DeviceRow, device_row_free)

/* Absent: success with *ret_row NULL. */
gboolean device_store_find(StoreConnection *connection, const char *user_id, const char *device_id,
                           DeviceRow **ret_row, GError **error);
/* GPtrArray of DeviceRow, by device id. */
GPtrArray *device_store_list(StoreConnection *connection, const char *user_id, GError **error);
/* Those of several users, in one query. */
GPtrArray *device_store_list_all_of(StoreConnection *connection, const char *const *user_ids,
                                    gsize count, GError **error);

/* An existing device keeps its name and its bound keys where it has them. */
void device_store_insert_in_batch(LaneBatch *batch, const DeviceRow *row);
void device_store_rename_in_batch(LaneBatch *batch, const char *user_id, const char *device_id,
                                  const char *display_name);
/* @device_id NULL: all of the user's. */
void device_store_delete_in_batch(LaneBatch *batch, const char *user_id, const char *device_id);
gboolean device_store_seen(StoreConnection *connection, const char *const *user_ids,
                           const char *const *device_ids, const gint64 *seen_ms, gsize count,
                           GError **error);

extern const StoreStatement device_statements[];
extern const guint device_statement_count;
