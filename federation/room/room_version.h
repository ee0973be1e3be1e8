/* federation/room/room_version.h: what one room version does differently, as a table row.
 *
 * Code asks the row, never the version's number, so that a further version is a further row.
 * Rows are constant and live for ever.  Pure; any thread.
 * Source: Matrix v1.19, rooms/v1.md to v12.md. */
#pragma once

#include <glib.h>

typedef enum {
    STATE_RESOLUTION_V1,
    STATE_RESOLUTION_V2,
    STATE_RESOLUTION_V2_1, /* empty start map, conflicted subgraph */
} StateResolutionAlgorithm;

typedef enum {
    EVENT_ID_CHOSEN,        /* "$opaque:domain", a member of the event */
    EVENT_ID_HASH,          /* "$" + unpadded standard base64 of the reference hash */
    EVENT_ID_HASH_URL_SAFE, /* "$" + unpadded URL-safe base64 of the reference hash */
} EventIdFormat;

typedef struct {
    const char *id;
    gboolean supported; /* TRUE: tested, so rooms of it may be made, joined and served */

    EventIdFormat event_id_format;
    gboolean reference_pairs; /* prev_events and auth_events are [id, {hashes}] pairs */
    StateResolutionAlgorithm state_resolution;
    gint64 depth_max;
    gboolean canonical_json_strict; /* otherwise numbers that canonical JSON has not may pass */
    gboolean key_validity_enforced; /* signatures count only within the key's validity */

    gboolean room_id_is_create_hash; /* "!" + create event's hash; no room_id in it; not in
                                        auth_events */
    gboolean creator_is_sender;      /* otherwise content.creator */
    gboolean additional_creators;    /* content.additional_creators count as creators */
    gboolean creators_infinite;      /* creators stand above every level and in no "users" map */

    gboolean power_levels_integer;       /* levels are JSON integers, never numeric strings */
    gboolean power_levels_notifications; /* "notifications" is under the rules of change */
    gboolean aliases_rule;               /* m.room.aliases has an auth rule of its own */
    gboolean redaction_rule;             /* m.room.redaction has an auth rule of its own */
    gboolean knock;
    gboolean restricted;
    gboolean knock_restricted;

    gboolean redacts_in_content; /* otherwise a top-level member */
    /* What redaction keeps. */
    gboolean redaction_keeps_legacy; /* top-level origin, membership, prev_state */
    gboolean redaction_keeps_aliases;
    gboolean redaction_keeps_allow;      /* join_rules.allow */
    gboolean redaction_keeps_authorised; /* member.join_authorised_via_users_server */
    gboolean
        redaction_v11; /* all of create, power_levels.invite, redaction.redacts, member's signed */
} RoomVersion;

/* The row of "12"; NULL where no such version is known.  A row with supported FALSE names a
 * version that this server does not speak yet: answer M_UNSUPPORTED_ROOM_VERSION or
 * M_INCOMPATIBLE_ROOM_VERSION as for NULL. */
const RoomVersion *room_version_find(const char *id);

/* The same, but NULL too where the version is not supported. */
const RoomVersion *room_version_find_supported(const char *id);

/* The version of new rooms: 12. */
const RoomVersion *room_version_default(void);

/* All rows in order, for /capabilities. */
const RoomVersion *room_version_table(guint *ret_count);
