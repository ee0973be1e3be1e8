/* tests/bench/bench_state.c: our half of the state measurement of `make bench-room`
 * (tests/bench/state_bytes.py says what it measures).
 *
 * usage: bench_state CONNINFO.  One request a line on standard input, {"room_id", "changes":
 * [[type, state key, event id], …]}: each change becomes a snapshot of the room's state on top of
 * the last one, in a batch of its own, as it does when a state event is stored.  {"room_id",
 * "read": true} answers with the room's state as the database has it. */
#include <stdio.h>
#include <string.h>

#include "federation/room_event.h"
#include "identity/json.h"
#include "identity/seeded_hash.h"
#include "storage/lane.h"
#include "storage/migrate.h"
#include "storage/room_store.h"

#define RING_BYTES (1 << 20)
#define CACHE_BYTES (1 << 20)

static const JsonLimits line_limits = {64 * 1024 * 1024, 5, 1000000, FALSE};
static const guint8 seed[STATE_SEED_BYTES] = "seed of a bench.";

typedef struct {
    Lane *lane;
    RoomReader *reader;
    GHashTable *roots; /* room id -> StateNodeId, both owned */
} Bench;

typedef struct {
    RoomView *view;
    gboolean is_new;
} Snapshot;

static gboolean
apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Snapshot *snapshot = data;
    const RoomInfo *info = snapshot->view->info;

    if (snapshot->is_new) {
        g_autoptr(GBytes) seed_bytes = g_bytes_new_static(seed, sizeof seed);
        room_store_insert(batch, info->room_id, info->version->id, seed_bytes, 0);
    }
    g_ptr_array_unref(room_view_store_nodes(snapshot->view, batch));
    return TRUE;
}

static void
store_change(Bench *bench, RoomInfo *info, StateNodeId *root, const cJSON *triple)
{
    StateChange change = {cJSON_GetStringValue(triple->child),
                          cJSON_GetStringValue(triple->child->next),
                          cJSON_GetStringValue(triple->child->next->next)};
    g_autoptr(RoomView) view = room_view_new(bench->reader, NULL, info);
    Snapshot snapshot = {view, state_node_id_equal(root, &state_node_empty)};
    GError *error = NULL;

    if (!state_trie_change(view->trie, root, &change, 1, root, &error) ||
        !lane_submit_and_wait(bench->lane, apply, &snapshot, NULL, &error))
        g_error("%s", error->message);
}

static gboolean
collect(const char *type, const char *state_key, const char *event_id, gpointer data)
{
    cJSON *triple = cJSON_CreateArray();
    cJSON_AddItemToArray(triple, cJSON_CreateString(type));
    cJSON_AddItemToArray(triple, cJSON_CreateString(state_key));
    cJSON_AddItemToArray(triple, cJSON_CreateString(event_id));
    cJSON_AddItemToArray(data, triple);
    return TRUE;
}

static cJSON *
answer(Bench *bench, const cJSON *request)
{
    const char *room_id = json_get_string(request, "room_id");
    g_autoptr(RoomInfo) info = room_info_new(room_id, room_version_find("12"), seed);
    StateNodeId *root = g_hash_table_lookup(bench->roots, room_id);
    const cJSON *changes = json_get_array(request, "changes");
    g_autoptr(RoomView) view = room_view_new(bench->reader, NULL, info);
    GError *error = NULL;

    if (root == NULL) {
        root = g_memdup2(&state_node_empty, sizeof state_node_empty);
        g_hash_table_insert(bench->roots, g_strdup(room_id), root);
    }
    if (changes != NULL) {
        for (const cJSON *triple = changes->child; triple != NULL; triple = triple->next)
            store_change(bench, info, root, triple);
        return cJSON_CreateTrue();
    }
    cJSON *state = cJSON_CreateArray();
    if (!state_trie_foreach(view->trie, root, collect, state, &error))
        g_error("%s", error->message);
    return state;
}

int
main(int argc, char **argv)
{
    g_autofree char *line = NULL;
    gsize room = 0;
    gssize length;
    GError *error = NULL;
    Bench bench = {0};

    if (argc != 2)
        g_error("usage: bench_state CONNINFO");
    StorePool *pool = store_pool_new(argv[1], 2);
    LogRing *ring = log_ring_new(RING_BYTES, (LogHead){0, 0});
    if (!store_migrate(pool, NULL, &error) ||
        (bench.lane = lane_new(pool, ring, 10, &error)) == NULL)
        g_error("%s", error->message);
    bench.reader = room_reader_new(pool, CACHE_BYTES, CACHE_BYTES);
    bench.roots = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, g_free);
    while ((length = getline(&line, &room, stdin)) > 0) {
        g_autoptr(cJSON) request = json_parse(line, (gsize)length, &line_limits, &error);
        if (request == NULL)
            g_error("%s", error->message);
        g_autoptr(cJSON) answered = answer(&bench, request);
        g_autofree char *printed = cJSON_PrintUnformatted(answered);
        puts(printed);
        fflush(stdout);
    }
    g_hash_table_unref(bench.roots);
    room_reader_free(bench.reader);
    lane_free(bench.lane);
    log_ring_free(ring);
    store_pool_free(pool);
    return 0;
}
