/* State resolution of versions 2 and 2.1 (rooms from version 2 on), told as stories. */
#include <sodium.h>

#include "tests/support/world.h"

static void
test_equal_states_need_no_events(void)
{
    g_autoptr(World) world = world_new(STATE_RESOLUTION_V2_1);
    g_autoptr(GPtrArray) state = world_fork(world);
    GPtrArray *states[] = {state, state, state};
    StateNodeId root = world_resolve(world, states, 3), same = world_root(world, state);
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

    StateNodeId root = world_resolve_two(world, left, right);
    world_check_stands(world, &root, "m.room.name", "", second);
    world_check_stands(world, &root, "m.room.create", "", world->room->create);
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

    StateNodeId root = world_resolve_two(world, left, right);
    world_check_stands(world, &root, "m.room.name", "", name);
    world_check_stands(world, &root, "m.room.topic", "", topic);
    world_check_stands(world, &root, "m.room.member", DAN, left_room);
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

    StateNodeId root = world_resolve_two(world, left, right);
    world_check_stands(world, &root, "m.room.member", CAROL, ban);
    world_check_stands(world, &root, "m.room.name", "", name);
    world_check_stands(world, &root, "m.room.topic", "", NULL);
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
    StateNodeId root = world_resolve_two(world, left, right);
    world_check_stands(world, &root, "m.room.power_levels", "", demoted);
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
    StateNodeId root = world_resolve(world, states, 3), again = world_resolve(world, turned, 4);
    g_assert_true(state_node_id_equal(&root, &again));
    world_check_stands(world, &root, "m.room.name", "", name);
    world_check_stands(world, &root, "m.room.member", DAN, kicked);
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

    StateNodeId root = world_resolve_two(world, left, right);
    world_check_stands(world, &root, "m.room.join_rules", "", expect_reset ? NULL : latest);
    world_check_stands(world, &root, "m.room.member", BOB, gone);
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

    StateNodeId root = world_resolve_two(world, left, right);
    world_check_stands(world, &root, "m.room.power_levels", "", expect_reset ? nobody : both);
    world_check_stands(world, &root, "m.room.topic", "", topic);
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
    StateNodeId root = world_resolve_two(world, left, right);
    world_check_stands(world, &root, "m.room.name", "", good);
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
    StateNodeId root = world_resolve_two(world, left, right);
    world_check_stands(world, &root, "m.room.name", "", good);
    world_check_stands(world, &root, "m.room.topic", "", NULL);
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

    g_assert_true(world_resolve_with(world, states, 2, 10000, &root, NULL));
    guint needed = world->loaded;
    g_assert_cmpuint(needed, >, 3);
    g_assert_true(world_resolve_with(world, states, 2, needed, &again, NULL));
    g_assert_true(state_node_id_equal(&root, &again));
    for (guint budget = 0; budget < needed; budget++) {
        g_assert_false(world_resolve_with(world, states, 2, budget, &again, &error));
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
    StateNodeId root = world_resolve_two(world, left, right);
    world_check_stands(world, &root, "m.room.name", "", name);
    g_assert_cmpuint(world->loaded, <, 30);
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
    return g_test_run();
}
