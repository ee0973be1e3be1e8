/* server/client/push_rule_routes.c: a user's push rules, looked at and changed rule by rule. */
#include <string.h>

#include "identity/refusal.h"
#include "identity/seeded_hash.h"
#include "server/client/account_data.h"
#include "server/client/push_rules.h"
#include "server/http/route.h"
#include "server/server.h"

#define RULES_MAX 1000 /* of one user */
#define RULE_ID_BYTES_MAX 255
#define ACTIONS_MAX 20
#define CONDITIONS_MAX 20

/* ---- finding ---- */

static cJSON *
load_rules(Request *request, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);

    return connection != NULL ? push_rules_load(connection, request_user_id(request), error) : NULL;
}

/* The array of the path's {kind}; NULL with 400 when there is no such kind. */
static cJSON *
find_kind(const Request *request, const cJSON *rules, GError **error)
{
    static const char *const kinds[] = {"override", "underride", "sender", "room", "content", NULL};
    const char *kind = request_path(request, "kind");
    const cJSON *global = json_object_get(rules, "global");

    if (g_strv_contains(kinds, kind) && json_get_array(global, kind) != NULL)
        return (cJSON *)json_get_array(global, kind);
    refusal_set(error, 400, "M_INVALID_PARAM",
                "The kinds of push rules are override, underride, sender, room and content");
    return NULL;
}

static int
find_rule(const cJSON *list, const char *id)
{
    const cJSON *rule;
    int index = 0;

    cJSON_ArrayForEach(rule, list)
    {
        if (g_strcmp0(json_get_string(rule, "rule_id"), id) == 0)
            return index;
        index++;
    }
    return -1;
}

static cJSON *
require_rule(const Request *request, const cJSON *list, GError **error)
{
    int index = find_rule(list, request_path(request, "ruleId"));

    if (index < 0)
        refusal_set(error, 404, "M_NOT_FOUND", "There is no push rule of that id");
    return index >= 0 ? cJSON_GetArrayItem(list, index) : NULL;
}

/* ---- reading ---- */

static Response *
rules_get(Request *request, GError **error)
{
    cJSON *rules = load_rules(request, error);

    return rules != NULL ? response_value(200, rules) : NULL;
}

static Response *
global_get(Request *request, GError **error)
{
    g_autoptr(cJSON) rules = load_rules(request, error);

    if (rules == NULL)
        return NULL;
    return response_value(200, cJSON_Duplicate(json_object_get(rules, "global"), TRUE));
}

static Response *
rule_get(Request *request, GError **error)
{
    g_autoptr(cJSON) rules = load_rules(request, error);
    const cJSON *list = rules != NULL ? find_kind(request, rules, error) : NULL;
    const cJSON *rule = list != NULL ? require_rule(request, list, error) : NULL;

    return rule != NULL ? response_value(200, cJSON_Duplicate(rule, TRUE)) : NULL;
}

static Response *
member_get(Request *request, const char *member, GError **error)
{
    g_autoptr(cJSON) rules = load_rules(request, error);
    const cJSON *list = rules != NULL ? find_kind(request, rules, error) : NULL;
    const cJSON *rule = list != NULL ? require_rule(request, list, error) : NULL;
    cJSON *answer;

    if (rule == NULL)
        return NULL;
    answer = cJSON_CreateObject();
    cJSON_AddItemToObject(answer, member, cJSON_Duplicate(json_object_get(rule, member), TRUE));
    return response_value(200, answer);
}

static Response *
enabled_get(Request *request, GError **error)
{
    return member_get(request, "enabled", error);
}

static Response *
actions_get(Request *request, GError **error)
{
    return member_get(request, "actions", error);
}

/* ---- changing: read, change, write; one change of a user at a time ---- */

static GMutex busy_lock;
static GHashTable *busy; /* user ids with a change under way */

static void
set_idle(gpointer data)
{
    g_mutex_lock(&busy_lock);
    g_hash_table_remove(busy, data);
    g_mutex_unlock(&busy_lock);
    g_free(data);
}

/* Until the request ends; FALSE with 429 when another one's change is under way. */
static gboolean
take_turn(Request *request, GError **error)
{
    gboolean taken;

    g_mutex_lock(&busy_lock);
    if (busy == NULL)
        busy = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    taken = g_hash_table_add(busy, g_strdup(request_user_id(request)));
    g_mutex_unlock(&busy_lock);
    if (taken)
        request_keep(request, g_strdup(request_user_id(request)), set_idle);
    else
        refusal_set(error, 429, "M_LIMIT_EXCEEDED",
                    "Another change of your push rules is under way: try again");
    return taken;
}

static gboolean
judge_actions(const cJSON *actions, GError **error)
{
    const cJSON *action;

    if (!cJSON_IsArray(actions) || cJSON_GetArraySize(actions) > ACTIONS_MAX) {
        refusal_set(error, 400, "M_BAD_JSON", "actions must be a list of at most %d", ACTIONS_MAX);
        return FALSE;
    }
    cJSON_ArrayForEach(action, actions)
    {
        if (!cJSON_IsString(action) && json_get_string(action, "set_tweak") == NULL) {
            refusal_set(error, 400, "M_BAD_JSON",
                        "An action is a string or an object with set_tweak");
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
judge_conditions(const cJSON *conditions, GError **error)
{
    const cJSON *condition;

    if (conditions != NULL &&
        (!cJSON_IsArray(conditions) || cJSON_GetArraySize(conditions) > CONDITIONS_MAX)) {
        refusal_set(error, 400, "M_BAD_JSON", "conditions must be a list of at most %d",
                    CONDITIONS_MAX);
        return FALSE;
    }
    cJSON_ArrayForEach(condition, conditions)
    {
        if (json_get_string(condition, "kind") == NULL) {
            refusal_set(error, 400, "M_BAD_JSON", "Each condition has a kind");
            return FALSE;
        }
    }
    return TRUE;
}

/* The new rule out of the request's body. */
static cJSON *
rule_from_request(const Request *request, GError **error)
{
    const cJSON *body = request_json(request);
    const char *kind = request_path(request, "kind");
    const char *id = request_path(request, "ruleId");
    const char *pattern = json_get_string(body, "pattern");
    gboolean has_conditions = strcmp(kind, "override") == 0 || strcmp(kind, "underride") == 0;
    cJSON *rule;

    if (*id == '\0' || *id == '.' || strlen(id) > RULE_ID_BYTES_MAX || strpbrk(id, "/\\") != NULL) {
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "A rule's id has 1 to %d bytes, begins with no dot and holds no slash",
                    RULE_ID_BYTES_MAX);
        return NULL;
    }
    if (!judge_actions(json_object_get(body, "actions"), error) ||
        !judge_conditions(json_object_get(body, "conditions"), error))
        return NULL;
    if (strcmp(kind, "content") == 0 && pattern == NULL) {
        refusal_set(error, 400, "M_MISSING_PARAM", "A content rule needs a pattern");
        return NULL;
    }
    rule = cJSON_CreateObject();
    cJSON_AddStringToObject(rule, "rule_id", id);
    cJSON_AddBoolToObject(rule, "default", FALSE);
    cJSON_AddBoolToObject(rule, "enabled", TRUE);
    if (has_conditions) {
        const cJSON *conditions = json_get_array(body, "conditions");
        cJSON_AddItemToObject(rule, "conditions",
                              conditions != NULL ? cJSON_Duplicate(conditions, TRUE)
                                                 : cJSON_CreateArray());
    } else if (strcmp(kind, "content") == 0) {
        cJSON_AddStringToObject(rule, "pattern", pattern);
    }
    cJSON_AddItemToObject(rule, "actions", cJSON_Duplicate(json_get_array(body, "actions"), TRUE));
    return rule;
}

/* Where a new rule goes: before or after a named one of the user's own, else first; .m.rule.master
 * stays on top. -1 with 400 when the named one does not exist. */
static int
place_of(const Request *request, const cJSON *list, GError **error)
{
    const char *before = request_query(request, "before");
    const char *after = request_query(request, "after");
    const char *named = before != NULL ? before : after;
    int index = named != NULL && *named != '.' ? find_rule(list, named) : -1;

    if (named == NULL)
        return find_rule(list, ".m.rule.master") == 0 ? 1 : 0;
    if (index < 0) {
        refusal_set(error, 400, "M_UNKNOWN", "before and after name one of your own rules");
        return -1;
    }
    return before != NULL ? index : index + 1;
}

static guint
count_rules(const cJSON *rules)
{
    const cJSON *list;
    int count = 0;

    cJSON_ArrayForEach(list, json_object_get(rules, "global"))
    {
        count += cJSON_GetArraySize(list);
    }
    return (guint)count;
}

static Response *
write_rules(Request *request, const cJSON *rules, GError **error)
{
    return account_data_write(request, "", "m.push_rules", rules, error);
}

/* cJSON_InsertItemInArray of Debian's 1.7.15 refuses every place but the first and the last. */
static void
insert_rule(cJSON *list, int place, cJSON *rule)
{
    g_autoptr(cJSON) rest = cJSON_CreateArray();

    while (cJSON_GetArraySize(list) > place)
        cJSON_AddItemToArray(rest, cJSON_DetachItemFromArray(list, place));
    cJSON_AddItemToArray(list, rule);
    while (cJSON_GetArraySize(rest) > 0)
        cJSON_AddItemToArray(list, cJSON_DetachItemFromArray(rest, 0));
}

static Response *
rule_put(Request *request, GError **error)
{
    g_autoptr(cJSON) rules = take_turn(request, error) ? load_rules(request, error) : NULL;
    cJSON *list = rules != NULL ? find_kind(request, rules, error) : NULL;
    g_autoptr(cJSON) rule = list != NULL ? rule_from_request(request, error) : NULL;
    int old;
    int place;

    if (rule == NULL)
        return NULL;
    old = find_rule(list, request_path(request, "ruleId"));
    if (old < 0 && count_rules(rules) >= RULES_MAX)
        return response_error(400, "M_LIMIT_EXCEEDED", "You have %d push rules already", RULES_MAX);
    if (old >= 0 && request_query(request, "before") == NULL &&
        request_query(request, "after") == NULL) {
        cJSON_ReplaceItemInArray(list, old, g_steal_pointer(&rule));
        return write_rules(request, rules, error);
    }
    if (old >= 0)
        cJSON_DeleteItemFromArray(list, old);
    place = place_of(request, list, error);
    if (place < 0)
        return NULL;
    insert_rule(list, place, g_steal_pointer(&rule));
    return write_rules(request, rules, error);
}

static Response *
rule_delete(Request *request, GError **error)
{
    g_autoptr(cJSON) rules = take_turn(request, error) ? load_rules(request, error) : NULL;
    cJSON *list = rules != NULL ? find_kind(request, rules, error) : NULL;

    if (list == NULL || require_rule(request, list, error) == NULL)
        return NULL;
    if (*request_path(request, "ruleId") == '.')
        return response_error(400, "M_INVALID_PARAM", "A default rule is disabled, not deleted");
    cJSON_DeleteItemFromArray(list, find_rule(list, request_path(request, "ruleId")));
    return write_rules(request, rules, error);
}

/* @value is consumed. */
static Response *
member_put(Request *request, const char *member, cJSON *value, GError **error)
{
    g_autoptr(cJSON) owned = value;
    g_autoptr(cJSON) rules = take_turn(request, error) ? load_rules(request, error) : NULL;
    cJSON *list = rules != NULL ? find_kind(request, rules, error) : NULL;
    cJSON *rule = list != NULL ? require_rule(request, list, error) : NULL;

    if (rule == NULL)
        return NULL;
    cJSON_DeleteItemFromObjectCaseSensitive(rule, member);
    cJSON_AddItemToObject(rule, member, g_steal_pointer(&owned));
    return write_rules(request, rules, error);
}

static Response *
enabled_put(Request *request, GError **error)
{
    const cJSON *enabled = json_object_get(request_json(request), "enabled");

    if (!cJSON_IsBool(enabled))
        return response_error(400, "M_BAD_JSON", "enabled must be true or false");
    return member_put(request, "enabled", cJSON_Duplicate(enabled, TRUE), error);
}

static Response *
actions_put(Request *request, GError **error)
{
    const cJSON *actions = json_object_get(request_json(request), "actions");

    if (!judge_actions(actions, error))
        return NULL;
    return member_put(request, "actions", cJSON_Duplicate(actions, TRUE), error);
}

#define RULES "/_matrix/client/v3/pushrules/"
#define GET LISTEN_CLIENT, CALLER_USER, RATE_NONE, BODY_NONE
#define PUT LISTEN_CLIENT, CALLER_USER, RATE_NONE, BODY_JSON

extern const Route push_rule_routes[];
const Route push_rule_routes[] = {
    {"GET", RULES, GET, rules_get},
    {"GET", RULES "global/", GET, global_get},
    {"GET", RULES "global/{kind}/{ruleId}", GET, rule_get},
    {"PUT", RULES "global/{kind}/{ruleId}", PUT, rule_put},
    {"DELETE", RULES "global/{kind}/{ruleId}", GET, rule_delete},
    {"GET", RULES "global/{kind}/{ruleId}/enabled", GET, enabled_get},
    {"PUT", RULES "global/{kind}/{ruleId}/enabled", PUT, enabled_put},
    {"GET", RULES "global/{kind}/{ruleId}/actions", GET, actions_get},
    {"PUT", RULES "global/{kind}/{ruleId}/actions", PUT, actions_put},
    {0},
};
