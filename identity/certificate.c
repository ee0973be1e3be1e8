#include "identity/certificate.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "identity/certificate_view.h"
#include "identity/clock.h"
#include "identity/refusal.h"

#define CERTIFICATE_BYTES_MAX (64 * 1024)
#define FILE_BYTES_MAX (1024 * 1024)
#define CHAIN_LENGTH_MAX 8
#define TOLERANCE_MS ((gint64)60 * 1000)
#define AUTHENTICATION_LEVEL 2 /* 112 bits: no RSA below 2048, no SHA-1 */

const CertificateRule certificate_rules[] = {
    {"parse", "certificate", "this is not an X.509 certificate",
     "give the certificate as PEM or DER"},
    {"chain", "issuer", "no path leads from it to a trust anchor for people",
     "use a certificate of the national PKI, or have the root added to the server's anchors"},
    {"issuer-listed", "authorityKeyIdentifier",
     "the key of its issuer is not that of a CA on the list",
     "use a certificate from a listed CA; a CA of the same name is not the same CA"},
    {"signature", "signatureValue", "a signature in the chain does not verify",
     "get an undamaged copy of the certificate and of its CA"},
    {"not-yet-valid", "notBefore", "it is not valid yet",
     "wait until notBefore, or set the clock right"},
    {"expired", "notAfter", "it has expired", "get a renewed certificate and have it enrolled"},
    {"revoked", "serialNumber", "its CA has revoked it",
     "get a new certificate and have it enrolled"},
    {"held", "reasonCode", "its CA has put it on hold",
     "wait until the CA lifts the hold, or have a new certificate enrolled"},
    {"crl-missing", "cRLDistributionPoints", "no CRL of its CA (or of a CA above it) is here",
     "import the CRLs of every CA in the chain: chancery revoke --crl FILE"},
    {"crl-expired", "nextUpdate", "the CRL of a CA in the chain has expired",
     "import a newer CRL of that CA"},
    {"crl-not-yet-valid", "thisUpdate", "the CRL comes from the future",
     "set the clock right, or get the CRL that is valid now"},
    {"crl-age", "thisUpdate", "the CRL of its CA is too old for new log-ins",
     "import a newer CRL of that CA"},
    {"crl-signature", "signatureValue", "the CRL is not signed by the CA that it names",
     "get the CRL from the CA again"},
    {"crl-issuer", "issuer", "the CRL's issuer is no CA that this server knows",
     "import CRLs of the roots and issuing CAs of the configuration only"},
    {"crl-number", "cRLNumber", "its number is lower than one seen before, or missing",
     "import the newest CRL; older ones would forgive certificates revoked since"},
    {"crl-parse", "certificateList", "this is not a complete X.509 CRL",
     "give the CA's complete CRL (no delta) as PEM or DER"},
    {"key-usage", "keyUsage", "digitalSignature is not among its key usages",
     "use the authentication certificate of the card, not the one for signing documents"},
    {"extended-key-usage", "extendedKeyUsage", "clientAuth is not among its extended key usages",
     "use the authentication certificate of the card"},
    {"explicit-policy", "certificatePolicies", "none of the accepted policies is asserted",
     "use a certificate issued under an accepted policy"},
    {"name-constraints", "subject", "a CA above it may not issue for this name",
     "use a certificate from the CA of that country"},
    {"key-strength", "subjectPublicKeyInfo", "a key in the chain is too weak",
     "use RSA of 2048 bits or more, or an elliptic curve of 224 bits or more"},
    {"digest-strength", "signatureAlgorithm", "a signature in the chain uses a weak digest",
     "use a certificate signed with SHA-256 or better"},
    {"strict", "extensions", "the chain breaks a rule of RFC 5280",
     "have the CA issue it again according to RFC 5280"},
    {"cms-shape", "SignedData", "this is not a CMS signature by one signer over these bytes",
     "sign exactly the bytes given, with one card, and include its certificate"},
    {"cms-attributes", "signedAttrs",
     "contentType, messageDigest and signingTime must be signed attributes",
     "sign with signed attributes"},
    {"cms-signature", "signature", "the signature does not fit the bytes and the certificate",
     "sign again, exactly the bytes given"},
    {"not-enrolled", "certificate", "no account here is bound to this very certificate",
     "have an identity officer enrol it"},
    {"suspended", "account", "the account is suspended", "two identity officers can re-instate it"},
    {"statement", "enrolment", "the enrolment statement of the account does not hold",
     "have the person enrolled anew by two officers"},
    {"statement-ended", "not_after", "the enrolment has ended", "have the person enrolled anew"},
    {"officer", "officer", "this certificate is not that of an identity officer here",
     "use an officer's certificate"},
    {"two-persons", "person_ref", "two different persons are needed", "have another officer sign"},
    {"self", "person_ref", "an officer may not act on their own person",
     "have two other officers do it"},
    {NULL, NULL, NULL, NULL},
};

const CertificateRule *
certificate_rule(const char *name)
{
    for (const CertificateRule *rule = certificate_rules; rule->name != NULL; rule++)
        if (strcmp(rule->name, name) == 0)
            return rule;
    g_error("no such rule: %s", name); /* our own mistake: names are constants of this program */
}

gboolean
certificate_refuse(const char *name, const char *detail, const CertificateRule **ret_rule,
                   GError **error)
{
    const CertificateRule *rule = certificate_rule(name);
    if (ret_rule != NULL)
        *ret_rule = rule;
    refusal_set(error, 403, "M_FORBIDDEN", "Refused by rule %s (%s): %s%s%s%s; cure: %s.",
                rule->name, rule->field, rule->says, detail != NULL ? " [" : "",
                detail != NULL ? detail : "", detail != NULL ? "]" : "", rule->cure);
    return FALSE;
}

/* ---- one certificate ---- */

struct Certificate {
    gint references; /* atomic */
    X509 *x509;
    GBytes *der;
    GBytes *sha256;
    char *sha256_hex;
    char *spki_hex;
    char *subject;
    char *name;
    char *issuer;
    char *serial;
    char *national_identifier;
    char *issuer_key; /* "" until a check has found the issuer */
    gint64 not_before_ms;
    gint64 not_after_ms;
};

gboolean
certificate_time_ms(const ASN1_TIME *time, gint64 *ret_ms)
{
    struct tm fields;
    if (time == NULL || ASN1_TIME_to_tm(time, &fields) != 1)
        return FALSE;
    *ret_ms = (gint64)timegm(&fields) * 1000;
    return TRUE;
}

char *
certificate_serial_hex(const ASN1_INTEGER *serial)
{
    BIGNUM *number = ASN1_INTEGER_to_BN(serial, NULL);
    char *hex = number != NULL ? BN_bn2hex(number) : NULL;
    char *lower = hex != NULL ? g_ascii_strdown(hex, -1) : NULL;
    OPENSSL_free(hex);
    BN_free(number);
    return lower;
}

char *
certificate_name_text(X509_NAME *name)
{
    char *text = NULL;
    BIO *memory = BIO_new(BIO_s_mem());
    char *start = NULL;
    if (memory == NULL)
        return g_strdup("");
    if (X509_NAME_print_ex(memory, name, 0, XN_FLAG_RFC2253) >= 0) {
        long length = BIO_get_mem_data(memory, &start);
        text = g_utf8_make_valid(start, length);
    }
    BIO_free(memory);
    return text != NULL ? text : g_strdup("");
}

char *
certificate_key_sha256(const X509 *x509)
{
    unsigned char *der = NULL;
    int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &der);
    if (length <= 0)
        return NULL;
    char *hex = g_compute_checksum_for_data(G_CHECKSUM_SHA256, der, (gsize)length);
    OPENSSL_free(der);
    return hex;
}

/* The subject's serialNumber.  Two of them, or U+0000 inside, would let one name read as another.
 */
static char *
subject_identifier(const X509 *x509)
{
    X509_NAME *subject = X509_get_subject_name(x509);
    int at = X509_NAME_get_index_by_NID(subject, NID_serialNumber, -1);
    if (at < 0)
        return g_strdup("");
    if (X509_NAME_get_index_by_NID(subject, NID_serialNumber, at) >= 0)
        return NULL;
    unsigned char *utf8 = NULL;
    int length =
        ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    char *text = NULL;
    if (length > 0 && length <= 255 && memchr(utf8, 0, (gsize)length) == NULL &&
        g_utf8_validate((const char *)utf8, length, NULL))
        text = g_strndup((const char *)utf8, (gsize)length);
    OPENSSL_free(utf8);
    return text;
}

static char *
name_without_identifier(X509_NAME *subject)
{
    X509_NAME *name = X509_NAME_dup(subject);
    int at = -1;
    if (name == NULL)
        return g_strdup("");
    while ((at = X509_NAME_get_index_by_NID(name, NID_serialNumber, -1)) >= 0)
        X509_NAME_ENTRY_free(X509_NAME_delete_entry(name, at));
    char *text = certificate_name_text(name);
    X509_NAME_free(name);
    return text;
}

static Certificate *
certificate_from_x509(X509 *x509, GBytes *der)
{
    Certificate *certificate = g_new0(Certificate, 1);
    gsize length = 0;
    const void *bytes = g_bytes_get_data(der, &length);
    guint8 digest[32];
    gsize digest_length = sizeof digest;
    GChecksum *checksum = g_checksum_new(G_CHECKSUM_SHA256);

    g_checksum_update(checksum, bytes, (gssize)length);
    g_checksum_get_digest(checksum, digest, &digest_length);
    certificate->references = 1;
    certificate->x509 = x509;
    certificate->der = g_bytes_ref(der);
    certificate->sha256 = g_bytes_new(digest, sizeof digest);
    certificate->sha256_hex = g_strdup(g_checksum_get_string(checksum));
    certificate->spki_hex = certificate_key_sha256(x509);
    certificate->subject = certificate_name_text(X509_get_subject_name(x509));
    certificate->name = name_without_identifier(X509_get_subject_name(x509));
    certificate->issuer = certificate_name_text(X509_get_issuer_name(x509));
    certificate->serial = certificate_serial_hex(X509_get0_serialNumber(x509));
    certificate->national_identifier = subject_identifier(x509);
    certificate->issuer_key = g_strdup("");
    g_checksum_free(checksum);
    if (certificate->spki_hex == NULL || certificate->serial == NULL ||
        certificate->national_identifier == NULL ||
        !certificate_time_ms(X509_get0_notBefore(x509), &certificate->not_before_ms) ||
        !certificate_time_ms(X509_get0_notAfter(x509), &certificate->not_after_ms)) {
        certificate_unref(certificate);
        return NULL;
    }
    return certificate;
}

Certificate *
certificate_from_der(const void *der, gsize length, GError **error)
{
    const unsigned char *cursor = der;
    X509 *x509 = NULL;
    Certificate *certificate = NULL;
    if (length > 0 && length <= CERTIFICATE_BYTES_MAX)
        x509 = d2i_X509(NULL, &cursor, (long)length);
    if (x509 != NULL && cursor == (const unsigned char *)der + length) {
        g_autoptr(GBytes) bytes = g_bytes_new(der, length);
        certificate = certificate_from_x509(x509, bytes);
    } else {
        X509_free(x509);
    }
    ERR_clear_error();
    if (certificate == NULL)
        certificate_refuse("parse", NULL, NULL, error);
    return certificate;
}

void
certificate_unref(Certificate *certificate)
{
    if (certificate == NULL || !g_atomic_int_dec_and_test(&certificate->references))
        return;
    X509_free(certificate->x509);
    g_bytes_unref(certificate->der);
    g_bytes_unref(certificate->sha256);
    g_free(certificate->sha256_hex);
    g_free(certificate->spki_hex);
    g_free(certificate->subject);
    g_free(certificate->name);
    g_free(certificate->issuer);
    g_free(certificate->serial);
    g_free(certificate->national_identifier);
    g_free(certificate->issuer_key);
    g_free(certificate);
}

GBytes *
certificate_der(const Certificate *certificate)
{
    return certificate->der;
}

const char *
certificate_sha256(const Certificate *certificate)
{
    return certificate->sha256_hex;
}

GBytes *
certificate_sha256_bytes(const Certificate *certificate)
{
    return certificate->sha256;
}

const char *
certificate_spki_sha256(const Certificate *certificate)
{
    return certificate->spki_hex;
}

const char *
certificate_subject(const Certificate *certificate)
{
    return certificate->subject;
}

const char *
certificate_name(const Certificate *certificate)
{
    return certificate->name;
}

const char *
certificate_issuer(const Certificate *certificate)
{
    return certificate->issuer;
}

const char *
certificate_serial(const Certificate *certificate)
{
    return certificate->serial;
}

const char *
certificate_national_identifier(const Certificate *certificate)
{
    return certificate->national_identifier;
}

gint64
certificate_not_before_ms(const Certificate *certificate)
{
    return certificate->not_before_ms;
}

gint64
certificate_not_after_ms(const Certificate *certificate)
{
    return certificate->not_after_ms;
}

const char *
certificate_issuer_key(const Certificate *certificate)
{
    return certificate->issuer_key;
}

/* ---- files ---- */

gboolean
certificate_file_read(const char *path, char **ret_bytes, gsize *ret_length, GError **error)
{
    g_autofree char *bytes = NULL;
    gsize length = 0;
    if (!g_file_get_contents(path, &bytes, &length, error))
        return FALSE;
    if (length > FILE_BYTES_MAX) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "%s: larger than any certificate file", path);
        return FALSE;
    }
    *ret_bytes = g_steal_pointer(&bytes);
    *ret_length = length;
    return TRUE;
}

/* Every certificate of a PEM text, or the one of a DER file, as DER. */
GPtrArray *
certificate_chain_from_bytes(const char *bytes, gsize length)
{
    g_autoptr(GPtrArray) chain = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    BIO *memory = BIO_new_mem_buf(bytes, (int)length);
    X509 *x509 = NULL;
    while (memory != NULL && (x509 = PEM_read_bio_X509(memory, NULL, NULL, NULL)) != NULL) {
        unsigned char *der = NULL;
        int der_length = i2d_X509(x509, &der);
        X509_free(x509);
        if (der_length > 0)
            g_ptr_array_add(chain, g_bytes_new(der, (gsize)der_length));
        OPENSSL_free(der);
    }
    BIO_free(memory);
    if (chain->len == 0)
        g_ptr_array_add(chain, g_bytes_new(bytes, length));
    ERR_clear_error();
    return g_steal_pointer(&chain);
}

Certificate *
certificate_from_file(const char *path, GPtrArray **ret_chain, GError **error)
{
    g_autofree char *bytes = NULL;
    gsize length = 0;
    if (!certificate_file_read(path, &bytes, &length, error))
        return NULL;
    g_autoptr(GPtrArray) chain = certificate_chain_from_bytes(bytes, length);
    GBytes *leaf = g_ptr_array_index(chain, 0);
    Certificate *certificate =
        certificate_from_der(g_bytes_get_data(leaf, NULL), g_bytes_get_size(leaf), error);
    if (certificate == NULL) {
        g_prefix_error(error, "%s: ", path);
        return NULL;
    }
    if (ret_chain != NULL)
        *ret_chain = g_steal_pointer(&chain);
    return certificate;
}

/* ---- the check ---- */

/* What the verify callback needs; one a check. */
typedef struct {
    gint64 at_ms;
} Moment;

/* ±60 s for clocks that differ a little: OpenSSL's four complaints about dates, judged again. */
static int
verify_callback(int verified, X509_STORE_CTX *context)
{
    const Moment *moment = X509_STORE_CTX_get_app_data(context);
    X509 *x509 = X509_STORE_CTX_get_current_cert(context);
    X509_CRL *crl = X509_STORE_CTX_get0_current_crl(context);
    gint64 bound_ms = 0;
    if (verified)
        return 1;
    switch (X509_STORE_CTX_get_error(context)) {
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return certificate_time_ms(X509_get0_notBefore(x509), &bound_ms) &&
               bound_ms <= moment->at_ms + TOLERANCE_MS;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return certificate_time_ms(X509_get0_notAfter(x509), &bound_ms) &&
               bound_ms >= moment->at_ms - TOLERANCE_MS;
    case X509_V_ERR_CRL_NOT_YET_VALID:
        return crl != NULL && certificate_time_ms(X509_CRL_get0_lastUpdate(crl), &bound_ms) &&
               bound_ms <= moment->at_ms + TOLERANCE_MS;
    case X509_V_ERR_CRL_HAS_EXPIRED:
        return crl != NULL && certificate_time_ms(X509_CRL_get0_nextUpdate(crl), &bound_ms) &&
               bound_ms >= moment->at_ms - TOLERANCE_MS;
    default:
        return 0;
    }
}

/* keyUsage and extendedKeyUsage must be there and say so: absent means "anything" to OpenSSL. */
static const char *
usage_fault(X509 *x509)
{
    guint32 usage = X509_get_key_usage(x509);
    if (usage == UINT32_MAX || (usage & KU_DIGITAL_SIGNATURE) == 0)
        return "key-usage";
    if ((X509_get_extension_flags(x509) & EXFLAG_XKUSAGE) == 0 ||
        (X509_get_extended_key_usage(x509) & XKU_SSL_CLIENT) == 0)
        return "extended-key-usage";
    return NULL;
}

static const char *
rule_of_error(int code, X509 *leaf)
{
    switch (code) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_UNTRUSTED:
    case X509_V_ERR_CERT_CHAIN_TOO_LONG:
    case X509_V_ERR_SUBJECT_ISSUER_MISMATCH:
    case X509_V_ERR_AKID_SKID_MISMATCH:
    case X509_V_ERR_AKID_ISSUER_SERIAL_MISMATCH:
        return "chain";
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE:
        return "signature";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "not-yet-valid";
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "expired";
    case X509_V_ERR_CERT_REVOKED:
        return "revoked";
    case X509_V_ERR_UNABLE_TO_GET_CRL:
    case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
    case X509_V_ERR_DIFFERENT_CRL_SCOPE:
        return "crl-missing";
    case X509_V_ERR_CRL_HAS_EXPIRED:
    case X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD:
        return "crl-expired";
    case X509_V_ERR_CRL_NOT_YET_VALID:
    case X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD:
        return "crl-not-yet-valid";
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
    case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
    case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
        return "crl-signature";
    case X509_V_ERR_INVALID_PURPOSE: {
        const char *fault = usage_fault(leaf);
        return fault != NULL ? fault : "strict";
    }
    case X509_V_ERR_NO_EXPLICIT_POLICY:
    case X509_V_ERR_INVALID_POLICY_EXTENSION:
        return "explicit-policy";
    case X509_V_ERR_PERMITTED_VIOLATION:
    case X509_V_ERR_EXCLUDED_VIOLATION:
    case X509_V_ERR_SUBTREE_MINMAX:
    case X509_V_ERR_UNSUPPORTED_CONSTRAINT_TYPE:
    case X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX:
    case X509_V_ERR_UNSUPPORTED_NAME_SYNTAX:
        return "name-constraints";
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
        return "key-strength";
    case X509_V_ERR_CA_MD_TOO_WEAK:
        return "digest-strength";
    default:
        return "strict";
    }
}

static STACK_OF(X509) * stack_of_chain(GPtrArray *chain_der, const Certificates *certificates)
{
    STACK_OF(X509) *stack = sk_X509_new_null();
    for (guint i = 1; i < chain_der->len; i++) {
        gsize length = 0;
        const unsigned char *der = g_bytes_get_data(g_ptr_array_index(chain_der, i), &length);
        X509 *x509 = length <= CERTIFICATE_BYTES_MAX ? d2i_X509(NULL, &der, (long)length) : NULL;
        if (x509 != NULL && sk_X509_push(stack, x509) <= 0)
            X509_free(x509);
    }
    certificates_push_issuers(certificates, stack);
    ERR_clear_error();
    return stack;
}

static void
set_parameters(const Certificates *certificates, const CertificateQuery *query,
               X509_STORE_CTX *context)
{
    X509_VERIFY_PARAM *parameters = X509_STORE_CTX_get0_param(context);
    unsigned long flags =
        X509_V_FLAG_X509_STRICT | X509_V_FLAG_POLICY_CHECK | X509_V_FLAG_EXPLICIT_POLICY;
    if (!query->past)
        flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
    X509_VERIFY_PARAM_set_flags(parameters, flags);
    X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_CLIENT);
    X509_VERIFY_PARAM_set_auth_level(parameters, AUTHENTICATION_LEVEL);
    X509_VERIFY_PARAM_set_depth(parameters, CHAIN_LENGTH_MAX);
    X509_VERIFY_PARAM_set_time(parameters, (time_t)(query->at_ms / 1000));
    const char *const single[] = {query->policy, NULL};
    const char *const *policies =
        query->policy != NULL ? single : certificates_policies(certificates);
    for (; *policies != NULL; policies++)
        X509_VERIFY_PARAM_add0_policy(parameters, OBJ_txt2obj(*policies, 1));
}

/* The rules that OpenSSL does not hold; the chain verifies already.  NULL: all hold. */
static const char *
own_rule_broken(const Certificates *certificates, CertificatesView *view,
                const CertificateQuery *query, X509 *leaf, STACK_OF(X509) * path,
                const char *issuer_key)
{
    const char *fault = usage_fault(leaf);
    if (fault != NULL)
        return fault;
    if (X509_check_ca(leaf) != 0)
        return "key-usage"; /* a CA's certificate is nobody's card */
    if (!g_strv_contains(query->issuers != NULL ? query->issuers
                                                : certificates_issuers(certificates),
                         issuer_key))
        return "issuer-listed";
    if (query->past)
        return certificates_view_revoked_before(view, path, query->at_ms) ? "revoked" : NULL;
    if (!certificates_view_crl_is_young(view, issuer_key,
                                        query->at_ms - certificates_crl_login_age_ms(certificates) -
                                            TOLERANCE_MS))
        return "crl-age";
    return NULL;
}

static gboolean
check_leaf(Certificates *certificates, const CertificateQuery *query, X509 *leaf,
           STACK_OF(X509) * untrusted, char **ret_issuer_key, const CertificateRule **ret_rule,
           GError **error)
{
    g_autoptr(CertificatesView) view = certificates_view(certificates);
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    Moment moment = {query->at_ms};
    const char *broken = "strict";
    g_autofree char *detail = NULL;
    g_autofree char *issuer_key = NULL;

    if (context != NULL &&
        X509_STORE_CTX_init(context, certificates_view_store(view), leaf, untrusted) == 1) {
        set_parameters(certificates, query, context);
        X509_STORE_CTX_set_app_data(context, &moment);
        X509_STORE_CTX_set_verify_cb(context, verify_callback);
        gboolean verified = X509_verify_cert(context) == 1;
        STACK_OF(X509) *path = X509_STORE_CTX_get0_chain(context);
        if (path != NULL && sk_X509_num(path) > 1)
            issuer_key = certificate_key_sha256(sk_X509_value(path, 1));
        if (!verified) {
            int code = X509_STORE_CTX_get_error(context);
            broken = rule_of_error(code, leaf);
            detail = g_strdup_printf("%s, at depth %d", X509_verify_cert_error_string(code),
                                     X509_STORE_CTX_get_error_depth(context));
            /* A CA that we do not list is the plainer reason, whatever else it lacks. */
            if (issuer_key != NULL && strcmp(broken, "chain") != 0 &&
                !g_strv_contains(certificates_issuers(certificates), issuer_key))
                broken = "issuer-listed";
        } else {
            broken = issuer_key == NULL
                         ? "chain"
                         : own_rule_broken(certificates, view, query, leaf, path, issuer_key);
        }
    }
    X509_STORE_CTX_free(context);
    ERR_clear_error();
    if (broken != NULL)
        return certificate_refuse(broken, detail, ret_rule, error);
    *ret_issuer_key = g_steal_pointer(&issuer_key);
    return TRUE;
}

gboolean
certificates_check(Certificates *certificates, GPtrArray *chain_der, const CertificateQuery *query,
                   Certificate **ret_certificate, const CertificateRule **ret_rule, GError **error)
{
    g_autofree char *issuer_key = NULL;
    if (chain_der == NULL || chain_der->len == 0)
        return certificate_refuse("parse", "none was shown", ret_rule, error);
    if (certificates == NULL)
        return certificate_refuse("chain", "this server has no trust anchors", ret_rule, error);
    if (chain_der->len > CHAIN_LENGTH_MAX)
        return certificate_refuse("chain", "it is too long", ret_rule, error);
    GBytes *first = g_ptr_array_index(chain_der, 0);
    g_autoptr(Certificate) certificate =
        certificate_from_der(g_bytes_get_data(first, NULL), g_bytes_get_size(first), error);
    if (certificate == NULL) {
        if (ret_rule != NULL)
            *ret_rule = certificate_rule("parse");
        return FALSE;
    }
    STACK_OF(X509) *untrusted = stack_of_chain(chain_der, certificates);
    gboolean passed =
        check_leaf(certificates, query, certificate->x509, untrusted, &issuer_key, ret_rule, error);
    sk_X509_pop_free(untrusted, X509_free);
    if (!passed)
        return FALSE;
    g_free(certificate->issuer_key);
    certificate->issuer_key = g_steal_pointer(&issuer_key);
    *ret_certificate = g_steal_pointer(&certificate);
    return TRUE;
}

const char *
certificates_policy_of(const Certificates *certificates, const Certificate *certificate)
{
    CERTIFICATEPOLICIES *asserted =
        X509_get_ext_d2i(certificate->x509, NID_certificate_policies, NULL, NULL);
    const char *found = NULL;
    for (const char *const *policy = certificates_policies(certificates);
         found == NULL && *policy != NULL; policy++)
        for (int i = 0; i < sk_POLICYINFO_num(asserted) && found == NULL; i++) {
            char oid[128];
            OBJ_obj2txt(oid, sizeof oid, sk_POLICYINFO_value(asserted, i)->policyid, 1);
            if (strcmp(oid, *policy) == 0)
                found = *policy;
        }
    CERTIFICATEPOLICIES_free(asserted);
    return found;
}
