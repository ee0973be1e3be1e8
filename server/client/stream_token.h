/* server/client/stream_token.h: the tokens that clients hold: where they are in the log.
 *
 * A sync token is a position of the log with the database's epoch, and positions of what is not in
 * the log: typing, and the to-device inbox when it is handed out in parts.  A room token is the gap
 * just after a position: backwards it yields what is at or before it, forwards what is after.
 * Opaque to clients.  For server/client: sync, messages, context. */
#pragma once

#include <glib.h>

typedef struct {
    gint64 epoch;
    gint64 position;
    gint64 typing;
    gint64 to_device;
    gboolean unacknowledged; /* messages came with this token: whoever shows it has had them */
} SyncToken;

char *sync_token_format(const SyncToken *token);
/* FALSE: not a token of this server. */
gboolean sync_token_parse(const char *text, SyncToken *ret_token);

char *room_token_format(gint64 position);
/* Takes a sync token too: the room as of that sync. */
gboolean room_token_parse(const char *text, gint64 *ret_position);
