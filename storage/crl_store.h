/* storage/crl_store.h: the revocation list in force of each issuer's key and distribution point.
 * For identity/crl.c. */
#pragma once

#include "storage/store.h"
#include "storage/writes.h"

/* Borrowed. */
typedef struct {
    const char *issuer_key;
    const char *scope;
    const char *number; /* 40 hex digits */
    gint64 this_update_ms;
    gint64 next_update_ms;
    gint64 imported_ms;
    GBytes *der;
} StoredCrl;

/* A row whose number is not lower stays as it is. */
void crl_store_put(StoreWrites *writes, const StoredCrl *crl);
/* The highest number seen; absent: success with NULL. */
gboolean crl_store_floor(StoreConnection *connection, const char *issuer_key, const char *scope,
                         char **ret_number, GError **error);
gboolean crl_store_find(StoreConnection *connection, const char *issuer_key, const char *scope,
                        GBytes **ret_der, GError **error);
/* GBytes of every list. */
GPtrArray *crl_store_all(StoreConnection *connection, GError **error);

extern const StoreStatement crl_statements[];
extern const guint crl_statement_count;
