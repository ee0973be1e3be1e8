/* storage/partner_store.h: allow-lists as rows, and answers to partners' transactions.
 * Plain rows: signatures and serials are judged in federation/partner.c, the one caller of what
 * puts lists there; `chancery partner show` reads them. */
#pragma once

#include "storage/store.h"
#include "storage/writes.h"

typedef struct {
    gint64 serial;
    GBytes *content;
    GBytes *signature;
} StoredPartnerList;
void stored_partner_list_free(StoredPartnerList *list);

/* The highest serial; 0 when there is no list. */
gboolean partner_store_serial(StoreConnection *connection, gint64 *ret_serial, GError **error);
/* The newest @lists_max lists, newest first: GPtrArray of StoredPartnerList, owned. */
GPtrArray *partner_store_lists(StoreConnection *connection, guint lists_max, GError **error);
/* A serial that is there already makes the transaction fail. */
void partner_store_insert_list(StoreWrites *writes, gint64 serial, const char *list_id,
                               GBytes *content, GBytes *signature, gint64 now_ms);

/* *ret_answer NULL when that transaction is new. */
gboolean partner_store_find_answer(StoreConnection *connection, const char *partner,
                                   const char *txn_id, GBytes **ret_answer, GError **error);
gboolean
partner_store_keep_answer(StoreConnection *connection, const char *partner, const char *txn_id,
                          GBytes *answer, gint64 now_ms, GError **error);
/* Forget at most @rows_max answers from before @before_ms. */
gboolean partner_store_forget_answers(StoreConnection *connection, gint64 before_ms,
                                      gint64 rows_max, GError **error);
