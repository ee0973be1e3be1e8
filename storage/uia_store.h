/* storage/uia_store.h: rows of uia.  Only identity/uia.c makes one. */
#pragma once

#include "storage/store.h"

typedef struct {
    char *uia_id;
    char *user_id;
    char *session_id;
    char *what;
    GBytes *request_hash;
    gint64 completed_ms; /* 0: not yet */
    gint64 expires_ms;
    GBytes *mac;
} UiaRow;
void uia_row_clear(UiaRow *row);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(UiaRow, uia_row_clear)

/* At most @rows_max of one session: the oldest go. */
gboolean
uia_store_insert(StoreConnection *connection, const UiaRow *row, gint64 rows_max, GError **error);
/* Absent: success with uia_id NULL. */
gboolean
uia_store_find(StoreConnection *connection, const char *uia_id, UiaRow *ret_row, GError **error);
/* FALSE without @error in *ret_done: it was completed, or gone, before. */
gboolean uia_store_complete(StoreConnection *connection, const char *uia_id, gint64 completed_ms,
                            GBytes *mac, gboolean *ret_done, GError **error);
/* Of several who take the same one, one gets TRUE in *ret_taken. */
gboolean uia_store_take(StoreConnection *connection, const char *uia_id, gboolean *ret_taken,
                        GError **error);
gboolean uia_store_sweep(StoreConnection *connection, gint64 now_ms, GError **error);

extern const StoreStatement uia_statements[];
extern const guint uia_statement_count;
