/* Push rules: the specification's examples, the defaults, and patterns made to be slow. */
#include <string.h>

#include "server/client/push_rule_match.h"
#include "server/client/push_rules.h"

typedef struct {
    const char *pattern;
    const char *text;
    gboolean words;
    gboolean matches;
} Glob;

static const Glob globs[] = {
    {"lunc?*", "Lunch plans", FALSE, TRUE},
    {"lunc?*", "LUNCH", FALSE, TRUE},
    {"lunc?*", " lunch", FALSE, FALSE},
    {"lunc?*", "lunc", FALSE, FALSE},
    {"ex*ple", "An example event.", TRUE, TRUE},
    {"ex*ple", "exple", TRUE, TRUE},
    {"ex*ple", "An exciting triple-whammy", TRUE, TRUE},
    {"ex*ple", "example_event", TRUE, FALSE},
    {"cake", "pancake", TRUE, FALSE},
    {"cake", "pan cake!", TRUE, TRUE},
    {"cake", "cake", TRUE, TRUE},
    {"cake*lie", "the cake is a lie", TRUE, TRUE},
    {"", "", FALSE, TRUE},
    {"", "x", FALSE, FALSE},
    {"*", "", FALSE, TRUE},
    {"***", "abc", FALSE, TRUE},
    {"a**b", "ab", FALSE, TRUE},
    {"?", "é", FALSE, TRUE},
    {"?", "ab", FALSE, FALSE},
    {"ÉCOLE", "école", FALSE, TRUE},
    {"*b", "ab", FALSE, TRUE},
    {"*b", "ba", FALSE, FALSE},
};

static void
test_globs(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(globs); i++) {
        g_test_message("%s in %s", globs[i].pattern, globs[i].text);
        g_assert_cmpint(push_glob_matches(globs[i].pattern, globs[i].text, globs[i].words), ==,
                        globs[i].matches);
    }
}

/* CVE-2021-29471: many stars on a large body. Backtracking would not end in this life. */
static void
test_a_pattern_of_stars_is_not_slow(void)
{
    g_autofree char *body = g_strnfill(64 * 1024, 'a');
    g_autoptr(GString) pattern = g_string_new(NULL);

    for (guint i = 0; i < 120; i++)
        g_string_append(pattern, "*a");
    g_string_append(pattern, "b");
    g_assert_false(push_glob_matches(pattern->str, body, TRUE));
    g_assert_false(push_glob_matches(pattern->str, body, FALSE));
}

static void
test_patterns_have_a_limit(void)
{
    g_autofree char *most = g_strnfill(PUSH_PATTERN_CHARACTERS_MAX, 'a');
    g_autofree char *more = g_strnfill(PUSH_PATTERN_CHARACTERS_MAX + 1, 'a');

    g_assert_true(push_glob_matches(most, most, FALSE));
    g_assert_false(push_glob_matches(more, more, FALSE));
}

/* ---- the default rules ---- */

static gboolean
load(PushContext *context)
{
    context->member_count = *(const gint64 *)context->data;
    context->display_name = "Alice";
    return TRUE;
}

/* Nobody but @boss:b has the power. */
static gboolean
may_notify(PushContext *context, const char *sender, const char *what)
{
    return strcmp(sender, "@boss:b") == 0 && strcmp(what, "room") == 0;
}

typedef struct {
    const char *name;
    const char *event;
    gint64 members;
    gboolean notifies;
    gboolean highlights;
} Case;

#define MESSAGE(content)                                                                           \
    "{\"type\":\"m.room.message\",\"sender\":\"@bob:b\",\"room_id\":\"!r\",\"content\":{" content  \
    "}}"

static const Case cases[] = {
    {"message", MESSAGE("\"body\":\"hello\""), 5, TRUE, FALSE},
    {"message of two", MESSAGE("\"body\":\"hello\""), 2, TRUE, FALSE},
    {"notice", MESSAGE("\"msgtype\":\"m.notice\",\"body\":\"x\""), 5, FALSE, FALSE},
    {"mention", MESSAGE("\"m.mentions\":{\"user_ids\":[\"@x:y\",\"@alice:a\"]}"), 5, TRUE, TRUE},
    {"mention of another", MESSAGE("\"m.mentions\":{\"user_ids\":[\"@x:y\"]}"), 5, TRUE, FALSE},
    {"mention that is no list", MESSAGE("\"m.mentions\":{\"user_ids\":\"@alice:a\"}"), 5, TRUE,
     FALSE},
    {"room mention without the power", MESSAGE("\"m.mentions\":{\"room\":true}"), 5, TRUE, FALSE},
    {"room mention with the power",
     "{\"type\":\"m.room.message\",\"sender\":\"@boss:b\",\"room_id\":\"!r\",\"content\":{"
     "\"m.mentions\":{\"room\":true}}}",
     5, TRUE, TRUE},
    {"edit", MESSAGE("\"m.relates_to\":{\"rel_type\":\"m.replace\"}"), 5, FALSE, FALSE},
    {"name in the body is no mention any more", MESSAGE("\"body\":\"alice\""), 5, TRUE, FALSE},
    {"encrypted", "{\"type\":\"m.room.encrypted\",\"sender\":\"@bob:b\",\"content\":{}}", 5, TRUE,
     FALSE},
    {"reaction", "{\"type\":\"m.reaction\",\"sender\":\"@bob:b\",\"content\":{}}", 2, FALSE, FALSE},
    {"own invite",
     "{\"type\":\"m.room.member\",\"sender\":\"@bob:b\",\"state_key\":\"@alice:a\","
     "\"content\":{\"membership\":\"invite\"}}",
     5, TRUE, FALSE},
    {"another's join",
     "{\"type\":\"m.room.member\",\"sender\":\"@bob:b\",\"state_key\":\"@bob:b\","
     "\"content\":{\"membership\":\"join\"}}",
     5, FALSE, FALSE},
    {"tombstone",
     "{\"type\":\"m.room.tombstone\",\"sender\":\"@bob:b\",\"state_key\":\"\",\"content\":{}}", 5,
     TRUE, TRUE},
    {"unknown type", "{\"type\":\"org.x\",\"sender\":\"@bob:b\",\"content\":{\"body\":\"alice\"}}",
     5, FALSE, FALSE},
};

static void
test_default_rules(void)
{
    g_autoptr(cJSON) rules = push_rules_standard("@alice:a");

    g_assert_nonnull(rules);
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(cJSON) event =
            json_parse(cases[i].event, strlen(cases[i].event), &json_limits_request, NULL);
        gint64 members = cases[i].members;
        PushContext context = {
            .user_id = "@alice:a", .load = load, .may_notify = may_notify, .data = &members};
        gboolean highlight = FALSE;
        g_test_message("%s", cases[i].name);
        g_assert_nonnull(event);
        g_assert_cmpint(push_rules_notify(rules, event, &context, &highlight), ==,
                        cases[i].notifies);
        g_assert_cmpint(highlight, ==, cases[i].highlights);
    }
}

/* ---- a user's own ---- */

static const char own_rules[] =
    "{\"global\":{\"override\":["
    "{\"rule_id\":\"off\",\"enabled\":false,\"conditions\":[],\"actions\":[]},"
    "{\"rule_id\":\"unknown\",\"enabled\":true,\"conditions\":[{\"kind\":\"org.x\"}],\"actions\":[]"
    "},"
    "{\"rule_id\":\"few\",\"enabled\":true,\"conditions\":[{\"kind\":\"room_member_count\",\"is\":"
    "\"<=3\"},"
    "{\"kind\":\"event_match\",\"key\":\"content.body\",\"pattern\":\"beer\"}],\"actions\":["
    "\"notify\","
    "{\"set_tweak\":\"highlight\"}]},"
    "{\"rule_id\":\"name\",\"enabled\":true,\"conditions\":[{\"kind\":\"contains_display_name\"}],"
    "\"actions\":[\"notify\",{\"set_tweak\":\"highlight\",\"value\":false}]}],"
    "\"content\":[{\"rule_id\":\"c\",\"enabled\":true,\"pattern\":\"cake\",\"actions\":[\"notify\","
    "{\"set_tweak\":\"highlight\"}]}],"
    "\"room\":[{\"rule_id\":\"!quiet\",\"enabled\":true,\"actions\":[\"dont_notify\"]}],"
    "\"sender\":[{\"rule_id\":\"@spam:b\",\"enabled\":true,\"actions\":[]}],"
    "\"underride\":[{\"rule_id\":\"all\",\"enabled\":true,\"conditions\":[],\"actions\":["
    "\"notify\"]}]}}";

static void
test_own_rules_in_their_order(void)
{
    static const struct {
        const char *room_id;
        const char *sender;
        const char *body;
        gint64 members;
        gboolean notifies;
        gboolean highlights;
    } own[] = {
        {"!r", "@bob:b", "beer!", 3, TRUE, TRUE},    {"!r", "@bob:b", "beer!", 4, TRUE, FALSE},
        {"!r", "@bob:b", "the cake", 9, TRUE, TRUE}, {"!r", "@bob:b", "hey ALICE,", 9, TRUE, FALSE},
        {"!quiet", "@bob:b", "x", 9, FALSE, FALSE},  {"!quiet", "@bob:b", "cake", 9, TRUE, TRUE},
        {"!r", "@spam:b", "x", 9, FALSE, FALSE},     {"!r", "@bob:b", "x", 9, TRUE, FALSE},
    };
    g_autoptr(cJSON) rules =
        json_parse(own_rules, sizeof own_rules - 1, &json_limits_request, NULL);

    g_assert_nonnull(rules);
    for (guint i = 0; i < G_N_ELEMENTS(own); i++) {
        g_autoptr(cJSON) event = cJSON_CreateObject();
        gint64 members = own[i].members;
        PushContext context = {
            .user_id = "@alice:a", .load = load, .may_notify = may_notify, .data = &members};
        gboolean highlight = FALSE;
        cJSON_AddStringToObject(event, "room_id", own[i].room_id);
        cJSON_AddStringToObject(event, "sender", own[i].sender);
        cJSON_AddStringToObject(event, "type", "m.room.message");
        cJSON_AddStringToObject(cJSON_AddObjectToObject(event, "content"), "body", own[i].body);
        g_test_message("%u", i);
        g_assert_cmpint(push_rules_notify(rules, event, &context, &highlight), ==, own[i].notifies);
        g_assert_cmpint(highlight, ==, own[i].highlights);
    }
}

/* A user's id comes into the rules as text, whatever it holds. */
static void
test_an_odd_user_id_keeps_the_rules_whole(void)
{
    g_autoptr(cJSON) rules = push_rules_standard("@a\"}],\\:x");

    g_assert_nonnull(rules);
    g_assert_cmpint(
        cJSON_GetArraySize(json_get_array(json_get_object(rules, "global"), "override")), ==, 10);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/push-rules/globs", test_globs);
    g_test_add_func("/push-rules/stars", test_a_pattern_of_stars_is_not_slow);
    g_test_add_func("/push-rules/pattern-limit", test_patterns_have_a_limit);
    g_test_add_func("/push-rules/defaults", test_default_rules);
    g_test_add_func("/push-rules/own", test_own_rules_in_their_order);
    g_test_add_func("/push-rules/odd-user", test_an_odd_user_id_keeps_the_rules_whole);
    return g_test_run();
}
