#include "tests/support/sim_life.h"

#include <string.h>

#include "federation/room/identifier.h"
#include "tests/support/room_events.h"

const char *
sim_membership(SimServer *server, const char *user_id)
{
    const Pdu *member = sim_server_state(server, "m.room.member", user_id);
    return member != NULL ? pdu_membership(member) : "leave";
}

/* Has @server users in the room, as @place sees it, or invited ones? */
static gboolean
is_in_room(SimPlace *place, guint server)
{
    for (guint i = 0; i < SIM_USERS_OF_SERVER; i++) {
        const char *now =
            sim_membership(place->server, sim_user_ids[server * SIM_USERS_OF_SERVER + i]);
        if (strcmp(now, "join") == 0 || strcmp(now, "invite") == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean
is_about(const Pdu *pdu, guint server)
{
    return pdu_membership(pdu) != NULL &&
           g_strcmp0(identifier_server(pdu->state_key), sim_server_names[server]) == 0;
}

/* Store an event of our own, then send it around. */
static void
put_out(SimWorld *world, SimPlace *place, const Pdu *pdu, gboolean must_stand)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(pdu->bytes, &length);
    GError *error = NULL;

    sim_server_receive(place->server, bytes, length, &error);
    g_assert_no_error(error);
    const SimStored *stored = sim_server_find(place->server, pdu->event_id);
    if (stored == NULL)
        return; /* the server died before it was stored */
    if (must_stand && stored->status != SIM_ACCEPTED)
        sim_fail(world, "%s does not accept its own %s", place->server->name, pdu->event_id);
    g_ptr_array_add(place->own, g_strdup(pdu->event_id));
    g_hash_table_replace(world->origins, g_strdup(pdu->event_id),
                         GUINT_TO_POINTER(place->index + 1));
    for (guint to = 0; to < SIM_SERVERS; to++) {
        if (to == place->index)
            continue;
        if (!is_in_room(place, to) && !is_about(pdu, to)) {
            world->figures->untold++; /* it will ask, should it come back */
            continue;
        }
        if (is_about(pdu, to) && world->group[to] != world->group[place->index] &&
            strcmp(pdu->sender, pdu->state_key) != 0)
            world->figures->across++;
        sim_world_send(world, place->index, to, stored);
    }
}

gboolean
sim_send_as(SimWorld *world, SimPlace *place, const char *sender, const char *type,
            const char *state_key, const cJSON *content, const char *redacts)
{
    g_autofree char *event_id =
        g_strdup_printf("$%u:%s", ++world->own_ids, identifier_server(sender));
    const char *reason = NULL;
    g_autoptr(Pdu) pdu = sim_server_make(place->server, sender, type, state_key, content, redacts,
                                         event_id, world->now_ms + place->skew_ms, &reason);
    if (pdu == NULL) {
        sim_tell(world, "%s may not send %s: %s", sender, type, reason);
        world->figures->refused++;
        return FALSE;
    }
    put_out(world, place, pdu, TRUE);
    return TRUE;
}

void
sim_set_member(SimWorld *world, SimPlace *place, const char *sender, const char *target,
               const char *membership)
{
    g_autofree char *text =
        g_strdup_printf("{'membership':'%s','displayname':'hello'}", membership);
    g_autoptr(cJSON) content = test_json(text);
    sim_send_as(world, place, sender, "m.room.member", target, content, NULL);
}

/* ---- users ---- */

static void
change_levels(SimWorld *world, SimPlace *place, const char *sender)
{
    static const char *const names[] = {"events_default", "state_default", "users_default", "ban",
                                        "kick",           "redact",        "invite"};
    static const int levels[] = {0, 0, 25, 50, 50, 75, 99, 100};
    const Pdu *old = sim_server_state(place->server, "m.room.power_levels", "");
    if (old == NULL) {
        sim_fail(world, "%s has lost its power levels", place->server->name);
        return;
    }
    g_autoptr(cJSON) content = cJSON_Duplicate(old->content, TRUE);
    cJSON *where = content;
    const char *name = names[sim_pick(world, G_N_ELEMENTS(names))];
    int level = levels[sim_pick(world, G_N_ELEMENTS(levels))];

    if (sim_happens(world, 60)) {
        where = (cJSON *)json_get_object(content, "users");
        if (where == NULL)
            where = cJSON_AddObjectToObject(content, "users");
        name = sim_user_ids[sim_pick(world, SIM_SERVERS) * SIM_USERS_OF_SERVER + 1 +
                            sim_pick(world, SIM_USERS_OF_SERVER - 1)];
    } else if (strcmp(name, "users_default") == 0)
        level = MIN(level, 50);
    cJSON_DeleteItemFromObjectCaseSensitive(where, name);
    cJSON_AddNumberToObject(where, name, level);
    sim_send_as(world, place, sender, "m.room.power_levels", "", content, NULL);
}

static void
change_rule(SimWorld *world, SimPlace *place, const char *sender)
{
    const char *rules[] = {"public", "public", "invite",
                           world->version->knock ? "knock" : "public"};
    g_autofree char *text = g_strdup_printf("{'join_rule':'%s'}", rules[sim_pick(world, 4)]);
    g_autoptr(cJSON) content = test_json(text);
    sim_send_as(world, place, sender, "m.room.join_rules", "", content, NULL);
}

static void
redact(SimWorld *world, SimPlace *place, const char *sender)
{
    GPtrArray *order = place->server->order;
    const SimStored *stored = g_ptr_array_index(order, sim_pick(world, order->len));
    g_autoptr(cJSON) content = cJSON_CreateObject();
    sim_send_as(world, place, sender, "m.room.redaction", NULL, content, stored->event_id);
}

static void
say(SimWorld *world, SimPlace *place, const char *sender, const char *type, const char *state_key)
{
    g_autofree char *text = g_strdup_printf("{'body':'hello %u'}", sim_pick(world, 1000));
    g_autoptr(cJSON) content = test_json(text);
    sim_send_as(world, place, sender, type, state_key, content, NULL);
}

/* Somebody who is banned, as @place sees it; @otherwise if nobody is. */
static const char *
pick_banned(SimWorld *world, SimPlace *place, const char *otherwise)
{
    guint from = sim_pick(world, SIM_USERS);
    for (guint i = 0; i < SIM_USERS; i++) {
        const char *user_id = sim_user_ids[(from + i) % SIM_USERS];
        if (strcmp(sim_membership(place->server, user_id), "ban") == 0)
            return user_id;
    }
    return otherwise;
}

static void
user_acts(SimWorld *world, SimPlace *place)
{
    guint n = sim_pick(world, SIM_USERS_OF_SERVER);
    const char *sender = sim_user_ids[place->index * SIM_USERS_OF_SERVER + n];
    const char *target = sim_user_ids[sim_pick(world, SIM_USERS)];
    guint dice = sim_pick(world, 100);

    if (dice < 28)
        say(world, place, sender, "m.room.message", NULL);
    else if (dice < 42)
        sim_set_member(world, place, sender, sender, "join");
    else if (dice < 46 && (n > 0 || place->index == SIM_LEAVER))
        sim_set_member(world, place, sender, sender, "leave");
    else if (dice < 51)
        sim_set_member(world, place, sender, target, target == sender ? "join" : "leave");
    else if (dice < 56) {
        target = pick_banned(world, place, target);
        sim_set_member(world, place, sender, target, target == sender ? "join" : "leave");
    } else if (dice < 64)
        sim_set_member(world, place, sender, target, target == sender ? "join" : "ban");
    else if (dice < 72)
        sim_set_member(world, place, sender, target, "invite");
    else if (dice < 75 && world->version->knock)
        sim_set_member(world, place, sender, sender, "knock");
    else if (dice < 86)
        change_levels(world, place, sender);
    else if (dice < 91)
        change_rule(world, place, sender);
    else if (dice < 97)
        say(world, place, sender, sim_happens(world, 50) ? "m.room.name" : "m.room.topic", "");
    else
        redact(world, place, sender);
}

/* ---- servers and the network ---- */

/* A server that does not keep the rules: an event on any old events, with any auth events. */
static void
forge(SimWorld *world, SimPlace *place)
{
    GPtrArray *order = place->server->order;
    static const char *const texts[] = {
        "{'membership':'join'}", "{'membership':'ban'}", "{'membership':'leave'}",
        "{'users':{'@mallory:five.example':100},'hello':'hello'}", "{'body':'hello'}"};
    static const char *const types[] = {"m.room.member", "m.room.member", "m.room.member",
                                        "m.room.power_levels", "m.room.message"};
    guint what = sim_pick(world, G_N_ELEMENTS(texts));
    /* A resident does not leave, nor give its power away. */
    guint n = what == 2 || what == 3 ? 1 + sim_pick(world, SIM_USERS_OF_SERVER - 1)
                                     : sim_pick(world, SIM_USERS_OF_SERVER);
    const char *sender = sim_user_ids[place->index * SIM_USERS_OF_SERVER + n];
    const char *target = sim_user_ids[sim_pick(world, SIM_USERS)];
    g_autoptr(cJSON) content = test_json(texts[what]);
    g_autoptr(GPtrArray) prev_events = g_ptr_array_new();
    g_autoptr(GPtrArray) auth_events = g_ptr_array_new();
    g_autofree char *event_id = g_strdup_printf("$%u:%s", ++world->own_ids, place->server->name);
    guint prevs = 1 + sim_pick(world, 3), auths = sim_pick(world, 5);
    const char *state_key = what == 4 ? NULL : what == 3 ? "" : what == 0 ? sender : target;
    gint64 depth = 0;

    for (guint i = 0; i < prevs; i++) {
        /* Not on what was before the residents came: a fork from there may, by the algorithm, take
         * them out of a room that has become one by invitation. */
        guint at = world->founding - 1 + sim_pick(world, order->len - world->founding + 1);
        const SimStored *prev = g_ptr_array_index(order, at);
        if (!g_ptr_array_find(prev_events, prev->event_id, NULL))
            g_ptr_array_add(prev_events, prev->event_id);
        depth = MAX(depth, sim_server_pdu(place->server, prev->event_id)->depth);
    }
    if (sim_happens(world, 50)) { /* those that belong there by its own state */
        EventAuthKeys keys;
        event_auth_keys(world->version, types[what], state_key, sender, content, &keys);
        for (guint i = 0; i < keys.count; i++) {
            const Pdu *pdu =
                sim_server_state(place->server, keys.keys[i].type, keys.keys[i].state_key);
            if (pdu != NULL)
                g_ptr_array_add(auth_events, (gpointer)pdu->event_id);
        }
    } else
        for (guint i = 0; i < auths; i++) {
            const SimStored *auth = g_ptr_array_index(order, sim_pick(world, order->len));
            if (!g_ptr_array_find(auth_events, auth->event_id, NULL))
                g_ptr_array_add(auth_events, auth->event_id);
        }
    g_ptr_array_add(prev_events, NULL);
    g_ptr_array_add(auth_events, NULL);
    g_autoptr(Pdu) pdu = sim_server_forge(place->server, sender, types[what], state_key, content,
                                          NULL, event_id, (const char *const *)prev_events->pdata,
                                          (const char *const *)auth_events->pdata, depth + 1,
                                          world->now_ms + place->skew_ms);
    put_out(world, place, pdu, FALSE);
}

static void
part(SimWorld *world)
{
    guint groups = 1 + sim_pick(world, 3);
    for (guint i = 0; i < SIM_SERVERS; i++)
        world->group[i] = sim_pick(world, groups);
    world->figures->partitions++;
    sim_tell(world, "partition: %u %u %u %u %u", world->group[0], world->group[1], world->group[2],
             world->group[3], world->group[4]);
}

/* Everybody of the leaver's server goes, so that nobody tells it anything any more; or one of them
 * comes back, by way of another server that they can reach, as make_join and send_join do it. */
static void
leave_or_return(SimWorld *world)
{
    SimPlace *place = &world->places[SIM_LEAVER];
    SimPlace *other = &world->places[sim_pick(world, SIM_LEAVER)];

    if (is_in_room(place, SIM_LEAVER)) {
        for (guint i = 0; i < SIM_USERS_OF_SERVER; i++) {
            const char *user_id = sim_user_ids[SIM_LEAVER * SIM_USERS_OF_SERVER + i];
            if (strcmp(sim_membership(place->server, user_id), "leave") != 0 &&
                strcmp(sim_membership(place->server, user_id), "ban") != 0)
                sim_set_member(world, place, user_id, user_id, "leave");
        }
        world->figures->departures += !is_in_room(place, SIM_LEAVER);
    } else if (world->group[other->index] == world->group[SIM_LEAVER]) {
        const char *user_id =
            sim_user_ids[SIM_LEAVER * SIM_USERS_OF_SERVER + sim_pick(world, SIM_USERS_OF_SERVER)];
        sim_tell(world, "%s comes back by way of %s", user_id, other->server->name);
        sim_set_member(world, other, user_id, user_id, "join");
        world->figures->returns += strcmp(sim_membership(other->server, user_id), "join") == 0;
    }
}

void
sim_live(SimWorld *world)
{
    guint steps = 30 + sim_pick(world, 40);
    for (guint i = 0; i < steps && world->failure == NULL; i++) {
        SimPlace *place = &world->places[sim_pick(world, SIM_SERVERS)];
        guint dice = sim_pick(world, 100);

        if (dice < 72)
            user_acts(world, place);
        else if (dice < 80)
            forge(world, place);
        else if (dice < 88)
            part(world);
        else if (dice < 93) {
            sim_tell(world, "%s restarts", place->server->name);
            sim_server_restart(place->server);
            world->figures->restarts++;
        } else if (dice < 96)
            place->server->dies_in_commit = TRUE;
        else
            leave_or_return(world);
        sim_pass_time(world, world->now_ms + sim_pick(world, sim_happens(world, 20) ? 1000 : 50));
    }
}
