/* identity/credential.h: a person's own certificate and private key, for the commands at an
 * officer's or official's desk.  Never used by a serving process.
 *
 * For server/command.  The private key is freed, and copies of it wiped, with the credential. */
#pragma once

#include "identity/certificate.h"

typedef struct Credential Credential;

/* Asked for the pass phrase only when the file needs one; returns a newly allocated string, wiped
 * and freed here, or NULL with @error. */
typedef char *(*CredentialPassphrase)(const char *path, gpointer data, GError **error);

/* @path: PKCS#12 (.p12, .pfx), or PEM with certificate, key and any chain. @key_path: the key when
 * it is in a file of its own, or NULL. */
Credential *credential_load(const char *path, const char *key_path, CredentialPassphrase passphrase,
                            gpointer data, GError **error);
void credential_free(Credential *credential);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Credential, credential_free)

const Certificate *credential_certificate(const Credential *credential);
X509 *credential_x509(const Credential *credential);            /* borrowed */
EVP_PKEY *credential_private_key(const Credential *credential); /* borrowed */
STACK_OF(X509) *
    credential_chain(const Credential *credential); /* borrowed, may be NULL: CAs above it */
/* Certificate, chain and unencrypted key as PEM, for libcurl's CURLOPT_SSLCERT_BLOB / SSLKEY_BLOB.
 * Free with credential_pem_free, which wipes. */
char *credential_pem(const Credential *credential, gsize *ret_length);
void credential_pem_free(char *pem, gsize length);
