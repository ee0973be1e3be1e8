/* server/client/user_map.h: request bodies that map user IDs to something (/keys/query,
 * /keys/claim, /sendToDevice), taken apart by server.  For server/client/key_query.c and
 * to_device.c. */
#pragma once

#include "identity/json.h"

/* The server of "@user:server", borrowed; NULL where @user_id is none. */
const char *user_map_server(const char *user_id);

/* Server name -> object of the members that are of it; the seeded hash, since clients choose the
 * names. */
GHashTable *user_map_new(void);
/* Adds a copy of @member, named by a user ID of @server_name. */
void user_map_add(GHashTable *map, const char *server_name, const cJSON *member);
