#include "tests/support/engine.h"

#include <string.h>

#include "identity/refusal.h"
#include "storage/membership_store.h"
#include "storage/state_store.h"
#include "tests/support/room_events.h"

/* ---- the scene ---- */

/* Those that live: each has the others' keys. */
static GPtrArray *engines;

static gboolean
find_key(const char *server_name, const char *key_id, gint64 at_ms, guint8 ret_key[32],
         gpointer data)
{
    for (guint i = 0; i < engines->len; i++) {
        const Engine *engine = g_ptr_array_index(engines, i);

        if (g_str_equal(engine->name, server_name) &&
            g_str_equal(server_key_id(engine->key), key_id)) {
            memcpy(ret_key, server_key_public(engine->key), PUBLIC_KEY_BYTES);
            return TRUE;
        }
    }
    return FALSE;
}

static void
deliver(LaneBatch *batch, const char *room_id, const char *event_id, GBytes *pdu,
        const char *const *servers, gpointer data)
{
    Engine *engine = data;

    g_ptr_array_add(engine->outbox, g_bytes_ref(pdu));
}

void
engine_open(Engine *engine)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(engine->database->pool, &error);
    LogHead head;

    g_assert_no_error(error);
    g_assert_true(log_head_read(connection, &head, &error));
    engine->ring = log_ring_new(1024 * 1024, head);
    engine->lane = lane_new(engine->database->pool, engine->ring, 20000, &error);
    g_assert_no_error(error);
    engine->rooms = rooms_new(engine->database->pool, engine->lane, engine->name, engine->key);
    rooms_set_key_finder(engine->rooms, find_key, NULL);
    rooms_set_delivery(engine->rooms, deliver, engine);
}

void
engine_close(Engine *engine)
{
    lane_stop(engine->lane, 5000);
    rooms_free(engine->rooms);
    lane_free(engine->lane);
    log_ring_free(engine->ring);
}

Engine *
engine_new(const char *name, guint8 seed_byte)
{
    Engine *engine = g_new0(Engine, 1);
    guint8 seed[32];

    memset(seed, seed_byte, sizeof seed);
    engine->name = name;
    engine->database = test_database_new(6);
    engine->key = server_key_new_for_tests("ed25519:1", seed);
    engine->signer = pdu_signer(name, engine->key);
    engine->outbox = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    engine_open(engine);
    if (engines == NULL)
        engines = g_ptr_array_new();
    g_ptr_array_add(engines, engine);
    return engine;
}

void
engine_free(Engine *engine)
{
    g_ptr_array_remove(engines, engine);
    engine_close(engine);
    g_ptr_array_unref(engine->outbox);
    server_key_free(engine->key);
    test_database_free(engine->database);
    g_free(engine);
}

/* ---- waiting for the lane ---- */

EngineWait *
engine_wait_new(void)
{
    EngineWait *wait = g_new0(EngineWait, 1);

    g_mutex_init(&wait->lock);
    g_cond_init(&wait->bell);
    wait->event_ids = g_ptr_array_new_with_free_func(g_free);
    wait->verdicts = g_ptr_array_new();
    return wait;
}

void
engine_wait_free(EngineWait *wait)
{
    g_clear_error(&wait->error);
    g_free(wait->room_id);
    g_ptr_array_unref(wait->event_ids);
    g_ptr_array_unref(wait->verdicts);
    pdu_unref(wait->pdu);
    g_free(wait);
}

void
engine_wait_ring(EngineWait *wait, gint64 position, const GError *error)
{
    g_mutex_lock(&wait->lock);
    wait->position = position;
    wait->error = error != NULL ? g_error_copy(error) : NULL;
    wait->done = TRUE;
    g_cond_signal(&wait->bell);
    g_mutex_unlock(&wait->lock);
}

void
engine_wait(EngineWait *wait)
{
    g_mutex_lock(&wait->lock);
    while (!wait->done)
        g_cond_wait(&wait->bell, &wait->lock);
    g_mutex_unlock(&wait->lock);
}

void
engine_proposed(const RoomsOutcome *outcome, const GError *error, gpointer data)
{
    EngineWait *wait = data;

    if (outcome != NULL) {
        wait->room_id = g_strdup(outcome->room_id);
        for (guint i = 0; i < outcome->event_ids->len; i++)
            g_ptr_array_add(wait->event_ids, g_strdup(g_ptr_array_index(outcome->event_ids, i)));
    }
    engine_wait_ring(wait, outcome != NULL ? outcome->position : 0, error);
}

void
engine_built(const Pdu *pdu, const GError *error, gpointer data)
{
    EngineWait *wait = data;

    wait->pdu = pdu != NULL ? pdu_ref(pdu) : NULL;
    engine_wait_ring(wait, 0, error);
}

void
engine_received(GPtrArray *results, gint64 position, const GError *error, gpointer data)
{
    EngineWait *wait = data;

    for (guint i = 0; results != NULL && i < results->len; i++) {
        const Received *one = g_ptr_array_index(results, i);

        if (one->reason != NULL)
            g_test_message("verdict %d: %s", one->verdict, one->reason);
        g_ptr_array_add(wait->verdicts, GUINT_TO_POINTER(one->verdict));
        wait->missing_prev += one->missing_prev != NULL ? one->missing_prev->len : 0;
        wait->missing_auth += one->missing_auth != NULL ? one->missing_auth->len : 0;
    }
    engine_wait_ring(wait, position, error);
}

ReceivedVerdict
engine_verdict(const EngineWait *wait)
{
    g_assert_no_error(wait->error);
    g_assert_cmpuint(wait->verdicts->len, >, 0);
    return GPOINTER_TO_UINT(g_ptr_array_index(wait->verdicts, 0));
}

/* ---- what people do ---- */

EngineWait *
engine_propose(Engine *engine, RoomsProposal *proposal)
{
    EngineWait *wait = engine_wait_new();

    rooms_propose(engine->rooms, proposal, engine_proposed, wait);
    engine_wait(wait);
    return wait;
}

/* A client's body, which may be larger than an event. */
static cJSON *
body(const char *text)
{
    g_autoptr(GError) error = NULL;
    cJSON *value = json_parse(text, strlen(text), &json_limits_request, &error);

    g_assert_no_error(error);
    return value;
}

static EngineWait *
propose_one(Engine *engine, const char *room_id, const char *sender, const char *type,
            const char *state_key, const char *content)
{
    RoomsProposal *proposal = rooms_proposal_new(room_id, sender);

    rooms_proposal_add(proposal, type, state_key, body(content));
    return engine_propose(engine, proposal);
}

char *
engine_send(Engine *engine, const char *room_id, const char *sender, const char *type,
            const char *state_key, const char *content)
{
    g_autoptr(EngineWait) wait = propose_one(engine, room_id, sender, type, state_key, content);

    g_assert_no_error(wait->error);
    g_assert_cmpuint(wait->event_ids->len, ==, 1);
    return g_strdup(g_ptr_array_index(wait->event_ids, 0));
}

void
engine_assert_refused(Engine *engine, const char *room_id, const char *sender, const char *type,
                      const char *state_key, const char *content, guint status)
{
    g_autoptr(EngineWait) wait = propose_one(engine, room_id, sender, type, state_key, content);

    g_assert_error(wait->error, REFUSAL, (int)status);
}

char *
engine_make_room_of(Engine *engine, const RoomVersion *version, const char *creator,
                    const char *join_rule)
{
    RoomsProposal *proposal = rooms_proposal_new(NULL, creator);
    g_autofree char *rule = g_strdup_printf("{\"join_rule\":\"%s\"}", join_rule);
    g_autofree char *create =
        g_strdup_printf("{\"creator\":\"%s\",\"room_version\":\"%s\"}", creator, version->id);
    g_autofree char *levels = version->creators_infinite
                                  ? g_strdup("{\"users\":{}}")
                                  : g_strdup_printf("{\"users\":{\"%s\":100}}", creator);
    g_autoptr(EngineWait) wait = NULL;

    rooms_proposal_add(proposal, "m.room.create", "", test_json(create));
    rooms_proposal_add(proposal, "m.room.member", creator, test_json("{\"membership\":\"join\"}"));
    rooms_proposal_add(proposal, "m.room.power_levels", "", test_json(levels));
    rooms_proposal_add(proposal, "m.room.join_rules", "", test_json(rule));
    wait = engine_propose(engine, proposal);
    g_assert_no_error(wait->error);
    g_assert_cmpuint(wait->event_ids->len, ==, 4);
    g_assert_cmpint(wait->room_id[0], ==, '!');
    return g_strdup(wait->room_id);
}

char *
engine_make_room(Engine *engine, const char *creator, const char *join_rule)
{
    return engine_make_room_of(engine, room_version_default(), creator, join_rule);
}

char *
engine_membership(Engine *engine, const char *room_id, const char *user_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(engine->database->pool, &error);
    g_autoptr(StoredMembership) row = NULL;

    g_assert_no_error(error);
    g_assert_true(membership_store_find(connection, room_id, user_id, &row, &error));
    return row != NULL ? g_strdup(row->membership) : NULL;
}

char *
engine_state_event_id(Engine *engine, const char *room_id, const char *type, const char *state_key)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) root = NULL;
    g_autoptr(Pdu) pdu = NULL;

    g_assert_true(rooms_current_root(engine->rooms, room_id, &root, &error));
    g_assert_nonnull(root);
    g_assert_true(rooms_state_find(engine->rooms, room_id, root, type, state_key, &pdu, &error));
    return pdu != NULL ? g_strdup(pdu->event_id) : NULL;
}

GBytes *
engine_event_bytes(Engine *engine, const char *room_id, const char *event_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    g_assert_true(rooms_event(engine->rooms, room_id, event_id, &event, &error));
    g_assert_nonnull(event);
    return g_bytes_ref(event->pdu->bytes);
}

StoredEventStatus
engine_status(Engine *engine, const char *room_id, const char *event_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) event = NULL;

    g_assert_true(rooms_event(engine->rooms, room_id, event_id, &event, &error));
    return event != NULL ? event->status : 0;
}

void
engine_assert_flat_state(Engine *engine, const char *room_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) root = NULL;
    g_autoptr(GPtrArray) pdus = NULL;
    g_autoptr(GPtrArray) rows = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(engine->database->pool, &error);

    g_assert_true(rooms_current_root(engine->rooms, room_id, &root, &error));
    pdus = rooms_state_load(engine->rooms, room_id, root, &error);
    g_assert_no_error(error);
    rows = state_store_rows(connection, room_id, NULL, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(rows->len, ==, pdus->len);
    for (guint i = 0; i < rows->len; i++) {
        const StateRow *row = g_ptr_array_index(rows, i);
        g_autoptr(Pdu) pdu = NULL;

        g_assert_true(rooms_state_find(engine->rooms, room_id, root, row->type, row->state_key,
                                       &pdu, &error));
        g_assert_nonnull(pdu);
        g_assert_cmpstr(pdu->event_id, ==, row->event_id);
    }
}

EngineWait *
engine_receive_from(Engine *engine, const char *origin, const char *room_id, GBytes *event)
{
    g_autoptr(GPtrArray) events = g_ptr_array_new();
    EngineWait *wait = engine_wait_new();

    g_ptr_array_add(events, event);
    rooms_receive(engine->rooms, room_id, origin, events, engine_received, wait);
    engine_wait(wait);
    return wait;
}

ReceivedVerdict
engine_receive(Engine *engine, const char *room_id, GBytes *event)
{
    g_autoptr(EngineWait) wait = engine_receive_from(engine, "elsewhere.example", room_id, event);

    return engine_verdict(wait);
}

void
engine_deliver_all(Engine *from, Engine *to, const char *room_id)
{
    for (guint i = 0; i < from->outbox->len; i++) {
        ReceivedVerdict verdict = engine_receive(to, room_id, g_ptr_array_index(from->outbox, i));

        g_assert_true(verdict == RECEIVED_ACCEPTED || verdict == RECEIVED_KNOWN ||
                      verdict == RECEIVED_SOFT_FAILED);
    }
    g_ptr_array_set_size(from->outbox, 0);
}

GPtrArray *
engine_bytes_of(GPtrArray *pdus)
{
    GPtrArray *bytes = g_ptr_array_new();

    for (guint i = 0; i < pdus->len; i++)
        g_ptr_array_add(bytes, ((Pdu *)g_ptr_array_index(pdus, i))->bytes);
    return bytes;
}

Pdu *
engine_sign_template(Engine *engine, const char *version_id, GBytes *template)
{
    const RoomVersion *version = room_version_find(version_id);
    g_autoptr(GError) error = NULL;
    gsize length = 0;
    const char *text = g_bytes_get_data(template, &length);
    g_autoptr(cJSON) value = json_parse(text, length, &json_limits_event_lax, &error);
    Pdu *pdu;

    g_assert_no_error(error);
    if (version->event_id_format == EVENT_ID_CHOSEN) {
        g_autofree char *event_id = rooms_new_id(engine->rooms, '$');

        cJSON_AddItemToObject(value, "event_id", cJSON_CreateString(event_id));
    }
    pdu = pdu_build_from_value(version, value, &engine->signer, &error);
    g_assert_no_error(error);
    return pdu;
}

void
engine_join(Engine *resident, Engine *joiner, const char *room_id, const char *user_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) template = NULL;
    g_autofree char *version = NULL;
    g_autoptr(Pdu) join = NULL;
    g_autoptr(EngineWait) sent = engine_wait_new();
    g_autoptr(EngineWait) taken = engine_wait_new();
    g_autoptr(GPtrArray) state = NULL, chain = NULL, state_bytes = NULL, chain_bytes = NULL;

    g_assert_true(
        rooms_template(resident->rooms, room_id, user_id, "join", &template, &version, &error));
    join = engine_sign_template(joiner, version, template);
    rooms_receive_own(resident->rooms, room_id, join->bytes, engine_received, sent);
    engine_wait(sent);
    g_assert_cmpint(engine_verdict(sent), ==, RECEIVED_ACCEPTED);
    g_assert_true(
        rooms_state_before(resident->rooms, room_id, join->event_id, &state, &chain, &error));
    state_bytes = engine_bytes_of(state);
    chain_bytes = engine_bytes_of(chain);
    rooms_accept_join(joiner->rooms, room_id, join->bytes, state_bytes, chain_bytes,
                      engine_received, taken);
    engine_wait(taken);
    g_assert_cmpint(engine_verdict(taken), ==, RECEIVED_ACCEPTED);
    g_ptr_array_set_size(resident->outbox, 0);
}
