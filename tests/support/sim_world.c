#include "tests/support/sim_world.h"

#include <stdio.h>
#include <string.h>

#include "identity/seeded_hash.h"
#include "tests/support/room_events.h"

#define HEAL_ROUNDS_MAX 50

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

#define USERS_OF(server) "@user0:" server, "@user1:" server, "@user2:" server

const char *const sim_server_names[SIM_SERVERS] = {"one.example", "two.example", "three.example",
                                                   "four.example", "five.example"};
const char *const sim_user_ids[SIM_USERS] = {USERS_OF("one.example"), USERS_OF("two.example"),
                                             USERS_OF("three.example"), USERS_OF("four.example"),
                                             USERS_OF("five.example")};

guint
sim_pick(SimWorld *world, guint count)
{
    return (guint)g_rand_int_range(world->chance, 0, (gint32)count);
}

gboolean
sim_happens(SimWorld *world, guint percent)
{
    return sim_pick(world, 100) < percent;
}

void
sim_tell(SimWorld *world, const char *format, ...)
{
    va_list arguments;
    if (!world->wordy)
        return;
    va_start(arguments, format);
    g_autofree char *text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    printf("# %6" G_GINT64_FORMAT " %s\n", world->now_ms, text);
}

void
sim_fail(SimWorld *world, const char *format, ...)
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
post_once(SimWorld *world, guint from, guint to, MessageKind kind, const char *event_id,
          GBytes *bytes)
{
    Message *message = g_new0(Message, 1);
    message->due_ms = world->now_ms + 1 + sim_pick(world, sim_happens(world, 10) ? 2000 : 100);
    message->number = ++world->numbers;
    message->from = from;
    message->to = to;
    message->kind = kind;
    message->event_id = g_strdup(event_id);
    if (bytes != NULL)
        message->bytes = !world->whole && sim_happens(world, 3) ? spoil(bytes) : g_bytes_ref(bytes);
    g_sequence_insert_sorted(world->network, message, compare_messages, NULL);
    world->figures->messages++;
}

static void
post(SimWorld *world, guint from, guint to, MessageKind kind, const char *event_id, GBytes *bytes)
{
    if (world->group[from] != world->group[to] || (!world->whole && sim_happens(world, 5))) {
        world->figures->lost++;
        return;
    }
    post_once(world, from, to, kind, event_id, bytes);
    if (sim_happens(world, 5)) {
        world->figures->doubled++;
        post_once(world, from, to, kind, event_id, bytes);
    }
}

void
sim_world_send(SimWorld *world, guint from, guint to, const SimStored *stored)
{
    post(world, from, to, MESSAGE_EVENT, stored->event_id, stored->bytes);
}

static void
tell_sender(SimPlace *place, const char *event_id)
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
check_ends(SimPlace *place)
{
    const GPtrArray *ends = place->server->extremities;
    for (guint i = 0; i < ends->len; i++)
        for (guint j = 0; j < ends->len; j++) {
            g_autoptr(GHashTable) seen = g_hash_table_new(seeded_str_hash, g_str_equal);
            if (i != j && is_behind(place->server, sim_server_pdu(place->server, ends->pdata[i]),
                                    ends->pdata[j], seen))
                sim_fail(place->world, "%s takes %s for an end, and goes on from it to %s",
                         place->server->name, (const char *)ends->pdata[j],
                         (const char *)ends->pdata[i]);
        }
}

static void
on_stored(gpointer data, const SimStored *stored)
{
    SimPlace *place = data;
    static const char *const words[] = {"accepts", "soft-fails", "rejects"};
    const Pdu *pdu = sim_server_pdu(place->server, stored->event_id);
    g_autofree char *content = place->world->wordy ? cJSON_PrintUnformatted(pdu->content) : NULL;
    sim_tell(place->world, "%s %s %s: %s (%s) of %s: %s", place->server->name,
             words[stored->status], stored->event_id, pdu->type, pdu->state_key, pdu->sender,
             content);
    tell_sender(place, stored->event_id);
    if (place->server->extremities->len > 1)
        check_ends(place);
    place->world->figures->ends_most =
        MAX(place->world->figures->ends_most, place->server->extremities->len);
}

static void
ask_for_missing(SimPlace *place)
{
    g_autoptr(GPtrArray) missing = sim_server_missing(place->server);
    for (guint i = 0; i < missing->len; i++) {
        guint peer = (place->index + 1 + sim_pick(place->world, SIM_SERVERS - 1)) % SIM_SERVERS;
        post(place->world, place->index, peer, MESSAGE_WANT, missing->pdata[i], NULL);
    }
}

static void
take_event(SimPlace *place, const Message *message)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(message->bytes, &length);
    gboolean known = sim_server_find(place->server, message->event_id) != NULL;
    g_autoptr(GError) error = NULL;

    if (!sim_server_receive(place->server, bytes, length, &error)) {
        sim_fail(place->world, "%s refuses an event that is well formed: %s", place->server->name,
                 error->message);
        return;
    }
    if (known)
        tell_sender(place, message->event_id);
    ask_for_missing(place);
}

static void
deliver(SimWorld *world, Message *message)
{
    SimPlace *place = &world->places[message->to];
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

void
sim_pass_time(SimWorld *world, gint64 until_ms)
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

/* Send again what is not acknowledged, and ask for what is missing; FALSE if there is no such. */
static gboolean
catch_up(SimWorld *world)
{
    gboolean any = FALSE;
    for (guint i = 0; i < SIM_SERVERS; i++) {
        SimPlace *place = &world->places[i];
        for (guint j = 0; j < place->own->len; j++) {
            const char *event_id = g_ptr_array_index(place->own, j);
            guint mask = GPOINTER_TO_UINT(g_hash_table_lookup(place->got, event_id)) | 1U << i;
            for (guint to = 0; to < SIM_SERVERS; to++)
                if ((mask & 1U << to) == 0) {
                    any = TRUE;
                    post(world, i, to, MESSAGE_EVENT, event_id,
                         sim_server_find(place->server, event_id)->bytes);
                }
        }
        any |= place->server->waiting->len > 0;
        ask_for_missing(place);
    }
    sim_pass_time(world, G_MAXINT64);
    return any;
}

void
sim_world_heal(SimWorld *world)
{
    world->whole = TRUE;
    memset(world->group, 0, sizeof world->group);
    for (guint i = 0; i < SIM_SERVERS; i++)
        world->places[i].server->dies_in_commit = FALSE;
    sim_tell(world, "all is whole");
    for (guint i = 0; catch_up(world); i++)
        if (world->failure != NULL || i == HEAL_ROUNDS_MAX) {
            sim_fail(world, "the servers do not catch up");
            return;
        }
}

/* ---- the beginning and the end ---- */

/* The first events are with everybody at once. */
static void
found(SimWorld *world, const char *sender, const char *type, const char *state_key,
      const cJSON *content)
{
    g_autofree char *event_id = g_strdup_printf("$%u%s", ++world->own_ids, strchr(sender, ':'));
    const char *reason = NULL;
    g_autoptr(Pdu) pdu = sim_server_make(world->places[0].server, sender, type, state_key, content,
                                         NULL, event_id, world->now_ms++, &reason);
    g_assert_cmpstr(reason, ==, NULL);
    for (guint i = 0; i < SIM_SERVERS; i++) {
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
found_room(SimWorld *world)
{
    g_autoptr(cJSON) create = cJSON_CreateObject();
    g_autoptr(cJSON) levels = cJSON_CreateObject();
    g_autoptr(cJSON) join = test_json("{'membership':'join'}");
    g_autoptr(cJSON) rules = test_json("{'join_rule':'public'}");
    cJSON *users = cJSON_AddObjectToObject(levels, "users");

    cJSON_AddStringToObject(create, "room_version", world->version->id);
    if (!world->version->creator_is_sender)
        cJSON_AddStringToObject(create, "creator", sim_user_ids[0]);
    cJSON *creators = world->version->additional_creators
                          ? cJSON_AddArrayToObject(create, "additional_creators")
                          : NULL;
    for (guint i = 0; i < SIM_SERVERS; i++)
        if (creators == NULL)
            cJSON_AddNumberToObject(users, sim_user_ids[i * SIM_USERS_OF_SERVER], 100);
        else if (i > 0)
            cJSON_AddItemToArray(creators,
                                 cJSON_CreateString(sim_user_ids[i * SIM_USERS_OF_SERVER]));
    cJSON_AddNumberToObject(users, sim_user_ids[1], 50);
    found(world, sim_user_ids[0], "m.room.create", "", create);
    found(world, sim_user_ids[0], "m.room.member", sim_user_ids[0], join);
    found(world, sim_user_ids[0], "m.room.power_levels", "", levels);
    found(world, sim_user_ids[0], "m.room.join_rules", "", rules);
    for (guint i = 1; i < SIM_USERS; i++)
        if (i % SIM_USERS_OF_SERVER < 2)
            found(world, sim_user_ids[i], "m.room.member", sim_user_ids[i], join);
}

SimWorld *
sim_world_new(const RoomVersion *version, guint32 seed, SimFigures *figures)
{
    static const guint8 key_seed[PUBLIC_KEY_BYTES] = "a key for five servers in a room";
    SimWorld *world = g_new0(SimWorld, 1);
    world->version = version;
    world->key = server_key_new_for_tests("1", key_seed);
    /* Each version has rooms of its own. */
    const guint32 seeds[] = {seed, (guint32)g_ascii_strtoull(version->id, NULL, 10)};
    world->chance = g_rand_new_with_seed_array(seeds, G_N_ELEMENTS(seeds));
    world->now_ms = 1000;
    world->network = g_sequence_new(message_free);
    world->origins = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    world->figures = figures;
    for (guint i = 0; i < SIM_SERVERS; i++) {
        SimPlace *place = &world->places[i];
        place->world = world;
        place->index = i;
        place->server = sim_server_new(sim_server_names[i], version, world->key);
        place->skew_ms = sim_pick(world, SIM_CLOCKS_APART_MS_MAX);
        place->own = g_ptr_array_new_with_free_func(g_free);
        place->got = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    }
    found_room(world);
    world->founding = world->places[0].server->order->len;
    for (guint i = 0; i < SIM_SERVERS; i++) {
        world->places[i].server->on_stored = on_stored;
        world->places[i].server->data = &world->places[i];
    }
    return world;
}

void
sim_world_free(SimWorld *world)
{
    for (guint i = 0; i < SIM_SERVERS; i++) {
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
