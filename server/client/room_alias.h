/* server/client/room_alias.h: names of rooms.  For server/client/room_*.c and server/partner/. */
#pragma once

#include "server/client/room_call.h"

/* 400 M_INVALID_PARAM unless @alias reads #localpart:server within 255 bytes. */
gboolean require_alias(const char *alias, GError **error);

/* Called once, maybe before room_alias_resolve() returns, from any thread.  @servers:
 * NULL-terminated; borrowed.
 * @error: a REFUSAL (404 M_NOT_FOUND) or a failure. */
typedef void (*RoomAliasFound)(const char *room_id, const char *const *servers, const GError *error,
                               gpointer data);
/* By our own table, or by the partner whose alias it is. */
void room_alias_resolve(Server *server, const char *alias, RoomAliasFound found, gpointer data);

/* The body of a directory answer for local @alias: NULL with 404 M_NOT_FOUND. */
Response *room_alias_local(Server *server, const char *alias, GError **error);
