/* What only a hostile server makes: each case with the verdict that is right and what the door
 * before it (the format) says.  Limits and single rules stand in test_pdu.c and test_event_auth.c
 * too; here are those that aim at the machinery: cycles, events that cite themselves, numbers that
 * are none. */
#include <string.h>

#include "federation/room/state_resolution.h"
#include "identity/seeded_hash.h"
#include "tests/support/room_events.h"
#include "tests/support/sim_server.h"

/* ---- members of the event itself ---- */

typedef enum {
    TAKEN,
    REFUSED, /* by format */
} Format;

/* Replace @member of a good event by @value (JSON with ' for ") and read it. */
static Format
read_with(const Pdu *good, const char *member, const char *value)
{
    g_autoptr(cJSON) json = cJSON_Duplicate(good->json, TRUE);
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL, *raw = NULL;

    cJSON_DeleteItemFromObjectCaseSensitive(json, member);
    raw = g_strdelimit(g_strdup(value), "'", '"');
    cJSON_AddItemToObject(json, member, cJSON_CreateRaw(raw));
    text = cJSON_PrintUnformatted(json);
    g_autoptr(Pdu) pdu = pdu_from_json(good->version, text, strlen(text), &error);
    g_assert_true((pdu == NULL) == (error != NULL));
    return pdu != NULL ? TAKEN : REFUSED;
}

static char *
ids(const char *version, guint count)
{
    gboolean pairs = room_version_find(version)->reference_pairs;
    GString *text = g_string_new("[");
    for (guint i = 0; i < count; i++)
        g_string_append_printf(text, pairs ? "%s['$%043u:a.b',{'sha256':'x'}]" : "%s'$%043u'",
                               i > 0 ? "," : "", i);
    return g_string_free(g_string_append_c(text, ']'), FALSE);
}

static void
test_members_at_and_past_the_limits(void)
{
    static const struct {
        const char *version, *member, *value;
        Format format;
    } cases[] = {
        {"12", "depth", "0", TAKEN},
        {"12", "depth", "9007199254740991", TAKEN},
        {"12", "depth", "9007199254740992", REFUSED},
        {"12", "depth", "-1", REFUSED},
        {"12", "depth", "1.0", REFUSED},
        {"12", "depth", "1e3", REFUSED},
        {"1", "depth", "9223372036854775807", TAKEN},
        {"1", "depth", "9223372036854775808", REFUSED},
        {"12", "type", "'a','type':'b'", REFUSED},
        {"12", "content", "{'a':1,'a':2}", REFUSED},
        {"12", "content", "{'a':1.5}", REFUSED},
        {"12", "content", "{'a':9007199254740992}", REFUSED},
        {"12", "content", "{'a':-9007199254740991}", TAKEN},
        {"12", "content", "{'a':NaN}", REFUSED},
        {"12", "content", "{'a':'\\ud800'}", REFUSED},
    };
    static const char *const versions[] = {"1", "3", "6", "11", "12"};

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(TestRoom) room = test_room_new_of(cases[i].version, ALICE, "");
        g_autoptr(Pdu) good = test_room_make(room, ALICE, "m.room.message", NULL, "{}");
        g_test_message("version %s %s: %s", cases[i].version, cases[i].member, cases[i].value);
        g_assert_cmpint(read_with(good, cases[i].member, cases[i].value), ==, cases[i].format);
    }
    for (guint i = 0; i < G_N_ELEMENTS(versions); i++) {
        g_autoptr(TestRoom) room = test_room_new_of(versions[i], ALICE, "");
        g_autoptr(Pdu) good = test_room_make(room, ALICE, "m.room.message", NULL, "{}");
        for (guint over = 0; over <= 1; over++) {
            g_autofree char *prev = ids(versions[i], PDU_PREV_EVENTS_MAX + over);
            g_autofree char *auth = ids(versions[i], PDU_AUTH_EVENTS_MAX + over);
            g_autofree char *fill = g_strnfill(
                PDU_BYTES_MAX - g_bytes_get_size(good->bytes) - strlen("'body':''") + over, 'x');
            g_autofree char *body = g_strdup_printf("{'body':'%s'}", fill);
            Format format = over == 0 ? TAKEN : REFUSED;
            g_assert_cmpint(read_with(good, "prev_events", prev), ==, format);
            g_assert_cmpint(read_with(good, "auth_events", auth), ==, format);
            g_assert_cmpint(read_with(good, "content", body), ==, format);
        }
    }
}

/* ---- create events ---- */

static void
test_a_room_is_created_once(void)
{
    static const char *const versions[] = {"1", "2", "3", "4",  "5",  "6",
                                           "7", "8", "9", "10", "11", "12"};
    for (guint i = 0; i < G_N_ELEMENTS(versions); i++) {
        g_autoptr(TestRoom) room = test_room_new_of(versions[i], ALICE, "");
        g_autoptr(GPtrArray) none = g_ptr_array_new();
        const char *reason = NULL;

        g_assert_cmpint(event_auth_check(room->create, NULL, none, &reason), ==, AUTH_ALLOW);
        test_room_member(room, ALICE, ALICE, "join");
        if (room->version->room_id_is_create_hash) {
            g_autofree char *own = g_strdup_printf("'%s'", room->create->room_id);
            g_assert_cmpint(read_with(room->create, "room_id", own), ==, REFUSED);
            g_assert_cmpint(read_with(room->create, "room_id", "'!x:one.example'"), ==, REFUSED);
            g_assert_cmpint(read_with(room->create, "room_id", "null"), ==, REFUSED);
            continue;
        }
        g_autofree char *content =
            g_strdup_printf("{'creator':'%s','room_version':'%s'}", ALICE, versions[i]);
        g_autoptr(Pdu) second = test_room_make(room, ALICE, "m.room.create", "", content);
        g_assert_cmpint(event_auth_check(second, room->create, room->state, &reason), ==,
                        AUTH_REJECT);
        g_assert_true(g_str_has_prefix(reason, "rule 1.1"));
    }
}

/* One that stands on no events is allowed, and then it depends on the state which one counts. */
typedef struct {
    const Pdu *creates[2];
} Creates;

static gboolean
load_creates(gpointer data, const char *const *event_ids, guint count, Pdu **ret_pdus,
             GError **error)
{
    const Creates *creates = data;
    for (guint i = 0; i < count; i++)
        ret_pdus[i] = pdu_ref(
            creates->creates[strcmp(creates->creates[0]->event_id, event_ids[i]) == 0 ? 0 : 1]);
    return TRUE;
}

/* Of the two, whichever comes last stands: neither sender's power says who is first. */
static void
check_which_create_stands(const TestRoom *room, const Pdu *second, gboolean second_stands)
{
    static const guint8 seed[STATE_SEED_BYTES] = "two beginnings";
    g_autoptr(StateTrie) trie = state_trie_new(seed, NULL, NULL);
    Creates creates = {{room->create, second}};
    StateEventSource source = {&creates, load_creates, NULL, 1000};
    StateNodeId roots[2] = {state_node_empty, state_node_empty}, resolved;
    g_autofree char *found = NULL;

    for (guint i = 0; i < 2; i++) {
        StateChange change = {"m.room.create", "", creates.creates[i]->event_id};
        g_assert_true(state_trie_change(trie, &roots[i], &change, 1, &roots[i], NULL));
    }
    g_assert_true(state_resolve_roots(room->create, trie, roots, 2, &source, &resolved, NULL));
    g_assert_true(state_trie_find(trie, &resolved, "m.room.create", "", &found, NULL));
    g_assert_cmpstr(found, ==, creates.creates[second_stands]->event_id);
}

static void
test_a_second_create_event_counts_where_it_stands(void)
{
    static const char *const versions[] = {"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"};
    const char *nothing[] = {NULL};
    for (guint i = 0; i < G_N_ELEMENTS(versions); i++) {
        g_autoptr(TestRoom) room = test_room_new_of(versions[i], ALICE, "");
        g_autofree char *content = g_strdup_printf(
            "{'creator':'%s','m.federate':false,'room_version':'%s'}", BOB, versions[i]);
        const char *reason = NULL;
        gint64 begun_ms = room->clock_ms;

        test_room_member(room, ALICE, ALICE, "join");
        test_room_send(room, ALICE, "m.room.join_rules", "", "{'join_rule':'public'}");
        test_room_member(room, CAROL, CAROL, "join");
        g_autoptr(Pdu) second =
            test_room_make_with(room, BOB, "m.room.create", "", content, nothing, nothing);
        g_autoptr(Pdu) word = test_room_make(room, CAROL, "m.room.message", NULL, "{}");
        g_assert_cmpint(event_auth_check(second, room->create, room->state, &reason), ==,
                        AUTH_ALLOW);
        g_assert_cmpint(event_auth_check(word, room->create, room->state, &reason), ==, AUTH_ALLOW);
        if (room->version->state_resolution != STATE_RESOLUTION_V1) {
            room->clock_ms = begun_ms - 10;
            g_autoptr(Pdu) early =
                test_room_make_with(room, BOB, "m.room.create", "", content, nothing, nothing);
            check_which_create_stands(room, second, TRUE);
            check_which_create_stands(room, early, FALSE);
        }
        test_room_apply(room, second);
        g_assert_cmpint(event_auth_check(word, room->create, room->state, &reason), ==,
                        AUTH_REJECT);
        g_assert_true(g_str_has_prefix(reason, "rule 4:"));
    }
}

/* ---- levels that are none ---- */

static void
test_levels_that_are_none(void)
{
    static const struct {
        const char *value;
        gboolean old, integers; /* may stand for a user up to version 9; anywhere from 10 on */
    } cases[] = {
        {"0", TRUE, TRUE},         {"-9007199254740991", TRUE, TRUE},
        {"50", TRUE, TRUE},        {"'50'", TRUE, FALSE},
        {"'fifty'", FALSE, FALSE}, {"''", FALSE, FALSE},
        {"'50.5'", FALSE, FALSE},  {"null", FALSE, FALSE},
        {"true", FALSE, FALSE},    {"[]", FALSE, FALSE},
        {"{}", FALSE, FALSE},
    };
    static const char *const versions[] = {"6", "9", "10", "11", "12"};
    static const char *const places[] = {"{'users_default':%s}",
                                         "{'users':{'@bob:one.example':%s}}",
                                         "{'events':{'m.room.name':%s}}", "{'ban':%s}"};

    for (guint i = 0; i < G_N_ELEMENTS(cases) * G_N_ELEMENTS(versions); i++) {
        const char *version = versions[i % G_N_ELEMENTS(versions)];
        guint at = i / G_N_ELEMENTS(versions);
        for (guint j = 0; j < G_N_ELEMENTS(places); j++) {
            g_autoptr(TestRoom) room = test_room_new_of(version, ALICE, "");
            const char *reason = NULL;
            gchar **split = g_strsplit(places[j], "%s", 2);
            g_autofree char *content = g_strjoin(cases[at].value, split[0], split[1], NULL);
            g_strfreev(split);
            test_room_member(room, ALICE, ALICE, "join");
            g_autoptr(Pdu) pdu = test_room_make(room, ALICE, "m.room.power_levels", "", content);
            /* Up to version 9 the rules look at "users" alone. */
            gboolean may = room->version->power_levels_integer   ? cases[at].integers
                           : strstr(places[j], "users'") != NULL ? cases[at].old
                                                                 : TRUE;
            g_test_message("version %s: %s", version, content);
            g_assert_cmpint(event_auth_check(pdu, room->create, room->state, &reason), ==,
                            may ? AUTH_ALLOW : AUTH_REJECT);
        }
    }
    /* Floats and what is past 2^53 do not come so far. */
    static const char *const numbers[] = {"{'ban':50.5}", "{'ban':1e2}", "{'ban':9007199254740992}",
                                          "{'ban':-9007199254740992}", "{'ban':1e400}"};
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_autoptr(Pdu) good = test_room_make(room, ALICE, "m.room.power_levels", "", "{}");
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++)
        g_assert_cmpint(read_with(good, "content", numbers[i]), ==, REFUSED);
}

/* ---- events that cite themselves, and each other: versions 1 and 2 let the sender choose ids ----
 */

static Pdu *
choose(SimServer *server, const char *event_id, const char *type, const char *state_key,
       const char *content, const char *redacts, const char *const *prev, const char *const *auth)
{
    g_autoptr(cJSON) tree = test_json(content);
    return sim_server_forge(server, MALLORY, type, state_key, tree, redacts, event_id, prev, auth,
                            5, 1700000000000);
}

static void
take(SimServer *server, const Pdu *pdu)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(pdu->bytes, &length);
    GError *error = NULL;
    g_assert_true(sim_server_receive(server, bytes, length, &error));
    g_assert_no_error(error);
}

static SimServer *
server_with_room(const char *version, const ServerKey *key)
{
    SimServer *server = sim_server_new("one.example", room_version_find(version), key);
    g_autofree char *text = g_strdup_printf("{'creator':'%s','room_version':'%s'}", ALICE, version);
    const struct {
        const char *type, *state_key, *content;
    } events[] = {{"m.room.create", "", text},
                  {"m.room.member", ALICE, "{'membership':'join'}"},
                  {"m.room.join_rules", "", "{'join_rule':'invite'}"}};
    for (guint i = 0; i < G_N_ELEMENTS(events); i++) {
        g_autoptr(cJSON) content = test_json(events[i].content);
        g_autofree char *event_id = g_strdup_printf("$%u:one.example", i);
        const char *reason = NULL;
        g_autoptr(Pdu) pdu = sim_server_make(server, ALICE, events[i].type, events[i].state_key,
                                             content, NULL, event_id, 1700000000000, &reason);
        g_assert_cmpstr(reason, ==, NULL);
        take(server, pdu);
    }
    return server;
}

static void
test_events_that_cite_themselves_never_enter(void)
{
    static const char *const versions[] = {"1", "2"};
    static const guint8 seed[PUBLIC_KEY_BYTES] = "a seed for the tests of the room";
    for (guint i = 0; i < G_N_ELEMENTS(versions); i++) {
        g_autoptr(ServerKey) key = server_key_new_for_tests("1", seed);
        g_autoptr(SimServer) server = server_with_room(versions[i], key);
        const char *last[] = {"$2:one.example", NULL};
        const char *self[] = {"$self:three.example", NULL};
        const char *self_auth[] = {"$0:one.example", "$2:one.example", self[0], NULL};
        const char *a[] = {"$a:three.example", NULL}, *b[] = {"$b:three.example", NULL};
        const char *to_a[] = {"$0:one.example", "$2:one.example", a[0], NULL};
        const char *to_b[] = {"$0:one.example", "$2:one.example", b[0], NULL};
        /* A join by invitation whose only invitation is itself. */
        g_autoptr(Pdu) join = choose(server, self[0], "m.room.member", MALLORY,
                                     "{'membership':'join'}", NULL, last, self_auth);
        g_autoptr(Pdu) before =
            choose(server, "$before:three.example", "m.room.message", NULL, "{}", NULL,
                   (const char *[]){"$before:three.example", NULL}, last);
        g_autoptr(Pdu) one = choose(server, a[0], "m.room.member", MALLORY, "{'membership':'join'}",
                                    NULL, last, to_b);
        g_autoptr(Pdu) two = choose(server, b[0], "m.room.member", MALLORY, "{'membership':'join'}",
                                    NULL, last, to_a);
        take(server, join);
        take(server, before);
        take(server, one);
        take(server, two);
        /* They wait for one another, nothing is asked for, and nobody came in. */
        g_autoptr(GPtrArray) missing = sim_server_missing(server);
        g_assert_cmpuint(missing->len, ==, 0);
        g_assert_cmpuint(server->order->len, ==, 3);
        g_assert_null(sim_server_state(server, "m.room.member", MALLORY));
    }
}

/* Events that a database holds all the same, in a cycle: resolution ends, and they do not enter. */
typedef struct {
    SimServer *server;
    const Pdu *cycle[2];
} Cycle;

static gboolean
load_cycle(gpointer data, const char *const *event_ids, guint count, Pdu **ret_pdus, GError **error)
{
    const Cycle *cycle = data;
    for (guint i = 0; i < count; i++) {
        const Pdu *pdu = sim_server_pdu(cycle->server, event_ids[i]);
        for (guint j = 0; j < 2 && pdu == NULL; j++)
            pdu = strcmp(cycle->cycle[j]->event_id, event_ids[i]) == 0 ? cycle->cycle[j] : NULL;
        ret_pdus[i] = pdu != NULL ? pdu_ref(pdu) : NULL;
    }
    return TRUE;
}

static void
test_cycles_of_auth_events_end(void)
{
    static const char *const versions[] = {"1", "2"};
    static const char *const types[] = {"m.room.name", "m.room.power_levels"};
    static const guint8 seed[PUBLIC_KEY_BYTES] = "a seed for the tests of the room";
    for (guint i = 0; i < G_N_ELEMENTS(versions) * G_N_ELEMENTS(types); i++) {
        g_autoptr(ServerKey) key = server_key_new_for_tests("1", seed);
        g_autoptr(SimServer) server = server_with_room(versions[i / 2], key);
        const char *type = types[i % 2], *last[] = {"$2:one.example", NULL};
        const char *a[] = {"$0:one.example", "$b:three.example", NULL};
        const char *b[] = {"$0:one.example", "$a:three.example", NULL};
        g_autoptr(Pdu) one =
            choose(server, "$a:three.example", type, "", "{'name':'a'}", NULL, last, a);
        g_autoptr(Pdu) two =
            choose(server, "$b:three.example", type, "", "{'name':'b'}", NULL, last, b);
        Cycle cycle = {server, {one, two}};
        StateEventSource source = {&cycle, load_cycle, NULL, 1000};
        StateNodeId roots[2], resolved;
        g_autofree char *found = NULL;
        GError *error = NULL;

        for (guint j = 0; j < 2; j++) {
            StateChange change = {type, "", cycle.cycle[j]->event_id};
            g_assert_true(
                state_trie_change(server->trie, &server->current, &change, 1, &roots[j], &error));
        }
        g_assert_true(state_resolve_roots(sim_server_pdu(server, server->create_id), server->trie,
                                          roots, 2, &source, &resolved, &error));
        g_assert_no_error(error);
        g_assert_true(state_trie_find(server->trie, &resolved, type, "", &found, &error));
        g_test_message("version %s %s: %s", versions[i / 2], type, found);
        /* Algorithm 1 takes the first of a conflict untried: there it is enough that it ends. */
        if (room_version_find(versions[i / 2])->state_resolution != STATE_RESOLUTION_V1)
            g_assert_null(found);
    }
}

static void
test_redactions_in_a_cycle(void)
{
    static const guint8 seed[PUBLIC_KEY_BYTES] = "a seed for the tests of the room";
    g_autoptr(ServerKey) key = server_key_new_for_tests("1", seed);
    g_autoptr(SimServer) server = server_with_room("1", key);
    const char *last[] = {"$2:one.example", NULL};
    g_autoptr(Pdu) one = choose(server, "$a:three.example", "m.room.redaction", NULL, "{}",
                                "$b:three.example", last, last);
    g_autoptr(Pdu) two = choose(server, "$b:three.example", "m.room.redaction", NULL, "{}",
                                "$a:three.example", last, last);
    g_autoptr(Pdu) self = choose(server, "$c:three.example", "m.room.redaction", NULL, "{}",
                                 "$c:three.example", last, last);
    const Pdu *pdus[] = {one, two, self};
    PowerLevels levels = {sim_server_pdu(server, server->create_id), NULL};

    /* Each may be carried out on the other, in any order: the ids stay, and a second time changes
     * nothing. */
    for (guint i = 0; i < G_N_ELEMENTS(pdus); i++)
        for (guint j = 0; j < G_N_ELEMENTS(pdus); j++) {
            GError *error = NULL;
            g_autoptr(Pdu) once = pdu_redacted(pdus[j], &error);
            g_assert_no_error(error);
            g_autoptr(Pdu) twice = pdu_redacted(once, &error);
            g_assert_no_error(error);
            g_assert_true(g_bytes_equal(once->bytes, twice->bytes));
            g_assert_cmpstr(once->event_id, ==, pdus[j]->event_id);
            g_assert_true(power_may_redact(&levels, pdus[i], once));
        }
    /* Who is not in the room sends none. */
    for (guint i = 0; i < G_N_ELEMENTS(pdus); i++) {
        take(server, pdus[i]);
        g_assert_cmpint(sim_server_find(server, pdus[i]->event_id)->status, ==, SIM_REJECTED);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hostile/members", test_members_at_and_past_the_limits);
    g_test_add_func("/hostile/create", test_a_room_is_created_once);
    g_test_add_func("/hostile/second-create", test_a_second_create_event_counts_where_it_stands);
    g_test_add_func("/hostile/levels", test_levels_that_are_none);
    g_test_add_func("/hostile/self", test_events_that_cite_themselves_never_enter);
    g_test_add_func("/hostile/cycles", test_cycles_of_auth_events_end);
    g_test_add_func("/hostile/redactions", test_redactions_in_a_cycle);
    return g_test_run();
}
