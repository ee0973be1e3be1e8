/* identity/clock_rule.h: a clock that was set back must not bring back what has ended.
 *
 * At start the wall clock must not be before the build or the newest audit line.  While serving, a
 * step of the wall clock against CLOCK_BOOTTIME of more than 120 s freezes log-ins until the server
 * is started again.
 *
 * For server/serve.c and the log-in handlers.  Thread-safe. */
#pragma once

#include "storage/store.h"

#define CLOCK_RULE_STEP_MAX_MS ((gint64)120 * 1000)

gint64 clock_rule_build_ms(void); /* when this program was built */
/* FALSE with an error that says both times.  Remembers where the clocks stand for
 * clock_rule_check_step(). */
gboolean clock_rule_check_start(StoreConnection *connection, GError **error);
/* Called by log-ins: FALSE with a REFUSAL (503 M_UNKNOWN) once the wall clock has stepped too far.
 */
gboolean clock_rule_check_step(GError **error);
