/* tests/openserver/accounts.h: accounts with passwords, for public test suites alone. */
#pragma once

#include "identity/certificate_proof.h"

/* Make the table; @server_name names the accounts' server from now on. */
gboolean accounts_open(StorePool *pool, const char *server_name, GError **error);

/* @name: a localpart or a whole user id.  Made anew, or NULL with a REFUSAL (400 M_USER_IN_USE,
 * M_INVALID_USERNAME). */
CertificateProof *accounts_register(StoreConnection *connection, const char *name,
                                    const char *password, GError **error);
CertificateProof *accounts_log_in(StoreConnection *connection, const char *name,
                                  const char *password, GError **error);
