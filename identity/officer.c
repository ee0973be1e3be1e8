#include "identity/officer.h"

#include <string.h>

#include "identity/certificate_view.h"
#include "identity/clock.h"
#include "identity/cms.h"
#include "identity/refusal.h"
#include "identity/seeded_hash.h"

#define TOLERANCE_MS ((gint64)60 * 1000)

void
officer_clear(Officer *officer)
{
    g_clear_pointer(&officer->certificate, g_free);
    g_clear_pointer(&officer->person_ref, g_free);
    g_clear_pointer(&officer->name, g_free);
}

GBytes *
officer_row_mac(const Certificates *certificates, const OfficerRow *row)
{
    g_autofree char *times = g_strdup_printf("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT,
                                             row->approved_ms, row->removed_ms);
    g_autoptr(GBytes) certificate = g_bytes_new_static(row->certificate, strlen(row->certificate));
    g_autoptr(GBytes) person = g_bytes_new_static(row->person_ref, strlen(row->person_ref));
    g_autoptr(GBytes) when = g_bytes_new_static(times, strlen(times));
    GBytes *const parts[] = {certificate, person, row->statement, when};
    return record_key_mac(certificates_record_key(certificates), "officer", parts,
                          G_N_ELEMENTS(parts));
}

gboolean
officer_row_holds(const Certificates *certificates, const OfficerRow *row)
{
    g_autoptr(GBytes) expected = officer_row_mac(certificates, row);
    return record_mac_equal(expected, row->mac);
}

OfficerRow *
officer_row_new(const Certificates *certificates, const Statement *statement,
                const Certificate *certificate, GBytes *first, GBytes *second, gint64 now_ms)
{
    OfficerRow *row = g_new0(OfficerRow, 1);
    row->certificate = g_strdup(statement->cert_sha256);
    row->person_ref = g_strdup(statement->person_ref);
    row->name = g_strdup(certificate_name(certificate));
    row->statement = g_bytes_ref(statement->bytes);
    row->signature_first = first != NULL ? g_bytes_ref(first) : g_bytes_new(NULL, 0);
    row->signature_second = second != NULL ? g_bytes_ref(second) : g_bytes_new(NULL, 0);
    row->issuer_key = g_strdup(certificate_issuer_key(certificate));
    row->serial = g_strdup(certificate_serial(certificate));
    row->approved_ms = now_ms;
    row->mac = officer_row_mac(certificates, row);
    return row;
}

/* How far an office is traced back: the officers who signed are officers by their MAC alone, or
 * every signature would need two more. */
typedef enum {
    TRACE_SIGNATURES,
    TRACE_NOTHING
} Trace;

static gboolean
appointment_holds(Certificates *certificates, StoreConnection *connection, const OfficerRow *row,
                  const CertificateRule **ret_rule, GError **error);

/* In office at @at_ms, and the row is ours. */
static gboolean
in_office(Certificates *certificates, StoreConnection *connection, const Certificate *certificate,
          gint64 at_ms, Trace trace, Officer *ret_officer, const CertificateRule **ret_rule,
          GError **error)
{
    g_autoptr(OfficerRow) row = NULL;
    if (!officer_store_find(connection, certificate_sha256(certificate), &row, error))
        return FALSE;
    if (row == NULL)
        return certificate_refuse("officer", NULL, ret_rule, error);
    if (!officer_row_holds(certificates, row))
        return certificate_refuse("officer", "the record of this officer was not made by us",
                                  ret_rule, error);
    if (row->approved_ms > at_ms + TOLERANCE_MS ||
        (row->removed_ms != 0 && row->removed_ms <= at_ms))
        return certificate_refuse("officer", "not in office at that time", ret_rule, error);
    if (trace == TRACE_SIGNATURES &&
        !appointment_holds(certificates, connection, row, ret_rule, error))
        return FALSE;
    ret_officer->certificate = g_strdup(row->certificate);
    ret_officer->person_ref = g_strdup(row->person_ref);
    ret_officer->name = g_strdup(row->name);
    return TRUE;
}

static gboolean
signed_by_officer(Certificates *certificates, StoreConnection *connection, GBytes *statement,
                  GBytes *cms, const CertificateQuery *query, Trace trace, Officer *ret_officer,
                  const CertificateRule **ret_rule, GError **error)
{
    g_auto(CmsSigner) signer = {0};
    if (!cms_verify(certificates, cms, statement, query, &signer, ret_rule, error))
        return FALSE;
    if (!query->past && (signer.signed_ms > query->at_ms + TOLERANCE_MS ||
                         signer.signed_ms < query->at_ms - STATEMENT_LIFE_MS))
        return certificate_refuse("cms-attributes",
                                  "signingTime is from the future or a day old: set the clock of "
                                  "the desk right",
                                  ret_rule, error);
    return in_office(certificates, connection, signer.signer, query->at_ms, trace, ret_officer,
                     ret_rule, error);
}

static gboolean
signed_by_two(Certificates *certificates, StoreConnection *connection, GBytes *statement,
              GBytes *first, GBytes *second, gint64 at_ms, const char *subject_person, Trace trace,
              const CertificateRule **ret_rule, GError **error)
{
    CertificateQuery query = {.at_ms = at_ms, .past = TRUE};
    g_auto(Officer) one = {0};
    g_auto(Officer) two = {0};
    if (!signed_by_officer(certificates, connection, statement, first, &query, trace, &one,
                           ret_rule, error) ||
        !signed_by_officer(certificates, connection, statement, second, &query, trace, &two,
                           ret_rule, error))
        return FALSE;
    if (strcmp(one.person_ref, two.person_ref) == 0)
        return certificate_refuse("two-persons", NULL, ret_rule, error);
    if (strcmp(one.person_ref, subject_person) == 0 || strcmp(two.person_ref, subject_person) == 0)
        return certificate_refuse("self", NULL, ret_rule, error);
    return TRUE;
}

/* A founder by the founding, everybody else by two signatures. */
static gboolean
appointment_holds(Certificates *certificates, StoreConnection *connection, const OfficerRow *row,
                  const CertificateRule **ret_rule, GError **error)
{
    g_autoptr(Statement) statement = statement_from_bytes(row->statement, NULL);
    if (statement == NULL || strcmp(statement->cert_sha256, row->certificate) != 0 ||
        strcmp(statement->person_ref, row->person_ref) != 0 ||
        strcmp(statement->server_name, certificates_server_name(certificates)) != 0)
        return certificate_refuse("officer", "the record does not say what its statement says",
                                  ret_rule, error);
    if (statement->kind == STATEMENT_FOUNDING)
        return TRUE;
    return signed_by_two(certificates, connection, row->statement, row->signature_first,
                         row->signature_second, row->approved_ms, row->person_ref, TRACE_NOTHING,
                         ret_rule, error);
}

gboolean
officer_from_tls(Certificates *certificates, StoreConnection *connection, GPtrArray *chain_der,
                 Officer *ret_officer, const CertificateRule **ret_rule, GError **error)
{
    CertificateQuery query = {.at_ms = clock_wall_ms()};
    g_autoptr(Certificate) certificate = NULL;
    return certificates_check(certificates, chain_der, &query, &certificate, ret_rule, error) &&
           in_office(certificates, connection, certificate, query.at_ms, TRACE_SIGNATURES,
                     ret_officer, ret_rule, error);
}

gboolean
officer_from_signature(Certificates *certificates, StoreConnection *connection, GBytes *statement,
                       GBytes *cms, gint64 at_ms, gboolean past, Officer *ret_officer,
                       const CertificateRule **ret_rule, GError **error)
{
    CertificateQuery query = {.at_ms = at_ms, .past = past};
    return signed_by_officer(certificates, connection, statement, cms, &query, TRACE_SIGNATURES,
                             ret_officer, ret_rule, error);
}

gboolean
officers_signed_both(Certificates *certificates, StoreConnection *connection, GBytes *statement,
                     GBytes *first, GBytes *second, gint64 at_ms, const char *subject_person,
                     const CertificateRule **ret_rule, GError **error)
{
    return signed_by_two(certificates, connection, statement, first, second, at_ms, subject_person,
                         TRACE_SIGNATURES, ret_rule, error);
}

gboolean
officer_count_persons(Certificates *certificates, StoreConnection *connection,
                      const char *without_certificate, guint *ret_count, GError **error)
{
    g_autoptr(GPtrArray) rows = officer_store_list(connection, error);
    g_autoptr(GHashTable) persons = g_hash_table_new(seeded_str_hash, g_str_equal);
    if (rows == NULL)
        return FALSE;
    for (guint i = 0; i < rows->len; i++) {
        const OfficerRow *row = g_ptr_array_index(rows, i);
        if (row->removed_ms == 0 && officer_row_holds(certificates, row) &&
            g_strcmp0(row->certificate, without_certificate) != 0)
            g_hash_table_add(persons, row->person_ref);
    }
    *ret_count = g_hash_table_size(persons);
    return TRUE;
}
