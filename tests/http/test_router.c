/* The router: split first, decode once afterwards; a literal before a {name}. */
#include <string.h>

#include "server/http/router.h"

static Response *
nothing(Request *request, GError **error)
{
    return NULL;
}

#define ROW(method, path)                                                                          \
    {                                                                                              \
        method, path, LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, nothing                  \
    }

static const Route table[] = {
    ROW("GET", "/rooms/{roomId}/state"),
    ROW("GET", "/rooms/{roomId}/state/{type}"),
    ROW("GET", "/rooms/{roomId}/state/{type}/{key}"),
    ROW("PUT", "/rooms/{roomId}/state/{type}/{key}"),
    ROW("GET", "/rooms/list/state/special"),
    ROW("GET", "/pushrules/"),
    {"GET", "/partners", LISTEN_PARTNER, CALLER_ANYONE, RATE_NONE, BODY_NONE, nothing},
    {0},
};
static const Route *const tables[] = {table, NULL};

typedef struct {
    const char *method;
    const char *path;
    RouteResult result;
    const char *values; /* joined by | */
} Case;

static const Case cases[] = {
    {"GET", "/rooms/!a/state", ROUTE_FOUND, "!a"},
    {"HEAD", "/rooms/!a/state", ROUTE_FOUND, "!a"},
    {"GET", "/rooms/!a/state/m.room.name", ROUTE_FOUND, "!a|m.room.name"},
    {"GET", "/rooms/!a/state/m.room.name/", ROUTE_FOUND, "!a|m.room.name|"},
    {"GET", "/rooms/%21a%2Fb/state/t/k%20k", ROUTE_FOUND, "!a/b|t|k k"},
    {"GET", "/rooms/a+b/state/t/%2B", ROUTE_FOUND, "a+b|t|+"},
    {"GET", "/rooms/%252F/state", ROUTE_FOUND, "%2F"},
    {"GET", "/rooms/list/state/special", ROUTE_FOUND, ""},
    {"GET", "/rooms/list/state/other", ROUTE_FOUND, "list|other"},
    {"GET", "/rooms/%C3%A9/state", ROUTE_FOUND, "é"},
    {"GET", "/pushrules/", ROUTE_FOUND, ""},
    {"GET", "/pushrules", ROUTE_UNKNOWN_PATH, NULL},
    {"GET", "/rooms//state", ROUTE_FOUND, ""},
    {"GET", "/rooms/!a/state/", ROUTE_FOUND, "!a|"},
    {"GET", "/rooms/!a/state/x/y/z", ROUTE_UNKNOWN_PATH, NULL},
    {"GET", "/partners", ROUTE_UNKNOWN_PATH, NULL},
    {"GET", "//rooms/!a/state", ROUTE_UNKNOWN_PATH, NULL},
    {"DELETE", "/rooms/!a/state/t/k", ROUTE_UNKNOWN_METHOD, NULL},
    {"get", "/rooms/!a/state", ROUTE_UNKNOWN_METHOD, NULL},
    {"GET", "/rooms/%/state", ROUTE_BAD_PATH, NULL},
    {"GET", "/rooms/%4/state", ROUTE_BAD_PATH, NULL},
    {"GET", "/rooms/%zz/state", ROUTE_BAD_PATH, NULL},
    {"GET", "/rooms/a%00b/state", ROUTE_BAD_PATH, NULL},
    {"GET", "/rooms/%ff/state", ROUTE_BAD_PATH, NULL},
    {"GET", "/rooms/%c0%af/state", ROUTE_BAD_PATH, NULL},
    {"GET", "rooms", ROUTE_BAD_PATH, NULL},
    {"GET", "http://elsewhere/rooms/!a/state", ROUTE_BAD_PATH, NULL},
    {"GET", "*", ROUTE_BAD_PATH, NULL},
};

static void
test_each_path_finds_its_route_or_none(void)
{
    g_autoptr(Router) router = router_new(tables);

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        const Route *route = NULL;
        g_auto(GStrv) values = NULL;
        g_autofree char *allowed = NULL;
        RouteResult result = router_find(router, LISTEN_CLIENT, cases[i].method, cases[i].path,
                                         &route, &values, &allowed);
        g_test_message("%s %s", cases[i].method, cases[i].path);
        g_assert_cmpint(result, ==, cases[i].result);
        if (result == ROUTE_FOUND) {
            g_autofree char *joined = g_strjoinv("|", values);
            g_assert_cmpstr(joined, ==, cases[i].values);
        }
    }
}

static void
test_other_methods_are_named(void)
{
    g_autoptr(Router) router = router_new(tables);
    const Route *route = NULL;
    g_auto(GStrv) values = NULL;
    g_autofree char *allowed = NULL;

    g_assert_cmpint(
        router_find(router, LISTEN_CLIENT, "POST", "/rooms/a/state/b/c", &route, &values, &allowed),
        ==, ROUTE_UNKNOWN_METHOD);
    g_assert_cmpstr(allowed, ==, "GET, PUT");
}

static void
test_segments_have_a_limit(void)
{
    g_autoptr(Router) router = router_new(tables);
    g_autoptr(GString) path = g_string_new("/rooms/a/state/b");
    const Route *route = NULL;
    g_auto(GStrv) values = NULL;

    for (guint i = 0; i < 10000; i++)
        g_string_append(path, "/x");
    g_assert_cmpint(router_find(router, LISTEN_CLIENT, "GET", path->str, &route, &values, NULL), ==,
                    ROUTE_UNKNOWN_PATH);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/router/paths", test_each_path_finds_its_route_or_none);
    g_test_add_func("/router/methods", test_other_methods_are_named);
    g_test_add_func("/router/segments", test_segments_have_a_limit);
    return g_test_run();
}
