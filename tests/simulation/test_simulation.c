/* Five servers, one room, and a network that loses, delays, doubles, reorders and spoils; servers
 * die and come back.  When all is whole again they must have the same events with the same verdicts
 * and states, the same ends of the graph and the same current state.
 *
 * Everything random comes out of one seed.  CHANCERY_SIMULATION_RUNS=n plays n rooms (default 1000,
 * fewer under sanitizers), from CHANCERY_SIMULATION_FIRST on (default 1);
 * CHANCERY_SIMULATION_VERSION=v plays this room version alone; CHANCERY_SIMULATION_SEED=s plays
 * one seed again and tells its story. */
#include <stdio.h>
#include <string.h>

#include "tests/support/room_events.h"
#include "tests/support/sim_life.h"

#define BRING_BACK_ROUNDS 3
#ifdef __SANITIZE_ADDRESS__
#define RUNS_DEFAULT 100
#else
#define RUNS_DEFAULT 1000
#endif

/* ---- what must be the same ---- */

static void
compare_events(SimWorld *world)
{
    const SimServer *first = world->places[0].server;
    for (guint i = 1; i < SIM_SERVERS && world->failure == NULL; i++) {
        const SimServer *other = world->places[i].server;
        if (first->order->len != other->order->len)
            sim_fail(world, "%s has %u events, %s %u", first->name, first->order->len, other->name,
                     other->order->len);
        for (guint j = 0; j < first->order->len && world->failure == NULL; j++) {
            const SimStored *mine = g_ptr_array_index(first->order, j);
            const SimStored *its = sim_server_find(other, mine->event_id);
            if (its == NULL)
                sim_fail(world, "%s lacks %s", other->name, mine->event_id);
            else if ((mine->status == SIM_REJECTED) != (its->status == SIM_REJECTED))
                sim_fail(world, "%s and %s do not agree on the verdict of %s", first->name,
                         other->name, mine->event_id);
            else if (!state_node_id_equal(&mine->before, &its->before) ||
                     !state_node_id_equal(&mine->after, &its->after))
                sim_fail(world, "%s and %s do not agree on the state at %s", first->name,
                         other->name, mine->event_id);
        }
    }
}

static gint
compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void
compare_ends(SimWorld *world, guint count)
{
    const SimServer *first = world->places[0].server;
    for (guint i = 0; i < SIM_SERVERS && world->failure == NULL; i++) {
        const SimServer *other = world->places[i].server;
        g_ptr_array_sort(other->extremities, compare_texts);
        if (other->extremities->len != count)
            sim_fail(world, "%s has %u ends", other->name, other->extremities->len);
        for (guint j = 0; j < count && world->failure == NULL; j++)
            if (strcmp(first->extremities->pdata[j], other->extremities->pdata[j]) != 0)
                sim_fail(world, "%s and %s have other ends", first->name, other->name);
        if (!state_node_id_equal(&first->current, &other->current))
            sim_fail(world, "%s and %s have other states", first->name, other->name);
    }
}

/* ---- a run ---- */

/* The leaver's resident is in the room again, by its own server's eyes as well. */
static void
bring_back(SimWorld *world)
{
    const char *user_id = sim_user_ids[SIM_LEAVER * SIM_USERS_OF_SERVER];
    SimPlace *host = &world->places[0];
    world->now_ms +=
        SIM_CLOCKS_APART_MS_MAX; /* what is said now is younger than all that was said */
    for (guint i = 0; i < BRING_BACK_ROUNDS && world->failure == NULL; i++) {
        if (strcmp(sim_membership(world->places[SIM_LEAVER].server, user_id), "join") == 0 &&
            strcmp(sim_membership(host->server, user_id), "join") == 0)
            return;
        if (strcmp(sim_membership(host->server, user_id), "join") != 0)
            sim_set_member(world, host, sim_user_ids[0], user_id, "invite");
        sim_set_member(world, host, user_id, user_id, "join");
        sim_world_heal(world);
    }
    sim_fail(world, "%s does not get back into the room", user_id);
}

static void
resident_speaks(SimWorld *world, guint server)
{
    g_autoptr(cJSON) content = test_json("{'body':'hello again'}");
    if (!sim_send_as(world, &world->places[server], sim_user_ids[server * SIM_USERS_OF_SERVER],
                     "m.room.message", NULL, content, NULL))
        sim_fail(world, "an administrator may not speak");
}

/* What became of a member, by the state before. */
static void
count_member(SimWorld *world, SimFigures *figures, const SimStored *stored)
{
    SimServer *server = world->places[0].server;
    const Pdu *pdu = sim_server_pdu(server, stored->event_id);
    const char *now = pdu_membership(pdu), *was = "leave";
    g_autofree char *before = NULL;
    GError *error = NULL;

    if (now == NULL || stored->status != SIM_ACCEPTED)
        return;
    state_trie_find(server->trie, &stored->before, "m.room.member", pdu->state_key, &before,
                    &error);
    g_assert_no_error(error);
    if (before != NULL)
        was = pdu_membership(sim_server_pdu(server, before));
    gboolean own = strcmp(pdu->sender, pdu->state_key) == 0, leave = strcmp(now, "leave") == 0;
    figures->bans += strcmp(now, "ban") == 0;
    figures->unbans += leave && strcmp(was, "ban") == 0;
    figures->kicks += leave && !own && strcmp(was, "join") == 0;
    figures->leaves += leave && own && strcmp(was, "join") == 0;
    figures->rejoins += before != NULL && strcmp(now, "join") == 0 && strcmp(was, "join") != 0;
}

static void
count_events(SimWorld *world, SimFigures *figures)
{
    for (guint i = 0; i < SIM_SERVERS; i++) {
        const SimServer *server = world->places[i].server;
        figures->redacted += server->redacted;
        figures->deaths += server->deaths;
        figures->events += i == 0 ? server->order->len : 0;
        figures->walked_back += server->walked_back;
        for (guint j = 0; i == 0 && j < server->order->len; j++)
            count_member(world, figures, g_ptr_array_index(server->order, j));
        for (guint j = 0; j < server->order->len; j++) {
            SimStatus status = ((const SimStored *)g_ptr_array_index(server->order, j))->status;
            figures->accepted += status == SIM_ACCEPTED;
            figures->soft_failed += status == SIM_SOFT_FAILED;
            figures->rejected += status == SIM_REJECTED;
        }
    }
}

/* NULL, or what is wrong. *ret_state: the current state at the end. */
static char *
play(const RoomVersion *version, guint32 seed, gboolean wordy, SimFigures *figures,
     StateNodeId *ret_state)
{
    SimWorld *world = sim_world_new(version, seed, figures);
    world->wordy = wordy;
    sim_live(world);
    sim_world_heal(world);
    compare_events(world);
    /* Where a server soft-failed what another had accepted in time, their ends may differ until
     * somebody goes on from there: first those who were there all the time, each once, at the same
     * time; then the leaver comes back to that; then all of them. */
    for (guint i = 0; i < SIM_LEAVER && world->failure == NULL; i++)
        resident_speaks(world, i);
    sim_world_heal(world);
    compare_events(world);
    bring_back(world);
    compare_events(world);
    for (guint i = 0; i < SIM_SERVERS && world->failure == NULL; i++)
        resident_speaks(world, i);
    sim_world_heal(world);
    compare_events(world);
    compare_ends(world, SIM_SERVERS);
    if (world->failure == NULL)
        resident_speaks(world, sim_pick(world, SIM_SERVERS));
    sim_world_heal(world);
    compare_events(world);
    compare_ends(world, 1);
    count_events(world, figures);
    *ret_state = world->places[0].server->current;
    char *failure = g_steal_pointer(&world->failure);
    sim_world_free(world);
    return failure;
}

/* ---- the test ---- */

static guint
from_environment(const char *name, guint otherwise)
{
    const char *text = g_getenv(name);
    return text != NULL ? (guint)g_ascii_strtoull(text, NULL, 10) : otherwise;
}

/* Of all runs an older version has a twentieth, the newest what is left. */
static guint
share_of(const RoomVersion *version, guint runs)
{
    guint count = 0, older = 0;
    const RoomVersion *versions = room_version_table(&count);

    for (guint i = 0; i < count; i++)
        older += versions[i].supported && &versions[i] != room_version_default();
    guint share = MAX(1, runs / 20);
    return version != room_version_default() ? share
           : runs > older * share            ? runs - older * share
                                             : 1;
}

static void
test_servers_agree_in_the_end(gconstpointer data)
{
    const RoomVersion *version = data;
    guint runs = from_environment("CHANCERY_SIMULATION_RUNS", RUNS_DEFAULT);
    guint first = from_environment("CHANCERY_SIMULATION_FIRST", 1);
    guint seed = from_environment("CHANCERY_SIMULATION_SEED", 0);
    SimFigures figures = {0};
    guint failures = 0, played = 0;

    if (g_getenv("CHANCERY_SIMULATION_VERSION") == NULL)
        runs = share_of(version, runs);
    if (seed != 0) {
        first = seed;
        runs = 1;
    }
    for (; played < runs && failures < 5; played++) {
        StateNodeId state;
        g_autofree char *failure = play(version, first + played, seed != 0, &figures, &state);
        if (failure != NULL) {
            failures++;
            printf("# version %s seed %u: %s; again with CHANCERY_SIMULATION_VERSION=%s "
                   "CHANCERY_SIMULATION_SEED=%u\n",
                   version->id, first + played, failure, version->id, first + played);
        }
    }
    printf("# version %s: runs %u (seeds %u to %u), failures %u; events %u; verdicts: accepted "
           "%u, soft-failed %u, rejected %u; not let out %u; spoilt %u; messages %u, lost %u, "
           "doubled %u; partitions %u, restarts %u, deaths in a commit %u; most ends %u, passed "
           "behind what is none %u\n",
           version->id, played, first, first + played - 1, failures, figures.events,
           figures.accepted, figures.soft_failed, figures.rejected, figures.refused,
           figures.redacted, figures.messages, figures.lost, figures.doubled, figures.partitions,
           figures.restarts, figures.deaths, figures.ends_most, figures.walked_back);
    printf("# version %s: bans %u, unbans %u, kicks %u, leaves %u, rejoins %u; of other servers' "
           "users across a partition %u; whole server: left %u, came back %u, not told %u\n",
           version->id, figures.bans, figures.unbans, figures.kicks, figures.leaves,
           figures.rejoins, figures.across, figures.departures, figures.returns, figures.untold);
    g_assert_cmpuint(failures, ==, 0);
    if (runs < 50)
        return;
    /* Nothing proves anything where nothing went wrong. */
    g_assert_cmpuint(figures.soft_failed, >, runs / 10);
    g_assert_cmpuint(figures.rejected, >, runs / 10);
    g_assert_cmpuint(figures.redacted, >, runs / 10);
    g_assert_cmpuint(figures.deaths, >, runs / 10);
    g_assert_cmpuint(figures.ends_most, >, 4);
    g_assert_cmpuint(figures.walked_back, >, 0);
    g_assert_cmpuint(figures.bans, >, runs / 10);
    g_assert_cmpuint(figures.unbans, >, runs / 50);
    g_assert_cmpuint(figures.kicks, >, runs / 10);
    g_assert_cmpuint(figures.rejoins, >, runs / 10);
    g_assert_cmpuint(figures.across, >, runs / 10);
    g_assert_cmpuint(figures.departures, >, runs / 10);
    g_assert_cmpuint(figures.returns, >, runs / 10);
}

static void
test_a_seed_plays_the_same_again(void)
{
    SimFigures once = {0}, again = {0};
    StateNodeId state, same;
    g_autofree char *failure = play(room_version_default(), 7, FALSE, &once, &state);
    g_autofree char *no_failure = play(room_version_default(), 7, FALSE, &again, &same);
    g_assert_cmpstr(failure, ==, NULL);
    g_assert_cmpstr(no_failure, ==, NULL);
    g_assert_cmpmem(&once, sizeof once, &again, sizeof again);
    g_assert_true(state_node_id_equal(&state, &same));
}

int
main(int argc, char **argv)
{
    guint count = 0;
    const RoomVersion *versions = room_version_table(&count);
    const char *only = g_getenv("CHANCERY_SIMULATION_VERSION");

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/simulation/replay", test_a_seed_plays_the_same_again);
    for (guint i = count; i > 0; i--) {
        const RoomVersion *version = &versions[i - 1];
        g_autofree char *path = g_strdup_printf("/simulation/version-%s", version->id);
        if (only != NULL ? strcmp(only, version->id) == 0 : version->supported)
            g_test_add_data_func(path, version, test_servers_agree_in_the_end);
    }
    return g_test_run();
}
