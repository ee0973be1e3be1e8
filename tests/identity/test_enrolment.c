/* Officers, enrolments and proofs: two persons to give, one to take away, and nothing by SQL. */
#include <stdio.h>
#include <string.h>

#include "identity/certificate_proof.h"
#include "identity/clock.h"
#include "identity/cms.h"
#include "identity/founding.h"
#include "identity/refusal.h"
#include "tests/support/database.h"
#include "tests/support/pki.h"

#define ANNA "@anna:" TEST_SERVER
#define BRUNO "@bruno:" TEST_SERVER

static TestPki *pki;

typedef struct {
    TestDatabase *database;
    RecordKey *key;
    Certificates *certificates;
} Agency;

static void
set_up(Agency *agency, gconstpointer data)
{
    agency->database = test_database_new(4);
    agency->key = record_key_new_for_tests();
    agency->certificates = test_pki_certificates(pki, agency->key, FALSE);
    test_office_found(pki, agency->certificates, agency->database->pool, "adele", "albert");
}

static void
tear_down(Agency *agency, gconstpointer data)
{
    clock_shift_for_tests(0);
    certificates_free(agency->certificates);
    record_key_free(agency->key);
    test_database_free(agency->database);
}

/* ---- short words for long calls ---- */

static char *
propose(Agency *agency, const char *officer, const char *kind, const char *user_id,
        const char *person, GError **error)
{
    return test_office_propose(pki, agency->certificates, agency->database->pool, officer, kind,
                               user_id, person, error);
}

static gboolean
approve(Agency *agency, const char *officer, const char *digest, GError **error)
{
    return test_office_approve(pki, agency->certificates, agency->database->pool, officer, digest,
                               error);
}

static void
enrol(Agency *agency, const char *user_id, const char *person)
{
    test_office_enrol(pki, agency->certificates, agency->database->pool, "adele", "albert", user_id,
                      person, NULL);
}

/* "": @person gets a proof for @user_id; otherwise the rule that refuses. */
static const char *
login(Agency *agency, const char *person, const char *user_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_autoptr(GPtrArray) chain = test_pki_chain(pki, person);
    const CertificateRule *rule = NULL;
    g_autoptr(CertificateProof) proof =
        certificate_proof_from_tls(agency->certificates, connection, chain, &rule, &error);
    if (proof == NULL) {
        g_assert_error(error, REFUSAL, 403);
        g_assert_nonnull(rule);
        return rule->name;
    }
    g_assert_cmpstr(certificate_proof_user_id(proof), ==, user_id);
    g_assert_true(certificate_proof_is_fresh(proof));
    return "";
}

static void
execute(Agency *agency, const char *sql)
{
    g_autofree char *value = test_database_query(agency->database, sql);
    (void)value;
}

static void
assert_refused(GError **error, const char *words)
{
    g_assert_true(*error != NULL && (*error)->domain == REFUSAL);
    if (strstr((*error)->message, words) == NULL)
        g_error("refused, but not for \"%s\": %s", words, (*error)->message);
    g_clear_error(error);
}

static GBytes *
sign(const char *name, GBytes *content)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Credential) credential = test_pki_credential(pki, name);
    GBytes *signature = cms_sign(credential, content, &error);
    g_assert_no_error(error);
    return signature;
}

/* ---- founding ---- */

static void
test_founding_needs_two_persons(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(TestDatabase) database = test_database_new(2);
    g_autoptr(StoreConnection) connection = store_borrow(database->pool, &error);
    g_autoptr(StoreWrites) writes = store_writes_new();
    g_autoptr(GPtrArray) one = test_pki_chain(pki, "adele");
    g_autoptr(GPtrArray) again = test_pki_chain(pki, "adele-second-card");
    g_autoptr(GPtrArray) bad = test_pki_chain(pki, "no-eku");
    g_autoptr(GPtrArray) nameless = test_pki_chain(pki, "nameless");
    g_assert_false(founding_gather(agency->certificates, connection, writes, one, again, &error));
    assert_refused(&error, "two-persons");
    g_assert_false(founding_gather(agency->certificates, connection, writes, one, bad, &error));
    assert_refused(&error, "extended-key-usage");
    g_assert_false(
        founding_gather(agency->certificates, connection, writes, one, nameless, &error));
    assert_refused(&error, "serialNumber");
    g_assert_cmpint(test_database_count(database, "SELECT count(*) FROM officer"), ==, 0);
}

static void
test_founding_only_once(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_autoptr(StoreWrites) writes = store_writes_new();
    g_autoptr(GPtrArray) one = test_pki_chain(pki, "anna");
    g_autoptr(GPtrArray) two = test_pki_chain(pki, "bruno");
    g_assert_false(founding_gather(agency->certificates, connection, writes, one, two, &error));
    assert_refused(&error, "founded already");
}

/* ---- enrolment ---- */

static void
test_two_officers_make_an_account(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "not-enrolled");
    g_autofree char *digest = propose(agency, "adele", "enrol", ANNA, "anna", &error);
    g_assert_no_error(error);
    /* One signature is inert. */
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "not-enrolled");
    g_assert_true(approve(agency, "albert", digest, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(login(agency, "anna", ANNA), ==, "");
    /* The certificate's bytes are not kept, nor the national identifier anywhere. */
    g_assert_cmpint(test_database_count(agency->database,
                                        "SELECT count(*) FROM proposal WHERE certificate <> ''"),
                    ==, 0);
    g_assert_cmpint(
        test_database_count(agency->database,
                            "SELECT count(*) FROM enrolment WHERE position('PNOAA'::bytea IN "
                            "statement) > 0"),
        ==, 0);
    /* Founding twice, proposed, done. */
    g_autofree char *lines = test_database_query(
        agency->database,
        "SELECT string_agg(type || ' ' || decision, ', ' ORDER BY seq) FROM audit");
    g_assert_cmpstr(lines, ==, "founding done, founding done, enrol proposed, enrol done");
}

static void
test_one_person_is_not_two(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    enrol(agency, BRUNO, "bruno");
    g_autofree char *second_card =
        propose(agency, "adele", "officer", NULL, "adele-second-card", &error);
    g_assert_null(second_card);
    assert_refused(&error, "self");
    /* Two other officers may give Adele a second card; she is still one person. */
    g_autofree char *third = propose(agency, "adele", "officer", NULL, "third", &error);
    g_assert_true(approve(agency, "albert", third, &error));
    second_card = propose(agency, "third", "officer", NULL, "adele-second-card", &error);
    g_assert_no_error(error);
    g_assert_true(approve(agency, "albert", second_card, &error));
    g_assert_no_error(error);
    g_autofree char *digest = propose(agency, "adele", "enrol", ANNA, "anna", &error);
    g_assert_no_error(error);
    g_assert_false(approve(agency, "adele", digest, &error));
    assert_refused(&error, "two-persons");
    g_assert_false(approve(agency, "adele-second-card", digest, &error));
    assert_refused(&error, "two-persons");
    g_assert_true(approve(agency, "third", digest, &error));
    g_assert_cmpstr(login(agency, "anna", ANNA), ==, "");
}

static void
test_officer_does_not_enrol_self(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *own =
        propose(agency, "adele", "enrol", "@adele:" TEST_SERVER, "adele", &error);
    g_assert_null(own);
    assert_refused(&error, "self");
    /* Nor sign off what a colleague proposed for her; nor with a second card as the subject. */
    g_autofree char *digest =
        propose(agency, "albert", "enrol", "@adele:" TEST_SERVER, "adele-second-card", &error);
    g_assert_no_error(error);
    g_assert_false(approve(agency, "adele", digest, &error));
    assert_refused(&error, "self");
}

static void
test_stranger_is_no_officer(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    enrol(agency, BRUNO, "bruno");
    g_assert_null(propose(agency, "bruno", "enrol", ANNA, "anna", &error));
    assert_refused(&error, "officer");
    g_assert_null(propose(agency, "adele-twin", "enrol", ANNA, "anna", &error));
    assert_refused(&error, "issuer-listed");
}

static void
test_bad_certificates_are_not_enrolled(Agency *agency, gconstpointer data)
{
    static const char *const cases[][2] = {{"no-eku", "extended-key-usage"},
                                           {"expired", "expired"},
                                           {"wrong-policy", "explicit-policy"},
                                           {"anna-twin", "issuer-listed"},
                                           {"anna-foreign", "chain"}};
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(propose(agency, "adele", "enrol", ANNA, cases[i][0], &error));
        assert_refused(&error, cases[i][1]);
    }
    g_assert_cmpint(test_database_count(agency->database, "SELECT count(*) FROM proposal"), ==, 0);
}

static void
test_one_account_a_person_a_key_a_certificate(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    enrol(agency, ANNA, "anna");
    g_assert_null(propose(agency, "adele", "enrol", "@anna2:" TEST_SERVER, "anna", &error));
    assert_refused(&error, ANNA);
    g_assert_null(propose(agency, "adele", "enrol", "@anna2:" TEST_SERVER, "anna-renewed", &error));
    assert_refused(&error, ANNA); /* another certificate of the same person */
    g_assert_null(propose(agency, "adele", "enrol", BRUNO, "same-key-as-anna", &error));
    assert_refused(&error, ANNA); /* another person on her key */
    g_assert_null(propose(agency, "adele", "enrol", ANNA, "bruno", &error));
    assert_refused(&error, "another person");
    g_assert_null(propose(agency, "adele", "enrol", ANNA, "anna", &error));
    assert_refused(&error, "already");
    g_assert_null(propose(agency, "adele", "enrol", "@anna:beta.example", "bruno", &error));
    assert_refused(&error, "user_id");
    g_assert_null(propose(agency, "adele", "enrol", "@Anna:" TEST_SERVER, "bruno", &error));
    assert_refused(&error, "user_id");
}

static void
test_certificate_that_names_nobody(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    StorePool *pool = agency->database->pool;
    g_assert_null(propose(agency, "adele", "enrol", ANNA, "nameless", &error));
    assert_refused(&error, "say who it is");
    g_autoptr(Statement) statement = test_office_draft_for(pki, agency->certificates, pool, "enrol",
                                                           ANNA, "nameless", "anna", &error);
    g_assert_no_error(error);
    g_autoptr(GBytes) signature = sign("adele", statement->bytes);
    g_assert_true(test_office_put(pki, agency->certificates, pool, "adele", statement->bytes,
                                  signature, "nameless", &error));
    g_assert_true(approve(agency, "albert", statement->digest_hex, &error));
    g_assert_cmpstr(login(agency, "nameless", ANNA), ==, "");
    /* She is Anna all the same. */
    g_assert_null(propose(agency, "adele", "enrol", "@anna2:" TEST_SERVER, "anna", &error));
    assert_refused(&error, ANNA);
    /* Where the certificate names somebody, nobody else can be said. */
    g_assert_null(test_office_draft_for(pki, agency->certificates, pool, "enrol", BRUNO, "bruno",
                                        "anna", &error));
    assert_refused(&error, "another person");
}

static void
test_two_proposals_for_one_person(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *first = propose(agency, "adele", "enrol", ANNA, "anna", &error);
    g_autofree char *second =
        propose(agency, "adele", "enrol", "@anna2:" TEST_SERVER, "anna", &error);
    g_assert_no_error(error);
    g_assert_true(approve(agency, "albert", first, &error));
    g_assert_false(approve(agency, "albert", second, &error));
    assert_refused(&error, ANNA);
}

static void
test_renewal(Agency *agency, gconstpointer data)
{
    enrol(agency, ANNA, "anna");
    enrol(agency, ANNA, "anna-renewed");
    g_assert_cmpstr(login(agency, "anna-renewed", ANNA), ==, "");
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "not-enrolled");
}

static void
test_enrolment_that_ends_early(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_autoptr(GPtrArray) chain = test_pki_chain(pki, "anna");
    g_autoptr(cJSON) request = cJSON_CreateObject();
    gint64 end_ms = clock_wall_ms() + 3600 * 1000;
    cJSON_AddStringToObject(request, "kind", "enrol");
    cJSON_AddStringToObject(request, "user_id", ANNA);
    cJSON_AddNumberToObject(request, "not_after", (double)end_ms);
    g_autoptr(Statement) statement =
        proposal_draft(agency->certificates, connection, request, chain, &error);
    g_assert_no_error(error);
    g_autoptr(GBytes) first = sign("adele", statement->bytes);
    g_assert_true(test_office_put(pki, agency->certificates, agency->database->pool, "adele",
                                  statement->bytes, first, "anna", &error));
    g_assert_true(approve(agency, "albert", statement->digest_hex, &error));
    g_autoptr(CertificateProof) proof =
        certificate_proof_from_tls(agency->certificates, connection, chain, NULL, &error);
    g_assert_cmpint(certificate_proof_not_after_ms(proof), ==, end_ms);
    clock_shift_for_tests(3600 * 1000 + 61 * 1000);
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "statement-ended");
}

/* ---- signatures ---- */

static void
test_replayed_approval(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    StorePool *pool = agency->database->pool;
    g_autofree char *digest = propose(agency, "adele", "enrol", ANNA, "anna", &error);
    g_autoptr(GBytes) statement = test_office_statement(pool, digest);
    g_autoptr(GBytes) first = sign("adele", statement);
    g_autoptr(GBytes) second = sign("albert", statement);
    g_assert_true(
        test_office_sign_off(pki, agency->certificates, pool, "albert", digest, second, &error));
    g_assert_false(
        test_office_sign_off(pki, agency->certificates, pool, "albert", digest, second, &error));
    assert_refused(&error, "counts once");
    /* The whole statement again, after the binding ended. */
    g_autofree char *gone = propose(agency, "adele", "revoke", ANNA, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "not-enrolled");
    g_assert_false(test_office_put(pki, agency->certificates, pool, "adele", statement, first,
                                   "anna", &error));
    assert_refused(&error, "counts once");
}

static void
test_approval_of_another_digest(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    StorePool *pool = agency->database->pool;
    g_autofree char *anna = propose(agency, "adele", "enrol", ANNA, "anna", &error);
    g_autofree char *bruno = propose(agency, "adele", "enrol", BRUNO, "bruno", &error);
    g_autoptr(GBytes) statement = test_office_statement(pool, anna);
    g_autoptr(GBytes) signature = sign("albert", statement);
    g_assert_false(
        test_office_sign_off(pki, agency->certificates, pool, "albert", bruno, signature, &error));
    assert_refused(&error, "cms-signature");
    /* Changed in the database under its digest. */
    execute(agency, "UPDATE proposal SET statement = (SELECT statement FROM proposal WHERE "
                    "position('bruno'::bytea IN statement) > 0) "
                    "WHERE position('anna'::bytea IN statement) > 0");
    g_assert_false(
        test_office_sign_off(pki, agency->certificates, pool, "albert", anna, signature, &error));
    assert_refused(&error, "changed");
    g_assert_false(
        test_office_sign_off(pki, agency->certificates, pool, "albert", "zz", signature, &error));
    assert_refused(&error, "No such proposal");
}

static void
test_signature_of_a_colleague(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    StorePool *pool = agency->database->pool;
    g_autoptr(Statement) statement =
        test_office_draft(pki, agency->certificates, pool, "enrol", ANNA, "anna", &error);
    g_autoptr(GBytes) albert = sign("albert", statement->bytes);
    g_assert_false(test_office_put(pki, agency->certificates, pool, "adele", statement->bytes,
                                   albert, "anna", &error));
    assert_refused(&error, "not that of the officer");
}

static void
test_changed_statement(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    StorePool *pool = agency->database->pool;
    g_autoptr(Statement) statement =
        test_office_draft(pki, agency->certificates, pool, "enrol", ANNA, "anna", &error);
    g_autoptr(GBytes) signature = sign("adele", statement->bytes);
    gsize length = 0;
    const char *bytes = g_bytes_get_data(statement->bytes, &length);
    g_autofree char *text = g_strndup(bytes, length);
    char *name = strstr(text, "@anna");
    name[1] = 'h';
    g_autoptr(GBytes) changed = g_bytes_new(text, length);
    g_assert_false(test_office_put(pki, agency->certificates, pool, "adele", changed, signature,
                                   "anna", &error));
    assert_refused(&error, "cms-signature");
    /* Signed by the officer, but about another certificate than the one brought. */
    g_assert_false(test_office_put(pki, agency->certificates, pool, "adele", statement->bytes,
                                   signature, "bruno", &error));
    assert_refused(&error, "does not say");
    g_assert_false(test_office_put(pki, agency->certificates, pool, "adele", statement->bytes,
                                   signature, NULL, &error));
    assert_refused(&error, "missing");
}

static void
test_proposals_expire(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    StorePool *pool = agency->database->pool;
    g_autofree char *digest = propose(agency, "adele", "enrol", ANNA, "anna", &error);
    g_autofree char *other = propose(agency, "adele", "enrol", BRUNO, "bruno", &error);
    g_autoptr(GBytes) statement = test_office_statement(pool, digest);
    g_autoptr(GBytes) first = sign("adele", statement);
    clock_shift_for_tests(STATEMENT_LIFE_MS - 60 * 1000);
    g_assert_true(approve(agency, "albert", digest, &error));
    g_assert_no_error(error);
    clock_shift_for_tests(STATEMENT_LIFE_MS + 1000);
    g_assert_false(approve(agency, "albert", other, &error));
    assert_refused(&error, "expired");
    g_assert_false(test_office_put(pki, agency->certificates, pool, "adele", statement, first,
                                   "anna", &error));
    assert_refused(&error, "expired");
}

/* ---- taking away, giving back ---- */

static void
test_suspend_by_one_reinstate_by_two(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    enrol(agency, ANNA, "anna");
    g_autofree char *suspended = propose(agency, "adele", "suspend", ANNA, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "suspended");
    g_assert_null(propose(agency, "adele", "suspend", ANNA, NULL, &error));
    assert_refused(&error, "already");
    /* A new card does not lead around it. */
    g_assert_null(propose(agency, "adele", "enrol", ANNA, "anna-renewed", &error));
    assert_refused(&error, "re-instate");
    g_autofree char *digest = propose(agency, "adele", "reinstate", ANNA, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "suspended");
    g_assert_false(approve(agency, "adele", digest, &error));
    assert_refused(&error, "two-persons");
    g_assert_true(approve(agency, "albert", digest, &error));
    g_assert_cmpstr(login(agency, "anna", ANNA), ==, "");
}

static void
test_revoked_binding_stays_revoked(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    enrol(agency, ANNA, "anna");
    g_autofree char *revoked = propose(agency, "albert", "revoke", ANNA, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "not-enrolled");
    g_assert_null(propose(agency, "adele", "reinstate", ANNA, NULL, &error));
    assert_refused(&error, "No such account");
    enrol(agency, ANNA, "anna-renewed");
    g_assert_cmpstr(login(agency, "anna-renewed", ANNA), ==, "");
}

static void
test_list_revokes_at_login(Agency *agency, gconstpointer data)
{
    enrol(agency, ANNA, "anna");
    enrol(agency, BRUNO, "bruno");
    gint64 now_ms = clock_wall_ms();
    TestCrl wanted = {.authority = "issuing",
                      .number = 0x7000,
                      .this_update_ms = now_ms,
                      .next_update_ms = now_ms + 3600 * 1000,
                      .revokes = "anna",
                      .revoked_ms = now_ms};
    g_autoptr(GBytes) list = test_pki_crl(pki, &wanted);
    g_autoptr(GError) error = NULL;
    g_autoptr(Crl) crl = crl_judge(agency->certificates, list, NULL, &error);
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_autoptr(GPtrArray) listed = enrolment_listed(agency->certificates, connection, crl, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(listed->len, ==, 1);
    g_assert_cmpstr(((EnrolmentRow *)g_ptr_array_index(listed, 0))->user_id, ==, ANNA);
    certificates_take_crl(agency->certificates, crl);
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "revoked");
    g_assert_cmpstr(login(agency, "bruno", BRUNO), ==, "");
    g_autoptr(EnrolmentRow) row = NULL;
    enrolment_store_find_user(connection, ANNA, &row, &error);
    g_assert_false(certificate_binding_holds(agency->certificates, connection, ANNA,
                                             row->certificate, now_ms, &error));
    assert_refused(&error, "revoked");
}

static void
test_twin_card_does_not_log_in(Agency *agency, gconstpointer data)
{
    enrol(agency, ANNA, "anna");
    g_assert_cmpstr(login(agency, "anna-twin", NULL), ==, "issuer-listed");
    g_assert_cmpstr(login(agency, "anna-foreign", NULL), ==, "chain");
    g_assert_cmpstr(login(agency, "anna-renewed", NULL), ==, "not-enrolled");
    g_assert_cmpstr(login(agency, "anna", ANNA), ==, "");
}

/* ---- revocation lists come in ---- */

/* "": taken; "same": in force already; otherwise the rule. */
static const char *
import(Agency *agency, GBytes *list)
{
    g_autoptr(GError) error = NULL;
    const CertificateRule *rule = NULL;
    g_autoptr(Crl) crl = NULL;
    g_autoptr(StoreWrites) writes = store_writes_new();
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    if (!crl_import(agency->certificates, connection, writes, list, "test", &crl, &rule, &error)) {
        g_assert_error(error, REFUSAL, 403);
        return rule->name;
    }
    if (crl == NULL)
        return "same";
    g_assert_true(store_begin(connection, &error));
    g_assert_true(store_writes_run(writes, connection, &error));
    g_assert_true(store_commit(connection, &error));
    certificates_take_crl(agency->certificates, crl);
    return "";
}

static void
test_older_list(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    gint64 now_ms = clock_wall_ms();
    TestCrl older = {.authority = "issuing",
                     .number = 0x2ff,
                     .this_update_ms = now_ms - 60 * 1000,
                     .next_update_ms = now_ms + (gint64)2400 * 3600 * 1000};
    TestCrl newer = older;
    newer.number = 0x300;
    newer.this_update_ms = now_ms;
    newer.revokes = "anna";
    newer.revoked_ms = now_ms;
    g_autoptr(GBytes) old_list = test_pki_crl(pki, &older);
    g_autoptr(GBytes) new_list = test_pki_crl(pki, &newer);
    newer.revokes = NULL;
    g_autoptr(GBytes) other_list = test_pki_crl(pki, &newer);
    enrol(agency, ANNA, "anna");
    g_assert_cmpstr(import(agency, new_list), ==, "");
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "revoked");
    /* Not expired, well signed, and from before the revocation. */
    g_assert_cmpstr(import(agency, old_list), ==, "crl-number");
    g_assert_cmpstr(import(agency, other_list), ==, "crl-number");
    g_assert_cmpstr(import(agency, new_list), ==, "same");
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "revoked");
    /* The floor outlives the process. */
    certificates_free(agency->certificates);
    agency->certificates = test_pki_certificates(pki, agency->key, FALSE);
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_assert_true(crl_load(agency->certificates, connection, &error));
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "revoked");
    g_assert_cmpstr(import(agency, old_list), ==, "crl-number");
    /* What another process took in is taken in here as well, without a second line. */
    certificates_free(agency->certificates);
    agency->certificates = test_pki_certificates(pki, agency->key, FALSE);
    g_assert_cmpstr(login(agency, "anna", ANNA), ==, "");
    g_assert_cmpstr(import(agency, new_list), ==, "");
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "revoked");
    /* Numbers are numbers, not texts: 0x1000 is above 0x300. */
    newer.number = 0x1000;
    g_autoptr(GBytes) higher = test_pki_crl(pki, &newer);
    g_assert_cmpstr(import(agency, higher), ==, "");
    g_assert_cmpstr(login(agency, "anna", ANNA), ==, "");
    g_assert_cmpint(
        test_database_count(agency->database, "SELECT count(*) FROM audit WHERE type = 'crl'"), ==,
        2);
}

/* Which rule says that a live session of Anna's no longer holds; "" when it does. */
static const char *
binding(Agency *agency)
{
    g_autoptr(GError) error = NULL;
    static char rule[32];
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_autoptr(EnrolmentRow) row = NULL;
    g_assert_true(enrolment_store_find_user(connection, ANNA, &row, &error));
    if (certificate_binding_holds(agency->certificates, connection, ANNA, row->certificate,
                                  clock_wall_ms(), &error))
        return "";
    g_assert_cmpint(sscanf(error->message, "M_FORBIDDEN: Refused by rule %31s", rule), ==, 1);
    return rule;
}

static void
test_hold_is_lifted(Agency *agency, gconstpointer data)
{
    gint64 now_ms = clock_wall_ms();
    TestCrl wanted = {.authority = "issuing",
                      .number = 0x300,
                      .this_update_ms = now_ms,
                      .next_update_ms = now_ms + (gint64)2400 * 3600 * 1000,
                      .revokes = "anna",
                      .revoked_ms = now_ms,
                      .hold = TRUE};
    g_autoptr(GBytes) held = test_pki_crl(pki, &wanted);
    wanted.number++;
    wanted.revokes = NULL;
    g_autoptr(GBytes) lifted = test_pki_crl(pki, &wanted);
    wanted.number++;
    wanted.revokes = "anna";
    wanted.hold = FALSE;
    g_autoptr(GBytes) revoked = test_pki_crl(pki, &wanted);
    TestCrl above = {.authority = "root",
                     .number = 0x300,
                     .this_update_ms = now_ms,
                     .next_update_ms = wanted.next_update_ms,
                     .revokes = "issuing",
                     .revoked_ms = now_ms};
    g_autoptr(GBytes) authority = test_pki_crl(pki, &above);
    enrol(agency, ANNA, "anna");
    g_assert_cmpstr(binding(agency), ==, "");
    g_assert_cmpstr(import(agency, held), ==, "");
    g_assert_cmpstr(binding(agency), ==, "held");
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "revoked");
    g_assert_cmpstr(import(agency, lifted), ==, "");
    g_assert_cmpstr(binding(agency), ==, "");
    g_assert_cmpstr(login(agency, "anna", ANNA), ==, "");
    g_assert_cmpstr(import(agency, revoked), ==, "");
    g_assert_cmpstr(binding(agency), ==, "revoked");
    g_assert_cmpstr(import(agency, authority), ==, "");
    g_assert_cmpstr(binding(agency), ==, "revoked");
}

/* ---- officers come and go ---- */

static void
test_removed_officer(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    enrol(agency, ANNA, "anna");
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_autofree char *albert = test_database_query(
        agency->database, "SELECT certificate FROM officer WHERE name LIKE '%CN=albert,%'");
    g_autoptr(cJSON) request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "kind", "officer-remove");
    cJSON_AddStringToObject(request, "cert_sha256", albert);
    /* Two must stay. */
    g_autoptr(Statement) early =
        proposal_draft(agency->certificates, connection, request, NULL, &error);
    g_assert_no_error(error);
    g_autoptr(GBytes) early_signature = sign("adele", early->bytes);
    g_assert_false(test_office_put(pki, agency->certificates, agency->database->pool, "adele",
                                   early->bytes, early_signature, NULL, &error));
    assert_refused(&error, "Fewer than two");
    g_autofree char *third = propose(agency, "adele", "officer", NULL, "third", &error);
    g_assert_true(approve(agency, "albert", third, &error));
    g_autofree char *pending = propose(agency, "albert", "enrol", BRUNO, "bruno", &error);
    clock_shift_for_tests(1000); /* what he signed before lies before */
    g_autoptr(Statement) statement =
        proposal_draft(agency->certificates, connection, request, NULL, &error);
    g_autoptr(GBytes) signature = sign("adele", statement->bytes);
    g_assert_true(test_office_put(pki, agency->certificates, agency->database->pool, "adele",
                                  statement->bytes, signature, NULL, &error));
    g_assert_no_error(error);
    g_assert_null(propose(agency, "albert", "suspend", ANNA, NULL, &error));
    assert_refused(&error, "officer");
    /* His half of a proposal counts no more; what he approved in office holds. */
    g_assert_false(approve(agency, "third", pending, &error));
    assert_refused(&error, "officer");
    g_assert_cmpstr(login(agency, "anna", ANNA), ==, "");
}

/* ---- by hand ---- */

static void
test_account_by_sql(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    enrol(agency, ANNA, "anna");
    /* Mallory's certificate under Anna's statement. */
    g_autofree char *path = test_pki_path(pki, "people/mallory.pem");
    g_autoptr(Certificate) mallory = certificate_from_file(path, NULL, &error);
    g_autofree char *sql = g_strdup_printf(
        "INSERT INTO account SELECT '@mallory:" TEST_SERVER "', 0; "
        "INSERT INTO enrolment SELECT '@mallory:" TEST_SERVER "', sha256('x'), statement, "
        "signature_first, signature_second, '\\x%s', '%s', 'p', issuer_key, '%s', not_after_ms, "
        "approved_ms, 1, changed_ms, mac FROM enrolment",
        certificate_sha256(mallory), certificate_spki_sha256(mallory), certificate_serial(mallory));
    execute(agency, sql);
    g_assert_cmpstr(login(agency, "mallory", NULL), ==, "statement");
    /* Her own row bent to it. */
    g_autofree char *bend =
        g_strdup_printf("DELETE FROM enrolment WHERE user_id LIKE '@mallory%%'; "
                        "UPDATE enrolment SET certificate = '\\x%s'",
                        certificate_sha256(mallory));
    execute(agency, bend);
    g_assert_cmpstr(login(agency, "mallory", NULL), ==, "statement");
}

static void
test_state_by_sql(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    enrol(agency, ANNA, "anna");
    g_autofree char *suspended = propose(agency, "adele", "suspend", ANNA, NULL, &error);
    execute(agency, "UPDATE enrolment SET state = 1");
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "statement");
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_autoptr(EnrolmentRow) row = NULL;
    enrolment_store_find_user(connection, ANNA, &row, &error);
    g_assert_false(certificate_binding_holds(agency->certificates, connection, ANNA,
                                             row->certificate, clock_wall_ms(), &error));
    assert_refused(&error, "statement");
}

static void
test_signature_by_sql(Agency *agency, gconstpointer data)
{
    enrol(agency, ANNA, "anna");
    execute(agency, "UPDATE enrolment SET signature_second = signature_first");
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "two-persons");
    execute(agency, "UPDATE enrolment SET signature_second = ''");
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "cms-shape");
}

static void
test_officer_by_sql(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = test_pki_path(pki, "people/mallory.pem");
    g_autoptr(Certificate) mallory = certificate_from_file(path, NULL, &error);
    g_autofree char *sql = g_strdup_printf(
        "INSERT INTO officer SELECT '%s', repeat('a', 64), name, statement, signature_first, "
        "signature_second, issuer_key, serial, approved_ms, removed_ms, mac FROM officer LIMIT 1",
        certificate_sha256(mallory));
    execute(agency, sql);
    g_assert_null(propose(agency, "mallory", "enrol", ANNA, "anna", &error));
    assert_refused(&error, "not made by us");
}

/* An appointed officer rests on two signatures, not on the MAC alone. */
static void
test_appointment_by_sql(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *third = propose(agency, "adele", "officer", NULL, "third", &error);
    g_assert_true(approve(agency, "albert", third, &error));
    test_office_enrol(pki, agency->certificates, agency->database->pool, "third", "albert", ANNA,
                      "anna", NULL);
    g_assert_cmpstr(login(agency, "anna", ANNA), ==, "");
    execute(agency, "UPDATE officer SET signature_first = signature_second "
                    "WHERE signature_first <> ''");
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "two-persons");
    g_assert_null(propose(agency, "third", "enrol", BRUNO, "bruno", &error));
    assert_refused(&error, "two-persons");
    execute(agency, "UPDATE officer SET signature_first = '', signature_second = ''");
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "cms-shape");
}

/* Another record key: a database carried to another house says nothing there. */
static void
test_other_record_key(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *file = test_pki_path(pki, "other-record.key");
    g_autoptr(RecordKey) key = record_key_open(file, TRUE, &error);
    g_assert_no_error(error);
    enrol(agency, ANNA, "anna");
    Certificates *own = agency->certificates;
    agency->certificates = test_pki_certificates(pki, key, FALSE);
    g_assert_cmpstr(login(agency, "anna", NULL), ==, "statement");
    certificates_free(agency->certificates);
    agency->certificates = own;
}

/* ---- proof from a signed challenge ---- */

static void
test_proof_from_challenge(Agency *agency, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    const CertificateRule *rule = NULL;
    enrol(agency, ANNA, "anna");
    g_autoptr(GBytes) challenge = g_bytes_new_static("{\"nonce\":\"1\"}", 13);
    g_autoptr(GBytes) other = g_bytes_new_static("{\"nonce\":\"2\"}", 13);
    g_autoptr(GBytes) anna = sign("anna", challenge);
    g_autoptr(GBytes) bruno = sign("bruno", challenge);
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_autoptr(CertificateProof) proof = certificate_proof_from_cms(agency->certificates, connection,
                                                                   anna, challenge, &rule, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(certificate_proof_user_id(proof), ==, ANNA);
    g_assert_null(
        certificate_proof_from_cms(agency->certificates, connection, anna, other, &rule, &error));
    assert_refused(&error, "cms-signature");
    g_assert_null(certificate_proof_from_cms(agency->certificates, connection, bruno, challenge,
                                             &rule, &error));
    assert_refused(&error, "not-enrolled");
    /* It does not stay fresh. */
    clock_shift_for_tests(CERTIFICATE_PROOF_FRESH_MS + 1000);
    g_assert_false(certificate_proof_is_fresh(proof));
}

#define ADD(name, function)                                                                        \
    g_test_add("/enrolment/" name, Agency, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pki = test_pki_new();
    const char *const people[] = {"adele", "albert", "third", "anna", "bruno", "mallory"};
    for (gsize i = 0; i < G_N_ELEMENTS(people); i++)
        test_pki_run(pki, "person", people[i], "--serial", people[i], NULL);
    test_pki_run(pki, "person", "adele-second-card", "--serial", "adele", NULL);
    test_pki_run(pki, "person", "anna-renewed", "--serial", "anna", NULL);
    g_autofree char *key = test_pki_path(pki, "people/anna.key");
    test_pki_run(pki, "person", "same-key-as-anna", "--serial", "other", "--key", key, NULL);
    test_pki_run(pki, "person", "no-eku", "--kind", "no-eku", NULL);
    test_pki_run(pki, "person", "nameless", "--kind", "nameless", NULL);
    test_pki_run(pki, "person", "expired", "--kind", "expired", NULL);
    test_pki_run(pki, "person", "wrong-policy", "--kind", "wrong-policy", NULL);
    test_pki_run(pki, "twin", "anna", NULL);
    test_pki_run(pki, "twin", "adele", NULL);
    test_pki_run(pki, "foreign", "anna", NULL);

    ADD("founding-needs-two-persons", test_founding_needs_two_persons);
    ADD("founding-only-once", test_founding_only_once);
    ADD("two-officers-make-an-account", test_two_officers_make_an_account);
    ADD("one-person-is-not-two", test_one_person_is_not_two);
    ADD("officer-does-not-enrol-self", test_officer_does_not_enrol_self);
    ADD("stranger-is-no-officer", test_stranger_is_no_officer);
    ADD("bad-certificates-are-not-enrolled", test_bad_certificates_are_not_enrolled);
    ADD("one-account-a-person-a-key-a-certificate", test_one_account_a_person_a_key_a_certificate);
    ADD("certificate-that-names-nobody", test_certificate_that_names_nobody);
    ADD("two-proposals-for-one-person", test_two_proposals_for_one_person);
    ADD("renewal", test_renewal);
    ADD("enrolment-that-ends-early", test_enrolment_that_ends_early);
    ADD("replayed-approval", test_replayed_approval);
    ADD("approval-of-another-digest", test_approval_of_another_digest);
    ADD("signature-of-a-colleague", test_signature_of_a_colleague);
    ADD("changed-statement", test_changed_statement);
    ADD("proposals-expire", test_proposals_expire);
    ADD("suspend-by-one-reinstate-by-two", test_suspend_by_one_reinstate_by_two);
    ADD("revoked-binding-stays-revoked", test_revoked_binding_stays_revoked);
    ADD("list-revokes-at-login", test_list_revokes_at_login);
    ADD("twin-card-does-not-log-in", test_twin_card_does_not_log_in);
    ADD("older-list", test_older_list);
    ADD("hold-is-lifted", test_hold_is_lifted);
    ADD("removed-officer", test_removed_officer);
    ADD("account-by-sql", test_account_by_sql);
    ADD("state-by-sql", test_state_by_sql);
    ADD("signature-by-sql", test_signature_by_sql);
    ADD("officer-by-sql", test_officer_by_sql);
    ADD("appointment-by-sql", test_appointment_by_sql);
    ADD("other-record-key", test_other_record_key);
    ADD("proof-from-challenge", test_proof_from_challenge);
    int status = g_test_run();
    test_pki_free(pki);
    return status;
}
