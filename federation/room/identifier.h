/* federation/room/identifier.h: the grammar of user ids, room ids, event ids and server names.
 * Pure; any thread.  Source: Matrix v1.19 appendices, "Identifier Grammar". */
#pragma once

#include <glib.h>

#define IDENTIFIER_BYTES_MAX 255
#define SERVER_NAME_BYTES_MAX 255

gboolean identifier_server_name_valid(const char *name);

/* "@localpart:server".  The historical form, which events of every version may hold: any localpart
 * without ":" (an empty one too). */
gboolean identifier_user_id_valid(const char *user_id);

/* The form that new accounts have: a-z 0-9 . _ = - / + and not empty. */
gboolean identifier_user_id_strict(const char *user_id);

/* The server of "@user:server", "!room:server" or "#alias:server": what follows the first ":",
 * borrowed from @id. NULL where there is none (a room id of version 12). */
const char *identifier_server(const char *id);

/* TRUE if @id (NULL: no) is of @server_name. */
gboolean identifier_is_of(const char *id, const char *server_name);
/* The same, of a valid user ID alone. */
gboolean identifier_is_user_of(const char *user_id, const char *server_name);

/* TRUE if both ids have a server and it is the same. */
gboolean identifier_same_server(const char *a, const char *b);

/* @sigil + 43 characters of URL-safe base64: an event id of version 4 and later ('$'), a room id of
 * version 12 ('!'). */
gboolean identifier_is_hash(const char *id, char sigil);

/* "!opaque:server", or "!" + hash. */
gboolean identifier_room_id_valid(const char *room_id);
