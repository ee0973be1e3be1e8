/* State resolution beside the text of the specification ("State resolution" of room versions 2 and
 * 12), followed word by word and slowly here: random rooms must come out the same. */
#include <sodium.h>
#include <string.h>

#include "tests/support/world.h"

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
    StateNodeId root = world_resolve(world, states, count);
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
            world_resolve_two(world, two[0], two[1]);
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
    g_test_add_func("/state-resolution/random", test_random_rooms_come_out_as_the_text_says);
    return g_test_run();
}
