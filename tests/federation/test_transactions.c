/* What comes in a transaction: bodies that are none, and events in another's name. */
#include "tests/support/partner_scene.h"

#include <string.h>

static void
test_bodies_that_are_no_transaction(PartnerScene *scene, gconstpointer data)
{
    const RawRequest raw = {.as = scene->beta};
    g_autoptr(GString) pdus = g_string_new("{\"pdus\":[");
    g_autoptr(GString) edus = g_string_new("{\"pdus\":[],\"edus\":[");
    for (guint i = 0; i < TRANSACTION_PDUS_MAX; i++)
        g_string_append_printf(pdus, "%s{}", i > 0 ? "," : "");
    for (guint i = 0; i < TRANSACTION_EDUS_MAX; i++)
        g_string_append_printf(edus, "%s{}", i > 0 ? "," : "");
    g_autofree char *full = g_strconcat(pdus->str, "]}", NULL);
    g_autofree char *over = g_strconcat(pdus->str, ",{}]}", NULL);
    g_autofree char *edus_full = g_strconcat(edus->str, "]}", NULL);
    g_autofree char *edus_over = g_strconcat(edus->str, ",{}]}", NULL);
    const struct {
        const char *body;
        guint status;
    } bodies[] = {
        {full, 200},
        {over, 400},
        {edus_full, 200},
        {edus_over, 400},
        {"{}", 400},
        {"{\"pdus\":{}}", 400},
        {"{\"pdus\":[],\"edus\":{}}", 400},
        {"{\"pdus\":[],\"origin\":\"gamma.example\"}", 403},
        {"{\"pdus\":[1,null,\"x\",[],{\"room_id\":7},{\"room_id\":\"!\"}]}", 200},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(bodies); i++) {
        g_autofree char *target = g_strdup_printf("/_matrix/federation/v1/send/body%u", (guint)i);
        house_assert_status(scene->alpha, &raw, "PUT", target, bodies[i].body, bodies[i].status);
    }
    /* never parsed: what was signed does not matter */
    const char *const broken[] = {"[]", "{\"pdus\":[]", "{\"pdus\":[],\"pdus\":[]}",
                                  "{\"pdus\":[\"\xff\"]}", "{\"pdus\":[1e999]}"};
    /* parsed, as events of rooms of versions 1 to 5 may hold such numbers: so the signature decides
     */
    const char *const odd[] = {"{\"pdus\":[1.5]}", "{\"pdus\":[9007199254740993]}"};
    for (gsize i = 0; i < G_N_ELEMENTS(broken); i++) {
        const RawRequest signs_other = {.as = scene->beta, .signed_content = "{}"};
        house_assert_status(scene->alpha, &signs_other, "PUT", "/_matrix/federation/v1/send/x",
                            broken[i], 400);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(odd); i++) {
        const RawRequest signs_other = {.as = scene->beta, .signed_content = "{}"};
        house_assert_status(scene->alpha, &signs_other, "PUT", "/_matrix/federation/v1/send/x",
                            odd[i], 401);
    }
}

/* Each event is what the server of its sender signed, whoever brings it, and nothing comes past the
 * room's ACL. */
static void
test_events_in_another_name(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha, *beta = scene->beta;
    g_autofree char *room_id = partner_scene_room(scene);
    const HouseEvent events[] = {
        {.sender = ANNA, .content = "{\"body\":\"in Anna's name\"}"},
        {.sender = GUSTAV, .content = "{\"body\":\"in a stranger's name\"}"},
        /* Whom they cannot make join, leave or lose. */
        {.type = "m.room.member",
         .sender = ANNA,
         .state_key = ANNA,
         .content = "{\"membership\":\"leave\"}"},
        {.type = "m.room.member",
         .sender = GUSTAV,
         .state_key = GUSTAV,
         .content = "{\"membership\":\"join\"}"},
        {.type = "m.room.member", .state_key = GUSTAV, .content = "{\"membership\":\"join\"}"},
        {.type = "m.room.member", .state_key = ANNA, .content = "{\"membership\":\"leave\"}"},
        {.type = "m.room.member", .state_key = ANNA, .content = "{\"membership\":\"ban\"}"},
        {.type = "m.room.power_levels",
         .state_key = "",
         .content = "{\"users\":{\"" BERTA "\":100}}"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(events); i++) {
        g_autoptr(Pdu) pdu = house_prepare(beta, alpha, room_id, BERTA, "leave", &events[i]);
        g_autofree char *problem = house_verdict(beta, alpha, pdu);
        g_assert_nonnull(problem);
        g_assert_cmpint(house_count_event(alpha, pdu->event_id), ==, 0);
    }
    const HouseEvent honest = {.content = "{\"body\":\"mine\"}"};
    g_autoptr(Pdu) good = house_prepare(beta, alpha, room_id, BERTA, "leave", &honest);
    g_assert_null(house_verdict(beta, alpha, good));
    g_assert_cmpint(house_count_event(alpha, good->event_id), ==, 1);
    g_autoptr(Pdu) late = house_prepare(beta, alpha, room_id, BERTA, "leave", &honest);
    house_act(alpha, room_id, ANNA, "m.room.server_acl", "",
              "{\"allow\":[\"*\"],\"deny\":[\"Beta.Example\"]}");
    g_autofree char *kept_out = house_verdict(beta, alpha, late);
    g_assert_nonnull(kept_out);
    g_assert_nonnull(strstr(kept_out, "ACL"));
    g_assert_cmpint(house_count_event(alpha, late->event_id), ==, 0);
    g_assert_cmpint(test_database_count(alpha->database,
                                        "SELECT count(*) FROM membership WHERE user_id = '" ANNA
                                        "' AND membership = 'join'"),
                    ==, 1);
}

int
main(int argc, char **argv)
{
    static const PartnerTest tests[] = {
        {"/transactions/bodies", test_bodies_that_are_no_transaction},
        {"/transactions/other-names", test_events_in_another_name},
        {NULL},
    };
    return partner_scene_run_tests(argc, argv, partner_scene_set_up, tests);
}
