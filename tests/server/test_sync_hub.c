/* The hub: whose news it knows, when a sync may be answered from them, and what it lets go. */
#include "server/client/sync_hub.h"

#include "identity/record_key.h"
#include "identity/session.h"
#include "server/client/typing.h"
#include "server/server.h"
#include "storage/log_ring.h"

#define ANNA "@anna:x"
#define BERTA "@berta:x"
#define RECENT_ENTRIES_MAX 8192
#define RECENT_BYTES_MAX (16 * 1024 * 1024)
#define FOLLOWED_USERS_MAX 20000

typedef struct {
    Server server;
    RecordKey *record_key;
    SyncHub *hub;
    gint64 position;
} Fixture;

static void
wake_room(const char *room_id, gpointer data)
{
    Fixture *fixture = data;
    sync_hub_wake_room(fixture->hub, room_id);
}

static void
set_up(Fixture *fixture, gconstpointer data)
{
    Server *server = &fixture->server;
    fixture->position = 100;
    fixture->record_key = record_key_new_for_tests();
    server->ring = log_ring_new(1 << 20, (LogHead){1, fixture->position});
    server->sessions = sessions_new(NULL, NULL, server->ring, NULL, fixture->record_key,
                                    &session_settings_default);
    server->typing = typing_new(wake_room, fixture);
    server->sync = fixture->hub = sync_hub_new(server);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    Server *server = &fixture->server;
    typing_free(server->typing);
    sync_hub_free(fixture->hub);
    log_ring_free(server->ring);
    sessions_free(server->sessions);
    record_key_free(fixture->record_key);
}

/* ---- what happens ---- */

/* Takes @entry; its position. */
static gint64
commit(Fixture *fixture, LogEntry *entry)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func((GDestroyNotify)log_entry_unref);
    entry->position = ++fixture->position;
    g_ptr_array_add(entries, entry);
    log_ring_append(fixture->server.ring, (LogHead){1, fixture->position}, entries);
    return fixture->position;
}

static LogEntry *
event(const char *room_id, const char *member, const char *root)
{
    LogEntry *entry = log_entry_new(LOG_EVENT, room_id, member, "$event");
    entry->state_root = g_bytes_new(root, strlen(root));
    return entry;
}

static gint64
message(Fixture *fixture, const char *room_id)
{
    return commit(fixture, event(room_id, NULL, "root"));
}

/* The user follows these rooms as of now. */
static void
follow(Fixture *fixture, const char *user_id, const char *room_id, const char *other_room_id)
{
    g_autoptr(GPtrArray) rooms = g_ptr_array_new();
    g_ptr_array_add(rooms, (gpointer)room_id);
    if (other_room_id != NULL)
        g_ptr_array_add(rooms, (gpointer)other_room_id);
    sync_hub_follow(fixture->hub, user_id, rooms, fixture->position);
}

/* ---- what is known ---- */

static SyncToken
token(Fixture *fixture, gint64 position)
{
    return (SyncToken){1, position, typing_version(fixture->server.typing), position, FALSE};
}

/* How many entries; -1: that takes the database. */
static gint
news_after(Fixture *fixture, const char *user_id, gint64 position)
{
    g_auto(SyncHubNews) news = {0};
    SyncToken since = token(fixture, position);
    if (!sync_hub_collect(fixture->hub, user_id, &since, &news))
        return -1;
    g_assert_cmpint(news.until, ==, fixture->position);
    gint count = 0;
    GHashTableIter iterator;
    gpointer value = NULL;
    g_hash_table_iter_init(&iterator, news.rooms);
    while (g_hash_table_iter_next(&iterator, NULL, &value)) {
        const SyncHubRoom *room = value;
        gint64 before = position;
        for (guint i = 0; i < room->events->len; i++, count++) {
            gint64 at = ((LogEntry *)g_ptr_array_index(room->events, i))->position;
            g_assert_cmpint(at, >, before);
            before = at;
        }
    }
    return count;
}

static void
test_plain_messages_of_own_rooms(Fixture *fixture, gconstpointer data)
{
    g_assert_cmpint(news_after(fixture, ANNA, fixture->position), ==, -1); /* nobody knows anna */
    follow(fixture, ANNA, "!a", "!b");
    gint64 start = fixture->position;
    g_assert_cmpint(news_after(fixture, ANNA, start), ==, 0);
    message(fixture, "!elsewhere");
    g_assert_cmpint(news_after(fixture, ANNA, start), ==, 0);
    /* What the room's state was before the first message is not known. */
    gint64 first = message(fixture, "!a");
    g_assert_cmpint(news_after(fixture, ANNA, start), ==, -1);
    g_assert_cmpint(news_after(fixture, ANNA, first), ==, 0);
    message(fixture, "!a");
    message(fixture, "!elsewhere");
    gint64 third = message(fixture, "!a");
    g_assert_cmpint(news_after(fixture, ANNA, first), ==, 2);
    g_assert_cmpint(news_after(fixture, ANNA, third), ==, 0);
    g_assert_cmpint(news_after(fixture, BERTA, first), ==, -1);
}

static void
test_state_takes_the_database(Fixture *fixture, gconstpointer data)
{
    follow(fixture, ANNA, "!a", NULL);
    follow(fixture, BERTA, "!b", NULL);
    message(fixture, "!a");
    gint64 start = message(fixture, "!b");
    gint64 topic = commit(fixture, event("!a", NULL, "other root"));
    message(fixture, "!b");
    g_assert_cmpint(news_after(fixture, ANNA, start), ==, -1);
    g_assert_cmpint(news_after(fixture, BERTA, start), ==, 1);
    commit(fixture, event("!a", NULL, "other root"));
    g_assert_cmpint(news_after(fixture, ANNA, topic), ==, 1);
    /* Somebody's membership, though the state came out the same. */
    gint64 before = fixture->position;
    commit(fixture, event("!a", "@carl:x", "other root"));
    g_assert_cmpint(news_after(fixture, ANNA, before), ==, -1);
}

static void
test_what_is_no_event_takes_the_database(Fixture *fixture, gconstpointer data)
{
    static const LogKind kinds[] = {LOG_ACCOUNT_DATA, LOG_TO_DEVICE, LOG_DEVICE_LIST, LOG_INVITE,
                                    LOG_SESSION_END};
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        follow(fixture, ANNA, "!a", NULL);
        follow(fixture, BERTA, "!a", NULL);
        gint64 start = fixture->position;
        commit(fixture, log_entry_new(kinds[i], NULL, ANNA, "DEVICE/1"));
        g_assert_cmpint(news_after(fixture, ANNA, start), ==, -1);
        g_assert_cmpint(news_after(fixture, BERTA, start), ==, 0);
    }
}

static void
test_own_membership_asks_for_a_new_look(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GPtrArray) rooms = g_ptr_array_new();
    follow(fixture, ANNA, "!a", NULL);
    gint64 before = message(fixture, "!a");
    gint64 joined = commit(fixture, event("!b", ANNA, "root"));
    g_assert_cmpint(news_after(fixture, ANNA, joined), ==, -1);
    /* A look from before the join does not help. */
    g_ptr_array_add(rooms, (gpointer) "!a");
    sync_hub_follow(fixture->hub, ANNA, rooms, before);
    g_assert_cmpint(news_after(fixture, ANNA, joined), ==, -1);
    follow(fixture, ANNA, "!a", "!b");
    g_assert_cmpint(news_after(fixture, ANNA, joined), ==, 0);
    message(fixture, "!b");
    g_assert_cmpint(news_after(fixture, ANNA, joined), ==, 1);
    /* A room that she is not told to be in any more is nothing to her. */
    follow(fixture, ANNA, "!a", NULL);
    g_assert_cmpint(news_after(fixture, ANNA, joined), ==, 0);
}

static void
test_tokens_beyond_both_ends(Fixture *fixture, gconstpointer data)
{
    follow(fixture, ANNA, "!a", NULL);
    gint64 start = fixture->position;
    g_assert_cmpint(news_after(fixture, ANNA, start - 1), ==, -1); /* before the hub's time */
    g_assert_cmpint(news_after(fixture, ANNA, start), ==, 0);
    g_assert_cmpint(news_after(fixture, ANNA, start + 1), ==, -1); /* not committed yet */
    for (guint i = 0; i < RECENT_ENTRIES_MAX; i++)
        message(fixture, "!elsewhere");
    g_assert_cmpint(news_after(fixture, ANNA, start), ==, 0);
    message(fixture, "!elsewhere");
    g_assert_cmpint(news_after(fixture, ANNA, start), ==, -1);
    g_assert_cmpint(news_after(fixture, ANNA, start + 1), ==, 0);
}

static void
test_is_bounded_in_bytes(Fixture *fixture, gconstpointer data)
{
    const gsize size = 1024 * 1024;
    follow(fixture, ANNA, "!a", NULL);
    gint64 start = fixture->position;
    for (guint i = 0; i <= RECENT_BYTES_MAX / size; i++) {
        g_assert_cmpint(news_after(fixture, ANNA, start), ==, 0);
        LogEntry *entry = event("!elsewhere", NULL, "root");
        entry->payload = g_bytes_new_take(g_malloc0(size), size);
        commit(fixture, entry);
    }
    g_assert_cmpint(news_after(fixture, ANNA, start), ==, -1);
    g_assert_cmpint(news_after(fixture, ANNA, start + 1), ==, 0);
}

static const SyncHubRoom *
room_of(const SyncHubNews *news, const char *room_id)
{
    return g_hash_table_lookup(news->rooms, room_id);
}

static gint64
receipt(Fixture *fixture, const char *room_id, const char *user_id, const char *type)
{
    LogEntry *entry = log_entry_new(LOG_RECEIPT, room_id, user_id, type);
    if (strcmp(type, "m.read") == 0)
        entry->payload = g_bytes_new_static("{}", 2);
    return commit(fixture, entry);
}

static void
test_receipts(Fixture *fixture, gconstpointer data)
{
    g_auto(SyncHubNews) news = {0};
    g_auto(SyncHubNews) nothing = {0};
    follow(fixture, ANNA, "!a", "!b");
    SyncToken since = token(fixture, fixture->position);
    receipt(fixture, "!a", BERTA, "m.read");
    receipt(fixture, "!elsewhere", BERTA, "m.read");
    g_assert_true(sync_hub_collect(fixture->hub, ANNA, &since, &news));
    g_assert_cmpuint(g_hash_table_size(news.rooms), ==, 1);
    g_assert_cmpuint(room_of(&news, "!a")->receipts->len, ==, 1);
    g_assert_cmpuint(room_of(&news, "!a")->events->len, ==, 0);
    /* What others keep to themselves is nothing. */
    since = token(fixture, fixture->position);
    receipt(fixture, "!b", BERTA, "m.read.private");
    g_assert_true(sync_hub_collect(fixture->hub, ANNA, &since, &nothing));
    g_assert_cmpuint(g_hash_table_size(nothing.rooms), ==, 0);
    /* One's own changes what is unread; one without its text is to be read. */
    since = token(fixture, receipt(fixture, "!b", BERTA, "m.read.private"));
    receipt(fixture, "!a", ANNA, "m.read");
    g_assert_cmpint(news_after(fixture, ANNA, since.position), ==, -1);
    since = token(fixture, fixture->position);
    commit(fixture, log_entry_new(LOG_RECEIPT, "!a", BERTA, "m.read"));
    g_assert_cmpint(news_after(fixture, ANNA, since.position), ==, -1);
}

/* So that a count of what is unread, taken at some position, is known to hold still. */
static void
test_quiet_since(Fixture *fixture, gconstpointer data)
{
    g_auto(SyncHubNews) news = {0};
    g_auto(SyncHubNews) later = {0};
    follow(fixture, ANNA, "!a", "!b");
    gint64 start = fixture->position;
    gint64 first = message(fixture, "!a");
    gint64 other = message(fixture, "!b");
    SyncToken since = token(fixture, message(fixture, "!elsewhere"));
    receipt(fixture, "!a", BERTA, "m.read");
    message(fixture, "!b");
    message(fixture, "!b");
    g_assert_true(sync_hub_collect(fixture->hub, ANNA, &since, &news));
    g_assert_cmpint(room_of(&news, "!a")->quiet_since, ==, first);
    g_assert_cmpint(room_of(&news, "!b")->quiet_since, ==, other);
    g_assert_cmpuint(room_of(&news, "!b")->events->len, ==, 2);
    /* No event since the hub began. */
    since = token(fixture, fixture->position);
    follow(fixture, ANNA, "!quiet", NULL);
    receipt(fixture, "!quiet", BERTA, "m.read");
    g_assert_true(sync_hub_collect(fixture->hub, ANNA, &since, &later));
    g_assert_cmpint(room_of(&later, "!quiet")->quiet_since, ==, start);
}

static void
test_typing(Fixture *fixture, gconstpointer data)
{
    g_auto(SyncHubNews) news = {0};
    g_auto(SyncHubNews) later = {0};
    g_auto(SyncHubNews) foreign = {0};
    follow(fixture, ANNA, "!a", "!b");
    SyncToken since = token(fixture, fixture->position);
    typing_set(fixture->server.typing, "!a", BERTA, 60000);
    typing_set(fixture->server.typing, "!elsewhere", BERTA, 60000);
    g_assert_true(sync_hub_collect(fixture->hub, ANNA, &since, &news));
    g_assert_cmpuint(g_hash_table_size(news.rooms), ==, 1);
    g_assert_true(room_of(&news, "!a")->typing);
    g_assert_cmpuint(room_of(&news, "!a")->events->len, ==, 0);
    since = token(fixture, fixture->position);
    g_assert_true(sync_hub_collect(fixture->hub, ANNA, &since, &later));
    g_assert_cmpuint(g_hash_table_size(later.rooms), ==, 0);
    since.typing = 1; /* of another process */
    g_assert_true(sync_hub_collect(fixture->hub, ANNA, &since, &foreign));
    g_assert_cmpuint(g_hash_table_size(foreign.rooms), ==, 1);
}

static void
assert_counts(Fixture *fixture, const char *expected)
{
    guint changes = 0;
    g_autofree char *counts = sync_hub_key_counts(fixture->hub, ANNA, "DEVICE", &changes);
    g_assert_cmpstr(counts, ==, expected);
}

static void
test_counts_of_keys(Fixture *fixture, gconstpointer data)
{
    guint changes = 0;
    sync_hub_keep_key_counts(fixture->hub, ANNA, "DEVICE", 0, "five"); /* not followed: not kept */
    assert_counts(fixture, NULL);
    follow(fixture, ANNA, "!a", NULL);
    assert_counts(fixture, NULL);
    sync_hub_key_counts(fixture->hub, ANNA, "DEVICE", &changes);
    sync_hub_keep_key_counts(fixture->hub, ANNA, "DEVICE", changes, "five");
    assert_counts(fixture, "five");
    /* Read, then changed, then kept: that must not stay. */
    sync_hub_keys_changed(fixture->hub, ANNA);
    assert_counts(fixture, NULL);
    sync_hub_keep_key_counts(fixture->hub, ANNA, "DEVICE", changes, "five");
    assert_counts(fixture, NULL);
    sync_hub_key_counts(fixture->hub, ANNA, "DEVICE", &changes);
    sync_hub_keep_key_counts(fixture->hub, ANNA, "DEVICE", changes, "four");
    assert_counts(fixture, "four");
    /* With the device go its keys. */
    commit(fixture, log_entry_new(LOG_SESSION_END, NULL, ANNA, "DEVICE"));
    assert_counts(fixture, NULL);
}

static void
test_puts_out_idle_users(Fixture *fixture, gconstpointer data)
{
    SyncHubCounts counts;
    for (guint i = 0; i < FOLLOWED_USERS_MAX; i++) {
        g_autofree char *user_id = g_strdup_printf("@user%u:x", i);
        follow(fixture, user_id, "!a", NULL);
    }
    sync_hub_counts(fixture->hub, &counts);
    g_assert_cmpuint(counts.followed_users, ==, FOLLOWED_USERS_MAX);
    g_assert_cmpuint(counts.parked, ==, 0);
    follow(fixture, ANNA, "!a", NULL);
    sync_hub_counts(fixture->hub, &counts);
    g_assert_cmpuint(counts.followed_users, <=, FOLLOWED_USERS_MAX);
    message(fixture, "!a"); /* who was put out is not in the room's list any more */
    sync_hub_wake_room(fixture->hub, "!a");
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*test)(Fixture *, gconstpointer);
    } tests[] = {
        {"plain messages of own rooms are known", test_plain_messages_of_own_rooms},
        {"state takes the database", test_state_takes_the_database},
        {"what is no event takes the database", test_what_is_no_event_takes_the_database},
        {"own membership asks for a new look", test_own_membership_asks_for_a_new_look},
        {"tokens beyond both ends take the database", test_tokens_beyond_both_ends},
        {"is bounded in bytes", test_is_bounded_in_bytes},
        {"receipts of others", test_receipts},
        {"how long a room was quiet", test_quiet_since},
        {"typing in own rooms", test_typing},
        {"counts of keys", test_counts_of_keys},
        {"puts out idle users", test_puts_out_idle_users},
    };
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/server/sync_hub/", tests[i].name, NULL);
        g_test_add(path, Fixture, NULL, set_up, tests[i].test, tear_down);
    }
    return g_test_run();
}
