#include "identity/crl.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "identity/audit.h"
#include "identity/certificate_view.h"
#include "identity/clock.h"
#include "identity/crl_view.h"
#include "identity/json.h"
#include "storage/crl_store.h"

#define TOLERANCE_MS ((gint64)60 * 1000)
#define NUMBER_HEX_DIGITS 40 /* 20 octets, the most that RFC 5280 5.2.3 allows */

struct Crl {
    gint references; /* atomic */
    X509_CRL *x509;
    GBytes *der;
    char *issuer_key; /* "" until judged */
    char *issuer;
    char *scope;
    char *number;
    gint64 this_update_ms;
    gint64 next_update_ms;
};

Crl *
crl_ref(const Crl *crl)
{
    Crl *held = (Crl *)crl; /* the count is the only thing that moves */
    g_atomic_int_inc(&held->references);
    return held;
}

void
crl_unref(Crl *crl)
{
    if (crl == NULL || !g_atomic_int_dec_and_test(&crl->references))
        return;
    X509_CRL_free(crl->x509);
    g_bytes_unref(crl->der);
    g_free(crl->issuer_key);
    g_free(crl->issuer);
    g_free(crl->scope);
    g_free(crl->number);
    g_free(crl);
}

const char *
crl_issuer_key(const Crl *crl)
{
    return crl->issuer_key;
}

const char *
crl_issuer(const Crl *crl)
{
    return crl->issuer;
}

const char *
crl_scope(const Crl *crl)
{
    return crl->scope;
}

const char *
crl_number(const Crl *crl)
{
    return crl->number;
}

gint64
crl_this_update_ms(const Crl *crl)
{
    return crl->this_update_ms;
}

gint64
crl_next_update_ms(const Crl *crl)
{
    return crl->next_update_ms;
}

GBytes *
crl_der(const Crl *crl)
{
    return crl->der;
}

X509_CRL *
crl_x509(const Crl *crl)
{
    return crl->x509;
}

static X509_REVOKED *
crl_entry(const Crl *crl, const ASN1_INTEGER *serial)
{
    X509_REVOKED *entry = NULL;
    /* 2: listed as removeFromCRL, which a complete list does not hold */
    return X509_CRL_get0_by_serial(crl->x509, &entry, serial) == 1 ? entry : NULL;
}

/* The entry of @serial (hex) in *ret_entry, NULL when there is none.  FALSE: it cannot be looked
 * up. */
static gboolean
entry_of_serial(const Crl *crl, const char *serial, X509_REVOKED **ret_entry)
{
    BIGNUM *number = NULL;
    gboolean looked = FALSE;
    if (BN_hex2bn(&number, serial) == (int)strlen(serial)) {
        ASN1_INTEGER *integer = BN_to_ASN1_INTEGER(number, NULL);
        looked = integer != NULL;
        *ret_entry = looked ? crl_entry(crl, integer) : NULL;
        ASN1_INTEGER_free(integer);
    }
    BN_free(number);
    return looked;
}

gboolean
crl_lists(const Crl *crl, const char *serial)
{
    X509_REVOKED *entry = NULL;
    return !entry_of_serial(crl, serial, &entry) || entry != NULL; /* in doubt it is listed */
}

gboolean
crl_holds(const Crl *crl, const char *serial)
{
    X509_REVOKED *entry = NULL;
    if (!entry_of_serial(crl, serial, &entry) || entry == NULL)
        return FALSE;
    ASN1_ENUMERATED *reason = X509_REVOKED_get_ext_d2i(entry, NID_crl_reason, NULL, NULL);
    gboolean holds = reason != NULL && ASN1_ENUMERATED_get(reason) == CRL_REASON_CERTIFICATE_HOLD;
    ASN1_ENUMERATED_free(reason);
    return holds;
}

gboolean
crl_revoked_before(const Crl *crl, const ASN1_INTEGER *serial, gint64 at_ms)
{
    gint64 revoked_ms = 0;
    X509_REVOKED *entry = crl_entry(crl, serial);
    return entry != NULL &&
           (!certificate_time_ms(X509_REVOKED_get0_revocationDate(entry), &revoked_ms) ||
            revoked_ms <= at_ms);
}

static X509_CRL *
read_x509(GBytes *bytes)
{
    gsize length = 0;
    const unsigned char *data = g_bytes_get_data(bytes, &length);
    X509_CRL *x509 = NULL;
    if (length == 0 || length > CRL_BYTES_MAX)
        return NULL;
    BIO *memory = BIO_new_mem_buf(data, (int)length);
    if (memory != NULL)
        x509 = PEM_read_bio_X509_CRL(memory, NULL, NULL, NULL);
    BIO_free(memory);
    if (x509 == NULL) {
        const unsigned char *cursor = data;
        x509 = d2i_X509_CRL(NULL, &cursor, (long)length);
        if (x509 != NULL && cursor != data + length) {
            X509_CRL_free(x509);
            x509 = NULL;
        }
    }
    ERR_clear_error();
    return x509;
}

/* NULL when absent, negative or longer than 20 octets. */
static char *
read_number(X509_CRL *x509)
{
    ASN1_INTEGER *integer = X509_CRL_get_ext_d2i(x509, NID_crl_number, NULL, NULL);
    BIGNUM *number = integer != NULL ? ASN1_INTEGER_to_BN(integer, NULL) : NULL;
    unsigned char octets[NUMBER_HEX_DIGITS / 2];
    char *text = NULL;
    if (number != NULL && !BN_is_negative(number) &&
        BN_bn2binpad(number, octets, sizeof octets) == (int)sizeof octets) {
        GString *hex = g_string_sized_new(NUMBER_HEX_DIGITS);
        for (gsize i = 0; i < sizeof octets; i++)
            g_string_append_printf(hex, "%02x", octets[i]);
        text = g_string_free(hex, FALSE);
    }
    BN_free(number);
    ASN1_INTEGER_free(integer);
    return text;
}

static char *
read_scope(X509_CRL *x509)
{
    int at = X509_CRL_get_ext_by_NID(x509, NID_issuing_distribution_point, -1);
    if (at < 0)
        return g_strdup("");
    const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(X509_CRL_get_ext(x509, at));
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, ASN1_STRING_get0_data(value),
                                       (gsize)ASN1_STRING_length(value));
}

Crl *
crl_from_bytes(GBytes *bytes, const CertificateRule **ret_rule, GError **error)
{
    X509_CRL *x509 = read_x509(bytes);
    unsigned char *der = NULL;
    int der_length = x509 != NULL ? i2d_X509_CRL(x509, &der) : 0;
    if (der_length <= 0 || X509_CRL_get_ext_by_NID(x509, NID_delta_crl, -1) >= 0) {
        X509_CRL_free(x509);
        OPENSSL_free(der);
        certificate_refuse("crl-parse", NULL, ret_rule, error);
        return NULL;
    }
    g_autoptr(Crl) crl = g_new0(Crl, 1);
    crl->references = 1;
    crl->x509 = x509;
    crl->der = g_bytes_new(der, (gsize)der_length);
    OPENSSL_free(der);
    crl->issuer_key = g_strdup("");
    crl->issuer = certificate_name_text(X509_CRL_get_issuer(x509));
    crl->scope = read_scope(x509);
    crl->number = read_number(x509);
    if (crl->number == NULL) {
        certificate_refuse("crl-number", "it has none that fits", ret_rule, error);
        return NULL;
    }
    if (!certificate_time_ms(X509_CRL_get0_lastUpdate(x509), &crl->this_update_ms) ||
        !certificate_time_ms(X509_CRL_get0_nextUpdate(x509), &crl->next_update_ms)) {
        certificate_refuse("crl-expired", "it names no nextUpdate", ret_rule, error);
        return NULL;
    }
    return g_steal_pointer(&crl);
}

/* The authentication level of the chain check does not look at the digests of lists. */
static gboolean
digest_is_weak(const X509_CRL *x509)
{
    int digest = NID_undef;
    return OBJ_find_sigid_algs(X509_CRL_get_signature_nid(x509), &digest, NULL) != 1 ||
           digest == NID_sha1 || digest == NID_md5 || digest == NID_md5_sha1;
}

/* Signature and dates; fills in the issuer's key. */
static gboolean
judge(Certificates *certificates, Crl *crl, gint64 now_ms, const CertificateRule **ret_rule,
      GError **error)
{
    gboolean named = FALSE;
    X509 *signer = certificates_signer_of_crl(certificates, crl->x509, &named);
    if (signer == NULL)
        return certificate_refuse(named ? "crl-signature" : "crl-issuer", crl->issuer, ret_rule,
                                  error);
    if (digest_is_weak(crl->x509))
        return certificate_refuse("digest-strength", crl->issuer, ret_rule, error);
    if (crl->this_update_ms > now_ms + TOLERANCE_MS)
        return certificate_refuse("crl-not-yet-valid", crl->issuer, ret_rule, error);
    if (crl->next_update_ms < now_ms - TOLERANCE_MS)
        return certificate_refuse("crl-expired", crl->issuer, ret_rule, error);
    g_free(crl->issuer_key);
    crl->issuer_key = certificate_key_sha256(signer);
    return TRUE;
}

Crl *
crl_judge(Certificates *certificates, GBytes *bytes, const CertificateRule **ret_rule,
          GError **error)
{
    g_autoptr(Crl) crl = crl_from_bytes(bytes, ret_rule, error);
    if (crl == NULL || !judge(certificates, crl, clock_wall_ms(), ret_rule, error))
        return NULL;
    return g_steal_pointer(&crl);
}

static void
gather(const Crl *crl, StoreWrites *writes, const char *actor, gint64 now_ms)
{
    g_autoptr(cJSON) refs = cJSON_CreateObject();
    cJSON_AddStringToObject(refs, "number", crl->number + strspn(crl->number, "0"));
    cJSON_AddNumberToObject(refs, "this_update", (double)crl->this_update_ms);
    cJSON_AddNumberToObject(refs, "next_update", (double)crl->next_update_ms);
    AuditLine line = {.type = "crl",
                      .actor = actor,
                      .subject = crl->issuer_key,
                      .object = crl->issuer,
                      .decision = "accepted",
                      .refs = refs};
    StoredCrl row = {.issuer_key = crl->issuer_key,
                     .scope = crl->scope,
                     .number = crl->number,
                     .this_update_ms = crl->this_update_ms,
                     .next_update_ms = crl->next_update_ms,
                     .imported_ms = now_ms,
                     .der = crl->der};
    audit_line(writes, &line);
    crl_store_put(writes, &row);
}

gboolean
crl_import(Certificates *certificates, StoreConnection *connection, StoreWrites *writes,
           GBytes *bytes, const char *actor, Crl **ret_crl, const CertificateRule **ret_rule,
           GError **error)
{
    gint64 now_ms = clock_wall_ms();
    g_autofree char *floor = NULL;
    g_autoptr(Crl) crl = crl_judge(certificates, bytes, ret_rule, error);
    if (crl == NULL || !crl_store_floor(connection, crl->issuer_key, crl->scope, &floor, error))
        return FALSE;
    int order = floor != NULL ? strcmp(crl->number, floor) : 1;
    if (order == 0) {
        /* The list in force, brought again, is no news, but another process may have been the one
         * to take it in; another list under its number is a fault of the CA. */
        g_autoptr(GBytes) held = NULL;
        if (!crl_store_find(connection, crl->issuer_key, crl->scope, &held, error))
            return FALSE;
        if (held != NULL && g_bytes_equal(held, crl->der)) {
            *ret_crl = certificates_has_crl(certificates, crl) ? NULL : g_steal_pointer(&crl);
            return TRUE;
        }
    }
    if (order <= 0)
        return certificate_refuse("crl-number",
                                  order < 0 ? "lower than the highest seen"
                                            : "another list bore this number already",
                                  ret_rule, error);
    gather(crl, writes, actor, now_ms);
    *ret_crl = g_steal_pointer(&crl);
    return TRUE;
}

gboolean
crl_load(Certificates *certificates, StoreConnection *connection, GError **error)
{
    g_autoptr(GPtrArray) rows = crl_store_all(connection, error);
    if (rows == NULL)
        return FALSE;
    for (guint i = 0; i < rows->len; i++) {
        gboolean named = FALSE;
        g_autoptr(Crl) crl = crl_from_bytes(g_ptr_array_index(rows, i), NULL, NULL);
        X509 *signer =
            crl != NULL ? certificates_signer_of_crl(certificates, crl->x509, &named) : NULL;
        if (signer == NULL)
            continue; /* of a CA that left the configuration; or a row written by hand */
        g_free(crl->issuer_key);
        crl->issuer_key = certificate_key_sha256(signer);
        certificates_take_crl(certificates, crl);
    }
    return TRUE;
}
