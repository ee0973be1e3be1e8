/* server/rate_limit.h: token buckets by rate class and caller.
 * Bounded memory: when the table is full, buckets that have refilled leave first.  For the
 * dispatcher.  Thread-safe. */
#pragma once

#include "server/http/route.h"

typedef struct RateLimits RateLimits;

typedef struct {
    guint per_second; /* of requests, after … */
    guint burst;      /* … so many at once */
} RateLimit;

extern const RateLimit rate_limits_default[]; /* by RateClass */
#define RATE_KEYS_MAX 20000                   /* buckets at a time */

RateLimits *rate_limits_new(const RateLimit *limits);
void rate_limits_free(RateLimits *rates);
/* TRUE: go on.  FALSE: after *ret_retry_ms, and no sooner, the next passes, unless another takes
 * its place. */
gboolean rate_limits_take(RateLimits *rates, RateClass rate, const char *key, gint64 now_ms,
                          gint64 *ret_retry_ms);
