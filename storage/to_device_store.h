/* storage/to_device_store.h: the inbox of each local device.
 *
 * A message waits as a row from the commit of its log entry (LOG_TO_DEVICE, ref = message id) until
 * the device syncs with a token past that entry's position.  Nothing is lost, and nothing comes
 * twice. For server/client/to_device.c and sync. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

extern const StoreStatement to_device_store_statements[];
extern const guint to_device_store_statement_count;

/* Append @json (the whole event: sender, type, content) for one device, with its log entry. */
void
to_device_store_put(LaneBatch *batch, const char *user_id, const char *device_id, GBytes *json);

/* The device id in the ref of a LOG_TO_DEVICE entry; caller frees. */
char *to_device_ref_device_id(const char *ref);

/* Rows of (position, json) after @after up to @until, oldest first, at most @messages_max. */
StoreRows *
to_device_store_read(StoreConnection *connection, const char *user_id, const char *device_id,
                     gint64 after, gint64 until, gint64 messages_max, GError **error);
/* Drop what the device has seen: up to and with @until. */
gboolean to_device_store_acknowledge(StoreConnection *connection, const char *user_id,
                                     const char *device_id, gint64 until, GError **error);
