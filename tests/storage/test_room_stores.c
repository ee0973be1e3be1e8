/* The stores of rooms, events, state and memberships: one small room written through the lane and
 * read back. */
#include <string.h>

#include "storage/event_store.h"
#include "storage/membership_store.h"
#include "storage/room_store.h"
#include "storage/state_store.h"
#include "tests/support/database.h"

#define ROOM "!room"

typedef struct {
    TestDatabase *database;
    LogRing *ring;
    Lane *lane;
    StoreConnection *connection;
} Fixture;

static void
fixture_set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    fixture->database = test_database_new(3);
    fixture->ring = log_ring_new(1 << 20, (LogHead){0, 0});
    fixture->lane = lane_new(fixture->database->pool, fixture->ring, 100, &error);
    g_assert_no_error(error);
    fixture->connection = store_borrow(fixture->database->pool, &error);
    g_assert_no_error(error);
}

static void
fixture_tear_down(Fixture *fixture, gconstpointer data)
{
    store_return(fixture->connection);
    lane_free(fixture->lane);
    log_ring_free(fixture->ring);
    test_database_free(fixture->database);
}

typedef void (*Write)(LaneBatch *batch);

static gboolean
write_apply(LaneBatch *batch, gpointer data, GError **error)
{
    ((Write)data)(batch);
    return TRUE;
}

static void
write_now(Fixture *fixture, Write write)
{
    g_autoptr(GError) error = NULL;
    lane_submit_and_wait(fixture->lane, write_apply, (gpointer)write, NULL, &error);
    g_assert_no_error(error);
}

static void
insert_event(LaneBatch *batch, const char *id, const char *type, const char *state_key,
             gint64 depth, StoredEventStatus status, const char *const *auth,
             const char *const *prev)
{
    g_autofree char *text = g_strdup_printf("{\"id\":\"%s\"}", id);
    g_autoptr(GBytes) json = g_bytes_new(text, strlen(text));
    g_autoptr(GBytes) root = g_bytes_new("root", 4);
    NewEvent event = {
        .room_id = ROOM,
        .event_id = id,
        .type = type,
        .state_key = state_key,
        .sender = "@a:alpha.example",
        .depth = depth,
        .origin_server_ts = depth * 100,
        .status = status,
        .local = TRUE,
        .state_after = status == STORED_EVENT_OUTLIER ? NULL : root,
        .auth_event_ids = auth,
        .prev_event_ids = prev,
        .json = json,
    };
    event_store_insert(batch, &event);
    if (status == STORED_EVENT_ACCEPTED)
        lane_batch_log(batch, log_entry_new(LOG_EVENT, ROOM, NULL, id));
}

#define IDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* create <- join <- power <- m1 <- m2, with a soft-failed and a rejected one beside, and an outlier
 */
static void
write_graph(LaneBatch *batch)
{
    g_autoptr(GBytes) seed = g_bytes_new("0123456789abcdef", 16);
    room_store_insert(batch, ROOM, "12", seed, 7);
    insert_event(batch, "$create", "m.room.create", "", 1, STORED_EVENT_ACCEPTED, NULL, NULL);
    insert_event(batch, "$join", "m.room.member", "@a:alpha.example", 2, STORED_EVENT_ACCEPTED,
                 IDS("$create"), IDS("$create"));
    insert_event(batch, "$power", "m.room.power_levels", "", 3, STORED_EVENT_ACCEPTED,
                 IDS("$create", "$join"), IDS("$join"));
    insert_event(batch, "$m1", "m.room.message", NULL, 4, STORED_EVENT_ACCEPTED,
                 IDS("$power", "$join"), IDS("$power"));
    insert_event(batch, "$soft", "m.room.message", NULL, 4, STORED_EVENT_SOFT_FAILED,
                 IDS("$power", "$join"), IDS("$power"));
    insert_event(batch, "$bad", "m.room.message", NULL, 4, STORED_EVENT_REJECTED,
                 IDS("$power", "$join"), IDS("$power"));
    insert_event(batch, "$m2", "m.room.message", NULL, 5, STORED_EVENT_ACCEPTED,
                 IDS("$power", "$join"), IDS("$m1", "$soft", "$bad", "$absent"));
    insert_event(batch, "$out", "m.room.member", "@b:beta.example", 3, STORED_EVENT_OUTLIER,
                 IDS("$gone", "$create"), IDS("$unknown"));
    event_store_set_extremities(batch, ROOM, IDS("$m2"));
    event_store_add_missing(batch, ROOM, "$m2", IDS("$absent"), 1);
}

static void
test_events_come_back(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoredEvent) event = NULL, none = NULL;
    g_autoptr(StoredRoom) room = NULL, no_room = NULL;
    g_autoptr(GPtrArray) many = NULL;
    g_autofree char *room_id = NULL, *no_id = NULL, *id_at = NULL, *id_none = NULL;
    gint64 ts = 0;

    write_now(fixture, write_graph);
    g_assert_true(room_store_find(fixture->connection, ROOM, &room, &error));
    g_assert_cmpstr(room->version, ==, "12");
    g_assert_cmpuint(g_bytes_get_size(room->seed), ==, 16);
    g_assert_true(room_store_find(fixture->connection, "!other", &no_room, &error));
    g_assert_null(no_room);

    g_assert_true(event_store_find(fixture->connection, ROOM, "$power", &event, &error));
    g_assert_cmpstr(event->type, ==, "m.room.power_levels");
    g_assert_cmpstr(event->state_key, ==, "");
    g_assert_cmpint(event->depth, ==, 3);
    g_assert_cmpint(event->position, ==, 3);
    g_assert_true(event->local);
    g_assert_null(event->state_before);
    g_assert_nonnull(event->state_after);
    g_assert_cmpmem(g_bytes_get_data(event->json, NULL), g_bytes_get_size(event->json),
                    "{\"id\":\"$power\"}", 15);
    /* of another room it is not there */
    g_assert_true(event_store_find(fixture->connection, "!other", "$power", &none, &error));
    g_assert_null(none);

    many = event_store_find_many(fixture->connection, ROOM, IDS("$m1", "$nope", "$out"), 3, &error);
    g_assert_cmpuint(many->len, ==, 2);

    g_assert_true(event_store_find_room(fixture->connection, "$m1", &room_id, &error));
    g_assert_cmpstr(room_id, ==, ROOM);
    g_assert_true(event_store_find_room(fixture->connection, "$bad", &no_id, &error));
    g_assert_null(no_id);

    g_assert_true(
        event_store_find_by_time(fixture->connection, ROOM, 350, TRUE, &id_at, &ts, &error));
    g_assert_cmpstr(id_at, ==, "$power");
    g_assert_cmpint(ts, ==, 300);
    g_assert_true(
        event_store_find_by_time(fixture->connection, ROOM, 501, FALSE, &id_none, &ts, &error));
    g_assert_null(id_none);
    g_assert_no_error(error);
}

static void
write_outlier_accepted(LaneBatch *batch)
{
    insert_event(batch, "$out", "m.room.member", "@b:beta.example", 3, STORED_EVENT_ACCEPTED,
                 IDS("$create"), IDS("$power"));
    /* one that is there already stays what it is */
    insert_event(batch, "$bad", "m.room.message", NULL, 4, STORED_EVENT_SOFT_FAILED, NULL, NULL);
}

static void
test_only_an_outlier_changes_its_status_by_insert(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoredEvent) before = NULL, after = NULL, bad = NULL;
    write_now(fixture, write_graph);
    g_assert_true(event_store_find(fixture->connection, ROOM, "$out", &before, &error));
    g_assert_cmpint(before->status, ==, STORED_EVENT_OUTLIER);
    g_assert_cmpint(before->position, ==, 0);
    write_now(fixture, write_outlier_accepted);
    g_assert_true(event_store_find(fixture->connection, ROOM, "$out", &after, &error));
    g_assert_cmpint(after->status, ==, STORED_EVENT_ACCEPTED);
    g_assert_nonnull(after->state_after);
    g_assert_cmpint(after->position, >, 0);
    g_assert_true(event_store_find(fixture->connection, ROOM, "$bad", &bad, &error));
    g_assert_cmpint(bad->status, ==, STORED_EVENT_REJECTED);
}

static void
test_auth_chains_have_a_budget(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) whole = NULL, exact = NULL, cut = NULL, broken = NULL;
    gboolean complete = FALSE;
    write_now(fixture, write_graph);
    whole =
        event_store_auth_chain(fixture->connection, ROOM, IDS("$m2"), 1, 100, &complete, &error);
    g_assert_no_error(error);
    g_assert_true(complete);
    g_ptr_array_sort(whole, (GCompareFunc)(void (*)(void))g_strcmp0);
    g_assert_cmpuint(whole->len, ==, 3); /* power, join, create */
    exact = event_store_auth_chain(fixture->connection, ROOM, IDS("$m2"), 1, 3, &complete, &error);
    g_assert_true(complete);
    g_assert_cmpuint(exact->len, ==, 3);
    cut = event_store_auth_chain(fixture->connection, ROOM, IDS("$m2"), 1, 2, &complete, &error);
    g_assert_false(complete);
    g_assert_cmpuint(cut->len, ==, 2);
    broken =
        event_store_auth_chain(fixture->connection, ROOM, IDS("$out"), 1, 100, &complete, &error);
    g_assert_false(complete); /* $gone is not stored */
    g_assert_cmpuint(broken->len, ==, 2);
}

static void
test_walking_back(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) all = NULL, stopped = NULL, few = NULL, missing = NULL, ends = NULL;
    write_now(fixture, write_graph);
    all =
        event_store_walk_back(fixture->connection, ROOM, IDS("$m2"), 1, NULL, 0, TRUE, 100, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(all->len, ==, 6); /* without the rejected one */
    g_assert_cmpstr(((StoredEvent *)g_ptr_array_index(all, 0))->event_id, ==, "$m2");
    g_assert_cmpstr(((StoredEvent *)g_ptr_array_index(all, 5))->event_id, ==, "$create");
    stopped = event_store_walk_back(fixture->connection, ROOM, IDS("$m2"), 1, IDS("$join"), 1,
                                    FALSE, 100, &error);
    g_assert_cmpuint(stopped->len, ==, 3); /* m1, soft, power */
    few = event_store_walk_back(fixture->connection, ROOM, IDS("$m2"), 1, NULL, 0, TRUE, 1, &error);
    g_assert_cmpuint(few->len, ==, 1);
    missing = event_store_missing(fixture->connection, ROOM, 10, &error);
    g_assert_cmpuint(missing->len, ==, 1);
    g_assert_cmpstr(g_ptr_array_index(missing, 0), ==, "$absent");
    ends = event_store_extremities(fixture->connection, ROOM, &error);
    g_assert_cmpuint(ends->len, ==, 1);
}

static void
write_more_edges(LaneBatch *batch)
{
    event_store_set_extremities(batch, ROOM, IDS("$m4"));
    event_store_set_extremities(batch, ROOM, IDS("$m4", "$m\"3\\"));
    event_store_clear_missing(batch, ROOM, "$absent");
    event_store_insert_redaction(batch, ROOM, "$m1", "$r2");
    event_store_insert_redaction(batch, ROOM, "$m1", "$r1");
    event_store_insert_redaction(batch, ROOM, "$m1", "$r1");
    event_store_record_transaction(batch, "@a:alpha.example", "DEV", "send", "t1", "$m1", 5);
}

static void
write_trim(LaneBatch *batch)
{
    event_store_trim_transactions(batch, 6);
}

static void
test_edges_redactions_and_transactions(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) ends = NULL, missing = NULL;
    g_autoptr(GHashTable) redactions = NULL;
    g_autoptr(StoreRows) transactions = NULL, others = NULL;
    g_autofree char *known = NULL, *unknown = NULL, *trimmed = NULL;
    write_now(fixture, write_graph);
    write_now(fixture, write_more_edges);
    ends = event_store_extremities(fixture->connection, ROOM, &error);
    g_assert_cmpuint(ends->len, ==, 2);
    g_assert_cmpstr(g_ptr_array_index(ends, 0), ==, "$m\"3\\");
    missing = event_store_missing(fixture->connection, ROOM, 10, &error);
    g_assert_cmpuint(missing->len, ==, 0);
    redactions =
        event_store_find_redactions(fixture->connection, ROOM, IDS("$m1", "$m2"), 2, &error);
    g_assert_cmpuint(g_hash_table_size(redactions), ==, 1);
    g_assert_cmpstr(g_hash_table_lookup(redactions, "$m1"), ==, "$r1");
    g_assert_true(event_store_find_transaction(fixture->connection, "@a:alpha.example", "DEV",
                                               "send", "t1", &known, &error));
    g_assert_cmpstr(known, ==, "$m1");
    g_assert_true(event_store_find_transaction(fixture->connection, "@a:alpha.example", "OTHER",
                                               "send", "t1", &unknown, &error));
    g_assert_null(unknown);
    transactions =
        event_store_transactions(fixture->connection, "@a:alpha.example", "DEV", 2, &error);
    g_assert_cmpuint(store_rows_count(transactions), ==, 1);
    g_assert_cmpstr(store_rows_text(transactions, 0, 0), ==, "send");
    g_assert_cmpstr(store_rows_text(transactions, 0, 1), ==, "t1");
    others = event_store_transactions(fixture->connection, "@b:alpha.example", "DEV", 2, &error);
    g_assert_cmpuint(store_rows_count(others), ==, 0);
    write_now(fixture, write_trim);
    g_assert_true(event_store_find_transaction(fixture->connection, "@a:alpha.example", "DEV",
                                               "send", "t1", &trimmed, &error));
    g_assert_null(trimmed);
    g_assert_no_error(error);
}

static void
write_state(LaneBatch *batch)
{
    g_autoptr(GBytes) id_a = g_bytes_new("aaaaaaaaaaaaaaaa", 16), id_b = g_bytes_new("b", 1);
    g_autoptr(GBytes) id_c = g_bytes_new("c", 1), form_c = g_bytes_new("change", 6);
    g_autoptr(GBytes) form_a = g_bytes_new("\0body", 5), form_b = g_bytes_new("", 0);
    GBytes *ids[] = {id_b, id_a, id_c, id_b}, *forms[] = {form_b, form_a, form_c, form_b};
    GBytes *bases[] = {id_a, NULL, id_b, id_c}; /* whoever is second does not count */
    state_store_insert_nodes(batch, ROOM, ids, bases, forms, 4);
    state_store_set(batch, ROOM, IDS("m.room.power_levels", "m.room.create", "m.room.member"),
                    IDS("", "", "@a:alpha.example"), IDS("$old", "$create", "$join"), 3);
    state_store_set(batch, ROOM, IDS("m.room.power_levels", "m.room.topic"), IDS("", ""),
                    IDS("$power", "$topic"), 2);
    state_store_remove(batch, ROOM, IDS("m.room.topic", "m.room.absent"), IDS("", ""), 2);
}

/* The last form is node a's, "\0body"; the others have no zero byte. */
static void
check_forms(const GPtrArray *forms, const char *const *expected, guint count)
{
    g_assert_cmpuint(forms->len, ==, count);
    for (guint i = 0; i < count; i++) {
        gsize length = 0, expected_length = i + 1 == count ? 5 : strlen(expected[i]);
        const void *form = g_bytes_get_data(g_ptr_array_index(forms, i), &length);
        g_assert_cmpmem(form, length, expected[i], expected_length);
    }
}

static void
test_state_is_set_and_removed(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) id_a = g_bytes_new("aaaaaaaaaaaaaaaa", 16), absent = g_bytes_new("x", 1);
    g_autoptr(GBytes) id_c = g_bytes_new("c", 1);
    GBytes *ids[] = {absent, id_c, id_a};
    g_autoptr(GPtrArray) nodes = NULL, others = NULL, all = NULL, one = NULL, few = NULL;

    write_now(fixture, write_graph);
    write_now(fixture, write_state);
    write_now(fixture, write_state); /* the same again changes nothing */
    nodes = state_store_find_nodes(fixture->connection, ROOM, ids, 3, &error);
    g_assert_cmpuint(nodes->len, ==, 3);
    g_assert_null(g_ptr_array_index(nodes, 0));
    check_forms(g_ptr_array_index(nodes, 1), (const char *[]){"change", "", "\0body"}, 3);
    check_forms(g_ptr_array_index(nodes, 2), (const char *[]){"\0body"}, 1);
    others = state_store_find_nodes(fixture->connection, "!other", ids, 3, &error);
    g_assert_cmpuint(others->len, ==, 3);
    for (guint i = 0; i < others->len; i++)
        g_assert_null(g_ptr_array_index(others, i));

    all = state_store_rows(fixture->connection, ROOM, NULL, NULL, &error);
    g_assert_cmpuint(all->len, ==, 3);
    one = state_store_rows(fixture->connection, ROOM, "m.room.power_levels", "", &error);
    g_assert_cmpuint(one->len, ==, 1);
    g_assert_cmpstr(((StateRow *)g_ptr_array_index(one, 0))->event_id, ==, "$power");
    few = state_store_events_of(fixture->connection, ROOM, IDS("m.room.create", "m.room.name"),
                                IDS("", ""), 2, &error);
    g_assert_cmpuint(few->len, ==, 1);
    g_assert_no_error(error);
}

static void
write_members(LaneBatch *batch)
{
    static const struct {
        const char *room, *user, *membership;
        gboolean local;
    } rows[] = {
        {ROOM, "@a:alpha.example", "join", TRUE},   {ROOM, "@b:beta.example", "join", FALSE},
        {ROOM, "@c:alpha.example", "invite", TRUE}, {"!two", "@a:alpha.example", "leave", TRUE},
        {"!two", "@c:alpha.example", "join", TRUE}, {"!two", "@b:beta.example", "join", FALSE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
        membership_store_set(batch, rows[i].room, rows[i].user, rows[i].membership, "$e",
                             "@a:alpha.example", rows[i].local);
    membership_store_change_server(batch, ROOM, "alpha.example", 1);
    membership_store_change_server(batch, ROOM, "beta.example", 1);
    membership_store_change_server(batch, ROOM, "gone.example", 1);
    membership_store_change_server(batch, ROOM, "gone.example", -1);
    membership_store_forget(batch, "!two", "@a:alpha.example");
}

static void
write_rejoin(LaneBatch *batch)
{
    membership_store_set(batch, "!two", "@a:alpha.example", "join", "$e2", "@a:alpha.example",
                         TRUE);
    membership_store_remove(batch, ROOM, "@c:alpha.example");
}

static void
test_memberships_both_ways(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) joined = NULL, everyone = NULL, page = NULL, rooms = NULL, local = NULL;
    g_autoptr(GPtrArray) servers = NULL, sharing = NULL, sharing_local = NULL,
                         sharing_servers = NULL;
    g_autoptr(StoredMembership) left = NULL, again = NULL, none = NULL;
    gboolean yes = FALSE, no = TRUE;
    gint64 count_joined = 0, count_invited = 0;

    write_now(fixture, write_members);
    joined = membership_store_members(fixture->connection, ROOM, "join", NULL, 10, &error);
    g_assert_cmpuint(joined->len, ==, 2);
    everyone = membership_store_members(fixture->connection, ROOM, NULL, NULL, 10, &error);
    g_assert_cmpuint(everyone->len, ==, 3);
    page = membership_store_members(fixture->connection, ROOM, NULL, "@a:alpha.example", 1, &error);
    g_assert_cmpuint(page->len, ==, 1);
    g_assert_cmpstr(((StoredMembership *)g_ptr_array_index(page, 0))->user_id, ==,
                    "@b:beta.example");
    rooms = membership_store_rooms(fixture->connection, "@a:alpha.example", NULL, &error);
    g_assert_cmpuint(rooms->len, ==, 2);
    local = membership_store_local_joined(fixture->connection, ROOM, &error);
    g_assert_cmpuint(local->len, ==, 1);
    g_assert_true(
        membership_store_count(fixture->connection, ROOM, &count_joined, &count_invited, &error));
    g_assert_cmpint(count_joined, ==, 2);
    g_assert_cmpint(count_invited, ==, 1);

    servers = membership_store_servers(fixture->connection, ROOM, &error);
    g_assert_cmpuint(servers->len, ==, 2);
    g_assert_true(
        membership_store_server_joined(fixture->connection, ROOM, "beta.example", &yes, &error));
    g_assert_true(yes);
    g_assert_true(
        membership_store_server_joined(fixture->connection, ROOM, "gone.example", &no, &error));
    g_assert_false(no);

    g_assert_true(membership_store_share_room(fixture->connection, "@a:alpha.example",
                                              "@b:beta.example", &yes, &error));
    g_assert_true(yes);
    g_assert_true(membership_store_share_room(fixture->connection, "@a:alpha.example",
                                              "@c:alpha.example", &no, &error));
    g_assert_false(no); /* an invite is no common room */
    sharing =
        membership_store_users_sharing(fixture->connection, "@b:beta.example", FALSE, 10, &error);
    g_assert_cmpuint(sharing->len, ==, 2);
    sharing_local =
        membership_store_users_sharing(fixture->connection, "@a:alpha.example", TRUE, 10, &error);
    g_assert_cmpuint(sharing_local->len, ==, 0);
    sharing_servers =
        membership_store_servers_sharing(fixture->connection, "@a:alpha.example", &error);
    g_assert_cmpuint(sharing_servers->len, ==, 2);

    g_assert_true(
        membership_store_find(fixture->connection, "!two", "@a:alpha.example", &left, &error));
    g_assert_true(left->forgotten);
    write_now(fixture, write_rejoin);
    g_assert_true(
        membership_store_find(fixture->connection, "!two", "@a:alpha.example", &again, &error));
    g_assert_cmpstr(again->membership, ==, "join");
    g_assert_false(again->forgotten);
    g_assert_true(
        membership_store_find(fixture->connection, ROOM, "@c:alpha.example", &none, &error));
    g_assert_null(none);
    g_assert_no_error(error);
}

static void
write_invite(LaneBatch *batch)
{
    g_autoptr(GBytes) json = g_bytes_new("{}", 2), state = g_bytes_new("[]", 2);
    StoredInvite invite = {"@a:alpha.example", "!far", "12", "$inv",
                           "@b:beta.example",  json,   state};
    membership_store_set_invite(batch, &invite);
    membership_store_set_invite(batch, &invite);
}

static void
write_invite_end(LaneBatch *batch)
{
    membership_store_remove_invite(batch, "@a:alpha.example", "!far");
}

static void
test_invites_from_afar(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoredInvite) invite = NULL, none = NULL;
    g_autoptr(GPtrArray) list = NULL;
    write_now(fixture, write_invite);
    list = membership_store_invites(fixture->connection, "@a:alpha.example", &error);
    g_assert_cmpuint(list->len, ==, 1);
    g_assert_true(membership_store_find_invite(fixture->connection, "@a:alpha.example", "!far",
                                               &invite, &error));
    g_assert_cmpstr(invite->sender, ==, "@b:beta.example");
    g_assert_cmpuint(g_bytes_get_size(invite->room_state), ==, 2);
    write_now(fixture, write_invite_end);
    g_assert_true(membership_store_find_invite(fixture->connection, "@a:alpha.example", "!far",
                                               &none, &error));
    g_assert_null(none);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function)                                                                        \
    g_test_add(path, Fixture, NULL, fixture_set_up, function, fixture_tear_down)
    ADD("/room-stores/events", test_events_come_back);
    ADD("/room-stores/outlier", test_only_an_outlier_changes_its_status_by_insert);
    ADD("/room-stores/auth-chain", test_auth_chains_have_a_budget);
    ADD("/room-stores/walk-back", test_walking_back);
    ADD("/room-stores/edges", test_edges_redactions_and_transactions);
    ADD("/room-stores/state", test_state_is_set_and_removed);
    ADD("/room-stores/members", test_memberships_both_ways);
    ADD("/room-stores/invites", test_invites_from_afar);
    return g_test_run();
}
