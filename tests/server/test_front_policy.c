/* Rate limits and the access log: what is let through, and what is never written down. */
#include <string.h>

#include "server/access_log.h"
#include "server/rate_limit.h"

static const RateLimit limits[] = {
    [RATE_NONE] = {0, 0},   [RATE_LOGIN] = {1, 2}, [RATE_MESSAGE] = {10, 1},
    [RATE_INVITE] = {1, 1}, [RATE_KEYS] = {1, 1},
};

static void
test_a_burst_then_the_rate(void)
{
    RateLimits *rates = rate_limits_new(limits);
    gint64 retry_ms = 0;

    g_assert_true(rate_limits_take(rates, RATE_LOGIN, "a", 0, &retry_ms));
    g_assert_true(rate_limits_take(rates, RATE_LOGIN, "a", 0, &retry_ms));
    g_assert_false(rate_limits_take(rates, RATE_LOGIN, "a", 0, &retry_ms));
    /* The wait that is told is exact: with it over the next passes, a millisecond before not. */
    g_assert_cmpint(retry_ms, ==, 1000);
    g_assert_false(rate_limits_take(rates, RATE_LOGIN, "a", 999, &retry_ms));
    g_assert_cmpint(retry_ms, ==, 1);
    g_assert_true(rate_limits_take(rates, RATE_LOGIN, "a", 1000, &retry_ms));
    rate_limits_free(rates);
}

/* However many times a bucket was looked at meanwhile, and whatever the rate. */
static void
test_the_wait_told_is_exact(void)
{
    static const RateLimit odd[] = {[RATE_LOGIN] = {1, 3}, [RATE_MESSAGE] = {7, 3}};
    RateLimits *rates = rate_limits_new(odd);
    gint64 retry_ms = 0;
    gint64 now_ms = 0;

    for (guint i = 0; i < 1000; i++) {
        RateClass rate = i % 2 == 0 ? RATE_LOGIN : RATE_MESSAGE;
        while (rate_limits_take(rates, rate, "a", now_ms, &retry_ms))
            now_ms += i % 13;
        g_assert_cmpint(retry_ms, >=, 1);
        g_assert_cmpint(retry_ms, <=, 1000);
        now_ms += retry_ms;
        g_assert_false(rate_limits_take(rates, rate, "a", now_ms - 1, &retry_ms));
        g_assert_cmpint(retry_ms, ==, 1);
        g_assert_true(rate_limits_take(rates, rate, "a", now_ms, &retry_ms));
    }
    rate_limits_free(rates);
}

static void
test_callers_and_classes_are_apart(void)
{
    RateLimits *rates = rate_limits_new(limits);
    gint64 retry_ms = 0;

    g_assert_true(rate_limits_take(rates, RATE_INVITE, "a", 0, &retry_ms));
    g_assert_false(rate_limits_take(rates, RATE_INVITE, "a", 0, &retry_ms));
    g_assert_true(rate_limits_take(rates, RATE_INVITE, "b", 0, &retry_ms));
    g_assert_true(rate_limits_take(rates, RATE_KEYS, "a", 0, &retry_ms));
    for (guint i = 0; i < 100; i++)
        g_assert_true(rate_limits_take(rates, RATE_NONE, "a", 0, &retry_ms));
    rate_limits_free(rates);
}

/* A clock that goes back gives nothing, nor does the same time again. */
static void
test_time_that_goes_back_refills_nothing(void)
{
    RateLimits *rates = rate_limits_new(limits);
    gint64 retry_ms = 0;

    g_assert_true(rate_limits_take(rates, RATE_INVITE, "a", 5000, &retry_ms));
    g_assert_false(rate_limits_take(rates, RATE_INVITE, "a", 1000, &retry_ms));
    g_assert_false(rate_limits_take(rates, RATE_INVITE, "a", 5000, &retry_ms));
    rate_limits_free(rates);
}

static void
test_the_table_is_bounded(void)
{
    RateLimits *rates = rate_limits_new(limits);
    gint64 retry_ms = 0;

    for (guint i = 0; i < RATE_KEYS_MAX; i++) {
        g_autofree char *key = g_strdup_printf("%u", i);
        g_assert_true(rate_limits_take(rates, RATE_INVITE, key, 0, &retry_ms));
    }
    /* Nobody has refilled: a newcomer waits. Later the refilled ones make room. */
    g_assert_false(rate_limits_take(rates, RATE_INVITE, "newcomer", 0, &retry_ms));
    g_assert_cmpint(retry_ms, >, 0);
    g_assert_true(rate_limits_take(rates, RATE_INVITE, "newcomer", 2000, &retry_ms));
    rate_limits_free(rates);
}

static void
test_a_line_says_what_it_may(void)
{
    AccessLine line = {.listener = "client",
                       .method = "GET",
                       .route = "/_matrix/client/v3/sync",
                       .caller = "@alice:a",
                       .status = 200,
                       .body_bytes = 12,
                       .took_us = 1500};
    g_autofree char *text = access_log_format(&line);

    g_assert_cmpstr(text, ==, "client GET /_matrix/client/v3/sync 200 12 bytes 1.500 ms @alice:a");
}

/* What a stranger writes must not become lines of ours. */
static void
test_a_line_stays_one_line(void)
{
    AccessLine line = {.listener = "client",
                       .method = "GET\n2026 access client POST /forged",
                       .caller = "@a\nb:\x1b[2J",
                       .status = 404};
    g_autofree char *text = access_log_format(&line);

    g_assert_null(strchr(text, '\n'));
    g_assert_null(strchr(text, '\x1b'));
    g_assert_null(strstr(text, "forged"));
    g_assert_nonnull(strstr(text, "(no such route)"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rates/burst", test_a_burst_then_the_rate);
    g_test_add_func("/rates/wait", test_the_wait_told_is_exact);
    g_test_add_func("/rates/apart", test_callers_and_classes_are_apart);
    g_test_add_func("/rates/back", test_time_that_goes_back_refills_nothing);
    g_test_add_func("/rates/bounded", test_the_table_is_bounded);
    g_test_add_func("/access-log/line", test_a_line_says_what_it_may);
    g_test_add_func("/access-log/one-line", test_a_line_stays_one_line);
    return g_test_run();
}
