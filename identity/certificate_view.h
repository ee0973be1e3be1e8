/* identity/certificate_view.h: the chain check's own parts: trust anchors and lists at one moment,
 * and how certificates are read.  For identity/ alone (tests/lint/private.tsv). */
#pragma once

#include <openssl/x509.h>

#include "identity/certificate.h"

/* Trust anchors, issuers and CRLs as they stood at one moment; immutable, shared by reference. */
typedef struct CertificatesView CertificatesView;
CertificatesView *certificates_view(Certificates *certificates); /* a new reference */
void certificates_view_unref(CertificatesView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CertificatesView, certificates_view_unref)

X509_STORE *certificates_view_store(CertificatesView *view);
/* Was a certificate of @path revoked at or before @at_ms, says the CRL of its issuer in force now?
 */
gboolean
certificates_view_revoked_before(CertificatesView *view, STACK_OF(X509) * path, gint64 at_ms);
/* Has that issuer a CRL whose thisUpdate is not before @oldest_ms? */
gboolean
certificates_view_crl_is_young(CertificatesView *view, const char *issuer_key, gint64 oldest_ms);

/* Adds a reference to each issuing CA of the configuration. */
void certificates_push_issuers(const Certificates *certificates, STACK_OF(X509) * stack);
gint64 certificates_crl_login_age_ms(const Certificates *certificates);
/* The CA (anchor or issuer) whose name and signature @crl bears; NULL when none. *ret_named: some
 * CA has that name. */
X509 *
certificates_signer_of_crl(const Certificates *certificates, X509_CRL *crl, gboolean *ret_named);

gboolean certificate_refuse(const char *rule_name, const char *detail,
                            const CertificateRule **ret_rule, GError **error);
gboolean certificate_time_ms(const ASN1_TIME *time, gint64 *ret_ms);
char *certificate_serial_hex(const ASN1_INTEGER *serial);
char *certificate_name_text(X509_NAME *name);
char *certificate_key_sha256(const X509 *x509); /* hex */
gboolean
certificate_file_read(const char *path, char **ret_bytes, gsize *ret_length, GError **error);
GPtrArray *certificate_chain_from_bytes(const char *bytes, gsize length);
