#include "identity/founding.h"

#include <string.h>

#include "identity/audit.h"
#include "identity/certificate_view.h"
#include "identity/clock.h"
#include "identity/officer.h"
#include "identity/refusal.h"

static OfficerRow *
founder(Certificates *certificates, GPtrArray *chain_der, gint64 now_ms, GError **error)
{
    CertificateQuery query = {.at_ms = now_ms};
    g_autoptr(Certificate) certificate = NULL;
    if (!certificates_check(certificates, chain_der, &query, &certificate, NULL, error))
        return NULL;
    const char *identifier = certificate_national_identifier(certificate);
    if (identifier[0] == '\0') {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "A founder's certificate must name the person: it has no serialNumber in its "
                    "subject.");
        return NULL;
    }
    g_autofree char *person =
        record_key_person_ref(certificates_record_key(certificates), identifier);
    char *issuers[] = {(char *)certificate_issuer_key(certificate), NULL};
    Statement draft = {.kind = STATEMENT_FOUNDING,
                       .server_name = (char *)certificates_server_name(certificates),
                       .person_ref = person,
                       .policy_oid = (char *)certificates_policy_of(certificates, certificate),
                       .cert_sha256 = (char *)certificate_sha256(certificate),
                       .spki_sha256 = (char *)certificate_spki_sha256(certificate),
                       .ticket = (char *)"founding",
                       .role = (char *)"identity",
                       .issuers = issuers,
                       .not_after_ms = certificate_not_after_ms(certificate),
                       .issued_ms = now_ms};
    g_autoptr(Statement) statement = statement_make(&draft, error);
    return statement != NULL
               ? officer_row_new(certificates, statement, certificate, NULL, NULL, now_ms)
               : NULL;
}

gboolean
founding_gather(Certificates *certificates, StoreConnection *connection, StoreWrites *writes,
                GPtrArray *first_der, GPtrArray *second_der, GError **error)
{
    gint64 now_ms = clock_wall_ms();
    g_autoptr(GPtrArray) before = officer_store_list(connection, error);
    if (before == NULL)
        return FALSE;
    if (before->len > 0) {
        refusal_set(error, 409, "M_FORBIDDEN",
                    "This agency was founded already: its officers name further ones (chancery "
                    "officer add).");
        return FALSE;
    }
    g_autoptr(OfficerRow) first = founder(certificates, first_der, now_ms, error);
    g_autoptr(OfficerRow) second =
        first != NULL ? founder(certificates, second_der, now_ms, error) : NULL;
    if (second == NULL)
        return FALSE;
    if (strcmp(first->person_ref, second->person_ref) == 0)
        return certificate_refuse("two-persons", "both certificates are one person's", NULL, error);
    const OfficerRow *const rows[] = {first, second};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        AuditLine line = {.type = "founding",
                          .actor = "server",
                          .subject = rows[i]->certificate,
                          .decision = "done"};
        audit_line(writes, &line);
        officer_store_insert(writes, rows[i]);
    }
    return TRUE;
}
