#include "identity/clock_rule.h"

#include <stdlib.h>

#include "identity/clock.h"
#include "identity/refusal.h"
#include "storage/audit_store.h"

/* The Makefile hands in the time of the build. */
#ifndef CHANCERY_BUILD_SECONDS
#define CHANCERY_BUILD_SECONDS 1767225600 /* 2026-01-01, older than any build */
#endif

#define TOLERANCE_MS ((gint64)60 * 1000)

static gint64 offset_at_start_ms; /* wall clock less interval clock */
static gint started;              /* atomic */

gint64
clock_rule_build_ms(void)
{
    return (gint64)CHANCERY_BUILD_SECONDS * 1000;
}

static char *
time_text(gint64 time_ms)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(time_ms / 1000);
    return time != NULL ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ") : g_strdup("?");
}

static gboolean
refuse(gint64 now_ms, gint64 bound_ms, const char *what, GError **error)
{
    g_autofree char *now = time_text(now_ms);
    g_autofree char *bound = time_text(bound_ms);
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                "the clock says %s, which is before %s (%s): set the clock right and start again",
                now, what, bound);
    return FALSE;
}

gboolean
clock_rule_check_start(StoreConnection *connection, GError **error)
{
    gint64 now_ms = clock_wall_ms();
    gint64 newest_ms = 0;
    if (now_ms < clock_rule_build_ms())
        return refuse(now_ms, clock_rule_build_ms(), "this program was built", error);
    if (!audit_store_newest_ms(connection, &newest_ms, error))
        return FALSE;
    if (now_ms < newest_ms - TOLERANCE_MS)
        return refuse(now_ms, newest_ms, "the newest line of the audit log", error);
    offset_at_start_ms = now_ms - clock_interval_ms();
    g_atomic_int_set(&started, 1);
    return TRUE;
}

gboolean
clock_rule_check_step(GError **error)
{
    if (!g_atomic_int_get(&started))
        return TRUE; /* tests that never start a server have no start to compare with */
    gint64 step_ms = clock_wall_ms() - clock_interval_ms() - offset_at_start_ms;
    if (llabs(step_ms) <= CLOCK_RULE_STEP_MAX_MS)
        return TRUE;
    refusal_set(error, 503, "M_UNKNOWN",
                "This server's clock was moved by %" G_GINT64_FORMAT
                " s while it ran, so log-ins are frozen: an administrator has to set the clock "
                "right and start the server again.",
                step_ms / 1000);
    return FALSE;
}
