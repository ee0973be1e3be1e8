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
extern const Route officer_routes[];      /* server/certificate/officer_routes.c */

extern const Route sync_routes[];         /* server/client/sync.c */
extern const Route filter_routes[];       /* server/client/filter.c */
extern const Route account_data_routes[]; /* server/client/account_data.c */
extern const Route push_rule_routes[];    /* server/client/push_rule_routes.c */
extern const Route receipt_routes[];      /* server/client/receipts.c */
extern const Route typing_routes[];       /* server/client/typing_routes.c */
extern const Route routes_keys[];         /* server/client/keys.c */

extern const Route routes_partner_info[];        /* server/partner/info.c */
extern const Route routes_partner_memberships[]; /* server/partner/memberships.c */
extern const Route routes_partner_events[];      /* server/partner/events.c */
extern const Route routes_partner_keys[];        /* server/partner/keys.c */
extern const Route routes_partner_transaction[]; /* server/partner/transaction.c */

extern const Route room_routes[];         /* server/client/room_routes.c */
extern const Route room_partner_routes[]; /* server/client/room_directory.c */

const Route *const route_tables[] = {
    room_routes,
    room_partner_routes,
    discovery_routes,
    login_routes,
    capability_routes,
    device_routes,
    uia_fallback_routes,
    sso_routes,
    challenge_routes,
    officer_routes,
    sync_routes,
    filter_routes,
    account_data_routes,
    push_rule_routes,
    receipt_routes,
    typing_routes,
    routes_keys,
    routes_partner_info,
    routes_partner_memberships,
    routes_partner_events,
    routes_partner_keys,
    routes_partner_transaction,
    NULL,
};
