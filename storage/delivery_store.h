/* storage/delivery_store.h: the queues of what partners are still to be told.
 * Plain rows.  For federation/delivery.c alone. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

/* One row of each partner's queue, @queue_no above all earlier ones; @event_id NULL for an EDU,
 * @edu NULL for an event. */
void delivery_store_add(LaneBatch *batch, const char *const *partners, gsize count, gint64 queue_no,
                        const char *room_id, const char *event_id, GBytes *edu);
/* Partners with rows, or with a transaction on its way: GPtrArray of char *, owned. */
GPtrArray *delivery_store_partners(StoreConnection *connection, GError **error);

typedef struct {
    gint64 queue_no;
    char *room_id;
    char *event_id; /* NULL: an EDU */
    GBytes *edu;    /* NULL: an event */
} QueuedItem;
void queued_item_free(QueuedItem *item);
/* The head of @partner's queue, oldest first: GPtrArray of QueuedItem, owned. */
GPtrArray *delivery_store_head(StoreConnection *connection, const char *partner, guint items_max,
                               GError **error);
gboolean delivery_store_count(StoreConnection *connection, const char *partner, gint64 *ret_count,
                              GError **error);
/* The newest row of @room_id that waits for @partner; 0: none does. */
gboolean delivery_store_newest(StoreConnection *connection, const char *partner,
                               const char *room_id, gint64 *ret_queue_no, GError **error);

typedef struct {
    char *txn_id;
    gint64 last_no; /* 0: nothing of the queue is in it */
    GBytes *body;
} QueuedTransaction;
void queued_transaction_free(QueuedTransaction *transaction);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QueuedTransaction, queued_transaction_free)
/* *ret_transaction NULL when none is on its way. */
gboolean delivery_store_find_transaction(StoreConnection *connection, const char *partner,
                                         QueuedTransaction **ret_transaction, GError **error);
/* One at a time: fails when there is one. */
gboolean delivery_store_keep_transaction(StoreConnection *connection, const char *partner,
                                         const QueuedTransaction *transaction, GError **error);
/* It has arrived: it and its part of the queue go, in one statement. */
gboolean delivery_store_finish(StoreConnection *connection, const char *partner, const char *txn_id,
                               gint64 last_no, GError **error);
/* Everything for @partner. */
gboolean delivery_store_drop(StoreConnection *connection, const char *partner, gint64 *ret_count,
                             GError **error);
