/* server/client/typing_routes.h: m.typing of partners.  For server/partner. */
#pragma once

#include "identity/json.h"
#include "server/server.h"

/* The content of an m.typing EDU from @origin; what is not its own user, or not in the room, is
 * passed over. */
void typing_receive(Server *server, const char *origin, const cJSON *content);
