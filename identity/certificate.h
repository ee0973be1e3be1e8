/* identity/certificate.h: the certificates of people, and the one check of their chains.
 *
 * `Certificates` holds what this server trusts for people, and nothing else: trust anchors, the
 * issuing CAs on the list, the accepted policies, and the CRLs in force.  Neither the system's
 * trust store nor the partners' has a part in it.  OpenSSL walks the chain (CRL_CHECK,
 * CRL_CHECK_ALL, X509_STRICT, POLICY_CHECK, EXPLICIT_POLICY, purpose sslclient, authentication
 * level 2); then come our own rules. What is missing fails closed: no CRL, an old CRL, no key
 * usage.
 *
 * A failed check names the rule, the field and the cure (`chancery check-chain` prints them).
 *
 * For identity/ and server/.  Thread-safe: checks run on an immutable view that imports replace. */
#pragma once

#include <glib.h>
#include <openssl/x509.h>

#include "identity/record_key.h"

typedef struct Certificates Certificates;
typedef struct Certificate Certificate;

/* ---- one certificate: immutable facts ---- */
Certificate *certificate_from_der(const void *der, gsize length, GError **error);
/* PEM or DER; the first certificate of the file counts, *ret_chain (GBytes of DER, leaf first) may
 * be NULL. */
Certificate *certificate_from_file(const char *path, GPtrArray **ret_chain, GError **error);
void certificate_unref(Certificate *certificate);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Certificate, certificate_unref)

GBytes *certificate_der(const Certificate *certificate);          /* borrowed */
const char *certificate_sha256(const Certificate *certificate);   /* of the DER, lower-case hex */
GBytes *certificate_sha256_bytes(const Certificate *certificate); /* borrowed, 32 bytes */
const char *certificate_spki_sha256(const Certificate *certificate); /* of its key, hex */
const char *
certificate_subject(const Certificate *certificate); /* RFC 2253, for people to read only */
/* The same without the national identifier: what may be kept. */
const char *certificate_name(const Certificate *certificate);
const char *certificate_issuer(const Certificate *certificate); /* likewise */
const char *certificate_serial(const Certificate *certificate); /* hex */
/* The national identifier: the subject's serialNumber; "" when there is none. Never logged, never
 * stored. */
const char *certificate_national_identifier(const Certificate *certificate);
gint64 certificate_not_before_ms(const Certificate *certificate);
gint64 certificate_not_after_ms(const Certificate *certificate);
/* SHA-256 of the issuer's key, hex: set by a successful check (two CAs may share name and serial,
 * not key). */
const char *certificate_issuer_key(const Certificate *certificate);

/* ---- rules ---- */
/* Why a certificate, a CRL or a signature is refused: fixed text, one row a rule. */
typedef struct {
    const char *name;  /* "explicit-policy": stable, for audit lines and tests */
    const char *field; /* the certificate's field: "certificatePolicies" */
    const char *says;  /* what is wrong, one sentence */
    const char *cure;  /* what to do, one sentence */
} CertificateRule;

/* Every rule, ended by a row whose name is NULL. */
extern const CertificateRule certificate_rules[];
const CertificateRule *certificate_rule(const char *name);

/* ---- what this server trusts ---- */
typedef struct {
    const char *server_name;
    const char *agency;          /* of this server; statements carry it */
    const char *anchors_file;    /* PEM: roots for people */
    const char *issuers_file;    /* PEM: the issuing CAs whose certificates may be enrolled */
    const char *const *policies; /* accepted policy OIDs, NULL-terminated, at least one */
    gint64 crl_login_age_ms;     /* CRL of an issuing CA older than this: no new log-in; 24 h */
    gint64 crl_session_age_ms;   /* older than this: live sessions end; 72 h */
} CertificatesSettings;

#define CERTIFICATES_CRL_LOGIN_AGE_MS ((gint64)24 * 3600 * 1000)
#define CERTIFICATES_CRL_SESSION_AGE_MS ((gint64)72 * 3600 * 1000)

/* Copies @settings, borrows @record_key.  Without CRLs every check fails until some are taken. */
Certificates *
certificates_new(const CertificatesSettings *settings, const RecordKey *record_key, GError **error);
void certificates_free(Certificates *certificates);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Certificates, certificates_free)
const char *certificates_server_name(const Certificates *certificates);
const char *certificates_agency(const Certificates *certificates);
const char *const *certificates_policies(const Certificates *certificates);
const RecordKey *certificates_record_key(const Certificates *certificates);
/* Key SHA-256 (hex) of every issuing CA on the list. */
const char *const *certificates_issuers(const Certificates *certificates);

/* ---- the check ---- */
typedef struct {
    gint64 at_ms;               /* wall clock; +-60 s are forgiven, never more */
    const char *policy;         /* the one policy that must hold; NULL: any accepted one */
    const char *const *issuers; /* the issuers' keys that are allowed; NULL: all on our list */
    gboolean past; /* judge as of at_ms in the past: dates at at_ms, and the CRL of today asked
                    * whether it was revoked before then (signatures of officers) */
} CertificateQuery;

/* Judge @chain_der (GPtrArray of GBytes, leaf first).  *ret_certificate is the leaf with its
 * issuer's key filled in.  FALSE with a REFUSAL (403 M_FORBIDDEN) whose sentence says field, fault
 * and cure, and *ret_rule, when asked for, set to the rule.  @certificates NULL (a server without
 * trust anchors) refuses everybody. */
gboolean
certificates_check(Certificates *certificates, GPtrArray *chain_der, const CertificateQuery *query,
                   Certificate **ret_certificate, const CertificateRule **ret_rule, GError **error);
/* The policy OID, of those accepted, that @certificate asserts; NULL when none. */
const char *
certificates_policy_of(const Certificates *certificates, const Certificate *certificate);

/* Is the issuing CA with that key itself on @crl (revoked by the CA above it)? */
struct Crl;
gboolean certificates_authority_is_on(const Certificates *certificates, const char *issuer_key,
                                      const struct Crl *crl);

/* May sessions of people whose certificates @issuer_key issued go on?  FALSE once its CRL is older
 * than crl_session_age_ms, expired or missing, or that CA itself was revoked. */
gboolean
certificates_sessions_may_live(Certificates *certificates, const char *issuer_key, gint64 now_ms);
/* Is this serial on the CRL in force of that issuer? */
gboolean
certificates_is_revoked(Certificates *certificates, const char *issuer_key, const char *serial);
/* … and only as certificateHold? */
gboolean
certificates_is_held(Certificates *certificates, const char *issuer_key, const char *serial);
/* Is the issuing CA with that key on the CRL in force of the CA above it? */
gboolean certificates_authority_is_revoked(Certificates *certificates, const char *issuer_key);
