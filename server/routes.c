/* server/routes.c: the tables of routes, gathered.  Each module declares its own table in its
 * header or here. */
#include "server/http/route.h"

extern const Route discovery_routes[]; /* server/client/discovery_routes.c */

const Route *const route_tables[] = {
    discovery_routes,
    NULL,
};
