/* server/client/receipts.h: how far everybody has read.
 * Source: client-server API v1.19, "Receipts", "Fully read markers".
 * For sync, its own routes, and server/partner (m.receipt of partners). */
#pragma once

#include "identity/json.h"
#include "server/server.h"
#include "storage/store.h"

/* Append to @out one m.receipt event with the receipts of the room that changed after @after up to
 * @until (@after 0: all), private ones only @user_id's own; nothing when there are none. */
gboolean receipts_append(StoreConnection *connection, const char *room_id, const char *user_id,
                         gint64 after, gint64 until, GString *out, GError **error);

/* The content of an m.receipt EDU from @origin: receipts of its own users in rooms where they are;
 * the others are passed over.  @budget: how many of them, and it goes down.  On a worker. */
void receipts_receive(Server *server, const char *origin, const cJSON *content, guint *budget);
