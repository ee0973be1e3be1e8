/* storage/key_store.h: public keys of local users' devices, as canonical bytes.
 *
 * Rows and bytes; what may be uploaded is judged by identity/device_keys.h.  Writers that others
 * must learn of go through the lane (they come with a LOG_DEVICE_LIST entry); claiming a one-time
 * key is one DELETE … RETURNING on a borrowed connection. For server/client/keys*.c, and identity's
 * end of a device. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

extern const StoreStatement key_store_statements[];
extern const guint key_store_statement_count;

/* Rows of (device_id, json) of one user. */
StoreRows *key_store_device_keys(StoreConnection *connection, const char *user_id, GError **error);
/* One device's keys; *ret_json NULL when it has uploaded none. */
gboolean key_store_find_device_keys(StoreConnection *connection, const char *user_id,
                                    const char *device_id, GBytes **ret_json, GError **error);
void key_store_put_device_keys(LaneBatch *batch, const char *user_id, const char *device_id,
                               GBytes *json);

/* A key id that exists keeps its first bytes; *ret_conflict is TRUE when the bytes differ. */
gboolean
key_store_put_one_time_key(StoreConnection *connection, const char *user_id, const char *device_id,
                           const char *algorithm, const char *key_id, gint64 upload_order,
                           GBytes *json, gboolean *ret_conflict, GError **error);
gboolean
key_store_put_fallback_key(StoreConnection *connection, const char *user_id, const char *device_id,
                           const char *algorithm, const char *key_id, GBytes *json, GError **error);
/* Rows of (algorithm, count). */
StoreRows *key_store_count_one_time_keys(StoreConnection *connection, const char *user_id,
                                         const char *device_id, GError **error);
/* Rows of (algorithm): fallback keys not yet used. */
StoreRows *key_store_unused_fallback_keys(StoreConnection *connection, const char *user_id,
                                          const char *device_id, GError **error);
/* Take the oldest one-time key, else mark and give the fallback key; *ret_key_id NULL when there is
 * neither.  Atomic against concurrent claims. */
gboolean
key_store_claim(StoreConnection *connection, const char *user_id, const char *device_id,
                const char *algorithm, char **ret_key_id, GBytes **ret_json, GError **error);

/* Rows of (usage, json). */
StoreRows *
key_store_cross_signing_keys(StoreConnection *connection, const char *user_id, GError **error);
void key_store_put_cross_signing_key(LaneBatch *batch, const char *user_id, const char *usage,
                                     GBytes *json);
/* Rows of (target, signer_user_id, signer_key_id, signature) on keys of @user_id. */
StoreRows *key_store_signatures(StoreConnection *connection, const char *user_id, GError **error);
/* Rows of (user_id, target, key id, signature): those that @signer_user_id made on others' keys. */
StoreRows *
key_store_signatures_by(StoreConnection *connection, const char *signer_user_id, GError **error);
void key_store_put_signature(LaneBatch *batch, const char *user_id, const char *target,
                             const char *signer_user_id, const char *signer_key_id,
                             const char *signature);
/* The signatures made over keys that a new master key replaces. */
void key_store_drop_signatures(LaneBatch *batch, const char *user_id, const char *target);

/* Everything of one device (@device_id NULL: of each of the user's): its keys, one-time and
 * fallback keys, signatures on it and its inbox. */
void key_store_drop_device(LaneBatch *batch, const char *user_id, const char *device_id);
