/* identity/officer.h: identity officers: who they are, and whether a signature is one of theirs.
 *
 * The first two are named by the founding (identity/founding.h), on the server; every other by a
 * statement that two officers, two different persons, signed.  Each row carries a MAC under the
 * record key, so nobody becomes an officer by SQL.
 *
 * For identity/ and server/certificate. */
#pragma once

#include "identity/certificate.h"
#include "identity/statement.h"
#include "storage/officer_store.h"

typedef struct {
    char *certificate; /* SHA-256, hex */
    char *person_ref;
    char *name; /* for people to read */
} Officer;
void officer_clear(Officer *officer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Officer, officer_clear)

/* The officer who shows @chain_der on the certificate listener.  FALSE with a REFUSAL or a
 * STORE_ERROR. */
gboolean
officer_from_tls(Certificates *certificates, StoreConnection *connection, GPtrArray *chain_der,
                 Officer *ret_officer, const CertificateRule **ret_rule, GError **error);

/* The officer who signed @statement with @cms.  @past: as of @at_ms (a statement that was approved
 * then); otherwise now, with every CRL, and the signature neither from the future nor older than a
 * day. */
gboolean
officer_from_signature(Certificates *certificates, StoreConnection *connection, GBytes *statement,
                       GBytes *cms, gint64 at_ms, gboolean past, Officer *ret_officer,
                       const CertificateRule **ret_rule, GError **error);

/* Both signatures, of two different persons, neither of them @subject_person ("" for none). */
gboolean
officers_signed_both(Certificates *certificates, StoreConnection *connection, GBytes *statement,
                     GBytes *first, GBytes *second, gint64 at_ms, const char *subject_person,
                     const CertificateRule **ret_rule, GError **error);

/* Does the row's MAC hold? */
gboolean officer_row_holds(const Certificates *certificates, const OfficerRow *row);
GBytes *officer_row_mac(const Certificates *certificates, const OfficerRow *row);

/* A row from what @statement (kind officer or founding) says of @certificate, checked already. */
OfficerRow *
officer_row_new(const Certificates *certificates, const Statement *statement,
                const Certificate *certificate, GBytes *first, GBytes *second, gint64 now_ms);
/* How many different persons hold office, without @without_certificate (or NULL). */
gboolean officer_count_persons(Certificates *certificates, StoreConnection *connection,
                               const char *without_certificate, guint *ret_count, GError **error);
