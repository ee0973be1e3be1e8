/* server/client/to_device.h: messages from device to device: into inboxes here, to partners for
 * theirs. For server/client/keys.c (the route) and server/partner (m.direct_to_device of partners).
 */
#pragma once

#include "server/http/request.h"
#include "storage/lane.h"

#define TO_DEVICE_MESSAGES_MAX 5000u /* devices addressed by one request or EDU */

Response *send_to_device_put(Request *request, GError **error);

/* Into the inboxes of our users: @messages maps user id -> device id or "*" -> content; what names
 * other servers' users or unknown devices is passed over.  Inside a lane operation. */
gboolean to_device_deliver(LaneBatch *batch, Server *server, const char *sender, const char *type,
                           const cJSON *messages, GError **error);
