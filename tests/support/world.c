#include "tests/support/world.h"

#include "identity/seeded_hash.h"

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

const Pdu *
world_keep(World *world, const Pdu *pdu)
{
    g_ptr_array_add(world->events, pdu_ref(pdu));
    g_hash_table_insert(world->by_id, (gpointer)pdu->event_id,
                        GUINT_TO_POINTER(world->events->len));
    return pdu;
}

const Pdu *
world_make(World *world, const char *sender, const char *type, const char *state_key,
           const char *content)
{
    g_autoptr(Pdu) pdu = test_room_make(world->room, sender, type, state_key, content);
    return world_keep(world, pdu);
}

const Pdu *
world_send(World *world, const char *sender, const char *type, const char *state_key,
           const char *content)
{
    const Pdu *pdu = world_make(world, sender, type, state_key, content);
    test_room_apply(world->room, pdu);
    return pdu;
}

const Pdu *
world_member(World *world, const char *sender, const char *target, const char *membership)
{
    g_autofree char *content = g_strdup_printf("{'membership':'%s'}", membership);
    return world_send(world, sender, "m.room.member", target, content);
}

World *
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

void
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

static gpointer
ref_pdu(gconstpointer pdu, gpointer unused)
{
    return pdu_ref(pdu);
}

GPtrArray *
world_fork(const World *world)
{
    GPtrArray *copy = g_ptr_array_copy(world->room->state, (GCopyFunc)ref_pdu, NULL);
    g_ptr_array_set_free_func(copy, (GDestroyNotify)pdu_unref);
    return copy;
}

void
world_back_to(World *world, const GPtrArray *state)
{
    GPtrArray *copy = g_ptr_array_copy((GPtrArray *)state, (GCopyFunc)ref_pdu, NULL);
    g_ptr_array_set_free_func(copy, (GDestroyNotify)pdu_unref);
    g_ptr_array_unref(world->room->state);
    world->room->state = copy;
}

StateNodeId
world_root(World *world, const GPtrArray *state)
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

gboolean
world_resolve_with(World *world, GPtrArray *const *states, guint count, guint events_max,
                   StateNodeId *ret_root, GError **error)
{
    StateEventSource source = {world, world_load, world_is_rejected, events_max};
    g_autofree StateNodeId *roots = g_new(StateNodeId, count);
    for (guint i = 0; i < count; i++)
        roots[i] = world_root(world, states[i]);
    world->loaded = 0;
    return state_resolve_roots(world->room->create, world->trie, roots, count, &source, ret_root,
                               error);
}

StateNodeId
world_resolve(World *world, GPtrArray *const *states, guint count)
{
    StateNodeId root;
    GError *error = NULL;
    gboolean good = world_resolve_with(world, states, count, 10000, &root, &error);
    g_assert_no_error(error);
    g_assert_true(good);
    return root;
}

StateNodeId
world_resolve_two(World *world, GPtrArray *one, GPtrArray *other)
{
    GPtrArray *there[] = {one, other}, *back[] = {other, one};
    StateNodeId root = world_resolve(world, there, 2), again = world_resolve(world, back, 2);
    g_assert_true(state_node_id_equal(&root, &again));
    return root;
}

void
world_check_stands(World *world, const StateNodeId *root, const char *type, const char *state_key,
                   const Pdu *expected)
{
    g_autofree char *event_id = NULL;
    g_assert_true(state_trie_find(world->trie, root, type, state_key, &event_id, NULL));
    g_assert_cmpstr(event_id, ==, expected != NULL ? expected->event_id : NULL);
}
