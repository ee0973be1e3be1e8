#include "server/http/router.h"

#include <string.h>

typedef struct Node Node;
struct Node {
    GHashTable *children; /* literal segment -> Node; the keys are ours, not a peer's */
    Node *any;            /* {name} */
    GPtrArray *routes;    /* Route that end here */
};

struct Router {
    Node *root;
};

static Node *
node_new(void)
{
    return g_new0(Node, 1);
}

static void
node_free(gpointer data)
{
    Node *node = data;

    if (node == NULL)
        return;
    g_clear_pointer(&node->children, g_hash_table_unref);
    g_clear_pointer(&node->routes, g_ptr_array_unref);
    node_free(node->any);
    g_free(node);
}

static Node *
node_child(Node *node, const char *segment)
{
    Node *child;

    if (segment[0] == '{') {
        if (node->any == NULL)
            node->any = node_new();
        return node->any;
    }
    if (node->children == NULL)
        node->children = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, node_free);
    child = g_hash_table_lookup(node->children, segment);
    if (child == NULL) {
        child = node_new();
        g_hash_table_insert(node->children, g_strdup(segment), child);
    }
    return child;
}

static void
router_add(Router *router, const Route *route)
{
    g_auto(GStrv) segments = g_strsplit(route->path + 1, "/", -1);
    Node *node = router->root;

    g_assert(route->path[0] == '/');
    for (guint i = 0; segments[i] != NULL; i++)
        node = node_child(node, segments[i]);
    if (node->routes == NULL)
        node->routes = g_ptr_array_new();
    for (guint i = 0; i < node->routes->len; i++) {
        const Route *other = node->routes->pdata[i];
        if (strcmp(other->method, route->method) == 0 && (other->listener & route->listener) != 0)
            g_error("two routes for %s %s", route->method, route->path);
    }
    g_ptr_array_add(node->routes, (gpointer)route);
}

Router *
router_new(const Route *const *tables)
{
    Router *router = g_new0(Router, 1);

    router->root = node_new();
    for (; *tables != NULL; tables++)
        for (const Route *route = *tables; route->method != NULL; route++)
            router_add(router, route);
    return router;
}

void
router_free(Router *router)
{
    if (router == NULL)
        return;
    node_free(router->root);
    g_free(router);
}

char *
percent_decode(const char *text, gssize length, gboolean plus)
{
    gsize size = length < 0 ? strlen(text) : (gsize)length;
    g_autofree char *out = g_malloc(size + 1);
    gsize used = 0;

    for (gsize i = 0; i < size; i++) {
        char byte = text[i];
        if (byte == '%') {
            int high = size - i > 2 ? g_ascii_xdigit_value(text[i + 1]) : -1;
            int low = size - i > 2 ? g_ascii_xdigit_value(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return NULL;
            byte = (char)(high << 4 | low);
            i += 2;
        } else if (plus && byte == '+') {
            byte = ' ';
        }
        if (byte == '\0')
            return NULL;
        out[used++] = byte;
    }
    out[used] = '\0';
    return g_utf8_validate(out, (gssize)used, NULL) ? g_steal_pointer(&out) : NULL;
}

typedef struct {
    const char *start[ROUTE_SEGMENTS_MAX];
    gsize length[ROUTE_SEGMENTS_MAX];
    char *decoded[ROUTE_SEGMENTS_MAX];
    gboolean wild[ROUTE_SEGMENTS_MAX];
    guint count;
    Listener listener;
} Walk;

static gboolean
serves(const Node *node, Listener listener)
{
    for (guint i = 0; node->routes != NULL && i < node->routes->len; i++)
        if ((((const Route *)node->routes->pdata[i])->listener & listener) != 0)
            return TRUE;
    return FALSE;
}

/* A literal wins over a {name}; tried again with the {name} where that leads nowhere. */
static const Node *
walk(Walk *way, const Node *node, guint at)
{
    const Node *found = NULL;
    const Node *child;

    if (at == way->count)
        return serves(node, way->listener) ? node : NULL;
    child = node->children != NULL ? g_hash_table_lookup(node->children, way->decoded[at]) : NULL;
    if (child != NULL) {
        way->wild[at] = FALSE;
        found = walk(way, child, at + 1);
    }
    if (found == NULL && node->any != NULL) {
        way->wild[at] = TRUE;
        found = walk(way, node->any, at + 1);
    }
    return found;
}

static RouteResult
pick(const Node *node, Listener listener, const char *method, const Route **ret_route,
     char **ret_allowed)
{
    g_autoptr(GString) allowed = g_string_new(NULL);
    const char *sought = strcmp(method, "HEAD") == 0 ? "GET" : method;

    for (guint i = 0; i < node->routes->len; i++) {
        const Route *route = node->routes->pdata[i];
        if ((route->listener & listener) == 0)
            continue;
        if (strcmp(route->method, sought) == 0) {
            *ret_route = route;
            return ROUTE_FOUND;
        }
        g_string_append_printf(allowed, "%s%s", allowed->len > 0 ? ", " : "", route->method);
    }
    if (ret_allowed != NULL)
        *ret_allowed = g_string_free(g_steal_pointer(&allowed), FALSE);
    return ROUTE_UNKNOWN_METHOD;
}

RouteResult
router_find(const Router *router, Listener listener, const char *method, const char *path,
            const Route **ret_route, char ***ret_values, char **ret_allowed)
{
    Walk way = {.listener = listener};
    RouteResult result = ROUTE_UNKNOWN_PATH;
    const Node *node = NULL;

    if (path[0] != '/')
        return ROUTE_BAD_PATH;
    for (const char *at = path; at != NULL && *at == '/';) {
        const char *start = at + 1;
        const char *end = strchr(start, '/');
        if (way.count == ROUTE_SEGMENTS_MAX)
            goto out;
        way.start[way.count] = start;
        way.length[way.count] = end != NULL ? (gsize)(end - start) : strlen(start);
        way.count++;
        at = end;
    }
    for (guint i = 0; i < way.count; i++) {
        way.decoded[i] = percent_decode(way.start[i], (gssize)way.length[i], FALSE);
        if (way.decoded[i] == NULL) {
            result = ROUTE_BAD_PATH;
            goto out;
        }
    }
    node = walk(&way, router->root, 0);
    if (node != NULL)
        result = pick(node, listener, method, ret_route, ret_allowed);
    if (result == ROUTE_FOUND) {
        GPtrArray *values = g_ptr_array_new();
        for (guint i = 0; i < way.count; i++)
            if (way.wild[i])
                g_ptr_array_add(values, g_steal_pointer(&way.decoded[i]));
        g_ptr_array_add(values, NULL);
        *ret_values = (char **)g_ptr_array_free(values, FALSE);
    }
out:
    for (guint i = 0; i < way.count; i++)
        g_free(way.decoded[i]);
    return result;
}
