#include "federation/room_memory.h"

#include "identity/seeded_hash.h"
#include "storage/membership_store.h"

/* State entries kept beside the trie: what the auth rules ask for again and again. */
#define STATE_CACHE_MAX 4096

/* What one batch has added. */
typedef struct {
    const LaneBatch *batch; /* compared alone */
    GPtrArray *events;      /* RoomEvent */
    GPtrArray *nodes;       /* char *: keys of pending_nodes */
} Part;

static void
part_free(gpointer data)
{
    Part *part = data;

    g_ptr_array_unref(part->events);
    g_ptr_array_unref(part->nodes);
    g_free(part);
}

static void
clear_event(gpointer event)
{
    room_event_unref(event); /* accepts NULL */
}

static GHashTable *
new_pending_events(void)
{
    return g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, clear_event);
}

static GHashTable *
new_state_cache(void)
{
    return g_hash_table_new_full(state_key_hash, state_key_equal, g_free, clear_event);
}

RoomMemory *
room_memory_new(RoomReader *reader, RoomInfo *info)
{
    RoomMemory *memory = g_new0(RoomMemory, 1);

    memory->info = room_info_ref(info);
    memory->view = room_view_new(reader, NULL, info);
    memory->extremities = g_ptr_array_new_with_free_func(clear_event);
    memory->current = state_node_empty;
    memory->state_cache = new_state_cache();
    memory->pending_events = new_pending_events();
    memory->pending_nodes =
        g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);
    memory->servers = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    memory->parts = g_ptr_array_new_with_free_func(part_free);
    memory->added_events = g_ptr_array_new_with_free_func(g_free);
    memory->changed_events = g_ptr_array_new_with_free_func(clear_event);
    memory->added_nodes = g_ptr_array_new_with_free_func(g_free);
    memory->view->pending_events = memory->pending_events;
    memory->view->pending_nodes = memory->pending_nodes;
    return memory;
}

void
room_memory_free(RoomMemory *memory)
{
    if (memory == NULL)
        return;
    room_view_free(memory->view);
    pdu_unref(memory->create);
    g_ptr_array_unref(memory->extremities);
    g_strfreev(memory->ends);
    g_hash_table_unref(memory->state_cache);
    g_hash_table_unref(memory->servers);
    g_ptr_array_unref(memory->parts);
    g_ptr_array_unref(memory->added_events);
    g_ptr_array_unref(memory->changed_events);
    g_ptr_array_unref(memory->added_nodes);
    g_hash_table_unref(memory->pending_events);
    g_hash_table_unref(memory->pending_nodes);
    room_info_unref(memory->info);
    g_free(memory);
}

static gboolean
load_extremities(RoomMemory *memory, StoreConnection *connection, GError **error)
{
    g_autoptr(GPtrArray) ids = event_store_extremities(connection, memory->info->room_id, error);

    if (ids == NULL)
        return FALSE;
    for (guint i = 0; i < ids->len; i++) {
        RoomEvent *event = NULL;

        if (!room_view_event(memory->view, g_ptr_array_index(ids, i), &event, error))
            return FALSE;
        if (event == NULL || !event->has_state) {
            room_event_unref(event);
            g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED,
                        "an end of the graph of %s is not stored with its state",
                        memory->info->room_id);
            return FALSE;
        }
        g_ptr_array_add(memory->extremities, event);
    }
    return TRUE;
}

RoomMemory *
room_memory_load(RoomReader *reader, StoreConnection *connection, RoomInfo *info, GError **error)
{
    g_autoptr(RoomMemory) memory = room_memory_new(reader, info);
    g_autoptr(GBytes) root = NULL;
    g_autoptr(GPtrArray) servers = NULL;

    memory->view->connection = connection;
    if (!room_view_create(memory->view, &memory->create, error) ||
        !load_extremities(memory, connection, error) ||
        !log_state_root_at(connection, info->room_id, G_MAXINT64, &root, error))
        return NULL;
    if (root != NULL && !state_node_id_from_bytes(root, &memory->current)) {
        g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED, "the state root of %s is damaged",
                    info->room_id);
        return NULL;
    }
    servers = membership_store_server_counts(connection, info->room_id, error);
    if (servers == NULL)
        return NULL;
    for (guint i = 0; i < servers->len; i++) {
        const StoredServer *server = g_ptr_array_index(servers, i);

        room_memory_change_server(memory, server->name, (int)server->joined);
    }
    return g_steal_pointer(&memory);
}

gboolean
room_memory_state(RoomMemory *memory, const char *type, const char *state_key,
                  RoomEvent **ret_event, GError **error)
{
    const StateKey key = {type, state_key};
    gpointer cached = NULL;

    if (g_hash_table_lookup_extended(memory->state_cache, &key, NULL, &cached)) {
        *ret_event = cached != NULL ? room_event_ref(cached) : NULL;
        return TRUE;
    }
    if (!room_view_state_event(memory->view, &memory->current, type, state_key, ret_event, error))
        return FALSE;
    room_memory_note_state(memory, type, state_key, *ret_event);
    return TRUE;
}

void
room_memory_note_state(RoomMemory *memory, const char *type, const char *state_key,
                       RoomEvent *event)
{
    if (g_hash_table_size(memory->state_cache) >= STATE_CACHE_MAX)
        g_hash_table_remove_all(memory->state_cache);
    g_hash_table_replace(memory->state_cache, state_key_new(type, state_key),
                         event != NULL ? room_event_ref(event) : NULL);
}

GPtrArray *
room_memory_state_pdus(RoomMemory *memory, const EventAuthKeys *keys, GError **error)
{
    g_autoptr(GPtrArray) pdus = g_ptr_array_new_with_free_func((GDestroyNotify)pdu_unref);

    for (guint i = 0; i < keys->count; i++) {
        g_autoptr(RoomEvent) event = NULL;

        if (!room_memory_state(memory, keys->keys[i].type, keys->keys[i].state_key, &event, error))
            return NULL;
        if (event != NULL)
            g_ptr_array_add(pdus, pdu_ref(event->pdu));
    }
    return g_steal_pointer(&pdus);
}

gint64
room_memory_depth(const RoomMemory *memory)
{
    gint64 depth = 0;

    for (guint i = 0; i < memory->extremities->len; i++) {
        const RoomEvent *event = g_ptr_array_index(memory->extremities, i);

        depth = MAX(depth, event->pdu->depth);
    }
    return depth;
}

guint
room_memory_server_joined(const RoomMemory *memory, const char *server_name)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(memory->servers, server_name));
}

void
room_memory_change_server(RoomMemory *memory, const char *server_name, int change)
{
    int joined = (int)room_memory_server_joined(memory, server_name) + change;

    if (joined > 0)
        g_hash_table_replace(memory->servers, g_strdup(server_name), GUINT_TO_POINTER(joined));
    else
        g_hash_table_remove(memory->servers, server_name);
}

void
room_memory_begin(RoomMemory *memory, StoreConnection *connection)
{
    memory->view->connection = connection;
    if (memory->view->rejected != NULL)
        g_hash_table_remove_all(memory->view->rejected);
    g_ptr_array_set_size(memory->added_events, 0);
    g_ptr_array_set_size(memory->added_nodes, 0);
    g_ptr_array_set_size(memory->changed_events, 0);
}

void
room_memory_add_event(RoomMemory *memory, RoomEvent *event)
{
    if (!g_hash_table_contains(memory->pending_events, event->pdu->event_id))
        g_ptr_array_add(memory->added_events, g_strdup(event->pdu->event_id));
    g_hash_table_replace(memory->pending_events, (char *)event->pdu->event_id,
                         room_event_ref(event));
    g_ptr_array_add(memory->changed_events, room_event_ref(event));
}

void
room_memory_add_node(RoomMemory *memory, const StateNodeId *id, GBytes *body)
{
    char *hex = state_node_id_hex(id);

    if (!g_hash_table_contains(memory->pending_nodes, hex))
        g_ptr_array_add(memory->added_nodes, g_strdup(hex));
    g_hash_table_replace(memory->pending_nodes, hex, g_bytes_ref(body));
}

static void
note_ends(RoomMemory *memory)
{
    g_strfreev(memory->ends);
    memory->ends = g_new0(char *, memory->extremities->len + 1);
    for (guint i = 0; i < memory->extremities->len; i++) {
        const RoomEvent *end = g_ptr_array_index(memory->extremities, i);

        memory->ends[i] = g_strdup(end->pdu->event_id);
    }
}

gboolean
room_memory_changed(RoomMemory *memory, const LaneBatch *batch)
{
    Part *part = memory->parts->len > 0 ? memory->parts->pdata[memory->parts->len - 1] : NULL;
    gboolean first = FALSE;

    if (memory->changed_events->len == 0 && memory->added_nodes->len == 0)
        return FALSE;
    if (part == NULL || part->batch != batch) {
        part = g_new0(Part, 1);
        part->batch = batch;
        part->events = g_ptr_array_new_with_free_func(clear_event);
        part->nodes = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(memory->parts, part);
        first = TRUE;
    }
    g_ptr_array_extend_and_steal(part->events, g_steal_pointer(&memory->changed_events));
    g_ptr_array_extend_and_steal(part->nodes, g_steal_pointer(&memory->added_nodes));
    memory->changed_events = g_ptr_array_new_with_free_func(clear_event);
    memory->added_nodes = g_ptr_array_new_with_free_func(g_free);
    note_ends(memory);
    return first;
}

gboolean
room_memory_is_settled(const RoomMemory *memory)
{
    return memory->parts->len == 0;
}

void
room_memory_committed(RoomMemory *memory)
{
    const Part *part = g_ptr_array_index(memory->parts, 0);

    for (guint i = 0; i < part->events->len; i++) {
        RoomEvent *event = g_ptr_array_index(part->events, i);

        room_reader_remember_event(memory->view->reader, event);
        /* The next batch may have put another one in its place. */
        if (g_hash_table_lookup(memory->pending_events, event->pdu->event_id) == event)
            g_hash_table_remove(memory->pending_events, event->pdu->event_id);
    }
    for (guint i = 0; i < part->nodes->len; i++) {
        const char *hex = g_ptr_array_index(part->nodes, i);
        GBytes *body = g_hash_table_lookup(memory->pending_nodes, hex);

        if (body != NULL)
            room_reader_remember_node(memory->view->reader, memory->info->room_id, hex, body);
        g_hash_table_remove(memory->pending_nodes, hex);
    }
    g_ptr_array_remove_index(memory->parts, 0);
    if (room_memory_is_settled(memory)) {
        memory->view->connection = NULL;
        g_clear_pointer(&memory->ends, g_strfreev);
    }
}

/* ---- taking back ---- */

struct RoomMemorySaved {
    GPtrArray *extremities;
    StateNodeId current;
    GHashTable *servers;
};

RoomMemorySaved *
room_memory_save(const RoomMemory *memory)
{
    RoomMemorySaved *saved = g_new0(RoomMemorySaved, 1);
    GHashTableIter iter;
    gpointer key, value;

    saved->extremities = g_ptr_array_new_with_free_func(clear_event);
    for (guint i = 0; i < memory->extremities->len; i++)
        g_ptr_array_add(saved->extremities,
                        room_event_ref(g_ptr_array_index(memory->extremities, i)));
    saved->current = memory->current;
    saved->servers = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_iter_init(&iter, memory->servers);
    while (g_hash_table_iter_next(&iter, &key, &value))
        g_hash_table_insert(saved->servers, g_strdup(key), value);
    return saved;
}

static void
forget_added(RoomMemory *memory)
{
    for (guint i = 0; i < memory->added_events->len; i++)
        g_hash_table_remove(memory->pending_events, g_ptr_array_index(memory->added_events, i));
    for (guint i = 0; i < memory->added_nodes->len; i++)
        g_hash_table_remove(memory->pending_nodes, g_ptr_array_index(memory->added_nodes, i));
}

void
room_memory_damage(RoomMemory *memory)
{
    forget_added(memory);
    memory->damaged = TRUE;
}

void
room_memory_taken_back(RoomMemory *memory)
{
    g_ptr_array_remove_index(memory->parts, memory->parts->len - 1);
    memory->damaged = TRUE;
}

void
room_memory_restore(RoomMemory *memory, const RoomMemorySaved *saved)
{
    g_ptr_array_set_size(memory->extremities, 0);
    for (guint i = 0; i < saved->extremities->len; i++)
        g_ptr_array_add(memory->extremities,
                        room_event_ref(g_ptr_array_index(saved->extremities, i)));
    memory->current = saved->current;
    g_hash_table_remove_all(memory->state_cache);
    g_hash_table_unref(memory->servers);
    memory->servers = g_hash_table_ref(saved->servers);
    forget_added(memory);
    if (memory->changed_events->len != memory->added_events->len)
        memory->damaged = TRUE; /* what it put others in place of is not known any more */
}

void
room_memory_saved_free(RoomMemorySaved *saved)
{
    if (saved == NULL)
        return;
    g_ptr_array_unref(saved->extremities);
    g_hash_table_unref(saved->servers);
    g_free(saved);
}

/* ---- the rooms in memory ---- */

struct RoomMemories {
    GHashTable *rooms; /* room id (borrowed) -> RoomMemory */
    guint rooms_max;
};

RoomMemories *
room_memories_new(guint rooms_max)
{
    RoomMemories *memories = g_new0(RoomMemories, 1);

    memories->rooms =
        g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, (GDestroyNotify)room_memory_free);
    memories->rooms_max = rooms_max;
    return memories;
}

void
room_memories_free(RoomMemories *memories)
{
    if (memories == NULL)
        return;
    g_hash_table_unref(memories->rooms);
    g_free(memories);
}

RoomMemory *
room_memories_find(RoomMemories *memories, const char *room_id)
{
    return g_hash_table_lookup(memories->rooms, room_id);
}

void
room_memories_add(RoomMemories *memories, RoomMemory *memory)
{
    if (g_hash_table_size(memories->rooms) >= memories->rooms_max) {
        GHashTableIter iter;
        gpointer value;

        g_hash_table_iter_init(&iter, memories->rooms);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            const RoomMemory *candidate = value;

            if (room_memory_is_settled(candidate)) {
                g_hash_table_iter_remove(&iter);
                break;
            }
        }
    }
    g_assert(!g_hash_table_contains(memories->rooms, memory->info->room_id));
    memory->home = memories;
    g_hash_table_replace(memories->rooms, memory->info->room_id, memory);
}

void
room_memories_drop(RoomMemories *memories, const char *room_id)
{
    g_hash_table_remove(memories->rooms, room_id);
}
