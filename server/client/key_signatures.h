/* server/client/key_signatures.h: POST /keys/signatures/upload.  For server/client/keys.c. */
#pragma once

#include "server/http/request.h"

Response *keys_signatures_upload_post(Request *request, GError **error);
