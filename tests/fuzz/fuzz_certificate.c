/* Fuzz target: bytes as a certificate, a file of certificates, a revocation list, a CMS signature:
 * read or refused, with a rule. */
#include <string.h>

#include "identity/certificate_view.h"
#include "identity/cms.h"
#include "identity/crl.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    const CertificateRule *rule = NULL;
    g_autoptr(Certificate) certificate = certificate_from_der(data, size, NULL);
    if (certificate != NULL) {
        g_assert_cmpuint(strlen(certificate_sha256(certificate)), ==, 64);
        g_assert_true(g_utf8_validate(certificate_name(certificate), -1, NULL));
        g_assert_true(g_utf8_validate(certificate_national_identifier(certificate), -1, NULL));
    }
    g_autoptr(GPtrArray) chain = certificate_chain_from_bytes((const char *)data, size);
    g_assert_cmpuint(chain->len, >=, 1);
    g_autoptr(Crl) crl = crl_from_bytes(bytes, &rule, NULL);
    if (crl != NULL) {
        g_assert_cmpuint(strlen(crl_number(crl)), ==, 40);
        (void)crl_lists(crl, "01");
    } else {
        g_assert_nonnull(rule);
    }
    /* Nobody is trusted here: what passes all of CMS still has no chain. */
    g_auto(CmsSigner) signer = {0};
    CertificateQuery query = {.at_ms = 1};
    g_assert_false(cms_verify(NULL, bytes, bytes, &query, &signer, &rule, NULL));
    return 0;
}
