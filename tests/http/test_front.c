/* Requests on real sockets: framing that two readers could cut differently, and limits.  Each
 * measured trap of libmicrohttpd in these has a test here; those in time are in test_front_wait.c.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "identity/refusal.h"
#include "tests/support/front_scene.h"

/* ---- routes ---- */

static Response *
json_echo(Request *request, GError **error)
{
    return response_value(200, cJSON_Duplicate(request_json(request), TRUE));
}

static Response *
query(Request *request, GError **error)
{
    gint64 number;

    if (!request_query_integer(request, "limit", 1, 100, 10, &number, error))
        return NULL;
    g_autofree char *all = g_strjoinv(",", (char **)request_query_all(request, "via"));
    g_autofree char *text =
        g_strdup_printf("%" G_GINT64_FORMAT "|%s|%s", number, all, request_query(request, "q"));
    return response_text(200, "text/plain", text);
}

static Response *
second_step(Request *request, gpointer data, GError **error)
{
    refusal_set(error, 409, "M_CONFLICT", "step two says %s", (const char *)data);
    return NULL;
}

static gpointer
continue_elsewhere(gpointer data)
{
    request_continue(data, second_step, g_strdup("no"), g_free);
    return NULL;
}

static Response *
steps(Request *request, GError **error)
{
    g_thread_unref(g_thread_new("elsewhere", continue_elsewhere, request));
    return RESPONSE_LATER;
}

static const Route table[] = {
    {"GET", "/echo/{name}", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, front_echo},
    {"PUT", "/echo/{name}", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_BYTES, front_echo},
    {"POST", "/json", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_JSON, json_echo},
    {"GET", "/query", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, query},
    {"GET", "/steps", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, steps},
    {"GET", "/mine", LISTEN_CLIENT, CALLER_USER, RATE_NONE, BODY_NONE, front_echo},
    {"GET", "/rated", LISTEN_CLIENT, CALLER_ANYONE, RATE_LOGIN, BODY_NONE, query},
    {0},
};

static guint
count(const char *text, const char *word)
{
    guint found = 0;

    for (; (text = strstr(text, word)) != NULL; text++)
        found++;
    return found;
}

/* ---- framing ---- */

typedef struct {
    const char *name;
    const char *request;
    const char *status; /* of the first and only answer */
    const char *body;   /* or NULL */
} Case;

static const Case cases[] = {
    {"good", "GET /echo/a HTTP/1.1\r\n" HOST END, "200", "GET|/echo/a|a|0"},
    {"good body", "PUT /echo/a HTTP/1.1\r\n" HOST "Content-Length: 2\r\n" END "xy", "200",
     "PUT|/echo/a|a|2"},
    {"good chunks",
     "PUT /echo/a HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n" END "2\r\nxy\r\n0\r\n\r\n",
     "200", "|2"},
    {"HTTP/1.0", "GET /echo/a HTTP/1.0\r\n\r\n", "200", "GET|"},
    /* The tail must never be served as a second request. */
    {"length and chunks",
     "PUT /echo/a HTTP/1.1\r\n" HOST
     "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /echo/smuggled "
     "HTTP/1.1\r\n" HOST END,
     "400", "Content-Length together"},
    {"chunks and length",
     "PUT /echo/a HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: "
     "4\r\n\r\n0\r\n\r\nGET /echo/smuggled HTTP/1.1\r\n" HOST END,
     "400", "Content-Length together"},
    {"two lengths",
     "PUT /echo/a HTTP/1.1\r\n" HOST
     "Content-Length: 0\r\nContent-Length: 44\r\n\r\nGET /echo/smuggled HTTP/1.1\r\n" HOST END,
     "400", "More than one Content-Length"},
    {"two equal lengths",
     "PUT /echo/a HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 0\r\n" END, "400", NULL},
    {"length list", "PUT /echo/a HTTP/1.1\r\n" HOST "Content-Length: 2, 2\r\n" END "xy", "400",
     NULL},
    {"length with plus", "PUT /echo/a HTTP/1.1\r\n" HOST "Content-Length: +2\r\n" END "xy", "400",
     NULL},
    {"negative length", "PUT /echo/a HTTP/1.1\r\n" HOST "Content-Length: -2\r\n" END "xy", "400",
     NULL},
    {"hexadecimal length", "PUT /echo/a HTTP/1.1\r\n" HOST "Content-Length: 0x2\r\n" END "xy",
     "400", NULL},
    {"gzip, chunked",
     "PUT /echo/a HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n" END "0\r\n\r\n", "400",
     "Transfer-Encoding other"},
    {"chunked twice",
     "PUT /echo/a HTTP/1.1\r\n" HOST
     "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" END "0\r\n\r\n",
     "400", NULL},
    {"identity", "PUT /echo/a HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n" END "xy", "400",
     NULL},
    {"vertical tab",
     "PUT /echo/a HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b"
     "chunked\r\n" END "0\r\n\r\n",
     "400", NULL},
    {"folded coding and a length",
     "PUT /echo/a HTTP/1.1\r\n" HOST
     "Content-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nGET /echo/smuggled "
     "HTTP/1.1\r\n" HOST END,
     "400", NULL},
    {"folded length and a length",
     "PUT /echo/a HTTP/1.1\r\n" HOST
     "Content-Length: 0\r\nContent-Length:\r\n 44\r\n\r\nGET /echo/smuggled HTTP/1.1\r\n" HOST END,
     "400", NULL},
    {"length in two lines",
     "PUT /echo/a HTTP/1.1\r\n" HOST
     "Content-Length: 0\r\n 44\r\n\r\nGET /echo/smuggled HTTP/1.1\r\n" HOST END,
     "400", NULL},
    {"length in another's fold",
     "PUT /echo/a HTTP/1.1\r\n" HOST "Content-Length: 0\r\nX: y\r\n Content-Length: "
     "44\r\n\r\nGET /echo/smuggled HTTP/1.1\r\n" HOST END,
     "400", NULL},
    {"coding in another's fold",
     "PUT /echo/a HTTP/1.1\r\n" HOST
     "Content-Length: 4\r\nX: y\r\n\ttransfer-encoding : chunked\r\n\r\n0\r\n\r\nGET "
     "/echo/smuggled HTTP/1.1\r\n" HOST END,
     "400", NULL},
    {"a word about length is none",
     "GET /echo/a HTTP/1.1\r\n" HOST "X: about content-length and more\r\n" END, "200",
     "GET|/echo/a|a|0"},
    {"length behind a bare LF",
     "PUT /echo/a HTTP/1.1\r\n" HOST
     "Content-Length: 0\r\nX: y\nContent-Length: 44\r\n\r\nGET /echo/smuggled HTTP/1.1\r\n" HOST
         END,
     "400", NULL},
    {"coding behind a bare LF",
     "PUT /echo/a HTTP/1.1\r\n" HOST
     "Content-Length: 4\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /echo/smuggled "
     "HTTP/1.1\r\n" HOST END,
     "400", NULL},
    {"two hosts", "GET /echo/a HTTP/1.1\r\n" HOST "Host: b\r\n" END, "400", "More than one Host"},
    {"no host", "GET /echo/a HTTP/1.1\r\n" END, "400", NULL},
    {"blank before the colon", "GET /echo/a HTTP/1.1\r\n" HOST "Content-Length : 0\r\n" END, "400",
     NULL},
    {"name with a bracket", "GET /echo/a HTTP/1.1\r\n" HOST "a[b: 0\r\n" END, "400", NULL},
    {"forged certificate", "GET /echo/a HTTP/1.1\r\n" HOST "Client-Cert: :MIIB:\r\n" END, "400",
     "Certificates are taken"},
    {"forged certificate 2", "GET /echo/a HTTP/1.1\r\n" HOST "X-SSL-Client-S-DN: CN=alice\r\n" END,
     "400", "Certificates are taken"},
    {"forged certificate 3", "GET /echo/a HTTP/1.1\r\n" HOST "X-Forwarded-Client-Cert: x\r\n" END,
     "400", "Certificates are taken"},
    {"forged certificate 4",
     "GET /echo/a HTTP/1.1\r\n" HOST "x_forwarded_tls_client_cert: x\r\n" END, "400",
     "Certificates are taken"},
    /* Paths. */
    {"slash in a segment", "GET /echo/a%2Fb HTTP/1.1\r\n" HOST END, "200", "GET|/echo/a%2Fb|a/b|0"},
    {"zero byte", "GET /echo/a%00b HTTP/1.1\r\n" HOST END, "400", "M_INVALID_PARAM"},
    {"not UTF-8", "GET /echo/%ff HTTP/1.1\r\n" HOST END, "400", "M_INVALID_PARAM"},
    {"raw target kept", "GET /echo/%61?b=%63&d HTTP/1.1\r\n" HOST END, "200",
     "GET|/echo/%61?b=%63&d|a|0"},
    {"unknown path", "GET /none HTTP/1.1\r\n" HOST END, "404", "M_UNRECOGNIZED"},
    {"unknown method", "DELETE /echo/a HTTP/1.1\r\n" HOST END, "405", "M_UNRECOGNIZED"},
    {"options anywhere", "OPTIONS /none HTTP/1.1\r\n" HOST "Origin: https://x\r\n" END, "200",
     "Access-Control-Allow-Origin: *"},
    /* Query. */
    {"query", "GET /query?limit=100&via=a&via=b%26c&q=x+y HTTP/1.1\r\n" HOST END, "200",
     "100|a,b&c|x y"},
    {"number too large", "GET /query?limit=101 HTTP/1.1\r\n" HOST END, "400", "M_INVALID_PARAM"},
    {"number with a tail", "GET /query?limit=1x HTTP/1.1\r\n" HOST END, "400", "M_INVALID_PARAM"},
    /* Bodies. */
    {"JSON", "POST /json HTTP/1.1\r\n" HOST "Content-Length: 7\r\n" END "{\"a\":1}", "200",
     "{\"a\":1}"},
    {"JSON as a form",
     "POST /json HTTP/1.1\r\n" HOST
     "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n" END "{\"a\":1}",
     "200", "{\"a\":1}"},
    {"JSON with a charset",
     "POST /json HTTP/1.1\r\n" HOST
     "Content-Type: application/json; charset=utf-8\r\nContent-Length: 7\r\n" END "{\"a\":1}",
     "200", "{\"a\":1}"},
    {"no body", "POST /json HTTP/1.1\r\n" HOST "Content-Length: 0\r\n" END, "200", "{}"},
    {"not JSON", "POST /json HTTP/1.1\r\n" HOST "Content-Length: 7\r\n" END "{\"a\":1)", "400",
     "M_NOT_JSON"},
    {"a key twice", "POST /json HTTP/1.1\r\n" HOST "Content-Length: 13\r\n" END "{\"a\":1,\"a\":2}",
     "400", "M_BAD_JSON"},
    {"an array", "POST /json HTTP/1.1\r\n" HOST "Content-Length: 2\r\n" END "[]", "400",
     "M_BAD_JSON"},
    {"another type",
     "POST /json HTTP/1.1\r\n" HOST "Content-Type: image/png\r\nContent-Length: 2\r\n" END "{}",
     "415", "M_NOT_JSON"},
    {"another type, huge",
     "POST /json HTTP/1.1\r\n" HOST "Content-Type: image/png\r\nContent-Length: 999999999\r\n\r\n",
     "415", NULL},
    {"compressed",
     "POST /json HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\nContent-Length: 2\r\n" END "{}",
     "415", NULL},
    {"declared too large", "POST /json HTTP/1.1\r\n" HOST "Content-Length: 1048577\r\n\r\n", "413",
     "M_TOO_LARGE"},
    /* Callers. */
    {"no token", "GET /mine HTTP/1.1\r\n" HOST END, "401", "M_MISSING_TOKEN"},
    {"token in the query", "GET /mine?access_token=x HTTP/1.1\r\n" HOST END, "401",
     "M_MISSING_TOKEN"},
    {"unknown token", "GET /mine HTTP/1.1\r\n" HOST "Authorization: Bearer x\r\n" END, "401",
     "M_UNKNOWN_TOKEN"},
    {"soft_logout is said", "GET /mine HTTP/1.1\r\n" HOST "Authorization: Bearer x\r\n" END, "401",
     "\"soft_logout\":false"},
    {"parked in steps", "GET /steps HTTP/1.1\r\n" HOST END, "409", "step two says no"},
};

static void
test_each_request_gets_one_answer(FrontScene *scene, gconstpointer data)
{
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        gboolean closed = FALSE;
        g_autofree char *heard = front_converse(scene, cases[i].request, &closed);
        g_autofree char *start = g_strdup_printf("HTTP/1.1 %s ", cases[i].status);
        g_autofree char *start_old = g_strdup_printf("HTTP/1.0 %s ", cases[i].status);
        g_test_message("%s: %s", cases[i].name, heard);
        g_assert_true(closed);
        g_assert_true(g_str_has_prefix(heard, start) || g_str_has_prefix(heard, start_old));
        /* libmicrohttpd's own refusals (a malformed length, no Host) repeat their head: still one
         * refusal. */
        g_assert_cmpuint(count(heard, "HTTP/1."), ==,
                         count(heard, start) + count(heard, start_old));
        g_assert_null(strstr(heard, "|smuggled|"));
        if (cases[i].body != NULL)
            g_assert_nonnull(strstr(heard, cases[i].body));
    }
    g_assert_cmpuint(front_warnings(), >=, 4); /* forged certificates were logged */
}

static void
test_head_is_get_without_a_body(FrontScene *scene, gconstpointer data)
{
    g_autofree char *heard = front_converse(scene, "HEAD /echo/a HTTP/1.1\r\n" HOST END, NULL);

    g_assert_true(g_str_has_prefix(heard, "HTTP/1.1 200 "));
    g_assert_nonnull(strstr(heard, "Content-Length: 16"));
    g_assert_true(g_str_has_suffix(heard, "\r\n\r\n"));
}

static void
test_pipelined_answers_come_in_order(FrontScene *scene, gconstpointer data)
{
    g_autofree char *heard =
        front_converse(scene,
                       "GET /echo/one HTTP/1.1\r\n" HOST "\r\n"
                       "PUT /echo/two HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
                       "GET /none HTTP/1.1\r\n" HOST "\r\n"
                       "GET /echo/four HTTP/1.1\r\n" HOST END,
                       NULL);
    const char *one = strstr(heard, "/echo/one|one|0");
    const char *two = strstr(heard, "/echo/two|two|3");
    const char *three = strstr(heard, "M_UNRECOGNIZED");
    const char *four = strstr(heard, "/echo/four|four|0");

    g_assert_true(one != NULL && one < two && two < three && three < four);
    g_assert_cmpuint(count(heard, "HTTP/1.1"), ==, 4);
}

static char *
request_with_body(gsize length, gboolean chunked, gsize *ret_size)
{
    GString *text = g_string_new("POST /json HTTP/1.1\r\n" HOST);

    if (chunked)
        g_string_append_printf(text, "Transfer-Encoding: chunked\r\n" END "%zx\r\n", length);
    else
        g_string_append_printf(text, "Content-Length: %zu\r\n" END, length);
    g_string_append(text, "{\"a\":\"");
    for (gsize i = 0; i < length - 8; i++)
        g_string_append_c(text, 'x');
    g_string_append(text, chunked ? "\"}\r\n0\r\n\r\n" : "\"}");
    *ret_size = text->len;
    return g_string_free(text, FALSE);
}

static void
test_bodies_have_a_limit(FrontScene *scene, gconstpointer data)
{
    static const struct {
        gsize over;
        gboolean chunked;
        const char *status;
    } limits[] = {{0, FALSE, "200"}, {1, FALSE, "413"}, {0, TRUE, "200"}, {1, TRUE, "413"}};

    for (guint i = 0; i < G_N_ELEMENTS(limits); i++) {
        gsize size;
        g_autofree char *text = request_with_body(json_limits_request.bytes_max + limits[i].over,
                                                  limits[i].chunked, &size);
        g_autofree char *start = g_strdup_printf("HTTP/1.1 %s ", limits[i].status);
        g_autofree char *heard = front_converse(scene, text, NULL);
        g_assert_true(g_str_has_prefix(heard, start));
    }
}

static void
test_an_endless_body_is_cut(FrontScene *scene, gconstpointer data)
{
    int fd = front_dial(scene);
    g_autofree char *chunk = g_strnfill(0x10000, 'x');
    gboolean closed = FALSE;
    g_autofree char *heard = NULL;

    front_say(fd, "POST /json HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", 55 + 0);
    for (guint i = 0; i < 200; i++) {
        front_say(fd, "10000\r\n", 7);
        front_say(fd, chunk, 0x10000);
        front_say(fd, "\r\n", 2);
    }
    heard = front_hear(fd, NULL, &closed);
    g_assert_true(closed);
    g_assert_null(strstr(heard, " 200 "));
    close(fd);
}

/* The status of a JSON body of about @length bytes. */
static guint
post(const FrontScene *scene, gsize length)
{
    g_autofree char *filler = g_strnfill(length, 'x');
    g_autofree char *text = g_strdup_printf("POST /json HTTP/1.1\r\n" HOST
                                            "Content-Length: %zu\r\n" END "{\"a\":\"%s\"}",
                                            length + 8, filler);
    g_autofree char *heard = front_converse(scene, text, NULL);

    return g_str_has_prefix(heard, "HTTP/1.1 ") ? (guint)atoi(heard + strlen("HTTP/1.1 ")) : 0;
}

/* A connection that has sent all but the end of a large body, so that there is no room for another:
 * while both are read either may be the one without room, so it is tried again. */
static int
fill_room(const FrontScene *scene)
{
    const char *const head =
        "POST /json HTTP/1.1\r\n" HOST "Content-Length: 900002\r\nConnection: close\r\n\r\n";
    g_autofree char *much = g_strnfill(900000, ' ');
    gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

    while (g_get_monotonic_time() < end) {
        int fd = front_dial(scene);
        front_say(fd, head, strlen(head));
        front_say(fd, much, 900000);
        for (guint i = 0; i < 10; i++)
            if (post(scene, 200000) == 503)
                return fd;
        close(fd);
    }
    g_error("there is room for everything");
}

/* Strangers may send bodies before their token is looked at: all together they take so much memory
 * and no more, and small ones always pass. */
static void
test_all_bodies_together_have_a_limit(void)
{
    FrontEndSettings settings = front_settings();
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    FrontScene scene;
    int fd;

    settings.uploads_bytes_max = 1000000;
    front_open(&scene, &settings);
    g_assert_cmpuint(post(&scene, 200000), ==, 200);
    fd = fill_room(&scene);
    g_assert_cmpuint(post(&scene, 60000), ==, 200);
    front_say(fd, "{}", 2); /* who had room keeps it */
    g_autofree char *heard = front_hear(fd, NULL, NULL);
    g_assert_true(g_str_has_prefix(heard, "HTTP/1.1 200 "));
    close(fd);
    while (post(&scene, 200000) != 200) /* and gives it back, at the end … */
        g_assert_true(g_get_monotonic_time() < end);
    close(fill_room(&scene)); /* … whichever */
    while (post(&scene, 200000) != 200)
        g_assert_true(g_get_monotonic_time() < end);
    front_close(&scene);
}

static void
test_targets_and_headers_have_a_limit(FrontScene *scene, gconstpointer data)
{
    static const struct {
        gsize target;
        gsize header;
        const char *status;
    } limits[] = {{8192, 0, "200"},  {8192, 2000, "200"}, {8193, 0, "414"},
                  {20, 4000, "200"}, {20, 100000, "431"}, {100000, 0, "414"}};

    for (guint i = 0; i < G_N_ELEMENTS(limits); i++) {
        g_autofree char *name = g_strnfill(limits[i].target - strlen("/echo/"), 'n');
        g_autofree char *header = g_strnfill(limits[i].header, 'h');
        g_autofree char *text =
            g_strdup_printf("GET /echo/%s HTTP/1.1\r\n" HOST "X: %s\r\n" END, name, header);
        g_autofree char *heard = front_converse(scene, text, NULL);
        g_autofree char *start = g_strdup_printf("HTTP/1.1 %s ", limits[i].status);
        g_test_message("%zu %zu: %.60s", limits[i].target, limits[i].header, heard);
        g_assert_true(g_str_has_prefix(heard, start));
    }
}

static void
test_many_headers_are_refused(FrontScene *scene, gconstpointer data)
{
    for (guint more = 0; more < 2; more++) {
        g_autoptr(GString) text = g_string_new("GET /echo/a HTTP/1.1\r\n" HOST);
        g_autofree char *heard = NULL;
        for (guint i = 0; i < 98 + more; i++)
            g_string_append_printf(text, "X%u: 1\r\n", i);
        g_string_append(text, END);
        heard = front_converse(scene, text->str, NULL);
        g_assert_true(g_str_has_prefix(heard, more == 0 ? "HTTP/1.1 200 " : "HTTP/1.1 431 "));
    }
}

static void
test_a_full_queue_answers_503(void)
{
    FrontEndSettings settings = front_settings();
    g_autofree char *heard = NULL;
    FrontScene scene;

    settings.queue_max = 0;
    front_open(&scene, &settings);
    heard = front_converse(&scene, "GET /echo/a HTTP/1.1\r\n" HOST END, NULL);
    g_assert_true(g_str_has_prefix(heard, "HTTP/1.1 503 "));
    g_assert_nonnull(strstr(heard, "Retry-After: 1"));
    front_close(&scene);
}

static void
test_rates_are_limited(FrontScene *scene, gconstpointer data)
{
    gboolean limited = FALSE;

    for (guint i = 0; i < 200 && !limited; i++) {
        /* Whose request it is says the connection, not what the request claims of proxies. */
        g_autofree char *request =
            g_strdup_printf("GET /rated HTTP/1.1\r\n" HOST "X-Forwarded-For: 192.0.2.%u\r\n"
                            "X-Real-IP: 192.0.2.%u\r\nForwarded: for=192.0.2.%u\r\n" END,
                            i, i, i);
        g_autofree char *heard = front_converse(scene, request, NULL);
        limited = g_str_has_prefix(heard, "HTTP/1.1 429 ");
        if (limited) {
            g_test_message("%s", heard);
            g_assert_nonnull(strstr(heard, "\"errcode\":\"M_LIMIT_EXCEEDED\""));
            g_assert_nonnull(strstr(heard, "\"retry_after_ms\":"));
            /* One a second passes: however slow we were, the wait is a second at most. */
            g_assert_nonnull(strstr(heard, "Retry-After: 1\r\n"));
        }
    }
    g_assert_true(limited);
}

#define ADD(path, function)                                                                        \
    g_test_add(path, FrontScene, NULL, front_set_up, function, front_tear_down)

int
main(int argc, char **argv)
{
    front_begin(&argc, &argv, table);
    ADD("/front/one-answer", test_each_request_gets_one_answer);
    ADD("/front/head", test_head_is_get_without_a_body);
    ADD("/front/pipeline", test_pipelined_answers_come_in_order);
    ADD("/front/body-limit", test_bodies_have_a_limit);
    ADD("/front/endless-body", test_an_endless_body_is_cut);
    g_test_add_func("/front/bodies-together", test_all_bodies_together_have_a_limit);
    ADD("/front/header-limits", test_targets_and_headers_have_a_limit);
    ADD("/front/many-headers", test_many_headers_are_refused);
    g_test_add_func("/front/full", test_a_full_queue_answers_503);
    ADD("/front/rates", test_rates_are_limited);
    return g_test_run();
}
