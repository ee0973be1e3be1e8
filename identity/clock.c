#include "identity/clock.h"

#include <time.h>

static gint64 shift_ms; /* atomic; 0 but in tests */
static gint64 step_ms;  /* of the wall clock alone; atomic; 0 but in tests */

static gint64
clock_read_ms(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (gint64)now.tv_sec * 1000 + now.tv_nsec / 1000000 +
           __atomic_load_n(&shift_ms, __ATOMIC_RELAXED);
}

gint64
clock_wall_ms(void)
{
    return clock_read_ms(CLOCK_REALTIME) + __atomic_load_n(&step_ms, __ATOMIC_RELAXED);
}

gint64
clock_interval_ms(void)
{
    return clock_read_ms(CLOCK_BOOTTIME);
}

void
clock_shift_for_tests(gint64 offset_ms)
{
    __atomic_store_n(&shift_ms, offset_ms, __ATOMIC_RELAXED);
}

void
clock_step_wall_for_tests(gint64 offset_ms)
{
    __atomic_store_n(&step_ms, offset_ms, __ATOMIC_RELAXED);
}
