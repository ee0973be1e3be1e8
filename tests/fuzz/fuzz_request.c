/* Fuzz target: what a client writes beside JSON: paths, escapes, tokens of sync and rooms. */
#include <string.h>

#include "server/client/stream_token.h"
#include "server/http/router.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static Router *router;
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autofree char *decoded = percent_decode(text, -1, size % 2 == 0);
    g_auto(GStrv) values = NULL;
    g_autofree char *allowed = NULL;
    const Route *route = NULL;
    SyncToken token;
    gint64 position;

    if (router == NULL)
        router = router_new(route_tables);
    if (decoded != NULL) {
        g_assert_true(g_utf8_validate(decoded, -1, NULL));
        g_assert_cmpuint(strlen(decoded), <=, strlen(text));
    }
    if (router_find(router, LISTEN_CLIENT, size % 3 == 0 ? "PUT" : "GET", text, &route, &values,
                    &allowed) == ROUTE_FOUND) {
        guint names = 0;
        for (const char *at = route->path; (at = strchr(at, '{')) != NULL; at++)
            names++;
        g_assert_cmpuint(g_strv_length(values), ==, names);
        for (guint i = 0; values[i] != NULL; i++)
            g_assert_true(g_utf8_validate(values[i], -1, NULL));
    }
    if (sync_token_parse(text, &token)) {
        g_autofree char *again = sync_token_format(&token);
        SyncToken same;
        g_assert_true(sync_token_parse(again, &same));
        g_assert_cmpint(same.position, ==, token.position);
    }
    room_token_parse(text, &position);
    return 0;
}
