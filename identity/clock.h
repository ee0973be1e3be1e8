/* identity/clock.h: what time it is.  Wall clock for what people and partners see
 * (origin_server_ts, validity), CLOCK_BOOTTIME for intervals (it goes on in suspend).  Everything
 * above storage/ asks here, so tests can move time.  Thread-safe.  federation/room/ asks no clock:
 * it is handed times. */
#pragma once

#include <glib.h>

gint64 clock_wall_ms(void);     /* since 1970 */
gint64 clock_interval_ms(void); /* since boot; never goes back */

/* For tests and tests/openserver only: both clocks from now on run @offset_ms ahead. */
void clock_shift_for_tests(gint64 offset_ms);
/* For tests only: the wall clock alone runs @offset_ms ahead, as after a step. */
void clock_step_wall_for_tests(gint64 offset_ms);
