/* A partner that lies to us: what it answers is checked like what it sends. */
#include "tests/support/partner_scene.h"

#include <string.h>

#include "identity/refusal.h"

#define ROOM "!room:beta.example"

/* ---- what it answers ---- */

static const char *lie;    /* the body of its answers */
static gint signed_events; /* that came to it */

static Response *
lying(Request *request, GError **error)
{
    return response_json(200, g_string_new(lie));
}

static Response *
signed_event(Request *request, GError **error)
{
    g_atomic_int_inc(&signed_events);
    return response_error(400, "M_UNKNOWN", "caught");
}

#define LIE(method, path, body)                                                                    \
    {                                                                                              \
        method, "/_matrix/federation/" path, LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE, body,      \
            lying                                                                                  \
    }

static const Route lying_routes[] = {
    LIE("GET", "v1/make_join/{roomId}/{userId}", BODY_NONE),
    LIE("GET", "v1/make_knock/{roomId}/{userId}", BODY_NONE),
    LIE("GET", "v1/make_leave/{roomId}/{userId}", BODY_NONE),
    LIE("POST", "v1/get_missing_events/{roomId}", BODY_JSON),
    LIE("GET", "v1/backfill/{roomId}", BODY_NONE),
    LIE("GET", "v1/query/profile", BODY_NONE),
    {"PUT", "/_matrix/federation/v1/send_knock/{roomId}/{eventId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_JSON_MEMBER, signed_event},
    {"PUT", "/_matrix/federation/v2/send_leave/{roomId}/{eventId}", LISTEN_PARTNER, CALLER_PARTNER,
     RATE_NONE, BODY_JSON_MEMBER, signed_event},
    {NULL},
};

static void
begin_to_lie(PartnerScene *scene)
{
    static const Route *const tables[] = {lying_routes, NULL};

    house_serve(scene->beta, tables);
}

typedef struct {
    gint ready;
    GError *error;
} Outcome;

static void
came_back(const char *room_id, gint64 position, const GError *error, gpointer data)
{
    Outcome *outcome = data;

    outcome->error = error != NULL ? g_error_copy(error) : NULL;
    g_atomic_int_set(&outcome->ready, 1);
}

static void
profile_came_back(const cJSON *profile, const GError *error, gpointer data)
{
    came_back(NULL, 0, error, data);
}

static void
outcome_await(Outcome *outcome)
{
    while (!g_atomic_int_get(&outcome->ready))
        g_usleep(1000);
}

/* ---- templates ---- */

static void
test_templates_of_joins(PartnerScene *scene, gconstpointer data)
{
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
    begin_to_lie(scene);
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

static void
test_templates_of_knocks_and_leaves(PartnerScene *scene, gconstpointer data)
{
    static const char *const changes[][2] = {
        {"m.room.member", "m.room.power_levels"},
        {"\"membership\":\"%s\"", "\"membership\":\"join\""},
        {"\"sender\":\"" ANNA "\"", "\"sender\":\"" BERTA "\""},
        {"\"state_key\":\"" ANNA "\"", "\"state_key\":\"" BERTA "\""},
        {ROOM "\",\"sender", "!another:beta.example\",\"sender"},
    };
    static const char *const memberships[] = {"knock", "leave"};
    const char *const via[] = {"beta.example", NULL};

    begin_to_lie(scene);
    for (gsize m = 0; m < G_N_ELEMENTS(memberships); m++)
        for (gsize i = 0; i < G_N_ELEMENTS(changes); i++) {
            g_autofree char *from = g_strdup_printf("\"membership\":\"%s\"", memberships[m]);
            g_autoptr(GString) text = g_string_new(NULL);
            Outcome outcome = {0};

            g_string_printf(text,
                            "{\"event\":{\"auth_events\":[],\"content\":{\"membership\":\"%s\"},"
                            "\"depth\":1,\"prev_events\":[],\"room_id\":\"" ROOM
                            "\",\"sender\":\"" ANNA "\",\"state_key\":\"" ANNA
                            "\",\"type\":\"m.room.member\"},\"room_version\":\"11\"}",
                            memberships[m]);
            g_assert_cmpuint(
                g_string_replace(text, i == 1 ? from : changes[i][0], changes[i][1], 1), ==, 1);
            lie = text->str;
            (m == 0 ? outgoing_knock : outgoing_leave)(scene->alpha->server.outgoing, ROOM, ANNA,
                                                       NULL, via, came_back, &outcome);
            outcome_await(&outcome);
            g_assert_error(outcome.error, REFUSAL, 502);
            g_clear_error(&outcome.error);
        }
    g_assert_cmpint(g_atomic_int_get(&signed_events), ==, 0);
}

/* ---- events that it is asked for ---- */

static char *
replaced(const char *text, const char *from, const char *to)
{
    g_autoptr(GString) out = g_string_new(text);

    g_assert_cmpuint(g_string_replace(out, from, to, 1), ==, 1);
    return g_string_free(g_steal_pointer(&out), FALSE);
}

/* @text as the one event of an answer. */
static char *
answer_of(const char *member, const char *text)
{
    return g_strdup_printf("{\"%s\":[%s]}", member, text);
}

/* TRUE: alpha took @pdu, which beta brings in a transaction. */
static gboolean
is_taken(PartnerScene *scene, const Pdu *pdu)
{
    g_autofree char *problem = house_verdict(scene->beta, scene->alpha, pdu);

    return problem == NULL;
}

static void
test_missing_events(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha, *beta = scene->beta;
    g_autofree char *room_id = partner_scene_room(scene);
    g_autofree char *other_id = house_make_room(alpha, ANNA, "public");
    const HouseEvent said = {.content = "{\"body\":\"truth\"}"};
    g_autoptr(Pdu) first = house_prepare(beta, alpha, room_id, BERTA, "leave", &said);
    const HouseEvent after = {.content = "{\"body\":\"after\"}", .prev_event = first->event_id};
    g_autoptr(Pdu) second = house_prepare(beta, alpha, room_id, BERTA, "leave", &after);
    const HouseEvent in_other_name = {.sender = GUSTAV, .content = "{\"body\":\"truth\"}"};
    g_autoptr(Pdu) stranger = house_prepare(beta, alpha, room_id, BERTA, "leave", &in_other_name);
    const HouseEvent in_our_name = {.sender = ANNA, .content = "{\"body\":\"truth\"}"};
    g_autoptr(Pdu) ours = house_prepare(beta, alpha, room_id, BERTA, "leave", &in_our_name);
    g_autofree char *honest = house_pdu_text(first);
    g_autofree char *strangers = house_pdu_text(stranger);
    g_autofree char *in_annas = house_pdu_text(ours);
    g_autofree char *deeper = replaced(honest, "\"depth\":", "\"depth\":1");
    g_autofree char *elsewhere = replaced(honest, room_id, other_id);
    g_autofree char *by_another = replaced(honest, BERTA, "@bruno:beta.example");
    const char *const lies[] = {
        "", "1,null,\"x\",[],{}", deeper, elsewhere, by_another, strangers, in_annas};

    begin_to_lie(scene);
    for (gsize i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_autofree char *answer = answer_of("events", lies[i]);

        lie = answer;
        g_assert_false(is_taken(scene, second));
    }
    lie = "{\"events\":7}";
    g_assert_false(is_taken(scene, second));
    g_assert_cmpint(test_database_count(alpha->database, "SELECT count(*) FROM event WHERE type = "
                                                         "'m.room.message'"),
                    ==, 0);
    g_autofree char *truth = answer_of("events", honest);
    lie = truth;
    g_assert_true(is_taken(scene, second));
    g_assert_cmpint(house_count_event(alpha, first->event_id), ==, 1);
    g_assert_cmpint(house_count_event(alpha, second->event_id), ==, 1);
}

static char *
text_of(House *house, const char *event_id)
{
    g_autofree char *sql = g_strdup_printf(
        "SELECT convert_from(json, 'UTF8') FROM event WHERE event_id = '%s'", event_id);

    return test_database_query(house->database, sql);
}

static void
test_history(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha, *beta = scene->beta;
    g_autoptr(GError) error = NULL;
    g_autofree char *room_id = house_make_room(beta, BERTA, "public");
    g_autofree char *first =
        house_send(beta, room_id, BERTA, "m.room.message", NULL, "{\"body\":\"truth\"}", &error);
    g_autofree char *second =
        house_send(beta, room_id, BERTA, "m.room.message", NULL, "{\"body\":\"truth\"}", &error);
    g_assert_no_error(error);
    g_autofree char *other_id = house_make_room(beta, BERTA, "public");
    house_join(alpha, room_id, ANNA, "beta.example", &error);
    g_assert_no_error(error);
    g_autofree char *honest = text_of(beta, second);
    g_autofree char *other = text_of(beta, first);
    g_autofree char *deeper = replaced(honest, "\"depth\":", "\"depth\":1");
    g_autofree char *elsewhere = replaced(honest, room_id, other_id);
    g_autofree char *in_annas = replaced(honest, BERTA, ANNA);
    const char *const lies[] = {"1,null", deeper, elsewhere, in_annas};
    const char *const sql =
        "SELECT count(*) FROM event WHERE type = 'm.room.message' AND status = 0";

    begin_to_lie(scene);
    for (gsize i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_autofree char *answer = answer_of("pdus", lies[i]);
        Outcome outcome = {0};

        lie = answer;
        outgoing_backfill(alpha->server.outgoing, room_id, 100, came_back, &outcome);
        outcome_await(&outcome);
        g_clear_error(&outcome.error);
        g_assert_cmpint(test_database_count(alpha->database, sql), ==, 0);
    }
    /* Another content than what was signed: the event counts, the content does not. */
    g_autofree char *changed = replaced(other, "truth", "wrong");
    g_autofree char *both = g_strdup_printf("%s,%s", honest, changed);
    g_autofree char *answer = answer_of("pdus", both);
    Outcome outcome = {0};
    lie = answer;
    outgoing_backfill(alpha->server.outgoing, room_id, 100, came_back, &outcome);
    outcome_await(&outcome);
    g_assert_no_error(outcome.error);
    g_autofree char *kept = text_of(alpha, second);
    g_autofree char *emptied = text_of(alpha, first);
    g_assert_nonnull(strstr(kept, "truth"));
    g_assert_nonnull(strstr(emptied, "\"content\":{}"));
}

/* ---- sizes ---- */

static void
test_an_endless_answer(PartnerScene *scene, gconstpointer data)
{
    g_autofree char *filler = g_strnfill(5 * 1024 * 1024, 'x');
    g_autofree char *profile = g_strdup_printf("{\"displayname\":\"%s\"}", filler);
    Outcome outcome = {0};

    begin_to_lie(scene);
    lie = profile;
    outgoing_profile(scene->alpha->server.outgoing, BERTA, NULL, profile_came_back, &outcome);
    outcome_await(&outcome);
    g_assert_error(outcome.error, REFUSAL, 502);
    g_assert_nonnull(strstr(outcome.error->message, "more bytes"));
    g_clear_error(&outcome.error);
}

/* ---- refusals ---- */

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
        {"/liar/templates-of-joins", test_templates_of_joins},
        {"/liar/templates", test_templates_of_knocks_and_leaves},
        {"/liar/missing-events", test_missing_events},
        {"/liar/history", test_history},
        {"/liar/endless", test_an_endless_answer},
        {"/liar/refusing", test_a_partner_refuses_for_itself_alone},
        {NULL},
    };
    return partner_scene_run_tests(argc, argv, partner_scene_set_up, tests);
}
