/* Filters: what is refused, and what each part lets through. */
#include <string.h>

#include "server/client/filter.h"

static Filter *
read_filter(const char *text, GError **error)
{
    g_autoptr(cJSON) json = json_parse(text, strlen(text), &json_limits_request, error);

    return json != NULL ? filter_from_json(json, error) : NULL;
}

static void
test_bad_filters_are_refused(void)
{
    static const char *const bad[] = {
        "[]",
        "{\"room\":[]}",
        "{\"room\":{\"timeline\":3}}",
        "{\"room\":{\"timeline\":{\"limit\":\"5\"}}}",
        "{\"room\":{\"timeline\":{\"types\":\"m.room.message\"}}}",
        "{\"room\":{\"timeline\":{\"types\":[1]}}}",
        "{\"room\":{\"state\":{\"lazy_load_members\":\"yes\"}}}",
        "{\"room\":{\"include_leave\":1}}",
        "{\"account_data\":[]}",
    };

    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Filter) filter = read_filter(bad[i], &error);
        g_test_message("%s", bad[i]);
        g_assert_null(filter);
        g_assert_nonnull(strstr(error->message, "M_BAD_JSON"));
    }
}

static void
test_lists_and_names_have_limits(void)
{
    for (guint more = 0; more < 2; more++) {
        g_autoptr(GString) many = g_string_new("{\"room\":{\"timeline\":{\"types\":[\"a\"");
        g_autofree char *name = g_strnfill(FILTER_NAME_BYTES_MAX + more, 'n');
        g_autofree char *named = g_strdup_printf("{\"room\":{\"rooms\":[\"%s\"]}}", name);
        for (guint i = 1; i < FILTER_LIST_MAX + more; i++)
            g_string_append(many, ",\"a\"");
        g_string_append(many, "]}}}");
        g_autoptr(Filter) of_many = read_filter(many->str, NULL);
        g_autoptr(Filter) of_name = read_filter(named, NULL);
        g_assert_cmpint(of_many != NULL, ==, more == 0);
        g_assert_cmpint(of_name != NULL, ==, more == 0);
    }
}

static void
test_nothing_said_wants_all(void)
{
    g_autoptr(Filter) filter = filter_from_json(NULL, NULL);

    g_assert_cmpuint(filter->timeline_limit, ==, FILTER_TIMELINE_STANDARD);
    g_assert_false(filter->lazy_members);
    g_assert_true(filter_wants_room(filter, "!a"));
    g_assert_true(filter_events_want(filter->timeline, "!a", "m.room.message", "@a:b", NULL));
}

static void
test_types_senders_and_rooms(void)
{
    g_autoptr(Filter) filter = read_filter(
        "{\"room\":{\"not_rooms\":[\"!no\"],\"timeline\":{\"types\":[\"m.room.*\",\"org.*.x\"],"
        "\"not_types\":[\"m.room.member\"],\"not_senders\":[\"@spam:b\"],\"rooms\":[\"!a\"],"
        "\"limit\":7},\"state\":{\"types\":[]}}}",
        NULL);
    static const struct {
        const char *room_id;
        const char *type;
        const char *sender;
        gboolean wanted;
    } events[] = {
        {"!a", "m.room.message", "@a:b", TRUE},
        {"!a", "m.room.", "@a:b", TRUE},
        {"!a", "m.roomx", "@a:b", FALSE},
        {"!a", "org.some.x", "@a:b", TRUE},
        {"!a", "org.x", "@a:b", FALSE},
        {"!a", "m.room.member", "@a:b", FALSE},
        {"!a", "m.room.message", "@spam:b", FALSE},
        {"!b", "m.room.message", "@a:b", FALSE},
    };

    g_assert_cmpuint(filter->timeline_limit, ==, 7);
    g_assert_false(filter_wants_room(filter, "!no"));
    for (guint i = 0; i < G_N_ELEMENTS(events); i++)
        g_assert_cmpint(filter_events_want(filter->timeline, events[i].room_id, events[i].type,
                                           events[i].sender, NULL),
                        ==, events[i].wanted);
    /* An empty list wants nothing. */
    g_assert_false(filter_events_want(filter->state, "!a", "m.room.name", "@a:b", NULL));
}

static void
test_urls(void)
{
    g_autoptr(Filter) with = read_filter("{\"room\":{\"timeline\":{\"contains_url\":true}}}", NULL);
    g_autoptr(Filter) without =
        read_filter("{\"room\":{\"timeline\":{\"contains_url\":false}}}", NULL);
    g_autoptr(cJSON) content = cJSON_CreateObject();

    g_assert_false(filter_events_want(with->timeline, "!a", "t", "@a:b", content));
    g_assert_true(filter_events_want(without->timeline, "!a", "t", "@a:b", content));
    cJSON_AddStringToObject(content, "url", "mxc://a/b");
    g_assert_true(filter_events_want(with->timeline, "!a", "t", "@a:b", content));
    g_assert_false(filter_events_want(without->timeline, "!a", "t", "@a:b", content));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/filter/bad", test_bad_filters_are_refused);
    g_test_add_func("/filter/limits", test_lists_and_names_have_limits);
    g_test_add_func("/filter/standard", test_nothing_said_wants_all);
    g_test_add_func("/filter/events", test_types_senders_and_rooms);
    g_test_add_func("/filter/urls", test_urls);
    return g_test_run();
}
