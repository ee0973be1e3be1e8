/* server/client/key_changes.h: GET /keys/changes.  For server/client/keys.c. */
#pragma once

#include "server/http/request.h"

Response *keys_changes_get(Request *request, GError **error);
