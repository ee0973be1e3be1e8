/* federation/x_matrix.h: the signature on a request between servers.
 * Source: Matrix v1.19 server-server API, "Request Authentication".  Pure; any thread.
 * For federation/inbound.c (checks it) and partner_client.c (makes it). */
#pragma once

#include "identity/server_key.h"

#define X_MATRIX_BYTES_MAX 4096

typedef struct {
    char *origin;
    char *destination;
    char *key_id;
    char *signature; /* unpadded base64 */
} XMatrix;
void x_matrix_free(XMatrix *header);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XMatrix, x_matrix_free)

/* Read the value of an Authorization header, strictly: RFC 9110 parameters, none of ours twice, all
 * four there, server names well formed. A REFUSAL (401 M_UNAUTHORIZED) otherwise. @value may be
 * NULL. */
XMatrix *x_matrix_parse(const char *value, GError **error);

/* Is @header a good signature by @public_key of this request?  @target as received, raw.  @content:
 * the body as parsed, NULL when there was none.  A REFUSAL (401 M_UNAUTHORIZED) otherwise. */
gboolean
x_matrix_verify(const XMatrix *header, const guint8 public_key[PUBLIC_KEY_BYTES],
                const char *method, const char *target, const cJSON *content, GError **error);

/* The header's value for a request of ours; @content is canonical JSON, or NULL.  Free with g_free.
 */
char *x_matrix_sign(const ServerKey *key, const char *origin, const char *destination,
                    const char *method, const char *target, GBytes *content);
