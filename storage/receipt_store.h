/* storage/receipt_store.h: how far each user has read each room.  For server/client/receipts.c. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

extern const StoreStatement receipt_store_statements[];
extern const guint receipt_store_statement_count;

typedef struct {
    const char *room_id;
    const char *user_id;
    const char *type;      /* m.read, m.read.private */
    const char *thread_id; /* "" without */
    const char *event_id;
    gint64 ts;
    gint64 event_position; /* of the event in the log; 0 when not known */
    GBytes *told;          /* the payload of its log entry, or NULL */
} NewReceipt;

/* With its log entry (LOG_RECEIPT, ref = type).  A receipt never goes back. */
void receipt_store_put(LaneBatch *batch, const NewReceipt *receipt);
/* Rows of (user_id, type, thread_id, event_id, ts) changed after @after up to @until; private ones
 * of
 * @user_id alone. */
StoreRows *receipt_store_changed(StoreConnection *connection, const char *room_id,
                                 const char *user_id, gint64 after, gint64 until, GError **error);
/* The event position of one receipt; 0 when there is none. */
gboolean receipt_store_position(StoreConnection *connection, const char *room_id,
                                const char *user_id, const char *type, const char *thread_id,
                                gint64 *ret_position, GError **error);
/* The furthest event position that @user_id has read, outside threads; 0 when none. */
gboolean receipt_store_read_position(StoreConnection *connection, const char *room_id,
                                     const char *user_id, gint64 *ret_position, GError **error);
/* The position of @event_id in the log; 0 when it is not there. */
gboolean receipt_store_event_position(StoreConnection *connection, const char *room_id,
                                      const char *event_id, gint64 *ret_position, GError **error);
/* Rows of (event_id, sender, json): the room's events after @after up to @until that are no state,
 * newest first. */
StoreRows *receipt_store_unread(StoreConnection *connection, const char *room_id, gint64 after,
                                gint64 until, gint64 events_max, GError **error);
