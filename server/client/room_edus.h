/* server/client/room_edus.h: what a user does in a room that is no event (typing, receipts), told
 * to the other servers in it (server-server API, "EDUs").  For server/client/receipts.c and
 * typing_routes.c. */
#pragma once

#include "identity/json.h"
#include "server/server.h"
#include "storage/store.h"

/* Queues {"edu_type": @edu_type, "content": @content} (consumed) for every server that is in
 * @room_id now, but ours.  What still waits with the same @replaces is replaced by it.  FALSE: the
 * database failed. */
gboolean room_edus_send(Server *server, StoreConnection *connection, const char *room_id,
                        const char *edu_type, cJSON *content, const char *replaces, GError **error);
