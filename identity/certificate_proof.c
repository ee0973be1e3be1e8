#include "identity/certificate_proof.h"

#include <string.h>

#include "identity/certificate_proof_private.h"
#include "identity/certificate_view.h"
#include "identity/clock.h"
#include "identity/cms.h"
#include "identity/enrolment.h"
#include "identity/refusal.h"

#define TOLERANCE_MS ((gint64)60 * 1000)

CertificateProof *
certificate_proof_ref(const CertificateProof *proof)
{
    CertificateProof *held = (CertificateProof *)proof; /* the count is the only thing that moves */
    g_atomic_int_inc(&held->references);
    return held;
}

void
certificate_proof_unref(CertificateProof *proof)
{
    if (proof == NULL || !g_atomic_int_dec_and_test(&proof->references))
        return;
    g_free(proof->user_id);
    g_bytes_unref(proof->certificate);
    g_free(proof->issuer_key);
    g_free(proof->clearance);
    g_free(proof);
}

const char *
certificate_proof_user_id(const CertificateProof *proof)
{
    return proof->user_id;
}

GBytes *
certificate_proof_certificate(const CertificateProof *proof)
{
    return proof->certificate;
}

gint64
certificate_proof_made_ms(const CertificateProof *proof)
{
    return proof->made_ms;
}

gint64
certificate_proof_not_after_ms(const CertificateProof *proof)
{
    return proof->not_after_ms;
}

gboolean
certificate_proof_is_fresh(const CertificateProof *proof)
{
    gint64 age_ms = clock_wall_ms() - proof->made_ms;
    return age_ms >= -TOLERANCE_MS && age_ms <= CERTIFICATE_PROOF_FRESH_MS;
}

/* The account of @certificate, whose chain holds: state, statement, both signatures, and the chain
 * once more under what the statement allows. */
static CertificateProof *
proof_of_account(Certificates *certificates, StoreConnection *connection, GPtrArray *chain_der,
                 const Certificate *certificate, gint64 now_ms, const CertificateRule **ret_rule,
                 GError **error)
{
    g_autoptr(EnrolmentRow) row = NULL;
    g_autoptr(Statement) statement = NULL;
    g_autoptr(Certificate) again = NULL;
    if (!enrolment_store_find_certificate(connection, certificate_sha256_bytes(certificate), &row,
                                          error))
        return NULL;
    if (row == NULL) {
        certificate_refuse("not-enrolled", NULL, ret_rule, error);
        return NULL;
    }
    if (!enrolment_holds(certificates, connection, row, &statement, ret_rule, error))
        return NULL;
    if (row->state != ENROLMENT_ACTIVE) {
        if (ret_rule != NULL)
            *ret_rule = certificate_rule("suspended");
        refusal_set(error, 403, "M_USER_LOCKED",
                    "This account is suspended. Two identity officers can re-instate it.");
        return NULL;
    }
    if (statement->not_after_ms < now_ms - TOLERANCE_MS) {
        certificate_refuse("statement-ended", NULL, ret_rule, error);
        return NULL;
    }
    CertificateQuery query = {.at_ms = now_ms,
                              .policy = statement->policy_oid,
                              .issuers = (const char *const *)statement->issuers};
    if (!certificates_check(certificates, chain_der, &query, &again, ret_rule, error))
        return NULL;
    CertificateProof *proof = g_new0(CertificateProof, 1);
    proof->references = 1;
    proof->user_id = g_strdup(row->user_id);
    proof->certificate = g_bytes_ref(certificate_sha256_bytes(certificate));
    proof->issuer_key = g_strdup(certificate_issuer_key(again));
    proof->clearance = g_strdup(statement->clearance);
    proof->made_ms = now_ms;
    proof->not_after_ms = MIN(statement->not_after_ms, certificate_not_after_ms(certificate));
    return proof;
}

CertificateProof *
certificate_proof_from_tls(Certificates *certificates, StoreConnection *connection,
                           GPtrArray *chain_der, const CertificateRule **ret_rule, GError **error)
{
    CertificateQuery query = {.at_ms = clock_wall_ms()};
    g_autoptr(Certificate) certificate = NULL;
    if (!certificates_check(certificates, chain_der, &query, &certificate, ret_rule, error))
        return NULL;
    return proof_of_account(certificates, connection, chain_der, certificate, query.at_ms, ret_rule,
                            error);
}

CertificateProof *
certificate_proof_from_cms(Certificates *certificates, StoreConnection *connection, GBytes *cms,
                           GBytes *content, const CertificateRule **ret_rule, GError **error)
{
    CertificateQuery query = {.at_ms = clock_wall_ms()};
    g_auto(CmsSigner) signer = {0};
    if (!cms_verify(certificates, cms, content, &query, &signer, ret_rule, error))
        return NULL;
    /* The issuing CA is on our list, so our own copy of it leads up from the leaf. */
    g_autoptr(GPtrArray) chain = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_ptr_array_add(chain, g_bytes_ref(certificate_der(signer.signer)));
    return proof_of_account(certificates, connection, chain, signer.signer, query.at_ms, ret_rule,
                            error);
}

gboolean
certificate_binding_holds(Certificates *certificates, StoreConnection *connection,
                          const char *user_id, GBytes *certificate_sha256, gint64 now_ms,
                          GError **error)
{
    g_autoptr(EnrolmentRow) row = NULL;
    if (!enrolment_store_find_user(connection, user_id, &row, error))
        return FALSE;
    if (row == NULL || !g_bytes_equal(row->certificate, certificate_sha256))
        return certificate_refuse("not-enrolled", NULL, NULL, error);
    if (!enrolment_state_holds(certificates, row))
        return certificate_refuse("statement", NULL, NULL, error);
    if (row->state != ENROLMENT_ACTIVE)
        return certificate_refuse("suspended", NULL, NULL, error);
    if (row->not_after_ms < now_ms - TOLERANCE_MS)
        return certificate_refuse("expired", NULL, NULL, error);
    if (certificates_authority_is_revoked(certificates, row->issuer_key))
        return certificate_refuse("revoked", "with its CA", NULL, error);
    if (certificates_is_held(certificates, row->issuer_key, row->serial))
        return certificate_refuse("held", NULL, NULL, error);
    if (certificates_is_revoked(certificates, row->issuer_key, row->serial))
        return certificate_refuse("revoked", NULL, NULL, error);
    if (!certificates_sessions_may_live(certificates, row->issuer_key, now_ms))
        return certificate_refuse("crl-age", NULL, NULL, error);
    return TRUE;
}
