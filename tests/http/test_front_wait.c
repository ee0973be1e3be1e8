/* Time at the front end, on real sockets: slow clients, parked requests, hang-ups, and the graceful
 * stop that ends them.  Each measured trap of libmicrohttpd in these has a test here; those in what
 * a request says are in test_front.c. */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "identity/clock.h"
#include "tests/support/front_scene.h"

/* ---- routes ---- */

static GMutex lock;
static GCond bell;
static Request *parked; /* with a reference */
static WakeReason woken_for;
static guint wakes;

static Response *
big(Request *request, GError **error)
{
    g_autofree char *text = g_strnfill(8 * 1024 * 1024, 'x');

    return response_text(200, "text/plain", text);
}

static Response *
after_wait(Request *request, gpointer data, GError **error)
{
    g_mutex_lock(&lock);
    woken_for = request_wake_reason(request);
    wakes++;
    g_cond_broadcast(&bell);
    g_mutex_unlock(&lock);
    return response_text(200, "text/plain", "woken");
}

static Response *
park(Request *request, GError **error)
{
    gint64 timeout_ms;

    if (!request_query_integer(request, "timeout", 0, 1000000, 600000, &timeout_ms, error))
        return NULL;
    g_mutex_lock(&lock);
    g_clear_pointer(&parked, request_unref);
    parked = request_ref(request);
    g_cond_broadcast(&bell);
    g_mutex_unlock(&lock);
    request_wait(request, (guint)timeout_ms, after_wait, NULL, NULL);
    return RESPONSE_LATER;
}

/* Parked and never continued until the test does it: as behind a commit that takes long. */
static Response *
stuck(Request *request, GError **error)
{
    g_mutex_lock(&lock);
    g_clear_pointer(&parked, request_unref);
    parked = request_ref(request);
    g_cond_broadcast(&bell);
    g_mutex_unlock(&lock);
    return RESPONSE_LATER;
}

static const Route table[] = {
    {"GET", "/echo/{name}", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, front_echo},
    {"PUT", "/echo/{name}", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_BYTES, front_echo},
    {"GET", "/big", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, big},
    {"GET", "/park", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, park},
    {"GET", "/stuck", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, stuck},
    {0},
};

/* ---- slow clients ---- */

/* A client that sends something now and then lives on under libmicrohttpd's own time-out; here it
 * does not. */
static void
test_slow_clients_are_cut(void)
{
    static const char *const begun[] = {"", "GET /echo/a HT",
                                        "GET /echo/a HTTP/1.1\r\nHost: a\r\nX: "};
    FrontEndSettings settings = front_settings();
    FrontScene scene;

    settings.header_ms = 300;
    front_open(&scene, &settings);
    for (guint i = 0; i < G_N_ELEMENTS(begun); i++) {
        int fd = front_dial(&scene);
        gboolean closed = FALSE;
        gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
        front_say(fd, begun[i], strlen(begun[i]));
        while (!closed && g_get_monotonic_time() < end) {
            struct pollfd wait = {.fd = fd, .events = POLLIN};
            char byte;
            if (poll(&wait, 1, 50) == 1)
                closed = recv(fd, &byte, 1, 0) <= 0;
            else if (i > 0)
                front_say(fd, "x", 1);
        }
        g_assert_true(closed);
        close(fd);
    }
    front_close(&scene);
}

/* A byte now and then keeps libmicrohttpd content; the minimum rate does not. */
static void
test_a_slow_body_is_cut(void)
{
    FrontEndSettings settings = front_settings();
    gboolean closed = FALSE;
    FrontScene scene;
    int fd;

    settings.body_grace_ms = 200;
    settings.body_rate = 1000;
    front_open(&scene, &settings);
    fd = front_dial(&scene);
    front_say(fd, "PUT /echo/a HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n",
              strlen("PUT /echo/a HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n"));
    for (guint i = 0; i < 400 && !closed; i++) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        char byte;
        if (poll(&wait, 1, 50) == 1)
            closed = recv(fd, &byte, 1, 0) <= 0;
        else
            front_say(fd, "x", 1);
    }
    g_assert_true(closed);
    close(fd);
    front_close(&scene);
}

/* The certificate listener's connections end with the answer that comes after their time. */
static void
test_a_connection_has_a_life(void)
{
    FrontEndSettings settings = front_settings();
    FrontScene scene;
    g_autofree char *heard = NULL;
    int fd;

    front_open_with_life(&scene, &settings, 600000);
    fd = front_dial(&scene);
    front_say(fd, "GET /echo/a HTTP/1.1\r\n" HOST "\r\n",
              strlen("GET /echo/a HTTP/1.1\r\n" HOST "\r\n"));
    heard = front_hear(fd, "|0", NULL);
    g_assert_null(strstr(heard, "Connection: close"));
    clock_shift_for_tests(700000);
    g_clear_pointer(&heard, g_free);
    front_say(fd, "GET /echo/a HTTP/1.1\r\n" HOST "\r\n",
              strlen("GET /echo/a HTTP/1.1\r\n" HOST "\r\n"));
    /* Cut by the sweep, or told to close by the answer: either way it is over. */
    heard = front_hear(fd, NULL, NULL);
    g_assert_true(*heard == '\0' || strstr(heard, "Connection: close") != NULL);
    clock_shift_for_tests(0);
    close(fd);
    front_close(&scene);
}

/* ---- waits ---- */

static Request *
wait_until_parked(void)
{
    Request *request;

    g_mutex_lock(&lock);
    while (parked == NULL)
        g_cond_wait(&bell, &lock);
    request = request_ref(parked);
    g_mutex_unlock(&lock);
    return request;
}

static void
wait_for_wake(guint number)
{
    g_mutex_lock(&lock);
    while (wakes < number)
        g_cond_wait(&bell, &lock);
    g_mutex_unlock(&lock);
}

static void
test_a_wake_answers_once(FrontScene *scene, gconstpointer data)
{
    int fd = front_dial(scene);
    g_autoptr(Request) request = NULL;
    g_autofree char *heard = NULL;
    FrontEndCounts counts;
    guint won = 0;

    wakes = 0;
    front_say(fd, "GET /park HTTP/1.1\r\n" HOST END, strlen("GET /park HTTP/1.1\r\n" HOST END));
    request = wait_until_parked();
    do {
        front_end_counts(scene->front, &counts);
    } while (counts.waiting == 0);
    for (guint i = 0; i < 3; i++)
        won += request_wake(request) ? 1 : 0;
    heard = front_hear(fd, NULL, NULL);
    g_assert_true(g_str_has_suffix(heard, "woken"));
    g_assert_cmpuint(won, ==, 1);
    g_assert_cmpuint(wakes, ==, 1);
    g_assert_cmpint(woken_for, ==, WAKE_NEWS);
    close(fd);
}

static void
test_the_time_of_a_wait_ends(FrontScene *scene, gconstpointer data)
{
    g_autofree char *heard = NULL;
    g_autofree char *at_once = NULL;

    heard = front_converse(scene, "GET /park?timeout=20 HTTP/1.1\r\n" HOST END, NULL);
    g_assert_true(g_str_has_suffix(heard, "woken"));
    g_assert_cmpint(woken_for, ==, WAKE_TIME);
    at_once = front_converse(scene, "GET /park?timeout=0 HTTP/1.1\r\n" HOST END, NULL);
    g_assert_true(g_str_has_suffix(at_once, "woken"));
    g_assert_cmpint(woken_for, ==, WAKE_TIME);
}

/* libmicrohttpd alone does not see that the client of a suspended connection has gone. */
static void
test_a_client_that_hangs_up_is_noticed(FrontScene *scene, gconstpointer data)
{
    int fd = front_dial(scene);
    g_autoptr(Request) request = NULL;
    FrontEndCounts counts;

    wakes = 0;
    front_say(fd, "GET /park HTTP/1.1\r\n" HOST "\r\n",
              strlen("GET /park HTTP/1.1\r\n" HOST "\r\n"));
    request = wait_until_parked();
    close(fd);
    wait_for_wake(1);
    g_assert_cmpint(woken_for, ==, WAKE_GONE);
    g_assert_false(request_is_connected(request));
    do {
        front_end_counts(scene->front, &counts);
    } while (counts.connections > 0 || counts.requests > 0);
}

/* ---- the stop ---- */

static gpointer
stop_in_thread(gpointer data)
{
    front_end_stop(data, 8000);
    return NULL;
}

static void
test_a_stop_answers_what_waits(FrontScene *scene, gconstpointer data)
{
    int fds[20];
    FrontEndCounts counts;
    GThread *thread;

    for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = front_dial(scene);
        front_say(fds[i], "GET /park HTTP/1.1\r\n" HOST "\r\n",
                  strlen("GET /park HTTP/1.1\r\n" HOST "\r\n"));
    }
    do {
        front_end_counts(scene->front, &counts);
    } while (counts.waiting < G_N_ELEMENTS(fds));
    thread = g_thread_new("stop", stop_in_thread, scene->front);
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
        gboolean closed = FALSE;
        g_autofree char *heard = front_hear(fds[i], NULL, &closed);
        g_assert_true(closed);
        g_assert_true(g_str_has_suffix(heard, "woken"));
        g_assert_nonnull(strstr(heard, "Connection: close"));
        close(fds[i]);
    }
    g_thread_join(thread);
    g_assert_cmpint(woken_for, ==, WAKE_STOPPING);
}

/* What is parked behind work that does not end in time: 503, no abort, and the late answer is
 * dropped. */
static void
test_a_stop_ends_what_is_stuck(FrontScene *scene, gconstpointer data)
{
    int fd = front_dial(scene);
    g_autoptr(Request) request = NULL;
    g_autofree char *heard = NULL;

    front_say(fd, "GET /stuck HTTP/1.1\r\n" HOST "\r\n",
              strlen("GET /stuck HTTP/1.1\r\n" HOST "\r\n"));
    request = wait_until_parked();
    front_end_stop(scene->front, 50);
    heard = front_hear(fd, NULL, NULL);
    g_assert_true(g_str_has_prefix(heard, "HTTP/1.1 503 "));
    request_answer(request, response_empty_object(), NULL);
    close(fd);
}

/* A reader that takes nothing holds no thread. */
static void
test_a_client_that_does_not_read_holds_nobody(FrontScene *scene, gconstpointer data)
{
    int fds[8];

    for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = front_dial(scene);
        front_say(fds[i], "GET /big HTTP/1.1\r\n" HOST "\r\n",
                  strlen("GET /big HTTP/1.1\r\n" HOST "\r\n"));
    }
    g_autofree char *heard = front_converse(scene, "GET /echo/a HTTP/1.1\r\n" HOST END, NULL);
    g_assert_true(g_str_has_prefix(heard, "HTTP/1.1 200 "));
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        close(fds[i]);
}

static void
tear_down(FrontScene *scene, gconstpointer data)
{
    g_clear_pointer(&parked, request_unref);
    front_close(scene);
}

#define ADD(path, function) g_test_add(path, FrontScene, NULL, front_set_up, function, tear_down)

int
main(int argc, char **argv)
{
    front_begin(&argc, &argv, table);
    g_test_add_func("/front/slow", test_slow_clients_are_cut);
    g_test_add_func("/front/slow-body", test_a_slow_body_is_cut);
    g_test_add_func("/front/life", test_a_connection_has_a_life);
    ADD("/front/wake", test_a_wake_answers_once);
    ADD("/front/wait-time", test_the_time_of_a_wait_ends);
    ADD("/front/hang-up", test_a_client_that_hangs_up_is_noticed);
    ADD("/front/stop-waiting", test_a_stop_answers_what_waits);
    ADD("/front/stop-stuck", test_a_stop_ends_what_is_stuck);
    ADD("/front/slow-reader", test_a_client_that_does_not_read_holds_nobody);
    return g_test_run();
}
