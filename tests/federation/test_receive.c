/* Events of partners, and answers to joins, on a real PostgreSQL: what is taken, and what is not.
 */
#include "identity/refusal.h"
#include "storage/event_store.h"
#include "tests/support/engine.h"
#include "tests/support/room_events.h"

#define ADA "@ada:alpha.example"
#define BEN "@ben:beta.example"
#define LONG_CHAIN 1000 /* power levels, each made by the ones before */

static Engine *alpha, *beta;

/* A public room of Ada's that Ben has joined; its id. */
static char *
shared_room(void)
{
    char *room_id = engine_make_room(alpha, ADA, "public");

    engine_join(alpha, beta, room_id, BEN);
    return room_id;
}

/* What an event of @user_id's there stands on now: the ids of the power levels and of the
 * membership. */
static char **
auth_of(const char *room_id, const char *user_id)
{
    char **auth = g_new0(char *, 3);

    auth[0] = engine_state_event_id(alpha, room_id, "m.room.power_levels", "");
    auth[1] = engine_state_event_id(alpha, room_id, "m.room.member", user_id);
    return auth;
}

static void
test_a_join_from_outside_and_messages_both_ways(void)
{
    g_autofree char *room_id = shared_room();
    g_autofree char *hello = NULL;
    g_autofree char *answer = NULL;
    g_autofree char *at_alpha = NULL;

    engine_assert_flat_state(beta, room_id);
    at_alpha = engine_membership(alpha, room_id, BEN);
    g_assert_cmpstr(at_alpha, ==, "join");
    hello = engine_send(alpha, room_id, ADA, "m.room.message", NULL, "{\"body\":\"hello\"}");
    g_assert_cmpuint(alpha->outbox->len, ==, 1);
    engine_deliver_all(alpha, beta, room_id);
    g_assert_cmpint(engine_status(beta, room_id, hello), ==, STORED_EVENT_ACCEPTED);
    answer = engine_send(beta, room_id, BEN, "m.room.message", NULL, "{\"body\":\"hello back\"}");
    engine_deliver_all(beta, alpha, room_id);
    g_assert_cmpint(engine_status(alpha, room_id, answer), ==, STORED_EVENT_ACCEPTED);
}

static void
test_both_change_the_same_while_apart(void)
{
    g_autofree char *room_id = shared_room();
    g_autofree char *levels = NULL;
    g_autofree char *topic_alpha = NULL;
    g_autofree char *topic_beta = NULL;
    g_autofree char *name = NULL;

    levels = engine_send(alpha, room_id, ADA, "m.room.power_levels", "",
                         "{\"users\":{\"@ben:beta.example\":100}}");
    engine_deliver_all(alpha, beta, room_id);
    /* Apart: nothing is delivered. */
    g_free(engine_send(alpha, room_id, ADA, "m.room.topic", "", "{\"topic\":\"alpha's\"}"));
    g_free(
        engine_send(alpha, room_id, ADA, "m.room.name", "", "{\"name\":\"only alpha names it\"}"));
    g_free(engine_send(beta, room_id, BEN, "m.room.topic", "", "{\"topic\":\"beta's\"}"));
    g_free(engine_send(beta, room_id, BEN, "m.room.message", NULL, "{\"body\":\"meanwhile\"}"));
    /* Together again. */
    engine_deliver_all(alpha, beta, room_id);
    engine_deliver_all(beta, alpha, room_id);
    topic_alpha = engine_state_event_id(alpha, room_id, "m.room.topic", "");
    topic_beta = engine_state_event_id(beta, room_id, "m.room.topic", "");
    g_assert_nonnull(topic_alpha);
    g_assert_cmpstr(topic_alpha, ==, topic_beta);
    name = engine_state_event_id(beta, room_id, "m.room.name", "");
    g_assert_nonnull(name);
    engine_assert_flat_state(alpha, room_id);
    engine_assert_flat_state(beta, room_id);
    /* The next event closes the fork. */
    g_free(engine_send(alpha, room_id, ADA, "m.room.message", NULL, "{}"));
    engine_deliver_all(alpha, beta, room_id);
    g_assert_cmpint(test_database_count(beta->database,
                                        "SELECT max(cardinality(event_ids)) FROM room_extremity"),
                    ==, 1);
}

static void
test_what_it_stands_on_is_asked_for(void)
{
    g_autofree char *room_id = shared_room();
    g_autofree char *first = NULL;
    g_autofree char *second = NULL;
    g_autoptr(GBytes) first_bytes = NULL;
    g_autoptr(GBytes) second_bytes = NULL;
    g_autoptr(EngineWait) wait = NULL;

    first = engine_send(alpha, room_id, ADA, "m.room.message", NULL, "{}");
    second = engine_send(alpha, room_id, ADA, "m.room.message", NULL, "{}");
    g_ptr_array_set_size(alpha->outbox, 0);
    first_bytes = engine_event_bytes(alpha, room_id, first);
    second_bytes = engine_event_bytes(alpha, room_id, second);
    wait = engine_receive_from(beta, "alpha.example", room_id, second_bytes);
    g_assert_cmpint(engine_verdict(wait), ==, RECEIVED_MISSING);
    g_assert_cmpuint(wait->missing_prev, ==, 1);
    g_assert_cmpuint(wait->missing_auth, ==, 0);
    g_assert_cmpint(engine_receive(beta, room_id, first_bytes), ==, RECEIVED_ACCEPTED);
    g_assert_cmpint(engine_receive(beta, room_id, second_bytes), ==, RECEIVED_ACCEPTED);
    g_assert_cmpint(engine_receive(beta, room_id, second_bytes), ==, RECEIVED_KNOWN);
}

static void
test_a_gap_is_bridged_by_the_state_at_it(void)
{
    g_autofree char *room_id = shared_room();
    g_autofree char *topic = NULL;
    g_autofree char *last = NULL;
    g_autofree char *seen = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) state = NULL, chain = NULL, state_bytes = NULL, chain_bytes = NULL;
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(EngineWait) wait = engine_wait_new();

    topic = engine_send(alpha, room_id, ADA, "m.room.topic", "", "{\"topic\":\"t\"}");
    last = engine_send(alpha, room_id, ADA, "m.room.message", NULL, "{}");
    g_ptr_array_set_size(alpha->outbox, 0);
    g_assert_true(rooms_state_before(alpha->rooms, room_id, last, &state, &chain, &error));
    state_bytes = engine_bytes_of(state);
    chain_bytes = engine_bytes_of(chain);
    bytes = engine_event_bytes(alpha, room_id, last);
    rooms_receive_at_state(beta->rooms, room_id, bytes, state_bytes, chain_bytes, engine_received,
                           wait);
    engine_wait(wait);
    g_assert_cmpint(engine_verdict(wait), ==, RECEIVED_ACCEPTED);
    seen = engine_state_event_id(beta, room_id, "m.room.topic", "");
    g_assert_cmpstr(seen, ==, topic);
    engine_assert_flat_state(beta, room_id);
}

/* @bytes with @from replaced by @to. */
static GBytes *
tampered(GBytes *bytes, const char *from, const char *to)
{
    gsize length = 0;
    const char *data = g_bytes_get_data(bytes, &length);
    g_autofree char *text = g_strndup(data, length);
    g_autoptr(GString) changed = g_string_new(text);

    g_assert_cmpuint(g_string_replace(changed, from, to, 1), ==, 1);
    return g_string_free_to_bytes(g_steal_pointer(&changed));
}

static void
test_bad_events_are_dropped(void)
{
    g_autofree char *room_id = shared_room();
    g_autofree char *other = engine_make_room(alpha, ADA, "public");
    g_autofree char *message = NULL;
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GBytes) bad_hash = NULL;
    g_autoptr(GBytes) bad_signature = NULL;
    g_autoptr(GBytes) noise = g_bytes_new_static("{\"type\":", 8);
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    message = engine_send(alpha, room_id, ADA, "m.room.message", NULL, "{\"body\":\"truth\"}");
    bytes = engine_event_bytes(alpha, room_id, message);
    bad_signature = tampered(bytes, "\"depth\":6", "\"depth\":7");
    bad_hash = tampered(bytes, "truth", "wrong");
    g_assert_cmpint(engine_receive(beta, room_id, noise), ==, RECEIVED_REFUSED);
    g_assert_cmpint(engine_receive(beta, room_id, bad_signature), ==, RECEIVED_REFUSED);
    g_assert_cmpint(engine_receive(beta, other, bytes), ==, RECEIVED_REFUSED);
    /* The content was changed on the way: what is signed stays, the content goes. */
    g_assert_cmpint(engine_receive(beta, room_id, bad_hash), ==, RECEIVED_ACCEPTED);
    g_assert_true(rooms_event(beta->rooms, room_id, message, &event, &error));
    g_assert_null(json_get_string(event->pdu->content, "body"));
    g_ptr_array_set_size(alpha->outbox, 0);
}

/* An event that a server signs itself, without asking its own rules. */
static GBytes *
forged(Engine *engine, const char *room_id, const char *sender, const char *type,
       const char *state_key, const char *content, const char *prev, char *const *auth,
       gint64 depth)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(cJSON) value = test_json(content);
    const char *const prevs[] = {prev, NULL};
    g_autoptr(Pdu) pdu = pdu_build(room_version_default(),
                                   &(PduTemplate){.room_id = room_id,
                                                  .type = type,
                                                  .state_key = state_key,
                                                  .sender = sender,
                                                  .content = value,
                                                  .prev_events = prevs,
                                                  .auth_events = (const char *const *)auth,
                                                  .depth = depth,
                                                  .origin_server_ts = 1},
                                   &engine->signer, &error);

    g_assert_no_error(error);
    return g_bytes_ref(pdu->bytes);
}

static void
test_a_false_state_takes_nothing_away(void)
{
    g_autofree char *room_id = shared_room();
    g_auto(GStrv) auth = auth_of(room_id, BEN);
    g_autofree char *topic = NULL;
    g_autofree char *seen = NULL;
    g_autofree char *still = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) state = NULL, chain = NULL, chain_bytes = NULL;
    g_autoptr(GPtrArray) little = g_ptr_array_new();
    g_autoptr(GBytes) event = NULL;
    g_autoptr(EngineWait) wait = engine_wait_new();
    g_autofree char *nowhere =
        g_strdup_printf("$%s", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");

    topic = engine_send(alpha, room_id, ADA, "m.room.topic", "", "{\"topic\":\"t\"}");
    /* An event on a past that nobody has, with a state that lacks the topic, ada and all. */
    event = forged(beta, room_id, BEN, "m.room.message", NULL, "{}", nowhere, auth, 9);
    g_assert_true(rooms_state_before(alpha->rooms, room_id, topic, &state, &chain, &error));
    for (guint i = 0; i < state->len; i++) {
        Pdu *pdu = g_ptr_array_index(state, i);

        if (g_str_equal(pdu->event_id, auth[0]) || g_str_equal(pdu->event_id, auth[1]) ||
            g_str_equal(pdu->type, "m.room.create"))
            g_ptr_array_add(little, pdu->bytes);
    }
    chain_bytes = engine_bytes_of(chain);
    rooms_receive_at_state(alpha->rooms, room_id, event, little, chain_bytes, engine_received,
                           wait);
    engine_wait(wait);
    g_assert_cmpint(engine_verdict(wait), ==, RECEIVED_ACCEPTED);
    seen = engine_state_event_id(alpha, room_id, "m.room.topic", "");
    g_assert_cmpstr(seen, ==, topic);
    still = engine_membership(alpha, room_id, ADA);
    g_assert_cmpstr(still, ==, "join");
    g_free(engine_send(alpha, room_id, ADA, "m.room.message", NULL, "{}"));
    engine_assert_flat_state(alpha, room_id);
    g_ptr_array_set_size(alpha->outbox, 0);
}

static void
test_who_was_banned_meanwhile_is_soft_failed(void)
{
    g_autofree char *room_id = shared_room();
    g_auto(GStrv) auth = auth_of(room_id, BEN);
    g_autofree char *before = NULL;
    g_autofree char *ban = NULL;
    g_autoptr(GBytes) late = NULL;
    g_autoptr(GBytes) state = NULL;

    before = engine_send(alpha, room_id, ADA, "m.room.message", NULL, "{}");
    ban = engine_send(alpha, room_id, ADA, "m.room.member", BEN, "{\"membership\":\"ban\"}");
    late =
        forged(beta, room_id, BEN, "m.room.message", NULL, "{\"body\":\"late\"}", before, auth, 7);
    g_assert_cmpint(engine_receive(alpha, room_id, late), ==, RECEIVED_SOFT_FAILED);
    /* Without the power it is rejected outright. */
    state = forged(beta, room_id, BEN, "m.room.name", "", "{\"name\":\"mine\"}", before, auth, 7);
    g_assert_cmpint(engine_receive(alpha, room_id, state), ==, RECEIVED_REJECTED);
    engine_assert_flat_state(alpha, room_id);
    g_assert_cmpint(
        test_database_count(alpha->database,
                            "SELECT count(*) FROM log JOIN event ON log.ref = event.event_id"
                            " WHERE event.status IN (2, 3)"),
        ==, 0);
    g_ptr_array_set_size(alpha->outbox, 0);
}

/* A message of beta's that alpha receives with this verdict; its id. */
static char *
receive_forged(const char *room_id, const char *sender, const char *prev, char *const *auth,
               gint64 depth, ReceivedVerdict expected)
{
    g_autoptr(GBytes) bytes =
        forged(beta, room_id, sender, "m.room.message", NULL, "{}", prev, auth, depth);
    gsize length = 0;
    const char *text = g_bytes_get_data(bytes, &length);
    g_autoptr(Pdu) pdu = pdu_from_json(room_version_default(), text, length, NULL);

    g_assert_cmpint(engine_receive(alpha, room_id, bytes), ==, expected);
    return g_strdup(pdu->event_id);
}

/* Beta goes on from what alpha has soft-failed: that branch has one end, not two. */
static void
test_what_lies_behind_a_soft_failed_event_is_no_end(void)
{
    g_autofree char *room_id = shared_room();
    g_auto(GStrv) of_ben = auth_of(room_id, BEN);
    g_auto(GStrv) of_bob = NULL;
    g_autofree char *ends = g_strdup_printf(
        "SELECT cardinality(event_ids) FROM room_extremity WHERE room_id = '%s'", room_id);
    g_autofree char *bob = NULL;
    g_autofree char *branch = NULL;
    g_autofree char *late = NULL;
    g_autofree char *later = NULL;

    bob = engine_send(beta, room_id, "@bob:beta.example", "m.room.member", "@bob:beta.example",
                      "{\"membership\":\"join\"}");
    engine_deliver_all(beta, alpha, room_id);
    of_bob = auth_of(room_id, "@bob:beta.example");
    g_free(engine_send(alpha, room_id, ADA, "m.room.member", BEN, "{\"membership\":\"ban\"}"));
    branch = receive_forged(room_id, "@bob:beta.example", bob, of_bob, 9, RECEIVED_ACCEPTED);
    late = receive_forged(room_id, BEN, branch, of_ben, 10, RECEIVED_SOFT_FAILED);
    later = receive_forged(room_id, BEN, late, of_ben, 11, RECEIVED_SOFT_FAILED);
    g_assert_cmpint(test_database_count(alpha->database, ends), ==, 2); /* the ban, the branch */
    g_free(receive_forged(room_id, "@bob:beta.example", later, of_bob, 12, RECEIVED_ACCEPTED));
    g_assert_cmpint(test_database_count(alpha->database, ends), ==, 2); /* the ban, this */
    engine_assert_flat_state(alpha, room_id);
    g_ptr_array_set_size(alpha->outbox, 0);
}

/* Alpha's levels and topic and beta's topic, said apart: how long alpha needs to bring them
 * together. */
static double
fork_ms(const char *room_id)
{
    g_autoptr(GBytes) theirs = NULL;
    gint64 begun;

    g_free(engine_send(alpha, room_id, ADA, "m.room.topic", "", "{\"topic\":\"alpha's\"}"));
    g_free(engine_send(alpha, room_id, ADA, "m.room.power_levels", "",
                       "{\"users\":{\"@ben:beta.example\":100},\"events_default\":1}"));
    g_ptr_array_set_size(alpha->outbox, 0);
    g_free(engine_send(beta, room_id, BEN, "m.room.topic", "", "{\"topic\":\"beta's\"}"));
    theirs = g_bytes_ref(g_ptr_array_index(beta->outbox, 0));
    g_ptr_array_set_size(beta->outbox, 0);
    begun = g_get_monotonic_time();
    g_assert_cmpint(engine_receive(alpha, room_id, theirs), ==, RECEIVED_ACCEPTED);
    return (double)(g_get_monotonic_time() - begun) / 1000;
}

/* The auth chains of an old room are long; a fork at its end is resolved all the same. */
static void
test_a_fork_at_the_end_of_a_long_chain(void)
{
    g_autofree char *room_id = shared_room();
    double cold_ms, warm_ms;

    for (guint i = 0; i < LONG_CHAIN; i++) {
        g_autofree char *levels =
            g_strdup_printf("{\"users\":{\"@ben:beta.example\":100},\"invite\":%u}", i % 2 * 50);

        g_free(engine_send(alpha, room_id, ADA, "m.room.power_levels", "", levels));
    }
    engine_deliver_all(alpha, beta, room_id);
    engine_close(alpha);
    engine_open(alpha);
    cold_ms = fork_ms(room_id);
    warm_ms = fork_ms(room_id);
    g_test_message("figure: a fork after %d changes of power levels was resolved in %.0f ms after "
                   "a restart, then in %.0f ms",
                   LONG_CHAIN, cold_ms, warm_ms);
    engine_assert_flat_state(alpha, room_id);
}

static void
test_the_deepest_event_does_not_end_the_room(void)
{
    g_autofree char *room_id = shared_room();
    g_auto(GStrv) auth = auth_of(room_id, BEN);
    g_autofree char *next = NULL;
    g_autofree char *after = NULL;
    g_autoptr(GBytes) deep = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;
    const gint64 depth_max = room_version_default()->depth_max;

    deep = forged(beta, room_id, BEN, "m.room.message", NULL, "{}", auth[1], auth, depth_max);
    g_assert_cmpint(engine_receive(alpha, room_id, deep), ==, RECEIVED_ACCEPTED);
    next = engine_send(alpha, room_id, ADA, "m.room.message", NULL, "{}");
    after = engine_send(alpha, room_id, ADA, "m.room.topic", "", "{\"topic\":\"t\"}");
    g_assert_true(rooms_event(alpha->rooms, room_id, after, &event, &error));
    g_assert_cmpint(event->pdu->depth, ==, depth_max);
    g_assert_cmpstr(event->pdu->prev_events[0], ==, next);
    g_ptr_array_set_size(alpha->outbox, 0);
}

static void
test_auth_events_of_another_room_or_kind_do_not_help(void)
{
    g_autofree char *room_id = shared_room();
    g_auto(GStrv) auth = auth_of(room_id, BEN);
    g_autofree char *other = engine_make_room(beta, BEN, "public");
    g_autofree char *message = NULL;
    g_autofree char *foreign = engine_state_event_id(beta, other, "m.room.member", BEN);
    g_autoptr(GBytes) borrowed = NULL;
    g_autoptr(GBytes) no_state = NULL;
    g_autoptr(GBytes) create = NULL;
    g_autoptr(GBytes) unsigned_by_sender = NULL;
    g_autofree char *create_id = NULL;
    g_autoptr(EngineWait) wait = NULL;

    message = engine_send(alpha, room_id, ADA, "m.room.message", NULL, "{}");
    char *const foreign_auth[] = {auth[0], foreign, NULL};
    borrowed = forged(beta, room_id, BEN, "m.room.message", NULL, "{}", message, foreign_auth, 9);
    wait = engine_receive_from(alpha, "beta.example", room_id, borrowed);
    g_assert_cmpint(engine_verdict(wait), ==, RECEIVED_MISSING);
    g_assert_cmpuint(wait->missing_auth, ==, 1);
    char *const with_message[] = {auth[0], auth[1], message, NULL};
    no_state = forged(beta, room_id, BEN, "m.room.message", NULL, "{}", message, with_message, 9);
    g_assert_cmpint(engine_receive(alpha, room_id, no_state), ==, RECEIVED_REJECTED);
    /* Signed by beta, in the name of alpha's user. */
    unsigned_by_sender = forged(beta, room_id, ADA, "m.room.message", NULL, "{}", message, auth, 9);
    g_assert_cmpint(engine_receive(alpha, room_id, unsigned_by_sender), ==, RECEIVED_REFUSED);
    /* A second create event cannot be of this room: its hash is another room's id. */
    create_id = g_strconcat("$", other + 1, NULL);
    create = engine_event_bytes(beta, other, create_id);
    g_assert_cmpint(engine_receive(alpha, room_id, create), ==, RECEIVED_REFUSED);
    g_ptr_array_set_size(alpha->outbox, 0);
}

static void
test_the_graphs_ends_are_bounded(void)
{
    g_autofree char *room_id = shared_room();
    g_auto(GStrv) auth = auth_of(room_id, BEN);
    g_autofree char *next = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    /* Sixteen branches from one event are all named; of seventeen the shallowest is not. */
    for (gint64 i = 0; i < 17; i++) {
        g_autofree char *content = g_strdup_printf("{\"body\":\"%d\"}", (int)i);
        g_autoptr(GBytes) branch =
            forged(beta, room_id, BEN, "m.room.message", NULL, content, auth[1], auth, 10 + i);

        g_assert_cmpint(engine_receive(alpha, room_id, branch), ==, RECEIVED_ACCEPTED);
    }
    next = engine_send(alpha, room_id, ADA, "m.room.message", NULL, "{}");
    g_assert_true(rooms_event(alpha->rooms, room_id, next, &event, &error));
    g_assert_cmpuint(event->pdu->prev_event_count, ==, 16);
    engine_assert_flat_state(alpha, room_id);
    g_ptr_array_set_size(alpha->outbox, 0);
}

static void
test_a_join_answer_that_does_not_hold_leaves_nothing(void)
{
    g_autofree char *room_id = engine_make_room(alpha, ADA, "public");
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) template = NULL;
    g_autofree char *version = NULL;
    g_autoptr(Pdu) join = NULL;
    g_autoptr(EngineWait) sent = engine_wait_new();
    g_autoptr(EngineWait) taken = engine_wait_new();
    g_autoptr(GPtrArray) state = NULL, chain = NULL, state_bytes = g_ptr_array_new();
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    const RoomVersion *known = NULL;

    g_assert_true(rooms_template(alpha->rooms, room_id, BEN, "join", &template, &version, &error));
    join = engine_sign_template(beta, version, template);
    rooms_receive_own(alpha->rooms, room_id, join->bytes, engine_received, sent);
    engine_wait(sent);
    g_assert_true(
        rooms_state_before(alpha->rooms, room_id, join->event_id, &state, &chain, &error));
    /* The join rules are kept back: the join is not allowed by what remains. */
    for (guint i = 0; i < state->len; i++) {
        Pdu *pdu = g_ptr_array_index(state, i);

        if (!g_str_equal(pdu->type, "m.room.join_rules"))
            g_ptr_array_add(state_bytes, pdu->bytes);
    }
    rooms_accept_join(beta->rooms, room_id, join->bytes, state_bytes, none, engine_received, taken);
    engine_wait(taken);
    g_assert_error(taken->error, REFUSAL, 502);
    g_assert_true(rooms_version(beta->rooms, room_id, &known, &error));
    g_assert_null(known);
    g_ptr_array_set_size(alpha->outbox, 0);
}

static void
test_history_has_negative_positions(void)
{
    g_autofree char *room_id = engine_make_room(alpha, ADA, "public");
    g_autofree char *old =
        engine_send(alpha, room_id, ADA, "m.room.message", NULL, "{\"body\":\"before beta came\"}");
    g_autoptr(GBytes) bytes = engine_event_bytes(alpha, room_id, old);
    g_autoptr(GPtrArray) events = g_ptr_array_new();
    g_autoptr(EngineWait) wait = engine_wait_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = NULL;
    g_autoptr(StoredEvent) stored = NULL;

    engine_join(alpha, beta, room_id, BEN);
    g_ptr_array_add(events, bytes);
    rooms_receive_history(beta->rooms, room_id, events, engine_received, wait);
    engine_wait(wait);
    g_assert_cmpint(engine_verdict(wait), ==, RECEIVED_ACCEPTED);
    connection = store_borrow(beta->database->pool, &error);
    g_assert_true(event_store_find(connection, room_id, old, &stored, &error));
    g_assert_cmpint(stored->position, <, 0);
    engine_assert_flat_state(beta, room_id);
}

int
main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    alpha = engine_new("alpha.example", 1);
    beta = engine_new("beta.example", 2);
    g_test_add_func("/receive/join-from-outside", test_a_join_from_outside_and_messages_both_ways);
    g_test_add_func("/receive/partition", test_both_change_the_same_while_apart);
    g_test_add_func("/receive/missing", test_what_it_stands_on_is_asked_for);
    g_test_add_func("/receive/at-state", test_a_gap_is_bridged_by_the_state_at_it);
    g_test_add_func("/receive/false-state", test_a_false_state_takes_nothing_away);
    g_test_add_func("/receive/bad-events", test_bad_events_are_dropped);
    g_test_add_func("/receive/soft-fail", test_who_was_banned_meanwhile_is_soft_failed);
    g_test_add_func("/receive/behind-soft-failed",
                    test_what_lies_behind_a_soft_failed_event_is_no_end);
    g_test_add_func("/receive/long-chain", test_a_fork_at_the_end_of_a_long_chain);
    g_test_add_func("/receive/deepest", test_the_deepest_event_does_not_end_the_room);
    g_test_add_func("/receive/foreign-auth", test_auth_events_of_another_room_or_kind_do_not_help);
    g_test_add_func("/receive/ends-bounded", test_the_graphs_ends_are_bounded);
    g_test_add_func("/receive/bad-join-answer",
                    test_a_join_answer_that_does_not_hold_leaves_nothing);
    g_test_add_func("/receive/history", test_history_has_negative_positions);
    result = g_test_run();
    engine_free(alpha);
    engine_free(beta);
    return result;
}
