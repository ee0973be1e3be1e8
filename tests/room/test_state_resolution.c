#include "federation/room/state_resolution.h"

#include <sodium.h>
#include <string.h>

#include "identity/seeded_hash.h"
#include "tests/support/room_events.h"

#define DAN "@dan:four.example"

/* A room, every event that was ever made in it, and tries of its states. */
typedef struct {
    TestRoom *room;
    RoomVersion version;
    GPtrArray *events; /* Pdu * */
    GHashTable *by_id; /* event id -> index + 1 in events */
    GHashTable *rejected;
    GHashTable *unknown; /* what the source says it does not have */
    StateTrie *trie;
    guint loaded;
} World;

static gboolean
world_load(gpointer data, const char *const *event_ids, guint count, Pdu **ret_pdus, GError **error)
{
    World *world = data;
    g_assert_cmpuint(count, >=, 1);
    g_assert_cmpuint(count, <=, STATE_LOAD_MAX);
    world->loaded += count;
    for (guint i = 0; i < count; i++) {
        guint index = GPOINTER_TO_UINT(g_hash_table_lookup(world->by_id, event_ids[i]));
        if (index > 0 && !g_hash_table_contains(world->unknown, event_ids[i]))
            ret_pdus[i] = pdu_ref(world->events->pdata[index - 1]);
    }
    return TRUE;
}

static gboolean
world_is_rejected(gpointer data, const char *event_id)
{
    return g_hash_table_contains(((World *)data)->rejected, event_id);
}

static const Pdu *
world_keep(World *world, const Pdu *pdu)
{
    g_ptr_array_add(world->events, pdu_ref(pdu));
    g_hash_table_insert(world->by_id, (gpointer)pdu->event_id,
                        GUINT_TO_POINTER(world->events->len));
    return pdu;
}

/* An event on the room's present state, not applied. */
static const Pdu *
world_make(World *world, const char *sender, const char *type, const char *state_key,
           const char *content)
{
    g_autoptr(Pdu) pdu = test_room_make(world->room, sender, type, state_key, content);
    return world_keep(world, pdu);
}

static const Pdu *
world_send(World *world, const char *sender, const char *type, const char *state_key,
           const char *content)
{
    const Pdu *pdu = world_make(world, sender, type, state_key, content);
    test_room_apply(world->room, pdu);
    return pdu;
}

static const Pdu *
world_member(World *world, const char *sender, const char *target, const char *membership)
{
    g_autofree char *content = g_strdup_printf("{'membership':'%s'}", membership);
    return world_send(world, sender, "m.room.member", target, content);
}

/* Alice made a public room; Bob, Carol and Dan are in it; Bob has 100 and Carol 50. */
static World *
world_new(StateResolutionAlgorithm algorithm)
{
    static const guint8 seed[STATE_SEED_BYTES] = "seed of a world.";
    World *world = g_new0(World, 1);
    world->room = test_room_new(ALICE, "");
    world->version = *world->room->version;
    world->version.state_resolution = algorithm;
    world->room->version = &world->version;
    /* The create event again, as one of this world's version. */
    g_autoptr(Pdu) create = pdu_from_trusted_bytes(&world->version, world->room->create->event_id,
                                                   world->room->create->bytes, NULL);
    pdu_unref(world->room->create);
    world->room->create = pdu_ref(create);
    g_ptr_array_set_size(world->room->state, 0);
    test_room_apply(world->room, create);

    world->events = g_ptr_array_new_with_free_func((GDestroyNotify)pdu_unref);
    world->by_id = g_hash_table_new(seeded_str_hash, g_str_equal);
    world->rejected = g_hash_table_new(seeded_str_hash, g_str_equal);
    world->unknown = g_hash_table_new(seeded_str_hash, g_str_equal);
    world->trie = state_trie_new(seed, NULL, NULL);
    world_keep(world, create);
    world_member(world, ALICE, ALICE, "join");
    world_send(world, ALICE, "m.room.power_levels", "",
               "{'users':{'@bob:one.example':100,'@carol:two.example':50}}");
    world_send(world, ALICE, "m.room.join_rules", "", "{'join_rule':'public'}");
    world_member(world, BOB, BOB, "join");
    world_member(world, CAROL, CAROL, "join");
    world_member(world, DAN, DAN, "join");
    return world;
}

static void
world_free(World *world)
{
    state_trie_free(world->trie);
    g_hash_table_unref(world->unknown);
    g_hash_table_unref(world->rejected);
    g_hash_table_unref(world->by_id);
    g_ptr_array_unref(world->events);
    test_room_free(world->room);
    g_free(world);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

/* ---- forks: a state is a list of events ---- */

static gpointer
ref_pdu(gconstpointer pdu, gpointer unused)
{
    return pdu_ref(pdu);
}

static GPtrArray *
world_fork(const World *world)
{
    GPtrArray *copy = g_ptr_array_copy(world->room->state, (GCopyFunc)ref_pdu, NULL);
    g_ptr_array_set_free_func(copy, (GDestroyNotify)pdu_unref);
    return copy;
}

static void
world_back_to(World *world, const GPtrArray *state)
{
    GPtrArray *copy = g_ptr_array_copy((GPtrArray *)state, (GCopyFunc)ref_pdu, NULL);
    g_ptr_array_set_free_func(copy, (GDestroyNotify)pdu_unref);
    g_ptr_array_unref(world->room->state);
    world->room->state = copy;
}

static StateNodeId
root_of(World *world, const GPtrArray *state)
{
    g_autofree StateChange *changes = g_new0(StateChange, state->len);
    StateNodeId root;
    for (guint i = 0; i < state->len; i++) {
        const Pdu *pdu = state->pdata[i];
        changes[i] = (StateChange){pdu->type, pdu->state_key, pdu->event_id};
    }
    g_assert_true(
        state_trie_change(world->trie, &state_node_empty, changes, state->len, &root, NULL));
    return root;
}

static gboolean
resolve_with(World *world, GPtrArray *const *states, guint count, guint events_max,
             StateNodeId *ret_root, GError **error)
{
    StateEventSource source = {world, world_load, world_is_rejected, events_max};
    g_autofree StateNodeId *roots = g_new(StateNodeId, count);
    for (guint i = 0; i < count; i++)
        roots[i] = root_of(world, states[i]);
    world->loaded = 0;
    return state_resolve_roots(world->room->create, world->trie, roots, count, &source, ret_root,
                               error);
}

static StateNodeId
resolve(World *world, GPtrArray *const *states, guint count)
{
    StateNodeId root;
    GError *error = NULL;
    gboolean good = resolve_with(world, states, count, 10000, &root, &error);
    g_assert_no_error(error);
    g_assert_true(good);
    return root;
}

static StateNodeId
resolve_two(World *world, GPtrArray *one, GPtrArray *other)
{
    GPtrArray *there[] = {one, other}, *back[] = {other, one};
    StateNodeId root = resolve(world, there, 2), again = resolve(world, back, 2);
    g_assert_true(state_node_id_equal(&root, &again));
    return root;
}

static void
check_stands(World *world, const StateNodeId *root, const char *type, const char *state_key,
             const Pdu *expected)
{
    g_autofree char *event_id = NULL;
    g_assert_true(state_trie_find(world->trie, root, type, state_key, &event_id, NULL));
    g_assert_cmpstr(event_id, ==, expected != NULL ? expected->event_id : NULL);
}

/* ---- stories ---- */

static void
test_equal_states_need_no_events(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V2_1);
    g_autoptr(GPtrArray) state = world_fork(world);
    GPtrArray *states[] = {state, state, state};
    StateNodeId root = resolve(world, states, 3), same = root_of(world, state);
    g_assert_true(state_node_id_equal(&root, &same));
    g_assert_cmpuint(world->loaded, ==, 0);
}

static void
test_of_two_names_the_later_stands(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V2_1);
    g_autoptr(GPtrArray) start = world_fork(world);
    world_send(world, BOB, "m.room.name", "", "{'name':'first'}");
    g_autoptr(GPtrArray) left = world_fork(world);
    world_back_to(world, start);
    const Pdu *second = world_send(world, CAROL, "m.room.name", "", "{'name':'second'}");
    g_autoptr(GPtrArray) right = world_fork(world);

    StateNodeId root = resolve_two(world, left, right);
    check_stands(world, &root, "m.room.name", "", second);
    check_stands(world, &root, "m.room.create", "", world->room->create);
}

static void
test_what_one_branch_alone_has_stands(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V2_1);
    g_autoptr(GPtrArray) start = world_fork(world);
    const Pdu *name = world_send(world, BOB, "m.room.name", "", "{'name':'only'}");
    g_autoptr(GPtrArray) left = world_fork(world);
    world_back_to(world, start);
    const Pdu *topic = world_send(world, CAROL, "m.room.topic", "", "{'topic':'only'}");
    const Pdu *left_room = world_member(world, DAN, DAN, "leave");
    g_autoptr(GPtrArray) right = world_fork(world);

    StateNodeId root = resolve_two(world, left, right);
    check_stands(world, &root, "m.room.name", "", name);
    check_stands(world, &root, "m.room.topic", "", topic);
    check_stands(world, &root, "m.room.member", DAN, left_room);
}

static void
test_a_ban_goes_before_what_the_banned_did_meanwhile(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V2_1);
    const Pdu *name = world_send(world, BOB, "m.room.name", "", "{'name':'before'}");
    g_autoptr(GPtrArray) start = world_fork(world);
    const Pdu *ban = world_member(world, BOB, CAROL, "ban");
    g_autoptr(GPtrArray) left = world_fork(world);
    world_back_to(world, start);
    world_send(world, CAROL, "m.room.name", "", "{'name':'mine'}");
    world_send(world, CAROL, "m.room.topic", "", "{'topic':'mine'}");
    g_autoptr(GPtrArray) right = world_fork(world);

    StateNodeId root = resolve_two(world, left, right);
    check_stands(world, &root, "m.room.member", CAROL, ban);
    check_stands(world, &root, "m.room.name", "", name);
    check_stands(world, &root, "m.room.topic", "", NULL);
}

static void
test_the_creator_goes_before_an_administrator(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V2_1);
    g_autoptr(GPtrArray) start = world_fork(world);
    world_send(world, BOB, "m.room.power_levels", "",
               "{'users':{'@bob:one.example':100,'@dan:four.example':100}}");
    g_autoptr(GPtrArray) left = world_fork(world);
    world_back_to(world, start);
    const Pdu *demoted = world_send(world, ALICE, "m.room.power_levels", "",
                                    "{'users':{'@bob:one.example':0,'@carol:two.example':50}}");
    g_autoptr(GPtrArray) right = world_fork(world);
    StateNodeId root = resolve_two(world, left, right);
    check_stands(world, &root, "m.room.power_levels", "", demoted);
}

static void
test_three_states(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V2_1);
    g_autoptr(GPtrArray) start = world_fork(world);
    world_send(world, BOB, "m.room.name", "", "{'name':'1'}");
    g_autoptr(GPtrArray) first = world_fork(world);
    world_back_to(world, start);
    const Pdu *kicked = world_member(world, CAROL, DAN, "leave");
    g_autoptr(GPtrArray) second = world_fork(world);
    world_back_to(world, start);
    const Pdu *name = world_send(world, CAROL, "m.room.name", "", "{'name':'3'}");
    g_autoptr(GPtrArray) third = world_fork(world);

    GPtrArray *states[] = {first, second, third}, *turned[] = {third, first, second, third};
    StateNodeId root = resolve(world, states, 3), again = resolve(world, turned, 4);
    g_assert_true(state_node_id_equal(&root, &again));
    check_stands(world, &root, "m.room.name", "", name);
    check_stands(world, &root, "m.room.member", DAN, kicked);
}

/* MSC4297, problem A: who set the join rules has left since; one branch has stale join rules. */
static void
check_problem_a(StateResolutionAlgorithm algorithm, gboolean expect_reset)
{
    g_autoptr(World) world = world_new(algorithm);
    const Pdu *stale = world_send(world, BOB, "m.room.join_rules", "", "{'join_rule':'invite'}");
    const Pdu *latest = world_send(world, BOB, "m.room.join_rules", "", "{'join_rule':'public'}");
    const Pdu *gone = world_member(world, BOB, BOB, "leave");
    g_autoptr(GPtrArray) left = world_fork(world);
    test_room_apply(world->room, stale);
    g_autoptr(GPtrArray) right = world_fork(world);

    StateNodeId root = resolve_two(world, left, right);
    check_stands(world, &root, "m.room.join_rules", "", expect_reset ? NULL : latest);
    check_stands(world, &root, "m.room.member", BOB, gone);
}

static void
test_problem_a(void)
{
    check_problem_a(STATE_RESOLUTION_V2, TRUE);
    check_problem_a(STATE_RESOLUTION_V2_1, FALSE);
}

/* MSC4297, problem B: Alice promotes Bob, Bob promotes Carol; one branch has the levels from
 * before, though both have seen all three. */
static void
check_problem_b(StateResolutionAlgorithm algorithm, gboolean expect_reset)
{
    g_autoptr(World) world = world_new(algorithm);
    const Pdu *nobody = world_send(world, ALICE, "m.room.power_levels", "", "{}");
    world_send(world, ALICE, "m.room.power_levels", "", "{'users':{'@bob:one.example':100}}");
    const Pdu *both = world_send(world, BOB, "m.room.power_levels", "",
                                 "{'users':{'@bob:one.example':100,'@carol:two.example':50}}");
    const Pdu *topic = world_send(world, CAROL, "m.room.topic", "", "{'topic':'seen by both'}");
    g_autoptr(GPtrArray) left = world_fork(world);
    test_room_apply(world->room, nobody);
    g_autoptr(GPtrArray) right = world_fork(world);

    StateNodeId root = resolve_two(world, left, right);
    check_stands(world, &root, "m.room.power_levels", "", expect_reset ? nobody : both);
    check_stands(world, &root, "m.room.topic", "", topic);
}

static void
test_problem_b(void)
{
    check_problem_b(STATE_RESOLUTION_V2, TRUE);
    check_problem_b(STATE_RESOLUTION_V2_1, FALSE);
}

static void
test_a_rejected_event_never_enters(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V2_1);
    g_autoptr(GPtrArray) start = world_fork(world);
    const Pdu *good = world_send(world, BOB, "m.room.name", "", "{'name':'good'}");
    g_autoptr(GPtrArray) left = world_fork(world);
    world_back_to(world, start);
    const Pdu *bad = world_send(world, BOB, "m.room.name", "", "{'name':'bad'}");
    g_autoptr(GPtrArray) right = world_fork(world);
    g_hash_table_add(world->rejected, (gpointer)bad->event_id);
    StateNodeId root = resolve_two(world, left, right);
    check_stands(world, &root, "m.room.name", "", good);
}

/* Nor does one that no server can show, or that is of another room. */
static void
test_unknown_and_foreign_events_never_enter(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V2_1);
    g_autoptr(World) other = world_new(STATE_RESOLUTION_V2_1);
    g_autoptr(TestRoom) elsewhere = test_room_new(BOB, "'x':1,");
    test_room_member(elsewhere, BOB, BOB, "join");
    g_autoptr(GPtrArray) start = world_fork(world);
    const Pdu *good = world_send(world, BOB, "m.room.name", "", "{'name':'good'}");
    g_autoptr(GPtrArray) left = world_fork(world);
    world_back_to(world, start);
    const Pdu *bad = world_send(world, BOB, "m.room.name", "", "{'name':'bad'}");
    g_autoptr(GPtrArray) right = world_fork(world);
    g_autoptr(Pdu) foreign = test_room_make(elsewhere, BOB, "m.room.topic", "", "{}");
    world_keep(world, foreign);
    g_ptr_array_add(right, pdu_ref(foreign));
    g_hash_table_add(world->unknown, (gpointer)bad->event_id);
    StateNodeId root = resolve_two(world, left, right);
    check_stands(world, &root, "m.room.name", "", good);
    check_stands(world, &root, "m.room.topic", "", NULL);
}

static void
test_the_budget_holds_at_n_and_ends_below(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V2_1);
    g_autoptr(GPtrArray) start = world_fork(world);
    world_send(world, BOB, "m.room.power_levels", "", "{'users':{'@bob:one.example':100}}");
    world_send(world, BOB, "m.room.name", "", "{'name':'1'}");
    g_autoptr(GPtrArray) left = world_fork(world);
    world_back_to(world, start);
    world_send(world, CAROL, "m.room.name", "", "{'name':'2'}");
    g_autoptr(GPtrArray) right = world_fork(world);
    GPtrArray *states[] = {left, right};
    StateNodeId root, again;
    GError *error = NULL;

    g_assert_true(resolve_with(world, states, 2, 10000, &root, NULL));
    guint needed = world->loaded;
    g_assert_cmpuint(needed, >, 3);
    g_assert_true(resolve_with(world, states, 2, needed, &again, NULL));
    g_assert_true(state_node_id_equal(&root, &again));
    for (guint budget = 0; budget < needed; budget++) {
        g_assert_false(resolve_with(world, states, 2, budget, &again, &error));
        g_assert_error(error, STATE_RESOLUTION_ERROR, STATE_RESOLUTION_ERROR_BUDGET);
        g_clear_error(&error);
    }
}

/* A room of many members resolves a change of name without reading them. */
static void
test_members_are_not_read_for_a_name(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V2_1);
    for (guint i = 0; i < 700; i++) {
        g_autofree char *user_id = g_strdup_printf("@user%u:two.example", i);
        world_member(world, user_id, user_id, "join");
    }
    g_autoptr(GPtrArray) start = world_fork(world);
    world_send(world, BOB, "m.room.name", "", "{'name':'1'}");
    g_autoptr(GPtrArray) left = world_fork(world);
    world_back_to(world, start);
    const Pdu *name = world_send(world, CAROL, "m.room.name", "", "{'name':'2'}");
    g_autoptr(GPtrArray) right = world_fork(world);
    StateNodeId root = resolve_two(world, left, right);
    check_stands(world, &root, "m.room.name", "", name);
    g_assert_cmpuint(world->loaded, <, 30);
}

/* ---- version 1 ---- */

/* The deepest that the rules allow stands; of equal depth the smallest SHA-1 of the id. */
static void
test_version_1_takes_the_deepest(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V1);
    g_autoptr(GPtrArray) start = world_fork(world);
    gint64 depth = world->room->depth;
    const Pdu *first = world_send(world, BOB, "m.room.name", "", "{'name':'1'}");
    const Pdu *deep = world_send(world, BOB, "m.room.topic", "", "{'topic':'1'}");
    g_autoptr(GPtrArray) left = world_fork(world);
    world_back_to(world, start);
    world->room->depth = depth;
    world_send(world, CAROL, "m.room.topic", "", "{'topic':'2'}");
    world->room->depth = depth;
    const Pdu *second = world_send(world, CAROL, "m.room.name", "", "{'name':'2'}");
    g_autoptr(GPtrArray) right = world_fork(world);

    g_assert_cmpint(first->depth, ==, second->depth);
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA1, first->event_id, -1);
    g_autofree char *other = g_compute_checksum_for_string(G_CHECKSUM_SHA1, second->event_id, -1);
    StateNodeId root = resolve_two(world, left, right);
    check_stands(world, &root, "m.room.topic", "", deep);
    check_stands(world, &root, "m.room.name", "", strcmp(hash, other) < 0 ? first : second);
}

/* Of power levels the least deep is the ground, and those above it count as far as it lets them. */
static void
test_version_1_climbs_power_levels(void)
{
    for (guint allowed = 0; allowed <= 1; allowed++) {
        g_autoptr(World) world = world_new(STATE_RESOLUTION_V1);
        g_autoptr(GPtrArray) start = world_fork(world);
        const Pdu *low =
            world_send(world, ALICE, "m.room.power_levels", "",
                       allowed ? "{'users':{'@bob:one.example':100}}" : "{'users':{}}");
        g_autoptr(GPtrArray) left = world_fork(world);
        world_back_to(world, start);
        const Pdu *high =
            world_send(world, BOB, "m.room.power_levels", "", "{'users':{'@bob:one.example':99}}");
        const Pdu *name = world_send(world, CAROL, "m.room.name", "", "{'name':'2'}");
        g_autoptr(GPtrArray) right = world_fork(world);
        StateNodeId root = resolve_two(world, left, right);
        check_stands(world, &root, "m.room.power_levels", "", allowed ? high : low);
        check_stands(world, &root, "m.room.name", "", name); /* on one side alone: no conflict */
    }
}

/* Members come after join rules, the rest after members: what was resolved first decides. */
static void
test_version_1_goes_in_passes(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V1);
    const Pdu *old = world_send(world, BOB, "m.room.name", "", "{'name':'old'}");
    const Pdu *before = world_member(world, CAROL, CAROL, "join");
    g_autoptr(GPtrArray) start = world_fork(world);
    const Pdu *ban = world_member(world, BOB, CAROL, "ban");
    const Pdu *bobs = world_send(world, BOB, "m.room.name", "", "{'name':'bob'}");
    g_autoptr(GPtrArray) left = world_fork(world);
    world_back_to(world, start);
    const Pdu *carols = world_send(world, CAROL, "m.room.name", "", "{'name':'carol'}");
    g_autoptr(GPtrArray) right = world_fork(world);

    g_assert_cmpint(carols->depth, >, bobs->depth);
    g_assert_cmpint(before->depth, >, old->depth);
    StateNodeId root = resolve_two(world, left, right);
    check_stands(world, &root, "m.room.member", CAROL, ban);
    check_stands(world, &root, "m.room.name", "", bobs);
}

/* Where the rules allow none, the one of least depth stands. */
static void
test_version_1_where_none_is_allowed(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V1);
    g_autoptr(GPtrArray) start = world_fork(world);
    const Pdu *low = world_send(world, DAN, "m.room.name", "", "{'name':'1'}");
    g_autoptr(GPtrArray) left = world_fork(world);
    world_back_to(world, start);
    world_send(world, DAN, "m.room.name", "", "{'name':'2'}");
    g_autoptr(GPtrArray) right = world_fork(world);
    StateNodeId root = resolve_two(world, left, right);
    check_stands(world, &root, "m.room.name", "", low);
}

static void
test_version_1_rejected_and_unknown_events(void)
{
    for (guint unknown = 0; unknown <= 1; unknown++) {
        g_autoptr(World) world = world_new(STATE_RESOLUTION_V1);
        g_autoptr(GPtrArray) start = world_fork(world);
        const Pdu *kept = world_send(world, BOB, "m.room.name", "", "{'name':'1'}");
        const Pdu *lost = world_send(world, BOB, "m.room.topic", "", "{'topic':'1'}");
        g_autoptr(GPtrArray) left = world_fork(world);
        world_back_to(world, start);
        const Pdu *name = world_send(world, BOB, "m.room.name", "", "{'name':'2'}");
        const Pdu *topic = world_send(world, BOB, "m.room.topic", "", "{'topic':'2'}");
        g_autoptr(GPtrArray) right = world_fork(world);
        GHashTable *out = unknown ? world->unknown : world->rejected;
        g_hash_table_add(out, (gpointer)name->event_id);
        g_hash_table_add(out, (gpointer)topic->event_id);
        g_hash_table_add(out, (gpointer)lost->event_id);
        StateNodeId root = resolve_two(world, left, right);
        check_stands(world, &root, "m.room.name", "", kept);
        check_stands(world, &root, "m.room.topic", "", NULL);
    }
}

static void
test_version_1_has_a_budget(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V1);
    g_autoptr(GPtrArray) start = world_fork(world);
    world_send(world, BOB, "m.room.name", "", "{'name':'1'}");
    g_autoptr(GPtrArray) left = world_fork(world);
    world_back_to(world, start);
    world_send(world, CAROL, "m.room.name", "", "{'name':'2'}");
    g_autoptr(GPtrArray) right = world_fork(world);
    GPtrArray *states[] = {left, right};
    StateNodeId root, again;
    GError *error = NULL;

    g_assert_true(resolve_with(world, states, 2, 10000, &root, NULL));
    guint needed = world->loaded;
    g_assert_cmpuint(needed, ==, 5); /* two names, the levels, two members */
    g_assert_true(resolve_with(world, states, 2, needed, &again, NULL));
    g_assert_true(state_node_id_equal(&root, &again));
    for (guint budget = 0; budget < needed; budget++) {
        g_assert_false(resolve_with(world, states, 2, budget, &again, &error));
        g_assert_error(error, STATE_RESOLUTION_ERROR, STATE_RESOLUTION_ERROR_BUDGET);
        g_clear_error(&error);
    }
}

/* ---- the text of the specification, word by word and slow, to compare with ---- */

typedef struct {
    World *world;
    guint count;
    guint8 *reach; /* count * count: row leads to column, itself included */
    guint8 *full;
    GHashTable *resolved;
} Slow;

static guint
index_of(World *world, const char *event_id)
{
    guint index = GPOINTER_TO_UINT(g_hash_table_lookup(world->by_id, event_id));
    g_assert_cmpuint(index, >, 0);
    return index - 1;
}

static const Pdu *
slow_event(const Slow *slow, guint index)
{
    return slow->world->events->pdata[index];
}

static gboolean
leads_to(const Slow *slow, guint from, guint to)
{
    return slow->reach[from * slow->count + to];
}

/* Events stand in the order in which they were made: auth events before those that cite them. */
static void
slow_reach(Slow *slow)
{
    slow->count = slow->world->events->len;
    slow->reach = g_new0(guint8, slow->count * slow->count);
    for (guint i = 0; i < slow->count; i++) {
        const Pdu *pdu = slow_event(slow, i);
        slow->reach[i * slow->count + i] = 1;
        for (guint j = 0; j < pdu->auth_event_count; j++) {
            guint auth = index_of(slow->world, pdu->auth_events[j]);
            for (guint k = 0; k < slow->count; k++)
                slow->reach[i * slow->count + k] |= slow->reach[auth * slow->count + k];
        }
    }
}

static const Pdu *
entry_of(const GPtrArray *state, const char *type, const char *state_key)
{
    for (guint i = 0; i < state->len; i++)
        if (pdu_is(state->pdata[i], type, state_key))
            return state->pdata[i];
    return NULL;
}

static gboolean
is_unconflicted(GPtrArray *const *states, guint count, const char *type, const char *state_key)
{
    const Pdu *first = entry_of(states[0], type, state_key);
    for (guint i = 1; i < count; i++)
        if (entry_of(states[i], type, state_key) != first)
            return FALSE;
    return first != NULL;
}

static void
slow_full_set(Slow *slow, GPtrArray *const *states, guint count)
{
    g_autofree guint8 *conflicted = g_new0(guint8, slow->count);
    slow->full = g_new0(guint8, slow->count);
    for (guint i = 0; i < count; i++)
        for (guint j = 0; j < states[i]->len; j++) {
            const Pdu *pdu = states[i]->pdata[j];
            if (!is_unconflicted(states, count, pdu->type, pdu->state_key))
                conflicted[index_of(slow->world, pdu->event_id)] = 1;
        }
    for (guint e = 0; e < slow->count; e++) {
        guint chains = 0;
        gboolean below = FALSE, above = FALSE;
        for (guint i = 0; i < count; i++) {
            gboolean in_chain = FALSE;
            for (guint j = 0; j < states[i]->len; j++) {
                const Pdu *pdu = states[i]->pdata[j];
                in_chain |= leads_to(slow, index_of(slow->world, pdu->event_id), e);
            }
            chains += in_chain;
        }
        for (guint c = 0; c < slow->count; c++) {
            below |= conflicted[c] && leads_to(slow, c, e);
            above |= conflicted[c] && leads_to(slow, e, c);
        }
        slow->full[e] =
            conflicted[e] || (chains > 0 && chains < count) ||
            (below && above && slow->world->version.state_resolution == STATE_RESOLUTION_V2_1);
    }
}

static const Pdu *
cited(const Slow *slow, const Pdu *pdu, const char *type, const char *state_key)
{
    for (guint i = 0; i < pdu->auth_event_count; i++) {
        const Pdu *auth = slow_event(slow, index_of(slow->world, pdu->auth_events[i]));
        if (pdu_is(auth, type, state_key))
            return auth;
    }
    return NULL;
}

static gboolean
slow_power_event(const Pdu *pdu)
{
    const char *membership = pdu_membership(pdu);
    return pdu_is(pdu, "m.room.power_levels", "") || pdu_is(pdu, "m.room.join_rules", "") ||
           pdu_is(pdu, "m.room.create", "") ||
           (membership != NULL && strcmp(pdu->sender, pdu->state_key) != 0 &&
            (strcmp(membership, "leave") == 0 || strcmp(membership, "ban") == 0));
}

static gboolean
slow_less(const Slow *slow, const Pdu *x, const Pdu *y)
{
    PowerLevels of_x = {slow->world->room->create, cited(slow, x, "m.room.power_levels", "")};
    PowerLevels of_y = {slow->world->room->create, cited(slow, y, "m.room.power_levels", "")};
    int order = power_compare(power_of_user(&of_x, x->sender), power_of_user(&of_y, y->sender));
    if (order != 0)
        return order > 0;
    if (x->origin_server_ts != y->origin_server_ts)
        return x->origin_server_ts < y->origin_server_ts;
    return strcmp(x->event_id, y->event_id) < 0;
}

static void
slow_apply(Slow *slow, GPtrArray *const *states, guint count, const Pdu *pdu)
{
    EventAuthKeys keys;
    g_autoptr(GPtrArray) auth_events = g_ptr_array_new();
    event_auth_keys_of_pdu(pdu, &keys);
    for (guint i = 0; i < keys.count; i++) {
        const char *type = keys.keys[i].type, *state_key = keys.keys[i].state_key;
        const char *event_id = state_map_get(slow->resolved, type, state_key);
        const Pdu *found = NULL;
        if (event_id != NULL)
            found = slow_event(slow, index_of(slow->world, event_id));
        else if (slow->world->version.state_resolution == STATE_RESOLUTION_V2 &&
                 is_unconflicted(states, count, type, state_key))
            found = entry_of(states[0], type, state_key);
        if (found == NULL)
            found = cited(slow, pdu, type, state_key);
        if (found != NULL)
            g_ptr_array_add(auth_events, (gpointer)found);
    }
    if (event_auth_check(pdu, slow->world->room->create, auth_events, NULL) == AUTH_ALLOW)
        state_map_set(slow->resolved, pdu->type, pdu->state_key, pdu->event_id);
}

static guint
slow_mainline(const Slow *slow, const Pdu *levels, const Pdu *pdu)
{
    for (const Pdu *e = cited(slow, pdu, "m.room.power_levels", ""); e != NULL;
         e = cited(slow, e, "m.room.power_levels", "")) {
        guint position = 0;
        for (const Pdu *p = levels; p != NULL; p = cited(slow, p, "m.room.power_levels", "")) {
            if (p == e)
                return position;
            position++;
        }
    }
    return G_MAXUINT;
}

/* The resolved state as a map. */
static GHashTable *
slow_resolve(World *world, GPtrArray *const *states, guint count)
{
    Slow slow = {.world = world, .resolved = state_map_new()};
    slow_reach(&slow);
    slow_full_set(&slow, states, count);
    g_autofree guint8 *left = g_memdup2(slow.full, slow.count);
    g_autofree guint8 *picked = g_new0(guint8, slow.count);

    for (guint e = slow.count; e > 0; e--) { /* those that cite come before what they cite */
        const Pdu *pdu = slow_event(&slow, e - 1);
        if (slow.full[e - 1] && slow_power_event(pdu))
            picked[e - 1] = 1;
        for (guint i = 0; picked[e - 1] && i < pdu->auth_event_count; i++) {
            guint auth = index_of(world, pdu->auth_events[i]);
            picked[auth] |= slow.full[auth];
        }
    }
    for (;;) {
        const Pdu *next = NULL;
        guint next_index = 0;
        for (guint e = 0; e < slow.count; e++) {
            const Pdu *pdu = slow_event(&slow, e);
            gboolean waits = !picked[e] || !left[e];
            for (guint i = 0; i < pdu->auth_event_count; i++) {
                guint auth = index_of(world, pdu->auth_events[i]);
                waits |= picked[auth] && left[auth];
            }
            if (!waits && (next == NULL || slow_less(&slow, pdu, next))) {
                next = pdu;
                next_index = e;
            }
        }
        if (next == NULL)
            break;
        left[next_index] = 0;
        slow_apply(&slow, states, count, next);
    }

    const char *levels_id = state_map_get(slow.resolved, "m.room.power_levels", "");
    const Pdu *levels = levels_id != NULL ? slow_event(&slow, index_of(world, levels_id)) : NULL;
    if (levels == NULL && world->version.state_resolution == STATE_RESOLUTION_V2 &&
        is_unconflicted(states, count, "m.room.power_levels", ""))
        levels = entry_of(states[0], "m.room.power_levels", "");
    for (;;) {
        const Pdu *next = NULL;
        guint next_index = 0, next_position = 0;
        for (guint e = 0; e < slow.count; e++) {
            const Pdu *pdu = slow_event(&slow, e);
            if (!left[e])
                continue;
            guint position = slow_mainline(&slow, levels, pdu);
            gboolean less =
                next == NULL || position > next_position ||
                (position == next_position && (pdu->origin_server_ts < next->origin_server_ts ||
                                               (pdu->origin_server_ts == next->origin_server_ts &&
                                                strcmp(pdu->event_id, next->event_id) < 0)));
            if (less) {
                next = pdu;
                next_index = e;
                next_position = position;
            }
        }
        if (next == NULL)
            break;
        left[next_index] = 0;
        slow_apply(&slow, states, count, next);
    }
    for (guint i = 0; i < states[0]->len; i++) {
        const Pdu *pdu = states[0]->pdata[i];
        if (is_unconflicted(states, count, pdu->type, pdu->state_key))
            state_map_set(slow.resolved, pdu->type, pdu->state_key, pdu->event_id);
    }
    g_free(slow.reach);
    g_free(slow.full);
    return slow.resolved;
}

/* ---- random rooms ---- */

static const char *const people[] = {ALICE, BOB, CAROL, DAN};

static const Pdu *
random_event(World *world)
{
    const char *sender = people[g_test_rand_int_range(0, 4)];
    const char *target = people[g_test_rand_int_range(0, 4)];
    static const char *const memberships[] = {"join", "join", "leave", "ban", "invite"};
    static const char *const rules[] = {"public", "invite", "public"};
    g_autofree char *content = NULL;
    switch (g_test_rand_int_range(0, 6)) {
    case 0:
        content =
            g_strdup_printf("{'users':{'@bob:one.example':%d,'@carol:two.example':%d,"
                            "'@dan:four.example':%d},'state_default':%d}",
                            g_test_rand_int_range(0, 3) * 50, g_test_rand_int_range(0, 3) * 50,
                            g_test_rand_int_range(0, 3) * 25, g_test_rand_int_range(0, 3) * 25);
        return world_make(world, sender, "m.room.power_levels", "", content);
    case 1:
        content = g_strdup_printf("{'join_rule':'%s'}", rules[g_test_rand_int_range(0, 3)]);
        return world_make(world, sender, "m.room.join_rules", "", content);
    case 2:
    case 3:
        content = g_strdup_printf("{'membership':'%s'}", memberships[g_test_rand_int_range(0, 5)]);
        return world_make(world, sender, "m.room.member",
                          g_test_rand_int_range(0, 3) == 0 ? target : sender, content);
    case 4:
        return world_make(world, sender, "m.room.topic", "", "{}");
    default:
        return world_make(world, sender, "m.room.name", "", "{}");
    }
}

static void
check_against_slow(World *world, GPtrArray *const *states, guint count)
{
    g_autoptr(GHashTable) expected = slow_resolve(world, states, count);
    StateNodeId root = resolve(world, states, count);
    guint64 size = 0;
    GHashTableIter iter;
    gpointer key, value;

    g_assert_true(state_trie_count(world->trie, &root, &size, NULL));
    g_hash_table_iter_init(&iter, expected);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const StateKey *entry = key;
        g_autofree char *event_id = NULL;
        g_assert_true(
            state_trie_find(world->trie, &root, entry->type, entry->state_key, &event_id, NULL));
        g_assert_cmpstr(event_id, ==, value);
    }
    g_assert_cmpuint(size, ==, g_hash_table_size(expected));
}

/* Several servers go their own ways, forget, meet again; every meeting must come out as the text
 * says. */
static void
run_random_room(StateResolutionAlgorithm algorithm)
{
    enum {
        FORKS = 4,
        STEPS = 60
    };
    g_autoptr(World) world = world_new(algorithm);
    GPtrArray *forks[FORKS];
    for (guint i = 0; i < FORKS; i++)
        forks[i] = world_fork(world);
    for (guint step = 0; step < STEPS; step++) {
        guint at = (guint)g_test_rand_int_range(0, FORKS);
        if (g_test_rand_bit()) /* servers' clocks differ */
            world->room->clock_ms -= g_test_rand_int_range(0, 8);
        world_back_to(world, forks[at]);
        const Pdu *pdu = random_event(world);
        if (event_auth_check(pdu, world->room->create, world->room->state, NULL) == AUTH_ALLOW)
            test_room_apply(world->room, pdu);
        if (g_test_rand_int_range(0, 12) == 0) { /* a stale entry, as from a faulty /state */
            const Pdu *stale =
                world->events->pdata[g_test_rand_int_range(1, (gint)world->events->len)];
            if (event_auth_check(stale, world->room->create, world->room->state, NULL) ==
                AUTH_ALLOW)
                test_room_apply(world->room, stale);
        }
        g_ptr_array_unref(forks[at]);
        forks[at] = world_fork(world);
        if (g_test_rand_int_range(0, 10) == 0) { /* take over another's state */
            guint from = (guint)g_test_rand_int_range(0, FORKS);
            world_back_to(world, forks[from]);
            g_ptr_array_unref(forks[at]);
            forks[at] = world_fork(world);
        }
        if (step % 5 == 0) {
            GPtrArray *two[] = {forks[at], forks[(at + 1) % FORKS]};
            check_against_slow(world, two, 2);
            resolve_two(world, two[0], two[1]);
        }
        if (step % 9 == 0) {
            /* All different, or the resolver's view of equal ones as one state would differ in
             * nothing. */
            check_against_slow(world, forks, FORKS);
        }
    }
    for (guint i = 0; i < FORKS; i++)
        g_ptr_array_unref(forks[i]);
}

static void
test_random_rooms_come_out_as_the_text_says(void)
{
    for (guint i = 0; i < 30; i++)
        run_random_room(i % 3 == 0 ? STATE_RESOLUTION_V2 : STATE_RESOLUTION_V2_1);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/state-resolution/equal", test_equal_states_need_no_events);
    g_test_add_func("/state-resolution/names", test_of_two_names_the_later_stands);
    g_test_add_func("/state-resolution/one-branch", test_what_one_branch_alone_has_stands);
    g_test_add_func("/state-resolution/ban", test_a_ban_goes_before_what_the_banned_did_meanwhile);
    g_test_add_func("/state-resolution/levels", test_the_creator_goes_before_an_administrator);
    g_test_add_func("/state-resolution/three", test_three_states);
    g_test_add_func("/state-resolution/problem-a", test_problem_a);
    g_test_add_func("/state-resolution/problem-b", test_problem_b);
    g_test_add_func("/state-resolution/rejected", test_a_rejected_event_never_enters);
    g_test_add_func("/state-resolution/unknown", test_unknown_and_foreign_events_never_enter);
    g_test_add_func("/state-resolution/budget", test_the_budget_holds_at_n_and_ends_below);
    g_test_add_func("/state-resolution/large", test_members_are_not_read_for_a_name);
    g_test_add_func("/state-resolution/version-1/deepest", test_version_1_takes_the_deepest);
    g_test_add_func("/state-resolution/version-1/power-levels", test_version_1_climbs_power_levels);
    g_test_add_func("/state-resolution/version-1/passes", test_version_1_goes_in_passes);
    g_test_add_func("/state-resolution/version-1/none-allowed",
                    test_version_1_where_none_is_allowed);
    g_test_add_func("/state-resolution/version-1/rejected",
                    test_version_1_rejected_and_unknown_events);
    g_test_add_func("/state-resolution/version-1/budget", test_version_1_has_a_budget);
    g_test_add_func("/state-resolution/random", test_random_rooms_come_out_as_the_text_says);
    return g_test_run();
}
