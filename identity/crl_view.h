/* identity/crl_view.h: the inside of a Crl, for identity/certificates.c alone. */
#pragma once

#include "identity/crl.h"

X509_CRL *crl_x509(const Crl *crl); /* borrowed */
/* Listed with a revocation date at or before @at_ms? */
gboolean crl_revoked_before(const Crl *crl, const ASN1_INTEGER *serial, gint64 at_ms);
