/* server/client/key_upload.h: POST /keys/upload.  For server/client/keys.c. */
#pragma once

#include "server/http/request.h"

Response *keys_upload_post(Request *request, GError **error);
