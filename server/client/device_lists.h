/* server/client/device_lists.h: who must learn that somebody's devices or keys changed.
 * For handlers that change keys and devices, in the apply function of their lane operation. */
#pragma once

#include "identity/json.h"
#include "storage/lane.h"

typedef struct Server Server;

/* A device of local @user_id changed its keys, or signatures on them: clients here learn of it, and
 * each partner with a user in a room of theirs gets one m.device_list_update. */
gboolean device_lists_changed(LaneBatch *batch, Server *server, const char *user_id,
                              const char *device_id, GError **error);
/* The cross-signing keys, as they are from now on (NULL: there is none): one m.signing_key_update.
 */
gboolean device_lists_signing_keys_changed(LaneBatch *batch, Server *server, const char *user_id,
                                           const cJSON *master_key, const cJSON *self_signing_key,
                                           GError **error);

/* Clients here alone learn of it: what a partner told of its user, or what only the user may see.
 */
gboolean device_lists_tell(LaneBatch *batch, const char *user_id, GError **error);

/* DeviceRemoved (identity/device_link.h): a device, or with @device_id NULL all of a user's, is
 * gone. @data: Server. */
void
device_lists_removed(LaneBatch *batch, const char *user_id, const char *device_id, gpointer data);
