/* server/client/cross_signing.h: POST /keys/device_signing/upload.  For server/client/keys.c. */
#pragma once

#include "server/http/request.h"

Response *keys_device_signing_upload_post(Request *request, GError **error);
