/* federation/inbound.h: does this request come from a partner?
 *
 * Called by the dispatcher for the partner listener: inbound_begin() on the headers, before a byte
 * of the body is read: X-Matrix is well formed and addressed to us, its origin is on the list in
 * that direction, the TLS peer is that partner, and the signing key is pinned. inbound_verify()
 * with the body: the signature. Refusals: 401 M_UNAUTHORIZED (no or bad X-Matrix, or not for us),
 * 403 M_FORBIDDEN (not listed, wrong TLS key). Any thread; no I/O. */
#pragma once

#include "federation/partner.h"
#include "federation/x_matrix.h"

typedef struct InboundCall InboundCall;
void inbound_call_free(InboundCall *call);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(InboundCall, inbound_call_free)

/* @authorization: the header's value or NULL.  @spki_sha256: 32 bytes, SHA-256 of the TLS peer's
 * public key (SPKI, DER), or NULL when it showed no certificate. */
InboundCall *inbound_begin(Partners *partners, const char *own_name, const char *authorization,
                           const guint8 *spki_sha256, GError **error);
const Partner *inbound_call_partner(const InboundCall *call);
/* @content: the parsed body; NULL when there was none. */
gboolean inbound_verify(const InboundCall *call, const char *method, const char *target,
                        const cJSON *content, GError **error);

/* SHA-256 of the SPKI of a DER certificate. FALSE when it is none. */
gboolean inbound_spki_sha256(const void *certificate_der, gsize length, guint8 ret_sha256[32]);
