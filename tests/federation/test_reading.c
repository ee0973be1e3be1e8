/* What a partner may read: of rooms that it is in, from its join on, and of the users of the server
 * that it asks. */
#include "tests/support/partner_scene.h"

#include <string.h>

static void
test_only_rooms_that_one_is_in_are_read(PartnerScene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *open_id = partner_scene_room(scene);
    g_autofree char *closed_id = house_make_room(scene->alpha, ANNA, "invite");
    g_autofree char *open_event = house_send(scene->alpha, open_id, ANNA, "m.room.message", NULL,
                                             "{\"body\":\"open\"}", &error);
    g_autofree char *closed_event = house_send(scene->alpha, closed_id, ANNA, "m.room.message",
                                               NULL, "{\"body\":\"secret\"}", &error);
    g_assert_no_error(error);
    static const char *const by_event[] = {
        "/_matrix/federation/v1/state/%s?event_id=%s",
        "/_matrix/federation/v1/state_ids/%s?event_id=%s",
        "/_matrix/federation/v1/event_auth/%s/%s",
        "/_matrix/federation/v1/backfill/%s?limit=10&v=%s",
    };
    const RawRequest raw = {.as = scene->beta};
    for (gsize i = 0; i < G_N_ELEMENTS(by_event); i++) {
        g_autofree char *allowed = partner_client_target(by_event[i], open_id, open_event);
        g_autofree char *closed = partner_client_target(by_event[i], closed_id, closed_event);
        g_autofree char *smuggled = partner_client_target(by_event[i], open_id, closed_event);
        g_autofree char *body = NULL;
        house_assert_status(scene->alpha, &raw, "GET", allowed, NULL, 200);
        house_assert_status(scene->alpha, &raw, "GET", closed, NULL, 403);
        guint status = house_raw(scene->alpha, &raw, "GET", smuggled, NULL, &body);
        g_assert_true(status == 404 || (status == 200 && strstr(body, "secret") == NULL));
    }
    g_autofree char *one = partner_client_target("/_matrix/federation/v1/event/%s", closed_event);
    g_autofree char *seen = partner_client_target("/_matrix/federation/v1/event/%s", open_event);
    house_assert_status(scene->alpha, &raw, "GET", one, NULL, 403);
    house_assert_status(scene->alpha, &raw, "GET", seen, NULL, 200);
    g_autofree char *missing =
        partner_client_target("/_matrix/federation/v1/get_missing_events/%s", closed_id);
    g_autofree char *question = g_strdup_printf(
        "{\"earliest_events\":[],\"latest_events\":[\"%s\"],\"limit\":1000000}", closed_event);
    house_assert_status(scene->alpha, &raw, "POST", missing, question, 403);
}

/* Where history begins with the join, a server gets what came before without its content, and a few
 * events at a time, whatever it asks for. */
static void
test_what_came_before_the_join(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha;
    const RawRequest raw = {.as = scene->beta};
    g_autoptr(GError) error = NULL;
    g_autofree char *room_id = house_make_room(alpha, ANNA, "public");
    g_autofree char *secret = NULL;
    g_autofree char *last = NULL;

    house_act(alpha, room_id, ANNA, "m.room.history_visibility", "",
              "{\"history_visibility\":\"joined\"}");
    for (guint i = 0; i < 30; i++) {
        g_free(secret);
        secret = house_send(alpha, room_id, ANNA, "m.room.message", NULL,
                            "{\"body\":\"swordfish\"}", &error);
        g_assert_no_error(error);
    }
    house_join(scene->beta, room_id, BERTA, "alpha.example", &error);
    g_assert_no_error(error);
    last =
        house_send(alpha, room_id, ANNA, "m.room.message", NULL, "{\"body\":\"welcome\"}", &error);
    g_assert_no_error(error);
    g_autofree char *one = partner_client_target("/_matrix/federation/v1/event/%s", secret);
    g_autofree char *seen = partner_client_target("/_matrix/federation/v1/event/%s", last);
    g_autofree char *back = partner_client_target(
        "/_matrix/federation/v1/backfill/%s?limit=2000000000&v=%s", room_id, last);
    g_autofree char *missing =
        partner_client_target("/_matrix/federation/v1/get_missing_events/%s", room_id);
    g_autofree char *question = g_strdup_printf(
        "{\"earliest_events\":[],\"latest_events\":[\"%s\"],\"limit\":9007199254740991,"
        "\"min_depth\":-9007199254740991}",
        last);
    house_assert_status(alpha, &raw, "GET", one, NULL, 404);
    house_assert_status(alpha, &raw, "GET", seen, NULL, 200);
    g_autofree char *page = NULL;
    g_autofree char *found = NULL;
    g_assert_cmpuint(house_raw(alpha, &raw, "GET", back, NULL, &page), ==, 200);
    g_assert_cmpuint(house_raw(alpha, &raw, "POST", missing, question, &found), ==, 200);
    g_assert_null(strstr(page, "swordfish"));
    g_assert_nonnull(strstr(page, "welcome"));
    g_assert_null(strstr(found, "swordfish"));
    g_autoptr(cJSON) json = json_parse(found, strlen(found), &json_limits_response, &error);
    g_assert_no_error(error);
    g_assert_cmpint(cJSON_GetArraySize(json_get_array(json, "events")), ==, 20);
}

/* A server answers for the keys of its own users alone. */
static void
test_keys_of_others(PartnerScene *scene, gconstpointer data)
{
    const RawRequest raw = {.as = scene->beta};
    static const char *const others[] = {BERTA, GUSTAV, "anna", "@anna", "@anna:alpha.example.org"};

    house_assert_status(scene->alpha, &raw, "GET", "/_matrix/federation/v1/user/devices/" ANNA,
                        NULL, 200);
    for (gsize i = 0; i < G_N_ELEMENTS(others); i++) {
        g_autofree char *devices =
            partner_client_target("/_matrix/federation/v1/user/devices/%s", others[i]);
        g_autofree char *query = g_strdup_printf("{\"device_keys\":{\"%s\":[]}}", others[i]);
        g_autofree char *claim = g_strdup_printf(
            "{\"one_time_keys\":{\"%s\":{\"X\":\"signed_curve25519\"}}}", others[i]);
        g_autofree char *answer = NULL;
        house_assert_status(scene->alpha, &raw, "GET", devices, NULL, 404);
        g_assert_cmpuint(house_raw(scene->alpha, &raw, "POST",
                                   "/_matrix/federation/v1/user/keys/query", query, &answer),
                         ==, 200);
        g_assert_cmpstr(answer, ==, "{\"device_keys\":{}}");
        house_assert_status(scene->alpha, &raw, "POST", "/_matrix/federation/v1/user/keys/claim",
                            claim, 200);
    }
}

int
main(int argc, char **argv)
{
    static const PartnerTest tests[] = {
        {"/reading/rooms", test_only_rooms_that_one_is_in_are_read},
        {"/reading/before-the-join", test_what_came_before_the_join},
        {"/reading/keys-of-others", test_keys_of_others},
        {NULL},
    };
    return partner_scene_run_tests(argc, argv, partner_scene_set_up, tests);
}
