#include "identity/cms.h"

#include <openssl/cms.h>
#include <openssl/err.h>
#include <string.h>

#include "identity/certificate_view.h"

#define CHAIN_LENGTH_MAX 8

void
cms_signer_clear(CmsSigner *signer)
{
    g_clear_pointer(&signer->signer, certificate_unref);
    signer->signed_ms = 0;
}

GBytes *
cms_sign(const Credential *credential, GBytes *content, GError **error)
{
    gsize length = 0;
    const void *data = g_bytes_get_data(content, &length);
    unsigned char *der = NULL;
    int der_length = 0;
    BIO *memory = BIO_new_mem_buf(data, (int)length);
    CMS_ContentInfo *cms =
        memory != NULL ? CMS_sign(credential_x509(credential), credential_private_key(credential),
                                  credential_chain(credential), memory,
                                  CMS_BINARY | CMS_DETACHED | CMS_NOSMIMECAP)
                       : NULL;
    if (cms != NULL)
        der_length = i2d_CMS_ContentInfo(cms, &der);
    GBytes *signature = der_length > 0 ? g_bytes_new(der, (gsize)der_length) : NULL;
    if (signature == NULL) {
        char reason[256];
        ERR_error_string_n(ERR_peek_last_error(), reason, sizeof reason);
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "cannot sign: %s", reason);
    }
    OPENSSL_free(der);
    CMS_ContentInfo_free(cms);
    BIO_free(memory);
    ERR_clear_error();
    return signature;
}

static gboolean
digest_is_strong(CMS_SignerInfo *info)
{
    X509_ALGOR *digest = NULL;
    const ASN1_OBJECT *object = NULL;
    CMS_SignerInfo_get0_algs(info, NULL, NULL, &digest, NULL);
    X509_ALGOR_get0(&object, NULL, NULL, digest);
    switch (OBJ_obj2nid(object)) {
    case NID_sha256:
    case NID_sha384:
    case NID_sha512:
    case NID_sha3_256:
    case NID_sha3_384:
    case NID_sha3_512:
        return TRUE;
    default:
        return FALSE;
    }
}

/* The three attributes, once each, and of the type that RFC 5652 section 11 gives them (-3: exactly
 * one value). */
static gboolean
attributes_are_there(CMS_ContentInfo *cms, CMS_SignerInfo *info, gint64 *ret_signed_ms)
{
    const ASN1_OBJECT *type =
        CMS_signed_get0_data_by_OBJ(info, OBJ_nid2obj(NID_pkcs9_contentType), -3, V_ASN1_OBJECT);
    const void *digest = CMS_signed_get0_data_by_OBJ(info, OBJ_nid2obj(NID_pkcs9_messageDigest), -3,
                                                     V_ASN1_OCTET_STRING);
    int at = CMS_signed_get_attr_by_NID(info, NID_pkcs9_signingTime, -1);
    X509_ATTRIBUTE *attribute = at >= 0 ? CMS_signed_get_attr(info, at) : NULL;
    const ASN1_TYPE *time = attribute != NULL && X509_ATTRIBUTE_count(attribute) == 1
                                ? X509_ATTRIBUTE_get0_type(attribute, 0)
                                : NULL;
    return type != NULL && OBJ_cmp(type, CMS_get0_eContentType(cms)) == 0 && digest != NULL &&
           time != NULL && (time->type == V_ASN1_UTCTIME || time->type == V_ASN1_GENERALIZEDTIME) &&
           CMS_signed_get_attr_by_NID(info, NID_pkcs9_signingTime, at) < 0 &&
           certificate_time_ms(time->value.asn1_string, ret_signed_ms);
}

/* Attached content must be the very bytes that we asked to have signed. */
static gboolean
content_fits(CMS_ContentInfo *cms, GBytes *content)
{
    ASN1_OCTET_STRING **attached = CMS_get0_content(cms);
    gsize length = 0;
    const void *data = g_bytes_get_data(content, &length);
    if (OBJ_obj2nid(CMS_get0_eContentType(cms)) != NID_pkcs7_data || attached == NULL)
        return FALSE;
    return *attached == NULL || ((gsize)ASN1_STRING_length(*attached) == length &&
                                 memcmp(ASN1_STRING_get0_data(*attached), data, length) == 0);
}

static gboolean
signature_fits(CMS_ContentInfo *cms, GBytes *content)
{
    gsize length = 0;
    const void *data = g_bytes_get_data(content, &length);
    BIO *detached = NULL;
    if (*CMS_get0_content(cms) == NULL)
        detached = BIO_new_mem_buf(data, (int)length);
    /* The chain is judged by us afterwards, not here. */
    gboolean fits =
        CMS_verify(cms, NULL, NULL, detached, NULL, CMS_NO_SIGNER_CERT_VERIFY | CMS_BINARY) == 1;
    BIO_free(detached);
    return fits;
}

static void
append_der(GPtrArray *chain, X509 *x509)
{
    unsigned char *der = NULL;
    int length = i2d_X509(x509, &der);
    if (length > 0)
        g_ptr_array_add(chain, g_bytes_new(der, (gsize)length));
    OPENSSL_free(der);
}

/* Leaf first, then whatever else the signer sent along; NULL when that is too much. */
static GPtrArray *
chain_of_signer(CMS_ContentInfo *cms)
{
    if (CMS_set1_signers_certs(cms, NULL, 0) != 1)
        return NULL; /* the signer's certificate is not inside */
    STACK_OF(X509) *signers = CMS_get0_signers(cms);
    STACK_OF(X509) *sent = CMS_get1_certs(cms);
    GPtrArray *chain = NULL;
    if (sk_X509_num(signers) == 1 && sk_X509_num(sent) <= CHAIN_LENGTH_MAX) {
        X509 *leaf = sk_X509_value(signers, 0);
        chain = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
        append_der(chain, leaf);
        for (int i = 0; i < sk_X509_num(sent); i++)
            if (X509_cmp(sk_X509_value(sent, i), leaf) != 0)
                append_der(chain, sk_X509_value(sent, i));
    }
    sk_X509_free(signers);
    sk_X509_pop_free(sent, X509_free);
    return chain;
}

/* What can be seen without the signer's key.  Returns the rule that is broken, or NULL. */
static const char *
shape_fault(CMS_ContentInfo *cms, GBytes *content, gint64 *ret_signed_ms)
{
    if (OBJ_obj2nid(CMS_get0_type(cms)) != NID_pkcs7_signed)
        return "cms-shape";
    STACK_OF(CMS_SignerInfo) *infos = CMS_get0_SignerInfos(cms);
    if (sk_CMS_SignerInfo_num(infos) != 1 || !content_fits(cms, content))
        return "cms-shape";
    CMS_SignerInfo *info = sk_CMS_SignerInfo_value(infos, 0);
    if (!attributes_are_there(cms, info, ret_signed_ms))
        return "cms-attributes";
    return digest_is_strong(info) ? NULL : "digest-strength";
}

/* The chain comes before the signature: nobody unknown has us compute with a key of their making.
 */
static gboolean
judge(Certificates *certificates, CMS_ContentInfo *cms, GBytes *content,
      const CertificateQuery *query, CmsSigner *ret_signer, const CertificateRule **ret_rule,
      GError **error)
{
    gint64 signed_ms = 0;
    g_autoptr(GPtrArray) chain = NULL;
    g_autoptr(Certificate) signer = NULL;
    const char *fault = shape_fault(cms, content, &signed_ms);
    if (fault != NULL)
        return certificate_refuse(fault, NULL, ret_rule, error);
    chain = chain_of_signer(cms);
    if (chain == NULL)
        return certificate_refuse("cms-shape", NULL, ret_rule, error);
    if (!certificates_check(certificates, chain, query, &signer, ret_rule, error))
        return FALSE;
    if (!signature_fits(cms, content))
        return certificate_refuse("cms-signature", NULL, ret_rule, error);
    ret_signer->signer = g_steal_pointer(&signer);
    ret_signer->signed_ms = signed_ms;
    return TRUE;
}

gboolean
cms_verify(Certificates *certificates, GBytes *cms, GBytes *content, const CertificateQuery *query,
           CmsSigner *ret_signer, const CertificateRule **ret_rule, GError **error)
{
    gsize length = 0;
    const unsigned char *start = g_bytes_get_data(cms, &length);
    const unsigned char *cursor = start;
    CMS_ContentInfo *info = NULL;
    if (length > 0 && length <= CMS_BYTES_MAX)
        info = d2i_CMS_ContentInfo(NULL, &cursor, (long)length);
    gboolean verified = info != NULL && cursor == start + length
                            ? judge(certificates, info, content, query, ret_signer, ret_rule, error)
                            : certificate_refuse("cms-shape", NULL, ret_rule, error);
    CMS_ContentInfo_free(info);
    ERR_clear_error();
    return verified;
}
