#include "tests/support/agency.h"

#include <glib/gstdio.h>
#include <string.h>

#include "identity/cms.h"
#include "identity/crl.h"
#include "identity/founding.h"
#include "identity/officer.h"
#include "identity/proposal.h"

#define OFFICER_ONE "odile"
#define OFFICER_TWO "otto"

void
test_agency_make(TestAgency *agency, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *output = NULL, *problems = NULL;
    gint status = 0;
    g_autofree char *command =
        g_strdup_printf("tests/pki/make_pki --out %s %s", agency->pki, words);

    g_spawn_command_line_sync(command, &output, &problems, &status, &error);
    g_assert_no_error(error);
    g_assert_true(g_spawn_check_wait_status(status, NULL));
}

char *
test_agency_user_id(const char *name)
{
    return g_strdup_printf("@%s:%s", name, TEST_AGENCY_NAME);
}

static char *
file_of(TestAgency *agency, const char *name, const char *ending)
{
    return g_strdup_printf("%s/people/%s%s", agency->pki, name, ending);
}

GPtrArray *
test_agency_chain(TestAgency *agency, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *file = file_of(agency, name, ".pem");
    GPtrArray *chain = NULL;
    g_autoptr(Certificate) certificate = certificate_from_file(file, &chain, &error);
    g_assert_no_error(error);
    g_assert_nonnull(certificate);
    return chain;
}

Credential *
test_agency_credential(TestAgency *agency, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *file = file_of(agency, name, "-full.pem");
    Credential *credential = credential_load(file, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    return credential;
}

/* Run what was gathered in a transaction of its own. */
static void
commit(StoreConnection *connection, StoreWrites *writes)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(store_begin(connection, &error));
    g_assert_true(store_writes_run(writes, connection, &error));
    g_assert_true(store_commit(connection, &error));
    g_assert_no_error(error);
}

static void
import_crl(TestAgency *agency, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *file = g_strdup_printf("%s/crl/%s.crl", agency->pki, name);
    g_autofree char *text = NULL;
    gsize length = 0;
    g_autoptr(StoreWrites) writes = store_writes_new();
    g_autoptr(Crl) crl = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);

    g_assert_no_error(error);
    g_assert_true(g_file_get_contents(file, &text, &length, &error));
    g_autoptr(GBytes) bytes = g_bytes_new(text, length);
    crl_import(agency->certificates, connection, writes, bytes, "test", &crl, NULL, &error);
    g_assert_no_error(error);
    if (crl == NULL)
        return;
    commit(connection, writes);
    certificates_take_crl(agency->certificates, crl);
}

void
test_agency_import_crls(TestAgency *agency)
{
    import_crl(agency, "root");
    import_crl(agency, "issuing");
}

static void
found(TestAgency *agency)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreWrites) writes = store_writes_new();
    g_autoptr(GPtrArray) one = test_agency_chain(agency, OFFICER_ONE);
    g_autoptr(GPtrArray) two = test_agency_chain(agency, OFFICER_TWO);
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);

    g_assert_no_error(error);
    founding_gather(agency->certificates, connection, writes, one, two, &error);
    g_assert_no_error(error);
    commit(connection, writes);
}

TestAgency *
test_agency_new(void)
{
    static const char *const policies[] = {"2.999.1.1", NULL};
    g_autoptr(GError) error = NULL;
    LogHead head = {0, 0};
    TestAgency *agency = g_new0(TestAgency, 1);

    agency->folder = g_dir_make_tmp("chancery-agency-XXXXXX", &error);
    g_assert_no_error(error);
    agency->pki = g_build_filename(agency->folder, "pki", NULL);
    test_agency_make(agency, "ca --country AA --name Alpha");
    test_agency_make(agency, "person " OFFICER_ONE);
    test_agency_make(agency, "person " OFFICER_TWO);

    g_autofree char *anchors = g_build_filename(agency->pki, "root.pem", NULL);
    g_autofree char *issuers = g_build_filename(agency->pki, "issuing.pem", NULL);
    CertificatesSettings settings = {
        .server_name = TEST_AGENCY_NAME,
        .agency = "Alpha",
        .anchors_file = anchors,
        .issuers_file = issuers,
        .policies = policies,
        .crl_login_age_ms = CERTIFICATES_CRL_LOGIN_AGE_MS,
        .crl_session_age_ms = CERTIFICATES_CRL_SESSION_AGE_MS,
    };
    agency->record_key = record_key_new_for_tests();
    agency->certificates = certificates_new(&settings, agency->record_key, &error);
    g_assert_no_error(error);
    agency->database = test_database_new(6);
    agency->ring = log_ring_new(1024 * 1024, head);
    agency->lane = lane_new(agency->database->pool, agency->ring, 1000, &error);
    g_assert_no_error(error);
    agency->audit = audit_new(agency->lane, 60);
    test_agency_import_crls(agency);
    found(agency);
    return agency;
}

void
test_agency_free(TestAgency *agency)
{
    g_autofree char *command = g_strdup_printf("rm -rf %s", agency->folder);

    audit_free(agency->audit);
    if (agency->lane != NULL) {
        lane_stop(agency->lane, 5000);
        lane_free(agency->lane);
    }
    log_ring_free(agency->ring);
    certificates_free(agency->certificates);
    record_key_free(agency->record_key);
    test_database_free(agency->database);
    g_spawn_command_line_sync(command, NULL, NULL, NULL, NULL);
    g_free(agency->folder);
    g_free(agency->pki);
    g_free(agency);
}

/* ---- officers' acts ---- */

static void
read_officer(TestAgency *agency, StoreConnection *connection, const char *name, Officer *officer)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) chain = test_agency_chain(agency, name);
    officer_from_tls(agency->certificates, connection, chain, officer, NULL, &error);
    g_assert_no_error(error);
}

static GBytes *
sign(TestAgency *agency, const char *name, GBytes *content)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Credential) credential = test_agency_credential(agency, name);
    GBytes *cms = cms_sign(credential, content, &error);
    g_assert_no_error(error);
    return cms;
}

/* Drafted and signed by the first officer; and by the second where it takes two. */
static void
act(TestAgency *agency, const cJSON *request, GPtrArray *chain)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_autoptr(StoreWrites) writes = store_writes_new();
    g_auto(Officer) one = {0}, two = {0};
    g_auto(ProposalOutcome) first = {0}, second = {0};

    g_assert_no_error(error);
    read_officer(agency, connection, OFFICER_ONE, &one);
    read_officer(agency, connection, OFFICER_TWO, &two);
    g_autoptr(Statement) statement =
        proposal_draft(agency->certificates, connection, request, chain, &error);
    g_assert_no_error(error);
    g_autoptr(GBytes) by_one = sign(agency, OFFICER_ONE, statement->bytes);
    proposal_put(agency->certificates, connection, writes, &one, statement->bytes, by_one, chain,
                 &first, NULL, &error);
    g_assert_no_error(error);
    commit(connection, writes);
    if (first.done)
        return;
    g_autoptr(GBytes) by_two = sign(agency, OFFICER_TWO, statement->bytes);
    proposal_approve(agency->certificates, connection, writes, &two, statement->digest_hex, by_two,
                     &second, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(second.done);
    commit(connection, writes);
}

void
test_agency_enrol_new(TestAgency *agency, const char *name)
{
    g_autofree char *words = g_strdup_printf("person %s", name);

    test_agency_make(agency, words);
    test_agency_enrol_made(agency, name);
}

void
test_agency_enrol_made(TestAgency *agency, const char *name)
{
    g_autofree char *user_id = test_agency_user_id(name);
    g_autoptr(cJSON) request = cJSON_CreateObject();

    g_autoptr(GPtrArray) chain = test_agency_chain(agency, name);
    cJSON_AddStringToObject(request, "kind", statement_kind_name(STATEMENT_ENROL));
    cJSON_AddStringToObject(request, "user_id", user_id);
    cJSON_AddStringToObject(request, "clearance", "open");
    cJSON_AddStringToObject(request, "ticket", "T-1");
    act(agency, request, chain);
}

void
test_agency_suspend(TestAgency *agency, const char *name)
{
    g_autofree char *user_id = test_agency_user_id(name);
    g_autoptr(cJSON) request = cJSON_CreateObject();

    cJSON_AddStringToObject(request, "kind", statement_kind_name(STATEMENT_SUSPEND));
    cJSON_AddStringToObject(request, "user_id", user_id);
    cJSON_AddStringToObject(request, "reason", "lost card");
    act(agency, request, NULL);
}

CertificateProof *
test_agency_proof(TestAgency *agency, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_autoptr(GPtrArray) chain = test_agency_chain(agency, name);
    g_assert_no_error(error);
    CertificateProof *proof =
        certificate_proof_from_tls(agency->certificates, connection, chain, NULL, &error);
    g_assert_no_error(error);
    return proof;
}
