/* identity/device_link.h: how a device comes to be and how it goes.
 *
 * It comes only by session_link() (identity/session.h); the one caller of device_link_in_batch() is
 * there.  It goes whole, in one transaction: session and tokens, keys, what waits for it, the row;
 * partners and rooms learn of it by LOG_DEVICE_LIST.
 *
 * For identity/ and server/client/devices.c, logout.c and the officers' acts. */
#pragma once

#include "storage/device_store.h"
#include "storage/lane.h"

#define DEVICE_ID_BYTES_MAX 128
#define DEVICE_NAME_BYTES_MAX 256
#define DEVICES_PER_USER_MAX 100

/* May this be a device's id?  Visible ASCII, within the limit. */
gboolean device_id_is_valid(const char *device_id);
/* A fresh id, ten capital letters. */
char *device_id_new(void);
/* TRUE for what fits and is whole UTF-8: names come from clients. */
gboolean device_name_is_valid(const char *display_name);

typedef struct CertificateProof CertificateProof;
/* May the person of @proof have this device, new or continued?  Reads @connection.  A device whose
 * keys a challenge bound is continued only with the same keys.  FALSE with a REFUSAL or a
 * STORE_ERROR. */
gboolean
device_link_check(StoreConnection *connection, const CertificateProof *proof, const char *device_id,
                  const char *ed25519, const char *curve25519, GError **error);
/* Are these the keys that a signed challenge bound to the device, if one did?  FALSE with a REFUSAL
 * or a STORE_ERROR. */
gboolean
device_link_check_keys(StoreConnection *connection, const char *user_id, const char *device_id,
                       const char *ed25519, const char *curve25519, GError **error);
void device_link_in_batch(LaneBatch *batch, const CertificateProof *proof, const DeviceRow *row);

/* Everything that a device (or, with @device_id NULL, each of the user's devices) has. */
void device_remove_in_batch(LaneBatch *batch, const char *user_id, const char *device_id);

/* Who tells rooms and partners of it: the floors above, in the same batch
 * (server/client/device_lists.h).  Set once before serving; until then only the user's own devices
 * learn of it. */
typedef void (*DeviceRemoved)(LaneBatch *batch, const char *user_id, const char *device_id,
                              gpointer data);
void device_link_on_removed(DeviceRemoved hook, gpointer data);
