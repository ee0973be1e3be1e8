/* identity/signed_json.h: signatures on JSON objects (servers, devices, users).
 * Source: Matrix v1.19 appendices, "Signing JSON".  Ed25519 by libsodium.  Any thread.
 * For server_key.c, device_keys.c and federation/room/event_auth.c. */
#pragma once

#include "identity/json.h"

#define SIGNATURE_BYTES 64
#define PUBLIC_KEY_BYTES 32

/* What is signed: canonical JSON of @object without `signatures` and `unsigned`. */
GBytes *signed_json_bytes(const cJSON *object, GError **error);

/* Set signatures[@entity][@key_id], making the maps where absent.  FALSE (JSON_ERROR_SHAPE) when
 * `signatures` is there but is no map of maps. */
gboolean signed_json_add_signature(cJSON *object, const char *entity, const char *key_id,
                                   const char *signature, GError **error);

/* TRUE when @entity has signed @object with @public_key under @key_id ("ed25519:…").  FALSE with
 * JSON_ERROR_SHAPE otherwise: no such signature, not base64, or it does not verify. */
gboolean signed_json_verify(const cJSON *object, const char *entity, const char *key_id,
                            const guint8 public_key[PUBLIC_KEY_BYTES], GError **error);

/* The base64 signature of @entity under @key_id; NULL when absent; borrowed. */
const char *signed_json_signature(const cJSON *object, const char *entity, const char *key_id);

/* Detached: does @signature (unpadded base64) by @public_key cover these bytes? */
gboolean ed25519_verify(const guint8 public_key[PUBLIC_KEY_BYTES], const void *bytes, gsize length,
                        const char *signature);
