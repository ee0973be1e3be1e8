/* identity/uia.h: user-interactive authentication: one fresh proof for one request of one session.
 * (Client-server API, "User-Interactive Authentication API".)
 *
 * Handlers use server/client/uia.h; here are the rows and their rules.  Thread-safe. */
#pragma once

#include "identity/certificate_proof.h"
#include "identity/session.h"

#define UIA_LIFE_MS ((gint64)10 * 60 * 1000)
#define UIA_PER_SESSION_MAX 10 /* the oldest unfinished goes */

/* Stage of sessions that a signed challenge made; a browser's is m.login.sso. */
#define UIA_STAGE_CHALLENGE "chancery.certificate_challenge"
#define UIA_STAGE_SSO "m.login.sso"

/* The stage that a session of @kind is asked for; NULL: none of ours. */
const char *uia_stage(LoginKind kind);

/* @request_hash: SHA-256 of what is asked; the proof is good for that alone.  @what: the same for
 * people.  Free *ret_id. */
gboolean uia_begin(Sessions *sessions, StoreConnection *connection, const Session *session,
                   const char *what, GBytes *request_hash, char **ret_id, GError **error);

/* Has @id been proved, by this session's user, for this request?  Then it is spent: TRUE in
 * *ret_passed once.  FALSE as result: a STORE_ERROR. */
gboolean uia_spend(Sessions *sessions, StoreConnection *connection, const Session *session,
                   const char *id, GBytes *request_hash, gboolean *ret_passed, GError **error);
/* Is @id one of this session and request, still to be proved? */
gboolean uia_is_open(Sessions *sessions, StoreConnection *connection, const Session *session,
                     const char *id, GBytes *request_hash, gboolean *ret_open, GError **error);

/* For the page that asks: whose it is and what it is for; *ret_what NULL when it is not to be
 * confirmed any more. */
gboolean uia_describe(Sessions *sessions, StoreConnection *connection, const char *id,
                      char **ret_user_id, char **ret_what, GError **error);

/* From the certificate listener: @proof must be of the same person.  FALSE with a REFUSAL or
 * STORE_ERROR. */
gboolean uia_complete(Sessions *sessions, StoreConnection *connection, const char *id,
                      const CertificateProof *proof, GError **error);
