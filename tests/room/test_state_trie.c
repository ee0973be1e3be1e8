#include "federation/room/state_trie.h"

#include <sodium.h>
#include <string.h>

#include "identity/seeded_hash.h"
#include "identity/unpadded_base64.h"

/* One stored node. */
typedef struct {
    StateNodeId base;
    GBytes *form;
} Stored;

/* Where nodes are stored, as a database would: by id, for ever; what is there first stays. */
typedef struct {
    GHashTable *nodes; /* hex id -> Stored */
    guint loads;       /* calls */
    guint nodes_read;
    guint forms_read;
    guint forms_max; /* the most that one node took */
    gsize bytes_written;
    guint nodes_written;
} Shelf;

static const guint8 seed[STATE_SEED_BYTES] = "a room's own key";

static char *
hex_of(const StateNodeId *id)
{
    char *hex = g_malloc(2 * STATE_NODE_ID_BYTES + 1);
    return sodium_bin2hex(hex, 2 * STATE_NODE_ID_BYTES + 1, id->bytes, sizeof id->bytes);
}

static void
stored_free(gpointer data)
{
    Stored *stored = data;
    g_bytes_unref(stored->form);
    g_free(stored);
}

static const Stored *
shelf_find(const Shelf *shelf, const StateNodeId *id)
{
    g_autofree char *hex = hex_of(id);
    return g_hash_table_lookup(shelf->nodes, hex);
}

static void
shelf_put(Shelf *shelf, const StateNodeId *id, const StateNodeId *base, GBytes *form)
{
    Stored *stored = g_new0(Stored, 1);
    stored->base = *base;
    stored->form = g_bytes_ref(form);
    g_hash_table_replace(shelf->nodes, hex_of(id), stored);
}

/* The body of one node, out of all the forms that it stands on; NULL if it or one of them is not
 * there, or it is not what its id says. */
static GBytes *
shelf_body(Shelf *shelf, const StateNodeId *id)
{
    g_autoptr(GPtrArray) forms = g_ptr_array_new();
    const StateNodeId *at = id;
    do {
        const Stored *stored = shelf_find(shelf, at);
        if (stored == NULL)
            return NULL;
        g_ptr_array_add(forms, stored->form);
        at = &stored->base;
    } while (!state_node_id_equal(at, &state_node_empty));
    shelf->forms_read += forms->len;
    shelf->forms_max = MAX(shelf->forms_max, forms->len);
    g_autoptr(GBytes) body = state_node_unfold((GBytes **)forms->pdata, forms->len);
    gboolean good = body != NULL && state_node_check(seed, id, body);
    return good ? g_steal_pointer(&body) : NULL;
}

static gboolean
shelf_load(gpointer data, const StateNodeId *ids, guint count, GBytes **ret_bodies, GError **error)
{
    Shelf *shelf = data;
    shelf->loads++;
    shelf->nodes_read += count;
    g_assert_cmpuint(count, >=, 1);
    g_assert_cmpuint(count, <=, STATE_LOAD_MAX);
    for (guint i = 0; i < count; i++) {
        ret_bodies[i] = shelf_body(shelf, &ids[i]);
        if (ret_bodies[i] != NULL)
            continue;
        g_set_error_literal(error, STATE_TRIE_ERROR, STATE_TRIE_ERROR_DAMAGED, "no node");
        while (i > 0)
            g_bytes_unref(ret_bodies[--i]);
        return FALSE;
    }
    return TRUE;
}

static void
shelf_store(Shelf *shelf, StateTrie *trie)
{
    g_autoptr(GPtrArray) nodes = state_trie_take_new_nodes(trie);
    for (guint i = 0; i < nodes->len; i++) {
        const StateNode *node = nodes->pdata[i];
        shelf->nodes_written++;
        shelf->bytes_written += g_bytes_get_size(node->form);
        if (shelf_find(shelf, &node->id) == NULL)
            shelf_put(shelf, &node->id, &node->base, node->form);
    }
}

static void
shelf_init(Shelf *shelf)
{
    memset(shelf, 0, sizeof *shelf);
    shelf->nodes = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, stored_free);
}

static char *
event_id_for(guint number)
{
    guint8 hash[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(hash, (const guint8 *)&number, sizeof number);
    g_autofree char *text = unpadded_base64_encode(hash, sizeof hash, BASE64_URL_SAFE);
    return g_strconcat("$", text, NULL);
}

static StateNodeId
change_one(StateTrie *trie, StateNodeId root, const char *type, const char *state_key,
           const char *event_id)
{
    StateChange change = {type, state_key, event_id};
    StateNodeId result;
    GError *error = NULL;
    gboolean good = state_trie_change(trie, &root, &change, 1, &result, &error);
    g_assert_no_error(error);
    g_assert_true(good);
    return result;
}

static StateNodeId
with_member(StateTrie *trie, StateNodeId root, guint user, guint event)
{
    g_autofree char *user_id = g_strdup_printf("@user%u:one.example", user);
    g_autofree char *event_id = event_id_for(event);
    return change_one(trie, root, "m.room.member", user_id, event_id);
}

static void
check_entry(StateTrie *trie, const StateNodeId *root, const char *type, const char *state_key,
            const char *expected)
{
    g_autofree char *event_id = NULL;
    GError *error = NULL;
    gboolean good = state_trie_find(trie, root, type, state_key, &event_id, &error);
    g_assert_no_error(error);
    g_assert_true(good);
    g_assert_cmpstr(event_id, ==, expected);
}

static guint64
count_of(StateTrie *trie, const StateNodeId *root)
{
    guint64 count = 0;
    g_assert_true(state_trie_count(trie, root, &count, NULL));
    return count;
}

static void
test_the_empty_state(void)
{
    g_autoptr(StateTrie) trie = state_trie_new(seed, NULL, NULL);
    check_entry(trie, &state_node_empty, "m.room.create", "", NULL);
    g_assert_cmpuint(count_of(trie, &state_node_empty), ==, 0);
    StateNodeId root = change_one(trie, state_node_empty, "a", "b", NULL);
    g_assert_true(state_node_id_equal(&root, &state_node_empty));
    root = change_one(trie, root, "a", "b", "$c");
    g_assert_false(state_node_id_equal(&root, &state_node_empty));
    root = change_one(trie, root, "a", "b", NULL);
    g_assert_true(state_node_id_equal(&root, &state_node_empty));
}

static void
test_entries_are_found_and_told_apart(void)
{
    g_autoptr(StateTrie) trie = state_trie_new(seed, NULL, NULL);
    StateNodeId root = state_node_empty;
    root = change_one(trie, root, "m.room.create", "", "$create:old.example");
    root = change_one(trie, root, "m.room.member", "@a:b", "$1");
    root = change_one(trie, root, "m.room.member@a", ":b", "$2");
    root = change_one(trie, root, "m.room.Member", "@a:b", "$3");
    root = change_one(trie, root, "", "", "$4");
    check_entry(trie, &root, "m.room.create", "", "$create:old.example");
    check_entry(trie, &root, "m.room.member", "@a:b", "$1");
    check_entry(trie, &root, "m.room.member@a", ":b", "$2");
    check_entry(trie, &root, "m.room.Member", "@a:b", "$3");
    check_entry(trie, &root, "", "", "$4");
    check_entry(trie, &root, "m.room.member", "@a:c", NULL);
    g_assert_cmpuint(count_of(trie, &root), ==, 5);

    /* Of two changes of one key the later counts. */
    StateChange twice[] = {
        {"x", "", "$first"}, {"x", "", "$second"}, {"y", "", "$y"}, {"y", "", NULL}};
    g_assert_true(state_trie_change(trie, &root, twice, G_N_ELEMENTS(twice), &root, NULL));
    check_entry(trie, &root, "x", "", "$second");
    check_entry(trie, &root, "y", "", NULL);
}

static void
test_a_snapshot_never_changes(void)
{
    Shelf shelf;
    shelf_init(&shelf);
    g_autoptr(StateTrie) trie = state_trie_new(seed, shelf_load, &shelf);
    StateNodeId roots[200];
    StateNodeId root = state_node_empty;
    for (guint i = 0; i < G_N_ELEMENTS(roots); i++) {
        roots[i] = root = with_member(trie, root, i, i);
        shelf_store(&shelf, trie);
    }
    for (guint i = 0; i < G_N_ELEMENTS(roots); i++) {
        g_autofree char *last = g_strdup_printf("@user%u:one.example", i);
        g_autofree char *next = g_strdup_printf("@user%u:one.example", i + 1);
        g_autofree char *event_id = event_id_for(i);
        check_entry(trie, &roots[i], "m.room.member", last, event_id);
        check_entry(trie, &roots[i], "m.room.member", next, NULL);
        g_assert_cmpuint(count_of(trie, &roots[i]), ==, i + 1);
    }
    g_hash_table_unref(shelf.nodes);
}

/* However a state came to be, its root is the same; and through every size there and back. */
static void
test_equal_states_have_equal_roots(void)
{
    enum {
        SIZE = 300
    };
    g_autoptr(StateTrie) trie = state_trie_new(seed, NULL, NULL);
    StateNodeId forward[SIZE + 1], root = state_node_empty;
    forward[0] = root;
    for (guint i = 0; i < SIZE; i++)
        forward[i + 1] = root = with_member(trie, root, i, i);

    /* All at once, backwards, with detours. */
    g_autofree StateChange *changes = g_new0(StateChange, SIZE);
    g_autoptr(GPtrArray) strings = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < SIZE; i++) {
        guint user = SIZE - 1 - i;
        changes[i].type = "m.room.member";
        g_ptr_array_add(strings, g_strdup_printf("@user%u:one.example", user));
        changes[i].state_key = strings->pdata[strings->len - 1];
        g_ptr_array_add(strings, event_id_for(user));
        changes[i].event_id = strings->pdata[strings->len - 1];
    }
    StateNodeId at_once, detour = change_one(trie, state_node_empty, "detour", "", "$d");
    g_assert_true(state_trie_change(trie, &detour, changes, SIZE, &at_once, NULL));
    at_once = change_one(trie, at_once, "detour", "", NULL);
    g_assert_true(state_node_id_equal(&at_once, &forward[SIZE]));

    for (guint i = SIZE; i > 0; i--) {
        g_autofree char *user_id = g_strdup_printf("@user%u:one.example", i - 1);
        root = change_one(trie, root, "m.room.member", user_id, NULL);
        g_assert_true(state_node_id_equal(&root, &forward[i - 1]));
    }

    /* Another room's seed gives other nodes. */
    static const guint8 other_seed[STATE_SEED_BYTES] = "another room's k";
    g_autoptr(StateTrie) other = state_trie_new(other_seed, NULL, NULL);
    StateNodeId foreign = with_member(other, state_node_empty, 0, 0);
    g_assert_false(state_node_id_equal(&foreign, &forward[1]));
}

typedef struct {
    GHashTable *map;
    guint stop_after;
    guint seen;
} Collected;

static gboolean
collect(const char *type, const char *state_key, const char *event_id, gpointer data)
{
    Collected *collected = data;
    g_assert_null(state_map_get(collected->map, type, state_key));
    state_map_set(collected->map, type, state_key, event_id);
    return ++collected->seen != collected->stop_after;
}

static void
check_same_map(GHashTable *a, GHashTable *b)
{
    GHashTableIter iter;
    gpointer key, value;
    g_assert_cmpuint(g_hash_table_size(a), ==, g_hash_table_size(b));
    g_hash_table_iter_init(&iter, a);
    while (g_hash_table_iter_next(&iter, &key, &value))
        g_assert_cmpstr(g_hash_table_lookup(b, key), ==, value);
}

static void
check_against_map(StateTrie *trie, const StateNodeId *root, GHashTable *map)
{
    Collected collected = {.map = state_map_new()};
    g_assert_true(state_trie_foreach(trie, root, collect, &collected, NULL));
    check_same_map(collected.map, map);
    g_assert_cmpuint(count_of(trie, root), ==, g_hash_table_size(map));
    g_hash_table_unref(collected.map);
}

/* state_trie_difference() must turn the old map into the new one, and say nothing else. */
static void
check_difference(StateTrie *trie, const StateNodeId *old_root, GHashTable *old_map,
                 const StateNodeId *new_root, GHashTable *new_map)
{
    g_autoptr(GPtrArray) differences = state_trie_difference(trie, old_root, new_root, NULL);
    g_autoptr(GHashTable) map = state_map_new();
    GHashTableIter iter;
    gpointer key, value;

    g_assert_nonnull(differences);
    g_hash_table_iter_init(&iter, old_map);
    while (g_hash_table_iter_next(&iter, &key, &value))
        state_map_set(map, ((StateKey *)key)->type, ((StateKey *)key)->state_key, value);
    for (guint i = 0; i < differences->len; i++) {
        const StateDifference *d = differences->pdata[i];
        g_assert_cmpstr(d->old_event_id, ==, state_map_get(old_map, d->type, d->state_key));
        g_assert_cmpstr(d->new_event_id, ==, state_map_get(new_map, d->type, d->state_key));
        g_assert_cmpstr(d->old_event_id, !=, d->new_event_id);
        if (i > 0) {
            const StateDifference *before = differences->pdata[i - 1];
            StateKey a = {before->type, before->state_key}, b = {d->type, d->state_key};
            g_assert_cmpint(state_key_compare(&a, &b), <, 0);
        }
        if (d->new_event_id != NULL)
            state_map_set(map, d->type, d->state_key, d->new_event_id);
        else
            state_map_remove(map, d->type, d->state_key);
    }
    check_same_map(map, new_map);
}

static void
test_random_states_agree_with_a_plain_map(void)
{
    enum {
        STEPS = 120
    };
    static const char *const types[] = {"m.room.member", "m.room.name", "org.example.thing", ""};
    Shelf shelf;
    shelf_init(&shelf);
    g_autoptr(StateTrie) trie = state_trie_new(seed, shelf_load, &shelf);
    GHashTable *maps[STEPS];
    StateNodeId roots[STEPS], root = state_node_empty;
    g_autoptr(GHashTable) map = state_map_new();

    for (guint step = 0; step < STEPS; step++) {
        guint count = (guint)g_test_rand_int_range(1, step % 10 == 0 ? 150 : 6);
        gboolean shrinking = step % 40 >= 25;
        g_autoptr(GPtrArray) strings = g_ptr_array_new_with_free_func(g_free);
        g_autofree StateChange *changes = g_new0(StateChange, count);
        for (guint i = 0; i < count; i++) {
            changes[i].type = types[g_test_rand_int_range(0, G_N_ELEMENTS(types))];
            g_ptr_array_add(strings, g_strdup_printf("@%d:x", g_test_rand_int_range(0, 200)));
            changes[i].state_key = strings->pdata[strings->len - 1];
            if (g_test_rand_int_range(0, 10) < (shrinking ? 8 : 2)) {
                state_map_remove(map, changes[i].type, changes[i].state_key);
                continue;
            }
            g_ptr_array_add(strings, g_test_rand_bit() ? event_id_for((guint)g_test_rand_int())
                                                       : g_strdup_printf("$%u:x", step * 1000 + i));
            changes[i].event_id = strings->pdata[strings->len - 1];
            state_map_set(map, changes[i].type, changes[i].state_key, changes[i].event_id);
        }
        g_assert_true(state_trie_change(trie, &root, changes, count, &root, NULL));
        if (g_test_rand_bit())
            shelf_store(&shelf, trie);
        check_against_map(trie, &root, map);
        roots[step] = root;
        maps[step] = state_map_new();
        GHashTableIter iter;
        gpointer key, value;
        g_hash_table_iter_init(&iter, map);
        while (g_hash_table_iter_next(&iter, &key, &value))
            state_map_set(maps[step], ((StateKey *)key)->type, ((StateKey *)key)->state_key, value);
    }
    shelf_store(&shelf, trie);
    for (guint i = 0; i < 400; i++) {
        guint a = (guint)g_test_rand_int_range(0, STEPS),
              b = (guint)g_test_rand_int_range(0, STEPS);
        check_difference(trie, &roots[a], maps[a], &roots[b], maps[b]);
    }
    g_autoptr(GHashTable) nothing = state_map_new();
    check_difference(trie, &state_node_empty, nothing, &root, map);
    check_difference(trie, &root, map, &state_node_empty, nothing);
    for (guint i = 0; i < STEPS; i++)
        g_hash_table_unref(maps[i]);
    g_hash_table_unref(shelf.nodes);
}

/* What a change and a difference cost does not grow with the room. */
static void
test_large_states_are_shared(void)
{
    enum {
        SIZE = 20000
    };
    Shelf shelf;
    shelf_init(&shelf);
    g_autoptr(StateTrie) trie = state_trie_new(seed, shelf_load, &shelf);
    g_autofree StateChange *changes = g_new0(StateChange, SIZE);
    g_autoptr(GPtrArray) strings = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < SIZE; i++) {
        g_ptr_array_add(strings, g_strdup_printf("@user%u:one.example", i));
        changes[i] = (StateChange){"m.room.member", strings->pdata[strings->len - 1], NULL};
        g_ptr_array_add(strings, event_id_for(i));
        changes[i].event_id = strings->pdata[strings->len - 1];
    }
    StateNodeId large, changed;
    g_assert_true(state_trie_change(trie, &state_node_empty, changes, SIZE, &large, NULL));
    shelf_store(&shelf, trie);
    g_test_message("%u entries: %u nodes, %" G_GSIZE_FORMAT " bytes", SIZE, shelf.nodes_written,
                   shelf.bytes_written);

    shelf.nodes_written = shelf.nodes_read = shelf.loads = 0;
    shelf.bytes_written = 0;
    changed = with_member(trie, large, 77, SIZE + 1);
    shelf_store(&shelf, trie);
    g_test_message("one change: %u nodes, %" G_GSIZE_FORMAT " bytes", shelf.nodes_written,
                   shelf.bytes_written);
    g_assert_cmpuint(shelf.nodes_written, <=, 6);
    g_assert_cmpuint(shelf.nodes_read, <=, 6);

    shelf.nodes_read = shelf.loads = 0;
    g_autoptr(GPtrArray) differences = state_trie_difference(trie, &large, &changed, NULL);
    g_assert_cmpuint(differences->len, ==, 1);
    g_assert_cmpuint(shelf.nodes_read, <=, 12);
    g_assert_cmpuint(shelf.loads, <=, 6);

    /* Many keys take one load a level. */
    StateKey keys[100];
    char *event_ids[100];
    for (guint i = 0; i < 100; i++)
        keys[i] = (StateKey){"m.room.member", changes[i * 7].state_key};
    shelf.loads = 0;
    g_assert_true(state_trie_find_many(trie, &large, keys, 100, event_ids, NULL));
    g_assert_cmpuint(shelf.loads, <=, 6);
    for (guint i = 0; i < 100; i++) {
        g_assert_cmpstr(event_ids[i], ==, changes[i * 7].event_id);
        g_free(event_ids[i]);
    }

    /* A walk may stop early, and reads many nodes a load. */
    Collected collected = {.map = state_map_new(), .stop_after = 10};
    g_assert_true(state_trie_foreach(trie, &large, collect, &collected, NULL));
    g_assert_cmpuint(collected.seen, ==, 10);
    g_hash_table_remove_all(collected.map);
    collected.seen = collected.stop_after = shelf.loads = 0;
    g_assert_true(state_trie_foreach(trie, &large, collect, &collected, NULL));
    g_assert_cmpuint(collected.seen, ==, SIZE);
    g_assert_cmpuint(shelf.loads, <=, 60);
    g_hash_table_unref(collected.map);
    g_hash_table_unref(shelf.nodes);
}

/* Each byte of node @id's stored form changed, then the last one missing, then all of it: no
 * answer that is wrong. */
static void
check_damage(Shelf *shelf, StateTrie *trie, const StateNodeId *id)
{
    const Stored *stored = shelf_find(shelf, id);
    g_autoptr(GBytes) good = g_bytes_ref(stored->form);
    StateNodeId base = stored->base, other;
    StateChange change = {"a", "", "$a"};
    GError *error = NULL;
    gsize length = 0;
    const guint8 *bytes = g_bytes_get_data(good, &length);

    for (gsize i = 0; i <= length; i++) {
        g_autofree guint8 *copy = g_memdup2(bytes, length);
        g_autoptr(GBytes) bad = NULL;
        char *event_id = NULL;
        if (i < length)
            copy[i] ^= 0x41;
        bad = g_bytes_new(copy, i < length ? length : length - 1);
        shelf_put(shelf, id, &base, bad);
        g_assert_false(
            state_trie_find(trie, id, "m.room.member", "@user1:one.example", &event_id, &error));
        g_assert_error(error, STATE_TRIE_ERROR, STATE_TRIE_ERROR_DAMAGED);
        g_clear_error(&error);
    }
    g_autofree char *hex = hex_of(id);
    g_hash_table_remove(shelf->nodes, hex);
    g_assert_false(state_trie_change(trie, id, &change, 1, &other, &error));
    g_clear_error(&error);
    g_assert_null(state_trie_difference(trie, &state_node_empty, id, &error));
    g_clear_error(&error);
    shelf_put(shelf, id, &base, good);
    g_assert_true(state_trie_change(trie, id, &change, 1, &other, &error));
}

static void
test_damage_is_noticed(void)
{
    Shelf shelf;
    shelf_init(&shelf);
    g_autoptr(StateTrie) trie = state_trie_new(seed, shelf_load, &shelf);
    StateNodeId root = state_node_empty;
    guint seen[5] = {0}; /* by the kind of a form */
    for (guint i = 0; i < 120; i++) {
        root = with_member(trie, root, i % 60, i);
        shelf_store(&shelf, trie);
        guint kind = *(const guint8 *)g_bytes_get_data(shelf_find(&shelf, &root)->form, NULL);
        g_assert_cmpuint(kind, <, G_N_ELEMENTS(seen));
        if (seen[kind]++ == 2)
            check_damage(&shelf, trie, &root);
    }
    for (guint kind = 1; kind < G_N_ELEMENTS(seen); kind++)
        g_assert_cmpuint(seen[kind], >, 2);
    g_autoptr(GBytes) good = shelf_body(&shelf, &root);
    GError *error = NULL;

    /* Bodies that are no node. */
    static const char *const bodies[] = {
        "",           "\1",           "\3\1",        "\1\1",
        "\1\1\200\5", "\2\1\377\377", "\1\1\177\1a", "\1\377\377\377\377\377\377\377\377\377"};
    for (guint i = 0; i < G_N_ELEMENTS(bodies); i++) {
        g_autoptr(GBytes) body = g_bytes_new(bodies[i], strlen(bodies[i]));
        g_assert_null(state_node_children(body, &error));
        g_assert_error(error, STATE_TRIE_ERROR, STATE_TRIE_ERROR_DAMAGED);
        g_clear_error(&error);
    }
    g_autoptr(GArray) children = state_node_children(good, NULL);
    g_assert_cmpuint(children->len, >, 1);

    /* Forms that do not fit what they stand on: a leaf of one entry, ("", "") -> "x". */
    g_autoptr(GBytes) leaf = g_bytes_new("\1\1\0\0\0\1x", 7);
    static const struct {
        const char *bytes;
        gsize length;
        gboolean fits;
    } forms[] = {
        {"\3", 1, TRUE},
        {"\3\0", 2, TRUE},
        {"\3\2\1y", 4, TRUE},
        {"\3\7\0\1a\0\1y", 8, TRUE},
        {"", 0, FALSE},
        {"\3\4", 2, FALSE},
        {"\3\2\1", 3, FALSE},
        {"\3\2\377\377", 4, FALSE},
        {"\3\1y", 3, FALSE},
        {"\3\0\0", 3, FALSE},
        {"\3\3\0", 3, FALSE},
        {"\4\1\0\0", 4, FALSE},
        {"\1\1\0\0\0\1x", 7, FALSE},
        {"\5", 1, FALSE},
        {"\3\377\377\377\377\377\377\377\377\377", 10, FALSE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(forms); i++) {
        g_autoptr(GBytes) form = g_bytes_new(forms[i].bytes, forms[i].length);
        GBytes *both[] = {form, leaf};
        g_autoptr(GBytes) body = state_node_unfold(both, 2);
        g_test_message("form %u", i);
        g_assert_cmpint(body != NULL, ==, forms[i].fits);
    }
    g_assert_null(state_node_unfold(NULL, 0));
    g_hash_table_unref(shelf.nodes);
}

/* What is stored for a change is small, and does not stand on so many others that reading is slow;
 * a state that comes back is what it was, whatever stood on it meanwhile. */
static void
test_changes_are_stored_as_changes(void)
{
    enum {
        SIZE = 100,
        CHANGES = 1500
    };
    Shelf shelf;
    shelf_init(&shelf);
    g_autoptr(StateTrie) trie = state_trie_new(seed, shelf_load, &shelf);
    StateNodeId roots[CHANGES], root = state_node_empty;
    for (guint i = 0; i < SIZE; i++)
        root = with_member(trie, root, i, i);
    shelf_store(&shelf, trie);
    shelf.bytes_written = 0;
    for (guint i = 0; i < CHANGES; i++) {
        roots[i] = root;
        root = with_member(trie, root, i * 7 % SIZE, i + SIZE);
        shelf_store(&shelf, trie);
    }
    g_test_message("bytes a change: %" G_GSIZE_FORMAT, shelf.bytes_written / CHANGES);
    g_assert_cmpuint(shelf.bytes_written / CHANGES, <, 160);

    shelf.nodes_read = shelf.forms_read = shelf.forms_max = 0;
    for (guint i = 0; i < CHANGES; i++)
        g_assert_cmpuint(count_of(trie, &roots[i]), ==, SIZE);
    g_test_message("forms a node: %.1f, at most %u", (double)shelf.forms_read / shelf.nodes_read,
                   shelf.forms_max);
    g_assert_cmpuint(shelf.forms_read, <, 30 * shelf.nodes_read);
    g_assert_cmpuint(shelf.forms_max, <, 300);

    /* There and back again, over what another process may have stored meanwhile. */
    StateNodeId there = roots[5], back;
    for (guint i = 0; i < 100; i++) {
        g_autoptr(StateTrie) other = state_trie_new(seed, shelf_load, &shelf);
        back = with_member(other, there, 3, 100000 + i % 2);
        if (i % 3 == 0)
            shelf_store(&shelf, other);
        back = with_member(i % 2 == 0 ? other : trie, there, 3, 3);
        there = with_member(trie, back, 3, 100000 + (i + 1) % 2);
        shelf_store(&shelf, trie);
        shelf_store(&shelf, other);
    }
    for (guint i = 0; i < CHANGES; i++)
        g_assert_cmpuint(count_of(trie, &roots[i]), ==, SIZE);
    g_assert_cmpuint(count_of(trie, &there), ==, SIZE);
    g_hash_table_unref(shelf.nodes);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/state-trie/empty", test_the_empty_state);
    g_test_add_func("/state-trie/entries", test_entries_are_found_and_told_apart);
    g_test_add_func("/state-trie/snapshots", test_a_snapshot_never_changes);
    g_test_add_func("/state-trie/equal-roots", test_equal_states_have_equal_roots);
    g_test_add_func("/state-trie/random", test_random_states_agree_with_a_plain_map);
    g_test_add_func("/state-trie/large", test_large_states_are_shared);
    g_test_add_func("/state-trie/stored-forms", test_changes_are_stored_as_changes);
    g_test_add_func("/state-trie/damage", test_damage_is_noticed);
    return g_test_run();
}
