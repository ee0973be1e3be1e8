/* tests/support/agency.h: an agency in a test: a national PKI made by tests/pki/make_pki, two
 * founding officers, a database, lane, log and audit; people enrolled by two signed statements as
 * in life. */
#pragma once

#include "identity/audit.h"
#include "identity/certificate_proof.h"
#include "identity/credential.h"
#include "storage/lane.h"
#include "tests/support/database.h"

#define TEST_AGENCY_NAME "alpha.example"

typedef struct {
    char *folder;
    char *pki;
    RecordKey *record_key;
    Certificates *certificates;
    TestDatabase *database;
    LogRing *ring;
    Lane *lane;
    Audit *audit;
} TestAgency;

TestAgency *test_agency_new(void);
void test_agency_free(TestAgency *agency);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestAgency, test_agency_free)

/* Run make_pki with these words (separated by blanks); fails the test when it fails. */
void test_agency_make(TestAgency *agency, const char *words);
/* Take in the CRLs that the PKI has in force. */
void test_agency_import_crls(TestAgency *agency);

/* Certificates of @name, leaf first (GPtrArray of GBytes); and with the key. */
GPtrArray *test_agency_chain(TestAgency *agency, const char *name);
Credential *test_agency_credential(TestAgency *agency, const char *name);

/* Makes @name's certificate and enrols them as @NAME:alpha.example. */
void test_agency_enrol_new(TestAgency *agency, const char *name);
/* The same with a certificate that is there already. */
void test_agency_enrol_made(TestAgency *agency, const char *name);
/* One officer suspends @name: the rows of the act alone, as another process would leave them. */
void test_agency_suspend(TestAgency *agency, const char *name);
char *test_agency_user_id(const char *name);

/* As from the certificate listener; fails the test when refused. */
CertificateProof *test_agency_proof(TestAgency *agency, const char *name);
