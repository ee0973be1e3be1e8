/* federation/room/server_acl.h: may a server take part in a room, by its m.room.server_acl?
 * Pure; any thread; linear time whatever the patterns.
 * Source: Matrix v1.19 client-server API, "Server Access Control Lists (ACLs) for rooms". */
#pragma once

#include "identity/json.h"

/* @content: that of the room's m.room.server_acl event, NULL when it has none (everybody may).
 * @server_name: with its port, which does not count; upper and lower case are the same. */
gboolean server_acl_allows(const cJSON *content, const char *server_name);
