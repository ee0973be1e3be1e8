/* What this server trusts for people: anchors, issuing CAs, CRLs; see identity/certificate.h. */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "identity/certificate.h"
#include "identity/certificate_view.h"
#include "identity/crl.h"
#include "identity/crl_view.h"

#define TOLERANCE_MS ((gint64)60 * 1000)

struct CertificatesView {
    gint references; /* atomic */
    X509_STORE *store;
    GPtrArray *crls; /* of Crl: one an issuer's key and scope */
};

struct Certificates {
    char *server_name;
    char *agency;
    char **policies;
    const RecordKey *record_key; /* borrowed */
    gint64 crl_login_age_ms;
    gint64 crl_session_age_ms;
    STACK_OF(X509) * anchors;
    STACK_OF(X509) * issuers;
    char **issuer_keys; /* of issuers */
    GMutex lock;        /* guards view */
    CertificatesView *view;
};

/* ---- views ---- */

static CertificatesView *
view_new(const Certificates *certificates, GPtrArray *crls)
{
    CertificatesView *view = g_new0(CertificatesView, 1);
    view->references = 1;
    view->store = X509_STORE_new();
    view->crls = g_ptr_array_ref(crls);
    for (int i = 0; i < sk_X509_num(certificates->anchors); i++)
        X509_STORE_add_cert(view->store, sk_X509_value(certificates->anchors, i));
    for (guint i = 0; i < crls->len; i++)
        X509_STORE_add_crl(view->store, crl_x509(g_ptr_array_index(crls, i)));
    return view;
}

CertificatesView *
certificates_view(Certificates *certificates)
{
    g_mutex_lock(&certificates->lock);
    CertificatesView *view = certificates->view;
    g_atomic_int_inc(&view->references);
    g_mutex_unlock(&certificates->lock);
    return view;
}

void
certificates_view_unref(CertificatesView *view)
{
    if (view == NULL || !g_atomic_int_dec_and_test(&view->references))
        return;
    X509_STORE_free(view->store);
    g_ptr_array_unref(view->crls);
    g_free(view);
}

X509_STORE *
certificates_view_store(CertificatesView *view)
{
    return view->store;
}

gboolean
certificates_view_revoked_before(CertificatesView *view, STACK_OF(X509) * path, gint64 at_ms)
{
    for (int depth = 0; depth + 1 < sk_X509_num(path); depth++) {
        g_autofree char *issuer_key = certificate_key_sha256(sk_X509_value(path, depth + 1));
        for (guint i = 0; i < view->crls->len; i++) {
            const Crl *crl = g_ptr_array_index(view->crls, i);
            if (strcmp(crl_issuer_key(crl), issuer_key) == 0 &&
                crl_revoked_before(crl, X509_get0_serialNumber(sk_X509_value(path, depth)), at_ms))
                return TRUE;
        }
    }
    return FALSE;
}

gboolean
certificates_view_crl_is_young(CertificatesView *view, const char *issuer_key, gint64 oldest_ms)
{
    gboolean found = FALSE;
    for (guint i = 0; i < view->crls->len; i++) {
        const Crl *crl = g_ptr_array_index(view->crls, i);
        if (strcmp(crl_issuer_key(crl), issuer_key) != 0)
            continue;
        if (crl_this_update_ms(crl) < oldest_ms)
            return FALSE;
        found = TRUE;
    }
    return found;
}

gboolean
certificates_has_crl(Certificates *certificates, const Crl *crl)
{
    g_autoptr(CertificatesView) view = certificates_view(certificates);
    for (guint i = 0; i < view->crls->len; i++)
        if (g_bytes_equal(crl_der(g_ptr_array_index(view->crls, i)), crl_der(crl)))
            return TRUE;
    return FALSE;
}

void
certificates_take_crl(Certificates *certificates, const Crl *crl)
{
    g_autoptr(GPtrArray) crls = g_ptr_array_new_with_free_func((GDestroyNotify)crl_unref);
    CertificatesView *before = NULL;

    g_mutex_lock(&certificates->lock);
    before = certificates->view;
    for (guint i = 0; i < before->crls->len; i++) {
        const Crl *other = g_ptr_array_index(before->crls, i);
        if (strcmp(crl_issuer_key(other), crl_issuer_key(crl)) != 0 ||
            strcmp(crl_scope(other), crl_scope(crl)) != 0)
            g_ptr_array_add(crls, crl_ref(other));
    }
    g_ptr_array_add(crls, crl_ref(crl));
    certificates->view = view_new(certificates, crls);
    g_mutex_unlock(&certificates->lock);
    certificates_view_unref(before);
}

gboolean
certificates_authority_is_on(const Certificates *certificates, const char *issuer_key,
                             const Crl *crl)
{
    for (int i = 0; i < sk_X509_num(certificates->issuers); i++) {
        X509 *authority = sk_X509_value(certificates->issuers, i);
        if (strcmp(certificates->issuer_keys[i], issuer_key) != 0 ||
            X509_NAME_cmp(X509_get_issuer_name(authority), X509_CRL_get_issuer(crl_x509(crl))) != 0)
            continue;
        g_autofree char *serial = certificate_serial_hex(X509_get0_serialNumber(authority));
        if (serial == NULL || crl_lists(crl, serial))
            return TRUE;
    }
    return FALSE;
}

gboolean
certificates_sessions_may_live(Certificates *certificates, const char *issuer_key, gint64 now_ms)
{
    g_autoptr(CertificatesView) view = certificates_view(certificates);
    gint64 oldest_ms = now_ms - certificates->crl_session_age_ms - TOLERANCE_MS;
    if (!certificates_view_crl_is_young(view, issuer_key, oldest_ms))
        return FALSE;
    for (guint i = 0; i < view->crls->len; i++) {
        const Crl *crl = g_ptr_array_index(view->crls, i);
        if (strcmp(crl_issuer_key(crl), issuer_key) == 0 &&
            crl_next_update_ms(crl) < now_ms - TOLERANCE_MS)
            return FALSE;
        if (certificates_authority_is_on(certificates, issuer_key, crl))
            return FALSE;
    }
    return TRUE;
}

gboolean
certificates_is_revoked(Certificates *certificates, const char *issuer_key, const char *serial)
{
    g_autoptr(CertificatesView) view = certificates_view(certificates);
    for (guint i = 0; i < view->crls->len; i++) {
        const Crl *crl = g_ptr_array_index(view->crls, i);
        if (strcmp(crl_issuer_key(crl), issuer_key) == 0 && crl_lists(crl, serial))
            return TRUE;
    }
    return FALSE;
}

gboolean
certificates_is_held(Certificates *certificates, const char *issuer_key, const char *serial)
{
    g_autoptr(CertificatesView) view = certificates_view(certificates);
    gboolean held = FALSE;
    for (guint i = 0; i < view->crls->len; i++) {
        const Crl *crl = g_ptr_array_index(view->crls, i);
        if (strcmp(crl_issuer_key(crl), issuer_key) != 0 || !crl_lists(crl, serial))
            continue;
        if (!crl_holds(crl, serial))
            return FALSE;
        held = TRUE;
    }
    return held;
}

gboolean
certificates_authority_is_revoked(Certificates *certificates, const char *issuer_key)
{
    g_autoptr(CertificatesView) view = certificates_view(certificates);
    for (guint i = 0; i < view->crls->len; i++)
        if (certificates_authority_is_on(certificates, issuer_key,
                                         g_ptr_array_index(view->crls, i)))
            return TRUE;
    return FALSE;
}

/* ---- from the configuration ---- */

static STACK_OF(X509) * load_authorities(const char *path, const char *what, GError **error)
{
    g_autofree char *bytes = NULL;
    gsize length = 0;
    if (!certificate_file_read(path, &bytes, &length, error))
        return NULL;
    g_autoptr(GPtrArray) chain = certificate_chain_from_bytes(bytes, length);
    STACK_OF(X509) *stack = sk_X509_new_null();
    for (guint i = 0; i < chain->len; i++) {
        gsize der_length = 0;
        const unsigned char *der = g_bytes_get_data(g_ptr_array_index(chain, i), &der_length);
        X509 *x509 = d2i_X509(NULL, &der, (long)der_length);
        if (x509 == NULL || X509_check_ca(x509) == 0 || sk_X509_push(stack, x509) <= 0) {
            X509_free(x509);
            sk_X509_pop_free(stack, X509_free);
            ERR_clear_error();
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "%s: certificate %u is not that of a CA; %s wants CA certificates only",
                        path, i + 1, what);
            return NULL;
        }
    }
    return stack;
}

static gboolean
load_files(Certificates *certificates, const CertificatesSettings *settings, GError **error)
{
    certificates->anchors =
        load_authorities(settings->anchors_file, "the list of trust anchors", error);
    certificates->issuers =
        certificates->anchors != NULL
            ? load_authorities(settings->issuers_file, "the list of issuers", error)
            : NULL;
    if (certificates->issuers == NULL)
        return FALSE;
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    for (int i = 0; i < sk_X509_num(certificates->issuers); i++)
        g_ptr_array_add(keys, certificate_key_sha256(sk_X509_value(certificates->issuers, i)));
    g_ptr_array_add(keys, NULL);
    certificates->issuer_keys = (char **)g_ptr_array_steal(keys, NULL);
    return TRUE;
}

Certificates *
certificates_new(const CertificatesSettings *settings, const RecordKey *record_key, GError **error)
{
    g_autoptr(Certificates) certificates = g_new0(Certificates, 1);
    g_autoptr(GPtrArray) crls = g_ptr_array_new_with_free_func((GDestroyNotify)crl_unref);

    g_mutex_init(&certificates->lock);
    certificates->server_name = g_strdup(settings->server_name);
    certificates->agency = g_strdup(settings->agency != NULL ? settings->agency : "");
    certificates->policies = g_strdupv((char **)settings->policies);
    certificates->record_key = record_key;
    certificates->crl_login_age_ms =
        settings->crl_login_age_ms > 0 ? settings->crl_login_age_ms : CERTIFICATES_CRL_LOGIN_AGE_MS;
    certificates->crl_session_age_ms = settings->crl_session_age_ms > 0
                                           ? settings->crl_session_age_ms
                                           : CERTIFICATES_CRL_SESSION_AGE_MS;
    if (certificates->policies == NULL || certificates->policies[0] == NULL) {
        g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                            "no certificate policy is accepted: name at least one OID");
        return NULL;
    }
    for (char **policy = certificates->policies; *policy != NULL; policy++) {
        ASN1_OBJECT *object = OBJ_txt2obj(*policy, 1);
        ASN1_OBJECT_free(object);
        if (object == NULL) {
            ERR_clear_error();
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "%s is not a policy OID in dotted decimal form", *policy);
            return NULL;
        }
    }
    if (!load_files(certificates, settings, error))
        return NULL;
    certificates->view = view_new(certificates, crls);
    return g_steal_pointer(&certificates);
}

void
certificates_free(Certificates *certificates)
{
    if (certificates == NULL)
        return;
    certificates_view_unref(certificates->view);
    sk_X509_pop_free(certificates->anchors, X509_free);
    sk_X509_pop_free(certificates->issuers, X509_free);
    g_strfreev(certificates->issuer_keys);
    g_strfreev(certificates->policies);
    g_mutex_clear(&certificates->lock);
    g_free(certificates->server_name);
    g_free(certificates->agency);
    g_free(certificates);
}

const char *
certificates_server_name(const Certificates *certificates)
{
    return certificates->server_name;
}

const char *
certificates_agency(const Certificates *certificates)
{
    return certificates->agency;
}

const char *const *
certificates_policies(const Certificates *certificates)
{
    return (const char *const *)certificates->policies;
}

const RecordKey *
certificates_record_key(const Certificates *certificates)
{
    return certificates->record_key;
}

const char *const *
certificates_issuers(const Certificates *certificates)
{
    return (const char *const *)certificates->issuer_keys;
}

gint64
certificates_crl_login_age_ms(const Certificates *certificates)
{
    return certificates->crl_login_age_ms;
}

void
certificates_push_issuers(const Certificates *certificates, STACK_OF(X509) * stack)
{
    for (int i = 0; i < sk_X509_num(certificates->issuers); i++) {
        X509 *issuer = sk_X509_value(certificates->issuers, i);
        if (sk_X509_push(stack, issuer) > 0)
            X509_up_ref(issuer);
    }
}

static X509 *
signer_among(STACK_OF(X509) * authorities, X509_CRL *crl, gboolean *ret_named)
{
    for (int i = 0; i < sk_X509_num(authorities); i++) {
        X509 *authority = sk_X509_value(authorities, i);
        if (X509_NAME_cmp(X509_get_subject_name(authority), X509_CRL_get_issuer(crl)) != 0)
            continue;
        *ret_named = TRUE;
        guint32 usage = X509_get_key_usage(authority);
        if ((usage & KU_CRL_SIGN) != 0 && X509_CRL_verify(crl, X509_get0_pubkey(authority)) == 1)
            return authority;
    }
    return NULL;
}

X509 *
certificates_signer_of_crl(const Certificates *certificates, X509_CRL *crl, gboolean *ret_named)
{
    *ret_named = FALSE;
    X509 *signer = signer_among(certificates->issuers, crl, ret_named);
    if (signer == NULL)
        signer = signer_among(certificates->anchors, crl, ret_named);
    ERR_clear_error();
    return signer;
}
