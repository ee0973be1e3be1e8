/* tests/bench/bench_room.c: our half of `make bench-room` (tests/bench/bench_room.py).
 *
 * usage: bench_room FILE, with FILE one JSON object: "version", "events" (texts, the create event
 * first), "message" (an event id), "states" ([[event id, …], …]), "server", "key_id", "public_key"
 * (hexadecimal).  Prints one JSON object of figures, all of them processor time. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "federation/room/event_auth.h"
#include "federation/room/pdu_sign.h"
#include "federation/room/state_resolution.h"
#include "identity/json.h"
#include "identity/seeded_hash.h"

#define SECONDS_US 500000 /* how long a short thing is repeated */
#define RESOLUTIONS 9
#define KEYS_TRIED 2000
#define EVENTS_BUDGET 1000000

static const JsonLimits file_limits = {256 * 1024 * 1024, 20, 10000000, FALSE};
static const guint8 seed[STATE_SEED_BYTES] = "seed of a bench.";

static GHashTable *events; /* event id -> Pdu */
static const Pdu *create;

static gint64
processor_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (gint64)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- one message ---- */

static double
auth_checks_a_second(const Pdu *message)
{
    g_autoptr(GPtrArray) auth_events = g_ptr_array_new();
    gint64 began = processor_us(), now = began;
    guint count = 0;

    for (guint i = 0; i < message->auth_event_count; i++)
        g_ptr_array_add(auth_events, g_hash_table_lookup(events, message->auth_events[i]));
    for (; now - began < SECONDS_US; now = processor_us())
        for (guint i = 0; i < 100; i++, count++) {
            const char *reason = NULL;
            if (event_auth_check_own(message, create, auth_events, NULL, &reason) != AUTH_ALLOW)
                g_error("the message is refused: %s", reason);
        }
    return count * 1e6 / (double)(now - began);
}

static double
verifications_a_second(const Pdu *message, const cJSON *file)
{
    const char *hex = json_get_string(file, "public_key");
    guint8 key[PUBLIC_KEY_BYTES];
    gint64 began = processor_us(), now = began;
    guint count = 0;

    if (sodium_hex2bin(key, sizeof key, hex, strlen(hex), NULL, NULL, NULL) != 0)
        g_error("no key");
    for (; now - began < SECONDS_US; now = processor_us())
        for (guint i = 0; i < 100; i++, count++)
            if (!pdu_check_content_hash(message) ||
                !pdu_verify_signature(message, json_get_string(file, "server"),
                                      json_get_string(file, "key_id"), key))
                g_error("the message is not well signed");
    return count * 1e6 / (double)(now - began);
}

/* ---- state resolution ---- */

static gboolean
load(gpointer data, const char *const *event_ids, guint count, Pdu **ret_pdus, GError **error)
{
    for (guint i = 0; i < count; i++) {
        Pdu *pdu = g_hash_table_lookup(events, event_ids[i]);
        ret_pdus[i] = pdu != NULL ? pdu_ref(pdu) : NULL;
    }
    return TRUE;
}

static gboolean
collect(const char *type, const char *state_key, const char *event_id, gpointer data)
{
    cJSON_AddItemToArray(data, cJSON_CreateString(event_id));
    return TRUE;
}

static gint
compare_times(gconstpointer a, gconstpointer b)
{
    double one = *(const double *)a, two = *(const double *)b;
    return one < two ? -1 : one > two;
}

/* Milliseconds (the middle one of several) from the roots of the states to the resolved root. */
static double
resolve(const cJSON *states, cJSON *ret_ids)
{
    StateEventSource source = {NULL, load, NULL, EVENTS_BUDGET};
    g_autoptr(StateTrie) trie = state_trie_new(seed, NULL, NULL);
    g_autoptr(GArray) roots = g_array_new(FALSE, TRUE, sizeof(StateNodeId));
    double times[RESOLUTIONS];
    StateNodeId resolved;
    GError *error = NULL;

    for (const cJSON *state = states->child; state != NULL; state = state->next) {
        g_autoptr(GArray) changes = g_array_new(FALSE, FALSE, sizeof(StateChange));
        StateNodeId root = state_node_empty;
        for (const cJSON *item = state->child; item != NULL; item = item->next) {
            const Pdu *pdu = g_hash_table_lookup(events, cJSON_GetStringValue(item));
            StateChange change = {pdu->type, pdu->state_key, pdu->event_id};
            g_array_append_val(changes, change);
        }
        if (!state_trie_change(trie, &root, (const StateChange *)(void *)changes->data,
                               changes->len, &root, &error))
            g_error("%s", error->message);
        g_array_append_val(roots, root);
    }
    for (guint i = 0; i < RESOLUTIONS; i++) {
        gint64 began = processor_us();
        if (!state_resolve_roots(create, trie, (const StateNodeId *)(void *)roots->data, roots->len,
                                 &source, &resolved, &error))
            g_error("%s", error->message);
        times[i] = (double)(processor_us() - began) / 1000.0;
    }
    qsort(times, RESOLUTIONS, sizeof times[0], compare_times);
    if (!state_trie_foreach(trie, &resolved, collect, ret_ids, &error))
        g_error("%s", error->message);
    return times[RESOLUTIONS / 2];
}

/* ---- look-up and change by the size of the room ---- */

typedef struct {
    GHashTable *nodes; /* StateNodeId -> body */
    guint read;
} Nodes;

static guint
hash_node_id(gconstpointer id)
{
    guint hash;
    memcpy(&hash, id, sizeof hash);
    return hash;
}

static gboolean
equal_node_ids(gconstpointer a, gconstpointer b)
{
    return state_node_id_equal(a, b);
}

static gboolean
load_nodes(gpointer data, const StateNodeId *ids, guint count, GBytes **ret_bodies, GError **error)
{
    Nodes *nodes = data;
    for (guint i = 0; i < count; i++)
        ret_bodies[i] = g_bytes_ref(g_hash_table_lookup(nodes->nodes, &ids[i]));
    nodes->read += count;
    return TRUE;
}

/* Store what @trie has made: how many nodes, and the bytes of their stored forms. */
static guint
store_nodes(StateTrie *trie, Nodes *nodes, gsize *ret_bytes)
{
    g_autoptr(GPtrArray) made = state_trie_take_new_nodes(trie);
    for (guint i = 0; i < made->len; i++) {
        const StateNode *node = g_ptr_array_index(made, i);
        *ret_bytes += g_bytes_get_size(node->form);
        g_hash_table_replace(nodes->nodes, g_memdup2(&node->id, sizeof node->id),
                             g_bytes_ref(node->body));
    }
    return made->len;
}

static cJSON *
measure_trie(guint members)
{
    g_autoptr(GHashTable) table =
        g_hash_table_new_full(hash_node_id, equal_node_ids, g_free, (GDestroyNotify)g_bytes_unref);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autofree StateChange *changes = g_new(StateChange, members);
    Nodes nodes = {table, 0};
    StateTrie *trie = state_trie_new(seed, load_nodes, &nodes);
    StateNodeId root = state_node_empty;
    gsize bytes = 0, ignored = 0;
    gint64 find_us = 0, change_us = 0;
    guint made = 0;
    GError *error = NULL;

    for (guint i = 0; i < members; i++) {
        char *name = g_strdup_printf("@user%u:one.example", i);
        g_autofree char *digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, name, -1);
        char *event_id = g_strdup_printf("$%.43s", digest);
        g_ptr_array_add(names, name);
        g_ptr_array_add(names, event_id);
        changes[i] = (StateChange){"m.room.member", name, event_id};
    }
    if (!state_trie_change(trie, &root, changes, members, &root, &error))
        g_error("%s", error->message);
    store_nodes(trie, &nodes, &ignored);
    nodes.read = 0;
    /* Each with nothing in memory: every node of the way is read, as after a restart. */
    for (guint i = 0; i < KEYS_TRIED; i++) {
        const StateChange *change = &changes[i * 7919U % members];
        g_autofree char *event_id = NULL;
        state_trie_free(trie);
        trie = state_trie_new(seed, load_nodes, &nodes);
        gint64 began = processor_us();
        if (!state_trie_find(trie, &root, change->type, change->state_key, &event_id, &error))
            g_error("%s", error->message);
        find_us += processor_us() - began;
        g_assert_cmpstr(event_id, ==, change->event_id);
    }
    guint read = nodes.read;
    for (guint i = 0; i < KEYS_TRIED; i++) {
        g_autofree char *event_id = g_strdup_printf("$%043u", i);
        StateChange change = {"m.room.member", changes[i * 7919U % members].state_key, event_id};
        state_trie_free(trie);
        trie = state_trie_new(seed, load_nodes, &nodes);
        gint64 began = processor_us();
        if (!state_trie_change(trie, &root, &change, 1, &root, &error))
            g_error("%s", error->message);
        change_us += processor_us() - began;
        made += store_nodes(trie, &nodes, &bytes);
    }
    state_trie_free(trie);

    cJSON *row = cJSON_CreateObject();
    cJSON_AddNumberToObject(row, "members", members);
    cJSON_AddNumberToObject(row, "find_us", (double)find_us / KEYS_TRIED);
    cJSON_AddNumberToObject(row, "find_nodes", (double)read / KEYS_TRIED);
    cJSON_AddNumberToObject(row, "change_us", (double)change_us / KEYS_TRIED);
    cJSON_AddNumberToObject(row, "change_nodes", (double)made / KEYS_TRIED);
    cJSON_AddNumberToObject(row, "change_bytes", (double)bytes / KEYS_TRIED);
    return row;
}

int
main(int argc, char **argv)
{
    static const guint sizes[] = {10, 1000, 100000};
    g_autofree char *text = NULL;
    gsize length = 0;
    g_autoptr(GError) error = NULL;

    if (argc != 2 || !g_file_get_contents(argv[1], &text, &length, &error))
        g_error("usage: bench_room FILE: %s", error != NULL ? error->message : "");
    g_autoptr(cJSON) file = json_parse(text, length, &file_limits, &error);
    if (file == NULL)
        g_error("%s: %s", argv[1], error->message);
    const RoomVersion *version = room_version_find(json_get_string(file, "version"));
    events = g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, (GDestroyNotify)pdu_unref);
    for (const cJSON *item = json_get_array(file, "events")->child; item; item = item->next) {
        const char *event = cJSON_GetStringValue(item);
        Pdu *pdu = pdu_from_json(version, event, strlen(event), &error);
        if (pdu == NULL)
            g_error("%s", error->message);
        create = create != NULL ? create : pdu;
        g_hash_table_replace(events, (gpointer)pdu->event_id, pdu);
    }
    const Pdu *message = g_hash_table_lookup(events, json_get_string(file, "message"));
    g_autoptr(cJSON) answer = cJSON_CreateObject();
    cJSON *resolved = cJSON_AddArrayToObject(answer, "resolved");
    cJSON_AddNumberToObject(answer, "resolve_ms",
                            resolve(json_get_array(file, "states"), resolved));
    cJSON_AddNumberToObject(answer, "auth_per_s", auth_checks_a_second(message));
    cJSON_AddNumberToObject(answer, "verify_per_s", verifications_a_second(message, file));
    cJSON *tries = cJSON_AddArrayToObject(answer, "tries");
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++)
        cJSON_AddItemToArray(tries, measure_trie(sizes[i]));
    g_autofree char *printed = cJSON_PrintUnformatted(answer);
    puts(printed);
    g_hash_table_unref(events);
    return 0;
}
