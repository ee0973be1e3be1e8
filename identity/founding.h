/* identity/founding.h: the first two officers of an agency.
 *
 * The only identity act that runs on the server itself, with the record key at hand, and only while
 * no officer was ever named.  For server/command/found.c and tests. */
#pragma once

#include "identity/certificate.h"
#include "storage/writes.h"

/* Gather the two officers and their audit lines.  @first_der, @second_der: chains, leaf first.
 * FALSE with a REFUSAL when a certificate fails, both are one person's, or officers exist. */
gboolean
founding_gather(Certificates *certificates, StoreConnection *connection, StoreWrites *writes,
                GPtrArray *first_der, GPtrArray *second_der, GError **error);
