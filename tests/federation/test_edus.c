/* What partners tell beside events: a server speaks for its own users, in rooms that they are in,
 * or not at all. */
#include "tests/support/partner_scene.h"

#include <string.h>

#include "server/client/typing.h"

typedef struct {
    PartnerScene scene;
    char *room_id;   /* both are in */
    char *closed_id; /* Anna alone */
    char *event_id;
    guint sent;
} Fixture;

static void
set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    partner_scene_set_up(&fixture->scene, data);
    fixture->room_id = partner_scene_room(&fixture->scene);
    fixture->closed_id = house_make_room(fixture->scene.alpha, ANNA, "invite");
    fixture->event_id = house_send(fixture->scene.alpha, fixture->room_id, ANNA, "m.room.message",
                                   NULL, "{\"body\":\"x\"}", &error);
    g_assert_no_error(error);
    g_free(test_database_query(fixture->scene.alpha->database, "INSERT INTO device VALUES ('" ANNA
                                                               "', 'PHONE', '', 1, 1, '', '')"));
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    partner_scene_tear_down(&fixture->scene, data);
    g_free(fixture->room_id);
    g_free(fixture->closed_id);
    g_free(fixture->event_id);
}

/* Beta's server says this; it is always answered 200, for EDUs are passed over in silence. */
static void
say(Fixture *fixture, const char *type, const char *content)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *target = g_strdup_printf("/_matrix/federation/v1/send/edu%u", fixture->sent++);
    g_autofree char *body = g_strdup_printf(
        "{\"pdus\":[],\"edus\":[{\"edu_type\":\"%s\",\"content\":%s}]}", type, content);
    house_request(fixture->scene.beta, fixture->scene.alpha, "PUT", target, body, NULL, &error);
    g_assert_no_error(error);
}

static gboolean
is_typing(Fixture *fixture, const char *room_id, const char *user_id)
{
    g_autoptr(GString) event = g_string_new(NULL);
    typing_append(fixture->scene.alpha->server.typing, room_id, event);
    return strstr(event->str, user_id) != NULL;
}

static void
say_typing(Fixture *fixture, const char *room_id, const char *user_id)
{
    g_autofree char *content = g_strdup_printf(
        "{\"room_id\":\"%s\",\"user_id\":\"%s\",\"typing\":true}", room_id, user_id);
    say(fixture, "m.typing", content);
}

static void
shut_out(Fixture *fixture)
{
    g_autoptr(GError) error = NULL;
    g_free(house_send(fixture->scene.alpha, fixture->room_id, ANNA, "m.room.server_acl", "",
                      "{\"allow\":[\"*\"],\"deny\":[\"beta.*\"]}", &error));
    g_assert_no_error(error);
}

static void
test_typing(Fixture *fixture, gconstpointer data)
{
    say_typing(fixture, fixture->room_id, ANNA);
    g_assert_false(is_typing(fixture, fixture->room_id, ANNA));
    say_typing(fixture, fixture->closed_id, BERTA);
    g_assert_false(is_typing(fixture, fixture->closed_id, BERTA));
    say_typing(fixture, fixture->room_id, "@stranger:beta.example");
    g_assert_false(is_typing(fixture, fixture->room_id, "@stranger:beta.example"));
    say(fixture, "m.typing", "{}");
    say(fixture, "m.typing", "{\"room_id\":7,\"user_id\":[],\"typing\":\"yes\"}");
    say_typing(fixture, fixture->room_id, BERTA);
    g_assert_true(is_typing(fixture, fixture->room_id, BERTA));
}

static void
test_typing_past_the_acl(Fixture *fixture, gconstpointer data)
{
    shut_out(fixture);
    say_typing(fixture, fixture->room_id, BERTA);
    g_assert_false(is_typing(fixture, fixture->room_id, BERTA));
}

static void
say_receipt(Fixture *fixture, const char *room_id, const char *user_id)
{
    g_autofree char *content = g_strdup_printf(
        "{\"%s\":{\"m.read\":{\"%s\":{\"data\":{\"ts\":5},\"event_ids\":[\"%s\"]}}}}", room_id,
        user_id, fixture->event_id);
    say(fixture, "m.receipt", content);
}

static void
test_receipts(Fixture *fixture, gconstpointer data)
{
    say_receipt(fixture, fixture->room_id, ANNA);
    say_receipt(fixture, fixture->closed_id, BERTA);
    say_receipt(fixture, "!nowhere:alpha.example", BERTA);
    say(fixture, "m.receipt",
        "{\"!x\":7,\"!y\":{\"m.read\":[]},\"!z\":{\"m.read\":{\"@a\":null}}}");
    say_receipt(fixture, fixture->room_id, BERTA);
    house_await_count(fixture->scene.alpha,
                      "SELECT count(*) FROM receipt WHERE user_id = '" BERTA "'", 1);
    g_assert_cmpint(
        test_database_count(fixture->scene.alpha->database, "SELECT count(*) FROM receipt"), ==, 1);
}

static void
say_to_device(Fixture *fixture, const char *sender, const char *target, const char *message_id)
{
    g_autofree char *content = g_strdup_printf(
        "{\"sender\":\"%s\",\"type\":\"m.x\",\"message_id\":\"%s\",\"messages\":{\"%s\":{\"PHONE\":"
        "{\"a\":1}}}}",
        sender, message_id, target);
    say(fixture, "m.direct_to_device", content);
}

static void
test_to_device(Fixture *fixture, gconstpointer data)
{
    say_to_device(fixture, ANNA, ANNA, "m1"); /* not theirs to say */
    say_to_device(fixture, BERTA, "@gustav:gamma.example", "m2");
    say(fixture, "m.direct_to_device", "{\"sender\":\"" BERTA "\",\"messages\":[]}");
    g_assert_cmpint(
        test_database_count(fixture->scene.alpha->database, "SELECT count(*) FROM to_device"), ==,
        0);
    say_to_device(fixture, BERTA, ANNA, "m3");
    say_to_device(fixture, BERTA, ANNA, "m3"); /* again, in another transaction */
    g_assert_cmpint(
        test_database_count(fixture->scene.alpha->database, "SELECT count(*) FROM to_device"), ==,
        1);
}

/* A transaction may hold 16 MiB: how many rooms it makes us look at is not its to choose. */
static void
test_receipts_are_bounded(Fixture *fixture, gconstpointer data)
{
    for (guint others = 1000; others >= 999; others--) {
        g_autoptr(GString) content = g_string_new("{");
        for (guint i = 0; i < others; i++)
            g_string_append_printf(content, "\"!!%u:alpha.example\":{},", i);
        g_string_append_printf(content,
                               "\"%s\":{\"m.read\":{\"" BERTA
                               "\":{\"data\":{\"ts\":5},\"event_ids\":[\"%s\"]}}}}",
                               fixture->room_id, fixture->event_id);
        say(fixture, "m.receipt", content->str);
        if (others == 999)
            house_await_count(fixture->scene.alpha, "SELECT count(*) FROM receipt", 1);
        /* the lane has come past it */
        g_autoptr(GError) error = NULL;
        g_free(house_send(fixture->scene.alpha, fixture->closed_id, ANNA, "m.room.message", NULL,
                          "{\"body\":\"x\"}", &error));
        g_assert_no_error(error);
        g_assert_cmpint(
            test_database_count(fixture->scene.alpha->database, "SELECT count(*) FROM receipt"), ==,
            others == 999 ? 1 : 0);
    }
}

static gint64
inbox(Fixture *fixture)
{
    return test_database_count(fixture->scene.alpha->database, "SELECT count(*) FROM to_device");
}

/* Each user addressed costs a look while nobody else writes, and what is in the inbox comes in one
 * sync. */
static void
test_to_device_is_bounded(Fixture *fixture, gconstpointer data)
{
    for (guint others = 5000; others >= 4999; others--) {
        g_autoptr(GString) content = g_string_new(NULL);
        g_string_printf(content,
                        "{\"sender\":\"" BERTA
                        "\",\"type\":\"m.x\",\"message_id\":\"crowd%u\",\"messages\":{",
                        others);
        for (guint i = 0; i < others; i++)
            g_string_append_printf(content, "\"@n%u:alpha.example\":{},", i);
        g_string_append(content, "\"" ANNA "\":{\"*\":{}}}}");
        say(fixture, "m.direct_to_device", content->str);
        g_assert_cmpint(inbox(fixture), ==, others == 4999 ? 1 : 0);
    }

    const gsize most = 65536 - strlen("{\"a\":\"\"}");
    for (gsize length = most + 1; length >= most; length--) {
        g_autofree char *text = g_strnfill(length, 'x');
        g_autofree char *content =
            g_strdup_printf("{\"sender\":\"" BERTA "\",\"type\":\"m.x\",\"message_id\":\"long%u\","
                            "\"messages\":{\"" ANNA "\":{\"PHONE\":{\"a\":\"%s\"}}}}",
                            (guint)length, text);
        say(fixture, "m.direct_to_device", content);
        g_assert_cmpint(inbox(fixture), ==, length == most ? 2 : 1);
    }

    /* Names that no table could hold spoil nothing: random, for a plain one would be packed. */
    g_autoptr(GString) name = g_string_new("@");
    for (guint i = 0; i < 2000; i++) {
        g_autofree char *more = g_uuid_string_random();
        g_string_append(name, more);
    }
    g_autofree char *type = g_strdup(name->str);
    g_string_append(name, ":beta.example");
    g_autofree char *list = g_strdup_printf("{\"user_id\":\"%s\",\"device_id\":\"X\"}", name->str);
    say_to_device(fixture, name->str, ANNA, "named");
    say(fixture, "m.device_list_update", list);
    say(fixture, "m.signing_key_update", list);
    g_autofree char *typed =
        g_strdup_printf("{\"sender\":\"" BERTA "\",\"type\":\"%s\","
                        "\"message_id\":\"typed\",\"messages\":{\"" ANNA "\":{\"PHONE\":{}}}}",
                        type);
    say(fixture, "m.direct_to_device", typed);
    say_typing(fixture, fixture->room_id, name->str);
    say_receipt(fixture, fixture->room_id, name->str);
    g_assert_cmpint(inbox(fixture), ==, 2);
    g_assert_cmpint(test_database_count(fixture->scene.alpha->database,
                                        "SELECT count(*) FROM log WHERE length(user_id) > 255"),
                    ==, 0);
}

static void
test_device_lists(Fixture *fixture, gconstpointer data)
{
    say(fixture, "m.device_list_update",
        "{\"user_id\":\"" ANNA "\",\"device_id\":\"X\",\"stream_id\":1}");
    g_assert_cmpint(test_database_count(fixture->scene.alpha->database,
                                        "SELECT count(*) FROM log WHERE user_id = '" ANNA
                                        "' AND kind = 5"),
                    ==, 0);
    say(fixture, "m.device_list_update",
        "{\"user_id\":\"" BERTA "\",\"device_id\":\"X\",\"stream_id\":1}");
    g_assert_cmpint(test_database_count(fixture->scene.alpha->database,
                                        "SELECT count(*) FROM log WHERE user_id = '" BERTA
                                        "' AND kind = 5"),
                    >, 0);
}

static gboolean
queue_alone(LaneBatch *batch, gpointer data, GError **error)
{
    static const char edu[] = "{\"content\":{},\"edu_type\":\"m.direct_to_device\"}";
    g_autoptr(GBytes) bytes = g_bytes_new_static(edu, strlen(edu));
    delivery_queue_edu(batch, data, "beta.example", bytes);
    return TRUE;
}

/* A message for a partner's devices alone writes no log entry: it must not wait for the next one.
 */
static void
test_an_edu_alone_is_told_at_once(Fixture *fixture, gconstpointer data)
{
    Server *server = &fixture->scene.alpha->server;
    g_autoptr(GError) error = NULL;
    house_await_count(fixture->scene.alpha, "SELECT count(*) FROM delivery_queue", 0);
    gint64 before = test_database_count(fixture->scene.beta->database,
                                        "SELECT count(*) FROM inbound_transaction");
    lane_submit_and_wait(server->lane, queue_alone, server->delivery, NULL, &error);
    g_assert_no_error(error);
    house_await_count(fixture->scene.beta, "SELECT count(*) FROM inbound_transaction", before + 1);
    house_await_count(fixture->scene.alpha, "SELECT count(*) FROM delivery_queue", 0);
}

static void
test_unknown_kinds_are_passed_over(Fixture *fixture, gconstpointer data)
{
    say(fixture, "m.presence", "{\"push\":[{\"user_id\":\"" ANNA "\",\"presence\":\"online\"}]}");
    say(fixture, "org.example.command", "{\"run\":\"shutdown\"}");
    say(fixture, "", "[]");
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*run)(Fixture *fixture, gconstpointer data);
    } tests[] = {
        {"/edus/typing", test_typing},
        {"/edus/typing-past-the-acl", test_typing_past_the_acl},
        {"/edus/receipts", test_receipts},
        {"/edus/to-device", test_to_device},
        {"/edus/receipts-bounded", test_receipts_are_bounded},
        {"/edus/to-device-bounded", test_to_device_is_bounded},
        {"/edus/device-lists", test_device_lists},
        {"/edus/alone", test_an_edu_alone_is_told_at_once},
        {"/edus/unknown", test_unknown_kinds_are_passed_over},
    };
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, Fixture, NULL, set_up, tests[i].run, tear_down);
    return g_test_run();
}
