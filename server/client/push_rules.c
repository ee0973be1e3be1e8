#include "server/client/push_rules.h"

#include "storage/account_data_store.h"

#define MATCH(key, pattern)                                                                        \
    "{\"kind\":\"event_match\",\"key\":\"" key "\",\"pattern\":\"" pattern "\"}"
#define TYPE(type) MATCH("type", type)
#define IS(key, value)                                                                             \
    "{\"kind\":\"event_property_is\",\"key\":\"content.m\\\\." key "\",\"value\":" value "}"
#define TWO "{\"kind\":\"room_member_count\",\"is\":\"2\"}"
#define ME "@ME@" /* the user's id stands there */
#define MENTIONS_ME                                                                                \
    "{\"kind\":\"event_property_contains\",\"key\":\"content.m\\\\.mentions.user_ids\","           \
    "\"value\":\"" ME "\"}"
#define MAY_NOTIFY_ROOM "{\"kind\":\"sender_notification_permission\",\"key\":\"room\"}"

#define NOTIFY "\"notify\""
#define SOUND(name) ",{\"set_tweak\":\"sound\",\"value\":\"" name "\"}"
#define HIGHLIGHT ",{\"set_tweak\":\"highlight\"}"

typedef struct {
    const char *rule_id;
    const char *conditions; /* what stands in the brackets */
    const char *actions;
    gboolean disabled;
} Predefined;

/* In the specification's order. */
static const Predefined overrides[] = {
    {".m.rule.master", "", "", .disabled = TRUE},
    {".m.rule.suppress_notices", MATCH("content.msgtype", "m.notice"), ""},
    {".m.rule.invite_for_me",
     TYPE("m.room.member") "," MATCH("content.membership", "invite") "," MATCH("state_key", ME),
     NOTIFY SOUND("default")},
    {".m.rule.member_event", TYPE("m.room.member"), ""},
    {".m.rule.is_user_mention", MENTIONS_ME, NOTIFY SOUND("default") HIGHLIGHT},
    {".m.rule.is_room_mention", IS("mentions.room", "true") "," MAY_NOTIFY_ROOM, NOTIFY HIGHLIGHT},
    {".m.rule.tombstone", TYPE("m.room.tombstone") "," MATCH("state_key", ""), NOTIFY HIGHLIGHT},
    {".m.rule.reaction", TYPE("m.reaction"), ""},
    {".m.rule.room.server_acl", TYPE("m.room.server_acl") "," MATCH("state_key", ""), ""},
    {".m.rule.suppress_edits", IS("relates_to.rel_type", "\"m.replace\""), ""},
    {NULL},
};
static const Predefined underrides[] = {
    {".m.rule.call", TYPE("m.call.invite"), NOTIFY SOUND("ring")},
    {".m.rule.encrypted_room_one_to_one", TWO "," TYPE("m.room.encrypted"),
     NOTIFY SOUND("default")},
    {".m.rule.room_one_to_one", TWO "," TYPE("m.room.message"), NOTIFY SOUND("default")},
    {".m.rule.message", TYPE("m.room.message"), NOTIFY},
    {".m.rule.encrypted", TYPE("m.room.encrypted"), NOTIFY},
    {NULL},
};

static void
append_rules(GString *out, const Predefined *rules)
{
    for (const Predefined *rule = rules; rule->rule_id != NULL; rule++)
        g_string_append_printf(out,
                               "%s{\"rule_id\":\"%s\",\"default\":true,\"enabled\":%s,"
                               "\"conditions\":[%s],\"actions\":[%s]}",
                               rule == rules ? "" : ",", rule->rule_id,
                               rule->disabled ? "false" : "true", rule->conditions, rule->actions);
}

cJSON *
push_rules_standard(const char *user_id)
{
    g_autoptr(GString) quoted = g_string_new(NULL);
    g_autoptr(GString) text = g_string_new("{\"global\":{\"override\":[");

    append_rules(text, overrides);
    g_string_append(text, "],\"content\":[],\"room\":[],\"sender\":[],\"underride\":[");
    append_rules(text, underrides);
    g_string_append(text, "]}}");
    json_append_string(quoted, user_id);
    g_string_truncate(quoted, quoted->len - 1); /* without the quotation marks */
    g_string_replace(text, ME, quoted->str + 1, 0);
    return json_parse(text->str, text->len, &json_limits_request, NULL);
}

cJSON *
push_rules_load(StoreConnection *connection, const char *user_id, GError **error)
{
    g_autoptr(GBytes) json = NULL;
    gsize length = 0;
    const char *text;

    if (!account_data_store_find(connection, user_id, "", "m.push_rules", &json, error))
        return NULL;
    if (json == NULL)
        return push_rules_standard(user_id);
    text = g_bytes_get_data(json, &length);
    return json_parse(text, length, &json_limits_request, error);
}
