/* Fuzz target: a good certificate chain, revocation list or CMS signature, changed at will: where
 * it is still taken, it says what its signer signed.
 *
 * The input is edits, four bytes each: which piece, where (two bytes), and what to do to that byte.
 */
#include <string.h>

#include "identity/clock.h"
#include "identity/cms.h"
#include "tests/support/pki.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static Certificates *certificates;
static GPtrArray *good_chain;
static Certificate *good_leaf;
static GBytes *good_crl, *good_cms, *content;
static char *good_number;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    g_autoptr(TestPki) pki = test_pki_new();
    RecordKey *key = record_key_new_for_tests();
    GError *error = NULL;
    test_pki_run(pki, "person", "anna", NULL);
    certificates = test_pki_certificates(pki, key, FALSE);
    good_chain = test_pki_chain(pki, "anna");
    gsize length = 0;
    const void *der = g_bytes_get_data(good_chain->pdata[0], &length);
    good_leaf = certificate_from_der(der, length, &error);
    g_assert_no_error(error);
    g_autoptr(Credential) credential = test_pki_credential(pki, "anna");
    content = g_bytes_new_static("{\"a\":1}", 7);
    good_cms = cms_sign(credential, content, &error);
    g_assert_no_error(error);
    TestCrl wanted = {.authority = "issuing",
                      .number = 77,
                      .this_update_ms = clock_wall_ms() - 1000,
                      .next_update_ms = clock_wall_ms() + (gint64)30 * 24 * 3600 * 1000,
                      .revokes = "anna",
                      .revoked_ms = clock_wall_ms() - 2000};
    good_crl = test_pki_crl(pki, &wanted);
    g_autoptr(Crl) crl = crl_judge(certificates, good_crl, NULL, &error);
    g_assert_no_error(error);
    good_number = g_strdup(crl_number(crl));
    return 0;
}

/* @piece with the edits that are for it. */
static GBytes *
edited(GBytes *piece, guint number, const guint8 *data, gsize size)
{
    gsize length = 0;
    const guint8 *bytes = g_bytes_get_data(piece, &length);
    guint8 *copy = g_memdup2(bytes, length);
    for (gsize i = 0; i + 4 <= size && length > 0; i += 4) {
        gsize at = ((gsize)data[i + 1] << 8 | data[i + 2]) % length;
        if (data[i] % 8 != number)
            continue;
        if (data[i] < 0xC0)
            copy[at] ^= data[i + 3];
        else if (data[i] < 0xE0)
            copy[at] = data[i + 3];
        else
            length = at; /* cut off */
    }
    return g_bytes_new_take(copy, length);
}

static void
check_same_person(const Certificate *certificate)
{
    g_assert_cmpstr(certificate_spki_sha256(certificate), ==, certificate_spki_sha256(good_leaf));
    g_assert_cmpstr(certificate_subject(certificate), ==, certificate_subject(good_leaf));
    g_assert_cmpstr(certificate_serial(certificate), ==, certificate_serial(good_leaf));
    g_assert_cmpint(certificate_not_after_ms(certificate), ==, certificate_not_after_ms(good_leaf));
}

static void
check_chain(const guint8 *data, gsize size)
{
    g_autoptr(GPtrArray) chain = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autoptr(Certificate) certificate = NULL;
    const CertificateRule *rule = NULL;
    CertificateQuery query = {.at_ms = clock_wall_ms()};
    for (guint i = 0; i < good_chain->len; i++)
        g_ptr_array_add(chain, edited(good_chain->pdata[i], i, data, size));
    if (certificates_check(certificates, chain, &query, &certificate, &rule, NULL))
        check_same_person(certificate);
    else
        g_assert_nonnull(rule);
}

static void
check_crl(const guint8 *data, gsize size)
{
    const CertificateRule *rule = NULL;
    g_autoptr(GBytes) bytes = edited(good_crl, 6, data, size);
    g_autoptr(Crl) crl = crl_judge(certificates, bytes, &rule, NULL);
    if (crl == NULL) {
        g_assert_nonnull(rule);
        return;
    }
    g_assert_cmpstr(crl_number(crl), ==, good_number);
    g_assert_true(crl_lists(crl, certificate_serial(good_leaf)));
}

static void
check_cms(const guint8 *data, gsize size)
{
    const CertificateRule *rule = NULL;
    g_autoptr(GBytes) bytes = edited(good_cms, 7, data, size);
    g_auto(CmsSigner) signer = {0};
    CertificateQuery query = {.at_ms = clock_wall_ms()};
    if (cms_verify(certificates, bytes, content, &query, &signer, &rule, NULL))
        check_same_person(signer.signer);
    else
        g_assert_nonnull(rule);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    check_chain(data, size);
    check_crl(data, size);
    check_cms(data, size);
    return 0;
}
