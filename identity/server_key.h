/* identity/server_key.h: the Ed25519 key with which this server signs events, requests and its key
 * document.
 *
 * Kept in a file of one line, `ed25519 ID base64seed`, mode 0600, read once at start; the secret
 * stays in locked memory and is wiped at the end.  Immutable after it is made, so any thread may
 * sign. For federation/ and server/. */
#pragma once

#include "identity/signed_json.h"

typedef struct ServerKey ServerKey;

/* Read the key file; make it, with a fresh key, when it is not there.  Refused: a file that others
 * may read, a malformed line, and seeds that the world knows (all zero, test vectors of the
 * specification). */
ServerKey *server_key_load_or_create(const char *path, GError **error);
/* Read only: an absent file is an error. */
ServerKey *server_key_load(const char *path, GError **error);
void server_key_free(ServerKey *key);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ServerKey, server_key_free)

const char *server_key_id(const ServerKey *key);       /* "ed25519:ID" */
const guint8 *server_key_public(const ServerKey *key); /* PUBLIC_KEY_BYTES */
const char *server_key_public_base64(const ServerKey *key);

/* The signature of these bytes, unpadded base64; free with g_free. */
char *server_key_sign(const ServerKey *key, const void *bytes, gsize length);
/* Sign @object as @server_name: adds to its `signatures`. */
gboolean
server_key_sign_json(const ServerKey *key, const char *server_name, cJSON *object, GError **error);

/* The signed answer of GET /_matrix/key/v2/server. */
GBytes *server_key_document(const ServerKey *key, const char *server_name, gint64 valid_until_ts,
                            GError **error);

/* For tests: a key from a seed (PUBLIC_KEY_BYTES), whatever it is. */
ServerKey *server_key_new_for_tests(const char *id, const guint8 *seed);
