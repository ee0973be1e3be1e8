/* federation/outgoing_private.h: what the chains of steps towards partners share.  For
 * federation/outgoing.c and outgoing_*.c alone. */
#pragma once

#include "federation/outgoing.h"

#define OUTGOING_SERVERS_MAX 10 /* asked for one thing, one after the other */

struct Outgoing {
    char *own_name;
    const ServerKey *key;
    StorePool *pool;
    Rooms *rooms;
    Partners *partners;
    PartnerClient *client;
    Delivery *delivery;
};

/* What a caller may be told: a refusal as it is, anything else as 502. */
void outgoing_tell_failure(GError **error, const GError *cause);
/* Our verdict on an event that we brought in ourselves.  TRUE: it is in. */
gboolean outgoing_received_well(GPtrArray *received, const GError *error, GError **ret_error);
/* The members of a JSON array, each as canonical JSON (GPtrArray of GBytes).  NULL: it is none. */
GPtrArray *outgoing_events_of(const cJSON *array);
/* Is there a good signature of @server_name by a pinned key? */
gboolean outgoing_is_signed_by(Outgoing *outgoing, const Pdu *event, const char *server_name);
