/* server/http/router.h: finds the route of a method and a path.
 * The path is split at '/' first and each segment decoded once afterwards, so %2F stays inside a
 * segment. Immutable once made; any thread.  For server/http/ and its tests. */
#pragma once

#include "server/http/route.h"

typedef struct Router Router;

typedef enum {
    ROUTE_FOUND,
    ROUTE_UNKNOWN_PATH,   /* 404 M_UNRECOGNIZED */
    ROUTE_UNKNOWN_METHOD, /* 405 M_UNRECOGNIZED: other methods are served there */
    ROUTE_BAD_PATH,       /* 400: a broken escape, U+0000 or bad UTF-8 */
} RouteResult;

#define ROUTE_SEGMENTS_MAX 32

/* @tables: NULL-terminated list of tables, each ending with a row without method; both outlive the
 * router. */
Router *router_new(const Route *const *tables);
void router_free(Router *router);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Router, router_free)

/* @path: the raw path, without query.  *ret_values: the route's {name}s decoded, in order,
 * NULL-terminated (g_strfreev).  HEAD finds GET.  @ret_allowed (may be NULL): for
 * ROUTE_UNKNOWN_METHOD the methods there. */
RouteResult
router_find(const Router *router, Listener listener, const char *method, const char *path,
            const Route **ret_route, char ***ret_values, char **ret_allowed);

/* Decode %XX (and + when @plus).  NULL for a broken escape, U+0000 or bad UTF-8. */
char *percent_decode(const char *text, gssize length, gboolean plus);
