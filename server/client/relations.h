/* server/client/relations.h: what relates to an event, told with it (unsigned.m.relations): its
 * thread, its newest edit.  For server/client/client_events.c. */
#pragma once

#include "server/client/client_events.h"

/* For those of @events that have any: event id -> char * (bytes of the object "m.relations"); owned
 * by the table. */
GHashTable *
relations_bundle(Server *server, const ClientEventsView *view, GPtrArray *events, GError **error);
