#include "tests/support/proxy.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <libpq-fe.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LINES_MAX 32
/* The name under which the lane binds its prepared COMMIT: portal "" and this statement. */
#define COMMIT_BIND "\0lane_commit"

typedef struct {
    int client, server; /* -1: free */
    gboolean withhold;  /* what the server says is thrown away; cut once it has answered */
    gint withheld;
} Line;

struct TestProxy {
    char *directory, *path, *conninfo, *server_path;
    int listener;
    int wake[2];
    GThread *thread;
    GMutex lock; /* the members below */
    Line lines[LINES_MAX];
    ProxyCut cut;
    guint commits_left;
    gboolean refuse, stop;
    guint cuts;
};

/* close() alone takes effect only when the thread that polls the descriptor has let go of it. */
static void
end_close(int *end)
{
    if (*end >= 0) {
        shutdown(*end, SHUT_RDWR);
        close(*end);
    }
    *end = -1;
}

static void
line_close(Line *line)
{
    end_close(&line->client);
    end_close(&line->server);
    line->withhold = FALSE;
}

static int
socket_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

static gboolean
send_all(int descriptor, const char *bytes, gsize length)
{
    while (length > 0) {
        ssize_t sent = send(descriptor, bytes, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return FALSE;
        bytes += sent;
        length -= (gsize)sent;
    }
    return TRUE;
}

static void
proxy_accept(TestProxy *proxy)
{
    int client = accept(proxy->listener, NULL, NULL);
    if (client < 0)
        return;
    for (guint i = 0; i < LINES_MAX && !proxy->refuse; i++) {
        Line *line = &proxy->lines[i];
        if (line->client >= 0)
            continue;
        line->server = socket_to(proxy->server_path);
        if (line->server < 0)
            break;
        line->client = client;
        return;
    }
    close(client);
}

/* Bytes from the client; the batch of a test is small enough to arrive in one piece. */
static gboolean
proxy_forward(TestProxy *proxy, Line *line)
{
    static char bytes[1 << 20];
    ssize_t length = recv(line->client, bytes, sizeof bytes, 0);
    const char *commit;
    if (length <= 0)
        return FALSE;
    commit = memmem(bytes, (gsize)length, COMMIT_BIND, sizeof COMMIT_BIND);
    if (commit != NULL && proxy->cut != PROXY_CUT_NEVER && --proxy->commits_left == 0) {
        if (proxy->cut == PROXY_CUT_BEFORE) {
            proxy->cut = PROXY_CUT_NEVER;
            proxy->cuts++;
            send_all(line->server, bytes, (gsize)(commit - bytes) - 5); /* up to its Bind message */
            return FALSE;
        }
        proxy->refuse |= proxy->cut == PROXY_CUT_AFTER_FOR_GOOD;
        proxy->cut = PROXY_CUT_NEVER;
        line->withhold = TRUE;
    }
    return send_all(line->server, bytes, (gsize)length);
}

static gboolean
proxy_return(TestProxy *proxy, Line *line)
{
    static char bytes[1 << 20];
    ssize_t length = recv(line->server, bytes, sizeof bytes, 0);
    if (length <= 0)
        return FALSE;
    if (line->withhold) {
        /* ReadyForQuery ends what the server says after the sync: the commit is done. */
        if (length >= 6 && bytes[length - 6] == 'Z') {
            proxy->cuts++;
            return FALSE;
        }
        return TRUE;
    }
    return send_all(line->client, bytes, (gsize)length);
}

static gpointer
proxy_thread(gpointer data)
{
    TestProxy *proxy = data;
    for (;;) {
        struct pollfd polled[2 + 2 * LINES_MAX];
        g_mutex_lock(&proxy->lock);
        polled[0] = (struct pollfd){proxy->listener, POLLIN, 0};
        polled[1] = (struct pollfd){proxy->wake[0], POLLIN, 0};
        for (guint i = 0; i < LINES_MAX; i++) {
            polled[2 + 2 * i] = (struct pollfd){proxy->lines[i].client, POLLIN, 0};
            polled[3 + 2 * i] = (struct pollfd){proxy->lines[i].server, POLLIN, 0};
        }
        g_mutex_unlock(&proxy->lock);
        if (poll(polled, G_N_ELEMENTS(polled), -1) < 0)
            continue;
        g_mutex_lock(&proxy->lock);
        if (polled[1].revents != 0) {
            char byte;
            if (read(proxy->wake[0], &byte, 1) < 0)
                g_error("proxy: %s", g_strerror(errno));
        }
        for (guint i = 0; i < LINES_MAX; i++) {
            Line *line = &proxy->lines[i];
            if (line->client >= 0 && polled[2 + 2 * i].revents != 0 && !proxy_forward(proxy, line))
                line_close(line);
            else if (line->client >= 0 && polled[3 + 2 * i].revents != 0 &&
                     !proxy_return(proxy, line))
                line_close(line);
        }
        if (polled[0].revents != 0)
            proxy_accept(proxy);
        if (proxy->stop) {
            g_mutex_unlock(&proxy->lock);
            return NULL;
        }
        g_mutex_unlock(&proxy->lock);
    }
}

static void
proxy_wake(TestProxy *proxy)
{
    if (write(proxy->wake[1], "", 1) != 1)
        g_error("proxy: %s", g_strerror(errno));
}

/* Where the real socket is, from the connection string. */
static void
proxy_read_target(TestProxy *proxy, const char *conninfo)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    const char *host = NULL, *port = "5432";
    g_assert_nonnull(options);
    for (PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (strcmp(option->keyword, "host") == 0)
            host = option->val;
        if (strcmp(option->keyword, "port") == 0 && option->val != NULL)
            port = option->val;
    }
    if (host == NULL || host[0] != '/')
        g_error("the test proxy needs PostgreSQL on a Unix socket: %s", conninfo);
    proxy->server_path = g_strdup_printf("%s/.s.PGSQL.%s", host, port);
    proxy->path = g_strdup_printf("%s/.s.PGSQL.%s", proxy->directory, port);
    PQconninfoFree(options);
}

TestProxy *
test_proxy_new(const char *conninfo)
{
    TestProxy *proxy = g_new0(TestProxy, 1);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    proxy->directory = g_dir_make_tmp("chancery-proxy-XXXXXX", NULL);
    g_assert_nonnull(proxy->directory);
    proxy_read_target(proxy, conninfo);
    proxy->conninfo = g_strdup_printf("%s host=%s", conninfo, proxy->directory);
    for (guint i = 0; i < LINES_MAX; i++)
        proxy->lines[i].client = proxy->lines[i].server = -1;
    g_strlcpy(address.sun_path, proxy->path, sizeof address.sun_path);
    proxy->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(proxy->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(proxy->listener, 64) != 0 || pipe(proxy->wake) != 0)
        g_error("proxy: %s", g_strerror(errno));
    g_mutex_init(&proxy->lock);
    proxy->thread = g_thread_new("proxy", proxy_thread, proxy);
    return proxy;
}

void
test_proxy_free(TestProxy *proxy)
{
    if (proxy == NULL)
        return;
    g_mutex_lock(&proxy->lock);
    proxy->stop = TRUE;
    g_mutex_unlock(&proxy->lock);
    proxy_wake(proxy);
    g_thread_join(proxy->thread);
    for (guint i = 0; i < LINES_MAX; i++)
        line_close(&proxy->lines[i]);
    close(proxy->listener);
    close(proxy->wake[0]);
    close(proxy->wake[1]);
    g_unlink(proxy->path);
    g_rmdir(proxy->directory);
    g_mutex_clear(&proxy->lock);
    g_free(proxy->directory);
    g_free(proxy->path);
    g_free(proxy->server_path);
    g_free(proxy->conninfo);
    g_free(proxy);
}

const char *
test_proxy_conninfo(const TestProxy *proxy)
{
    return proxy->conninfo;
}

void
test_proxy_cut_at_commit(TestProxy *proxy, ProxyCut cut, guint nth)
{
    g_mutex_lock(&proxy->lock);
    proxy->cut = cut;
    proxy->commits_left = nth;
    g_mutex_unlock(&proxy->lock);
}

void
test_proxy_refuse(TestProxy *proxy, gboolean refuse)
{
    g_mutex_lock(&proxy->lock);
    proxy->refuse = refuse;
    for (guint i = 0; i < LINES_MAX && refuse; i++)
        line_close(&proxy->lines[i]);
    g_mutex_unlock(&proxy->lock);
    proxy_wake(proxy);
}

guint
test_proxy_cuts(TestProxy *proxy)
{
    guint cuts;
    g_mutex_lock(&proxy->lock);
    cuts = proxy->cuts;
    g_mutex_unlock(&proxy->lock);
    return cuts;
}
