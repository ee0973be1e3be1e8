#include "server/rate_limit.h"

#include "identity/seeded_hash.h"

/* Counted in thousandths of a request, so that what a millisecond gains is whole: what is told of
 * the wait is then exact. */
#define TOKEN G_GINT64_CONSTANT(1000)

typedef struct {
    gint64 tokens;
    gint64 at_ms;
    RateClass rate;
} Bucket;

struct RateLimits {
    GMutex lock;
    const RateLimit *limits;
    GHashTable *buckets; /* "class key" -> Bucket */
};

const RateLimit rate_limits_default[] = {
    [RATE_NONE] = {0, 0},    [RATE_LOGIN] = {1, 20}, [RATE_MESSAGE] = {20, 200},
    [RATE_INVITE] = {1, 50}, [RATE_KEYS] = {5, 50},
};

RateLimits *
rate_limits_new(const RateLimit *limits)
{
    RateLimits *rates = g_new0(RateLimits, 1);

    g_mutex_init(&rates->lock);
    rates->limits = limits;
    rates->buckets = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, g_free);
    return rates;
}

void
rate_limits_free(RateLimits *rates)
{
    if (rates == NULL)
        return;
    g_hash_table_unref(rates->buckets);
    g_mutex_clear(&rates->lock);
    g_free(rates);
}

static void
refill(Bucket *bucket, const RateLimit *limit, gint64 now_ms)
{
    gint64 passed_ms = MAX(0, now_ms - bucket->at_ms);

    bucket->tokens = MIN(limit->burst * TOKEN, bucket->tokens + passed_ms * limit->per_second);
    bucket->at_ms += passed_ms; /* a caller's clock may be read before another's: no time twice */
}

/* A bucket that is full again remembers nothing. */
static void
drop_full(RateLimits *rates, gint64 now_ms)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, rates->buckets);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Bucket *bucket = value;
        refill(bucket, &rates->limits[bucket->rate], now_ms);
        if (bucket->tokens >= rates->limits[bucket->rate].burst * TOKEN)
            g_hash_table_iter_remove(&iter);
    }
}

static Bucket *
find_bucket(RateLimits *rates, RateClass rate, const char *key, gint64 now_ms)
{
    g_autofree char *name = g_strdup_printf("%d %s", (int)rate, key);
    Bucket *bucket = g_hash_table_lookup(rates->buckets, name);

    if (bucket != NULL)
        return bucket;
    if (g_hash_table_size(rates->buckets) >= RATE_KEYS_MAX)
        drop_full(rates, now_ms);
    if (g_hash_table_size(rates->buckets) >= RATE_KEYS_MAX)
        return NULL;
    bucket = g_new0(Bucket, 1);
    *bucket = (Bucket){.tokens = rates->limits[rate].burst * TOKEN, .at_ms = now_ms, .rate = rate};
    g_hash_table_insert(rates->buckets, g_steal_pointer(&name), bucket);
    return bucket;
}

gboolean
rate_limits_take(RateLimits *rates, RateClass rate, const char *key, gint64 now_ms,
                 gint64 *ret_retry_ms)
{
    const RateLimit *limit = &rates->limits[rate];
    gboolean passed = FALSE;
    Bucket *bucket;

    if (rate == RATE_NONE)
        return TRUE;
    g_mutex_lock(&rates->lock);
    bucket = find_bucket(rates, rate, key, now_ms);
    if (bucket == NULL) {
        *ret_retry_ms = 1000; /* everybody at once: slow down all newcomers */
    } else {
        refill(bucket, limit, now_ms);
        passed = bucket->tokens >= TOKEN;
        if (passed)
            bucket->tokens -= TOKEN;
        else
            *ret_retry_ms = (TOKEN - bucket->tokens + limit->per_second - 1) / limit->per_second;
    }
    g_mutex_unlock(&rates->lock);
    return passed;
}
