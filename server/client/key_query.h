/* server/client/key_query.h: POST /keys/query and /keys/claim.  For server/client/keys.c. */
#pragma once

#include "server/http/request.h"

Response *keys_query_post(Request *request, GError **error);
Response *keys_claim_post(Request *request, GError **error);
