#include "federation/inbound.h"

#include <openssl/x509.h>
#include <string.h>

#include "identity/clock.h"
#include "identity/refusal.h"
#include "identity/sha256.h"

struct InboundCall {
    Partner *partner;
    XMatrix *header;
    guint8 key[PUBLIC_KEY_BYTES];
};

void
inbound_call_free(InboundCall *call)
{
    if (call == NULL)
        return;
    partner_unref(call->partner);
    x_matrix_free(call->header);
    g_free(call);
}

InboundCall *
inbound_begin(Partners *partners, const char *own_name, const char *authorization,
              const guint8 *spki_sha256, GError **error)
{
    g_autoptr(InboundCall) call = g_new0(InboundCall, 1);
    call->header = x_matrix_parse(authorization, error);
    if (call->header == NULL)
        return NULL;
    if (strcmp(call->header->destination, own_name) != 0) {
        refusal_set(error, 401, "M_UNAUTHORIZED", "This request is addressed to another server");
        return NULL;
    }
    call->partner = partners_find(partners, call->header->origin, PARTNER_INBOUND, error);
    if (call->partner == NULL)
        return NULL;
    if (!partner_accepts_tls(call->partner, spki_sha256)) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "The TLS certificate of this connection is not the one pinned for %s",
                    call->header->origin);
        return NULL;
    }
    if (!partner_find_key(call->partner, call->header->key_id, clock_wall_ms(), call->key)) {
        refusal_set(error, 401, "M_UNAUTHORIZED",
                    "The signing key %s of %s is not on our list, or no longer valid",
                    call->header->key_id, call->header->origin);
        return NULL;
    }
    return g_steal_pointer(&call);
}

const Partner *
inbound_call_partner(const InboundCall *call)
{
    return call->partner;
}

gboolean
inbound_verify(const InboundCall *call, const char *method, const char *target,
               const cJSON *content, GError **error)
{
    return x_matrix_verify(call->header, call->key, method, target, content, error);
}

gboolean
inbound_spki_sha256(const void *certificate_der, gsize length, guint8 ret_sha256[32])
{
    const guint8 *at = certificate_der;
    X509 *certificate = d2i_X509(NULL, &at, (long)length);
    guint8 *spki = NULL;
    int spki_length =
        certificate != NULL ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &spki) : -1;

    if (spki_length > 0)
        sha256(spki, (gsize)spki_length, ret_sha256);
    OPENSSL_free(spki);
    X509_free(certificate);
    return spki_length > 0;
}
