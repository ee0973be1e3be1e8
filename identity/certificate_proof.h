/* identity/certificate_proof.h: fresh evidence that somebody holds the private key of an enrolled
 * person's certificate.  session_link() (identity/session.h) takes one: a device is made from
 * nothing else.
 *
 * Opaque.  Only identity/certificate_proof.c makes one, after the whole chain check, the look-up of
 * the account by the certificate's SHA-256, and both officers' signatures on that account's
 * enrolment statement, checked again each time: a row that somebody wrote into the database by hand
 * makes no account.
 *
 * For identity/ and server/certificate.  Immutable; any thread. */
#pragma once

#include "identity/certificate.h"
#include "storage/store.h"

typedef struct CertificateProof CertificateProof;

CertificateProof *certificate_proof_ref(const CertificateProof *proof);
void certificate_proof_unref(CertificateProof *proof);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CertificateProof, certificate_proof_unref)

/* Longest time between proving and linking. */
#define CERTIFICATE_PROOF_FRESH_MS ((gint64)60 * 1000)

const char *certificate_proof_user_id(const CertificateProof *proof);
GBytes *
certificate_proof_certificate(const CertificateProof *proof);    /* SHA-256, 32 bytes, borrowed */
gint64 certificate_proof_made_ms(const CertificateProof *proof); /* wall clock */
/* No session may outlive this: the earlier of the certificate's and the statement's end. */
gint64 certificate_proof_not_after_ms(const CertificateProof *proof);
gboolean certificate_proof_is_fresh(const CertificateProof *proof);

/* From a connection to the certificate listener, whose handshake the client signed: its chain
 * (GPtrArray of GBytes, leaf first).  NULL with a REFUSAL (403 M_FORBIDDEN; M_USER_LOCKED while
 * suspended) or a STORE_ERROR; *ret_rule, when asked for, names the rule for the audit line. */
CertificateProof *
certificate_proof_from_tls(Certificates *certificates, StoreConnection *connection,
                           GPtrArray *chain_der, const CertificateRule **ret_rule, GError **error);

/* From a challenge that the card signed: @cms is a CMS SignedData over @content (detached, or
 * attached and equal), one signer, signed attributes required.  The caller has compared what
 * @content says (nonce, server, purpose, TLS exporter value) with what it issued. */
CertificateProof *
certificate_proof_from_cms(Certificates *certificates, StoreConnection *connection, GBytes *cms,
                           GBytes *content, const CertificateRule **ret_rule, GError **error);

/* Is the account of a live session still as it was when proved?  Asked by the revocation clock:
 * enrolment active, certificate neither expired nor on the CRL in force, CRL not too old.  FALSE
 * with a REFUSAL. */
gboolean certificate_binding_holds(Certificates *certificates, StoreConnection *connection,
                                   const char *user_id, GBytes *certificate_sha256, gint64 now_ms,
                                   GError **error);
