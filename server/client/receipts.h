/* server/client/receipts.h: how far everybody has read, and how much is unread.
 * Source: client-server API v1.19, "Receipts", "Fully read markers", "Notification counts".
 * For sync, its own routes, and server/partner (m.receipt of partners). */
#pragma once

#include "federation/rooms.h"
#include "identity/json.h"
#include "server/server.h"

/* Append to @out one m.receipt event with the receipts of the room that changed after @after up to
 * @until (@after 0: all), private ones only @user_id's own; nothing when there are none. */
gboolean receipts_append(StoreConnection *connection, const char *room_id, const char *user_id,
                         gint64 after, gint64 until, GString *out, GError **error);

/* What @user_id has not read of the room up to @until: events that notify by the default rules, and
 * those of them that name the user. Counting ends at 100. */
gboolean
unread_count(Server *server, StoreConnection *connection, const char *room_id, const char *user_id,
             gint64 until, guint *ret_notifications, guint *ret_highlights, GError **error);

/* The content of an m.receipt EDU from @origin: receipts of its own users in rooms where they are;
 * the others are passed over.  On a worker. */
void receipts_receive(Server *server, const char *origin, const cJSON *content);
