/* server/client/account_data.h: what clients keep with their account: global, or for a room; tags.
 * Source: client-server API v1.19, "Client Config", "Room Tagging".  For
 * sync and its own routes. */
#pragma once

#include "server/client/filter.h"
#include "storage/store.h"

/* Append to @out, separated by commas (also from what is there already), the account data events of
 * @user_id that changed after @after up to @until: global ones with @room_id NULL.  @after 0: all
 * there are; m.push_rules is then always among the global ones. */
gboolean account_data_append(StoreConnection *connection, const char *user_id, const char *room_id,
                             gint64 after, gint64 until, const FilterEvents *filter, GString *out,
                             GError **error);
/* The rooms (char *) whose account data of @user_id changed in that time. */
GPtrArray *account_data_changed_rooms(StoreConnection *connection, const char *user_id,
                                      gint64 after, gint64 until, GError **error);

/* For push_rule_routes.c and receipts.c: store @content and answer {} when it is durable. */
typedef struct Request Request;
typedef struct Response Response;
Response *account_data_write(Request *request, const char *room_id, const char *type,
                             const cJSON *content, GError **error);
