/* Fuzz target: the bytes are moves of a room that splits and meets again, auth events chosen at
 * will.  Resolving ends within its budget, in whatever order the states are given, with the same
 * state. */
#include <string.h>

#include "federation/room/state_resolution.h"
#include "identity/seeded_hash.h"
#include "tests/support/room_events.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

#define MOVES_MAX 60
#define FORKS 3
#define EVENTS_BUDGET 2000

typedef struct {
    const guint8 *data;
    gsize size;
    TestRoom *room;
    GPtrArray *events; /* Pdu * */
    GHashTable *by_id; /* event id -> index + 1 */
    guint8 odd;        /* decides which events are rejected or unknown */
    StateTrie *trie;
    StateNodeId roots[FORKS];
} Play;

static guint
next_byte(Play *play, guint below)
{
    if (play->size == 0)
        return 0;
    play->size--;
    return *play->data++ % below;
}

static gboolean
play_load(gpointer data, const char *const *event_ids, guint count, Pdu **ret_pdus, GError **error)
{
    Play *play = data;
    for (guint i = 0; i < count; i++) {
        guint index = GPOINTER_TO_UINT(g_hash_table_lookup(play->by_id, event_ids[i]));
        if (index > 0 && index % 61 != play->odd)
            ret_pdus[i] = pdu_ref(play->events->pdata[index - 1]);
    }
    return TRUE;
}

static gboolean
play_is_rejected(gpointer data, const char *event_id)
{
    Play *play = data;
    return GPOINTER_TO_UINT(g_hash_table_lookup(play->by_id, event_id)) % 13 == play->odd;
}

static void
keep(Play *play, const Pdu *pdu)
{
    if (g_hash_table_contains(play->by_id, pdu->event_id))
        return;
    g_ptr_array_add(play->events, pdu_ref(pdu));
    g_hash_table_insert(play->by_id, (gpointer)pdu->event_id, GUINT_TO_POINTER(play->events->len));
}

static void
put(Play *play, guint fork, const Pdu *pdu)
{
    StateChange change = {pdu->type, pdu->state_key, pdu->event_id};
    g_assert_true(
        state_trie_change(play->trie, &play->roots[fork], &change, 1, &play->roots[fork], NULL));
}

/* An event whose auth events are any that there are. */
static void
make_move(Play *play)
{
    static const char *const users[] = {ALICE, BOB, CAROL, MALLORY};
    static const struct {
        const char *type;
        const char *content;
    } kinds[] = {
        {"m.room.member", "{'membership':'join'}"},
        {"m.room.member", "{'membership':'leave'}"},
        {"m.room.member", "{'membership':'ban'}"},
        {"m.room.member", "{'membership':'invite'}"},
        {"m.room.join_rules", "{'join_rule':'public'}"},
        {"m.room.join_rules", "{'join_rule':'invite'}"},
        {"m.room.power_levels", "{'users':{'@bob:one.example':100}}"},
        {"m.room.power_levels", "{'users':{'@carol:two.example':50},'users_default':50}"},
        {"m.room.power_levels", "{}"},
        {"m.room.name", "{}"},
    };
    const char *auth_events[5] = {NULL}, *prev_events[] = {play->room->last, NULL};
    guint fork = next_byte(play, FORKS), kind = next_byte(play, G_N_ELEMENTS(kinds));
    const char *sender = users[next_byte(play, G_N_ELEMENTS(users))];
    const char *target = users[next_byte(play, G_N_ELEMENTS(users))];
    guint auth_count = next_byte(play, 5);
    for (guint i = 0; i < auth_count; i++) {
        guint back = 1 + next_byte(play, 20) % play->events->len;
        auth_events[i] = ((Pdu *)play->events->pdata[play->events->len - back])->event_id;
    }
    play->room->clock_ms += (gint)next_byte(play, 7) - 4;
    g_autoptr(Pdu) pdu =
        test_room_make_with(play->room, sender, kinds[kind].type, kind < 4 ? target : "",
                            kinds[kind].content, prev_events, auth_events);
    keep(play, pdu);
    put(play, fork, pdu);
}

static void
meet(Play *play)
{
    StateEventSource source = {play, play_load, play_is_rejected, EVENTS_BUDGET};
    StateNodeId turned[FORKS], root, again;
    for (guint i = 0; i < FORKS; i++)
        turned[i] = play->roots[FORKS - 1 - i];
    g_assert_true(state_resolve_roots(play->room->create, play->trie, play->roots, FORKS, &source,
                                      &root, NULL));
    g_assert_true(
        state_resolve_roots(play->room->create, play->trie, turned, FORKS, &source, &again, NULL));
    g_assert_true(state_node_id_equal(&root, &again));
    play->roots[next_byte(play, FORKS)] = root;
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static const guint8 seed[STATE_SEED_BYTES] = "the fuzzer's key";
    guint count = 0;
    const RoomVersion *versions = room_version_table(&count);
    g_autoptr(TestRoom) room = test_room_new_of(versions[size % count].id, ALICE, "");
    g_autoptr(GPtrArray) events = g_ptr_array_new_with_free_func((GDestroyNotify)pdu_unref);
    g_autoptr(GHashTable) by_id = g_hash_table_new(seeded_str_hash, g_str_equal);
    g_autoptr(StateTrie) trie = state_trie_new(seed, NULL, NULL);
    Play play = {
        .data = data, .size = size, .room = room, .events = events, .by_id = by_id, .trie = trie};

    play.odd = (guint8)next_byte(&play, 61);
    keep(&play, room->create);
    keep(&play, test_room_member(room, ALICE, ALICE, "join"));
    for (guint fork = 0; fork < FORKS; fork++)
        for (guint i = 0; i < 2; i++)
            put(&play, fork, events->pdata[i]);
    for (guint moves = 0; play.size > 0 && moves < MOVES_MAX; moves++) {
        if (next_byte(&play, 8) == 0)
            meet(&play);
        else
            make_move(&play);
    }
    meet(&play);
    return 0;
}
