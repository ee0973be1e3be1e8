/* server/client/unread.h: how much of each room a user has not read, by the user's push rules.
 * Source: client-server API v1.19, "Receiving notifications", "Marking notifications as read".
 *
 * Counted from the database once; from then on kept in memory and moved on by the events that a
 * sync shows anyway.  A receipt, a change of the user's rules or of their membership (bell of the
 * ring) forgets the count. Bounded by number of users.  For sync.  Thread-safe. */
#pragma once

#include "server/server.h"
#include "storage/log.h"
#include "storage/store.h"

typedef struct Unread Unread;

#define UNREAD_MAX 100 /* counting ends there */

Unread *unread_new(Server *server); /* registers its bell */
void unread_free(Unread *unread);

/* What notifies after the user's receipts, or own last event, up to @until; and those of them that
 * name the user. */
gboolean
unread_count(Server *server, StoreConnection *connection, const char *room_id, const char *user_id,
             gint64 until, guint *ret_notifications, guint *ret_highlights, GError **error);

/* The same without the database, when the count at @since or later is known: @entries (LogEntry)
 * are all events of the room after @since (maybe none), oldest first, and @events their RoomEvents.
 * FALSE: not known. */
gboolean unread_advance(Unread *unread, const char *room_id, const char *user_id, gint64 since,
                        GPtrArray *entries, GPtrArray *events, guint *ret_notifications,
                        guint *ret_highlights);
