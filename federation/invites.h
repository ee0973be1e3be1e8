/* federation/invites.h: what ends an invite or a knock to a room that we are not in.  For
 * federation/receive.c alone; the ways in are in federation/rooms.h. */
#pragma once

#include "federation/submission.h"

/* Lane thread.  Of @submission only the end of an invite or knock of a user of ours holds; all else
 * is refused. */
gboolean invites_apply_outside(Submission *submission, LaneBatch *batch, GError **error);
