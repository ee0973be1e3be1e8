/* tests/support/pki.h: a national PKI of its own for a test, made by tests/pki/make_pki in a
 * temporary folder, and an agency founded on it.  Tests run in the repository's root. */
#pragma once

#include "identity/certificate.h"
#include "identity/credential.h"
#include "identity/crl.h"
#include "identity/proposal.h"
#include "storage/store.h"

typedef struct {
    char *folder;
} TestPki;

#define TEST_POLICY "2.999.1.1"
#define TEST_SERVER "alpha.example"

/* Root, issuing CA, CA of servers, CRLs that last long. */
TestPki *test_pki_new(void);
void test_pki_free(TestPki *pki); /* removes the folder */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestPki, test_pki_free)
/* make_pki with these arguments, NULL at the end. */
void test_pki_run(TestPki *pki, ...) G_GNUC_NULL_TERMINATED;
/* A path below the folder; free with g_free. */
char *test_pki_path(TestPki *pki, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* people/NAME.pem: GBytes of DER, leaf first. */
GPtrArray *test_pki_chain(TestPki *pki, const char *name);
Credential *test_pki_credential(TestPki *pki, const char *name);
GBytes *test_pki_file(TestPki *pki, const char *name);

/* A list signed with AUTHORITY.key (issuing, root, twin): what openssl's commands do not offer. */
typedef struct {
    const char *authority;
    gint64 number; /* below 0: none */
    gint64 this_update_ms;
    gint64 next_update_ms; /* 0: none */
    gboolean delta;
    const char *revokes; /* a person's name (or "issuing"), or NULL */
    gint64 revoked_ms;
    gboolean hold; /* only as certificateHold */
} TestCrl;
GBytes *test_pki_crl(TestPki *pki, const TestCrl *wanted);

/* What alpha.example trusts, with the folder's own lists in force.  Old lists do not count as old
 * (see settings) unless
 * @strict_age. */
Certificates *test_pki_certificates(TestPki *pki, const RecordKey *key, gboolean strict_age);
/* Judge @bytes and put it in force, no floor. */
void test_pki_take_crl(Certificates *certificates, GBytes *bytes);

/* ---- an agency on it ---- */

/* Names two officers, people/FIRST and people/SECOND. */
void test_office_found(TestPki *pki, Certificates *certificates, StorePool *pool, const char *first,
                       const char *second);
/* An account by both officers' signatures, the way of the officers' API.  NULL for @error: must
 * succeed. */
gboolean
test_office_enrol(TestPki *pki, Certificates *certificates, StorePool *pool, const char *first,
                  const char *second, const char *user_id, const char *person, GError **error);
/* One officer's half: drafts @kind for @user_id and @person (either may be NULL), signs, brings it.
 * The digest, hex; NULL with @error. */
char *
test_office_propose(TestPki *pki, Certificates *certificates, StorePool *pool, const char *officer,
                    const char *kind, const char *user_id, const char *person, GError **error);
gboolean test_office_approve(TestPki *pki, Certificates *certificates, StorePool *pool,
                             const char *officer, const char *digest, GError **error);
/* A draft with the national identifier said besides, where the certificate holds none. */
Statement *test_office_draft_for(TestPki *pki, Certificates *certificates, StorePool *pool,
                                 const char *kind, const char *user_id, const char *person,
                                 const char *identifier, GError **error);
/* The two steps apart: a draft; and bringing any statement with any signature. */
Statement *
test_office_draft(TestPki *pki, Certificates *certificates, StorePool *pool, const char *kind,
                  const char *user_id, const char *person, GError **error);
gboolean
test_office_put(TestPki *pki, Certificates *certificates, StorePool *pool, const char *officer,
                GBytes *statement, GBytes *signature, const char *person, GError **error);
gboolean
test_office_sign_off(TestPki *pki, Certificates *certificates, StorePool *pool, const char *officer,
                     const char *digest, GBytes *signature, GError **error);
/* Statement bytes of an open proposal. */
GBytes *test_office_statement(StorePool *pool, const char *digest);
