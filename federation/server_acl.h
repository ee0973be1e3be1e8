/* federation/server_acl.h: may a server take part in a room: m.room.server_acl.
 * Pure.  Source: client-server API, "Server Access Control Lists (ACLs) for rooms". */
#pragma once

#include "identity/json.h"

/* @content of the event in force.  Time is linear in the content for names of one server's length.
 */
gboolean server_acl_allows(const cJSON *content, const char *server_name);
