/* federation/room/pdu_build.h: our own events: hashed, signed and made into a Pdu.
 * Pure: the time and the key are handed in.  For federation/proposal.c (local events),
 * rooms_template.c (templates) and outgoing_membership.c (events made of templates). */
#pragma once

#include "federation/room/pdu.h"
#include "federation/room/pdu_sign.h"

/* Everything is borrowed. */
typedef struct {
    const char *room_id; /* NULL for a create event of version 12 */
    const char *type;
    const char *state_key; /* NULL: a message event */
    const char *sender;
    const cJSON *content;
    const char *event_id; /* "$opaque:server" in versions 1 and 2; not looked at in others */
    const char *redacts;  /* of m.room.redaction; put where the version keeps it */
    const char *const *prev_events; /* NULL-terminated; NULL: none */
    const char *const *auth_events; /* NULL-terminated; NULL: none */
    /* Versions 1 and 2: the pdu_reference_hash() of each event above.  NULL: the pairs bear none.
     */
    const char *const *prev_hashes;
    const char *const *auth_hashes;
    gint64 depth; /* brought down to the version's maximum */
    gint64 origin_server_ts;
} PduTemplate;

/* NULL with PDU_ERROR_TOO_LARGE (answer M_TOO_LARGE) or PDU_ERROR_FORMAT/JSON_ERROR (M_BAD_JSON):
 * the finished event passes the same checks as one from a partner. */
Pdu *pdu_build(const RoomVersion *version, const PduTemplate *template, const PduSigner *signer,
               GError **error);

/* A partner's answer to make_join, make_leave or make_knock, or our own event in a
 * partner's hands (send_*): take the template's JSON as built (hashes and signatures replaced) and
 * sign it.  The caller has checked type, sender, state_key and room_id against what it asked for.
 */
Pdu *pdu_build_from_value(const RoomVersion *version, const cJSON *template,
                          const PduSigner *signer, GError **error);

/* The event without hashes and signatures, for our answer to make_join, make_leave, make_knock. */
GBytes *pdu_template_json(const RoomVersion *version, const PduTemplate *template, GError **error);
