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

#include "federation/room/identifier.h"
#include "identity/seeded_hash.h"
#include "tests/support/room_events.h"
#include "tests/support/sim_server.h"

#define SERVERS 5
#define USERS_OF_SERVER 3 /* the first is resident: an administrator who never leaves */
#define LEAVER 4          /* but on this server, whose users may all leave, and come back */
#define USERS (SERVERS * USERS_OF_SERVER)
#define HEAL_ROUNDS_MAX 50
#define CLOCKS_APART_MS_MAX 3000
#define BRING_BACK_ROUNDS 3
#define EVERYBODY ((1U << SERVERS) - 1)
#ifdef __SANITIZE_ADDRESS__
#define RUNS_DEFAULT 100
#else
#define RUNS_DEFAULT 1000
#endif

typedef enum {
    MESSAGE_EVENT, /* an event, asked for or not */
    MESSAGE_WANT,  /* I need the event of this id */
    MESSAGE_GOT,   /* your event of this id is stored here */
} MessageKind;

typedef struct {
    gint64 due_ms;
    guint64 number;
    guint from, to;
    MessageKind kind;
    char *event_id;
    GBytes *bytes;
} Message;

typedef struct {
    guint events, accepted, soft_failed, rejected, refused, redacted;
    guint messages, lost, doubled, partitions, restarts, deaths, ends_most, walked_back;
    guint bans, unbans, kicks, leaves, rejoins, across; /* accepted; across a partition */
    guint departures, returns, untold;                  /* of a whole server */
} Figures;

typedef struct World World;
typedef struct {
    World *world;
    guint index;
    SimServer *server;
    gint64 skew_ms;
    /* Durable: what this server sent, and who (bits) has it. */
    GPtrArray *own;
    GHashTable *got;
} Place;

struct World {
    const RoomVersion *version;
    ServerKey *key;
    GRand *chance;
    gint64 now_ms;
    gboolean whole; /* the network is healed */
    guint group[SERVERS];
    Place places[SERVERS];
    GSequence *network; /* Message */
    guint64 numbers;
    guint own_ids;
    GHashTable *origins; /* event id -> index + 1 of the place that sends it around */
    guint founding;      /* how many events all servers had from the start */
    Figures *figures;
    gboolean wordy;
    char *failure; /* NULL while all is well */
};

static const char *const server_names[SERVERS] = {"one.example", "two.example", "three.example",
                                                  "four.example", "five.example"};
static char user_ids[USERS][32]; /* [server * USERS_OF_SERVER + n] */

static guint
pick(World *world, guint count)
{
    return (guint)g_rand_int_range(world->chance, 0, (gint32)count);
}

static gboolean
happens(World *world, guint percent)
{
    return pick(world, 100) < percent;
}

G_GNUC_PRINTF(2, 3)
static void
tell(World *world, const char *format, ...)
{
    va_list arguments;
    if (!world->wordy)
        return;
    va_start(arguments, format);
    g_autofree char *text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    printf("# %6" G_GINT64_FORMAT " %s\n", world->now_ms, text);
}

G_GNUC_PRINTF(2, 3)
static void
fail(World *world, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (world->failure == NULL)
        world->failure = g_strdup_vprintf(format, arguments);
    va_end(arguments);
}

/* ---- the network ---- */

static void
message_free(gpointer data)
{
    Message *message = data;
    g_free(message->event_id);
    if (message->bytes != NULL)
        g_bytes_unref(message->bytes);
    g_free(message);
}

static gint
compare_messages(gconstpointer a, gconstpointer b, gpointer unused)
{
    const Message *one = a, *two = b;
    if (one->due_ms != two->due_ms)
        return one->due_ms < two->due_ms ? -1 : 1;
    return one->number < two->number ? -1 : one->number > two->number;
}

/* What a faulty or meddling hand on the way makes of an event: its hash no longer holds. */
static GBytes *
spoil(GBytes *bytes)
{
    gsize length = 0;
    const char *text = g_bytes_get_data(bytes, &length);
    char *copy = g_memdup2(text, length);
    char *word = memmem(copy, length, "hello", 5);
    if (word != NULL)
        memcpy(word, "HELLO", 5);
    return g_bytes_new_take(copy, length);
}

static void
post_once(World *world, guint from, guint to, MessageKind kind, const char *event_id, GBytes *bytes)
{
    Message *message = g_new0(Message, 1);
    message->due_ms = world->now_ms + 1 + pick(world, happens(world, 10) ? 2000 : 100);
    message->number = ++world->numbers;
    message->from = from;
    message->to = to;
    message->kind = kind;
    message->event_id = g_strdup(event_id);
    if (bytes != NULL)
        message->bytes = !world->whole && happens(world, 3) ? spoil(bytes) : g_bytes_ref(bytes);
    g_sequence_insert_sorted(world->network, message, compare_messages, NULL);
    world->figures->messages++;
}

static void
post(World *world, guint from, guint to, MessageKind kind, const char *event_id, GBytes *bytes)
{
    if (world->group[from] != world->group[to] || (!world->whole && happens(world, 5))) {
        world->figures->lost++;
        return;
    }
    post_once(world, from, to, kind, event_id, bytes);
    if (happens(world, 5)) {
        world->figures->doubled++;
        post_once(world, from, to, kind, event_id, bytes);
    }
}

static void
tell_sender(Place *place, const char *event_id)
{
    guint origin = GPOINTER_TO_UINT(g_hash_table_lookup(place->world->origins, event_id));
    if (origin > 0 && origin - 1 != place->index)
        post(place->world, place->index, origin - 1, MESSAGE_GOT, event_id, NULL);
}

/* Is @event_id behind @pdu, by whatever way? */
static gboolean
is_behind(SimServer *server, const Pdu *pdu, const char *event_id, GHashTable *seen)
{
    for (guint i = 0; i < pdu->prev_event_count; i++)
        if (strcmp(pdu->prev_events[i], event_id) == 0 ||
            (g_hash_table_add(seen, (gpointer)pdu->prev_events[i]) &&
             is_behind(server, sim_server_pdu(server, pdu->prev_events[i]), event_id, seen)))
            return TRUE;
    return FALSE;
}

/* An end is an end: nothing that is one stands behind another. */
static void
check_ends(Place *place)
{
    const GPtrArray *ends = place->server->extremities;
    for (guint i = 0; i < ends->len; i++)
        for (guint j = 0; j < ends->len; j++) {
            g_autoptr(GHashTable) seen = g_hash_table_new(seeded_str_hash, g_str_equal);
            if (i != j && is_behind(place->server, sim_server_pdu(place->server, ends->pdata[i]),
                                    ends->pdata[j], seen))
                fail(place->world, "%s takes %s for an end, and goes on from it to %s",
                     place->server->name, (const char *)ends->pdata[j],
                     (const char *)ends->pdata[i]);
        }
}

static void
on_stored(gpointer data, const SimStored *stored)
{
    Place *place = data;
    static const char *const words[] = {"accepts", "soft-fails", "rejects"};
    const Pdu *pdu = sim_server_pdu(place->server, stored->event_id);
    g_autofree char *content = place->world->wordy ? cJSON_PrintUnformatted(pdu->content) : NULL;
    tell(place->world, "%s %s %s: %s (%s) of %s: %s", place->server->name, words[stored->status],
         stored->event_id, pdu->type, pdu->state_key, pdu->sender, content);
    tell_sender(place, stored->event_id);
    if (place->server->extremities->len > 1)
        check_ends(place);
    place->world->figures->ends_most =
        MAX(place->world->figures->ends_most, place->server->extremities->len);
}

static void
ask_for_missing(Place *place)
{
    g_autoptr(GPtrArray) missing = sim_server_missing(place->server);
    for (guint i = 0; i < missing->len; i++) {
        guint peer = (place->index + 1 + pick(place->world, SERVERS - 1)) % SERVERS;
        post(place->world, place->index, peer, MESSAGE_WANT, missing->pdata[i], NULL);
    }
}

static void
take_event(Place *place, const Message *message)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(message->bytes, &length);
    gboolean known = sim_server_find(place->server, message->event_id) != NULL;
    g_autoptr(GError) error = NULL;

    if (!sim_server_receive(place->server, bytes, length, &error)) {
        fail(place->world, "%s refuses an event that is well formed: %s", place->server->name,
             error->message);
        return;
    }
    if (known)
        tell_sender(place, message->event_id);
    ask_for_missing(place);
}

static void
deliver(World *world, Message *message)
{
    Place *place = &world->places[message->to];
    const SimStored *stored = sim_server_find(place->server, message->event_id);

    if (message->kind == MESSAGE_EVENT)
        take_event(place, message);
    else if (message->kind == MESSAGE_WANT && stored != NULL)
        post(world, message->to, message->from, MESSAGE_EVENT, message->event_id, stored->bytes);
    else if (message->kind == MESSAGE_GOT) {
        guint mask = GPOINTER_TO_UINT(g_hash_table_lookup(place->got, message->event_id));
        g_hash_table_replace(place->got, g_strdup(message->event_id),
                             GUINT_TO_POINTER(mask | 1U << message->from));
    }
}

/* Let time go by until @until_ms, or until nothing is on its way. */
static void
pass_time(World *world, gint64 until_ms)
{
    for (;;) {
        GSequenceIter *first = g_sequence_get_begin_iter(world->network);
        if (world->failure != NULL || g_sequence_iter_is_end(first))
            break;
        Message *message = g_sequence_get(first);
        if (message->due_ms > until_ms)
            break;
        world->now_ms = MAX(world->now_ms, message->due_ms);
        Message taken = *message;
        *message = (Message){0};
        g_sequence_remove(first);
        deliver(world, &taken);
        g_free(taken.event_id);
        if (taken.bytes != NULL)
            g_bytes_unref(taken.bytes);
    }
    if (until_ms < G_MAXINT64)
        world->now_ms = until_ms;
}

/* ---- users ---- */

static const char *
membership(SimServer *server, const char *user_id)
{
    const Pdu *member = sim_server_state(server, "m.room.member", user_id);
    return member != NULL ? pdu_membership(member) : "leave";
}

/* Has @server users in the room, as @place sees it, or invited ones? */
static gboolean
is_in_room(Place *place, guint server)
{
    for (guint i = 0; i < USERS_OF_SERVER; i++) {
        const char *now = membership(place->server, user_ids[server * USERS_OF_SERVER + i]);
        if (strcmp(now, "join") == 0 || strcmp(now, "invite") == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean
is_about(const Pdu *pdu, guint server)
{
    return pdu_membership(pdu) != NULL &&
           g_strcmp0(identifier_server(pdu->state_key), server_names[server]) == 0;
}

/* Store an event of our own, then send it around. */
static void
put_out(World *world, Place *place, const Pdu *pdu, gboolean must_stand)
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
        fail(world, "%s does not accept its own %s", place->server->name, pdu->event_id);
    g_ptr_array_add(place->own, g_strdup(pdu->event_id));
    g_hash_table_replace(world->origins, g_strdup(pdu->event_id),
                         GUINT_TO_POINTER(place->index + 1));
    for (guint to = 0; to < SERVERS; to++) {
        if (to == place->index)
            continue;
        if (!is_in_room(place, to) && !is_about(pdu, to)) {
            world->figures->untold++; /* it will ask, should it come back */
            continue;
        }
        if (is_about(pdu, to) && world->group[to] != world->group[place->index] &&
            strcmp(pdu->sender, pdu->state_key) != 0)
            world->figures->across++;
        post(world, place->index, to, MESSAGE_EVENT, pdu->event_id, stored->bytes);
    }
}

/* TRUE if the rules let it out. */
static gboolean
send_as(World *world, Place *place, const char *sender, const char *type, const char *state_key,
        const cJSON *content, const char *redacts)
{
    g_autofree char *event_id =
        g_strdup_printf("$%u:%s", ++world->own_ids, identifier_server(sender));
    const char *reason = NULL;
    g_autoptr(Pdu) pdu = sim_server_make(place->server, sender, type, state_key, content, redacts,
                                         event_id, world->now_ms + place->skew_ms, &reason);
    if (pdu == NULL) {
        tell(world, "%s may not send %s: %s", sender, type, reason);
        world->figures->refused++;
        return FALSE;
    }
    put_out(world, place, pdu, TRUE);
    return TRUE;
}

static void
set_member(World *world, Place *place, const char *sender, const char *target,
           const char *membership)
{
    g_autofree char *text =
        g_strdup_printf("{'membership':'%s','displayname':'hello'}", membership);
    g_autoptr(cJSON) content = test_json(text);
    send_as(world, place, sender, "m.room.member", target, content, NULL);
}

static void
change_levels(World *world, Place *place, const char *sender)
{
    static const char *const names[] = {"events_default", "state_default", "users_default", "ban",
                                        "kick",           "redact",        "invite"};
    static const int levels[] = {0, 0, 25, 50, 50, 75, 99, 100};
    const Pdu *old = sim_server_state(place->server, "m.room.power_levels", "");
    if (old == NULL) {
        fail(world, "%s has lost its power levels", place->server->name);
        return;
    }
    g_autoptr(cJSON) content = cJSON_Duplicate(old->content, TRUE);
    cJSON *where = content;
    const char *name = names[pick(world, G_N_ELEMENTS(names))];
    int level = levels[pick(world, G_N_ELEMENTS(levels))];

    if (happens(world, 60)) {
        where = (cJSON *)json_get_object(content, "users");
        if (where == NULL)
            where = cJSON_AddObjectToObject(content, "users");
        name =
            user_ids[pick(world, SERVERS) * USERS_OF_SERVER + 1 + pick(world, USERS_OF_SERVER - 1)];
    } else if (strcmp(name, "users_default") == 0)
        level = MIN(level, 50);
    cJSON_DeleteItemFromObjectCaseSensitive(where, name);
    cJSON_AddNumberToObject(where, name, level);
    send_as(world, place, sender, "m.room.power_levels", "", content, NULL);
}

static void
change_rule(World *world, Place *place, const char *sender)
{
    const char *rules[] = {"public", "public", "invite",
                           world->version->knock ? "knock" : "public"};
    g_autofree char *text = g_strdup_printf("{'join_rule':'%s'}", rules[pick(world, 4)]);
    g_autoptr(cJSON) content = test_json(text);
    send_as(world, place, sender, "m.room.join_rules", "", content, NULL);
}

static void
redact(World *world, Place *place, const char *sender)
{
    GPtrArray *order = place->server->order;
    const SimStored *stored = g_ptr_array_index(order, pick(world, order->len));
    g_autoptr(cJSON) content = cJSON_CreateObject();
    send_as(world, place, sender, "m.room.redaction", NULL, content, stored->event_id);
}

static void
say(World *world, Place *place, const char *sender, const char *type, const char *state_key)
{
    g_autofree char *text = g_strdup_printf("{'body':'hello %u'}", pick(world, 1000));
    g_autoptr(cJSON) content = test_json(text);
    send_as(world, place, sender, type, state_key, content, NULL);
}

/* Somebody who is banned, as @place sees it; @otherwise if nobody is. */
static const char *
pick_banned(World *world, Place *place, const char *otherwise)
{
    guint from = pick(world, USERS);
    for (guint i = 0; i < USERS; i++) {
        const char *user_id = user_ids[(from + i) % USERS];
        if (strcmp(membership(place->server, user_id), "ban") == 0)
            return user_id;
    }
    return otherwise;
}

static void
user_acts(World *world, Place *place)
{
    guint n = pick(world, USERS_OF_SERVER);
    const char *sender = user_ids[place->index * USERS_OF_SERVER + n];
    const char *target = user_ids[pick(world, USERS)];
    guint dice = pick(world, 100);

    if (dice < 28)
        say(world, place, sender, "m.room.message", NULL);
    else if (dice < 42)
        set_member(world, place, sender, sender, "join");
    else if (dice < 46 && (n > 0 || place->index == LEAVER))
        set_member(world, place, sender, sender, "leave");
    else if (dice < 51)
        set_member(world, place, sender, target, target == sender ? "join" : "leave");
    else if (dice < 56) {
        target = pick_banned(world, place, target);
        set_member(world, place, sender, target, target == sender ? "join" : "leave");
    } else if (dice < 64)
        set_member(world, place, sender, target, target == sender ? "join" : "ban");
    else if (dice < 72)
        set_member(world, place, sender, target, "invite");
    else if (dice < 75 && world->version->knock)
        set_member(world, place, sender, sender, "knock");
    else if (dice < 86)
        change_levels(world, place, sender);
    else if (dice < 91)
        change_rule(world, place, sender);
    else if (dice < 97)
        say(world, place, sender, happens(world, 50) ? "m.room.name" : "m.room.topic", "");
    else
        redact(world, place, sender);
}

/* A server that does not keep the rules: an event on any old events, with any auth events. */
static void
forge(World *world, Place *place)
{
    GPtrArray *order = place->server->order;
    static const char *const texts[] = {
        "{'membership':'join'}", "{'membership':'ban'}", "{'membership':'leave'}",
        "{'users':{'@mallory:five.example':100},'hello':'hello'}", "{'body':'hello'}"};
    static const char *const types[] = {"m.room.member", "m.room.member", "m.room.member",
                                        "m.room.power_levels", "m.room.message"};
    guint what = pick(world, G_N_ELEMENTS(texts));
    /* A resident does not leave, nor give its power away. */
    guint n = what == 2 || what == 3 ? 1 + pick(world, USERS_OF_SERVER - 1)
                                     : pick(world, USERS_OF_SERVER);
    const char *sender = user_ids[place->index * USERS_OF_SERVER + n];
    const char *target = user_ids[pick(world, USERS)];
    g_autoptr(cJSON) content = test_json(texts[what]);
    g_autoptr(GPtrArray) prev_events = g_ptr_array_new();
    g_autoptr(GPtrArray) auth_events = g_ptr_array_new();
    g_autofree char *event_id = g_strdup_printf("$%u:%s", ++world->own_ids, place->server->name);
    guint prevs = 1 + pick(world, 3), auths = pick(world, 5);
    const char *state_key = what == 4 ? NULL : what == 3 ? "" : what == 0 ? sender : target;
    gint64 depth = 0;

    for (guint i = 0; i < prevs; i++) {
        /* Not on what was before the residents came: a fork from there may, by the algorithm, take
         * them out of a room that has become one by invitation. */
        guint at = world->founding - 1 + pick(world, order->len - world->founding + 1);
        const SimStored *prev = g_ptr_array_index(order, at);
        if (!g_ptr_array_find(prev_events, prev->event_id, NULL))
            g_ptr_array_add(prev_events, prev->event_id);
        depth = MAX(depth, sim_server_pdu(place->server, prev->event_id)->depth);
    }
    if (happens(world, 50)) { /* those that belong there by its own state */
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
            const SimStored *auth = g_ptr_array_index(order, pick(world, order->len));
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

/* ---- a run ---- */

/* The first events are with everybody at once. */
static void
found(World *world, const char *sender, const char *type, const char *state_key,
      const cJSON *content)
{
    g_autofree char *event_id = g_strdup_printf("$%u%s", ++world->own_ids, strchr(sender, ':'));
    const char *reason = NULL;
    g_autoptr(Pdu) pdu = sim_server_make(world->places[0].server, sender, type, state_key, content,
                                         NULL, event_id, world->now_ms++, &reason);
    g_assert_cmpstr(reason, ==, NULL);
    for (guint i = 0; i < SERVERS; i++) {
        gsize length = 0;
        const char *bytes = g_bytes_get_data(pdu->bytes, &length);
        GError *error = NULL;
        sim_server_receive(world->places[i].server, bytes, length, &error);
        g_assert_no_error(error);
        g_assert_cmpint(sim_server_find(world->places[i].server, pdu->event_id)->status, ==,
                        SIM_ACCEPTED);
    }
}

static void
found_room(World *world)
{
    g_autoptr(cJSON) create = cJSON_CreateObject();
    g_autoptr(cJSON) levels = cJSON_CreateObject();
    g_autoptr(cJSON) join = test_json("{'membership':'join'}");
    g_autoptr(cJSON) rules = test_json("{'join_rule':'public'}");
    cJSON *users = cJSON_AddObjectToObject(levels, "users");

    cJSON_AddStringToObject(create, "room_version", world->version->id);
    if (!world->version->creator_is_sender)
        cJSON_AddStringToObject(create, "creator", user_ids[0]);
    cJSON *creators = world->version->additional_creators
                          ? cJSON_AddArrayToObject(create, "additional_creators")
                          : NULL;
    for (guint i = 0; i < SERVERS; i++)
        if (creators == NULL)
            cJSON_AddNumberToObject(users, user_ids[i * USERS_OF_SERVER], 100);
        else if (i > 0)
            cJSON_AddItemToArray(creators, cJSON_CreateString(user_ids[i * USERS_OF_SERVER]));
    cJSON_AddNumberToObject(users, user_ids[1], 50);
    found(world, user_ids[0], "m.room.create", "", create);
    found(world, user_ids[0], "m.room.member", user_ids[0], join);
    found(world, user_ids[0], "m.room.power_levels", "", levels);
    found(world, user_ids[0], "m.room.join_rules", "", rules);
    for (guint i = 1; i < USERS; i++)
        if (i % USERS_OF_SERVER < 2)
            found(world, user_ids[i], "m.room.member", user_ids[i], join);
}

static World *
world_new(const RoomVersion *version, guint32 seed, Figures *figures)
{
    static const guint8 key_seed[PUBLIC_KEY_BYTES] = "a key for five servers in a room";
    World *world = g_new0(World, 1);
    world->version = version;
    world->key = server_key_new_for_tests("1", key_seed);
    /* Each version has rooms of its own. */
    const guint32 seeds[] = {seed, (guint32)g_ascii_strtoull(version->id, NULL, 10)};
    world->chance = g_rand_new_with_seed_array(seeds, G_N_ELEMENTS(seeds));
    world->now_ms = 1000;
    world->network = g_sequence_new(message_free);
    world->origins = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    world->figures = figures;
    for (guint i = 0; i < SERVERS; i++) {
        Place *place = &world->places[i];
        place->world = world;
        place->index = i;
        place->server = sim_server_new(server_names[i], version, world->key);
        place->skew_ms = pick(world, CLOCKS_APART_MS_MAX);
        place->own = g_ptr_array_new_with_free_func(g_free);
        place->got = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    }
    found_room(world);
    world->founding = world->places[0].server->order->len;
    for (guint i = 0; i < SERVERS; i++) {
        world->places[i].server->on_stored = on_stored;
        world->places[i].server->data = &world->places[i];
    }
    return world;
}

static void
world_free(World *world)
{
    for (guint i = 0; i < SERVERS; i++) {
        sim_server_free(world->places[i].server);
        g_ptr_array_unref(world->places[i].own);
        g_hash_table_unref(world->places[i].got);
    }
    g_sequence_free(world->network);
    g_hash_table_unref(world->origins);
    g_rand_free(world->chance);
    server_key_free(world->key);
    g_free(world->failure);
    g_free(world);
}

static void
part(World *world)
{
    guint groups = 1 + pick(world, 3);
    for (guint i = 0; i < SERVERS; i++)
        world->group[i] = pick(world, groups);
    world->figures->partitions++;
    tell(world, "partition: %u %u %u %u %u", world->group[0], world->group[1], world->group[2],
         world->group[3], world->group[4]);
}

/* Everybody of the leaver's server goes, so that nobody tells it anything any more; or one of them
 * comes back, by way of another server that they can reach, as make_join and send_join do it. */
static void
leave_or_return(World *world)
{
    Place *place = &world->places[LEAVER];
    Place *other = &world->places[pick(world, LEAVER)];

    if (is_in_room(place, LEAVER)) {
        for (guint i = 0; i < USERS_OF_SERVER; i++) {
            const char *user_id = user_ids[LEAVER * USERS_OF_SERVER + i];
            if (strcmp(membership(place->server, user_id), "leave") != 0 &&
                strcmp(membership(place->server, user_id), "ban") != 0)
                set_member(world, place, user_id, user_id, "leave");
        }
        world->figures->departures += !is_in_room(place, LEAVER);
    } else if (world->group[other->index] == world->group[LEAVER]) {
        const char *user_id = user_ids[LEAVER * USERS_OF_SERVER + pick(world, USERS_OF_SERVER)];
        tell(world, "%s comes back by way of %s", user_id, other->server->name);
        set_member(world, other, user_id, user_id, "join");
        world->figures->returns += strcmp(membership(other->server, user_id), "join") == 0;
    }
}

static void
live(World *world)
{
    guint steps = 30 + pick(world, 40);
    for (guint i = 0; i < steps && world->failure == NULL; i++) {
        Place *place = &world->places[pick(world, SERVERS)];
        guint dice = pick(world, 100);

        if (dice < 72)
            user_acts(world, place);
        else if (dice < 80)
            forge(world, place);
        else if (dice < 88)
            part(world);
        else if (dice < 93) {
            tell(world, "%s restarts", place->server->name);
            sim_server_restart(place->server);
            world->figures->restarts++;
        } else if (dice < 96)
            place->server->dies_in_commit = TRUE;
        else
            leave_or_return(world);
        pass_time(world, world->now_ms + pick(world, happens(world, 20) ? 1000 : 50));
    }
}

/* Send again what is not acknowledged, and ask for what is missing; FALSE if there is no such. */
static gboolean
catch_up(World *world)
{
    gboolean any = FALSE;
    for (guint i = 0; i < SERVERS; i++) {
        Place *place = &world->places[i];
        for (guint j = 0; j < place->own->len; j++) {
            const char *event_id = g_ptr_array_index(place->own, j);
            guint mask = GPOINTER_TO_UINT(g_hash_table_lookup(place->got, event_id)) | 1U << i;
            for (guint to = 0; to < SERVERS; to++)
                if ((mask & 1U << to) == 0) {
                    any = TRUE;
                    post(world, i, to, MESSAGE_EVENT, event_id,
                         sim_server_find(place->server, event_id)->bytes);
                }
        }
        any |= place->server->waiting->len > 0;
        ask_for_missing(place);
    }
    pass_time(world, G_MAXINT64);
    return any;
}

static void
heal(World *world)
{
    world->whole = TRUE;
    memset(world->group, 0, sizeof world->group);
    for (guint i = 0; i < SERVERS; i++)
        world->places[i].server->dies_in_commit = FALSE;
    tell(world, "all is whole");
    for (guint i = 0; catch_up(world); i++)
        if (world->failure != NULL || i == HEAL_ROUNDS_MAX) {
            fail(world, "the servers do not catch up");
            return;
        }
}

static void
compare_events(World *world)
{
    const SimServer *first = world->places[0].server;
    for (guint i = 1; i < SERVERS && world->failure == NULL; i++) {
        const SimServer *other = world->places[i].server;
        if (first->order->len != other->order->len)
            fail(world, "%s has %u events, %s %u", first->name, first->order->len, other->name,
                 other->order->len);
        for (guint j = 0; j < first->order->len && world->failure == NULL; j++) {
            const SimStored *mine = g_ptr_array_index(first->order, j);
            const SimStored *its = sim_server_find(other, mine->event_id);
            if (its == NULL)
                fail(world, "%s lacks %s", other->name, mine->event_id);
            else if ((mine->status == SIM_REJECTED) != (its->status == SIM_REJECTED))
                fail(world, "%s and %s do not agree on the verdict of %s", first->name, other->name,
                     mine->event_id);
            else if (!state_node_id_equal(&mine->before, &its->before) ||
                     !state_node_id_equal(&mine->after, &its->after))
                fail(world, "%s and %s do not agree on the state at %s", first->name, other->name,
                     mine->event_id);
        }
    }
}

static gint
compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void
compare_ends(World *world, guint count)
{
    const SimServer *first = world->places[0].server;
    for (guint i = 0; i < SERVERS && world->failure == NULL; i++) {
        const SimServer *other = world->places[i].server;
        g_ptr_array_sort(other->extremities, compare_texts);
        if (other->extremities->len != count)
            fail(world, "%s has %u ends", other->name, other->extremities->len);
        for (guint j = 0; j < count && world->failure == NULL; j++)
            if (strcmp(first->extremities->pdata[j], other->extremities->pdata[j]) != 0)
                fail(world, "%s and %s have other ends", first->name, other->name);
        if (!state_node_id_equal(&first->current, &other->current))
            fail(world, "%s and %s have other states", first->name, other->name);
    }
}

/* The leaver's resident is in the room again, by its own server's eyes as well. */
static void
bring_back(World *world)
{
    const char *user_id = user_ids[LEAVER * USERS_OF_SERVER];
    Place *host = &world->places[0];
    world->now_ms += CLOCKS_APART_MS_MAX; /* what is said now is younger than all that was said */
    for (guint i = 0; i < BRING_BACK_ROUNDS && world->failure == NULL; i++) {
        if (strcmp(membership(world->places[LEAVER].server, user_id), "join") == 0 &&
            strcmp(membership(host->server, user_id), "join") == 0)
            return;
        if (strcmp(membership(host->server, user_id), "join") != 0)
            set_member(world, host, user_ids[0], user_id, "invite");
        set_member(world, host, user_id, user_id, "join");
        heal(world);
    }
    fail(world, "%s does not get back into the room", user_id);
}

static void
resident_speaks(World *world, guint server)
{
    g_autoptr(cJSON) content = test_json("{'body':'hello again'}");
    if (!send_as(world, &world->places[server], user_ids[server * USERS_OF_SERVER],
                 "m.room.message", NULL, content, NULL))
        fail(world, "an administrator may not speak");
}

/* What became of a member, by the state before. */
static void
count_member(World *world, Figures *figures, const SimStored *stored)
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
count_events(World *world, Figures *figures)
{
    for (guint i = 0; i < SERVERS; i++) {
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
play(const RoomVersion *version, guint32 seed, gboolean wordy, Figures *figures,
     StateNodeId *ret_state)
{
    World *world = world_new(version, seed, figures);
    world->wordy = wordy;
    live(world);
    heal(world);
    compare_events(world);
    /* Where a server soft-failed what another had accepted in time, their ends may differ until
     * somebody goes on from there: first those who were there all the time, each once, at the same
     * time; then the leaver comes back to that; then all of them. */
    for (guint i = 0; i < LEAVER && world->failure == NULL; i++)
        resident_speaks(world, i);
    heal(world);
    compare_events(world);
    bring_back(world);
    compare_events(world);
    for (guint i = 0; i < SERVERS && world->failure == NULL; i++)
        resident_speaks(world, i);
    heal(world);
    compare_events(world);
    compare_ends(world, SERVERS);
    if (world->failure == NULL)
        resident_speaks(world, pick(world, SERVERS));
    heal(world);
    compare_events(world);
    compare_ends(world, 1);
    count_events(world, figures);
    *ret_state = world->places[0].server->current;
    char *failure = g_steal_pointer(&world->failure);
    world_free(world);
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
    Figures figures = {0};
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
    Figures once = {0}, again = {0};
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
    for (guint i = 0; i < USERS; i++)
        g_snprintf(user_ids[i], sizeof user_ids[i], "@user%u:%s", i % USERS_OF_SERVER,
                   server_names[i / USERS_OF_SERVER]);
    g_test_add_func("/simulation/replay", test_a_seed_plays_the_same_again);
    for (guint i = count; i > 0; i--) {
        const RoomVersion *version = &versions[i - 1];
        g_autofree char *path = g_strdup_printf("/simulation/version-%s", version->id);
        if (only != NULL ? strcmp(only, version->id) == 0 : version->supported)
            g_test_add_data_func(path, version, test_servers_agree_in_the_end);
    }
    return g_test_run();
}
