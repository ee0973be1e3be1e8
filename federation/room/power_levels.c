#include "federation/room/power_levels.h"

#include <math.h>
#include <string.h>

#include "federation/room/identifier.h"
#include "federation/room/power_value.h"
#include "identity/json.h"

#define CREATOR_LEVEL_BEFORE_V12 100
#define STATE_DEFAULT 50
#define NOTIFY_DEFAULT 50

int
power_compare(Power a, Power b)
{
    if (a.infinite || b.infinite)
        return a.infinite - b.infinite;
    return (a.level > b.level) - (a.level < b.level);
}

gboolean
power_at_least(Power power, gint64 level)
{
    return power.infinite || power.level >= level;
}

/* Versions 1 to 9 take "50" and " +50 " for 50; a level that is neither counts as absent.  What 64
 * bits do not hold becomes the largest or smallest that they do. */
static gboolean
numeric_string(const char *text, gint64 *ret_level)
{
    char *end = NULL;
    gint64 level = g_ascii_strtoll(text, &end, 10);
    if (end == text)
        return FALSE;
    while (g_ascii_isspace(*end))
        end++;
    if (*end != '\0')
        return FALSE;
    *ret_level = level;
    return TRUE;
}

/* A number that canonical JSON does not have (rooms/v1: "accept values as floats"): cut off at the
 * point. */
static gint64
number_text_level(const char *text)
{
    if (text[strspn(text, "-0123456789")] == '\0')
        return g_ascii_strtoll(text, NULL, 10);
    double level = trunc(g_ascii_strtod(text, NULL));
    if (level >= 9223372036854775808.0)
        return G_MAXINT64;
    return level <= -9223372036854775808.0 ? G_MININT64 : (gint64)level;
}

gboolean
power_value(const RoomVersion *version, const cJSON *value, gint64 *ret_level)
{
    if (cJSON_IsNumber(value)) {
        gint64 level = (gint64)value->valuedouble; /* the strict reader keeps it within 2^53 */
        if ((double)level != value->valuedouble)
            return FALSE;
        *ret_level = level;
        return TRUE;
    }
    if (!version->canonical_json_strict && json_number_text(value) != NULL) {
        *ret_level = number_text_level(json_number_text(value));
        return TRUE;
    }
    return !version->power_levels_integer && cJSON_IsString(value) &&
           numeric_string(value->valuestring, ret_level);
}

static gint64
level_of(const PowerLevels *levels, const char *group, const char *key, gint64 otherwise)
{
    gint64 level = otherwise;
    const cJSON *content = levels->power_levels != NULL ? levels->power_levels->content : NULL;
    if (group != NULL)
        content = json_get_object(content, group);
    if (!power_value(levels->create->version, json_object_get(content, key), &level))
        return otherwise;
    return level;
}

static gboolean
power_is_creator(const Pdu *create, const char *user_id)
{
    const RoomVersion *version = create->version;
    const char *creator =
        version->creator_is_sender ? create->sender : json_get_string(create->content, "creator");
    if (g_strcmp0(creator, user_id) == 0)
        return TRUE;
    if (!version->additional_creators)
        return FALSE;
    const cJSON *additional;
    cJSON_ArrayForEach(additional, json_get_array(create->content, "additional_creators"))
    {
        if (cJSON_IsString(additional) && strcmp(additional->valuestring, user_id) == 0)
            return TRUE;
    }
    return FALSE;
}

Power
power_of_user(const PowerLevels *levels, const char *user_id)
{
    gboolean creator = power_is_creator(levels->create, user_id);
    if (creator && levels->create->version->creators_infinite)
        return (Power){.infinite = TRUE};
    if (levels->power_levels == NULL)
        return (Power){.level = creator ? CREATOR_LEVEL_BEFORE_V12 : 0};
    gint64 users_default = level_of(levels, NULL, "users_default", 0);
    return (Power){.level = level_of(levels, "users", user_id, users_default)};
}

gint64
power_level_to_send(const PowerLevels *levels, const char *type, gboolean is_state)
{
    gint64 otherwise = is_state ? level_of(levels, NULL, "state_default", STATE_DEFAULT)
                                : level_of(levels, NULL, "events_default", 0);
    return level_of(levels, "events", type, otherwise);
}

gint64
power_level_for(const PowerLevels *levels, PowerAction action)
{
    static const struct {
        const char *key;
        gint64 otherwise;
    } actions[] = {
        [POWER_ACTION_INVITE] = {"invite", 0},
        [POWER_ACTION_KICK] = {"kick", 50},
        [POWER_ACTION_BAN] = {"ban", 50},
        [POWER_ACTION_REDACT] = {"redact", 50},
    };
    return level_of(levels, NULL, actions[action].key, actions[action].otherwise);
}

gint64
power_level_to_notify(const PowerLevels *levels, const char *what)
{
    return level_of(levels, "notifications", what, NOTIFY_DEFAULT);
}

gboolean
power_may_redact(const PowerLevels *levels, const Pdu *redaction, const Pdu *redacted)
{
    gboolean same = redaction->version->redaction_rule
                        ? identifier_same_server(redaction->event_id, redacted->event_id)
                        : identifier_same_server(redaction->sender, redacted->sender);
    return same || power_at_least(power_of_user(levels, redaction->sender),
                                  power_level_for(levels, POWER_ACTION_REDACT));
}
