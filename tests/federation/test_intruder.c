/* Who is not a partner, and what a partner may not do: each try has its answer and leaves nothing
 * behind. */
#include "tests/support/partner_scene.h"

#include <string.h>

#include "federation/room/pdu_build.h"
#include "identity/clock.h"
#include "identity/refusal.h"

#define PROFILE "/_matrix/federation/v1/query/profile?user_id=@anna:alpha.example"
#define SEND "/_matrix/federation/v1/send/x"
#define NOTHING "{\"origin\":\"beta.example\",\"origin_server_ts\":1,\"pdus\":[]}"

static void
test_every_way_in_for_a_stranger(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha, *beta = scene->beta, *gamma = scene->gamma;
    const struct {
        RawRequest raw;
        guint get, put;
    } tries[] = {
        {{.as = beta}, 200, 200}, /* the honest one */
        {{.as = beta, .no_certificate = TRUE}, 403, 403},
        {{.as = gamma}, 403, 403},
        {{.as = gamma, .no_certificate = TRUE}, 403, 403},
        /* beta's name and even its signing key, over another TLS key */
        {{.as = gamma, .signs = beta, .origin = "beta.example"}, 403, 403},
        /* beta's TLS key, another's name, or signing key, or key under beta's key id */
        {{.as = beta, .signs = gamma, .origin = "gamma.example"}, 403, 403},
        {{.as = beta, .signs = gamma, .origin = "beta.example"}, 401, 401},
        {{.as = beta, .signs = gamma, .origin = "beta.example", .key_id = "ed25519:beta"},
         401,
         401},
        {{.as = beta, .origin = "alpha.example"}, 403, 403},
        {{.as = beta, .destination = "gamma.example"}, 401, 401},
        {{.as = beta, .destination = "beta.example"}, 401, 401},
        {{.as = beta, .signed_target = "/_matrix/federation/v1/version"}, 401, 401},
        {{.as = beta, .signed_content = "{\"other\":1}"}, 401, 401},
        {{.as = beta, .authorization = ""}, 401, 401},
        {{.as = beta, .authorization = "Bearer abc"}, 401, 401},
        {{.as = beta, .authorization = "X-Matrix origin=beta.example"}, 401, 401},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(tries); i++) {
        house_assert_status(alpha, &tries[i].raw, "GET", PROFILE, NULL, tries[i].get);
        house_assert_status(alpha, &tries[i].raw, "PUT", SEND, NOTHING, tries[i].put);
    }
    const RawRequest unsigned_one = {.as = beta, .authorization = ""};
    house_assert_status(alpha, &unsigned_one, "GET", "/_matrix/key/v2/server", NULL, 200);
    house_assert_status(alpha, &unsigned_one, "GET", "/_matrix/federation/v1/nonsense", NULL, 404);
    const RawRequest stranger = {.as = gamma, .authorization = ""};
    house_assert_status(alpha, &stranger, "GET", "/_matrix/key/v2/server", NULL, 403);
    house_assert_status(alpha, &stranger, "GET", "/_matrix/federation/v1/nonsense", NULL, 403);
    g_assert_cmpint(
        test_database_count(alpha->database, "SELECT count(*) FROM inbound_transaction"), ==, 1);
}

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
        house_assert_status(scene->alpha, &signs_other, "PUT", SEND, broken[i], 400);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(odd); i++) {
        const RawRequest signs_other = {.as = scene->beta, .signed_content = "{}"};
        house_assert_status(scene->alpha, &signs_other, "PUT", SEND, odd[i], 401);
    }
}

/* The partners' own watch may meet a list written by hand before we are done with it, and says so.
 */
static gboolean
is_fatal_beside_a_bad_list(const char *domain, GLogLevelFlags level, const char *message,
                           gpointer data)
{
    return !g_str_has_prefix(message, "the allow-list cannot be reloaded: ");
}

static void
test_lists_that_are_not_taken(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha;
    g_autoptr(GError) error = NULL;

    /* signed by somebody who is no federation officer */
    g_assert_false(house_import(alpha, 2, cJSON_CreateArray(), "another", &error));
    g_assert_error(error, REFUSAL, 403);
    g_clear_error(&error);

    /* changed after it was signed */
    cJSON *entries = cJSON_CreateArray();
    cJSON_AddItemToArray(entries, house_entry(scene->beta));
    g_autoptr(GBytes) file = house_sign_list(alpha, 2, entries, "officer", &error);
    g_assert_no_error(error);
    g_autoptr(GString) text =
        g_string_new_len(g_bytes_get_data(file, NULL), (gssize)g_bytes_get_size(file));
    g_string_replace(text, "beta.example", "gamma.example", 1);
    g_autoptr(GBytes) changed = g_bytes_new(text->str, text->len);
    g_assert_false(partners_import(alpha->server.partners, changed, &error));
    g_assert_error(error, REFUSAL, 403);
    g_clear_error(&error);

    g_assert_true(partners_import(alpha->server.partners, file, &error));
    g_assert_cmpint(partners_serial(alpha->server.partners), ==, 2);
    g_assert_true(partners_import(alpha->server.partners, file, &error)); /* again: nothing new */
    /* an older one, though well signed */
    g_assert_false(house_import(alpha, 1, cJSON_CreateArray(), "officer", &error));
    g_assert_error(error, REFUSAL, 409);
    g_clear_error(&error);

    /* a row written by hand, without a signature by an officer, is never in force */
    g_test_log_set_fatal_handler(is_fatal_beside_a_bad_list, NULL);
    g_free(test_database_query(
        alpha->database,
        "INSERT INTO partner_list SELECT 3, list_id, replace(convert_from(content, 'UTF8'), "
        "'\"serial\":2', '\"serial\":3')::bytea, signature, imported_ms FROM partner_list "
        "WHERE serial = 2"));
    g_assert_false(partners_reload(alpha->server.partners, &error));
    g_assert_error(error, REFUSAL, 403);
    g_assert_cmpint(partners_serial(alpha->server.partners), ==, 2);
}

static gboolean
import_changed_entry(PartnerScene *scene, gint64 serial, const char *key, cJSON *value)
{
    g_autoptr(GError) error = NULL;
    cJSON *entries = cJSON_CreateArray();
    cJSON *entry = house_entry(scene->beta);
    cJSON_ReplaceItemInObjectCaseSensitive(entry, key, value);
    cJSON_AddItemToArray(entries, entry);
    gboolean good = house_import(scene->alpha, serial, entries, "officer", &error);
    g_assert_no_error(error);
    return good;
}

static void
test_direction_window_and_expiry(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha, *beta = scene->beta;
    const RawRequest raw = {.as = beta};
    g_autoptr(GError) error = NULL;

    g_assert_true(import_changed_entry(scene, 2, "direction", cJSON_CreateString("out")));
    house_assert_status(alpha, &raw, "GET", PROFILE, NULL, 403);
    house_request(alpha, beta, "GET", "/_matrix/federation/v1/version", NULL, NULL, &error);
    g_assert_no_error(error);

    g_assert_true(import_changed_entry(scene, 3, "direction", cJSON_CreateString("in")));
    house_assert_status(alpha, &raw, "GET", PROFILE, NULL, 200);
    g_assert_false(
        house_request(alpha, beta, "GET", "/_matrix/federation/v1/version", NULL, NULL, &error));
    g_assert_error(error, REFUSAL, 403);
    g_clear_error(&error);

    double now = (double)clock_wall_ms();
    g_assert_true(import_changed_entry(scene, 4, "not_before", cJSON_CreateNumber(now + 1e6)));
    house_assert_status(alpha, &raw, "GET", PROFILE, NULL, 403);
    clock_shift_for_tests(1000 * 1000 +
                          1000); /* asked at each request, not when the list was read */
    house_assert_status(alpha, &raw, "GET", PROFILE, NULL, 200);
    clock_shift_for_tests((gint64)31 * 24 * 3600 * 1000); /* the list itself ends */
    house_assert_status(alpha, &raw, "GET", PROFILE, NULL, 403);
    g_assert_false(
        house_request(alpha, beta, "GET", "/_matrix/federation/v1/version", NULL, NULL, &error));
    g_assert_error(error, REFUSAL, 403);
}

static void
test_an_unlisted_name_makes_no_connection(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha;
    g_autoptr(GError) error = NULL;
    g_autofree char *room_id = house_make_room(alpha, ANNA, "invite");
    guint64 before = partner_client_connections(alpha->server.partner_client);
    g_autofree char *literal = g_strdup(scene->gamma->address); /* "127.0.0.1:port" as a name */
    g_autofree char *invitee = g_strdup_printf("@spy:%s", literal);
    const char *const names[] = {"gamma.example", "localhost", literal, "[::1]:8448",
                                 "alpha.example"};

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_assert_false(house_join(alpha, "!somewhere:gamma.example", ANNA, names[i], &error));
        g_assert_true(g_error_matches(error, REFUSAL, 403) || g_error_matches(error, REFUSAL, 404));
        g_clear_error(&error);
    }
    g_assert_false(house_invite(alpha, room_id, ANNA, GUSTAV, &error));
    g_assert_error(error, REFUSAL, 403);
    g_clear_error(&error);
    g_assert_false(house_invite(alpha, room_id, ANNA, invitee, &error));
    g_assert_error(error, REFUSAL, 403);
    g_clear_error(&error);
    g_assert_false(house_request(alpha, scene->gamma, "GET", "/_matrix/federation/v1/version", NULL,
                                 NULL, &error));
    g_assert_error(error, REFUSAL, 403);
    g_assert_cmpuint(partner_client_connections(alpha->server.partner_client), ==, before);
    g_assert_cmpint(test_database_count(alpha->database,
                                        "SELECT count(*) FROM event WHERE type = 'm.room.member'"),
                    ==, 1);
}

static void
test_a_wrong_tls_key_gets_no_request(PartnerScene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(cJSON) gamma = house_entry(scene->gamma);
    /* a connection by the right key is open when the list changes: it must not be used again */
    house_request(scene->alpha, scene->beta, "GET", "/_matrix/federation/v1/version", NULL, NULL,
                  &error);
    g_assert_no_error(error);
    g_assert_true(import_changed_entry(scene, 2, "tls_pins",
                                       cJSON_Duplicate(json_get_array(gamma, "tls_pins"), TRUE)));
    FrontEndCounts counts;
    g_assert_false(house_request(scene->alpha, scene->beta, "GET", "/_matrix/federation/v1/version",
                                 NULL, NULL, &error));
    g_assert_error(error, PARTNER_CLIENT_ERROR, PARTNER_CLIENT_ERROR_UNREACHABLE);
    front_end_counts(scene->beta->front, &counts);
    g_assert_cmpuint(counts.requests, ==, 0);
}

/* ---- events that a partner may not bring ---- */

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

#define SEND_JOIN "/_matrix/federation/v2/send_join/%s/%s"
#define SEND_LEAVE "/_matrix/federation/v2/send_leave/%s/%s"
#define INVITE "/_matrix/federation/v2/invite/%s/%s"

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

#define SEND_KNOCK "/_matrix/federation/v1/send_knock/%s/%s"
#define MAKE_KNOCK "/_matrix/federation/v1/make_knock/%s/%s?ver=12"

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

/* ---- a partner that lies to us ---- */

static const char *lie; /* the body of its answer to make_join */

static Response *
lying_make_join(Request *request, GError **error)
{
    return response_json(200, g_string_new(lie));
}

static const Route lying_routes[] = {
    {"GET", "/_matrix/federation/v1/make_join/{roomId}/{userId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_NONE, lying_make_join},
    {NULL},
};

static void
test_a_lying_template_is_not_signed(PartnerScene *scene, gconstpointer data)
{
    static const Route *const tables[] = {lying_routes, NULL};
    static const char *const changes[][2] = {
        {"m.room.member", "m.room.power_levels"},
        {"\"membership\":\"join\"", "\"membership\":\"invite\""},
        {"\"sender\":\"" ANNA "\"", "\"sender\":\"" BERTA "\""},
        {"\"state_key\":\"" ANNA "\"", "\"state_key\":\"" BERTA "\""},
        {"!room:beta.example\",\"sender", "!another:beta.example\",\"sender"},
        {"\"depth\":1", "\"depth\":-1"},
        {"\"prev_events\":[]", "\"prev_events\":7"},
        {"\"room_version\":\"12\"", "\"room_version\":\"99\""},
        {"\"event\":", "\"pdu\":"},
    };
    house_serve(scene->beta, tables);
    for (gsize i = 0; i < G_N_ELEMENTS(changes); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GString) text = g_string_new(
            "{\"event\":{\"auth_events\":[],\"content\":{\"membership\":\"join\"},\"depth\":1,"
            "\"prev_events\":[],\"room_id\":\"!room:beta.example\",\"sender\":\"" ANNA
            "\",\"state_key\":\"" ANNA "\",\"type\":\"m.room.member\"},\"room_version\":\"12\"}");
        g_assert_cmpuint(g_string_replace(text, changes[i][0], changes[i][1], 1), ==, 1);
        lie = text->str;
        g_assert_false(
            house_join(scene->alpha, "!room:beta.example", ANNA, "beta.example", &error));
        /* the lying server has no send_join: whoever signs gets 404 from it, not these */
        g_assert_true(g_error_matches(error, REFUSAL, 502) || g_error_matches(error, REFUSAL, 400));
    }
    g_assert_cmpint(test_database_count(scene->alpha->database, "SELECT count(*) FROM event"), ==,
                    0);
}

static guint lying_status;
static const char *lying_errcode;

static Response *
lying_profile(Request *request, GError **error)
{
    return response_error(lying_status, lying_errcode, "as it likes");
}

static const Route lying_profile_routes[] = {
    {"GET", "/_matrix/federation/v1/query/profile", LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE,
     BODY_NONE, lying_profile},
    {NULL},
};

/* What a partner refuses reaches our users' clients; yet a client that reads M_UNKNOWN_TOKEN throws
 * its keys away, and M_USER_LOCKED shuts it. */
static void
test_a_partner_refuses_for_itself_alone(PartnerScene *scene, gconstpointer data)
{
    static const Route *const tables[] = {lying_profile_routes, NULL};
    static const struct {
        guint status;
        const char *errcode;
        gint told_status;
        const char *told_errcode;
    } answers[] = {
        {401, "M_UNKNOWN_TOKEN", 502, "M_UNKNOWN"},
        {401, "M_MISSING_TOKEN", 502, "M_UNKNOWN"},
        {401, "M_USER_LOCKED", 502, "M_UNKNOWN"},
        {403, "M_USER_LOCKED", 403, "M_FORBIDDEN"},
        {403, "M_UNKNOWN_TOKEN", 403, "M_FORBIDDEN"},
        {404, "M_UNKNOWN_TOKEN", 404, "M_NOT_FOUND"},
        {400, "M_UNKNOWN_TOKEN", 400, "M_UNKNOWN"},
        {302, "M_FOUND", 502, "M_UNKNOWN"},
        {500, "M_UNKNOWN", 502, "M_UNKNOWN"},
        {503, "M_UNKNOWN", 502, "M_UNKNOWN"},
        {404, "M_NOT_FOUND", 404, "M_NOT_FOUND"},
        {403, "M_FORBIDDEN", 403, "M_FORBIDDEN"},
        {400, "M_UNABLE_TO_GRANT_JOIN", 400, "M_UNABLE_TO_GRANT_JOIN"},
        {400, "M_INCOMPATIBLE_ROOM_VERSION", 400, "M_INCOMPATIBLE_ROOM_VERSION"},
        {429, "M_LIMIT_EXCEEDED", 429, "M_LIMIT_EXCEEDED"},
    };
    house_serve(scene->beta, tables);
    for (gsize i = 0; i < G_N_ELEMENTS(answers); i++) {
        g_autoptr(GError) error = NULL;
        const char *sentence = NULL;
        lying_status = answers[i].status;
        lying_errcode = answers[i].errcode;
        g_assert_false(house_request(scene->alpha, scene->beta, "GET",
                                     "/_matrix/federation/v1/query/profile?user_id=" BERTA, NULL,
                                     NULL, &error));
        g_assert_error(error, REFUSAL, answers[i].told_status);
        g_autofree char *errcode = refusal_errcode(error, &sentence);
        g_assert_cmpstr(errcode, ==, answers[i].told_errcode);
    }
}

int
main(int argc, char **argv)
{
    static const PartnerTest tests[] = {
        {"/intruder/every-way-in", test_every_way_in_for_a_stranger},
        {"/intruder/bodies", test_bodies_that_are_no_transaction},
        {"/intruder/lists", test_lists_that_are_not_taken},
        {"/intruder/direction-and-window", test_direction_window_and_expiry},
        {"/intruder/no-connection", test_an_unlisted_name_makes_no_connection},
        {"/intruder/wrong-tls-key", test_a_wrong_tls_key_gets_no_request},
        {"/intruder/joins", test_crooked_joins_and_leaves},
        {"/intruder/knocks", test_crooked_knocks},
        {"/intruder/membership", test_joins_by_membership_refused_apart},
        {"/intruder/invites", test_crooked_invites_are_not_cosigned},
        {"/intruder/of-before", test_an_event_of_before_opens_nothing},
        {"/intruder/acl", test_who_the_acl_keeps_out},
        {"/intruder/invites-bounded", test_invites_are_bounded},
        {"/intruder/other-names", test_events_in_another_name},
        {"/intruder/before-the-join", test_what_came_before_the_join},
        {"/intruder/keys-of-others", test_keys_of_others},
        {"/intruder/reading", test_only_rooms_that_one_is_in_are_read},
        {"/intruder/lying", test_a_lying_template_is_not_signed},
        {"/intruder/refusing", test_a_partner_refuses_for_itself_alone},
        {NULL},
    };
    return partner_scene_run_tests(argc, argv, partner_scene_set_up_with_stranger, tests);
}
