/* server/client/to_device.h: messages from device to device: into inboxes here, to partners for
 * theirs. For server/client/keys.c (the route) and server/partner (m.direct_to_device of partners).
 */
#pragma once

#include "server/http/request.h"
#include "storage/lane.h"

#define TO_DEVICE_MESSAGES_MAX 5000u /* devices and users addressed by one request or EDU */
#define TO_DEVICE_CONTENT_BYTES_MAX 65536u

Response *send_to_device_put(Request *request, GError **error);

/* How many @messages address: each user, and each device or "*" besides the first. */
guint to_device_count(const cJSON *messages);
/* Into the inboxes of our users: @messages (at most TO_DEVICE_MESSAGES_MAX) maps user id -> device
 * id or "*" -> content; what names other servers' users or unknown devices, or is longer than
 * TO_DEVICE_CONTENT_BYTES_MAX, is passed over.  Inside a lane operation. */
gboolean to_device_deliver(LaneBatch *batch, Server *server, const char *sender, const char *type,
                           const cJSON *messages, GError **error);
