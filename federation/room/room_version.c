#include "federation/room/room_version.h"

#define DEPTH_MAX_V1 G_MAXINT64
#define DEPTH_MAX_V6 G_GINT64_CONSTANT(9007199254740991)

/* What versions have in common, so that a row shows only what it changes. */
#define FORMAT_V1                                                                                  \
    .event_id_format = EVENT_ID_CHOSEN, .reference_pairs = TRUE, .depth_max = DEPTH_MAX_V1,        \
    .aliases_rule = TRUE, .redaction_keeps_legacy = TRUE, .redaction_keeps_aliases = TRUE
#define FORMAT_V3                                                                                  \
    .depth_max = DEPTH_MAX_V1, .aliases_rule = TRUE, .redaction_keeps_legacy = TRUE,               \
    .redaction_keeps_aliases = TRUE, .state_resolution = STATE_RESOLUTION_V2
#define FORMAT_V6                                                                                  \
    .event_id_format = EVENT_ID_HASH_URL_SAFE, .depth_max = DEPTH_MAX_V6,                          \
    .canonical_json_strict = TRUE, .key_validity_enforced = TRUE,                                  \
    .power_levels_notifications = TRUE
#define REDACTION_V6 .redaction_keeps_legacy = TRUE
#define REDACTION_V8 REDACTION_V6, .redaction_keeps_allow = TRUE
#define REDACTION_V9 REDACTION_V8, .redaction_keeps_authorised = TRUE
#define REDACTION_V11                                                                              \
    .redaction_keeps_allow = TRUE, .redaction_keeps_authorised = TRUE, .redaction_v11 = TRUE

/* A row's `supported` turns TRUE when its rules are tested, not when they look right. */
static const RoomVersion table[] = {
    {"1", FORMAT_V1, .state_resolution = STATE_RESOLUTION_V1, .redaction_rule = TRUE,
     .supported = TRUE},
    {"2", FORMAT_V1, .state_resolution = STATE_RESOLUTION_V2, .redaction_rule = TRUE,
     .supported = TRUE},
    {"3", FORMAT_V3, .event_id_format = EVENT_ID_HASH, .supported = TRUE},
    {"4", FORMAT_V3, .event_id_format = EVENT_ID_HASH_URL_SAFE, .supported = TRUE},
    {"5", FORMAT_V3, .event_id_format = EVENT_ID_HASH_URL_SAFE, .key_validity_enforced = TRUE,
     .supported = TRUE},
    {"6", FORMAT_V6, REDACTION_V6, .state_resolution = STATE_RESOLUTION_V2, .supported = TRUE},
    {"7", FORMAT_V6, REDACTION_V6, .state_resolution = STATE_RESOLUTION_V2, .knock = TRUE,
     .supported = TRUE},
    {"8", FORMAT_V6, REDACTION_V8, .state_resolution = STATE_RESOLUTION_V2, .knock = TRUE,
     .restricted = TRUE, .supported = TRUE},
    {"9", FORMAT_V6, REDACTION_V9, .state_resolution = STATE_RESOLUTION_V2, .knock = TRUE,
     .restricted = TRUE, .supported = TRUE},
    {"10", FORMAT_V6, REDACTION_V9, .state_resolution = STATE_RESOLUTION_V2, .knock = TRUE,
     .restricted = TRUE, .knock_restricted = TRUE, .power_levels_integer = TRUE, .supported = TRUE},
    {"11", FORMAT_V6, REDACTION_V11, .state_resolution = STATE_RESOLUTION_V2, .knock = TRUE,
     .restricted = TRUE, .knock_restricted = TRUE, .power_levels_integer = TRUE,
     .creator_is_sender = TRUE, .redacts_in_content = TRUE, .supported = TRUE},
    {"12", FORMAT_V6, REDACTION_V11, .state_resolution = STATE_RESOLUTION_V2_1, .knock = TRUE,
     .restricted = TRUE, .knock_restricted = TRUE, .power_levels_integer = TRUE,
     .creator_is_sender = TRUE, .redacts_in_content = TRUE, .room_id_is_create_hash = TRUE,
     .additional_creators = TRUE, .creators_infinite = TRUE, .supported = TRUE},
};

const RoomVersion *
room_version_find(const char *id)
{
    for (guint i = 0; i < G_N_ELEMENTS(table); i++)
        if (g_strcmp0(table[i].id, id) == 0)
            return &table[i];
    return NULL;
}

const RoomVersion *
room_version_find_supported(const char *id)
{
    const RoomVersion *version = room_version_find(id);
    return version != NULL && version->supported ? version : NULL;
}

const RoomVersion *
room_version_default(void)
{
    return &table[G_N_ELEMENTS(table) - 1];
}

const RoomVersion *
room_version_table(guint *ret_count)
{
    *ret_count = G_N_ELEMENTS(table);
    return table;
}
