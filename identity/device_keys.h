/* identity/device_keys.h: what may be uploaded as a device's or a person's public keys.
 *
 * A signature counts only if libolm and libsodium both accept it: libolm alone was seen to take a
 * malleated one.  Signatures of unknown algorithms are kept and given out as they came.
 * Pure; for server/client/keys*.c.  Every refusal is a REFUSAL with 400 M_INVALID_PARAM or
 * 400 M_INVALID_SIGNATURE, but for sizes.
 * Source: client-server API v1.19, "End-to-End Encryption"; shared limits below. */
#pragma once

#include "identity/json.h"

#define DEVICE_KEYS_ONE_TIME_MAX 200u    /* in one upload */
#define DEVICE_KEYS_SIGNATURES_MAX 1000u /* in one signature upload */
/* Of one key object, which everybody who meets its owner is given. */
#define DEVICE_KEYS_BYTES_MAX 65536u
#define DEVICE_KEYS_ONE_TIME_BYTES_MAX 4096u

/* @key as it is stored: canonical; NULL with 413 M_TOO_LARGE when that has more than @bytes_max. */
GBytes *device_keys_bytes(const cJSON *key, gsize bytes_max, GError **error);

/* A public Ed25519 key in unpadded base64 signed @object as @user_id with @key_id ("ed25519:…"). */
gboolean device_keys_signature_valid(const cJSON *object, const char *user_id, const char *key_id,
                                     const char *public_key);

/* @keys is a device-keys object of exactly this user and device, self-signed. */
gboolean
device_keys_check(const cJSON *keys, const char *user_id, const char *device_id, GError **error);
/* The device's Ed25519 key in a checked object; borrowed. */
const char *device_keys_ed25519(const cJSON *keys, const char *device_id);
/* The identity keys of both are the same: a device's keys never change. */
gboolean device_keys_same_identity(const cJSON *a, const cJSON *b);

/* "signed_curve25519:AAAA" -> key object, or "curve25519:AAAA" -> string; signed by @ed25519 where
 * signed. */
gboolean device_keys_check_one_time(const char *name, const cJSON *value, const char *user_id,
                                    const char *device_id, const char *ed25519, GError **error);

/* @key is a cross-signing key of this user and usage ("master", "self_signing", "user_signing");
 * one Ed25519 key.  @master_key (its public key) must have signed it, except for a master key (pass
 * NULL). */
gboolean device_keys_check_cross_signing(const cJSON *key, const char *user_id, const char *usage,
                                         const char *master_key, GError **error);
/* The one public key of a checked cross-signing key; borrowed. */
const char *device_keys_cross_signing_public(const cJSON *key);
