/* CMS signatures: one shape is accepted; and the cards that make them. */
#include <glib/gstdio.h>
#include <openssl/cms.h>
#include <string.h>

#include "identity/clock.h"
#include "identity/cms.h"
#include "identity/refusal.h"
#include "tests/support/pki.h"

static TestPki *pki;
static RecordKey *key;
static Certificates *certificates;

/* The rule that refuses, or "". */
static const char *
verify(GBytes *cms, GBytes *content)
{
    g_autoptr(GError) error = NULL;
    g_auto(CmsSigner) signer = {0};
    const CertificateRule *rule = NULL;
    CertificateQuery query = {.at_ms = clock_wall_ms()};
    if (cms_verify(certificates, cms, content, &query, &signer, &rule, &error)) {
        g_assert_cmpint(strlen(certificate_issuer_key(signer.signer)), ==, 64);
        gint64 age_ms = query.at_ms - signer.signed_ms;
        g_assert_true(age_ms > -60 * 1000 && age_ms < 60 * 1000);
        return "";
    }
    g_assert_error(error, REFUSAL, 403);
    g_assert_null(signer.signer);
    return rule->name;
}

/* As a stock tool would sign, with these flags; @second: one more signer, or NULL. */
static GBytes *
sign_with(const char *name, GBytes *content, guint flags, const char *second, const EVP_MD *digest)
{
    g_autoptr(Credential) credential = test_pki_credential(pki, name);
    gsize length = 0;
    const void *bytes = g_bytes_get_data(content, &length);
    BIO *memory = BIO_new_mem_buf(bytes, (int)length);
    CMS_ContentInfo *cms = CMS_sign(NULL, NULL, credential_chain(credential), memory,
                                    flags | CMS_BINARY | CMS_PARTIAL);
    unsigned char *der = NULL;
    g_assert_nonnull(cms);
    g_assert_nonnull(CMS_add1_signer(cms, credential_x509(credential),
                                     credential_private_key(credential), digest, flags));
    if (second != NULL) {
        g_autoptr(Credential) other = test_pki_credential(pki, second);
        g_assert_nonnull(CMS_add1_signer(cms, credential_x509(other), credential_private_key(other),
                                         digest, flags));
    }
    BIO *again = BIO_new_mem_buf(bytes, (int)length);
    g_assert_cmpint(CMS_final(cms, again, NULL, flags | CMS_BINARY), ==, 1);
    int der_length = i2d_CMS_ContentInfo(cms, &der);
    g_assert_cmpint(der_length, >, 0);
    GBytes *signature = g_bytes_new(der, (gsize)der_length);
    OPENSSL_free(der);
    BIO_free(again);
    BIO_free(memory);
    CMS_ContentInfo_free(cms);
    return signature;
}

static void
test_our_own(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) content = g_bytes_new_static("{\"a\":1}", 7);
    g_autoptr(GBytes) other = g_bytes_new_static("{\"a\":2}", 7);
    static const char *const people[] = {"anna", "rsa"};
    for (gsize i = 0; i < G_N_ELEMENTS(people); i++) {
        g_autoptr(Credential) credential = test_pki_credential(pki, people[i]);
        g_autoptr(GBytes) cms = cms_sign(credential, content, &error);
        g_assert_no_error(error);
        /* A card for clientAuth alone, which the CMS library would refuse for want of an e-mail
         * purpose. */
        g_assert_cmpstr(verify(cms, content), ==, "");
        g_assert_cmpstr(verify(cms, other), ==, "cms-signature");
    }
}

static void
test_shapes(void)
{
    static const struct {
        const char *what;
        guint flags;
        const char *second;
        const char *rule;
    } cases[] = {
        {"detached", CMS_DETACHED, NULL, ""},
        {"attached", 0, NULL, ""},
        {"by key identifier", CMS_DETACHED | CMS_USE_KEYID, NULL, ""},
        {"no signed attributes", CMS_DETACHED | CMS_NOATTR, NULL, "cms-attributes"},
        {"no certificate inside", CMS_DETACHED | CMS_NOCERTS, NULL, "cms-shape"},
        {"two signers", CMS_DETACHED, "bruno", "cms-shape"},
    };
    g_autoptr(GBytes) content = g_bytes_new_static("{\"a\":1}", 7);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GBytes) cms =
            sign_with("anna", content, cases[i].flags, cases[i].second, EVP_sha256());
        g_test_message("%s", cases[i].what);
        g_assert_cmpstr(verify(cms, content), ==, cases[i].rule);
    }
}

static void
test_attached_other_content(void)
{
    g_autoptr(GBytes) content = g_bytes_new_static("{\"a\":1}", 7);
    g_autoptr(GBytes) other = g_bytes_new_static("{\"a\":2}", 7);
    g_autoptr(GBytes) cms = sign_with("anna", content, 0, NULL, EVP_sha256());
    g_assert_cmpstr(verify(cms, other), ==, "cms-shape");
}

static void
test_weak_digest(void)
{
    g_autoptr(GBytes) content = g_bytes_new_static("{\"a\":1}", 7);
    g_autoptr(GBytes) weak = sign_with("rsa", content, CMS_DETACHED, NULL, EVP_sha1());
    g_autoptr(GBytes) strong = sign_with("rsa", content, CMS_DETACHED, NULL, EVP_sha512());
    g_assert_cmpstr(verify(weak, content), ==, "digest-strength");
    g_assert_cmpstr(verify(strong, content), ==, "");
}

static void
test_signers_chain_is_judged(void)
{
    static const char *const cases[][2] = {
        {"no-eku", "extended-key-usage"},    {"non-repudiation", "key-usage"},
        {"wrong-policy", "explicit-policy"}, {"expired", "expired"},
        {"anna-twin", "issuer-listed"},      {"anna-foreign", "chain"}};
    g_autoptr(GBytes) content = g_bytes_new_static("{\"a\":1}", 7);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GBytes) cms = sign_with(cases[i][0], content, CMS_DETACHED, NULL, EVP_sha256());
        g_assert_cmpstr(verify(cms, content), ==, cases[i][1]);
    }
}

static void
test_garbage(void)
{
    g_autoptr(GBytes) content = g_bytes_new_static("{\"a\":1}", 7);
    g_autoptr(GBytes) good = sign_with("anna", content, CMS_DETACHED, NULL, EVP_sha256());
    gsize length = 0;
    const guint8 *bytes = g_bytes_get_data(good, &length);
    g_assert_cmpstr(verify(good, content), ==, "");
    for (gsize cut = 0; cut < length; cut += 13) {
        g_autoptr(GBytes) truncated = g_bytes_new(bytes, cut);
        g_assert_cmpstr(verify(truncated, content), ==, "cms-shape");
    }
    /* A bit changed anywhere but in the copy of the issuing CA, of which we have our own: refused.
     */
    g_autoptr(GPtrArray) chain = test_pki_chain(pki, "anna");
    GBytes *authority = g_ptr_array_index(chain, 1);
    const guint8 *copy_of_it =
        memmem(bytes, length, g_bytes_get_data(authority, NULL), g_bytes_get_size(authority));
    g_assert_nonnull(copy_of_it);
    guint harmless = 0;
    gsize from = (gsize)(copy_of_it - bytes), to = from + g_bytes_get_size(authority);
    for (gsize at = 0; at < length; at++) {
        if (at >= from && at < to)
            continue;
        g_autofree guint8 *copy = g_memdup2(bytes, length);
        copy[at] ^= 0x10;
        g_autoptr(GBytes) changed = g_bytes_new(copy, length);
        if (verify(changed, content)[0] == '\0')
            harmless++;
    }
    /* Version numbers, and the name of the signature's algorithm, which the key decides. */
    g_assert_cmpuint(harmless, <=, 12);
    g_autoptr(GByteArray) longer = g_byte_array_new();
    g_byte_array_append(longer, bytes, (guint)length);
    g_byte_array_append(longer, (const guint8 *)"x", 1);
    g_autoptr(GBytes) trailing = g_bytes_new(longer->data, longer->len);
    g_assert_cmpstr(verify(trailing, content), ==, "cms-shape");
    g_byte_array_set_size(longer, CMS_BYTES_MAX + 1);
    g_autoptr(GBytes) huge = g_bytes_new(longer->data, longer->len);
    g_assert_cmpstr(verify(huge, content), ==, "cms-shape");
}

/* ---- cards ---- */

typedef struct {
    const char *says;
    guint asked;
} Person;

static char *
answer(const char *path, gpointer data, GError **error)
{
    Person *person = data;
    person->asked++;
    if (person->says == NULL)
        g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_INTR, "no answer");
    return g_strdup(person->says);
}

static void
test_pkcs12(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = test_pki_path(pki, "people/anna.p12");
    Person right = {"chancery", 0}, wrong = {"guess", 0}, silent = {NULL, 0};
    g_autoptr(Credential) credential = credential_load(path, NULL, answer, &right, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(right.asked, ==, 1);
    g_autofree char *pem_path = test_pki_path(pki, "people/anna.pem");
    g_autoptr(Certificate) anna = certificate_from_file(pem_path, NULL, &error);
    g_assert_cmpstr(certificate_sha256(credential_certificate(credential)), ==,
                    certificate_sha256(anna));
    g_assert_null(credential_load(path, NULL, answer, &wrong, &error));
    g_assert_nonnull(strstr(error->message, "pass phrase"));
    g_clear_error(&error);
    g_assert_null(credential_load(path, NULL, answer, &silent, &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_INTR);
}

static void
test_pem_cards(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *certificate = test_pki_path(pki, "people/anna.pem");
    g_autofree char *private = test_pki_path(pki, "people/anna.key");
    g_autofree char *other = test_pki_path(pki, "people/bruno.key");
    g_autofree char *crl = test_pki_path(pki, "crl/root.crl");
    g_autoptr(Credential) apart = credential_load(certificate, private, NULL, NULL, &error);
    g_assert_no_error(error);
    g_assert_nonnull(apart);
    g_assert_null(credential_load(certificate, other, NULL, NULL, &error));
    g_assert_nonnull(strstr(error->message, "not that of the certificate"));
    g_clear_error(&error);
    g_assert_null(credential_load(certificate, NULL, NULL, NULL, &error));
    g_assert_nonnull(strstr(error->message, "private key"));
    g_clear_error(&error);
    g_assert_null(credential_load(crl, NULL, NULL, NULL, &error));
    g_assert_nonnull(error);
}

/* ---- the key outside the database ---- */

static void
test_record_key_file(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = test_pki_path(pki, "record.key");
    g_assert_null(record_key_open(path, FALSE, &error));
    g_assert_nonnull(error);
    g_clear_error(&error);
    g_autoptr(RecordKey) made = record_key_open(path, TRUE, &error);
    g_assert_no_error(error);
    GStatBuf facts;
    g_assert_cmpint(g_stat(path, &facts), ==, 0);
    g_assert_cmpint(facts.st_mode & 0777, ==, 0600);
    g_assert_cmpint(facts.st_size, ==, RECORD_KEY_BYTES);
    g_autoptr(RecordKey) again = record_key_open(path, TRUE, &error);
    g_autofree char *one = record_key_person_ref(made, "x");
    g_autofree char *two = record_key_person_ref(again, "x");
    g_assert_cmpstr(one, ==, two);
    g_assert_cmpint(g_chmod(path, 0644), ==, 0);
    g_assert_null(record_key_open(path, TRUE, &error));
    g_assert_nonnull(strstr(error->message, "others may read it"));
    g_clear_error(&error);
    g_assert_true(g_file_set_contents(path, "short", 5, &error));
    g_assert_cmpint(g_chmod(path, 0600), ==, 0);
    g_assert_null(record_key_open(path, TRUE, &error));
    g_assert_nonnull(strstr(error->message, "32 bytes"));
}

static void
test_record_macs(void)
{
    g_autoptr(GBytes) ab = g_bytes_new_static("ab", 2);
    g_autoptr(GBytes) c = g_bytes_new_static("c", 1);
    g_autoptr(GBytes) a = g_bytes_new_static("a", 1);
    g_autoptr(GBytes) bc = g_bytes_new_static("bc", 2);
    GBytes *const first[] = {ab, c};
    GBytes *const second[] = {a, bc};
    g_autoptr(GBytes) mac = record_key_mac(key, "row", first, 2);
    g_autoptr(GBytes) shorter = g_bytes_new_from_bytes(mac, 0, RECORD_MAC_BYTES - 1);
    g_assert_true(record_key_check(key, "row", first, 2, mac));
    g_assert_false(record_key_check(key, "row", second, 2, mac)); /* parts do not run together */
    g_assert_false(record_key_check(key, "other", first, 2, mac));
    g_assert_false(record_key_check(key, "row", first, 1, mac));
    g_assert_false(record_key_check(key, "row", first, 2, shorter));
    g_assert_false(record_key_check(key, "row", first, 2, NULL));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pki = test_pki_new();
    key = record_key_new_for_tests();
    static const char *const kinds[] = {"rsa", "no-eku", "non-repudiation", "wrong-policy",
                                        "expired"};
    test_pki_run(pki, "person", "anna", NULL);
    test_pki_run(pki, "person", "bruno", NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        test_pki_run(pki, "person", kinds[i], "--kind", kinds[i], NULL);
    test_pki_run(pki, "twin", "anna", NULL);
    test_pki_run(pki, "foreign", "anna", NULL);
    certificates = test_pki_certificates(pki, key, TRUE);

    g_test_add_func("/cms/our-own", test_our_own);
    g_test_add_func("/cms/shapes", test_shapes);
    g_test_add_func("/cms/attached-other-content", test_attached_other_content);
    g_test_add_func("/cms/weak-digest", test_weak_digest);
    g_test_add_func("/cms/signers-chain-is-judged", test_signers_chain_is_judged);
    g_test_add_func("/cms/garbage", test_garbage);
    g_test_add_func("/credential/pkcs12", test_pkcs12);
    g_test_add_func("/credential/pem", test_pem_cards);
    g_test_add_func("/record-key/file", test_record_key_file);
    g_test_add_func("/record-key/macs", test_record_macs);
    int status = g_test_run();
    certificates_free(certificates);
    record_key_free(key);
    test_pki_free(pki);
    return status;
}
