/* server/client/sync.h: GET /_matrix/client/v3/sync.  For server/routes.c. */
#pragma once

#include "server/http/route.h"

extern const Route sync_routes[];
