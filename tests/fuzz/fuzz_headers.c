/* Fuzz target: lines "METHOD target", "Name: value", ...: whatever is let through to a route says
 * one length at most, names no certificate, and its query can be asked. */
#include <string.h>

#include "server/http/front_private.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static guint
count_header(const Request *request, const char *name)
{
    guint count = 0;
    for (guint i = 0; i + 1 < request->headers->len; i += 2)
        count += g_ascii_strcasecmp(request->headers->pdata[i], name) == 0;
    return count;
}

static void
check_let_through(const Request *request)
{
    const char *length = request_header(request, "Content-Length");
    guint encodings = count_header(request, "Transfer-Encoding");
    g_assert_nonnull(request->route);
    g_assert_cmpuint(count_header(request, "Host"), <=, 1);
    g_assert_cmpuint(count_header(request, "Content-Length") + encodings, <=, 1);
    g_assert_true(length == NULL || *length == '0' ||
                  g_ascii_strtoull(length, NULL, 10) <= request->upload_max);
    for (guint i = 0; i < request->headers->len; i += 2)
        g_assert_true(strpbrk(request->headers->pdata[i], " \t\r\n:()") == NULL);
}

static void
check_query(const Request *request)
{
    static const char *const names[] = {"v", "limit", "since", ""};
    GError *error = NULL;
    gint64 value = 0;
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *const *all = request_query_all(request, names[i]);
        g_assert_cmpstr(all[0], ==, request_query(request, names[i]));
        for (guint j = 0; all[j] != NULL; j++)
            g_assert_true(g_utf8_validate(all[j], -1, NULL));
    }
    if (request_query_integer(request, "limit", 1, 20, 10, &value, &error))
        g_assert_true(value >= 1 && value <= 20);
    g_clear_error(&error);
}

/* A header that names a certificate makes a line of the log. */
static void
say_nothing(const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static const Listener kinds[] = {LISTEN_CLIENT, LISTEN_PARTNER, LISTEN_CERTIFICATE};
    static const Callers nobody;
    static FrontEnd front;
    g_autofree char *text = g_strndup((const char *)data, size);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    char *space = lines[0] != NULL ? strchr(lines[0], ' ') : NULL;
    if (space == NULL)
        return 0;
    if (front.router == NULL) {
        front.router = router_new(route_tables);
        front.callers = &nobody;
        g_log_set_handler(NULL, G_LOG_LEVEL_WARNING, say_nothing, NULL);
    }
    HttpListener listener = {.front = &front, .serves = kinds[size % G_N_ELEMENTS(kinds)]};
    Connection connection = {.listener = &listener, .peer_address = (char *)"127.0.0.1"};
    Request *request = request_new(&listener, &connection, NULL, space + 1);
    request->method = g_strndup(lines[0], (gsize)(space - lines[0]));
    for (guint i = 1; lines[i] != NULL; i++) {
        const char *colon = strchr(lines[i], ':');
        if (colon == NULL)
            continue;
        g_ptr_array_add(request->headers, g_strndup(lines[i], (gsize)(colon - lines[i])));
        g_ptr_array_add(request->headers, g_strdup(colon[1] == ' ' ? colon + 2 : colon + 1));
    }
    Response *response = dispatcher_judge_headers(request);
    if (response == NULL)
        check_let_through(request);
    else
        response_free(response);
    check_query(request);
    request_unref(request);
    return 0;
}
