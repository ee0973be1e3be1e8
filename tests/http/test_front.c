/* The front end on real sockets: framing that two readers could cut differently, limits, parking,
 * hang-ups, the graceful stop.  Each measured trap of libmicrohttpd has a test here. */
#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "identity/clock.h"
#include "identity/refusal.h"
#include "server/http/front.h"

#define READ_MS 20000

/* ---- a small house: routes of the tests' own ---- */

typedef struct {
    FrontEnd *front;
    guint16 port;
} Fixture;

static GMutex lock;
static GCond bell;
static Request *parked; /* with a reference */
static WakeReason woken_for;
static guint wakes;
static guint refused_headers;

static Response *
echo(Request *request, GError **error)
{
    const char *name = request_path(request, "name");
    gsize length = g_bytes_get_size(request_body(request));
    g_autofree char *text = g_strdup_printf("%s|%s|%s|%" G_GSIZE_FORMAT, request_method(request),
                                            request_target(request), name, length);

    return response_text(200, "text/plain", text);
}

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
    {"GET", "/echo/{name}", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, echo},
    {"PUT", "/echo/{name}", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_BYTES, echo},
    {"POST", "/json", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_JSON, json_echo},
    {"GET", "/query", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, query},
    {"GET", "/big", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, big},
    {"GET", "/park", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, park},
    {"GET", "/steps", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, steps},
    {"GET", "/stuck", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, stuck},
    {"GET", "/mine", LISTEN_CLIENT, CALLER_USER, RATE_NONE, BODY_NONE, echo},
    {"GET", "/rated", LISTEN_CLIENT, CALLER_ANYONE, RATE_LOGIN, BODY_NONE, query},
    {0},
};
static const Route *const tables[] = {table, NULL};

static Session *
no_user(Server *server, const char *token, GError **error)
{
    refusal_set(error, 401, "M_UNKNOWN_TOKEN", "no such token");
    return NULL;
}

static gboolean
never_soft(const GError *error)
{
    return FALSE;
}

static const Callers callers = {.user = no_user, .user_is_soft = never_soft};

static GLogWriterOutput
quiet(GLogLevelFlags level, const GLogField *fields, gsize count, gpointer data)
{
    if ((level & (G_LOG_FLAG_FATAL | G_LOG_LEVEL_ERROR)) != 0)
        return g_log_writer_standard_streams(level, fields, count, data);
    if ((level & G_LOG_LEVEL_WARNING) != 0)
        refused_headers++;
    return G_LOG_WRITER_HANDLED;
}

static FrontEndSettings
settings_for_tests(void)
{
    FrontEndSettings settings = front_end_settings_default;

    settings.workers = 2;
    settings.access_log = FALSE;
    return settings;
}

static void
fixture_open(Fixture *fixture, const FrontEndSettings *settings)
{
    g_autoptr(GError) error = NULL;
    ListenerSettings listener = {.serves = LISTEN_CLIENT, .address = "127.0.0.1:0"};

    fixture->front = front_end_new(NULL, settings, tables, &callers, &error);
    g_assert_no_error(error);
    g_assert_true(front_end_listen(fixture->front, &listener, &error));
    fixture->port = (guint16)g_ascii_strtoull(
        strrchr(front_end_address(fixture->front, LISTEN_CLIENT), ':') + 1, NULL, 10);
}

static void
fixture_set_up(Fixture *fixture, gconstpointer data)
{
    FrontEndSettings settings = settings_for_tests();

    fixture_open(fixture, &settings);
}

static void
fixture_tear_down(Fixture *fixture, gconstpointer data)
{
    g_clear_pointer(&parked, request_unref);
    g_clear_pointer(&fixture->front, front_end_free);
}

/* ---- raw sockets ---- */

static int
dial(const Fixture *fixture)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(fixture->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
    return fd;
}

static void
say(int fd, const char *text, gsize length)
{
    while (length > 0) {
        ssize_t sent = send(fd, text, length, MSG_NOSIGNAL);
        if (sent < 0)
            return; /* the server has closed: what it said decides */
        text += sent;
        length -= (gsize)sent;
    }
}

/* Until the server closes, or @until is in what came (NULL: only the close). */
static char *
hear(int fd, const char *until, gboolean *ret_closed)
{
    GString *heard = g_string_new(NULL);
    gboolean closed = FALSE;

    while (until == NULL || strstr(heard->str, until) == NULL) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        char buffer[65536];
        ssize_t got;
        if (poll(&wait, 1, READ_MS) != 1)
            break;
        got = recv(fd, buffer, sizeof buffer, 0);
        if (got <= 0) {
            closed = TRUE;
            break;
        }
        g_string_append_len(heard, buffer, got);
    }
    if (ret_closed != NULL)
        *ret_closed = closed;
    return g_string_free(heard, FALSE);
}

/* One request on a connection of its own, heard to the close. */
static char *
converse(const Fixture *fixture, const char *text, gboolean *ret_closed)
{
    int fd = dial(fixture);
    char *heard;

    say(fd, text, strlen(text));
    heard = hear(fd, NULL, ret_closed);
    close(fd);
    return heard;
}

static guint
count(const char *text, const char *word)
{
    guint found = 0;

    for (; (text = strstr(text, word)) != NULL; text++)
        found++;
    return found;
}

#define END "Connection: close\r\n\r\n"
#define HOST "Host: a\r\n"

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
test_each_request_gets_one_answer(Fixture *fixture, gconstpointer data)
{
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        gboolean closed = FALSE;
        g_autofree char *heard = converse(fixture, cases[i].request, &closed);
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
    g_assert_cmpuint(refused_headers, >=, 4); /* forged certificates were logged */
}

static void
test_head_is_get_without_a_body(Fixture *fixture, gconstpointer data)
{
    g_autofree char *heard = converse(fixture, "HEAD /echo/a HTTP/1.1\r\n" HOST END, NULL);

    g_assert_true(g_str_has_prefix(heard, "HTTP/1.1 200 "));
    g_assert_nonnull(strstr(heard, "Content-Length: 16"));
    g_assert_true(g_str_has_suffix(heard, "\r\n\r\n"));
}

static void
test_pipelined_answers_come_in_order(Fixture *fixture, gconstpointer data)
{
    g_autofree char *heard =
        converse(fixture,
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
test_bodies_have_a_limit(Fixture *fixture, gconstpointer data)
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
        g_autofree char *heard = converse(fixture, text, NULL);
        g_assert_true(g_str_has_prefix(heard, start));
    }
}

static void
test_an_endless_body_is_cut(Fixture *fixture, gconstpointer data)
{
    int fd = dial(fixture);
    g_autofree char *chunk = g_strnfill(0x10000, 'x');
    gboolean closed = FALSE;
    g_autofree char *heard = NULL;

    say(fd, "POST /json HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", 55 + 0);
    for (guint i = 0; i < 200; i++) {
        say(fd, "10000\r\n", 7);
        say(fd, chunk, 0x10000);
        say(fd, "\r\n", 2);
    }
    heard = hear(fd, NULL, &closed);
    g_assert_true(closed);
    g_assert_null(strstr(heard, " 200 "));
    close(fd);
}

/* The status of a JSON body of about @length bytes. */
static guint
post(const Fixture *fixture, gsize length)
{
    g_autofree char *filler = g_strnfill(length, 'x');
    g_autofree char *text = g_strdup_printf("POST /json HTTP/1.1\r\n" HOST
                                            "Content-Length: %zu\r\n" END "{\"a\":\"%s\"}",
                                            length + 8, filler);
    g_autofree char *heard = converse(fixture, text, NULL);

    return g_str_has_prefix(heard, "HTTP/1.1 ") ? (guint)atoi(heard + strlen("HTTP/1.1 ")) : 0;
}

/* A connection that has sent all but the end of a large body, so that there is no room for another:
 * while both are read either may be the one without room, so it is tried again. */
static int
fill_room(const Fixture *fixture)
{
    const char *const head =
        "POST /json HTTP/1.1\r\n" HOST "Content-Length: 900002\r\nConnection: close\r\n\r\n";
    g_autofree char *much = g_strnfill(900000, ' ');
    gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

    while (g_get_monotonic_time() < end) {
        int fd = dial(fixture);
        say(fd, head, strlen(head));
        say(fd, much, 900000);
        for (guint i = 0; i < 10; i++)
            if (post(fixture, 200000) == 503)
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
    FrontEndSettings settings = settings_for_tests();
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    Fixture fixture;
    int fd;

    settings.uploads_bytes_max = 1000000;
    fixture_open(&fixture, &settings);
    g_assert_cmpuint(post(&fixture, 200000), ==, 200);
    fd = fill_room(&fixture);
    g_assert_cmpuint(post(&fixture, 60000), ==, 200);
    say(fd, "{}", 2); /* who had room keeps it */
    g_autofree char *heard = hear(fd, NULL, NULL);
    g_assert_true(g_str_has_prefix(heard, "HTTP/1.1 200 "));
    close(fd);
    while (post(&fixture, 200000) != 200) /* and gives it back, at the end … */
        g_assert_true(g_get_monotonic_time() < end);
    close(fill_room(&fixture)); /* … whichever */
    while (post(&fixture, 200000) != 200)
        g_assert_true(g_get_monotonic_time() < end);
    fixture_tear_down(&fixture, NULL);
}

static void
test_targets_and_headers_have_a_limit(Fixture *fixture, gconstpointer data)
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
        g_autofree char *heard = converse(fixture, text, NULL);
        g_autofree char *start = g_strdup_printf("HTTP/1.1 %s ", limits[i].status);
        g_test_message("%zu %zu: %.60s", limits[i].target, limits[i].header, heard);
        g_assert_true(g_str_has_prefix(heard, start));
    }
}

static void
test_many_headers_are_refused(Fixture *fixture, gconstpointer data)
{
    for (guint more = 0; more < 2; more++) {
        g_autoptr(GString) text = g_string_new("GET /echo/a HTTP/1.1\r\n" HOST);
        g_autofree char *heard = NULL;
        for (guint i = 0; i < 98 + more; i++)
            g_string_append_printf(text, "X%u: 1\r\n", i);
        g_string_append(text, END);
        heard = converse(fixture, text->str, NULL);
        g_assert_true(g_str_has_prefix(heard, more == 0 ? "HTTP/1.1 200 " : "HTTP/1.1 431 "));
    }
}

/* ---- time ---- */

/* A client that sends something now and then lives on under libmicrohttpd's own time-out; here it
 * does not. */
static void
test_slow_clients_are_cut(void)
{
    static const char *const begun[] = {"", "GET /echo/a HT",
                                        "GET /echo/a HTTP/1.1\r\nHost: a\r\nX: "};
    FrontEndSettings settings = settings_for_tests();
    Fixture fixture;

    settings.header_ms = 300;
    fixture_open(&fixture, &settings);
    for (guint i = 0; i < G_N_ELEMENTS(begun); i++) {
        int fd = dial(&fixture);
        gboolean closed = FALSE;
        gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
        say(fd, begun[i], strlen(begun[i]));
        while (!closed && g_get_monotonic_time() < end) {
            struct pollfd wait = {.fd = fd, .events = POLLIN};
            char byte;
            if (poll(&wait, 1, 50) == 1)
                closed = recv(fd, &byte, 1, 0) <= 0;
            else if (i > 0)
                say(fd, "x", 1);
        }
        g_assert_true(closed);
        close(fd);
    }
    fixture_tear_down(&fixture, NULL);
}

/* A byte now and then keeps libmicrohttpd content; the minimum rate does not. */
static void
test_a_slow_body_is_cut(void)
{
    FrontEndSettings settings = settings_for_tests();
    gboolean closed = FALSE;
    Fixture fixture;
    int fd;

    settings.body_grace_ms = 200;
    settings.body_rate = 1000;
    fixture_open(&fixture, &settings);
    fd = dial(&fixture);
    say(fd, "PUT /echo/a HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n",
        strlen("PUT /echo/a HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n"));
    for (guint i = 0; i < 400 && !closed; i++) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        char byte;
        if (poll(&wait, 1, 50) == 1)
            closed = recv(fd, &byte, 1, 0) <= 0;
        else
            say(fd, "x", 1);
    }
    g_assert_true(closed);
    close(fd);
    fixture_tear_down(&fixture, NULL);
}

/* The certificate listener's connections end with the answer that comes after their time. */
static void
test_a_connection_has_a_life(void)
{
    FrontEndSettings settings = settings_for_tests();
    g_autoptr(GError) error = NULL;
    ListenerSettings listener = {
        .serves = LISTEN_CLIENT, .address = "127.0.0.1:0", .connection_life_ms = 600000};
    Fixture fixture;
    g_autofree char *heard = NULL;
    int fd;

    fixture.front = front_end_new(NULL, &settings, tables, &callers, &error);
    g_assert_true(front_end_listen(fixture.front, &listener, &error));
    fixture.port = (guint16)g_ascii_strtoull(
        strrchr(front_end_address(fixture.front, LISTEN_CLIENT), ':') + 1, NULL, 10);
    fd = dial(&fixture);
    say(fd, "GET /echo/a HTTP/1.1\r\n" HOST "\r\n", strlen("GET /echo/a HTTP/1.1\r\n" HOST "\r\n"));
    heard = hear(fd, "|0", NULL);
    g_assert_null(strstr(heard, "Connection: close"));
    clock_shift_for_tests(700000);
    g_clear_pointer(&heard, g_free);
    say(fd, "GET /echo/a HTTP/1.1\r\n" HOST "\r\n", strlen("GET /echo/a HTTP/1.1\r\n" HOST "\r\n"));
    /* Cut by the sweep, or told to close by the answer: either way it is over. */
    heard = hear(fd, NULL, NULL);
    g_assert_true(*heard == '\0' || strstr(heard, "Connection: close") != NULL);
    clock_shift_for_tests(0);
    close(fd);
    fixture_tear_down(&fixture, NULL);
}

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
test_a_wake_answers_once(Fixture *fixture, gconstpointer data)
{
    int fd = dial(fixture);
    g_autoptr(Request) request = NULL;
    g_autofree char *heard = NULL;
    FrontEndCounts counts;
    guint won = 0;

    wakes = 0;
    say(fd, "GET /park HTTP/1.1\r\n" HOST END, strlen("GET /park HTTP/1.1\r\n" HOST END));
    request = wait_until_parked();
    do {
        front_end_counts(fixture->front, &counts);
    } while (counts.waiting == 0);
    for (guint i = 0; i < 3; i++)
        won += request_wake(request) ? 1 : 0;
    heard = hear(fd, NULL, NULL);
    g_assert_true(g_str_has_suffix(heard, "woken"));
    g_assert_cmpuint(won, ==, 1);
    g_assert_cmpuint(wakes, ==, 1);
    g_assert_cmpint(woken_for, ==, WAKE_NEWS);
    close(fd);
}

static void
test_the_time_of_a_wait_ends(Fixture *fixture, gconstpointer data)
{
    g_autofree char *heard = NULL;
    g_autofree char *at_once = NULL;

    heard = converse(fixture, "GET /park?timeout=20 HTTP/1.1\r\n" HOST END, NULL);
    g_assert_true(g_str_has_suffix(heard, "woken"));
    g_assert_cmpint(woken_for, ==, WAKE_TIME);
    at_once = converse(fixture, "GET /park?timeout=0 HTTP/1.1\r\n" HOST END, NULL);
    g_assert_true(g_str_has_suffix(at_once, "woken"));
    g_assert_cmpint(woken_for, ==, WAKE_TIME);
}

/* libmicrohttpd alone does not see that the client of a suspended connection has gone. */
static void
test_a_client_that_hangs_up_is_noticed(Fixture *fixture, gconstpointer data)
{
    int fd = dial(fixture);
    g_autoptr(Request) request = NULL;
    FrontEndCounts counts;

    wakes = 0;
    say(fd, "GET /park HTTP/1.1\r\n" HOST "\r\n", strlen("GET /park HTTP/1.1\r\n" HOST "\r\n"));
    request = wait_until_parked();
    close(fd);
    wait_for_wake(1);
    g_assert_cmpint(woken_for, ==, WAKE_GONE);
    g_assert_false(request_is_connected(request));
    do {
        front_end_counts(fixture->front, &counts);
    } while (counts.connections > 0 || counts.requests > 0);
}

static void
test_a_full_queue_answers_503(void)
{
    FrontEndSettings settings = settings_for_tests();
    g_autofree char *heard = NULL;
    Fixture fixture;

    settings.queue_max = 0;
    fixture_open(&fixture, &settings);
    heard = converse(&fixture, "GET /echo/a HTTP/1.1\r\n" HOST END, NULL);
    g_assert_true(g_str_has_prefix(heard, "HTTP/1.1 503 "));
    g_assert_nonnull(strstr(heard, "Retry-After: 1"));
    fixture_tear_down(&fixture, NULL);
}

static void
test_rates_are_limited(Fixture *fixture, gconstpointer data)
{
    gboolean limited = FALSE;

    for (guint i = 0; i < 200 && !limited; i++) {
        /* Whose request it is says the connection, not what the request claims of proxies. */
        g_autofree char *request =
            g_strdup_printf("GET /rated HTTP/1.1\r\n" HOST "X-Forwarded-For: 192.0.2.%u\r\n"
                            "X-Real-IP: 192.0.2.%u\r\nForwarded: for=192.0.2.%u\r\n" END,
                            i, i, i);
        g_autofree char *heard = converse(fixture, request, NULL);
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

/* ---- the stop ---- */

static gpointer
stop_in_thread(gpointer data)
{
    front_end_stop(data, 8000);
    return NULL;
}

static void
test_a_stop_answers_what_waits(Fixture *fixture, gconstpointer data)
{
    int fds[20];
    FrontEndCounts counts;
    GThread *thread;

    for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = dial(fixture);
        say(fds[i], "GET /park HTTP/1.1\r\n" HOST "\r\n",
            strlen("GET /park HTTP/1.1\r\n" HOST "\r\n"));
    }
    do {
        front_end_counts(fixture->front, &counts);
    } while (counts.waiting < G_N_ELEMENTS(fds));
    thread = g_thread_new("stop", stop_in_thread, fixture->front);
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
        gboolean closed = FALSE;
        g_autofree char *heard = hear(fds[i], NULL, &closed);
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
test_a_stop_ends_what_is_stuck(Fixture *fixture, gconstpointer data)
{
    int fd = dial(fixture);
    g_autoptr(Request) request = NULL;
    g_autofree char *heard = NULL;

    say(fd, "GET /stuck HTTP/1.1\r\n" HOST "\r\n", strlen("GET /stuck HTTP/1.1\r\n" HOST "\r\n"));
    request = wait_until_parked();
    front_end_stop(fixture->front, 50);
    heard = hear(fd, NULL, NULL);
    g_assert_true(g_str_has_prefix(heard, "HTTP/1.1 503 "));
    request_answer(request, response_empty_object(), NULL);
    close(fd);
}

/* A reader that takes nothing holds no thread. */
static void
test_a_client_that_does_not_read_holds_nobody(Fixture *fixture, gconstpointer data)
{
    int fds[8];

    for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = dial(fixture);
        say(fds[i], "GET /big HTTP/1.1\r\n" HOST "\r\n",
            strlen("GET /big HTTP/1.1\r\n" HOST "\r\n"));
    }
    g_autofree char *heard = converse(fixture, "GET /echo/a HTTP/1.1\r\n" HOST END, NULL);
    g_assert_true(g_str_has_prefix(heard, "HTTP/1.1 200 "));
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        close(fds[i]);
}

#define ADD(path, function)                                                                        \
    g_test_add(path, Fixture, NULL, fixture_set_up, function, fixture_tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_FATAL_MASK); /* refusals are logged as warnings */
    g_log_set_writer_func(quiet, NULL, NULL);
    ADD("/front/one-answer", test_each_request_gets_one_answer);
    ADD("/front/head", test_head_is_get_without_a_body);
    ADD("/front/pipeline", test_pipelined_answers_come_in_order);
    ADD("/front/body-limit", test_bodies_have_a_limit);
    ADD("/front/endless-body", test_an_endless_body_is_cut);
    g_test_add_func("/front/bodies-together", test_all_bodies_together_have_a_limit);
    ADD("/front/header-limits", test_targets_and_headers_have_a_limit);
    ADD("/front/many-headers", test_many_headers_are_refused);
    g_test_add_func("/front/slow", test_slow_clients_are_cut);
    g_test_add_func("/front/slow-body", test_a_slow_body_is_cut);
    g_test_add_func("/front/life", test_a_connection_has_a_life);
    ADD("/front/wake", test_a_wake_answers_once);
    ADD("/front/wait-time", test_the_time_of_a_wait_ends);
    ADD("/front/hang-up", test_a_client_that_hangs_up_is_noticed);
    g_test_add_func("/front/full", test_a_full_queue_answers_503);
    ADD("/front/rates", test_rates_are_limited);
    ADD("/front/stop-waiting", test_a_stop_answers_what_waits);
    ADD("/front/stop-stuck", test_a_stop_ends_what_is_stuck);
    ADD("/front/slow-reader", test_a_client_that_does_not_read_holds_nobody);
    return g_test_run();
}
