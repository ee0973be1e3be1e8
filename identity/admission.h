/* identity/admission.h: which ways of logging in exist.
 *
 * Two definitions, chosen when the program is linked: identity/admission.c in chancery, which knows
 * certificates alone; tests/openserver/admission.c in the binary for public test suites, which
 * knows passwords and open registration.  No flag, callback or configuration key elsewhere widens
 * admission, and the shipped binary holds none of the other code.
 *
 * For server/client (log-in, registration and user-interactive handlers) and identity/. */
#pragma once

#include <cjson/cJSON.h>

#include "identity/certificate_proof.h"

/* The m.login types that GET /login lists, NULL-terminated.  m.login.token is among them because it
 * redeems what the certificate listener gave out. */
const char *const *admission_login_types(void);

/* POST /login with a type other than m.login.token: a proof, or NULL with a REFUSAL that says how
 * to log in here.  @connection may be used for look-ups; nothing is written. */
CertificateProof *admission_login(Certificates *certificates, StoreConnection *connection,
                                  const cJSON *body, GError **error);

/* May accounts come to be by POST /register?  FALSE here: officers enrol people. */
gboolean admission_registration_is_open(void);
/* POST /register: makes the account and answers a proof for it.  Refused here. */
CertificateProof *admission_register(Certificates *certificates, StoreConnection *connection,
                                     const cJSON *body, GError **error);

/* The user-interactive stage, beside those of certificate sessions, that this program takes; NULL
 * here. */
const char *admission_interactive_stage(void);
gboolean admission_interactive_check(StoreConnection *connection, const char *user_id,
                                     const cJSON *auth, GError **error);

/* Does what made this session still hold?  Asked by the revocation clock (certificate_binding_holds
 * here). */
gboolean
admission_still_holds(Certificates *certificates, StoreConnection *connection, const char *user_id,
                      GBytes *certificate_sha256, gint64 now_ms, GError **error);
