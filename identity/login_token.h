/* identity/login_token.h: the loginToken that carries a proof from the certificate listener, where
 * the browser showed it, to POST /login on the client listener: 30 s, once, for one redirect
 * address.
 *
 * The row holds the certificates that were shown, under a MAC; redeeming judges them again, so the
 * proof is as fresh as if it had been shown there.
 *
 * For server/certificate/sso.c and server/client/login.c.  Thread-safe. */
#pragma once

#include "identity/certificate_proof.h"
#include "identity/session.h"

#define LOGIN_TOKEN_LIFE_MS ((gint64)30 * 1000)

/* @proof was just made from @chain_der (GPtrArray of GBytes).  The token's text, or NULL with a
 * STORE_ERROR.  Free with token_text_free(). */
char *
login_token_issue(Sessions *sessions, StoreConnection *connection, const CertificateProof *proof,
                  GPtrArray *chain_der, const char *redirect_url, GError **error);

/* Burns the token, right or wrong.  @origin: the request's Origin header, or NULL; a browser's must
 * be that of the redirect address.  NULL with a REFUSAL (403 M_FORBIDDEN and *ret_rule) or a
 * STORE_ERROR. */
CertificateProof *
login_token_redeem(Sessions *sessions, Certificates *certificates, StoreConnection *connection,
                   const char *token, const char *origin, const char **ret_rule, GError **error);

/* Is @url, to the byte, one of @allowed (https addresses); or, when @allowed has a loopback http
 * address, that address with any port?  No other scheme ever.  A fragment
 * (#…) does not count. */
gboolean redirect_url_is_allowed(const char *const *allowed, const char *url);
/* "https://host:port" of an address; NULL when it has none. */
char *redirect_url_origin(const char *url);
