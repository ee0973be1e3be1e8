/* State resolution of room version 1, told as stories. */
#include <sodium.h>
#include <string.h>

#include "tests/support/world.h"

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
    StateNodeId root = world_resolve_two(world, left, right);
    world_check_stands(world, &root, "m.room.topic", "", deep);
    world_check_stands(world, &root, "m.room.name", "", strcmp(hash, other) < 0 ? first : second);
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
        StateNodeId root = world_resolve_two(world, left, right);
        world_check_stands(world, &root, "m.room.power_levels", "", allowed ? high : low);
        world_check_stands(world, &root, "m.room.name", "",
                           name); /* on one side alone: no conflict */
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
    StateNodeId root = world_resolve_two(world, left, right);
    world_check_stands(world, &root, "m.room.member", CAROL, ban);
    world_check_stands(world, &root, "m.room.name", "", bobs);
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
    StateNodeId root = world_resolve_two(world, left, right);
    world_check_stands(world, &root, "m.room.name", "", low);
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
        StateNodeId root = world_resolve_two(world, left, right);
        world_check_stands(world, &root, "m.room.name", "", kept);
        world_check_stands(world, &root, "m.room.topic", "", NULL);
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

    g_assert_true(world_resolve_with(world, states, 2, 10000, &root, NULL));
    guint needed = world->loaded;
    g_assert_cmpuint(needed, ==, 5); /* two names, the levels, two members */
    g_assert_true(world_resolve_with(world, states, 2, needed, &again, NULL));
    g_assert_true(state_node_id_equal(&root, &again));
    for (guint budget = 0; budget < needed; budget++) {
        g_assert_false(world_resolve_with(world, states, 2, budget, &again, &error));
        g_assert_error(error, STATE_RESOLUTION_ERROR, STATE_RESOLUTION_ERROR_BUDGET);
        g_clear_error(&error);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/state-resolution-v1/deepest", test_version_1_takes_the_deepest);
    g_test_add_func("/state-resolution-v1/power-levels", test_version_1_climbs_power_levels);
    g_test_add_func("/state-resolution-v1/passes", test_version_1_goes_in_passes);
    g_test_add_func("/state-resolution-v1/none-allowed", test_version_1_where_none_is_allowed);
    g_test_add_func("/state-resolution-v1/rejected", test_version_1_rejected_and_unknown_events);
    g_test_add_func("/state-resolution-v1/budget", test_version_1_has_a_budget);
    return g_test_run();
}
