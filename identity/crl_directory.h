/* identity/crl_directory.h: revocation lists that somebody put into a folder (air gap, or a
 * fetcher's job). Each file goes through crl_import() like a list that an officer brings. For
 * server/. */
#pragma once

#include "identity/crl.h"

/* Take every *.crl file of @folder that is newer than what is in force.  One that is refused is
 * logged and passed over; FALSE only when the folder or the database cannot be read. */
gboolean crl_directory_import(Certificates *certificates, StorePool *pool, const char *folder,
                              guint *ret_taken, GError **error);
