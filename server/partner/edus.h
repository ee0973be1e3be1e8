/* server/partner/edus.h: what a partner tells beside events: to-device messages, device lists,
 * typing, receipts. For server/partner/transaction.c. */
#pragma once

#include "identity/json.h"

typedef struct Server Server;

/* @error NULL: what must last is committed. */
typedef void (*PartnerEdusDone)(const GError *error, gpointer data);

/* Take the EDUs of one transaction of @origin (a JSON array or NULL; borrowed until @done).  A
 * partner speaks for its own users alone: anything else is passed over.  @done is called exactly
 * once: on the lane thread after the commit, or before this returns when there was nothing to
 * commit. */
void partner_edus_receive(Server *server, const char *origin, const cJSON *edus,
                          PartnerEdusDone done, gpointer data);
