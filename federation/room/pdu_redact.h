/* federation/room/pdu_redact.h: what a room version's redaction leaves of an event.  Pure.
 * Source: Matrix v1.19, rooms/v11.md "Redactions" and its forerunners. */
#pragma once

#include "federation/room/pdu_members.h"
#include "federation/room/room_version.h"

#include <cjson/cJSON.h>

/* FALSE: of such an event's content nothing stays, whatever the version. */
gboolean pdu_redact_keeps_content(const char *type);
/* Append the canonical JSON of the redacted event.  @members is the whole event's, @content its
 * "content" with keys in byte order.  @with_signatures FALSE leaves out "signatures": what is
 * signed, and what the reference hash covers. */
void pdu_redact_append(GString *out, const RoomVersion *version, const char *type,
                       const GArray *members, const cJSON *content, gboolean with_signatures);
