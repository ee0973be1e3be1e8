/* server/routes.c: the tables of routes, gathered.  Each module declares its own table in its
 * header or here. */
#include "server/http/route.h"

extern const Route discovery_routes[];  /* server/client/discovery_routes.c */
extern const Route login_routes[];      /* server/client/login.c */
extern const Route capability_routes[]; /* server/client/capabilities.c */
extern const Route device_routes[];     /* server/client/devices.c */

const Route *const route_tables[] = {
    discovery_routes, login_routes, capability_routes, device_routes, NULL,
};
