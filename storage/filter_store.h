/* storage/filter_store.h: uploaded filters, named by their content.  For server/client/filter.c. */
#pragma once

#include "storage/store.h"

extern const StoreStatement filter_store_statements[];
extern const guint filter_store_statement_count;

#define FILTER_STORE_FILTERS_MAX 500 /* of one user */

/* *ret_stored FALSE: the user has too many already. */
gboolean filter_store_put(StoreConnection *connection, const char *user_id, const char *filter_id,
                          GBytes *json, gboolean *ret_stored, GError **error);
/* An absent one is success with *ret_json NULL. */
gboolean filter_store_find(StoreConnection *connection, const char *user_id, const char *filter_id,
                           GBytes **ret_json, GError **error);
