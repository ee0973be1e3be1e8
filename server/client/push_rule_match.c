#include "server/client/push_rule_match.h"

#include <string.h>

#define WORDS ((PUSH_PATTERN_CHARACTERS_MAX + 1 + 63) / 64)
#define PATH_DEPTH_MAX 10

/* ---- globs: all places in the pattern at once, one bit each, so no pattern can make it slow ----
 */

typedef struct {
    guint64 bits[WORDS];
} Places;

typedef struct {
    glong length;
    gunichar characters[PUSH_PATTERN_CHARACTERS_MAX];
    Places any;   /* where ? stands */
    Places stars; /* where * stands */
} Pattern;

static void
place_set(Places *places, glong at)
{
    places->bits[at / 64] |= (guint64)1 << (at % 64);
}

static gboolean
place_is_set(const Places *places, glong at)
{
    return (places->bits[at / 64] >> (at % 64) & 1) != 0;
}

/* Each place in @from moves one on, into @to as well. */
static void
places_advance(Places *to, const Places *from)
{
    guint64 carry = 0;

    for (guint i = 0; i < WORDS; i++) {
        to->bits[i] |= from->bits[i] << 1 | carry;
        carry = from->bits[i] >> 63;
    }
}

static gboolean
pattern_read(const char *text, Pattern *ret_pattern)
{
    g_autofree char *lower = g_utf8_strdown(text, -1);
    const char *at = lower;

    memset(ret_pattern, 0, sizeof *ret_pattern);
    for (; *at != '\0'; at = g_utf8_next_char(at)) {
        gunichar character = g_utf8_get_char(at);
        glong length = ret_pattern->length;
        if (length == PUSH_PATTERN_CHARACTERS_MAX)
            return FALSE;
        if (character == '*' && length > 0 && ret_pattern->characters[length - 1] == '*')
            continue;
        if (character == '*')
            place_set(&ret_pattern->stars, length);
        if (character == '?')
            place_set(&ret_pattern->any, length);
        ret_pattern->characters[ret_pattern->length++] = character;
    }
    return TRUE;
}

/* A star may be nothing: who stands before it also stands behind it. */
static void
step_over_stars(const Pattern *pattern, Places *places)
{
    Places stars;

    for (guint i = 0; i < WORDS; i++)
        stars.bits[i] = places->bits[i] & pattern->stars.bits[i];
    places_advance(places, &stars);
}

static void
take_character(const Pattern *pattern, gunichar character, Places *places)
{
    Places taken = pattern->any;
    Places next;

    for (glong i = 0; i < pattern->length; i++)
        if (pattern->characters[i] == character && character != '*' && character != '?')
            place_set(&taken, i);
    for (guint i = 0; i < WORDS; i++) {
        taken.bits[i] &= places->bits[i];
        next.bits[i] = places->bits[i] & pattern->stars.bits[i];
    }
    places_advance(&next, &taken);
    *places = next;
    step_over_stars(pattern, places);
}

static gboolean
is_word_character(gunichar character)
{
    return character < 128 && (g_ascii_isalnum((char)character) || character == '_');
}

static gboolean
any_place(const Places *places)
{
    for (guint i = 0; i < WORDS; i++)
        if (places->bits[i] != 0)
            return TRUE;
    return FALSE;
}

gboolean
push_glob_matches(const char *pattern_text, const char *text, gboolean words)
{
    g_autofree char *lower = g_utf8_strdown(text, -1);
    Places places = {0};
    gunichar before = ' ';
    Pattern pattern;

    if (!pattern_read(pattern_text, &pattern))
        return FALSE;
    place_set(&places, 0);
    step_over_stars(&pattern, &places);
    for (const char *at = lower; *at != '\0'; at = g_utf8_next_char(at)) {
        gunichar character = g_utf8_get_char(at);
        gboolean boundary = !is_word_character(before) || !is_word_character(character);
        if (words && boundary && place_is_set(&places, pattern.length) && at != lower)
            return TRUE;
        if (words && boundary) {
            place_set(&places, 0);
            step_over_stars(&pattern, &places);
        }
        if (!words && !any_place(&places))
            return FALSE;
        take_character(&pattern, character, &places);
        before = character;
    }
    return place_is_set(&places, pattern.length);
}

/* ---- conditions ---- */

/* The property at a dot-separated path, in which \ escapes a dot or itself (appendices). */
static const cJSON *
property(const cJSON *event, const char *path)
{
    g_autoptr(GString) name = g_string_new(NULL);
    const cJSON *at = event;
    guint depth = 0;

    for (;; path++) {
        if (*path == '\\' && (path[1] == '.' || path[1] == '\\')) {
            g_string_append_c(name, *++path);
        } else if (*path == '.' || *path == '\0') {
            at = json_object_get(at, name->str);
            if (at == NULL || *path == '\0' || ++depth > PATH_DEPTH_MAX)
                return *path == '\0' ? at : NULL;
            g_string_truncate(name, 0);
        } else {
            g_string_append_c(name, *path);
        }
    }
}

static gboolean
load(PushContext *context)
{
    if (!context->loaded)
        context->loaded = context->load != NULL && context->load(context);
    return context->loaded;
}

static gboolean
event_match(const cJSON *event, const char *key, const char *pattern)
{
    const cJSON *value = key != NULL ? property(event, key) : NULL;

    return pattern != NULL && cJSON_IsString(value) &&
           push_glob_matches(pattern, value->valuestring, strcmp(key, "content.body") == 0);
}

static gboolean
same_value(const cJSON *value, const cJSON *wanted)
{
    if (value == NULL || wanted == NULL || cJSON_IsObject(value) || cJSON_IsArray(value))
        return FALSE;
    return cJSON_Compare(value, wanted, TRUE);
}

static gboolean
property_contains(const cJSON *list, const cJSON *wanted)
{
    const cJSON *item;

    if (!cJSON_IsArray(list))
        return FALSE;
    cJSON_ArrayForEach(item, list)
    {
        if (same_value(item, wanted))
            return TRUE;
    }
    return FALSE;
}

static gboolean
contains_display_name(const cJSON *event, PushContext *context)
{
    const char *body = json_get_string(json_object_get(event, "content"), "body");
    g_autoptr(GString) literal = NULL;

    if (body == NULL || !load(context) || context->display_name == NULL ||
        *context->display_name == '\0')
        return FALSE;
    /* Wildcards in a name are letters: ? stands for each. */
    literal = g_string_new(context->display_name);
    for (gsize i = 0; i < literal->len; i++)
        if (literal->str[i] == '*')
            literal->str[i] = '?';
    return push_glob_matches(literal->str, body, TRUE);
}

static gboolean
member_count_is(const char *is, PushContext *context)
{
    gsize sign;
    gint64 wanted;

    if (is == NULL || !load(context))
        return FALSE;
    sign = strspn(is, "=<>");
    if (!g_ascii_string_to_signed(is + sign, 10, 0, G_MAXINT32, &wanted, NULL))
        return FALSE;
    if (sign == 0 || (sign == 2 && strncmp(is, "==", 2) == 0))
        return context->member_count == wanted;
    if (sign == 1 && *is == '<')
        return context->member_count < wanted;
    if (sign == 1 && *is == '>')
        return context->member_count > wanted;
    if (sign == 2 && strncmp(is, "<=", 2) == 0)
        return context->member_count <= wanted;
    return sign == 2 && strncmp(is, ">=", 2) == 0 && context->member_count >= wanted;
}

static gboolean
sender_may_notify(const cJSON *event, const char *key, PushContext *context)
{
    const char *sender = json_get_string(event, "sender");

    return key != NULL && sender != NULL && context->may_notify != NULL &&
           context->may_notify(context, sender, key);
}

static gboolean
condition_holds(const cJSON *condition, const cJSON *event, PushContext *context)
{
    const char *kind = json_get_string(condition, "kind");
    const char *key = json_get_string(condition, "key");

    if (kind == NULL)
        return FALSE;
    if (strcmp(kind, "event_match") == 0)
        return event_match(event, key, json_get_string(condition, "pattern"));
    if (strcmp(kind, "event_property_is") == 0)
        return key != NULL && same_value(property(event, key), json_object_get(condition, "value"));
    if (strcmp(kind, "event_property_contains") == 0)
        return key != NULL &&
               property_contains(property(event, key), json_object_get(condition, "value"));
    if (strcmp(kind, "contains_display_name") == 0)
        return contains_display_name(event, context);
    if (strcmp(kind, "room_member_count") == 0)
        return member_count_is(json_get_string(condition, "is"), context);
    if (strcmp(kind, "sender_notification_permission") == 0)
        return sender_may_notify(event, key, context);
    return FALSE; /* an unknown condition switches its rule off */
}

static gboolean
rule_matches(const char *kind, const cJSON *rule, const cJSON *event, PushContext *context)
{
    const char *id = json_get_string(rule, "rule_id");
    const cJSON *condition;

    if (id == NULL || !json_get_boolean(rule, "enabled", TRUE))
        return FALSE;
    if (strcmp(kind, "room") == 0)
        return g_strcmp0(json_get_string(event, "room_id"), id) == 0;
    if (strcmp(kind, "sender") == 0)
        return g_strcmp0(json_get_string(event, "sender"), id) == 0;
    if (strcmp(kind, "content") == 0)
        return event_match(event, "content.body", json_get_string(rule, "pattern"));
    cJSON_ArrayForEach(condition, json_object_get(rule, "conditions"))
    {
        if (!condition_holds(condition, event, context))
            return FALSE;
    }
    return TRUE;
}

static gboolean
read_actions(const cJSON *rule, gboolean *ret_highlight)
{
    gboolean notify = FALSE;
    const cJSON *action;

    *ret_highlight = FALSE;
    cJSON_ArrayForEach(action, json_object_get(rule, "actions"))
    {
        if (cJSON_IsString(action) && strcmp(action->valuestring, "notify") == 0)
            notify = TRUE;
        else if (g_strcmp0(json_get_string(action, "set_tweak"), "highlight") == 0)
            *ret_highlight = json_get_boolean(action, "value", TRUE);
    }
    return notify;
}

gboolean
push_rules_notify(const cJSON *rules, const cJSON *event, PushContext *context,
                  gboolean *ret_highlight)
{
    static const char *const kinds[] = {"override", "content", "room", "sender", "underride"};
    const cJSON *global = json_object_get(rules, "global");
    const cJSON *rule;

    *ret_highlight = FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        cJSON_ArrayForEach(rule, json_object_get(global, kinds[i]))
        {
            if (rule_matches(kinds[i], rule, event, context))
                return read_actions(rule, ret_highlight);
        }
    return FALSE;
}
