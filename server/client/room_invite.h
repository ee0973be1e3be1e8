/* server/client/room_invite.h: invites, as the handlers of /invite (room_invite.c) and /createRoom
 * (room_create.c) need them. */
#pragma once

#include "federation/outgoing.h"
#include "server/client/room_call.h"

/* The content of an invite of @user_id; for a local user with the profile's name and picture. */
cJSON *invite_content(Server *server, const char *user_id, const char *reason, gboolean is_direct,
                      GError **error);
/* The caller invites a user of another server, whose server co-signs.  FALSE with @error: @done is
 * not called.  The parked request must answer itself from @done. */
gboolean
invite_remote(Request *request, const char *room_id, const char *user_id, const char *reason,
              gboolean is_direct, OutgoingDone done, gpointer data, GError **error);
