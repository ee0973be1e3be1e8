/* The rooms engine on a real PostgreSQL, for local events: what is proposed becomes an event. */
#include "identity/refusal.h"
#include "tests/support/engine.h"
#include "tests/support/room_events.h"

static Engine *alpha;

static void
test_a_room_is_made_and_spoken_in(void)
{
    g_autofree char *room_id = engine_make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *first = engine_send(alpha, room_id, "@ada:alpha.example", "m.room.message",
                                         NULL, "{\"body\":\"one\"}");
    g_autofree char *second = engine_send(alpha, room_id, "@ada:alpha.example", "m.room.message",
                                          NULL, "{\"body\":\"two\"}");
    g_autofree char *membership = engine_membership(alpha, room_id, "@ada:alpha.example");
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    g_assert_cmpstr(membership, ==, "join");
    g_assert_true(rooms_event(alpha->rooms, room_id, second, &event, &error));
    g_assert_cmpuint(event->pdu->prev_event_count, ==, 1);
    g_assert_cmpstr(event->pdu->prev_events[0], ==, first);
    g_assert_cmpint(event->pdu->depth, ==, 6);
    engine_assert_flat_state(alpha, room_id);
}

static void
test_equal_wishes_make_different_rooms(void)
{
    enum {
        N = 200
    };
    EngineWait *waits[N];
    g_autoptr(GHashTable) rooms = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < N; i++) {
        RoomsProposal *proposal = rooms_proposal_new(NULL, "@ada:alpha.example");

        waits[i] = engine_wait_new();
        rooms_proposal_add(proposal, "m.room.create", "", test_json("{\"room_version\":\"12\"}"));
        rooms_proposal_add(proposal, "m.room.member", "@ada:alpha.example",
                           test_json("{\"membership\":\"join\"}"));
        rooms_propose(alpha->rooms, proposal, engine_proposed, waits[i]);
    }
    for (guint i = 0; i < N; i++) {
        engine_wait(waits[i]);
        g_assert_no_error(waits[i]->error);
        g_hash_table_add(rooms, waits[i]->room_id);
    }
    g_assert_cmpuint(g_hash_table_size(rooms), ==, N);
    for (guint i = 0; i < N; i++)
        engine_wait_free(waits[i]);
}

static void
test_who_is_not_in_the_room_changes_nothing(void)
{
    g_autofree char *room_id = engine_make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *message = NULL;

    engine_assert_refused(alpha, room_id, "@mallory:alpha.example", "m.room.message", NULL, "{}",
                          403);
    engine_assert_refused(alpha, room_id, "@mallory:alpha.example", "m.room.member",
                          "@mallory:alpha.example", "{\"membership\":\"join\"}", 403);
    engine_assert_refused(alpha, "!nowhere", "@ada:alpha.example", "m.room.message", NULL, "{}",
                          403);
    message = engine_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}");
    g_assert_nonnull(message);
    engine_assert_flat_state(alpha, room_id);
}

static void
test_a_proposal_is_all_or_nothing(void)
{
    g_autofree char *room_id = engine_make_room(alpha, "@ada:alpha.example", "public");
    RoomsProposal *proposal;
    g_autoptr(EngineWait) refused = NULL;
    g_autofree char *name = NULL;
    g_autofree char *joined = engine_send(alpha, room_id, "@bob:alpha.example", "m.room.member",
                                          "@bob:alpha.example", "{\"membership\":\"join\"}");

    proposal = rooms_proposal_new(room_id, "@bob:alpha.example");
    rooms_proposal_add(proposal, "m.room.message", NULL, test_json("{\"body\":\"half\"}"));
    rooms_proposal_add(proposal, "m.room.name", "", test_json("{'name':'bob has it'}"));
    refused = engine_propose(alpha, proposal);
    g_assert_error(refused->error, REFUSAL, 403);
    name = engine_state_event_id(alpha, room_id, "m.room.name", "");
    g_assert_null(name);
    g_assert_cmpint(
        test_database_count(alpha->database,
                            "SELECT count(*) FROM event WHERE json::text LIKE '%half%'"),
        ==, 0);
    g_free(engine_send(alpha, room_id, "@bob:alpha.example", "m.room.message", NULL, "{}"));
    engine_assert_flat_state(alpha, room_id);
}

static void
test_sizes_at_the_limit(void)
{
    g_autofree char *room_id = engine_make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *fits = g_strnfill(60000, 'x');
    g_autofree char *large = g_strnfill(65536, 'x');
    g_autofree char *fits_content = g_strdup_printf("{\"body\":\"%s\"}", fits);
    g_autofree char *large_content = g_strdup_printf("{\"body\":\"%s\"}", large);
    g_autofree char *key_255 = g_strnfill(255, 'k');
    g_autofree char *key_256 = g_strnfill(256, 'k');

    g_free(engine_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, fits_content));
    engine_assert_refused(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL,
                          large_content, 413);
    g_free(engine_send(alpha, room_id, "@ada:alpha.example", "x.state", key_255, "{}"));
    engine_assert_refused(alpha, room_id, "@ada:alpha.example", "x.state", key_256, "{}", 413);
}

static void
test_a_restart_goes_on_where_it_stood(void)
{
    g_autofree char *room_id = engine_make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *last = engine_send(alpha, room_id, "@ada:alpha.example", "m.room.message",
                                        NULL, "{\"body\":\"before\"}");
    g_autofree char *next = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    engine_close(alpha);
    engine_open(alpha);
    next = engine_send(alpha, room_id, "@ada:alpha.example", "m.room.topic", "",
                       "{\"topic\":\"after\"}");
    g_assert_true(rooms_event(alpha->rooms, room_id, next, &event, &error));
    g_assert_cmpstr(event->pdu->prev_events[0], ==, last);
    engine_assert_flat_state(alpha, room_id);
}

static void
test_many_at_once_make_one_chain(void)
{
    g_autofree char *room_id = engine_make_room(alpha, "@ada:alpha.example", "invite");
    enum {
        N = 2000
    };
    EngineWait *waits[N];
    gint64 began = g_get_monotonic_time();
    g_autofree char *count = NULL;
    g_autofree char *sql = NULL;

    for (guint i = 0; i < N; i++) {
        RoomsProposal *proposal = rooms_proposal_new(room_id, "@ada:alpha.example");

        waits[i] = engine_wait_new();
        rooms_proposal_add(proposal, "m.room.message", NULL,
                           test_json("{\"body\":\"hello there\"}"));
        rooms_propose(alpha->rooms, proposal, engine_proposed, waits[i]);
    }
    for (guint i = 0; i < N; i++) {
        engine_wait(waits[i]);
        g_assert_no_error(waits[i]->error);
        engine_wait_free(waits[i]);
    }
    g_test_message("%d events a second on one lane",
                   (int)(N * 1000000.0 / (double)(g_get_monotonic_time() - began)));
    sql = g_strdup_printf("SELECT count(*) FROM event WHERE room_id = '%s'"
                          " AND cardinality(prev_event_ids) = 1",
                          room_id);
    count = test_database_query(alpha->database, sql);
    g_assert_cmpstr(count, ==, "2003");
}

/* Operations handed in while this one holds the lane come into one batch. */
typedef struct {
    GMutex lock;
    GCond bell;
    gboolean entered, go;
} Gate;

static gboolean
gate_apply(LaneBatch *batch, gpointer data, GError **error)
{
    Gate *gate = data;

    g_mutex_lock(&gate->lock);
    gate->entered = TRUE;
    g_cond_broadcast(&gate->bell);
    while (!gate->go)
        g_cond_wait(&gate->bell, &gate->lock);
    g_mutex_unlock(&gate->lock);
    return TRUE;
}

static const StoreStatement divide = {"test_rooms_divide",
                                      "INSERT INTO profile (user_id) SELECT (1 / $1)::text"};

static gboolean
divide_apply(LaneBatch *batch, gpointer data, GError **error)
{
    lane_batch_add(batch, &divide, store_arguments("i", (gint64)0));
    return TRUE;
}

static void
lane_rang(gpointer data, gint64 position, const GError *error)
{
    engine_wait_ring(data, position, error);
}

static void
gate_done(gpointer data, gint64 position, const GError *error)
{
}

static void
gate_close(Gate *gate)
{
    g_mutex_init(&gate->lock);
    g_cond_init(&gate->bell);
    g_assert_true(lane_submit(alpha->lane, gate_apply, gate_done, gate, NULL));
    g_mutex_lock(&gate->lock);
    while (!gate->entered)
        g_cond_wait(&gate->bell, &gate->lock);
    g_mutex_unlock(&gate->lock);
}

static void
gate_open(Gate *gate)
{
    g_mutex_lock(&gate->lock);
    gate->go = TRUE;
    g_cond_broadcast(&gate->bell);
    g_mutex_unlock(&gate->lock);
}

static EngineWait *
propose_later(const char *room_id, const char *type, const char *state_key, const char *content)
{
    RoomsProposal *proposal = rooms_proposal_new(room_id, "@ada:alpha.example");
    EngineWait *wait = engine_wait_new();

    rooms_proposal_add(proposal, type, state_key, test_json(content));
    rooms_propose(alpha->rooms, proposal, engine_proposed, wait);
    return wait;
}

static void
test_a_batch_that_is_taken_back_leaves_the_room_as_it_was(void)
{
    g_autofree char *room_id = engine_make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *base =
        engine_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}");
    Gate *gate = g_new0(Gate, 1);
    g_autoptr(EngineWait) first = NULL;
    g_autoptr(EngineWait) failed = engine_wait_new();
    g_autoptr(EngineWait) refused = engine_wait_new();
    g_autoptr(EngineWait) second = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) one = NULL;
    g_autoptr(RoomEvent) two = NULL;
    RoomsProposal *half = rooms_proposal_new(room_id, "@ada:alpha.example");

    gate_close(gate);
    first = propose_later(room_id, "m.room.topic", "", "{\"topic\":\"first\"}");
    g_assert_true(lane_submit(alpha->lane, divide_apply, lane_rang, failed, &error));
    rooms_proposal_add(half, "m.room.name", "", test_json("{\"name\":\"half\"}"));
    rooms_proposal_add(half, "m.room.member", "@bob:alpha.example",
                       test_json("{\"membership\":\"join\"}"));
    rooms_propose(alpha->rooms, half, engine_proposed, refused);
    second = propose_later(room_id, "m.room.message", NULL, "{\"body\":\"second\"}");
    gate_open(gate);
    engine_wait(first);
    engine_wait(failed);
    engine_wait(refused);
    engine_wait(second);
    g_assert_no_error(first->error);
    g_assert_error(failed->error, STORE_ERROR, STORE_ERROR_FAILED);
    g_assert_error(refused->error, REFUSAL, 403);
    g_assert_no_error(second->error);
    g_assert_true(
        rooms_event(alpha->rooms, room_id, g_ptr_array_index(first->event_ids, 0), &one, &error));
    g_assert_true(
        rooms_event(alpha->rooms, room_id, g_ptr_array_index(second->event_ids, 0), &two, &error));
    g_assert_cmpstr(one->pdu->prev_events[0], ==, base);
    g_assert_cmpstr(two->pdu->prev_events[0], ==, one->pdu->event_id);
    g_assert_cmpint(two->pdu->prev_event_count, ==, 1);
    engine_assert_flat_state(alpha, room_id);
    g_free(gate);
}

static const StoreStatement insert_profile = {"test_rooms_profile",
                                              "INSERT INTO profile (user_id) VALUES ($1)"};

/* Stands still in PostgreSQL while another session has that row; then it fails. */
static gboolean
stand_and_fail_apply(LaneBatch *batch, gpointer data, GError **error)
{
    lane_batch_add(batch, &insert_profile, store_arguments("t", "@gate:alpha.example"));
    return divide_apply(batch, data, error);
}

static void
test_what_stands_on_a_batch_that_fails_is_made_anew(void)
{
    g_autofree char *room_id = engine_make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *base =
        engine_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}");
    g_autoptr(EngineWait) first = NULL;
    g_autoptr(EngineWait) failed = engine_wait_new();
    g_autoptr(EngineWait) second = NULL;
    g_autoptr(EngineWait) refused = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) one = NULL;
    g_autoptr(RoomEvent) two = NULL;
    StoreConnection *holder = store_borrow(alpha->database->pool, &error);
    Gate *gate = g_new0(Gate, 1);

    g_assert_true(store_begin(holder, &error));
    g_assert_true(
        store_do(holder, &insert_profile, store_arguments("t", "@gate:alpha.example"), &error));
    gate_close(gate);
    first = propose_later(room_id, "m.room.topic", "", "{\"topic\":\"first\"}");
    g_assert_true(lane_submit(alpha->lane, stand_and_fail_apply, lane_rang, failed, &error));
    gate_open(gate);
    while (test_database_count(alpha->database,
                               "SELECT count(*) FROM pg_stat_activity WHERE datname ="
                               " current_database() AND wait_event_type = 'Lock'") == 0)
        g_usleep(500);
    second = propose_later(room_id, "m.room.message", NULL, "{\"body\":\"second\"}");
    refused =
        propose_later(room_id, "m.room.member", "@bob:alpha.example", "{\"membership\":\"join\"}");
    engine_wait(refused); /* by then the second is in the next batch */
    g_assert_error(refused->error, REFUSAL, 403);
    store_rollback(holder);
    store_return(holder);
    engine_wait(first);
    engine_wait(failed);
    engine_wait(second);
    g_assert_no_error(first->error);
    g_assert_error(failed->error, STORE_ERROR, STORE_ERROR_FAILED);
    g_assert_no_error(second->error);
    g_assert_true(
        rooms_event(alpha->rooms, room_id, g_ptr_array_index(first->event_ids, 0), &one, &error));
    g_assert_true(
        rooms_event(alpha->rooms, room_id, g_ptr_array_index(second->event_ids, 0), &two, &error));
    g_assert_cmpstr(one->pdu->prev_events[0], ==, base);
    g_assert_cmpstr(two->pdu->prev_events[0], ==, one->pdu->event_id);
    engine_assert_flat_state(alpha, room_id);
    g_free(gate);
}

static void
test_a_redaction_takes_effect_for_those_who_may(void)
{
    g_autofree char *room_id = engine_make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *bob = engine_send(alpha, room_id, "@bob:alpha.example", "m.room.member",
                                       "@bob:alpha.example", "{\"membership\":\"join\"}");
    g_autofree char *secret = engine_send(alpha, room_id, "@ada:alpha.example", "m.room.message",
                                          NULL, "{\"body\":\"secret\"}");
    g_autofree char *content = g_strdup_printf("{\"redacts\":\"%s\"}", secret);
    g_autofree char *redaction =
        engine_send(alpha, room_id, "@ada:alpha.example", "m.room.redaction", NULL, content);
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    g_assert_true(rooms_event(alpha->rooms, room_id, secret, &event, &error));
    g_assert_cmpstr(event->redaction_id, ==, redaction);
    engine_close(alpha);
    engine_open(alpha);
    g_clear_pointer(&event, room_event_unref);
    g_assert_true(rooms_event(alpha->rooms, room_id, secret, &event, &error));
    g_assert_cmpstr(event->redaction_id, ==, redaction);
}

static void
test_an_equal_state_is_said_once(void)
{
    g_autofree char *room_id = engine_make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *first =
        engine_send(alpha, room_id, "@ada:alpha.example", "m.room.topic", "", "{\"topic\":\"x\"}");
    RoomsProposal *proposal = rooms_proposal_new(room_id, "@ada:alpha.example");
    g_autoptr(EngineWait) wait = NULL;

    rooms_proposal_add(proposal, "m.room.topic", "", test_json("{\"topic\":\"x\"}"));
    rooms_proposal_set_idempotent(proposal);
    wait = engine_propose(alpha, proposal);
    g_assert_no_error(wait->error);
    g_assert_cmpstr(g_ptr_array_index(wait->event_ids, 0), ==, first);
}

int
main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    alpha = engine_new("alpha.example", 1);
    g_test_add_func("/rooms/made-and-spoken-in", test_a_room_is_made_and_spoken_in);
    g_test_add_func("/rooms/equal-wishes", test_equal_wishes_make_different_rooms);
    g_test_add_func("/rooms/outsider-changes-nothing", test_who_is_not_in_the_room_changes_nothing);
    g_test_add_func("/rooms/all-or-nothing", test_a_proposal_is_all_or_nothing);
    g_test_add_func("/rooms/sizes", test_sizes_at_the_limit);
    g_test_add_func("/rooms/restart", test_a_restart_goes_on_where_it_stood);
    g_test_add_func("/rooms/many-at-once", test_many_at_once_make_one_chain);
    g_test_add_func("/rooms/batch-taken-back",
                    test_a_batch_that_is_taken_back_leaves_the_room_as_it_was);
    g_test_add_func("/rooms/stands-on-a-failed-batch",
                    test_what_stands_on_a_batch_that_fails_is_made_anew);
    g_test_add_func("/rooms/redaction", test_a_redaction_takes_effect_for_those_who_may);
    g_test_add_func("/rooms/equal-state", test_an_equal_state_is_said_once);
    result = g_test_run();
    engine_free(alpha);
    return result;
}
