#include "tests/support/front_scene.h"

#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "identity/refusal.h"

#define READ_MS 20000

static const Route *tables[2]; /* the program's, ended by NULL */
static guint warnings;

Response *
front_echo(Request *request, GError **error)
{
    const char *name = request_path(request, "name");
    gsize length = g_bytes_get_size(request_body(request));
    g_autofree char *text = g_strdup_printf("%s|%s|%s|%" G_GSIZE_FORMAT, request_method(request),
                                            request_target(request), name, length);

    return response_text(200, "text/plain", text);
}

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
        warnings++;
    return G_LOG_WRITER_HANDLED;
}

void
front_begin(int *argc, char ***argv, const Route *table)
{
    tables[0] = table;
    g_test_init(argc, argv, NULL);
    g_log_set_always_fatal(G_LOG_FATAL_MASK); /* refusals are logged as warnings */
    g_log_set_writer_func(quiet, NULL, NULL);
}

guint
front_warnings(void)
{
    return warnings;
}

FrontEndSettings
front_settings(void)
{
    FrontEndSettings settings = front_end_settings_default;

    settings.workers = 2;
    settings.access_log = FALSE;
    return settings;
}

void
front_open_with_life(FrontScene *scene, const FrontEndSettings *settings, guint connection_life_ms)
{
    g_autoptr(GError) error = NULL;
    ListenerSettings listener = {.serves = LISTEN_CLIENT,
                                 .address = "127.0.0.1:0",
                                 .connection_life_ms = connection_life_ms};

    scene->front = front_end_new(NULL, settings, tables, &callers, &error);
    g_assert_no_error(error);
    g_assert_true(front_end_listen(scene->front, &listener, &error));
    scene->port = (guint16)g_ascii_strtoull(
        strrchr(front_end_address(scene->front, LISTEN_CLIENT), ':') + 1, NULL, 10);
}

void
front_open(FrontScene *scene, const FrontEndSettings *settings)
{
    front_open_with_life(scene, settings, 0);
}

void
front_close(FrontScene *scene)
{
    g_clear_pointer(&scene->front, front_end_free);
}

void
front_set_up(FrontScene *scene, gconstpointer data)
{
    FrontEndSettings settings = front_settings();

    front_open(scene, &settings);
}

void
front_tear_down(FrontScene *scene, gconstpointer data)
{
    front_close(scene);
}

/* ---- raw sockets ---- */

int
front_dial(const FrontScene *scene)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(scene->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
    return fd;
}

void
front_say(int fd, const char *text, gsize length)
{
    while (length > 0) {
        ssize_t sent = send(fd, text, length, MSG_NOSIGNAL);
        if (sent < 0)
            return; /* the server has closed: what it said decides */
        text += sent;
        length -= (gsize)sent;
    }
}

char *
front_hear(int fd, const char *until, gboolean *ret_closed)
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

char *
front_converse(const FrontScene *scene, const char *text, gboolean *ret_closed)
{
    int fd = front_dial(scene);
    char *heard;

    front_say(fd, text, strlen(text));
    heard = front_hear(fd, NULL, ret_closed);
    close(fd);
    return heard;
}
