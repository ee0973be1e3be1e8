/* server/identity_setup.h: what identity needs, from the configuration: the record key, and
 * what this server trusts for people.  For server/serve.c and the commands that run on the server
 * (found, check-chain, audit). */
#pragma once

#include "identity/certificate.h"
#include "server/config.h"

/* The key outside the database, in [server] state_directory. */
RecordKey *record_key_from_config(const Config *config, gboolean create, GError **error);
/* NULL without error when the configuration names no trust anchors: nobody can log in then. */
Certificates *
certificates_from_config(const Config *config, const RecordKey *record_key, GError **error);
/* The lists of [identity] crl_directory, for commands that have no database: each judged, none
 * remembered.  Lists that fail are told on standard error. */
gboolean crls_from_directory(Certificates *certificates, const char *directory, GError **error);
