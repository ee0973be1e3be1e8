#include "federation/room_event.h"

#include <string.h>

#include "identity/seeded_hash.h"
#include "storage/room_store.h"
#include "storage/state_store.h"

#define ROOM_INFOS_BYTES_MAX (4 * 1024 * 1024)
#define RESOLUTION_EVENTS_MAX 20000

/* ---- one event ---- */

RoomEvent *
room_event_new(const Pdu *pdu, StoredEventStatus status, gboolean local)
{
    RoomEvent *event = g_new0(RoomEvent, 1);

    event->references = 1;
    event->pdu = pdu_ref(pdu);
    event->status = status;
    event->local = local;
    return event;
}

RoomEvent *
room_event_copy(const RoomEvent *event)
{
    RoomEvent *copy = room_event_new(event->pdu, event->status, event->local);

    copy->has_state = event->has_state;
    copy->before = event->before;
    copy->after = event->after;
    copy->redaction_id = g_strdup(event->redaction_id);
    copy->device_id = g_strdup(event->device_id);
    copy->txn_id = g_strdup(event->txn_id);
    return copy;
}

RoomEvent *
room_event_ref(RoomEvent *event)
{
    g_atomic_int_inc(&event->references);
    return event;
}

void
room_event_unref(RoomEvent *event)
{
    if (event == NULL || !g_atomic_int_dec_and_test(&event->references))
        return;
    pdu_unref(event->pdu);
    g_free(event->redaction_id);
    g_free(event->device_id);
    g_free(event->txn_id);
    g_free(event);
}

gboolean
room_event_is_placed(const RoomEvent *event)
{
    return event->has_state && event->status != STORED_EVENT_OUTLIER;
}

/* ---- one room ---- */

RoomInfo *
room_info_new(const char *room_id, const RoomVersion *version, const guint8 *seed)
{
    RoomInfo *info = g_new0(RoomInfo, 1);

    info->references = 1;
    info->room_id = g_strdup(room_id);
    info->version = version;
    memcpy(info->seed, seed, STATE_SEED_BYTES);
    return info;
}

RoomInfo *
room_info_ref(RoomInfo *info)
{
    g_atomic_int_inc(&info->references);
    return info;
}

void
room_info_unref(RoomInfo *info)
{
    if (info == NULL || !g_atomic_int_dec_and_test(&info->references))
        return;
    g_free(info->room_id);
    pdu_unref(info->create);
    g_free(info);
}

void
room_info_set_create(RoomInfo *info, const Pdu *create)
{
    Pdu *held = pdu_ref(create);

    if (!g_atomic_pointer_compare_and_exchange(&info->create, NULL, held))
        pdu_unref(held); /* another thread was first */
}

/* ---- node ids ---- */

GBytes *
state_node_id_bytes(const StateNodeId *id)
{
    return g_bytes_new(id->bytes, STATE_NODE_ID_BYTES);
}

gboolean
state_node_id_from_bytes(GBytes *bytes, StateNodeId *ret_id)
{
    if (bytes == NULL || g_bytes_get_size(bytes) != STATE_NODE_ID_BYTES)
        return FALSE;
    memcpy(ret_id->bytes, g_bytes_get_data(bytes, NULL), STATE_NODE_ID_BYTES);
    return TRUE;
}

char *
state_node_id_hex(const StateNodeId *id)
{
    static const char digits[] = "0123456789abcdef";
    char *hex = g_malloc(2 * STATE_NODE_ID_BYTES + 1);

    for (guint i = 0; i < STATE_NODE_ID_BYTES; i++) {
        hex[2 * i] = digits[id->bytes[i] >> 4];
        hex[2 * i + 1] = digits[id->bytes[i] & 15];
    }
    hex[2 * STATE_NODE_ID_BYTES] = '\0';
    return hex;
}

/* ---- the reader ---- */

struct RoomReader {
    StorePool *pool;
    Lru *events; /* "room event" -> RoomEvent */
    Lru *nodes;  /* "room node in hex" -> GBytes */
    Lru *infos;  /* room id -> RoomInfo */
};

RoomReader *
room_reader_new(StorePool *pool, gsize event_bytes_max, gsize node_bytes_max)
{
    RoomReader *reader = g_new0(RoomReader, 1);

    reader->pool = pool;
    reader->events =
        lru_new(event_bytes_max, (LruRef)room_event_ref, (GDestroyNotify)room_event_unref);
    reader->nodes = lru_new(node_bytes_max, (LruRef)g_bytes_ref, (GDestroyNotify)g_bytes_unref);
    reader->infos =
        lru_new(ROOM_INFOS_BYTES_MAX, (LruRef)room_info_ref, (GDestroyNotify)room_info_unref);
    return reader;
}

void
room_reader_free(RoomReader *reader)
{
    if (reader == NULL)
        return;
    lru_free(reader->events);
    lru_free(reader->nodes);
    lru_free(reader->infos);
    g_free(reader);
}

static char *
cache_key(const char *room_id, const char *id)
{
    return g_strconcat(room_id, " ", id, NULL);
}

static void
room_reader_remember_info(RoomReader *reader, RoomInfo *info)
{
    lru_add(reader->infos, info->room_id, info, sizeof(RoomInfo) + strlen(info->room_id));
}

void
room_reader_remember_event(RoomReader *reader, RoomEvent *event)
{
    g_autofree char *key = cache_key(event->pdu->room_id, event->pdu->event_id);

    lru_set(reader->events, key, event, sizeof(RoomEvent) + pdu_memory_size(event->pdu));
}

void
room_reader_remember_node(RoomReader *reader, const char *room_id, const char *id_hex, GBytes *body)
{
    g_autofree char *key = cache_key(room_id, id_hex);

    lru_add(reader->nodes, key, body, g_bytes_get_size(body) + 64);
}

/* The connection handed in, or one from the pool that the caller gives back by *ret_owned. */
static StoreConnection *
connection_for(RoomReader *reader, StoreConnection *connection, StoreConnection **ret_owned,
               GError **error)
{
    if (connection != NULL)
        return connection;
    *ret_owned = store_borrow(reader->pool, error);
    return *ret_owned;
}

gboolean
room_reader_info(RoomReader *reader, StoreConnection *connection, const char *room_id,
                 RoomInfo **ret_info, GError **error)
{
    g_autoptr(StoreConnection) owned = NULL;
    g_autoptr(StoredRoom) room = NULL;
    const RoomVersion *version;

    *ret_info = lru_find(reader->infos, room_id);
    if (*ret_info != NULL)
        return TRUE;
    connection = connection_for(reader, connection, &owned, error);
    if (connection == NULL || !room_store_find(connection, room_id, &room, error))
        return FALSE;
    if (room == NULL)
        return TRUE;
    version = room_version_find(room->version);
    if (version == NULL || g_bytes_get_size(room->seed) != STATE_SEED_BYTES) {
        g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED, "room %s has a damaged row", room_id);
        return FALSE;
    }
    *ret_info = room_info_new(room_id, version, g_bytes_get_data(room->seed, NULL));
    room_reader_remember_info(reader, *ret_info);
    return TRUE;
}

/* ---- a view ---- */

static gboolean
load_nodes(gpointer data, const StateNodeId *ids, guint count, GBytes **ret_bodies, GError **error)
{
    RoomView *view = data;
    g_autoptr(StoreConnection) owned = NULL;
    g_autoptr(GPtrArray) asked = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autoptr(GArray) places = g_array_new(FALSE, FALSE, sizeof(guint));
    g_autoptr(GPtrArray) found = NULL;
    StoreConnection *connection;

    for (guint i = 0; i < count; i++) {
        g_autofree char *hex = state_node_id_hex(&ids[i]);
        GBytes *body =
            view->pending_nodes != NULL ? g_hash_table_lookup(view->pending_nodes, hex) : NULL;

        if (body != NULL) {
            ret_bodies[i] = g_bytes_ref(body);
            continue;
        }
        g_autofree char *key = cache_key(view->info->room_id, hex);
        ret_bodies[i] = lru_find(view->reader->nodes, key);
        if (ret_bodies[i] == NULL) {
            g_ptr_array_add(asked, state_node_id_bytes(&ids[i]));
            g_array_append_val(places, i);
        }
    }
    if (asked->len == 0)
        return TRUE;
    connection = connection_for(view->reader, view->connection, &owned, error);
    if (connection != NULL)
        found = state_store_find_nodes(connection, view->info->room_id, (GBytes **)asked->pdata,
                                       asked->len, error);
    if (found == NULL)
        goto failed;
    for (guint i = 0; i < places->len; i++) {
        guint place = g_array_index(places, guint, i);
        const GPtrArray *forms = g_ptr_array_index(found, i);
        g_autoptr(GBytes) body =
            forms != NULL ? state_node_unfold((GBytes **)forms->pdata, forms->len) : NULL;

        if (body == NULL || !state_node_check(view->info->seed, &ids[place], body)) {
            g_set_error(error, STATE_TRIE_ERROR, STATE_TRIE_ERROR_DAMAGED,
                        "a node of the state of %s is %s", view->info->room_id,
                        forms != NULL ? "damaged" : "missing");
            goto failed;
        }
        g_autofree char *hex = state_node_id_hex(&ids[place]);

        ret_bodies[place] = g_bytes_ref(body);
        room_reader_remember_node(view->reader, view->info->room_id, hex, body);
    }
    return TRUE;

failed:
    for (guint i = 0; i < count; i++)
        g_clear_pointer(&ret_bodies[i], g_bytes_unref);
    return FALSE;
}

GPtrArray *
room_view_store_nodes(RoomView *view, LaneBatch *batch)
{
    GPtrArray *nodes = state_trie_take_new_nodes(view->trie);
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autoptr(GPtrArray) base_ids = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autoptr(GPtrArray) forms = g_ptr_array_new();

    for (guint i = 0; i < nodes->len; i++) {
        const StateNode *node = g_ptr_array_index(nodes, i);
        gboolean stands = !state_node_id_equal(&node->base, &state_node_empty);

        g_ptr_array_add(ids, state_node_id_bytes(&node->id));
        g_ptr_array_add(base_ids, stands ? state_node_id_bytes(&node->base) : NULL);
        g_ptr_array_add(forms, node->form);
    }
    state_store_insert_nodes(batch, view->info->room_id, (GBytes **)ids->pdata,
                             (GBytes **)base_ids->pdata, (GBytes **)forms->pdata, nodes->len);
    return nodes;
}

RoomView *
room_view_new(RoomReader *reader, StoreConnection *connection, RoomInfo *info)
{
    RoomView *view = g_new0(RoomView, 1);

    view->reader = reader;
    view->connection = connection;
    view->info = room_info_ref(info);
    view->trie = state_trie_new(info->seed, load_nodes, view);
    return view;
}

void
room_view_free(RoomView *view)
{
    if (view == NULL)
        return;
    state_trie_free(view->trie);
    if (view->rejected != NULL)
        g_hash_table_unref(view->rejected);
    room_info_unref(view->info);
    g_free(view);
}

static RoomEvent *
event_from_row(RoomView *view, const StoredEvent *row, const char *redaction_id, GError **error)
{
    g_autoptr(Pdu) pdu =
        pdu_from_trusted_bytes(view->info->version, row->event_id, row->json, error);
    RoomEvent *event;

    if (pdu == NULL)
        return NULL;
    event = room_event_new(pdu, row->status, row->local);
    event->has_state = state_node_id_from_bytes(row->state_before, &event->before) &&
                       state_node_id_from_bytes(row->state_after, &event->after);
    event->redaction_id = g_strdup(redaction_id);
    event->device_id = g_strdup(row->device_id);
    event->txn_id = g_strdup(row->txn_id);
    return event;
}

static void
note_rejected(RoomView *view, const RoomEvent *event)
{
    if (event->status != STORED_EVENT_REJECTED)
        return;
    if (view->rejected == NULL)
        view->rejected = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_add(view->rejected, g_strdup(event->pdu->event_id));
}

static RoomEvent *
find_in_memory(RoomView *view, const char *event_id)
{
    RoomEvent *event =
        view->pending_events != NULL ? g_hash_table_lookup(view->pending_events, event_id) : NULL;
    g_autofree char *key = NULL;

    if (event != NULL)
        return room_event_ref(event);
    key = cache_key(view->info->room_id, event_id);
    return lru_find(view->reader->events, key);
}

static gboolean
read_events(RoomView *view, const char *const *event_ids, const GArray *places,
            RoomEvent **ret_events, GError **error)
{
    g_autoptr(StoreConnection) owned = NULL;
    StoreConnection *connection = connection_for(view->reader, view->connection, &owned, error);
    g_autofree const char **asked = g_new0(const char *, places->len + 1);
    g_autoptr(GPtrArray) rows = NULL;
    g_autoptr(GHashTable) redactions = NULL;
    g_autoptr(GHashTable) by_id = g_hash_table_new(seeded_str_hash, g_str_equal);

    if (connection == NULL)
        return FALSE;
    for (guint i = 0; i < places->len; i++)
        asked[i] = event_ids[g_array_index(places, guint, i)];
    rows = event_store_find_many(connection, view->info->room_id, asked, places->len, error);
    if (rows == NULL)
        return FALSE;
    redactions =
        event_store_find_redactions(connection, view->info->room_id, asked, places->len, error);
    if (redactions == NULL)
        return FALSE;
    for (guint i = 0; i < rows->len; i++) {
        StoredEvent *row = g_ptr_array_index(rows, i);

        g_hash_table_insert(by_id, row->event_id, row);
    }
    for (guint i = 0; i < places->len; i++) {
        const StoredEvent *row = g_hash_table_lookup(by_id, asked[i]);
        guint place = g_array_index(places, guint, i);
        g_autofree char *key = NULL;

        if (row == NULL)
            continue;
        ret_events[place] =
            event_from_row(view, row, g_hash_table_lookup(redactions, asked[i]), error);
        if (ret_events[place] == NULL)
            return FALSE;
        /* A writer may have remembered a newer record meanwhile: that one stays. */
        key = cache_key(view->info->room_id, asked[i]);
        lru_add(view->reader->events, key, ret_events[place],
                sizeof(RoomEvent) + pdu_memory_size(ret_events[place]->pdu));
    }
    return TRUE;
}

gboolean
room_view_events(RoomView *view, const char *const *event_ids, guint count, RoomEvent **ret_events,
                 GError **error)
{
    g_autoptr(GArray) places = g_array_new(FALSE, FALSE, sizeof(guint));

    for (guint i = 0; i < count; i++) {
        ret_events[i] = find_in_memory(view, event_ids[i]);
        if (ret_events[i] == NULL)
            g_array_append_val(places, i);
    }
    if (places->len > 0 && !read_events(view, event_ids, places, ret_events, error)) {
        for (guint i = 0; i < count; i++)
            g_clear_pointer(&ret_events[i], room_event_unref);
        return FALSE;
    }
    for (guint i = 0; i < count; i++)
        if (ret_events[i] != NULL)
            note_rejected(view, ret_events[i]);
    return TRUE;
}

gboolean
room_view_event(RoomView *view, const char *event_id, RoomEvent **ret_event, GError **error)
{
    return room_view_events(view, &event_id, 1, ret_event, error);
}

/* Named by the room's id since version 12; before, it is an entry of the current state. */
static gboolean
create_event_id(RoomView *view, char **ret_event_id, GError **error)
{
    g_autoptr(StoreConnection) owned = NULL;
    g_autoptr(GPtrArray) rows = NULL;
    StoreConnection *connection;

    if (view->info->version->room_id_is_create_hash) {
        *ret_event_id = g_strconcat("$", view->info->room_id + 1, NULL);
        return TRUE;
    }
    connection = connection_for(view->reader, view->connection, &owned, error);
    if (connection != NULL)
        rows = state_store_rows(connection, view->info->room_id, "m.room.create", "", error);
    if (rows == NULL)
        return FALSE;
    *ret_event_id =
        rows->len > 0 ? g_strdup(((StateRow *)g_ptr_array_index(rows, 0))->event_id) : NULL;
    return TRUE;
}

gboolean
room_view_create(RoomView *view, Pdu **ret_create, GError **error)
{
    g_autoptr(RoomEvent) event = NULL;
    g_autofree char *event_id = NULL;
    Pdu *known = g_atomic_pointer_get(&view->info->create);

    if (known != NULL) {
        *ret_create = pdu_ref(known);
        return TRUE;
    }
    if (!create_event_id(view, &event_id, error) ||
        (event_id != NULL && !room_view_event(view, event_id, &event, error)))
        return FALSE;
    if (event == NULL) {
        g_set_error(error, STORE_ERROR, STORE_ERROR_FAILED, "the create event of %s is not stored",
                    view->info->room_id);
        return FALSE;
    }
    if (!view->info->version->room_id_is_create_hash)
        room_info_set_create(view->info, event->pdu);
    *ret_create = pdu_ref(event->pdu);
    return TRUE;
}

gboolean
room_view_state_event(RoomView *view, const StateNodeId *root, const char *type,
                      const char *state_key, RoomEvent **ret_event, GError **error)
{
    g_autofree char *event_id = NULL;

    if (!state_trie_find(view->trie, root, type, state_key, &event_id, error))
        return FALSE;
    if (event_id == NULL) {
        *ret_event = NULL;
        return TRUE;
    }
    return room_view_event(view, event_id, ret_event, error);
}

GPtrArray *
room_view_state_pdus(RoomView *view, const StateNodeId *root, const EventAuthKeys *keys,
                     GError **error)
{
    g_autoptr(GPtrArray) pdus = g_ptr_array_new_with_free_func((GDestroyNotify)pdu_unref);
    char *ids[EVENT_AUTH_KEYS_MAX] = {NULL};
    const char *present[EVENT_AUTH_KEYS_MAX];
    RoomEvent *events[EVENT_AUTH_KEYS_MAX] = {NULL};
    guint count = 0;
    gboolean ok = TRUE;

    if (keys->count > 0 &&
        !state_trie_find_many(view->trie, root, keys->keys, keys->count, ids, error))
        return NULL;
    for (guint i = 0; i < keys->count; i++)
        if (ids[i] != NULL)
            present[count++] = ids[i];
    if (count > 0)
        ok = room_view_events(view, present, count, events, error);
    for (guint i = 0; ok && i < count; i++)
        if (events[i] != NULL)
            g_ptr_array_add(pdus, pdu_ref(events[i]->pdu));
    for (guint i = 0; i < EVENT_AUTH_KEYS_MAX; i++) {
        room_event_unref(events[i]);
        g_free(ids[i]);
    }
    return ok ? g_steal_pointer(&pdus) : NULL;
}

static gboolean
source_load(gpointer data, const char *const *event_ids, guint count, Pdu **ret_pdus,
            GError **error)
{
    g_autofree RoomEvent **events = g_new0(RoomEvent *, count);

    if (!room_view_events(data, event_ids, count, events, error))
        return FALSE;
    for (guint i = 0; i < count; i++) {
        ret_pdus[i] = events[i] != NULL ? pdu_ref(events[i]->pdu) : NULL;
        room_event_unref(events[i]);
    }
    return TRUE;
}

static gboolean
source_is_rejected(gpointer data, const char *event_id)
{
    RoomView *view = data;

    return view->rejected != NULL && g_hash_table_contains(view->rejected, event_id);
}

static StateEventSource
room_view_source(RoomView *view)
{
    return (StateEventSource){
        .data = view,
        .load = source_load,
        .is_rejected = source_is_rejected,
        .events_max = RESOLUTION_EVENTS_MAX,
    };
}

gboolean
room_view_resolve(RoomView *view, const StateNodeId *roots, guint count, StateNodeId *ret_root,
                  GError **error)
{
    StateEventSource source = room_view_source(view);
    g_autoptr(Pdu) create = NULL;
    gboolean equal = TRUE;

    for (guint i = 1; i < count; i++)
        equal = equal && state_node_id_equal(&roots[0], &roots[i]);
    if (equal) {
        *ret_root = count > 0 ? roots[0] : state_node_empty;
        return TRUE;
    }
    return room_view_create(view, &create, error) &&
           state_resolve_roots(create, view->trie, roots, count, &source, ret_root, error);
}
