#include "identity/revocation.h"

#include <string.h>

#include "identity/admission.h"
#include "identity/clock.h"
#include "identity/clock_rule.h"
#include "identity/refusal.h"
#include "storage/audit_store.h"
#include "storage/login_token_store.h"
#include "storage/session_store.h"
#include "storage/uia_store.h"

enum {
    PAGE_ROWS = 500,
    SWEEP_MS = 60 * 1000, /* every live session is asked at least this often */
    HOUSE_MS = 60 * 1000, /* expired rows go, last_seen is written */
};

struct RevocationClock {
    Sessions *sessions;
    StorePool *pool;
    Certificates *certificates;
    Audit *audit;
    GThread *thread;
    GMutex lock;
    GCond bell;
    gboolean stop; /* under the lock */
    gboolean rung; /* under the lock */
    /* the thread's own */
    gboolean seq_known;
    gint64 seq; /* of the newest audit line that was looked at */
    gboolean sweep_due;
    gint64 swept_ms;
    gint64 housed_ms;
    gboolean ill; /* the last turn failed: say so once */
};

/* Lines that change nothing about whether other sessions hold. */
static const char *const quiet_types[] = {"login",          "logout",         "session_end",
                                          "device_removed", "device_renamed", "partner_refused"};

/* ---- the sweep ---- */

/* Nobody did anything wrong where time alone passed, and a hold may be lifted: the clients keep
 * their keys. */
static gboolean
ended_by_time(const GError *refusal)
{
    return refusal != NULL && (strstr(refusal->message, "rule expired ") != NULL ||
                               strstr(refusal->message, "rule held ") != NULL ||
                               strstr(refusal->message, "rule crl-age ") != NULL);
}

/* Does it hold?  *ret_end when not.  A failure of the database is @error. */
static gboolean
judge(RevocationClock *clock, StoreConnection *connection, const SessionBrief *brief, gint64 now_ms,
      gboolean *ret_holds, SessionEnd *ret_end, GError **error)
{
    g_autoptr(GError) problem = NULL;

    *ret_holds = admission_still_holds(clock->certificates, connection, brief->user_id,
                                       brief->certificate, now_ms, &problem);
    *ret_end = ended_by_time(problem) ? SESSION_END_EXPIRED : SESSION_END_COMPROMISE;
    if (*ret_holds || problem == NULL || problem->domain == REFUSAL)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&problem));
    return FALSE;
}

static gboolean
same_binding(const SessionBrief *a, const SessionBrief *b)
{
    return a != NULL && strcmp(a->user_id, b->user_id) == 0 &&
           g_bytes_equal(a->certificate, b->certificate);
}

/* Pages are in the order of users, so each binding is asked once. */
static gboolean
sweep_page(RevocationClock *clock, StoreConnection *connection, GPtrArray *page, gint64 now_ms,
           GError **error)
{
    const SessionBrief *asked = NULL;
    SessionEnd end = SESSION_END_COMPROMISE;
    gboolean holds = TRUE;

    for (guint i = 0; i < page->len; i++) {
        const SessionBrief *brief = g_ptr_array_index(page, i);
        if (!same_binding(asked, brief) &&
            !judge(clock, connection, brief, now_ms, &holds, &end, error))
            return FALSE;
        asked = brief;
        if (!holds)
            sessions_kill_for_device(clock->sessions, brief->user_id, brief->device_id, end,
                                     end == SESSION_END_EXPIRED ? "binding-expired"
                                                                : "binding-ended");
    }
    return TRUE;
}

static gboolean
sweep(RevocationClock *clock, StoreConnection *connection, gint64 now_ms, GError **error)
{
    g_autofree char *user_id = g_strdup("");
    g_autofree char *device_id = g_strdup("");

    for (;;) {
        g_autoptr(GPtrArray) page =
            session_store_live(connection, now_ms, user_id, device_id, PAGE_ROWS, error);
        if (page == NULL || !sweep_page(clock, connection, page, now_ms, error))
            return FALSE;
        if (page->len < PAGE_ROWS)
            return TRUE;
        const SessionBrief *last = g_ptr_array_index(page, page->len - 1);
        g_free(user_id);
        g_free(device_id);
        user_id = g_strdup(last->user_id);
        device_id = g_strdup(last->device_id);
    }
}

/* Has anything been decided since the last turn?  The head is read before the sweep that follows,
 * so an act that commits in between is seen by the next turn. */
static gboolean
look_for_news(RevocationClock *clock, StoreConnection *connection, GError **error)
{
    gboolean news = FALSE;

    if (!clock->seq_known) {
        if (!audit_store_head(connection, &clock->seq, error))
            return FALSE;
        clock->seq_known = TRUE;
        clock->sweep_due = TRUE; /* what happened while no process ran */
        return TRUE;
    }
    if (!audit_store_news(connection, &clock->seq, quiet_types, G_N_ELEMENTS(quiet_types), &news,
                          error))
        return FALSE;
    clock->sweep_due = clock->sweep_due || news;
    return TRUE;
}

/* ---- a turn ---- */

static gboolean
keep_house(RevocationClock *clock, StoreConnection *connection, gint64 now_ms, GError **error)
{
    return sessions_write_seen(clock->sessions, connection, error) &&
           login_token_store_sweep(connection, now_ms, error) &&
           uia_store_sweep(connection, now_ms, error);
}

static gboolean
turn(RevocationClock *clock, gboolean rung, GError **error)
{
    gint64 now_ms = clock_wall_ms(), interval_ms = clock_interval_ms();

    clock_rule_check_step(NULL); /* remembers a step, and log-ins freeze */
    sessions_expire(clock->sessions, now_ms);
    if (clock->audit != NULL)
        audit_tick(clock->audit);
    g_autoptr(StoreConnection) connection = store_borrow(clock->pool, error);
    if (connection == NULL)
        return FALSE;
    sessions_finish_kills(clock->sessions);
    if (!look_for_news(clock, connection, error) ||
        !sessions_compare_rows(clock->sessions, connection, error))
        return FALSE;
    if (rung || interval_ms - clock->swept_ms >= SWEEP_MS)
        clock->sweep_due = TRUE;
    if (clock->sweep_due) {
        if (!sweep(clock, connection, now_ms, error))
            return FALSE; /* still due */
        clock->sweep_due = FALSE;
        clock->swept_ms = interval_ms;
    }
    if (interval_ms - clock->housed_ms >= HOUSE_MS) {
        clock->housed_ms = interval_ms;
        return keep_house(clock, connection, now_ms, error);
    }
    return TRUE;
}

static gpointer
run(gpointer data)
{
    RevocationClock *clock = data;

    g_mutex_lock(&clock->lock);
    while (!clock->stop) {
        g_autoptr(GError) error = NULL;
        gboolean rung = clock->rung;
        clock->rung = FALSE;
        g_mutex_unlock(&clock->lock);
        gboolean well = turn(clock, rung, &error);
        if (!well && !clock->ill)
            g_warning("revocation clock: %s", error->message);
        clock->ill = !well;
        g_mutex_lock(&clock->lock);
        clock->rung = clock->rung || (rung && !well);
        gint64 until = g_get_monotonic_time() + REVOCATION_TURN_MS * G_TIME_SPAN_MILLISECOND;
        while (!clock->stop && (!clock->rung || !well) &&
               g_cond_wait_until(&clock->bell, &clock->lock, until))
            continue;
    }
    g_mutex_unlock(&clock->lock);
    return NULL;
}

RevocationClock *
revocation_clock_new(Sessions *sessions, StorePool *pool, Certificates *certificates, Audit *audit)
{
    RevocationClock *clock = g_new0(RevocationClock, 1);
    clock->sessions = sessions;
    clock->pool = pool;
    clock->certificates = certificates;
    clock->audit = audit;
    clock->housed_ms = clock_interval_ms();
    g_mutex_init(&clock->lock);
    g_cond_init(&clock->bell);
    clock->thread = g_thread_new("revocation", run, clock);
    return clock;
}

void
revocation_clock_free(RevocationClock *clock)
{
    if (clock == NULL)
        return;
    g_mutex_lock(&clock->lock);
    clock->stop = TRUE;
    g_cond_signal(&clock->bell);
    g_mutex_unlock(&clock->lock);
    g_thread_join(clock->thread);
    g_mutex_clear(&clock->lock);
    g_cond_clear(&clock->bell);
    g_free(clock);
}
