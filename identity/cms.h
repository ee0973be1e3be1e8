/* identity/cms.h: CMS signatures over bytes: officers' statements and log-in challenges.
 *
 * Accepted is one shape only: SignedData with exactly one signer, whose certificate is inside, and
 * with the signed attributes contentType, messageDigest and signingTime (so a signature without
 * attributes, as clients put on keys, can never pass for one of ours).  The signer's chain is
 * judged by certificates_check(), not by the CMS library, whose default wants an e-mail purpose.
 *
 * For identity/ and server/. */
#pragma once

#include "identity/certificate.h"
#include "identity/credential.h"

#define CMS_BYTES_MAX (64 * 1024)

/* Sign @content, detached, DER.  The chain goes along. */
GBytes *cms_sign(const Credential *credential, GBytes *content, GError **error);

typedef struct {
    Certificate *signer; /* with its issuer's key filled in */
    gint64 signed_ms;    /* what the signer's clock said */
} CmsSigner;
void cms_signer_clear(CmsSigner *signer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CmsSigner, cms_signer_clear)

/* TRUE when @cms is such a signature over @content by a certificate that passes @query.  FALSE with
 * a REFUSAL and *ret_rule. */
gboolean
cms_verify(Certificates *certificates, GBytes *cms, GBytes *content, const CertificateQuery *query,
           CmsSigner *ret_signer, const CertificateRule **ret_rule, GError **error);
