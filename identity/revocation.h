/* identity/revocation.h: the clock that ends what must not go on.
 *
 * One thread, a turn every second.  In each turn: sessions past their end; sessions in memory
 * without a row; ends that could not be written before; and, when the audit log tells of an
 * officer's act or a CRL, of whatever process, or a minute has passed: every live session is asked
 * whether what made it still holds (admission_still_holds).  What was revoked can act for at most
 * REVOCATION_BOUND_MS.
 *
 * For server/serve.c and tests. */
#pragma once

#include "identity/audit.h"
#include "identity/session.h"

#define REVOCATION_BOUND_MS 5000
#define REVOCATION_TURN_MS 1000

typedef struct RevocationClock RevocationClock;

/* Borrows all; @audit (may be NULL) gets its ticks from here.  Starts the thread. */
RevocationClock *
revocation_clock_new(Sessions *sessions, StorePool *pool, Certificates *certificates, Audit *audit);
/* Ends the thread.  Before the lane stops. */
void revocation_clock_free(RevocationClock *clock);
