#include "identity/credential.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <string.h>

#include "identity/certificate_view.h"

struct Credential {
    Certificate *certificate;
    X509 *x509;
    EVP_PKEY *private_key;
    STACK_OF(X509) * chain; /* may be NULL */
};

/* What asks for the pass phrase, and what it said: a GError cannot pass through OpenSSL's
 * callbacks. */
typedef struct {
    const char *path;
    CredentialPassphrase passphrase;
    gpointer data;
    GError *error;
} Asking;

static void
set_error(GError **error, const char *path, const char *sentence)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: %s", path, sentence);
}

void
credential_free(Credential *credential)
{
    if (credential == NULL)
        return;
    certificate_unref(credential->certificate);
    X509_free(credential->x509);
    EVP_PKEY_free(credential->private_key);
    sk_X509_pop_free(credential->chain, X509_free);
    g_free(credential);
}

static char *
ask(Asking *asking)
{
    if (asking->error != NULL || asking->passphrase == NULL)
        return NULL;
    return asking->passphrase(asking->path, asking->data, &asking->error);
}

static void
wipe(char *secret)
{
    if (secret != NULL)
        OPENSSL_cleanse(secret, strlen(secret));
    g_free(secret);
}

static int
pem_passphrase(char *buffer, int size, int writing, void *data)
{
    char *secret = ask(data);
    gsize length = secret != NULL ? strlen(secret) : 0;
    int used = -1;
    if (secret != NULL && length <= (gsize)size) {
        memcpy(buffer, secret, length);
        used = (int)length;
    }
    wipe(secret);
    return used;
}

static gboolean
load_pkcs12(Credential *credential, PKCS12 *container, Asking *asking)
{
    char *secret = NULL;
    if (PKCS12_verify_mac(container, NULL, 0) != 1 && PKCS12_verify_mac(container, "", 0) != 1) {
        secret = ask(asking);
        if (secret == NULL)
            return FALSE;
    }
    gboolean read_whole = PKCS12_parse(container, secret, &credential->private_key,
                                       &credential->x509, &credential->chain) == 1;
    wipe(secret);
    return read_whole && credential->private_key != NULL && credential->x509 != NULL;
}

static EVP_PKEY *
load_pem_key(const char *bytes, gsize length, Asking *asking)
{
    BIO *memory = BIO_new_mem_buf(bytes, (int)length);
    EVP_PKEY *key =
        memory != NULL ? PEM_read_bio_PrivateKey(memory, NULL, pem_passphrase, asking) : NULL;
    BIO_free(memory);
    return key;
}

static gboolean
load_pem_certificates(Credential *credential, const char *bytes, gsize length)
{
    BIO *memory = BIO_new_mem_buf(bytes, (int)length);
    X509 *x509 = NULL;
    while (memory != NULL && (x509 = PEM_read_bio_X509(memory, NULL, NULL, NULL)) != NULL) {
        if (credential->x509 == NULL) {
            credential->x509 = x509;
            continue;
        }
        if (credential->chain == NULL)
            credential->chain = sk_X509_new_null();
        if (sk_X509_push(credential->chain, x509) <= 0)
            X509_free(x509);
    }
    BIO_free(memory);
    return credential->x509 != NULL;
}

static gboolean
load_pem(Credential *credential, const char *bytes, gsize length, const char *key_path,
         Asking *asking, GError **error)
{
    g_autofree char *key_bytes = NULL;
    gsize key_length = 0;
    if (!load_pem_certificates(credential, bytes, length)) {
        set_error(error, asking->path, "holds neither a PKCS#12 container nor a PEM certificate");
        return FALSE;
    }
    if (key_path == NULL) {
        credential->private_key = load_pem_key(bytes, length, asking);
        return TRUE;
    }
    if (!certificate_file_read(key_path, &key_bytes, &key_length, error))
        return FALSE;
    asking->path = key_path;
    credential->private_key = load_pem_key(key_bytes, key_length, asking);
    OPENSSL_cleanse(key_bytes, key_length);
    return TRUE;
}

static gboolean
load_bytes(Credential *credential, const char *bytes, gsize length, const char *key_path,
           Asking *asking, GError **error)
{
    const unsigned char *cursor = (const unsigned char *)bytes;
    PKCS12 *container = d2i_PKCS12(NULL, &cursor, (long)length);
    gboolean loaded = TRUE;
    if (container != NULL)
        (void)load_pkcs12(credential, container, asking);
    else
        loaded = load_pem(credential, bytes, length, key_path, asking, error);
    PKCS12_free(container);
    if (!loaded)
        return FALSE;
    if (asking->error != NULL) {
        g_propagate_error(error, g_steal_pointer(&asking->error));
        return FALSE;
    }
    if (credential->x509 == NULL || credential->private_key == NULL) {
        set_error(error, asking->path,
                  "the private key cannot be read: is the pass phrase right, and the key inside?");
        return FALSE;
    }
    return TRUE;
}

static gboolean
fill_certificate(Credential *credential, const char *path, GError **error)
{
    unsigned char *der = NULL;
    if (X509_check_private_key(credential->x509, credential->private_key) != 1) {
        set_error(error, path, "the private key is not that of the certificate");
        return FALSE;
    }
    int length = i2d_X509(credential->x509, &der);
    if (length > 0)
        credential->certificate = certificate_from_der(der, (gsize)length, error);
    OPENSSL_free(der);
    return credential->certificate != NULL;
}

Credential *
credential_load(const char *path, const char *key_path, CredentialPassphrase passphrase,
                gpointer data, GError **error)
{
    g_autofree char *bytes = NULL;
    gsize length = 0;
    Asking asking = {.path = path, .passphrase = passphrase, .data = data};
    g_autoptr(Credential) credential = g_new0(Credential, 1);
    if (!certificate_file_read(path, &bytes, &length, error))
        return NULL;
    gboolean loaded = load_bytes(credential, bytes, length, key_path, &asking, error) &&
                      fill_certificate(credential, path, error);
    OPENSSL_cleanse(bytes, length);
    g_clear_error(&asking.error);
    ERR_clear_error();
    return loaded ? g_steal_pointer(&credential) : NULL;
}

const Certificate *
credential_certificate(const Credential *credential)
{
    return credential->certificate;
}

X509 *
credential_x509(const Credential *credential)
{
    return credential->x509;
}

EVP_PKEY *
credential_private_key(const Credential *credential)
{
    return credential->private_key;
}

STACK_OF(X509) * credential_chain(const Credential *credential)
{
    return credential->chain;
}

char *
credential_pem(const Credential *credential, gsize *ret_length)
{
    /* Secure memory: the key never lies in a buffer that is freed unwiped. */
    BIO *memory = BIO_new(BIO_s_secmem());
    char *start = NULL;
    if (memory == NULL)
        return NULL;
    PEM_write_bio_X509(memory, credential->x509);
    for (int i = 0; i < sk_X509_num(credential->chain); i++)
        PEM_write_bio_X509(memory, sk_X509_value(credential->chain, i));
    PEM_write_bio_PrivateKey(memory, credential->private_key, NULL, NULL, 0, NULL, NULL);
    long length = BIO_get_mem_data(memory, &start);
    char *pem = length > 0 ? g_malloc((gsize)length + 1) : NULL;
    if (pem != NULL) {
        memcpy(pem, start, (gsize)length);
        pem[length] = '\0';
        *ret_length = (gsize)length;
    }
    BIO_free(memory);
    ERR_clear_error();
    return pem;
}

void
credential_pem_free(char *pem, gsize length)
{
    if (pem != NULL)
        OPENSSL_cleanse(pem, length);
    g_free(pem);
}
