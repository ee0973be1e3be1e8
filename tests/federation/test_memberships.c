/* Joins, knocks, leaves and invites by a partner: crooked ones, late ones, and those that a room
 * keeps out; each try has its answer and leaves nothing behind. */
#include "tests/support/partner_scene.h"

#include <string.h>

#include "federation/room/pdu_build.h"
#include "identity/clock.h"

#define SEND_JOIN "/_matrix/federation/v2/send_join/%s/%s"
#define SEND_LEAVE "/_matrix/federation/v2/send_leave/%s/%s"
#define INVITE "/_matrix/federation/v2/invite/%s/%s"
#define SEND_KNOCK "/_matrix/federation/v1/send_knock/%s/%s"
#define MAKE_KNOCK "/_matrix/federation/v1/make_knock/%s/%s?ver=12"

/* A membership event of @sender for @target, signed by @house. */
static Pdu *
member_event(House *house, const char *room_id, const char *sender, const char *target,
             const char *membership)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(cJSON) content = cJSON_CreateObject();
    const char *const stands_on[] = {"$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL};
    cJSON_AddStringToObject(content, "membership", membership);
    PduSigner signer = pdu_signer(house->server.name, house->server.key);
    PduTemplate template = {
        .room_id = room_id,
        .type = "m.room.member",
        .state_key = target,
        .sender = sender,
        .content = content,
        .prev_events = stands_on,
        .auth_events = stands_on,
        .depth = 5,
        .origin_server_ts = clock_wall_ms(),
    };
    Pdu *pdu = pdu_build(room_version_default(), &template, &signer, &error);
    g_assert_no_error(error);
    return pdu;
}

static void
assert_put(PartnerScene *scene, const char *format, const char *room_id, const Pdu *pdu,
           const char *event_id, const char *around, guint status)
{
    const RawRequest raw = {.as = scene->beta};
    g_autofree char *text = house_pdu_text(pdu);
    g_autofree char *body =
        around != NULL ? g_strdup_printf("{\"room_version\":\"12\",\"event\":%s,%s}", text, around)
                       : g_strdup(text);
    g_autofree char *target =
        partner_client_target(format, room_id, event_id != NULL ? event_id : pdu->event_id);
    house_assert_status(scene->alpha, &raw, "PUT", target, body, status);
}

static void
test_crooked_joins_and_leaves(PartnerScene *scene, gconstpointer data)
{
    g_autofree char *room_id = house_make_room(scene->alpha, ANNA, "public");
    g_autofree char *other_id = house_make_room(scene->alpha, ANNA, "public");
    House *beta = scene->beta;
    const RawRequest raw = {.as = beta};
    const struct {
        const char *format, *path_room, *sender, *target, *membership, *event_id;
        guint status;
    } tries[] = {
        {SEND_JOIN, other_id, BERTA, BERTA, "join", NULL, 400}, /* CVE-2020-26257 */
        {SEND_LEAVE, other_id, BERTA, BERTA, "leave", NULL, 400},
        {SEND_JOIN, room_id, BERTA, BERTA, "leave", NULL, 400},
        {SEND_JOIN, room_id, BERTA, BERTA, "ban", NULL, 400},
        {SEND_LEAVE, room_id, BERTA, BERTA, "join", NULL, 400},
        {SEND_JOIN, room_id, ANNA, ANNA, "join", NULL, 403},
        {SEND_JOIN, room_id, GUSTAV, GUSTAV, "join", NULL, 403},
        {SEND_JOIN, room_id, BERTA, GUSTAV, "join", NULL, 403},
        {SEND_LEAVE, room_id, BERTA, ANNA, "leave", NULL, 403}, /* a kick is no leave */
        {SEND_JOIN, room_id, BERTA, BERTA, "join", "$bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
         400},
        /* well formed, but it stands on events that nobody has */
        {SEND_JOIN, room_id, BERTA, BERTA, "join", NULL, 403},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(tries); i++) {
        g_autoptr(Pdu) pdu =
            member_event(beta, room_id, tries[i].sender, tries[i].target, tries[i].membership);
        assert_put(scene, tries[i].format, tries[i].path_room, pdu, tries[i].event_id, NULL,
                   tries[i].status);
    }
    /* signed by another server than the sender's */
    g_autoptr(Pdu) forged = member_event(scene->gamma, room_id, BERTA, BERTA, "join");
    assert_put(scene, SEND_JOIN, room_id, forged, NULL, NULL, 403);
    g_autoptr(Pdu) forged_leave = member_event(scene->gamma, room_id, BERTA, BERTA, "leave");
    assert_put(scene, SEND_LEAVE, room_id, forged_leave, NULL, NULL, 403);

    g_autofree char *for_gustav =
        partner_client_target("/_matrix/federation/v1/make_join/%s/%s?ver=12", room_id, GUSTAV);
    g_autofree char *wrong_version =
        partner_client_target("/_matrix/federation/v1/make_join/%s/%s?ver=11", room_id, BERTA);
    g_autofree char *no_room = partner_client_target(
        "/_matrix/federation/v1/make_join/%s/%s?ver=12", "!nowhere:alpha.example", BERTA);
    house_assert_status(scene->alpha, &raw, "GET", for_gustav, NULL, 403);
    house_assert_status(scene->alpha, &raw, "GET", wrong_version, NULL, 400);
    house_assert_status(scene->alpha, &raw, "GET", no_room, NULL, 404);
    g_assert_cmpint(
        test_database_count(scene->alpha->database,
                            "SELECT count(*) FROM event WHERE sender NOT LIKE '%:alpha.example'"),
        ==, 0);
}

static void
test_crooked_knocks(PartnerScene *scene, gconstpointer data)
{
    g_autofree char *room_id = house_make_room(scene->alpha, ANNA, "knock");
    g_autofree char *closed_id = house_make_room(scene->alpha, ANNA, "invite");
    House *beta = scene->beta;
    const RawRequest raw = {.as = beta};
    const struct {
        const char *path_room, *sender, *target, *membership;
        guint status;
    } tries[] = {
        {closed_id, BERTA, BERTA, "knock", 400}, /* of another room than the path */
        {room_id, BERTA, BERTA, "join", 400},
        {room_id, BERTA, BERTA, "invite", 400},
        {room_id, BERTA, BERTA, "leave", 400},
        {room_id, ANNA, ANNA, "knock", 403},
        {room_id, GUSTAV, GUSTAV, "knock", 403},
        {room_id, BERTA, GUSTAV, "knock", 403},
        /* well formed, but it stands on events that nobody has */
        {room_id, BERTA, BERTA, "knock", 403},
    };
    const struct {
        const char *format, *room_id, *user_id;
        guint status;
        const char *errcode;
    } questions[] = {
        {MAKE_KNOCK, room_id, BERTA, 200, "knock"},
        {MAKE_KNOCK, room_id, GUSTAV, 403, "M_FORBIDDEN"},
        {MAKE_KNOCK, closed_id, BERTA, 403, "M_FORBIDDEN"},
        {MAKE_KNOCK, "!nowhere:alpha.example", BERTA, 404, "M_NOT_FOUND"},
        {"/_matrix/federation/v1/make_knock/%s/%s?ver=7", room_id, BERTA, 400,
         "M_INCOMPATIBLE_ROOM_VERSION"},
        {"/_matrix/federation/v1/make_knock/%s/%s", room_id, BERTA, 400,
         "M_INCOMPATIBLE_ROOM_VERSION"},
        /* A knock is no way in. */
        {"/_matrix/federation/v1/make_join/%s/%s?ver=12", room_id, BERTA, 403, "M_FORBIDDEN"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(tries); i++) {
        g_autoptr(Pdu) pdu =
            member_event(beta, room_id, tries[i].sender, tries[i].target, tries[i].membership);
        assert_put(scene, SEND_KNOCK, tries[i].path_room, pdu, NULL, NULL, tries[i].status);
    }
    g_autoptr(Pdu) forged = member_event(scene->gamma, room_id, BERTA, BERTA, "knock");
    assert_put(scene, SEND_KNOCK, room_id, forged, NULL, NULL, 403);
    for (gsize i = 0; i < G_N_ELEMENTS(questions); i++) {
        g_autofree char *target =
            partner_client_target(questions[i].format, questions[i].room_id, questions[i].user_id);
        g_autofree char *body = NULL;
        guint status = house_raw(scene->alpha, &raw, "GET", target, NULL, &body);

        g_assert_cmpuint(status, ==, questions[i].status);
        g_assert_nonnull(strstr(body, questions[i].errcode));
    }
    g_assert_cmpint(
        test_database_count(scene->alpha->database,
                            "SELECT count(*) FROM event WHERE sender NOT LIKE '%:alpha.example'"),
        ==, 0);
}

/* Three ways not to be let in, told apart: another server may know, another may have the power,
 * nobody will. */
static void
test_joins_by_membership_refused_apart(PartnerScene *scene, gconstpointer data)
{
    g_autofree char *hall_id = house_make_room(scene->alpha, ANNA, "public");
    g_autofree char *room_id = house_make_room(scene->alpha, ANNA, "restricted");
    g_autofree char *target =
        partner_client_target("/_matrix/federation/v1/make_join/%s/%s?ver=12", room_id, BERTA);
    const RawRequest raw = {.as = scene->beta};
    const struct {
        const char *allow;
        guint status;
        const char *errcode;
    } rules[] = {
        {"!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 400, "M_UNABLE_TO_AUTHORISE_JOIN"},
        {hall_id, 403, "M_FORBIDDEN"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rules); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *content = g_strdup_printf(
            "{\"join_rule\":\"restricted\",\"allow\":[{\"type\":\"m.room_membership\","
            "\"room_id\":\"%s\"}]}",
            rules[i].allow);
        g_autofree char *event_id =
            house_send(scene->alpha, room_id, ANNA, "m.room.join_rules", "", content, &error);
        g_autofree char *body = NULL;

        g_assert_no_error(error);
        g_assert_cmpuint(house_raw(scene->alpha, &raw, "GET", target, NULL, &body), ==,
                         rules[i].status);
        g_assert_nonnull(strstr(body, rules[i].errcode));
    }
}

static void
test_crooked_invites_are_not_cosigned(PartnerScene *scene, gconstpointer data)
{
    g_autofree char *room_id = house_make_room(scene->beta, BERTA, "invite");
    g_autofree char *create = test_database_query(
        scene->beta->database,
        "SELECT convert_from(json, 'UTF8') FROM event WHERE type = 'm.room.create'");
    g_autofree char *state = g_strdup_printf("\"invite_room_state\":[%s]", create);
    House *beta = scene->beta;
    const struct {
        const char *sender, *target, *membership, *around;
        guint status;
    } tries[] = {
        {BERTA, ANNA, "leave", state, 400},
        {BERTA, ANNA, "ban", state, 400},
        {BERTA, ANNA, "join", state, 400},
        {GUSTAV, ANNA, "invite", state, 403},
        {ANNA, ANNA, "invite", state, 403},
        {BERTA, GUSTAV, "invite", state, 400},
        {BERTA, "@nobody:alpha.example", "invite", state, 404},
        {BERTA, ANNA, "invite", "\"invite_room_state\":[]", 400},
        {BERTA, ANNA, "invite", "\"more\":1", 400},
        {BERTA, ANNA, "invite", "\"invite_room_state\":[{\"type\":\"m.room.create\"}]", 400},
        {BERTA, ANNA, "invite", "\"invite_room_state\":[7]", 400},
        {BERTA, ANNA, "invite", state, 200},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(tries); i++) {
        g_autoptr(Pdu) pdu =
            member_event(beta, room_id, tries[i].sender, tries[i].target, tries[i].membership);
        if (tries[i].status == 200) /* nothing of the others was kept */
            g_assert_cmpint(
                test_database_count(scene->alpha->database, "SELECT count(*) FROM invite"), ==, 0);
        assert_put(scene, INVITE, room_id, pdu, NULL, tries[i].around, tries[i].status);
    }
    g_autoptr(Pdu) forged = member_event(scene->gamma, room_id, BERTA, ANNA, "invite");
    assert_put(scene, INVITE, room_id, forged, NULL, state, 400);
}

/* A user's invites all come in one sync: neither their number nor what they show is the partner's
 * to choose. */
static void
test_invites_are_bounded(PartnerScene *scene, gconstpointer data)
{
    g_autofree char *room_id = house_make_room(scene->beta, BERTA, "invite");
    g_autofree char *create = test_database_query(
        scene->beta->database,
        "SELECT convert_from(json, 'UTF8') FROM event WHERE type = 'm.room.create'");
    g_autoptr(Pdu) invite = member_event(scene->beta, room_id, BERTA, ANNA, "invite");
    g_autofree char *small = g_strdup_printf("\"invite_room_state\":[%s]", create);
    PduSigner signer = pdu_signer(scene->beta->server.name, scene->beta->server.key);
    g_autoptr(GString) large = g_string_new("\"invite_room_state\":[");
    g_string_append(large, create);
    for (guint i = 0; i < 3; i++) { /* 3 times 50,000 bytes: more than 128 KiB */
        g_autoptr(GError) error = NULL;
        g_autoptr(cJSON) content = cJSON_CreateObject();
        g_autofree char *topic = g_strnfill(50 * 1000, 'x');
        g_autofree char *type = g_strdup_printf("m.room.topic%u", i);
        const char *const stands_on[] = {"$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL};
        cJSON_AddStringToObject(content, "topic", topic);
        PduTemplate template = {
            .room_id = room_id,
            .type = type,
            .state_key = "",
            .sender = BERTA,
            .content = content,
            .prev_events = stands_on,
            .auth_events = stands_on,
            .depth = 5,
            .origin_server_ts = clock_wall_ms(),
        };
        g_autoptr(Pdu) pdu = pdu_build(room_version_default(), &template, &signer, &error);
        g_assert_no_error(error);
        g_string_append_c(large, ',');
        g_string_append_len(large, g_bytes_get_data(pdu->bytes, NULL),
                            (gssize)g_bytes_get_size(pdu->bytes));
    }
    g_string_append_c(large, ']');
    assert_put(scene, INVITE, room_id, invite, NULL, large->str, 413);
    g_assert_cmpint(test_database_count(scene->alpha->database, "SELECT count(*) FROM invite"), ==,
                    0);

    g_free(test_database_query(
        scene->alpha->database,
        "INSERT INTO invite (user_id, room_id, room_version, event_id, sender, json, room_state)"
        " SELECT '" ANNA "', '!old' || n || ':beta.example', '11', '$x', '" BERTA "', '{}', '[]'"
        " FROM generate_series(1, 300) n"));
    assert_put(scene, INVITE, room_id, invite, NULL, small, 403);
    g_free(test_database_query(scene->alpha->database,
                               "DELETE FROM invite WHERE room_id = '!old7:beta.example'"));
    assert_put(scene, INVITE, room_id, invite, NULL, small, 200);
    /* One that waits already may be renewed. */
    g_autoptr(Pdu) renewed = member_event(scene->beta, room_id, BERTA, ANNA, "invite");
    assert_put(scene, INVITE, room_id, renewed, NULL, small, 200);
    g_assert_cmpint(test_database_count(scene->alpha->database, "SELECT count(*) FROM invite"), ==,
                    300);
}

/* ---- events that a partner has kept for later ---- */

/* What alpha answers when beta hands @pdu in by @format. */
static guint
hand_in(PartnerScene *scene, const char *format, const Pdu *pdu, char **ret_body)
{
    const RawRequest raw = {.as = scene->beta};
    g_autofree char *text = house_pdu_text(pdu);
    g_autofree char *target = partner_client_target(format, pdu->room_id, pdu->event_id);
    return house_raw(scene->alpha, &raw, "PUT", target, text, ret_body);
}

/* Who is banned gets the room by no event of theirs that is here already: brought in past the door,
 * or good when it came. */
static void
test_an_event_of_before_opens_nothing(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha;
    g_autofree char *hall_id = house_make_room(alpha, ANNA, "public");
    g_autofree char *porch_id = house_make_room(alpha, ANNA, "knock");
    const char *const ban = "{\"membership\":\"ban\"}";

    /* A join made while the room was open; after the ban it comes as an event like others. */
    g_autoptr(Pdu) join = house_prepare(scene->beta, alpha, hall_id, BERTA, "join", NULL);
    house_act(alpha, hall_id, ANNA, "m.room.member", BERTA, ban);
    const RawRequest raw = {.as = scene->beta};
    g_autofree char *text = house_pdu_text(join);
    g_autofree char *transaction = g_strdup_printf("{\"pdus\":[%s]}", text);
    house_assert_status(alpha, &raw, "PUT", "/_matrix/federation/v1/send/late", transaction, 200);
    g_assert_cmpint(test_database_count(alpha->database,
                                        "SELECT count(*) FROM event WHERE type = "
                                        "'m.room.member' AND sender = '" BERTA "' AND status <> 0"),
                    ==, 1);
    g_autofree char *first = NULL;
    g_assert_cmpuint(hand_in(scene, SEND_JOIN, join, &first), ==, 403);
    g_assert_null(strstr(first, "auth_chain"));

    /* A knock that was good when it came. */
    g_autoptr(Pdu) knock = house_prepare(scene->beta, alpha, porch_id, BERTA, "knock", NULL);
    g_autofree char *second = NULL;
    g_assert_cmpuint(hand_in(scene, SEND_KNOCK, knock, &second), ==, 200);
    g_autofree char *again = NULL; /* the answer may have been lost */
    g_assert_cmpuint(hand_in(scene, SEND_KNOCK, knock, &again), ==, 200);
    house_act(alpha, porch_id, ANNA, "m.room.member", BERTA, ban);
    house_act(alpha, porch_id, ANNA, "m.room.name", "", "{\"name\":\"swordfish\"}");
    g_autofree char *third = NULL;
    g_assert_cmpuint(hand_in(scene, SEND_KNOCK, knock, &third), ==, 403);
    g_assert_null(strstr(third, "swordfish"));

    /* A join that was good when it came. */
    g_autofree char *open_id = house_make_room(alpha, ANNA, "public");
    g_autoptr(Pdu) good = house_prepare(scene->beta, alpha, open_id, BERTA, "join", NULL);
    g_autofree char *fourth = NULL;
    g_assert_cmpuint(hand_in(scene, SEND_JOIN, good, &fourth), ==, 200);
    g_assert_nonnull(strstr(fourth, "auth_chain"));
    g_autofree char *fifth = NULL;
    g_assert_cmpuint(hand_in(scene, SEND_JOIN, good, &fifth), ==, 200);
    house_act(alpha, open_id, ANNA, "m.room.member", BERTA, ban);
    g_autofree char *sixth = NULL;
    g_assert_cmpuint(hand_in(scene, SEND_JOIN, good, &sixth), ==, 403);
}

/* ---- rooms that keep a server out ---- */

/* A server that the ACL of a room keeps out does nothing there by any of its doors. */
static void
test_who_the_acl_keeps_out(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha;
    const RawRequest raw = {.as = scene->beta};
    g_autofree char *room_id = house_make_room(alpha, ANNA, "public");
    g_autofree char *event_id = test_database_query(
        alpha->database, "SELECT event_id FROM event WHERE type = 'm.room.create'");
    g_autoptr(Pdu) join = house_prepare(scene->beta, alpha, room_id, BERTA, "join", NULL);
    g_autoptr(Pdu) invite = member_event(scene->beta, room_id, BERTA, ANNA, "invite");
    g_autoptr(Pdu) leave = member_event(scene->beta, room_id, BERTA, BERTA, "leave");
    g_autoptr(Pdu) knock = member_event(scene->beta, room_id, BERTA, BERTA, "knock");
    g_autofree char *create = test_database_query(
        alpha->database,
        "SELECT convert_from(json, 'UTF8') FROM event WHERE type = 'm.room.create'");
    g_autofree char *around = g_strdup_printf("\"invite_room_state\":[%s]", create);
    static const char *const questions[] = {
        "/_matrix/federation/v1/make_join/%s/" BERTA "?ver=12",
        "/_matrix/federation/v1/make_leave/%s/" BERTA,
        "/_matrix/federation/v1/make_knock/%s/" BERTA "?ver=12",
    };
    static const char *const readings[] = {
        "/_matrix/federation/v1/state/%s?event_id=%s",
        "/_matrix/federation/v1/state_ids/%s?event_id=%s",
        "/_matrix/federation/v1/event_auth/%s/%s",
        "/_matrix/federation/v1/backfill/%s?limit=10&v=%s",
    };

    house_act(alpha, room_id, ANNA, "m.room.server_acl", "",
              "{\"allow\":[\"*\"],\"deny\":[\"BETA.*\"]}");
    for (gsize i = 0; i < G_N_ELEMENTS(questions); i++) {
        g_autofree char *target = partner_client_target(questions[i], room_id);
        house_assert_status(alpha, &raw, "GET", target, NULL, 403);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(readings); i++) {
        g_autofree char *target = partner_client_target(readings[i], room_id, event_id);
        house_assert_status(alpha, &raw, "GET", target, NULL, 403);
    }
    g_autofree char *missing =
        partner_client_target("/_matrix/federation/v1/get_missing_events/%s", room_id);
    g_autofree char *question =
        g_strdup_printf("{\"earliest_events\":[],\"latest_events\":[\"%s\"]}", event_id);
    house_assert_status(alpha, &raw, "POST", missing, question, 403);
    assert_put(scene, SEND_JOIN, room_id, join, NULL, NULL, 403);
    assert_put(scene, SEND_LEAVE, room_id, leave, NULL, NULL, 403);
    assert_put(scene, SEND_KNOCK, room_id, knock, NULL, NULL, 403);
    assert_put(scene, INVITE, room_id, invite, NULL, around, 403);
    g_assert_cmpint(
        test_database_count(alpha->database,
                            "SELECT count(*) FROM event WHERE sender NOT LIKE '%:alpha.example'"),
        ==, 0);
}

int
main(int argc, char **argv)
{
    static const PartnerTest tests[] = {
        {"/memberships/joins", test_crooked_joins_and_leaves},
        {"/memberships/knocks", test_crooked_knocks},
        {"/memberships/restricted", test_joins_by_membership_refused_apart},
        {"/memberships/invites", test_crooked_invites_are_not_cosigned},
        {"/memberships/invites-bounded", test_invites_are_bounded},
        {"/memberships/of-before", test_an_event_of_before_opens_nothing},
        {"/memberships/acl", test_who_the_acl_keeps_out},
        {NULL},
    };
    return partner_scene_run_tests(argc, argv, partner_scene_set_up_with_stranger, tests);
}
