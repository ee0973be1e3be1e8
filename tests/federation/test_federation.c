/* Two agencies (and a stranger) in one process: rooms across, outages, repeats, drops. */
#include "tests/support/partner_scene.h"

#include <string.h>

#include "identity/clock.h"
#include "identity/refusal.h"

#define MESSAGE "m.room.message"
#define HELLO "{\"msgtype\":\"m.text\",\"body\":\"hello\"}"

static char *
send_hello(House *house, const char *room_id, const char *user_id)
{
    g_autoptr(GError) error = NULL;
    char *event_id = house_send(house, room_id, user_id, MESSAGE, NULL, HELLO, &error);
    g_assert_no_error(error);
    return event_id;
}

static void
test_messages_cross_both_ways(PartnerScene *scene, gconstpointer data)
{
    g_autofree char *room_id = partner_scene_room(scene);
    g_autofree char *there = send_hello(scene->alpha, room_id, ANNA);
    house_await_event(scene->beta, there);
    g_autofree char *back = send_hello(scene->beta, room_id, BERTA);
    house_await_event(scene->alpha, back);

    g_autoptr(GBytes) left = NULL;
    g_autoptr(GBytes) right = NULL;
    g_assert_true(rooms_current_root(scene->alpha->server.rooms, room_id, &left, NULL));
    g_assert_true(rooms_current_root(scene->beta->server.rooms, room_id, &right, NULL));
    g_assert_nonnull(left);
    g_assert_nonnull(right);
    house_await_count(scene->alpha, "SELECT count(*) FROM delivery_queue", 0);
    house_await_count(scene->beta, "SELECT count(*) FROM delivery_queue", 0);
    house_await_count(scene->alpha, "SELECT count(*) FROM delivery_transaction", 0);
}

static void
test_an_invite_is_cosigned_and_turned_down(PartnerScene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *room_id = house_make_room(scene->alpha, ANNA, "invite");

    /* nobody of that name there yet */
    g_assert_false(house_invite(scene->alpha, room_id, ANNA, BERTA, &error));
    g_assert_error(error, REFUSAL, 404);
    g_clear_error(&error);
    g_free(test_database_query(scene->beta->database,
                               "INSERT INTO account (user_id, created_ms) VALUES ('" BERTA
                               "', 1)"));
    house_invite(scene->alpha, room_id, ANNA, BERTA, &error);
    g_assert_no_error(error);
    house_await_count(scene->beta, "SELECT count(*) FROM invite", 1);
    house_await_count(
        scene->alpha,
        "SELECT count(*) FROM membership WHERE user_id = '" BERTA "' AND membership = 'invite'", 1);
    house_leave_room(scene->beta, room_id, BERTA, "alpha.example", &error);
    g_assert_no_error(error);
    house_await_count(scene->beta, "SELECT count(*) FROM invite", 0);
    house_await_count(
        scene->alpha,
        "SELECT count(*) FROM membership WHERE user_id = '" BERTA "' AND membership = 'leave'", 1);
    /* and without an invite there is no way in */
    g_assert_false(house_join(scene->beta, room_id, BERTA, "alpha.example", &error));
    g_assert_error(error, REFUSAL, 403);
}

static void
test_an_hour_away_then_every_event_once(PartnerScene *scene, gconstpointer data)
{
    g_autofree char *room_id = partner_scene_room(scene);
    g_autoptr(GPtrArray) sent = g_ptr_array_new_with_free_func(g_free);
    house_leave(scene->beta);
    for (guint i = 0; i < 120; i++)
        g_ptr_array_add(sent, send_hello(scene->alpha, room_id, ANNA));
    house_await_count(scene->alpha, "SELECT count(*) FROM delivery_transaction", 1);
    g_autofree char *first =
        test_database_query(scene->alpha->database, "SELECT txn_id FROM delivery_transaction");
    clock_shift_for_tests(3600 * 1000);
    house_return(scene->beta);
    clock_shift_for_tests(2 * 3600 * 1000); /* the longest pause is over, wherever it began */
    house_await_count(scene->alpha, "SELECT count(*) FROM delivery_queue", 0);
    for (guint i = 0; i < sent->len; i++)
        g_assert_cmpint(house_count_event(scene->beta, sent->pdata[i]), ==, 1);
    /* what was stored before the outage is what was sent after it */
    g_autofree char *arrived =
        g_strdup_printf("SELECT count(*) FROM inbound_transaction WHERE txn_id = '%s'", first);
    g_assert_cmpint(test_database_count(scene->beta->database, arrived), ==, 1);
    /* in order */
    g_autofree char *order = test_database_query(
        scene->beta->database,
        "SELECT string_agg(ref, ',' ORDER BY position) FROM log WHERE ref IN (SELECT event_id FROM "
        "event WHERE type = 'm.room.message')");
    g_ptr_array_add(sent, NULL);
    g_autofree char *expected = g_strjoinv(",", (char **)sent->pdata);
    g_assert_cmpstr(order, ==, expected);
}

static void
test_a_call_from_the_partner_ends_the_pause(PartnerScene *scene, gconstpointer data)
{
    g_autofree char *room_id = partner_scene_room(scene);
    delivery_set_back_off(scene->alpha->server.delivery, 3000 * 1000, 3600 * 1000);
    house_leave(scene->beta);
    g_autofree char *waiting = send_hello(scene->alpha, room_id, ANNA);
    house_await_count(scene->alpha, "SELECT count(*) FROM delivery_transaction", 1);
    house_return(scene->beta);
    g_autofree char *word = send_hello(scene->beta, room_id, BERTA);
    house_await_event(scene->alpha, word);
    house_await_event(scene->beta, waiting);
}

static void
test_a_repeated_transaction_gets_the_same_answer(PartnerScene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *room_id = partner_scene_room(scene);
    house_leave(scene->alpha); /* so that delivery cannot come before us */
    g_autofree char *event_id = send_hello(scene->beta, room_id, BERTA);
    g_autofree char *pdu = test_database_query(
        scene->beta->database,
        "SELECT convert_from(json, 'UTF8') FROM event WHERE type = 'm.room.message'");
    house_return(scene->alpha);
    g_autofree char *good =
        g_strdup_printf("{\"origin\":\"beta.example\",\"origin_server_ts\":1,\"pdus\":[%s]}", pdu);
    g_autoptr(GBytes) once = NULL;
    g_autoptr(GBytes) twice = NULL;
    house_request(scene->beta, scene->alpha, "PUT", "/_matrix/federation/v1/send/t1", good, &once,
                  &error);
    g_assert_no_error(error);
    house_request(scene->beta, scene->alpha, "PUT", "/_matrix/federation/v1/send/t1", good, &twice,
                  &error);
    g_assert_no_error(error);
    g_assert_true(g_bytes_equal(once, twice));
    g_autofree char *expected = g_strdup_printf("{\"pdus\":{\"%s\":{}}}", event_id);
    g_assert_cmpmem(g_bytes_get_data(once, NULL), g_bytes_get_size(once), expected,
                    strlen(expected));
    g_assert_cmpint(house_count_event(scene->alpha, event_id), ==, 1);

    /* One bad event does not fail its neighbour, and is not stored. */
    g_autofree char *second = send_hello(scene->beta, room_id, BERTA);
    g_autofree char *honest = NULL;
    {
        g_autofree char *sql = g_strdup_printf(
            "SELECT convert_from(json, 'UTF8') FROM event WHERE event_id = '%s'", second);
        honest = test_database_query(scene->beta->database, sql);
    }
    g_autoptr(GString) forged = g_string_new(pdu);
    g_string_replace(forged, "\"depth\":", "\"depth\":1", 1); /* another event, the old signature */
    g_autofree char *mixed =
        g_strdup_printf("{\"origin\":\"beta.example\",\"origin_server_ts\":1,\"pdus\":[%s,%s]}",
                        forged->str, honest);
    g_autoptr(GBytes) answer = NULL;
    house_request(scene->beta, scene->alpha, "PUT", "/_matrix/federation/v1/send/t2", mixed,
                  &answer, &error);
    g_assert_no_error(error);
    g_autofree char *text = g_strndup(g_bytes_get_data(answer, NULL), g_bytes_get_size(answer));
    if (strstr(text, "\"error\":") == NULL)
        g_error("%s", text);
    house_await_event(scene->alpha, second);
    g_assert_cmpint(test_database_count(scene->alpha->database,
                                        "SELECT count(*) FROM event WHERE type = 'm.room.message'"),
                    ==, 2);
}

static void
test_gaps_are_filled(PartnerScene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *room_id = partner_scene_room(scene);
    house_leave(scene->alpha);
    g_autoptr(GPtrArray) sent = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < 8; i++)
        g_ptr_array_add(sent, send_hello(scene->beta, room_id, BERTA));
    g_autofree char *sql =
        g_strdup_printf("SELECT convert_from(json, 'UTF8') FROM event WHERE event_id = '%s'",
                        (const char *)sent->pdata[7]);
    g_autofree char *last = test_database_query(scene->beta->database, sql);
    /* beta's own delivery must not be what fills the gap */
    delivery_stop(scene->beta->server.delivery);
    house_return(scene->alpha);
    g_autofree char *body =
        g_strdup_printf("{\"origin\":\"beta.example\",\"origin_server_ts\":1,\"pdus\":[%s]}", last);
    house_request(scene->beta, scene->alpha, "PUT", "/_matrix/federation/v1/send/gap", body, NULL,
                  &error);
    g_assert_no_error(error);
    for (guint i = 0; i < sent->len; i++)
        g_assert_cmpint(house_count_event(scene->alpha, sent->pdata[i]), ==, 1);
}

/* More events than get_missing_events tells: the state at the gap stands in for them. */
static void
test_wide_gaps_are_bridged_by_state(PartnerScene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *room_id = partner_scene_room(scene);
    house_leave(scene->alpha);
    g_autofree char *topic =
        house_send(scene->beta, room_id, BERTA, "m.room.topic", "", "{\"topic\":\"lost\"}", &error);
    g_assert_no_error(error);
    g_autofree char *last_id = NULL;
    for (guint i = 0; i < 60; i++) {
        g_free(last_id);
        last_id = send_hello(scene->beta, room_id, BERTA);
    }
    g_autofree char *sql = g_strdup_printf(
        "SELECT convert_from(json, 'UTF8') FROM event WHERE event_id = '%s'", last_id);
    g_autofree char *last = test_database_query(scene->beta->database, sql);
    delivery_stop(scene->beta->server.delivery);
    house_return(scene->alpha);
    g_autofree char *body =
        g_strdup_printf("{\"origin\":\"beta.example\",\"origin_server_ts\":1,\"pdus\":[%s]}", last);
    g_autoptr(GBytes) answer = NULL;
    house_request(scene->beta, scene->alpha, "PUT", "/_matrix/federation/v1/send/wide", body,
                  &answer, &error);
    g_assert_no_error(error);
    g_autofree char *expected = g_strdup_printf("{\"pdus\":{\"%s\":{}}}", last_id);
    g_assert_cmpmem(g_bytes_get_data(answer, NULL), g_bytes_get_size(answer), expected,
                    strlen(expected));
    g_assert_cmpint(house_count_event(scene->alpha, last_id), ==, 1);
    /* the topic, never told as an event of the timeline, is in the state all the same */
    g_autoptr(GBytes) root = NULL;
    g_autoptr(Pdu) now = NULL;
    g_assert_true(rooms_current_root(scene->alpha->server.rooms, room_id, &root, NULL));
    g_assert_true(rooms_state_find(scene->alpha->server.rooms, room_id, root, "m.room.topic", "",
                                   &now, NULL));
    g_assert_nonnull(now);
    g_assert_cmpstr(now->event_id, ==, topic);
}

static char *
topic_of(House *house, const char *room_id)
{
    g_autoptr(GBytes) root = NULL;
    g_autoptr(Pdu) topic = NULL;
    g_assert_true(rooms_current_root(house->server.rooms, room_id, &root, NULL));
    g_assert_true(
        rooms_state_find(house->server.rooms, room_id, root, "m.room.topic", "", &topic, NULL));
    return topic != NULL ? g_strdup(topic->event_id) : NULL;
}

static void
test_both_change_the_same_state_apart(PartnerScene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *room_id = partner_scene_room(scene);
    delivery_set_back_off(scene->alpha->server.delivery, 100, 100);
    delivery_set_back_off(scene->beta->server.delivery, 100, 100);
    house_leave(scene->alpha);
    house_leave(scene->beta);
    g_autofree char *left = house_send(scene->alpha, room_id, ANNA, "m.room.topic", "",
                                       "{\"topic\":\"of alpha\"}", &error);
    g_assert_no_error(error);
    g_autofree char *right = house_send(scene->beta, room_id, BERTA, "m.room.topic", "",
                                        "{\"topic\":\"of beta\"}", &error);
    g_assert_no_error(error);
    g_autofree char *left_topic = topic_of(scene->alpha, room_id);
    g_autofree char *right_topic = topic_of(scene->beta, room_id);
    g_assert_cmpstr(left_topic, ==, left);
    g_assert_cmpstr(right_topic, ==, right);
    house_return(scene->alpha);
    house_return(scene->beta);
    house_await_event(scene->alpha, right);
    house_await_event(scene->beta, left);
    g_autofree char *left_now = topic_of(scene->alpha, room_id);
    g_autofree char *right_now = topic_of(scene->beta, room_id);
    g_assert_cmpstr(left_now, ==, right_now);
}

/* Beta's last member leaves while alpha cannot be reached, and comes back by alpha at once: her
 * join goes on from her leave, though alpha would not have been told of it for an hour. */
static void
test_who_comes_back_goes_on_from_what_was_before(PartnerScene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *room_id = partner_scene_room(scene);
    delivery_set_back_off(scene->beta->server.delivery, 3000 * 1000, 3600 * 1000);
    house_leave(scene->alpha);
    g_autofree char *leave = house_send(scene->beta, room_id, BERTA, "m.room.member", BERTA,
                                        "{\"membership\":\"leave\"}", &error);
    g_assert_no_error(error);
    /* the attempt has failed: the next one is due in an hour */
    g_assert_false(house_join(scene->beta, room_id, BERTA, "alpha.example", &error));
    g_clear_error(&error);
    house_return(scene->alpha);
    house_join(scene->beta, room_id, BERTA, "alpha.example", &error);
    g_assert_no_error(error);
    g_autofree char *sql =
        g_strdup_printf("SELECT count(*) FROM event WHERE prev_event_ids @> ARRAY['%s'] AND "
                        "convert_from(json, 'UTF8') LIKE '%%\"membership\":\"join\"%%'",
                        leave);
    g_assert_cmpint(test_database_count(scene->alpha->database, sql), ==, 1);
    g_assert_cmpint(test_database_count(scene->beta->database, sql), ==, 1);
}

static void
went_back(const char *room_id, gint64 position, const GError *error, gpointer data)
{
    g_assert_no_error(error);
    g_atomic_int_set((gint *)data, 1);
}

static void
test_history_from_before_the_join(PartnerScene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    gint done = 0;
    g_autofree char *room_id = house_make_room(scene->alpha, ANNA, "public");
    g_autofree char *early = send_hello(scene->alpha, room_id, ANNA);
    g_autofree char *secret = send_hello(scene->alpha, room_id, ANNA);
    g_autofree char *redaction =
        g_strdup_printf("{\"redacts\":\"%s\",\"reason\":\"slip\"}", secret);
    g_free(house_send(scene->alpha, room_id, ANNA, "m.room.redaction", NULL, redaction, &error));
    g_assert_no_error(error);
    house_join(scene->beta, room_id, BERTA, "alpha.example", &error);
    g_assert_no_error(error);
    g_assert_cmpint(house_count_event(scene->beta, early), ==, 0);
    outgoing_backfill(scene->beta->server.outgoing, room_id, 100, went_back, &done);
    house_await_event(scene->beta, early);
    g_autofree char *sql = g_strdup_printf(
        "SELECT count(*) FROM event WHERE event_id = '%s' AND convert_from(json, 'UTF8') LIKE "
        "'%%hello%%'",
        secret);
    house_await_event(scene->beta, secret);
    g_assert_cmpint(test_database_count(scene->beta->database, sql), ==,
                    0); /* redacted on its way */
    while (!g_atomic_int_get(&done))
        g_usleep(1000);
}

/* History that was fetched is passed on only while the room shares what was before: nobody here
 * knows who was in the room then. */
static void
test_fetched_history_is_passed_on_while_it_is_shared(PartnerScene *scene, gconstpointer data)
{
    const RawRequest raw = {.as = scene->alpha};
    g_autoptr(GError) error = NULL;
    gint done = 0;
    g_autofree char *room_id = house_make_room(scene->alpha, ANNA, "public");
    g_autofree char *early = send_hello(scene->alpha, room_id, ANNA);
    house_join(scene->beta, room_id, BERTA, "alpha.example", &error);
    g_assert_no_error(error);
    outgoing_backfill(scene->beta->server.outgoing, room_id, 100, went_back, &done);
    house_await_event(scene->beta, early);
    while (!g_atomic_int_get(&done))
        g_usleep(1000);
    static const struct {
        const char *visibility;
        gboolean shown;
    } kinds[] = {{"shared", TRUE}, {"joined", FALSE}, {"invited", FALSE}, {"world_readable", TRUE}};
    g_autofree char *one = partner_client_target("/_matrix/federation/v1/event/%s", early);
    g_autofree char *back =
        partner_client_target("/_matrix/federation/v1/backfill/%s?limit=10&v=%s", room_id, early);
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *content =
            g_strdup_printf("{\"history_visibility\":\"%s\"}", kinds[i].visibility);
        g_autofree char *changed = house_send(scene->alpha, room_id, ANNA,
                                              "m.room.history_visibility", "", content, &error);
        g_assert_no_error(error);
        house_await_event(scene->beta, changed);
        g_autofree char *event = NULL;
        g_autofree char *page = NULL;
        g_assert_cmpuint(house_raw(scene->beta, &raw, "GET", one, NULL, &event), ==,
                         kinds[i].shown ? 200 : 404);
        g_assert_cmpuint(house_raw(scene->beta, &raw, "GET", back, NULL, &page), ==, 200);
        g_assert_true((strstr(page, "hello") != NULL) == kinds[i].shown);
    }
}

static void
test_a_dropped_partner_is_cut(PartnerScene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *room_id = partner_scene_room(scene);
    house_leave(scene->beta);
    g_autofree char *waiting = send_hello(scene->alpha, room_id, ANNA);
    house_await_count(scene->alpha, "SELECT count(*) FROM delivery_queue", 1);
    house_return(scene->beta);
    /* by another process than the one that serves, as `chancery partner import` does */
    g_autoptr(GBytes) file =
        house_sign_list(scene->alpha, 2, cJSON_CreateArray(), "officer", &error);
    g_assert_no_error(error);
    house_import_elsewhere(scene->alpha, file);
    RawRequest raw = {.as = scene->beta};
    gint64 begun = g_get_monotonic_time();
    while (house_raw(scene->alpha, &raw, "GET", "/_matrix/key/v2/server", NULL, NULL) != 403)
        g_assert_cmpint(g_get_monotonic_time() - begun, <,
                        5 * G_USEC_PER_SEC); /* the stated bound */
    g_test_message("figure: a dropped partner was cut after %.1f s",
                   (double)(g_get_monotonic_time() - begun) / G_USEC_PER_SEC);
    g_assert_false(house_request(scene->alpha, scene->beta, "GET", "/_matrix/federation/v1/version",
                                 NULL, NULL, &error));
    g_assert_error(error, REFUSAL, 403);
    g_clear_error(&error);
    /* what waited for it goes, and nothing new is queued */
    house_await_count(scene->alpha, "SELECT count(*) FROM delivery_queue", 0);
    house_await_count(scene->alpha, "SELECT count(*) FROM delivery_transaction", 0);
    g_autofree char *after = send_hello(scene->alpha, room_id, ANNA);
    g_assert_cmpint(
        test_database_count(scene->alpha->database, "SELECT count(*) FROM delivery_queue"), ==, 0);
    /* its old events stay what they were: the room can still be read and joined by state */
    g_autoptr(GBytes) root = NULL;
    g_assert_true(rooms_current_root(scene->alpha->server.rooms, room_id, &root, &error));
    g_assert_nonnull(root);
    g_assert_cmpint(house_count_event(scene->beta, waiting), <=, 1);
}

int
main(int argc, char **argv)
{
    static const PartnerTest tests[] = {
        {"/federation/both-ways", test_messages_cross_both_ways},
        {"/federation/invite", test_an_invite_is_cosigned_and_turned_down},
        {"/federation/an-hour-away", test_an_hour_away_then_every_event_once},
        {"/federation/woken", test_a_call_from_the_partner_ends_the_pause},
        {"/federation/repeated", test_a_repeated_transaction_gets_the_same_answer},
        {"/federation/gaps", test_gaps_are_filled},
        {"/federation/wide-gaps", test_wide_gaps_are_bridged_by_state},
        {"/federation/apart", test_both_change_the_same_state_apart},
        {"/federation/back-again", test_who_comes_back_goes_on_from_what_was_before},
        {"/federation/history", test_history_from_before_the_join},
        {"/federation/history-passed-on", test_fetched_history_is_passed_on_while_it_is_shared},
        {"/federation/dropped", test_a_dropped_partner_is_cut},
        {NULL},
    };
    return partner_scene_run_tests(argc, argv, partner_scene_set_up, tests);
}
