#include "tests/support/pki.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sodium.h>
#include <string.h>

#include "identity/clock.h"
#include "identity/cms.h"
#include "identity/founding.h"
#include "identity/officer.h"
#include "storage/audit_store.h"
#include "storage/proposal_store.h"

#define MAKE_PKI "tests/pki/make_pki"

static void
run(char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    int status = 0;
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &err, &status, &error);
    g_assert_no_error(error);
    if (status != 0)
        g_error("%s: %s%s", argv[0], out, err);
}

void
test_pki_run(TestPki *pki, ...)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    va_list words;
    g_ptr_array_add(argv, (char *)MAKE_PKI);
    g_ptr_array_add(argv, (char *)"--out");
    g_ptr_array_add(argv, pki->folder);
    va_start(words, pki);
    char *word = NULL;
    do {
        word = va_arg(words, char *);
        g_ptr_array_add(argv, word);
    } while (word != NULL);
    va_end(words);
    run((char **)argv->pdata);
}

TestPki *
test_pki_new(void)
{
    g_autoptr(GError) error = NULL;
    TestPki *pki = g_new0(TestPki, 1);
    pki->folder = g_dir_make_tmp("chancery-pki-XXXXXX", &error);
    g_assert_no_error(error);
    test_pki_run(pki, "ca", "--country", "AA", "--name", "Alpha", NULL);
    test_pki_run(pki, "crl", "--hours", "2400", NULL);
    return pki;
}

void
test_pki_free(TestPki *pki)
{
    if (pki == NULL)
        return;
    char *argv[] = {(char *)"rm", (char *)"-rf", pki->folder, NULL};
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    g_free(pki->folder);
    g_free(pki);
}

char *
test_pki_path(TestPki *pki, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    g_autofree char *name = g_strdup_vprintf(format, values);
    va_end(values);
    return g_build_filename(pki->folder, name, NULL);
}

GPtrArray *
test_pki_chain(TestPki *pki, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = test_pki_path(pki, "people/%s.pem", name);
    GPtrArray *chain = NULL;
    g_autoptr(Certificate) certificate = certificate_from_file(path, &chain, &error);
    g_assert_no_error(error);
    g_assert_nonnull(certificate);
    return chain;
}

Credential *
test_pki_credential(TestPki *pki, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = test_pki_path(pki, "people/%s-full.pem", name);
    Credential *credential = credential_load(path, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    return credential;
}

GBytes *
test_pki_file(TestPki *pki, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = test_pki_path(pki, "%s", name);
    char *bytes = NULL;
    gsize length = 0;
    g_file_get_contents(path, &bytes, &length, &error);
    g_assert_no_error(error);
    return g_bytes_new_take(bytes, length);
}

/* ---- revocation lists ---- */

static X509 *
read_certificate(TestPki *pki, const char *name)
{
    g_autoptr(GBytes) pem = test_pki_file(pki, name);
    gsize length = 0;
    const char *bytes = g_bytes_get_data(pem, &length);
    BIO *memory = BIO_new_mem_buf(bytes, (int)length);
    X509 *x509 = PEM_read_bio_X509(memory, NULL, NULL, NULL);
    BIO_free(memory);
    g_assert_nonnull(x509);
    return x509;
}

static EVP_PKEY *
read_key(TestPki *pki, const char *name)
{
    g_autoptr(GBytes) pem = test_pki_file(pki, name);
    gsize length = 0;
    const char *bytes = g_bytes_get_data(pem, &length);
    BIO *memory = BIO_new_mem_buf(bytes, (int)length);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(memory, NULL, NULL, NULL);
    BIO_free(memory);
    g_assert_nonnull(key);
    return key;
}

static void
add_revoked(TestPki *pki, X509_CRL *crl, const TestCrl *wanted)
{
    g_autofree char *file = strcmp(wanted->revokes, "issuing") == 0
                                ? g_strdup("issuing.pem")
                                : g_strdup_printf("people/%s.pem", wanted->revokes);
    X509 *x509 = read_certificate(pki, file);
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_TIME *when = ASN1_TIME_set(NULL, (time_t)(wanted->revoked_ms / 1000));
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(x509));
    X509_REVOKED_set_revocationDate(entry, when);
    if (wanted->hold) {
        ASN1_ENUMERATED *reason = ASN1_ENUMERATED_new();
        ASN1_ENUMERATED_set(reason, CRL_REASON_CERTIFICATE_HOLD);
        X509_REVOKED_add1_ext_i2d(entry, NID_crl_reason, reason, 0, 0);
        ASN1_ENUMERATED_free(reason);
    }
    X509_CRL_add0_revoked(crl, entry);
    ASN1_TIME_free(when);
    X509_free(x509);
}

static void
add_integer(X509_CRL *crl, int nid, gint64 value, gboolean critical)
{
    ASN1_INTEGER *number = ASN1_INTEGER_new();
    ASN1_INTEGER_set_int64(number, value);
    g_assert_cmpint(X509_CRL_add1_ext_i2d(crl, nid, number, critical, 0), ==, 1);
    ASN1_INTEGER_free(number);
}

GBytes *
test_pki_crl(TestPki *pki, const TestCrl *wanted)
{
    g_autofree char *pem_name = g_strconcat(wanted->authority, ".pem", NULL);
    g_autofree char *key_name = g_strconcat(wanted->authority, ".key", NULL);
    X509 *authority = read_certificate(pki, pem_name);
    EVP_PKEY *key = read_key(pki, key_name);
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *this_update = ASN1_TIME_set(NULL, (time_t)(wanted->this_update_ms / 1000));
    AUTHORITY_KEYID *key_id = AUTHORITY_KEYID_new();
    unsigned char *der = NULL;

    X509_CRL_set_version(crl, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(authority));
    X509_CRL_set1_lastUpdate(crl, this_update);
    if (wanted->next_update_ms != 0) {
        ASN1_TIME *next = ASN1_TIME_set(NULL, (time_t)(wanted->next_update_ms / 1000));
        X509_CRL_set1_nextUpdate(crl, next);
        ASN1_TIME_free(next);
    }
    if (wanted->revokes != NULL)
        add_revoked(pki, crl, wanted);
    key_id->keyid = ASN1_STRING_dup(X509_get0_subject_key_id(authority));
    X509_CRL_add1_ext_i2d(crl, NID_authority_key_identifier, key_id, 0, 0);
    if (wanted->number >= 0)
        add_integer(crl, NID_crl_number, wanted->number, FALSE);
    if (wanted->delta)
        add_integer(crl, NID_delta_crl, 1, TRUE);
    X509_CRL_sort(crl);
    g_assert_cmpint(X509_CRL_sign(crl, key, EVP_sha256()), >, 0);
    int length = i2d_X509_CRL(crl, &der);
    g_assert_cmpint(length, >, 0);
    GBytes *bytes = g_bytes_new(der, (gsize)length);
    OPENSSL_free(der);
    AUTHORITY_KEYID_free(key_id);
    ASN1_TIME_free(this_update);
    X509_CRL_free(crl);
    EVP_PKEY_free(key);
    X509_free(authority);
    return bytes;
}

void
test_pki_take_crl(Certificates *certificates, GBytes *bytes)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Crl) crl = crl_judge(certificates, bytes, NULL, &error);
    g_assert_no_error(error);
    certificates_take_crl(certificates, crl);
}

Certificates *
test_pki_certificates(TestPki *pki, const RecordKey *key, gboolean strict_age)
{
    static const char *const policies[] = {TEST_POLICY, NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *anchors = test_pki_path(pki, "root.pem");
    g_autofree char *issuers = test_pki_path(pki, "issuing.pem");
    const gint64 long_ms = (gint64)90 * 24 * 3600 * 1000;
    CertificatesSettings settings = {
        .server_name = TEST_SERVER,
        .agency = "Alpha",
        .anchors_file = anchors,
        .issuers_file = issuers,
        .policies = policies,
        .crl_login_age_ms = strict_age ? CERTIFICATES_CRL_LOGIN_AGE_MS : long_ms,
        .crl_session_age_ms = strict_age ? CERTIFICATES_CRL_SESSION_AGE_MS : long_ms,
    };
    Certificates *certificates = certificates_new(&settings, key, &error);
    g_assert_no_error(error);
    g_autoptr(GBytes) root = test_pki_file(pki, "crl/root.crl");
    g_autoptr(GBytes) issuing = test_pki_file(pki, "crl/issuing.crl");
    test_pki_take_crl(certificates, root);
    test_pki_take_crl(certificates, issuing);
    return certificates;
}

/* ---- an agency ---- */

static StoreConnection *
borrow(StorePool *pool)
{
    g_autoptr(GError) error = NULL;
    StoreConnection *connection = store_borrow(pool, &error);
    g_assert_no_error(error);
    return connection;
}

/* Run what was gathered, in one transaction. */
static void
commit(StoreConnection *connection, StoreWrites *writes)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(store_begin(connection, &error));
    store_writes_run(writes, connection, &error);
    g_assert_no_error(error);
    g_assert_true(store_commit(connection, &error));
}

void
test_office_found(TestPki *pki, Certificates *certificates, StorePool *pool, const char *first,
                  const char *second)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = borrow(pool);
    g_autoptr(StoreWrites) writes = store_writes_new();
    g_autoptr(GPtrArray) one = test_pki_chain(pki, first);
    g_autoptr(GPtrArray) two = test_pki_chain(pki, second);
    founding_gather(certificates, connection, writes, one, two, &error);
    g_assert_no_error(error);
    commit(connection, writes);
}

static gboolean
officer_of(TestPki *pki, Certificates *certificates, StoreConnection *connection, const char *name,
           Officer *ret_officer, GError **error)
{
    g_autoptr(GPtrArray) chain = test_pki_chain(pki, name);
    return officer_from_tls(certificates, connection, chain, ret_officer, NULL, error);
}

Statement *
test_office_draft(TestPki *pki, Certificates *certificates, StorePool *pool, const char *kind,
                  const char *user_id, const char *person, GError **error)
{
    return test_office_draft_for(pki, certificates, pool, kind, user_id, person, NULL, error);
}

Statement *
test_office_draft_for(TestPki *pki, Certificates *certificates, StorePool *pool, const char *kind,
                      const char *user_id, const char *person, const char *identifier,
                      GError **error)
{
    g_autoptr(StoreConnection) connection = borrow(pool);
    g_autoptr(cJSON) request = cJSON_CreateObject();
    g_autoptr(GPtrArray) chain = person != NULL ? test_pki_chain(pki, person) : NULL;
    cJSON_AddStringToObject(request, "kind", kind);
    cJSON_AddStringToObject(request, "ticket", "T-1");
    cJSON_AddStringToObject(request, "reason", "test");
    if (user_id != NULL)
        cJSON_AddStringToObject(request, "user_id", user_id);
    if (identifier != NULL)
        cJSON_AddStringToObject(request, "person", identifier);
    return proposal_draft(certificates, connection, request, chain, error);
}

gboolean
test_office_put(TestPki *pki, Certificates *certificates, StorePool *pool, const char *officer,
                GBytes *statement, GBytes *signature, const char *person, GError **error)
{
    g_autoptr(StoreConnection) connection = borrow(pool);
    g_autoptr(StoreWrites) writes = store_writes_new();
    g_autoptr(GPtrArray) chain = person != NULL ? test_pki_chain(pki, person) : NULL;
    g_auto(ProposalOutcome) outcome = {0};
    g_auto(Officer) caller = {0};
    if (!officer_of(pki, certificates, connection, officer, &caller, error) ||
        !proposal_put(certificates, connection, writes, &caller, statement, signature, chain,
                      &outcome, NULL, error))
        return FALSE;
    commit(connection, writes);
    return TRUE;
}

gboolean
test_office_sign_off(TestPki *pki, Certificates *certificates, StorePool *pool, const char *officer,
                     const char *digest, GBytes *signature, GError **error)
{
    g_autoptr(StoreConnection) connection = borrow(pool);
    g_autoptr(StoreWrites) writes = store_writes_new();
    g_auto(ProposalOutcome) outcome = {0};
    g_auto(Officer) caller = {0};
    if (!officer_of(pki, certificates, connection, officer, &caller, error) ||
        !proposal_approve(certificates, connection, writes, &caller, digest, signature, &outcome,
                          NULL, error))
        return FALSE;
    commit(connection, writes);
    return TRUE;
}

static GBytes *
sign(TestPki *pki, const char *name, GBytes *content)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Credential) credential = test_pki_credential(pki, name);
    GBytes *signature = cms_sign(credential, content, &error);
    g_assert_no_error(error);
    return signature;
}

char *
test_office_propose(TestPki *pki, Certificates *certificates, StorePool *pool, const char *officer,
                    const char *kind, const char *user_id, const char *person, GError **error)
{
    g_autoptr(Statement) statement =
        test_office_draft(pki, certificates, pool, kind, user_id, person, error);
    if (statement == NULL)
        return NULL;
    g_autoptr(GBytes) signature = sign(pki, officer, statement->bytes);
    return test_office_put(pki, certificates, pool, officer, statement->bytes, signature, person,
                           error)
               ? g_strdup(statement->digest_hex)
               : NULL;
}

GBytes *
test_office_statement(StorePool *pool, const char *digest)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = borrow(pool);
    g_autoptr(ProposalRow) row = NULL;
    guint8 bytes[32];
    gsize length = 0;
    sodium_hex2bin(bytes, sizeof bytes, digest, strlen(digest), NULL, &length, NULL);
    g_autoptr(GBytes) key = g_bytes_new(bytes, length);
    proposal_store_find(connection, key, &row, &error);
    g_assert_no_error(error);
    g_assert_nonnull(row);
    return g_bytes_ref(row->statement);
}

gboolean
test_office_approve(TestPki *pki, Certificates *certificates, StorePool *pool, const char *officer,
                    const char *digest, GError **error)
{
    g_autoptr(GBytes) statement = test_office_statement(pool, digest);
    g_autoptr(GBytes) signature = sign(pki, officer, statement);
    return test_office_sign_off(pki, certificates, pool, officer, digest, signature, error);
}

gboolean
test_office_enrol(TestPki *pki, Certificates *certificates, StorePool *pool, const char *first,
                  const char *second, const char *user_id, const char *person, GError **error)
{
    g_autoptr(GError) failed = NULL;
    g_autofree char *digest =
        test_office_propose(pki, certificates, pool, first, "enrol", user_id, person, &failed);
    if (digest != NULL)
        test_office_approve(pki, certificates, pool, second, digest, &failed);
    if (failed == NULL)
        return TRUE;
    if (error == NULL)
        g_assert_no_error(failed);
    g_propagate_error(error, g_steal_pointer(&failed));
    return FALSE;
}
