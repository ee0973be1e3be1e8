/* tests/bench/load.c: the load of `make bench`.
 *
 *   load send URL TOKEN SENDERS SECONDS ROOM...     acknowledged PUT /send, each sender one at a
 * time load fanout URL TOKEN ROUNDS ROOM SYNC_TOKEN...  one message to many parked syncs, time to
 * the last load park URL COUNT SECONDS SYNC_TOKEN...       COUNT parked syncs, held for SECONDS
 *
 * Prints one line of JSON.  The CA file of the server is in CHANCERY_CA. */
#include <curl/curl.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY                                                                                       \
    "{\"msgtype\":\"m.text\",\"body\":\"The delegation arrives at nine; papers follow by "         \
    "courier.\"}"

typedef struct {
    const char *url, *token;
    char **rooms;
    int room_count, number;
    gint64 until;
    GArray *latencies_us; /* gint64 */
    int refused;
} Sender;

static size_t
collect(char *data, size_t size, size_t count, void *user)
{
    g_string_append_len(user, data, size * count);
    return size * count;
}

/* One client's connection: keep-alive, the token in its header. */
static CURL *
connection_new(const char *token, struct curl_slist **ret_headers)
{
    g_autofree char *authorization = g_strdup_printf("Authorization: Bearer %s", token);
    struct curl_slist *headers = curl_slist_append(NULL, authorization);
    CURL *curl = curl_easy_init();

    headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 90L);
    if (g_getenv("CHANCERY_CA") != NULL)
        curl_easy_setopt(curl, CURLOPT_CAINFO, g_getenv("CHANCERY_CA"));
    *ret_headers = headers;
    return curl;
}

/* Returns the HTTP status, 0 when there was no answer. */
static long
ask(CURL *curl, const char *method, const char *url, const char *body, GString *answer)
{
    long status = 0;

    g_string_truncate(answer, 0);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    if (body != NULL)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    if (curl_easy_perform(curl) == CURLE_OK)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static char *
send_url(const char *url, const char *room, int number, guint64 count)
{
    g_autofree char *escaped = g_uri_escape_string(room, NULL, FALSE);

    return g_strdup_printf(
        "%s/_matrix/client/v3/rooms/%s/send/m.room.message/bench-%d-%" G_GUINT64_FORMAT
        "-%" G_GINT64_FORMAT,
        url, escaped, number, count, g_get_monotonic_time());
}

static gpointer
sender_run(gpointer data)
{
    Sender *sender = data;
    struct curl_slist *headers;
    CURL *curl = connection_new(sender->token, &headers);
    g_autoptr(GString) answer = g_string_new(NULL);

    for (guint64 count = 0; g_get_monotonic_time() < sender->until; count++) {
        const char *room = sender->rooms[(sender->number + count) % sender->room_count];
        g_autofree char *url = send_url(sender->url, room, sender->number, count);
        gint64 began = g_get_monotonic_time(), took;
        long status = ask(curl, "PUT", url, BODY, answer);

        took = g_get_monotonic_time() - began;
        if (status == 200) {
            g_array_append_val(sender->latencies_us, took);
        } else if (sender->refused++ == 0) {
            fprintf(stderr, "load: %ld %s\n", status, answer->str);
        }
    }
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    return NULL;
}

static int
compare(gconstpointer a, gconstpointer b)
{
    gint64 left = *(const gint64 *)a, right = *(const gint64 *)b;

    return left < right ? -1 : left > right;
}

static double
percentile_ms(GArray *sorted, double share)
{
    if (sorted->len == 0)
        return 0;
    return g_array_index(sorted, gint64, (guint)((sorted->len - 1) * share)) / 1000.0;
}

static int
send_main(int argc, char **argv)
{
    int senders = atoi(argv[2]), refused = 0;
    double seconds = g_ascii_strtod(argv[3], NULL);
    g_autofree Sender *all = g_new0(Sender, senders);
    g_autofree GThread **threads = g_new0(GThread *, senders);
    g_autoptr(GArray) latencies = g_array_new(FALSE, FALSE, sizeof(gint64));
    gint64 began = g_get_monotonic_time();
    double took;

    for (int i = 0; i < senders; i++) {
        all[i] = (Sender){argv[0],
                          argv[1],
                          argv + 4,
                          argc - 4,
                          i,
                          began + (gint64)(seconds * G_USEC_PER_SEC),
                          g_array_new(FALSE, FALSE, sizeof(gint64)),
                          0};
        threads[i] = g_thread_new("sender", sender_run, &all[i]);
    }
    for (int i = 0; i < senders; i++) {
        g_thread_join(threads[i]);
        g_array_append_vals(latencies, all[i].latencies_us->data, all[i].latencies_us->len);
        refused += all[i].refused;
        g_array_unref(all[i].latencies_us);
    }
    took = (g_get_monotonic_time() - began) / (double)G_USEC_PER_SEC;
    g_array_sort(latencies, compare);
    printf("{\"acknowledged\": %u, \"refused\": %d, \"per_second\": %.0f, \"p50_ms\": %.2f, "
           "\"p99_ms\": %.2f}\n",
           latencies->len, refused, latencies->len / took, percentile_ms(latencies, 0.5),
           percentile_ms(latencies, 0.99));
    return 0;
}

/* A parked sync.  It fetches its first token, then waits round by round. */
typedef struct {
    const char *url, *token, *event; /* event: what the round waits for; under the lock */
    gint64 arrived;
    gboolean parked, ended;
    GMutex *lock;
    GCond *changed;
} Waiter;

static char *
next_batch(const GString *answer)
{
    const char *at = strstr(answer->str, "\"next_batch\":\"");
    const char *end = at != NULL ? strchr(at + 14, '"') : NULL;

    return end != NULL ? g_strndup(at + 14, end - at - 14) : NULL;
}

static gpointer
waiter_run(gpointer data)
{
    Waiter *waiter = data;
    struct curl_slist *headers;
    CURL *curl = connection_new(waiter->token, &headers);
    g_autoptr(GString) answer = g_string_new(NULL);
    g_autofree char *first = g_strdup_printf("%s/_matrix/client/v3/sync?timeout=0", waiter->url);
    g_autofree char *since = NULL;

    /* Hundreds of first syncs at once: some are told to come again. */
    for (int tries = 0; since == NULL && tries < 50; tries++) {
        if (tries > 0)
            g_usleep(200 * 1000);
        if (ask(curl, "GET", first, NULL, answer) == 200)
            since = next_batch(answer);
    }
    if (since == NULL)
        fprintf(stderr, "load: sync: %s\n", answer->str);
    while (since != NULL && !waiter->ended) {
        g_autofree char *url =
            g_strdup_printf("%s/_matrix/client/v3/sync?timeout=30000&since=%s", waiter->url, since);
        long status;

        g_mutex_lock(waiter->lock);
        waiter->parked = TRUE;
        g_cond_broadcast(waiter->changed);
        g_mutex_unlock(waiter->lock);
        status = ask(curl, "GET", url, NULL, answer);
        g_mutex_lock(waiter->lock);
        waiter->parked = FALSE;
        if (waiter->event != NULL && strstr(answer->str, waiter->event) != NULL) {
            waiter->arrived = g_get_monotonic_time();
            g_cond_broadcast(waiter->changed);
        }
        g_mutex_unlock(waiter->lock);
        g_free(since);
        since = status == 200 ? next_batch(answer) : NULL;
    }
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    return NULL;
}

static Waiter *
waiters_start(const char *url, char **tokens, int distinct, int count, GMutex *lock, GCond *changed)
{
    Waiter *waiters = g_new0(Waiter, count);

    for (int i = 0; i < count; i++) {
        waiters[i] = (Waiter){url, tokens[i % distinct], NULL, 0, FALSE, FALSE, lock, changed};
        g_thread_unref(g_thread_new("waiter", waiter_run, &waiters[i]));
    }
    g_mutex_lock(lock);
    for (int i = 0; i < count; i++) {
        while (!waiters[i].parked)
            g_cond_wait(changed, lock);
    }
    g_mutex_unlock(lock);
    return waiters;
}

static int
fanout_main(int argc, char **argv)
{
    GMutex lock;
    GCond changed;
    int rounds = atoi(argv[2]), count = argc - 4;
    struct curl_slist *headers;
    CURL *curl = connection_new(argv[1], &headers);
    g_autoptr(GArray) lasts = g_array_new(FALSE, FALSE, sizeof(gint64));
    g_autoptr(GString) answer = g_string_new(NULL);
    Waiter *waiters;

    g_mutex_init(&lock);
    g_cond_init(&changed);
    waiters = waiters_start(argv[0], argv + 4, count, count, &lock, &changed);
    for (int round = 0; round < rounds; round++) {
        g_autofree char *mark =
            g_strdup_printf("fanout-%d-%" G_GINT64_FORMAT, round, g_get_monotonic_time());
        g_autofree char *body = g_strdup_printf("{\"msgtype\":\"m.text\",\"body\":\"%s\"}", mark);
        g_autofree char *url = send_url(argv[0], argv[3], 0, round);
        gint64 began, last = 0;

        g_usleep(300 * 1000); /* all have sent their next request, the server has parked it */
        g_mutex_lock(&lock);
        for (int i = 0; i < count; i++) {
            waiters[i].event = mark;
            waiters[i].arrived = 0;
        }
        g_mutex_unlock(&lock);
        began = g_get_monotonic_time();
        if (ask(curl, "PUT", url, body, answer) != 200) {
            fprintf(stderr, "load: %s\n", answer->str);
            exit(1);
        }
        g_mutex_lock(&lock);
        for (int i = 0; i < count; i++) {
            while (waiters[i].arrived == 0)
                g_cond_wait(&changed, &lock);
            last = MAX(last, waiters[i].arrived - began);
            waiters[i].event = NULL;
        }
        g_mutex_unlock(&lock);
        g_array_append_val(lasts, last);
    }
    g_array_sort(lasts, compare);
    printf("{\"waiting\": %d, \"rounds\": %d, \"last_p50_ms\": %.2f, \"last_worst_ms\": %.2f}\n",
           count, rounds, percentile_ms(lasts, 0.5), percentile_ms(lasts, 1));
    exit(0); /* the waiters are still parked */
}

static int
park_main(int argc, char **argv)
{
    GMutex lock;
    GCond changed;
    int distinct = argc - 3;

    g_mutex_init(&lock);
    g_cond_init(&changed);
    waiters_start(argv[0], argv + 3, distinct, atoi(argv[1]), &lock, &changed);
    g_usleep(G_USEC_PER_SEC / 2);
    printf("{\"parked\": %d}\n", atoi(argv[1]));
    fflush(stdout);
    g_usleep((gulong)(g_ascii_strtod(argv[2], NULL) * G_USEC_PER_SEC));
    exit(0);
}

int
main(int argc, char **argv)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (argc >= 7 && strcmp(argv[1], "send") == 0)
        return send_main(argc - 2, argv + 2);
    if (argc >= 7 && strcmp(argv[1], "fanout") == 0)
        return fanout_main(argc - 2, argv + 2);
    if (argc >= 6 && strcmp(argv[1], "park") == 0)
        return park_main(argc - 2, argv + 2);
    fprintf(stderr, "usage: see the head of tests/bench/load.c\n");
    return 2;
}
