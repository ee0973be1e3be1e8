/* identity/crl.h: certificate revocation lists: reading, judging, taking them in.
 *
 * A list comes in through crl_import(), whoever brought it (an officer over the certificate
 * listener, or the directory that the configuration names): signed by a CA that we know, complete
 * (no delta), not from the future, not expired, and its crlNumber never lower than the highest seen
 * of that issuer's key and distribution point. That floor is kept in the database, because an older
 * list that has not expired would accept a card revoked since.
 *
 * For identity/ and server/.  A Crl is immutable. */
#pragma once

#include "identity/certificate.h"
#include "storage/writes.h"

#define CRL_BYTES_MAX (64 * 1024 * 1024)

typedef struct Crl Crl;
Crl *
crl_from_bytes(GBytes *bytes, const CertificateRule **ret_rule, GError **error); /* PEM or DER */
Crl *crl_ref(const Crl *crl);
void crl_unref(Crl *crl);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Crl, crl_unref)

const char *crl_issuer_key(const Crl *crl); /* hex; "" until judged */
const char *crl_issuer(const Crl *crl);     /* the CA's name, for people to read */
const char *crl_scope(const Crl *crl);      /* hex SHA-256 of issuingDistributionPoint, or "" */
const char *crl_number(const Crl *crl);     /* 40 hex digits, so that text order is number order */
gint64 crl_this_update_ms(const Crl *crl);
gint64 crl_next_update_ms(const Crl *crl);
GBytes *crl_der(const Crl *crl);
gboolean crl_lists(const Crl *crl, const char *serial); /* hex, as certificate_serial() writes it */

/* Listed, but only as certificateHold: it may come back. */
gboolean crl_holds(const Crl *crl, const char *serial);

/* Signature by a CA that we know, and dates; no floor.  For crl_import() and commands that have no
 * database. */
Crl *crl_judge(Certificates *certificates, GBytes *bytes, const CertificateRule **ret_rule,
               GError **error);

/* Judge, compare with the floor, and gather the writes and the audit line of @actor.  *ret_crl NULL
 * (and nothing gathered) when that very list is in force already.  After the commit call
 * certificates_take_crl(). */
gboolean crl_import(Certificates *certificates, StoreConnection *connection, StoreWrites *writes,
                    GBytes *bytes, const char *actor, Crl **ret_crl,
                    const CertificateRule **ret_rule, GError **error);

/* At start: the lists that the database holds. */
gboolean crl_load(Certificates *certificates, StoreConnection *connection, GError **error);

/* Is that very list the one that checks use? */
gboolean certificates_has_crl(Certificates *certificates, const Crl *crl);
/* From now on checks use @crl in place of its predecessor. */
void certificates_take_crl(Certificates *certificates, const Crl *crl);
