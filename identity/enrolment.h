/* identity/enrolment.h: the binding of an account to one certificate, and its states.
 *
 * An enrolment is one statement with two CMS signatures by two different officers, and a state
 * under a MAC.  All of it is checked again at each log-in: a row that somebody wrote by hand makes
 * no account, and a state changed by hand re-instates nobody.
 *
 * For identity/ and server/certificate. */
#pragma once

#include "identity/certificate.h"
#include "identity/crl.h"
#include "identity/statement.h"
#include "storage/enrolment_store.h"

/* The first two are live: one each a user, certificate, key and person. */
typedef enum {
    ENROLMENT_ACTIVE = 1,
    ENROLMENT_SUSPENDED = 2,
    ENROLMENT_REPLACED = 3, /* by a newer enrolment of the same person */
    ENROLMENT_REVOKED = 4,  /* the binding is over */
} EnrolmentState;
const char *enrolment_state_name(gint64 state);

/* The whole of it: MAC, statement, both signatures as of the approval.  FALSE with a REFUSAL naming
 * the rule "statement" (or that of the signature). *ret_statement may be NULL. */
gboolean
enrolment_holds(Certificates *certificates, StoreConnection *connection, const EnrolmentRow *row,
                Statement **ret_statement, const CertificateRule **ret_rule, GError **error);
/* The MAC of the state alone. */
gboolean enrolment_state_holds(const Certificates *certificates, const EnrolmentRow *row);
GBytes *enrolment_mac(const Certificates *certificates, GBytes *digest, const char *user_id,
                      GBytes *certificate, gint64 approved_ms, gint64 state, gint64 changed_ms);

/* Gather the change of state. */
void enrolment_change(const Certificates *certificates, StoreWrites *writes,
                      const EnrolmentRow *row, EnrolmentState state, gint64 now_ms);

/* Live enrolments whose certificate, or whose issuing CA, is on @crl: EnrolmentRows. */
GPtrArray *enrolment_listed(Certificates *certificates, StoreConnection *connection, const Crl *crl,
                            GError **error);
