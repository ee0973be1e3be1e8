/* server/routes.c: the tables of routes, gathered.  Each module declares its own table in its
 * header or here. */
#include "server/http/route.h"

extern const Route discovery_routes[];    /* server/client/discovery_routes.c */
extern const Route login_routes[];        /* server/client/login.c */
extern const Route capability_routes[];   /* server/client/capabilities.c */
extern const Route device_routes[];       /* server/client/devices.c */
extern const Route uia_fallback_routes[]; /* server/certificate/uia_fallback.c */
extern const Route sso_routes[];          /* server/certificate/sso.c */
extern const Route challenge_routes[];    /* server/certificate/challenge.c */

extern const Route routes_partner_info[];        /* server/partner/info.c */
extern const Route routes_partner_memberships[]; /* server/partner/memberships.c */
extern const Route routes_partner_events[];      /* server/partner/events.c */

const Route *const route_tables[] = {
    discovery_routes,
    login_routes,
    capability_routes,
    device_routes,
    uia_fallback_routes,
    sso_routes,
    challenge_routes,
    routes_partner_info,
    routes_partner_memberships,
    routes_partner_events,
    NULL,
};
