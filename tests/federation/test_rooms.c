/* The rooms engine on a real PostgreSQL: two servers in one process, each with its own database and
 * lane. */
#include "federation/rooms.h"

#include <string.h>

#include "federation/room/pdu_build.h"
#include "identity/refusal.h"
#include "identity/server_key.h"
#include "storage/membership_store.h"
#include "storage/state_store.h"
#include "tests/support/database.h"

typedef struct {
    const char *name;
    TestDatabase *database;
    LogRing *ring;
    Lane *lane;
    ServerKey *key;
    Rooms *rooms;
    PduSigner signer;
    GPtrArray *outbox; /* GBytes: events for other servers */
} House;

static House *alpha, *beta;

/* ---- the scene ---- */

static gboolean
find_key(const char *server_name, const char *key_id, gint64 at_ms, guint8 ret_key[32],
         gpointer data)
{
    House *houses[] = {alpha, beta};

    for (guint i = 0; i < G_N_ELEMENTS(houses); i++)
        if (houses[i] != NULL && g_str_equal(houses[i]->name, server_name) &&
            g_str_equal(server_key_id(houses[i]->key), key_id)) {
            memcpy(ret_key, server_key_public(houses[i]->key), 32);
            return TRUE;
        }
    return FALSE;
}

static void
deliver(LaneBatch *batch, const char *room_id, const char *event_id, GBytes *pdu,
        const char *const *servers, gpointer data)
{
    House *house = data;

    g_ptr_array_add(house->outbox, g_bytes_ref(pdu));
}

static char *
sign(gpointer data, const void *bytes, gsize length)
{
    return server_key_sign(data, bytes, length);
}

static void
house_open(House *house)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(house->database->pool, &error);
    LogHead head;

    g_assert_no_error(error);
    g_assert_true(log_head_read(connection, &head, &error));
    house->ring = log_ring_new(1024 * 1024, head);
    house->lane = lane_new(house->database->pool, house->ring, 20000, &error);
    g_assert_no_error(error);
    house->rooms = rooms_new(house->database->pool, house->lane, house->name, house->key);
    rooms_set_key_finder(house->rooms, find_key, NULL);
    rooms_set_delivery(house->rooms, deliver, house);
}

static void
house_close(House *house)
{
    lane_stop(house->lane, 5000);
    rooms_free(house->rooms);
    lane_free(house->lane);
    log_ring_free(house->ring);
}

static House *
house_new(const char *name, guint8 seed_byte)
{
    House *house = g_new0(House, 1);
    guint8 seed[32];

    memset(seed, seed_byte, sizeof seed);
    house->name = name;
    house->database = test_database_new(6);
    house->key = server_key_new_for_tests("ed25519:1", seed);
    house->signer = (PduSigner){name, server_key_id(house->key), sign, house->key};
    house->outbox = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    house_open(house);
    return house;
}

static void
house_free(House *house)
{
    house_close(house);
    g_ptr_array_unref(house->outbox);
    server_key_free(house->key);
    test_database_free(house->database);
    g_free(house);
}

/* ---- waiting for the lane ---- */

typedef struct {
    GMutex lock;
    GCond bell;
    gboolean done;
    GError *error;
    char *room_id;
    GPtrArray *event_ids;
    GPtrArray *verdicts; /* GUINT_TO_POINTER(ReceivedVerdict) */
    guint missing_prev;
    guint missing_auth;
    gint64 position;
    Pdu *pdu;
} Wait;

static Wait *
wait_new(void)
{
    Wait *wait = g_new0(Wait, 1);

    g_mutex_init(&wait->lock);
    g_cond_init(&wait->bell);
    wait->event_ids = g_ptr_array_new_with_free_func(g_free);
    wait->verdicts = g_ptr_array_new();
    return wait;
}

static void
wait_free(Wait *wait)
{
    g_clear_error(&wait->error);
    g_free(wait->room_id);
    g_ptr_array_unref(wait->event_ids);
    g_ptr_array_unref(wait->verdicts);
    pdu_unref(wait->pdu);
    g_free(wait);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Wait, wait_free)

static void
wait_ring(Wait *wait, gint64 position, const GError *error)
{
    g_mutex_lock(&wait->lock);
    wait->position = position;
    wait->error = error != NULL ? g_error_copy(error) : NULL;
    wait->done = TRUE;
    g_cond_signal(&wait->bell);
    g_mutex_unlock(&wait->lock);
}

static void
wait_for(Wait *wait)
{
    g_mutex_lock(&wait->lock);
    while (!wait->done)
        g_cond_wait(&wait->bell, &wait->lock);
    g_mutex_unlock(&wait->lock);
}

static void
proposed(const RoomsOutcome *outcome, const GError *error, gpointer data)
{
    Wait *wait = data;

    if (outcome != NULL) {
        wait->room_id = g_strdup(outcome->room_id);
        for (guint i = 0; i < outcome->event_ids->len; i++)
            g_ptr_array_add(wait->event_ids, g_strdup(g_ptr_array_index(outcome->event_ids, i)));
    }
    wait_ring(wait, outcome != NULL ? outcome->position : 0, error);
}

static void
built(const Pdu *pdu, const GError *error, gpointer data)
{
    Wait *wait = data;

    wait->pdu = pdu != NULL ? pdu_ref(pdu) : NULL;
    wait_ring(wait, 0, error);
}

static void
received(GPtrArray *results, gint64 position, const GError *error, gpointer data)
{
    Wait *wait = data;

    for (guint i = 0; results != NULL && i < results->len; i++) {
        const Received *one = g_ptr_array_index(results, i);

        if (one->reason != NULL)
            g_test_message("verdict %d: %s", one->verdict, one->reason);
        g_ptr_array_add(wait->verdicts, GUINT_TO_POINTER(one->verdict));
        wait->missing_prev += one->missing_prev != NULL ? one->missing_prev->len : 0;
        wait->missing_auth += one->missing_auth != NULL ? one->missing_auth->len : 0;
    }
    wait_ring(wait, position, error);
}

static ReceivedVerdict
first_verdict(const Wait *wait)
{
    g_assert_no_error(wait->error);
    g_assert_cmpuint(wait->verdicts->len, >, 0);
    return GPOINTER_TO_UINT(g_ptr_array_index(wait->verdicts, 0));
}

/* ---- what people do ---- */

static cJSON *
json(const char *text)
{
    g_autoptr(GError) error = NULL;
    cJSON *value = json_parse(text, strlen(text), &json_limits_request, &error);

    g_assert_no_error(error);
    return value;
}

static Wait *
propose(House *house, RoomsProposal *proposal)
{
    Wait *wait = wait_new();

    rooms_propose(house->rooms, proposal, proposed, wait);
    wait_for(wait);
    return wait;
}

static Wait *
propose_one(House *house, const char *room_id, const char *sender, const char *type,
            const char *state_key, const char *content)
{
    RoomsProposal *proposal = rooms_proposal_new(room_id, sender);

    rooms_proposal_add(proposal, type, state_key, json(content));
    return propose(house, proposal);
}

static char *
must_send(House *house, const char *room_id, const char *sender, const char *type,
          const char *state_key, const char *content)
{
    g_autoptr(Wait) wait = propose_one(house, room_id, sender, type, state_key, content);

    g_assert_no_error(wait->error);
    g_assert_cmpuint(wait->event_ids->len, ==, 1);
    return g_strdup(g_ptr_array_index(wait->event_ids, 0));
}

static void
assert_refused(House *house, const char *room_id, const char *sender, const char *type,
               const char *state_key, const char *content, guint status)
{
    g_autoptr(Wait) wait = propose_one(house, room_id, sender, type, state_key, content);

    g_assert_error(wait->error, REFUSAL, (int)status);
}

static char *
make_room_of(House *house, const RoomVersion *version, const char *creator, const char *join_rule)
{
    RoomsProposal *proposal = rooms_proposal_new(NULL, creator);
    g_autofree char *rule = g_strdup_printf("{\"join_rule\":\"%s\"}", join_rule);
    g_autofree char *create =
        g_strdup_printf("{\"creator\":\"%s\",\"room_version\":\"%s\"}", creator, version->id);
    g_autofree char *levels = version->creators_infinite
                                  ? g_strdup("{\"users\":{}}")
                                  : g_strdup_printf("{\"users\":{\"%s\":100}}", creator);
    g_autoptr(Wait) wait = NULL;

    rooms_proposal_add(proposal, "m.room.create", "", json(create));
    rooms_proposal_add(proposal, "m.room.member", creator, json("{\"membership\":\"join\"}"));
    rooms_proposal_add(proposal, "m.room.power_levels", "", json(levels));
    rooms_proposal_add(proposal, "m.room.join_rules", "", json(rule));
    wait = propose(house, proposal);
    g_assert_no_error(wait->error);
    g_assert_cmpuint(wait->event_ids->len, ==, 4);
    g_assert_cmpint(wait->room_id[0], ==, '!');
    return g_strdup(wait->room_id);
}

static char *
make_room(House *house, const char *creator, const char *join_rule)
{
    return make_room_of(house, room_version_default(), creator, join_rule);
}

static char *
membership_of(House *house, const char *room_id, const char *user_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(house->database->pool, &error);
    g_autoptr(StoredMembership) row = NULL;

    g_assert_no_error(error);
    g_assert_true(membership_store_find(connection, room_id, user_id, &row, &error));
    return row != NULL ? g_strdup(row->membership) : NULL;
}

static char *
state_event_id(House *house, const char *room_id, const char *type, const char *state_key)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) root = NULL;
    g_autoptr(Pdu) pdu = NULL;

    g_assert_true(rooms_current_root(house->rooms, room_id, &root, &error));
    g_assert_nonnull(root);
    g_assert_true(rooms_state_find(house->rooms, room_id, root, type, state_key, &pdu, &error));
    return pdu != NULL ? g_strdup(pdu->event_id) : NULL;
}

static GBytes *
event_bytes(House *house, const char *room_id, const char *event_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    g_assert_true(rooms_event(house->rooms, room_id, event_id, &event, &error));
    g_assert_nonnull(event);
    return g_bytes_ref(event->pdu->bytes);
}

static StoredEventStatus
status_of(House *house, const char *room_id, const char *event_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    g_assert_true(rooms_event(house->rooms, room_id, event_id, &event, &error));
    return event != NULL ? event->status : 0;
}

/* The flat tables say what the trie says. */
static void
assert_flat_state_agrees(House *house, const char *room_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) root = NULL;
    g_autoptr(GPtrArray) pdus = NULL;
    g_autoptr(GPtrArray) rows = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(house->database->pool, &error);

    g_assert_true(rooms_current_root(house->rooms, room_id, &root, &error));
    pdus = rooms_state_load(house->rooms, room_id, root, &error);
    g_assert_no_error(error);
    rows = state_store_rows(connection, room_id, NULL, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(rows->len, ==, pdus->len);
    for (guint i = 0; i < rows->len; i++) {
        const StateRow *row = g_ptr_array_index(rows, i);
        g_autoptr(Pdu) pdu = NULL;

        g_assert_true(
            rooms_state_find(house->rooms, room_id, root, row->type, row->state_key, &pdu, &error));
        g_assert_nonnull(pdu);
        g_assert_cmpstr(pdu->event_id, ==, row->event_id);
    }
}

static ReceivedVerdict
receive(House *house, const char *room_id, GBytes *event)
{
    g_autoptr(GPtrArray) events = g_ptr_array_new();
    g_autoptr(Wait) wait = wait_new();

    g_ptr_array_add(events, event);
    rooms_receive(house->rooms, room_id, "elsewhere.example", events, received, wait);
    wait_for(wait);
    return first_verdict(wait);
}

/* What @from had for others goes to @to, each event once. */
static void
deliver_all(House *from, House *to, const char *room_id)
{
    for (guint i = 0; i < from->outbox->len; i++) {
        ReceivedVerdict verdict = receive(to, room_id, g_ptr_array_index(from->outbox, i));

        g_assert_true(verdict == RECEIVED_ACCEPTED || verdict == RECEIVED_KNOWN ||
                      verdict == RECEIVED_SOFT_FAILED);
    }
    g_ptr_array_set_size(from->outbox, 0);
}

static GPtrArray *
bytes_of(GPtrArray *pdus)
{
    GPtrArray *bytes = g_ptr_array_new();

    for (guint i = 0; i < pdus->len; i++)
        g_ptr_array_add(bytes, ((Pdu *)g_ptr_array_index(pdus, i))->bytes);
    return bytes;
}

static Pdu *
signed_template(House *house, const char *version_id, GBytes *template)
{
    const RoomVersion *version = room_version_find(version_id);
    g_autoptr(GError) error = NULL;
    gsize length = 0;
    const char *text = g_bytes_get_data(template, &length);
    g_autoptr(cJSON) value = json_parse(text, length, &json_limits_event_lax, &error);
    Pdu *pdu;

    g_assert_no_error(error);
    if (version->event_id_format == EVENT_ID_CHOSEN) {
        g_autofree char *event_id = rooms_new_id(house->rooms, '$');

        cJSON_AddItemToObject(value, "event_id", cJSON_CreateString(event_id));
    }
    pdu = pdu_build_from_value(version, value, &house->signer, &error);
    g_assert_no_error(error);
    return pdu;
}

/* make_join, send_join, and the answer taken in, as the wire would carry them. */
static void
join_from_outside(House *resident, House *joiner, const char *room_id, const char *user_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) template = NULL;
    g_autofree char *version = NULL;
    g_autoptr(Pdu) join = NULL;
    g_autoptr(Wait) sent = wait_new();
    g_autoptr(Wait) taken = wait_new();
    g_autoptr(GPtrArray) state = NULL, chain = NULL, state_bytes = NULL, chain_bytes = NULL;

    g_assert_true(
        rooms_template(resident->rooms, room_id, user_id, "join", &template, &version, &error));
    join = signed_template(joiner, version, template);
    rooms_receive_own(resident->rooms, room_id, join->bytes, received, sent);
    wait_for(sent);
    g_assert_cmpint(first_verdict(sent), ==, RECEIVED_ACCEPTED);
    g_assert_true(
        rooms_state_before(resident->rooms, room_id, join->event_id, &state, &chain, &error));
    state_bytes = bytes_of(state);
    chain_bytes = bytes_of(chain);
    rooms_accept_join(joiner->rooms, room_id, join->bytes, state_bytes, chain_bytes, received,
                      taken);
    wait_for(taken);
    g_assert_cmpint(first_verdict(taken), ==, RECEIVED_ACCEPTED);
    g_ptr_array_set_size(resident->outbox, 0);
}

/* ---- the tests ---- */

static void
test_a_room_is_made_and_spoken_in(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *first = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL,
                                       "{\"body\":\"one\"}");
    g_autofree char *second = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message",
                                        NULL, "{\"body\":\"two\"}");
    g_autofree char *membership = membership_of(alpha, room_id, "@ada:alpha.example");
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    g_assert_cmpstr(membership, ==, "join");
    g_assert_true(rooms_event(alpha->rooms, room_id, second, &event, &error));
    g_assert_cmpuint(event->pdu->prev_event_count, ==, 1);
    g_assert_cmpstr(event->pdu->prev_events[0], ==, first);
    g_assert_cmpint(event->pdu->depth, ==, 6);
    assert_flat_state_agrees(alpha, room_id);
}

static void
test_equal_wishes_make_different_rooms(void)
{
    enum {
        N = 200
    };
    Wait *waits[N];
    g_autoptr(GHashTable) rooms = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < N; i++) {
        RoomsProposal *proposal = rooms_proposal_new(NULL, "@ada:alpha.example");

        waits[i] = wait_new();
        rooms_proposal_add(proposal, "m.room.create", "", json("{\"room_version\":\"12\"}"));
        rooms_proposal_add(proposal, "m.room.member", "@ada:alpha.example",
                           json("{\"membership\":\"join\"}"));
        rooms_propose(alpha->rooms, proposal, proposed, waits[i]);
    }
    for (guint i = 0; i < N; i++) {
        wait_for(waits[i]);
        g_assert_no_error(waits[i]->error);
        g_hash_table_add(rooms, waits[i]->room_id);
    }
    g_assert_cmpuint(g_hash_table_size(rooms), ==, N);
    for (guint i = 0; i < N; i++)
        wait_free(waits[i]);
}

static void
test_who_is_not_in_the_room_changes_nothing(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *message = NULL;

    assert_refused(alpha, room_id, "@mallory:alpha.example", "m.room.message", NULL, "{}", 403);
    assert_refused(alpha, room_id, "@mallory:alpha.example", "m.room.member",
                   "@mallory:alpha.example", "{\"membership\":\"join\"}", 403);
    assert_refused(alpha, "!nowhere", "@ada:alpha.example", "m.room.message", NULL, "{}", 403);
    message = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}");
    g_assert_nonnull(message);
    assert_flat_state_agrees(alpha, room_id);
}

static void
test_a_proposal_is_all_or_nothing(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    RoomsProposal *proposal;
    g_autoptr(Wait) refused = NULL;
    g_autofree char *name = NULL;
    g_autofree char *joined = must_send(alpha, room_id, "@bob:alpha.example", "m.room.member",
                                        "@bob:alpha.example", "{\"membership\":\"join\"}");

    proposal = rooms_proposal_new(room_id, "@bob:alpha.example");
    rooms_proposal_add(proposal, "m.room.message", NULL, json("{\"body\":\"half\"}"));
    rooms_proposal_add(proposal, "m.room.name", "", json("{\"name\":\"bob's\"}"));
    refused = propose(alpha, proposal);
    g_assert_error(refused->error, REFUSAL, 403);
    name = state_event_id(alpha, room_id, "m.room.name", "");
    g_assert_null(name);
    g_assert_cmpint(
        test_database_count(alpha->database,
                            "SELECT count(*) FROM event WHERE json::text LIKE '%half%'"),
        ==, 0);
    g_free(must_send(alpha, room_id, "@bob:alpha.example", "m.room.message", NULL, "{}"));
    assert_flat_state_agrees(alpha, room_id);
}

static void
test_sizes_at_the_limit(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *fits = g_strnfill(60000, 'x');
    g_autofree char *large = g_strnfill(65536, 'x');
    g_autofree char *fits_content = g_strdup_printf("{\"body\":\"%s\"}", fits);
    g_autofree char *large_content = g_strdup_printf("{\"body\":\"%s\"}", large);
    g_autofree char *key_255 = g_strnfill(255, 'k');
    g_autofree char *key_256 = g_strnfill(256, 'k');

    g_free(must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, fits_content));
    assert_refused(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, large_content,
                   413);
    g_free(must_send(alpha, room_id, "@ada:alpha.example", "x.state", key_255, "{}"));
    assert_refused(alpha, room_id, "@ada:alpha.example", "x.state", key_256, "{}", 413);
}

static void
test_a_restart_goes_on_where_it_stood(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *last = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL,
                                      "{\"body\":\"before\"}");
    g_autofree char *next = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    house_close(alpha);
    house_open(alpha);
    next = must_send(alpha, room_id, "@ada:alpha.example", "m.room.topic", "",
                     "{\"topic\":\"after\"}");
    g_assert_true(rooms_event(alpha->rooms, room_id, next, &event, &error));
    g_assert_cmpstr(event->pdu->prev_events[0], ==, last);
    assert_flat_state_agrees(alpha, room_id);
}

static void
test_many_at_once_make_one_chain(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "invite");
    enum {
        N = 2000
    };
    Wait *waits[N];
    gint64 began = g_get_monotonic_time();
    g_autofree char *count = NULL;
    g_autofree char *sql = NULL;

    for (guint i = 0; i < N; i++) {
        RoomsProposal *proposal = rooms_proposal_new(room_id, "@ada:alpha.example");

        waits[i] = wait_new();
        rooms_proposal_add(proposal, "m.room.message", NULL, json("{\"body\":\"hello there\"}"));
        rooms_propose(alpha->rooms, proposal, proposed, waits[i]);
    }
    for (guint i = 0; i < N; i++) {
        wait_for(waits[i]);
        g_assert_no_error(waits[i]->error);
        wait_free(waits[i]);
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
    wait_ring(data, position, error);
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

static Wait *
propose_later(const char *room_id, const char *type, const char *state_key, const char *content)
{
    RoomsProposal *proposal = rooms_proposal_new(room_id, "@ada:alpha.example");
    Wait *wait = wait_new();

    rooms_proposal_add(proposal, type, state_key, json(content));
    rooms_propose(alpha->rooms, proposal, proposed, wait);
    return wait;
}

static void
test_a_batch_that_is_taken_back_leaves_the_room_as_it_was(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *base =
        must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}");
    Gate *gate = g_new0(Gate, 1);
    g_autoptr(Wait) first = NULL;
    g_autoptr(Wait) failed = wait_new();
    g_autoptr(Wait) refused = wait_new();
    g_autoptr(Wait) second = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) one = NULL;
    g_autoptr(RoomEvent) two = NULL;
    RoomsProposal *half = rooms_proposal_new(room_id, "@ada:alpha.example");

    gate_close(gate);
    first = propose_later(room_id, "m.room.topic", "", "{\"topic\":\"first\"}");
    g_assert_true(lane_submit(alpha->lane, divide_apply, lane_rang, failed, &error));
    rooms_proposal_add(half, "m.room.name", "", json("{\"name\":\"half\"}"));
    rooms_proposal_add(half, "m.room.member", "@bob:alpha.example",
                       json("{\"membership\":\"join\"}"));
    rooms_propose(alpha->rooms, half, proposed, refused);
    second = propose_later(room_id, "m.room.message", NULL, "{\"body\":\"second\"}");
    gate_open(gate);
    wait_for(first);
    wait_for(failed);
    wait_for(refused);
    wait_for(second);
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
    assert_flat_state_agrees(alpha, room_id);
    g_free(gate);
}

static void
test_a_redaction_takes_effect_for_those_who_may(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *bob = must_send(alpha, room_id, "@bob:alpha.example", "m.room.member",
                                     "@bob:alpha.example", "{\"membership\":\"join\"}");
    g_autofree char *secret = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message",
                                        NULL, "{\"body\":\"secret\"}");
    g_autofree char *content = g_strdup_printf("{\"redacts\":\"%s\"}", secret);
    g_autofree char *redaction =
        must_send(alpha, room_id, "@ada:alpha.example", "m.room.redaction", NULL, content);
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    g_assert_true(rooms_event(alpha->rooms, room_id, secret, &event, &error));
    g_assert_cmpstr(event->redaction_id, ==, redaction);
    house_close(alpha);
    house_open(alpha);
    g_clear_pointer(&event, room_event_unref);
    g_assert_true(rooms_event(alpha->rooms, room_id, secret, &event, &error));
    g_assert_cmpstr(event->redaction_id, ==, redaction);
}

static void
test_an_equal_state_is_said_once(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "invite");
    g_autofree char *first =
        must_send(alpha, room_id, "@ada:alpha.example", "m.room.topic", "", "{\"topic\":\"x\"}");
    RoomsProposal *proposal = rooms_proposal_new(room_id, "@ada:alpha.example");
    g_autoptr(Wait) wait = NULL;

    rooms_proposal_add(proposal, "m.room.topic", "", json("{\"topic\":\"x\"}"));
    rooms_proposal_set_idempotent(proposal);
    wait = propose(alpha, proposal);
    g_assert_no_error(wait->error);
    g_assert_cmpstr(g_ptr_array_index(wait->event_ids, 0), ==, first);
}

static void
test_a_join_from_outside_and_messages_both_ways(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *hello = NULL;
    g_autofree char *answer = NULL;
    g_autofree char *at_alpha = NULL;

    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    assert_flat_state_agrees(beta, room_id);
    at_alpha = membership_of(alpha, room_id, "@ben:beta.example");
    g_assert_cmpstr(at_alpha, ==, "join");
    hello = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL,
                      "{\"body\":\"hello\"}");
    g_assert_cmpuint(alpha->outbox->len, ==, 1);
    deliver_all(alpha, beta, room_id);
    g_assert_cmpint(status_of(beta, room_id, hello), ==, STORED_EVENT_ACCEPTED);
    answer = must_send(beta, room_id, "@ben:beta.example", "m.room.message", NULL,
                       "{\"body\":\"hello back\"}");
    deliver_all(beta, alpha, room_id);
    g_assert_cmpint(status_of(alpha, room_id, answer), ==, STORED_EVENT_ACCEPTED);
}

static void
test_both_change_the_same_while_apart(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *levels = NULL;
    g_autofree char *topic_alpha = NULL;
    g_autofree char *topic_beta = NULL;
    g_autofree char *name = NULL;
    g_autoptr(GBytes) root_alpha = NULL;

    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    levels = must_send(alpha, room_id, "@ada:alpha.example", "m.room.power_levels", "",
                       "{\"users\":{\"@ben:beta.example\":100}}");
    deliver_all(alpha, beta, room_id);
    /* Apart: nothing is delivered. */
    g_free(must_send(alpha, room_id, "@ada:alpha.example", "m.room.topic", "",
                     "{\"topic\":\"alpha's\"}"));
    g_free(must_send(alpha, room_id, "@ada:alpha.example", "m.room.name", "",
                     "{\"name\":\"only alpha names it\"}"));
    g_free(must_send(beta, room_id, "@ben:beta.example", "m.room.topic", "",
                     "{\"topic\":\"beta's\"}"));
    g_free(must_send(beta, room_id, "@ben:beta.example", "m.room.message", NULL,
                     "{\"body\":\"meanwhile\"}"));
    /* Together again. */
    deliver_all(alpha, beta, room_id);
    deliver_all(beta, alpha, room_id);
    topic_alpha = state_event_id(alpha, room_id, "m.room.topic", "");
    topic_beta = state_event_id(beta, room_id, "m.room.topic", "");
    g_assert_nonnull(topic_alpha);
    g_assert_cmpstr(topic_alpha, ==, topic_beta);
    name = state_event_id(beta, room_id, "m.room.name", "");
    g_assert_nonnull(name);
    assert_flat_state_agrees(alpha, room_id);
    assert_flat_state_agrees(beta, room_id);
    /* The next event closes the fork. */
    g_free(must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}"));
    deliver_all(alpha, beta, room_id);
    g_assert_cmpint(test_database_count(beta->database,
                                        "SELECT max(cardinality(event_ids)) FROM room_extremity"),
                    ==, 1);
}

static void
test_what_it_stands_on_is_asked_for(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *first = NULL;
    g_autofree char *second = NULL;
    g_autoptr(GBytes) first_bytes = NULL;
    g_autoptr(GBytes) second_bytes = NULL;
    g_autoptr(GPtrArray) events = g_ptr_array_new();
    g_autoptr(Wait) wait = wait_new();

    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    first = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}");
    second = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}");
    g_ptr_array_set_size(alpha->outbox, 0);
    first_bytes = event_bytes(alpha, room_id, first);
    second_bytes = event_bytes(alpha, room_id, second);
    g_ptr_array_add(events, second_bytes);
    rooms_receive(beta->rooms, room_id, "alpha.example", events, received, wait);
    wait_for(wait);
    g_assert_cmpint(first_verdict(wait), ==, RECEIVED_MISSING);
    g_assert_cmpuint(wait->missing_prev, ==, 1);
    g_assert_cmpuint(wait->missing_auth, ==, 0);
    g_assert_cmpint(receive(beta, room_id, first_bytes), ==, RECEIVED_ACCEPTED);
    g_assert_cmpint(receive(beta, room_id, second_bytes), ==, RECEIVED_ACCEPTED);
    g_assert_cmpint(receive(beta, room_id, second_bytes), ==, RECEIVED_KNOWN);
}

static void
test_a_gap_is_bridged_by_the_state_at_it(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *topic = NULL;
    g_autofree char *last = NULL;
    g_autofree char *seen = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) state = NULL, chain = NULL, state_bytes = NULL, chain_bytes = NULL;
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(Wait) wait = wait_new();

    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    topic =
        must_send(alpha, room_id, "@ada:alpha.example", "m.room.topic", "", "{\"topic\":\"t\"}");
    last = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}");
    g_ptr_array_set_size(alpha->outbox, 0);
    g_assert_true(rooms_state_before(alpha->rooms, room_id, last, &state, &chain, &error));
    state_bytes = bytes_of(state);
    chain_bytes = bytes_of(chain);
    bytes = event_bytes(alpha, room_id, last);
    rooms_receive_at_state(beta->rooms, room_id, bytes, state_bytes, chain_bytes, received, wait);
    wait_for(wait);
    g_assert_cmpint(first_verdict(wait), ==, RECEIVED_ACCEPTED);
    seen = state_event_id(beta, room_id, "m.room.topic", "");
    g_assert_cmpstr(seen, ==, topic);
    assert_flat_state_agrees(beta, room_id);
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
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *other = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *message = NULL;
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GBytes) bad_hash = NULL;
    g_autoptr(GBytes) bad_signature = NULL;
    g_autoptr(GBytes) noise = g_bytes_new_static("{\"type\":", 8);
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    message = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL,
                        "{\"body\":\"truth\"}");
    bytes = event_bytes(alpha, room_id, message);
    bad_signature = tampered(bytes, "\"depth\":6", "\"depth\":7");
    bad_hash = tampered(bytes, "truth", "wrong");
    g_assert_cmpint(receive(beta, room_id, noise), ==, RECEIVED_REFUSED);
    g_assert_cmpint(receive(beta, room_id, bad_signature), ==, RECEIVED_REFUSED);
    g_assert_cmpint(receive(beta, other, bytes), ==, RECEIVED_REFUSED);
    /* The content was changed on the way: what is signed stays, the content goes. */
    g_assert_cmpint(receive(beta, room_id, bad_hash), ==, RECEIVED_ACCEPTED);
    g_assert_true(rooms_event(beta->rooms, room_id, message, &event, &error));
    g_assert_null(json_get_string(event->pdu->content, "body"));
    g_ptr_array_set_size(alpha->outbox, 0);
}

/* An event that a server signs itself, without asking its own rules. */
static GBytes *
forged(House *house, const char *room_id, const char *sender, const char *type,
       const char *state_key, const char *content, const char *prev, const char *const *auth,
       gint64 depth)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(cJSON) value = json(content);
    const char *const prevs[] = {prev, NULL};
    g_autoptr(Pdu) pdu = pdu_build(room_version_default(),
                                   &(PduTemplate){.room_id = room_id,
                                                  .type = type,
                                                  .state_key = state_key,
                                                  .sender = sender,
                                                  .content = value,
                                                  .prev_events = prevs,
                                                  .auth_events = auth,
                                                  .depth = depth,
                                                  .origin_server_ts = 1},
                                   &house->signer, &error);

    g_assert_no_error(error);
    return g_bytes_ref(pdu->bytes);
}

static void
test_a_false_state_takes_nothing_away(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *topic = NULL;
    g_autofree char *seen = NULL;
    g_autofree char *levels = NULL;
    g_autofree char *member = NULL;
    g_autofree char *still = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) state = NULL, chain = NULL, chain_bytes = NULL;
    g_autoptr(GPtrArray) little = g_ptr_array_new();
    g_autoptr(GBytes) event = NULL;
    g_autoptr(Wait) wait = wait_new();
    g_autofree char *nowhere =
        g_strdup_printf("$%s", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    const char *auth[3] = {NULL};

    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    topic =
        must_send(alpha, room_id, "@ada:alpha.example", "m.room.topic", "", "{\"topic\":\"t\"}");
    levels = state_event_id(alpha, room_id, "m.room.power_levels", "");
    member = state_event_id(alpha, room_id, "m.room.member", "@ben:beta.example");
    auth[0] = levels;
    auth[1] = member;
    /* An event on a past that nobody has, with a state that lacks the topic, ada and all. */
    event =
        forged(beta, room_id, "@ben:beta.example", "m.room.message", NULL, "{}", nowhere, auth, 9);
    g_assert_true(rooms_state_before(alpha->rooms, room_id, topic, &state, &chain, &error));
    for (guint i = 0; i < state->len; i++) {
        Pdu *pdu = g_ptr_array_index(state, i);

        if (g_str_equal(pdu->event_id, levels) || g_str_equal(pdu->event_id, member) ||
            g_str_equal(pdu->type, "m.room.create"))
            g_ptr_array_add(little, pdu->bytes);
    }
    chain_bytes = bytes_of(chain);
    rooms_receive_at_state(alpha->rooms, room_id, event, little, chain_bytes, received, wait);
    wait_for(wait);
    g_assert_cmpint(first_verdict(wait), ==, RECEIVED_ACCEPTED);
    seen = state_event_id(alpha, room_id, "m.room.topic", "");
    g_assert_cmpstr(seen, ==, topic);
    still = membership_of(alpha, room_id, "@ada:alpha.example");
    g_assert_cmpstr(still, ==, "join");
    g_free(must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}"));
    assert_flat_state_agrees(alpha, room_id);
    g_ptr_array_set_size(alpha->outbox, 0);
}

static void
test_who_was_banned_meanwhile_is_soft_failed(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *levels = state_event_id(alpha, room_id, "m.room.power_levels", "");
    g_autofree char *member = NULL;
    g_autofree char *before = NULL;
    g_autofree char *ban = NULL;
    g_autoptr(GBytes) late = NULL;
    g_autoptr(GBytes) state = NULL;
    const char *auth[3] = {NULL};

    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    before = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}");
    member = state_event_id(alpha, room_id, "m.room.member", "@ben:beta.example");
    ban = must_send(alpha, room_id, "@ada:alpha.example", "m.room.member", "@ben:beta.example",
                    "{\"membership\":\"ban\"}");
    auth[0] = levels;
    auth[1] = member;
    late = forged(beta, room_id, "@ben:beta.example", "m.room.message", NULL, "{\"body\":\"late\"}",
                  before, auth, 7);
    g_assert_cmpint(receive(alpha, room_id, late), ==, RECEIVED_SOFT_FAILED);
    /* Without the power it is rejected outright. */
    state = forged(beta, room_id, "@ben:beta.example", "m.room.name", "", "{\"name\":\"mine\"}",
                   before, auth, 7);
    g_assert_cmpint(receive(alpha, room_id, state), ==, RECEIVED_REJECTED);
    assert_flat_state_agrees(alpha, room_id);
    g_assert_cmpint(
        test_database_count(alpha->database,
                            "SELECT count(*) FROM log JOIN event ON log.ref = event.event_id"
                            " WHERE event.status IN (2, 3)"),
        ==, 0);
    g_ptr_array_set_size(alpha->outbox, 0);
}

static void
test_the_deepest_event_does_not_end_the_room(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *levels = state_event_id(alpha, room_id, "m.room.power_levels", "");
    g_autofree char *member = NULL;
    g_autofree char *next = NULL;
    g_autofree char *after = NULL;
    g_autoptr(GBytes) deep = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;
    const gint64 depth_max = room_version_default()->depth_max;
    const char *auth[3] = {NULL};

    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    member = state_event_id(alpha, room_id, "m.room.member", "@ben:beta.example");
    auth[0] = levels;
    auth[1] = member;
    deep = forged(beta, room_id, "@ben:beta.example", "m.room.message", NULL, "{}", member, auth,
                  depth_max);
    g_assert_cmpint(receive(alpha, room_id, deep), ==, RECEIVED_ACCEPTED);
    next = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}");
    after =
        must_send(alpha, room_id, "@ada:alpha.example", "m.room.topic", "", "{\"topic\":\"t\"}");
    g_assert_true(rooms_event(alpha->rooms, room_id, after, &event, &error));
    g_assert_cmpint(event->pdu->depth, ==, depth_max);
    g_assert_cmpstr(event->pdu->prev_events[0], ==, next);
    g_ptr_array_set_size(alpha->outbox, 0);
}

static void
test_auth_events_of_another_room_or_kind_do_not_help(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *other = make_room(beta, "@ben:beta.example", "public");
    g_autofree char *levels = NULL;
    g_autofree char *member = NULL;
    g_autofree char *message = NULL;
    g_autofree char *foreign = state_event_id(beta, other, "m.room.member", "@ben:beta.example");
    g_autoptr(GBytes) borrowed = NULL;
    g_autoptr(GBytes) no_state = NULL;
    g_autoptr(GBytes) create = NULL;
    g_autoptr(GBytes) unsigned_by_sender = NULL;
    g_autofree char *create_id = NULL;
    g_autoptr(GPtrArray) events = g_ptr_array_new();
    g_autoptr(Wait) wait = wait_new();
    const char *auth[4] = {NULL};

    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    levels = state_event_id(alpha, room_id, "m.room.power_levels", "");
    member = state_event_id(alpha, room_id, "m.room.member", "@ben:beta.example");
    message = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}");
    auth[0] = levels;
    auth[1] = foreign;
    borrowed =
        forged(beta, room_id, "@ben:beta.example", "m.room.message", NULL, "{}", message, auth, 9);
    g_ptr_array_add(events, borrowed);
    rooms_receive(alpha->rooms, room_id, "beta.example", events, received, wait);
    wait_for(wait);
    g_assert_cmpint(first_verdict(wait), ==, RECEIVED_MISSING);
    g_assert_cmpuint(wait->missing_auth, ==, 1);
    auth[1] = member;
    auth[2] = message;
    no_state =
        forged(beta, room_id, "@ben:beta.example", "m.room.message", NULL, "{}", message, auth, 9);
    g_assert_cmpint(receive(alpha, room_id, no_state), ==, RECEIVED_REJECTED);
    /* Signed by beta, in the name of alpha's user. */
    auth[2] = NULL;
    unsigned_by_sender =
        forged(beta, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}", message, auth, 9);
    g_assert_cmpint(receive(alpha, room_id, unsigned_by_sender), ==, RECEIVED_REFUSED);
    /* A second create event cannot be of this room: its hash is another room's id. */
    create_id = g_strconcat("$", other + 1, NULL);
    create = event_bytes(beta, other, create_id);
    g_assert_cmpint(receive(alpha, room_id, create), ==, RECEIVED_REFUSED);
    g_ptr_array_set_size(alpha->outbox, 0);
}

static void
test_the_graphs_ends_are_bounded(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *levels = NULL;
    g_autofree char *member = NULL;
    g_autofree char *next = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;
    const char *auth[3] = {NULL};

    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    levels = state_event_id(alpha, room_id, "m.room.power_levels", "");
    member = state_event_id(alpha, room_id, "m.room.member", "@ben:beta.example");
    auth[0] = levels;
    auth[1] = member;
    /* Sixteen branches from one event are all named; of seventeen the shallowest is not. */
    for (gint64 i = 0; i < 17; i++) {
        g_autofree char *content = g_strdup_printf("{\"body\":\"%d\"}", (int)i);
        g_autoptr(GBytes) branch = forged(beta, room_id, "@ben:beta.example", "m.room.message",
                                          NULL, content, member, auth, 10 + i);

        g_assert_cmpint(receive(alpha, room_id, branch), ==, RECEIVED_ACCEPTED);
    }
    next = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}");
    g_assert_true(rooms_event(alpha->rooms, room_id, next, &event, &error));
    g_assert_cmpuint(event->pdu->prev_event_count, ==, 16);
    assert_flat_state_agrees(alpha, room_id);
    g_ptr_array_set_size(alpha->outbox, 0);
}

static void
test_an_invite_across_is_cosigned_and_taken_in(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "invite");
    RoomsProposal *proposal = rooms_proposal_new(room_id, "@ada:alpha.example");
    g_autoptr(GError) error = NULL;
    g_autoptr(Wait) build = wait_new();
    g_autoptr(Wait) at_beta = wait_new();
    g_autoptr(Wait) at_alpha = wait_new();
    g_autoptr(Wait) refused = wait_new();
    g_autoptr(Pdu) cosigned = NULL;
    g_autoptr(GBytes) stripped = g_bytes_new_static("[]", 2);
    g_autofree char *membership = NULL;

    rooms_proposal_add(proposal, "m.room.member", "@ben:beta.example",
                       json("{\"membership\":\"invite\"}"));
    rooms_build(alpha->rooms, proposal, built, build);
    wait_for(build);
    g_assert_no_error(build->error);
    g_assert_cmpint(status_of(alpha, room_id, build->pdu->event_id), ==, 0);
    cosigned = pdu_add_signature(build->pdu, &beta->signer, &error);
    g_assert_no_error(error);
    rooms_accept_invite(beta->rooms, room_id, cosigned->version, cosigned->bytes, stripped,
                        received, at_beta);
    wait_for(at_beta);
    g_assert_cmpint(first_verdict(at_beta), ==, RECEIVED_ACCEPTED);
    g_assert_cmpint(at_beta->position, >, 0);
    rooms_receive_own(alpha->rooms, room_id, cosigned->bytes, received, at_alpha);
    wait_for(at_alpha);
    g_assert_cmpint(first_verdict(at_alpha), ==, RECEIVED_ACCEPTED);
    membership = membership_of(alpha, room_id, "@ben:beta.example");
    g_assert_cmpstr(membership, ==, "invite");
    /* Not for a user of another server. */
    rooms_accept_invite(alpha->rooms, room_id, cosigned->version, cosigned->bytes, stripped,
                        received, refused);
    wait_for(refused);
    g_assert_error(refused->error, REFUSAL, 400);
    /* And the invited one comes. */
    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    g_assert_cmpint(test_database_count(beta->database, "SELECT count(*) FROM invite"), ==, 0);
}

static void
test_a_join_answer_that_does_not_hold_leaves_nothing(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) template = NULL;
    g_autofree char *version = NULL;
    g_autoptr(Pdu) join = NULL;
    g_autoptr(Wait) sent = wait_new();
    g_autoptr(Wait) taken = wait_new();
    g_autoptr(GPtrArray) state = NULL, chain = NULL, state_bytes = g_ptr_array_new();
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    const RoomVersion *known = NULL;

    g_assert_true(rooms_template(alpha->rooms, room_id, "@ben:beta.example", "join", &template,
                                 &version, &error));
    join = signed_template(beta, version, template);
    rooms_receive_own(alpha->rooms, room_id, join->bytes, received, sent);
    wait_for(sent);
    g_assert_true(
        rooms_state_before(alpha->rooms, room_id, join->event_id, &state, &chain, &error));
    /* The join rules are kept back: the join is not allowed by what remains. */
    for (guint i = 0; i < state->len; i++) {
        Pdu *pdu = g_ptr_array_index(state, i);

        if (!g_str_equal(pdu->type, "m.room.join_rules"))
            g_ptr_array_add(state_bytes, pdu->bytes);
    }
    rooms_accept_join(beta->rooms, room_id, join->bytes, state_bytes, none, received, taken);
    wait_for(taken);
    g_assert_error(taken->error, REFUSAL, 502);
    g_assert_true(rooms_version(beta->rooms, room_id, &known, &error));
    g_assert_null(known);
    g_ptr_array_set_size(alpha->outbox, 0);
}

/* Made, spoken in, joined from outside, changed on both sides while apart, redacted, reopened. */
static void
go_through(const RoomVersion *version)
{
    g_autofree char *room_id = make_room_of(alpha, version, "@ada:alpha.example", "public");
    g_autofree char *first = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL,
                                       "{\"body\":\"one\"}");
    g_autofree char *redaction = NULL, *at_alpha = NULL, *at_beta = NULL, *content = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) target = NULL;
    g_autoptr(RoomEvent) carried = NULL;

    g_test_message("room version %s", version->id);
    g_assert_cmpint(strchr(room_id, ':') != NULL, ==, !version->room_id_is_create_hash);
    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    g_free(must_send(beta, room_id, "@ben:beta.example", "m.room.message", NULL, "{}"));
    deliver_all(beta, alpha, room_id);
    g_free(must_send(alpha, room_id, "@ada:alpha.example", "m.room.member", "@ben:beta.example",
                     "{\"membership\":\"ban\"}"));
    g_free(
        must_send(alpha, room_id, "@ada:alpha.example", "m.room.name", "", "{\"name\":\"alpha\"}"));
    g_free(must_send(beta, room_id, "@ben:beta.example", "m.room.member", "@ben:beta.example",
                     "{\"displayname\":\"B\",\"membership\":\"join\"}"));
    deliver_all(beta, alpha, room_id);
    deliver_all(alpha, beta, room_id);
    at_alpha = state_event_id(alpha, room_id, "m.room.member", "@ben:beta.example");
    at_beta = state_event_id(beta, room_id, "m.room.member", "@ben:beta.example");
    g_assert_cmpstr(at_alpha, ==, at_beta);

    content = g_strdup_printf("{\"redacts\":\"%s\"}", first);
    redaction = must_send(alpha, room_id, "@ada:alpha.example", "m.room.redaction", NULL, content);
    g_assert_true(rooms_event(alpha->rooms, room_id, first, &target, &error));
    g_assert_cmpstr(target->redaction_id, ==, redaction);
    g_assert_true(rooms_event(alpha->rooms, room_id, redaction, &carried, &error));
    g_assert_cmpint(json_object_get(carried->pdu->json, "redacts") == NULL, ==,
                    version->redacts_in_content);
    g_ptr_array_set_size(alpha->outbox, 0);

    house_close(alpha);
    house_open(alpha);
    g_free(must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}"));
    assert_flat_state_agrees(alpha, room_id);
    assert_flat_state_agrees(beta, room_id);
    g_ptr_array_set_size(alpha->outbox, 0);
}

static void
test_rooms_of_every_version(void)
{
    guint count = 0, served = 0;
    const RoomVersion *versions = room_version_table(&count);

    for (guint i = 0; i < count; i++)
        if (versions[i].supported) {
            go_through(&versions[i]);
            served++;
        }
    g_test_message("%u room versions", served);
    g_assert_cmpuint(served, >=, 1);
}

/* An invite from outside, taken in and turned down, in every version. */
static void
test_invites_of_every_version(void)
{
    guint count = 0;
    const RoomVersion *versions = room_version_table(&count);

    for (guint i = 0; i < count; i++) {
        const RoomVersion *version = &versions[i];
        g_autofree char *room_id = NULL, *leave_id = rooms_new_id(beta->rooms, '$');
        g_autoptr(GError) error = NULL;
        g_autoptr(Wait) build = wait_new();
        g_autoptr(Wait) at_beta = wait_new();
        g_autoptr(Wait) left = wait_new();
        g_autoptr(Pdu) cosigned = NULL;
        g_autoptr(Pdu) leave = NULL;
        g_autoptr(GBytes) stripped = g_bytes_new_static("[]", 2);
        g_autoptr(cJSON) content = json("{\"membership\":\"leave\"}");
        RoomsProposal *proposal;

        if (!version->supported)
            continue;
        room_id = make_room_of(alpha, version, "@ada:alpha.example", "invite");
        proposal = rooms_proposal_new(room_id, "@ada:alpha.example");
        rooms_proposal_add(proposal, "m.room.member", "@ben:beta.example",
                           json("{\"membership\":\"invite\"}"));
        rooms_build(alpha->rooms, proposal, built, build);
        wait_for(build);
        g_assert_no_error(build->error);
        cosigned = pdu_add_signature(build->pdu, &beta->signer, &error);
        rooms_accept_invite(beta->rooms, room_id, version, cosigned->bytes, stripped, received,
                            at_beta);
        wait_for(at_beta);
        g_assert_cmpint(first_verdict(at_beta), ==, RECEIVED_ACCEPTED);
        leave = pdu_build(version,
                          &(PduTemplate){.event_id = leave_id,
                                         .room_id = room_id,
                                         .type = "m.room.member",
                                         .state_key = "@ben:beta.example",
                                         .sender = "@ben:beta.example",
                                         .content = content,
                                         .depth = 9},
                          &beta->signer, &error);
        g_assert_no_error(error);
        rooms_accept_leave(beta->rooms, room_id, leave->bytes, received, left);
        wait_for(left);
        g_assert_cmpint(first_verdict(left), ==, RECEIVED_ACCEPTED);
        g_assert_cmpint(test_database_count(beta->database, "SELECT count(*) FROM invite"), ==, 0);
    }
}

static void
test_history_has_negative_positions(void)
{
    g_autofree char *room_id = make_room(alpha, "@ada:alpha.example", "public");
    g_autofree char *old = must_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL,
                                     "{\"body\":\"before beta came\"}");
    g_autoptr(GBytes) bytes = event_bytes(alpha, room_id, old);
    g_autoptr(GPtrArray) events = g_ptr_array_new();
    g_autoptr(Wait) wait = wait_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = NULL;
    g_autoptr(StoredEvent) stored = NULL;

    join_from_outside(alpha, beta, room_id, "@ben:beta.example");
    g_ptr_array_add(events, bytes);
    rooms_receive_history(beta->rooms, room_id, events, received, wait);
    wait_for(wait);
    g_assert_cmpint(first_verdict(wait), ==, RECEIVED_ACCEPTED);
    connection = store_borrow(beta->database->pool, &error);
    g_assert_true(event_store_find(connection, room_id, old, &stored, &error));
    g_assert_cmpint(stored->position, <, 0);
    assert_flat_state_agrees(beta, room_id);
}

int
main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    alpha = house_new("alpha.example", 1);
    beta = house_new("beta.example", 2);
    g_test_add_func("/rooms/made-and-spoken-in", test_a_room_is_made_and_spoken_in);
    g_test_add_func("/rooms/equal-wishes", test_equal_wishes_make_different_rooms);
    g_test_add_func("/rooms/outsider-changes-nothing", test_who_is_not_in_the_room_changes_nothing);
    g_test_add_func("/rooms/all-or-nothing", test_a_proposal_is_all_or_nothing);
    g_test_add_func("/rooms/sizes", test_sizes_at_the_limit);
    g_test_add_func("/rooms/restart", test_a_restart_goes_on_where_it_stood);
    g_test_add_func("/rooms/many-at-once", test_many_at_once_make_one_chain);
    g_test_add_func("/rooms/batch-taken-back",
                    test_a_batch_that_is_taken_back_leaves_the_room_as_it_was);
    g_test_add_func("/rooms/redaction", test_a_redaction_takes_effect_for_those_who_may);
    g_test_add_func("/rooms/equal-state", test_an_equal_state_is_said_once);
    g_test_add_func("/rooms/join-from-outside", test_a_join_from_outside_and_messages_both_ways);
    g_test_add_func("/rooms/partition", test_both_change_the_same_while_apart);
    g_test_add_func("/rooms/missing", test_what_it_stands_on_is_asked_for);
    g_test_add_func("/rooms/at-state", test_a_gap_is_bridged_by_the_state_at_it);
    g_test_add_func("/rooms/false-state", test_a_false_state_takes_nothing_away);
    g_test_add_func("/rooms/bad-events", test_bad_events_are_dropped);
    g_test_add_func("/rooms/soft-fail", test_who_was_banned_meanwhile_is_soft_failed);
    g_test_add_func("/rooms/deepest", test_the_deepest_event_does_not_end_the_room);
    g_test_add_func("/rooms/foreign-auth", test_auth_events_of_another_room_or_kind_do_not_help);
    g_test_add_func("/rooms/ends-bounded", test_the_graphs_ends_are_bounded);
    g_test_add_func("/rooms/invite", test_an_invite_across_is_cosigned_and_taken_in);
    g_test_add_func("/rooms/bad-join-answer", test_a_join_answer_that_does_not_hold_leaves_nothing);
    g_test_add_func("/rooms/history", test_history_has_negative_positions);
    g_test_add_func("/rooms/every-version", test_rooms_of_every_version);
    g_test_add_func("/rooms/every-version-invites", test_invites_of_every_version);
    result = g_test_run();
    house_free(alpha);
    house_free(beta);
    return result;
}
