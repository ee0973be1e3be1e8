#include "federation/room/pdu_redact.h"

#include <stddef.h>
#include <string.h>

#include "identity/json.h"

/* A key that stays if the version's flag at @feature is set; 0 (where the id stands): always. */
#define ALWAYS 0
#define IF(flag) offsetof(RoomVersion, flag)

typedef struct {
    const char *type; /* NULL: a member of the event itself */
    const char *key;
    gsize feature;
} Kept;

static const Kept kept[] = {
    {NULL, "auth_events", ALWAYS},
    {NULL, "content", ALWAYS},
    {NULL, "depth", ALWAYS},
    {NULL, "event_id", ALWAYS},
    {NULL, "hashes", ALWAYS},
    {NULL, "membership", IF(redaction_keeps_legacy)},
    {NULL, "origin", IF(redaction_keeps_legacy)},
    {NULL, "origin_server_ts", ALWAYS},
    {NULL, "prev_events", ALWAYS},
    {NULL, "prev_state", IF(redaction_keeps_legacy)},
    {NULL, "room_id", ALWAYS},
    {NULL, "sender", ALWAYS},
    {NULL, "signatures", ALWAYS},
    {NULL, "state_key", ALWAYS},
    {NULL, "type", ALWAYS},

    {"m.room.aliases", "aliases", IF(redaction_keeps_aliases)},
    {"m.room.create", "creator", ALWAYS},
    {"m.room.history_visibility", "history_visibility", ALWAYS},
    {"m.room.join_rules", "allow", IF(redaction_keeps_allow)},
    {"m.room.join_rules", "join_rule", ALWAYS},
    {"m.room.member", "join_authorised_via_users_server", IF(redaction_keeps_authorised)},
    {"m.room.member", "membership", ALWAYS},
    {"m.room.power_levels", "ban", ALWAYS},
    {"m.room.power_levels", "events", ALWAYS},
    {"m.room.power_levels", "events_default", ALWAYS},
    {"m.room.power_levels", "invite", IF(redaction_v11)},
    {"m.room.power_levels", "kick", ALWAYS},
    {"m.room.power_levels", "redact", ALWAYS},
    {"m.room.power_levels", "state_default", ALWAYS},
    {"m.room.power_levels", "users", ALWAYS},
    {"m.room.power_levels", "users_default", ALWAYS},
    {"m.room.redaction", "redacts", IF(redaction_v11)},
};

gboolean
pdu_redact_keeps_content(const char *type)
{
    for (guint i = 0; i < G_N_ELEMENTS(kept); i++)
        if (kept[i].type != NULL && strcmp(kept[i].type, type) == 0)
            return TRUE;
    return FALSE;
}

static gboolean
is_kept(const RoomVersion *version, const char *type, const char *key, gsize key_length)
{
    for (guint i = 0; i < G_N_ELEMENTS(kept); i++) {
        if (g_strcmp0(kept[i].type, type) != 0 || strlen(kept[i].key) != key_length ||
            memcmp(kept[i].key, key, key_length) != 0)
            continue;
        return kept[i].feature == ALWAYS ||
               *(const gboolean *)((const char *)version + kept[i].feature);
    }
    return FALSE;
}

static void
append_key(GString *out, const char *key)
{
    if (out->str[out->len - 1] != '{')
        g_string_append_c(out, ',');
    json_append_string(out, key);
    g_string_append_c(out, ':');
}

/* Of an invite through a third party its proof stays; the object itself stays even without one. */
static void
append_third_party_invite(GString *out, const cJSON *invite)
{
    const cJSON *proof = json_object_get(invite, "signed");
    append_key(out, "third_party_invite");
    g_string_append_c(out, '{');
    if (proof != NULL) {
        append_key(out, "signed");
        json_canonical_append(out, proof, NULL);
    }
    g_string_append_c(out, '}');
}

static void
append_content(GString *out, const RoomVersion *version, const char *type, const cJSON *content)
{
    gboolean whole = version->redaction_v11 && strcmp(type, "m.room.create") == 0;
    gboolean member = version->redaction_v11 && strcmp(type, "m.room.member") == 0;
    const cJSON *value;

    g_string_append_c(out, '{');
    cJSON_ArrayForEach(value, content)
    {
        if (whole || is_kept(version, type, value->string, strlen(value->string))) {
            append_key(out, value->string);
            json_canonical_append(out, value, NULL);
        } else if (member && strcmp(value->string, "third_party_invite") == 0 &&
                   cJSON_IsObject(value)) {
            append_third_party_invite(out, value);
        }
    }
    g_string_append_c(out, '}');
}

void
pdu_redact_append(GString *out, const RoomVersion *version, const char *type, const GArray *members,
                  const cJSON *content, gboolean with_signatures)
{
    g_string_append_c(out, '{');
    for (guint i = 0; i < members->len; i++) {
        const PduMember *member = &g_array_index(members, PduMember, i);
        if (!is_kept(version, NULL, member->key, member->key_length))
            continue;
        if (!with_signatures && pdu_member_is(member, "signatures"))
            continue;
        if (out->str[out->len - 1] != '{')
            g_string_append_c(out, ',');
        g_string_append_c(out, '"');
        g_string_append_len(out, member->key, (gssize)member->key_length);
        g_string_append(out, "\":");
        if (pdu_member_is(member, "content"))
            append_content(out, version, type, content);
        else
            g_string_append_len(out, member->value, (gssize)member->value_length);
    }
    g_string_append_c(out, '}');
}
