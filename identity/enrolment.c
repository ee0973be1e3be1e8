#include "identity/enrolment.h"

#include <string.h>

#include "identity/certificate_view.h"
#include "identity/officer.h"

const char *
enrolment_state_name(gint64 state)
{
    switch (state) {
    case ENROLMENT_ACTIVE:
        return "active";
    case ENROLMENT_SUSPENDED:
        return "suspended";
    case ENROLMENT_REPLACED:
        return "replaced";
    case ENROLMENT_REVOKED:
        return "revoked";
    default:
        return "unknown";
    }
}

GBytes *
enrolment_mac(const Certificates *certificates, GBytes *digest, const char *user_id,
              GBytes *certificate, gint64 approved_ms, gint64 state, gint64 changed_ms)
{
    g_autofree char *facts =
        g_strdup_printf("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %" G_GINT64_FORMAT, approved_ms,
                        state, changed_ms);
    g_autoptr(GBytes) user = g_bytes_new_static(user_id, strlen(user_id));
    g_autoptr(GBytes) numbers = g_bytes_new_static(facts, strlen(facts));
    GBytes *const parts[] = {digest, user, certificate, numbers};
    return record_key_mac(certificates_record_key(certificates), "enrolment", parts,
                          G_N_ELEMENTS(parts));
}

gboolean
enrolment_state_holds(const Certificates *certificates, const EnrolmentRow *row)
{
    g_autoptr(GBytes) expected =
        enrolment_mac(certificates, row->digest, row->user_id, row->certificate, row->approved_ms,
                      row->state, row->changed_ms);
    return record_mac_equal(expected, row->mac);
}

static gboolean
statement_fits_row(const Certificates *certificates, const Statement *statement,
                   const EnrolmentRow *row)
{
    g_autoptr(GString) certificate = g_string_new(NULL);
    gsize length = 0;
    const guint8 *digest = g_bytes_get_data(row->certificate, &length);
    for (gsize i = 0; i < length; i++)
        g_string_append_printf(certificate, "%02x", digest[i]);
    return statement->kind == STATEMENT_ENROL && g_bytes_equal(statement->digest, row->digest) &&
           strcmp(statement->server_name, certificates_server_name(certificates)) == 0 &&
           strcmp(statement->user_id, row->user_id) == 0 &&
           strcmp(statement->cert_sha256, certificate->str) == 0;
}

gboolean
enrolment_holds(Certificates *certificates, StoreConnection *connection, const EnrolmentRow *row,
                Statement **ret_statement, const CertificateRule **ret_rule, GError **error)
{
    if (!enrolment_state_holds(certificates, row))
        return certificate_refuse("statement", "its record was not made by this server", ret_rule,
                                  error);
    g_autoptr(Statement) statement = statement_from_bytes(row->statement, NULL);
    if (statement == NULL || !statement_fits_row(certificates, statement, row))
        return certificate_refuse("statement", "it does not say what its record says", ret_rule,
                                  error);
    if (!officers_signed_both(certificates, connection, row->statement, row->signature_first,
                              row->signature_second, row->approved_ms, statement->person_ref,
                              ret_rule, error))
        return FALSE;
    if (ret_statement != NULL)
        *ret_statement = g_steal_pointer(&statement);
    return TRUE;
}

void
enrolment_change(const Certificates *certificates, StoreWrites *writes, const EnrolmentRow *row,
                 EnrolmentState state, gint64 now_ms)
{
    g_autoptr(GBytes) mac = enrolment_mac(certificates, row->digest, row->user_id, row->certificate,
                                          row->approved_ms, state, now_ms);
    enrolment_store_set_state(writes, row->digest, state, now_ms, mac);
}

GPtrArray *
enrolment_listed(Certificates *certificates, StoreConnection *connection, const Crl *crl,
                 GError **error)
{
    g_autoptr(GPtrArray) listed =
        g_ptr_array_new_with_free_func((GDestroyNotify)enrolment_row_free);
    for (const char *const *issuer = certificates_issuers(certificates); *issuer != NULL;
         issuer++) {
        gboolean whole_authority = certificates_authority_is_on(certificates, *issuer, crl);
        if (!whole_authority && strcmp(*issuer, crl_issuer_key(crl)) != 0)
            continue;
        g_autoptr(GPtrArray) rows = enrolment_store_of_issuer(connection, *issuer, error);
        if (rows == NULL)
            return NULL;
        for (guint i = rows->len; i > 0; i--) {
            const EnrolmentRow *row = g_ptr_array_index(rows, i - 1);
            if (whole_authority || crl_lists(crl, row->serial))
                g_ptr_array_add(listed, g_ptr_array_steal_index_fast(rows, i - 1));
        }
    }
    return g_steal_pointer(&listed);
}
