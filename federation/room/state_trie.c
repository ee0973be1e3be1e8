#include "federation/room/state_trie.h"

#include <sodium.h>
#include <string.h>

#include "federation/room/identifier.h"
#include "federation/room/state_node.h"

G_DEFINE_QUARK(chancery - state - trie - error, state_trie_error)

const StateNodeId state_node_empty;

/* A state of at most so many entries is one node; below the root, nodes split sooner, so that a
 * change rewrites little. */
#define ROOT_LEAF_MAX 32
#define LEAF_MAX 16
#define FAN_OUT STATE_FAN_OUT
#define LEVELS                                                                                     \
    (2 * STATE_HASH_BYTES) /* a hash has so many nibbles; the last leaf takes any number */

/* About one node in so many is stored whole; a node that stands on others is read with them. */
#define WHOLE_ONE_IN 16

struct StateTrie {
    guint8 seed[STATE_SEED_BYTES];
    StateNodesLoad load;
    gpointer data;
    GHashTable *pending; /* StateNode *: made and not taken yet, by id */
};

gboolean
state_node_id_equal(const StateNodeId *a, const StateNodeId *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static guint
node_id_hash(gconstpointer key)
{
    guint hash; /* a node id is a keyed hash already */
    memcpy(&hash, ((const StateNodeId *)key)->bytes, sizeof hash);
    return hash;
}

static gboolean
node_id_equal(gconstpointer a, gconstpointer b)
{
    return state_node_id_equal(a, b);
}

static void
node_free(gpointer data)
{
    StateNode *node = data;
    g_bytes_unref(node->body);
    g_bytes_unref(node->form);
    g_free(node);
}

StateTrie *
state_trie_new(const guint8 seed[STATE_SEED_BYTES], StateNodesLoad load, gpointer data)
{
    StateTrie *trie = g_new0(StateTrie, 1);
    memcpy(trie->seed, seed, STATE_SEED_BYTES);
    trie->load = load;
    trie->data = data;
    trie->pending = g_hash_table_new_full(node_id_hash, node_id_equal, NULL, node_free);
    return trie;
}

void
state_trie_free(StateTrie *trie)
{
    if (trie == NULL)
        return;
    g_hash_table_unref(trie->pending);
    sodium_memzero(trie->seed, sizeof trie->seed);
    g_free(trie);
}

static int
compare_nodes(gconstpointer a, gconstpointer b)
{
    const StateNode *const *left = a, *const *right = b;
    return memcmp((*left)->id.bytes, (*right)->id.bytes, STATE_NODE_ID_BYTES);
}

GPtrArray *
state_trie_take_new_nodes(StateTrie *trie)
{
    GPtrArray *nodes = g_ptr_array_new_with_free_func(node_free);
    GHashTableIter iter;
    gpointer node;
    g_hash_table_iter_init(&iter, trie->pending);
    while (g_hash_table_iter_next(&iter, NULL, &node)) {
        g_hash_table_iter_steal(&iter);
        g_ptr_array_add(nodes, node);
    }
    g_ptr_array_sort(nodes, compare_nodes); /* one order for all who write: no deadlock */
    return nodes;
}

/* ---- hashes and nodes ---- */

static void
hash_key(const StateTrie *trie, StateEntry *entry)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, trie->seed, STATE_SEED_BYTES, STATE_HASH_BYTES);
    crypto_generichash_update(&state, (const guint8 *)entry->type, strlen(entry->type) + 1);
    crypto_generichash_update(&state, (const guint8 *)entry->state_key, strlen(entry->state_key));
    crypto_generichash_final(&state, entry->hash, STATE_HASH_BYTES);
}

static guint
nibble(const guint8 *hash, guint level)
{
    if (level >= LEVELS)
        return 0; /* no node that we made is so deep */
    return level % 2 == 0 ? hash[level / 2] >> 4 : hash[level / 2] & 15;
}

static StateNodeId
body_id(const guint8 seed[STATE_SEED_BYTES], GBytes *body)
{
    gsize length = 0;
    const guint8 *bytes = g_bytes_get_data(body, &length);
    StateNodeId id;
    crypto_generichash(id.bytes, STATE_NODE_ID_BYTES, bytes, length, seed, STATE_SEED_BYTES);
    return id;
}

gboolean
state_node_check(const guint8 seed[STATE_SEED_BYTES], const StateNodeId *id, GBytes *body)
{
    StateNodeId expected = body_id(seed, body);
    return state_node_id_equal(&expected, id);
}

/* Keep the new node with @body, and if that is cheaper store it as @change (or NULL) from @base. */
static StateNodeId
store_body(StateTrie *trie, GBytes *body, const StateNodeId *base, GBytes *change)
{
    StateNodeId id = body_id(trie->seed, body);
    /* Nothing has changed, or it came to be another way: what is there first stays. */
    if ((change != NULL && state_node_id_equal(&id, base)) ||
        g_hash_table_contains(trie->pending, &id))
        return id;
    StateNode *node = g_new0(StateNode, 1);
    node->id = id;
    gboolean is_whole =
        change == NULL || id.bytes[STATE_NODE_ID_BYTES - 1] % WHOLE_ONE_IN == 0 ||
        2 * (g_bytes_get_size(change) + STATE_NODE_ID_BYTES) > g_bytes_get_size(body);
    node->body = g_bytes_ref(body);
    node->base = is_whole ? state_node_empty : *base;
    node->form = g_bytes_ref(is_whole ? body : change);
    g_hash_table_insert(trie->pending, &node->id, node);
    return id;
}

static gboolean
fail_damaged(GError **error, const StateNodeId *id, const char *what)
{
    char hex[2 * STATE_NODE_ID_BYTES + 1];
    sodium_bin2hex(hex, sizeof hex, id->bytes, sizeof id->bytes);
    g_set_error(error, STATE_TRIE_ERROR, STATE_TRIE_ERROR_DAMAGED, "state node %s %s", hex, what);
    return FALSE;
}

/* The views of @count nodes, in order, into @ret_views (StateNodeView *, owned by the array). */
static gboolean
load_nodes(StateTrie *trie, const StateNodeId *ids, guint count, GPtrArray *ret_views,
           GError **error)
{
    guint batch_max = MIN(count, STATE_LOAD_MAX);
    g_autofree StateNodeId *missing = g_new(StateNodeId, batch_max);
    g_autofree guint *places = g_new(guint, batch_max);
    g_autofree GBytes **bodies = g_new(GBytes *, batch_max);
    g_autofree GBytes **loaded = g_new(GBytes *, batch_max);

    for (guint start = 0; start < count; start += STATE_LOAD_MAX) {
        guint end = MIN(count, start + STATE_LOAD_MAX), missing_count = 0;
        gboolean good = TRUE;

        memset(bodies, 0, batch_max * sizeof *bodies);
        memset(loaded, 0, batch_max * sizeof *loaded);
        for (guint i = start; i < end; i++) {
            const StateNode *node = g_hash_table_lookup(trie->pending, &ids[i]);
            if (node != NULL) {
                bodies[i - start] = g_bytes_ref(node->body);
            } else {
                places[missing_count] = i - start;
                missing[missing_count++] = ids[i];
            }
        }
        if (missing_count > 0)
            good = trie->load != NULL
                       ? trie->load(trie->data, missing, missing_count, loaded, error)
                       : fail_damaged(error, &missing[0], "is missing");
        for (guint i = 0; i < missing_count; i++) {
            bodies[places[i]] = loaded[i];
            if (good && loaded[i] == NULL)
                good = fail_damaged(error, &missing[i], "is missing");
        }
        for (guint i = start; i < end; i++) {
            StateNodeView *view = good ? state_node_view_new(bodies[i - start]) : NULL;
            if (view != NULL)
                g_ptr_array_add(ret_views, view);
            else if (good)
                good = fail_damaged(error, &ids[i], "has an unknown form");
            g_clear_pointer(&bodies[i - start], g_bytes_unref);
        }
        if (!good)
            return FALSE;
    }
    return TRUE;
}

static gboolean
is_empty(const StateNodeId *id)
{
    return state_node_id_equal(id, &state_node_empty);
}

static GPtrArray *
views_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)state_node_view_free);
}

static StateNodeView *
load_node(StateTrie *trie, const StateNodeId *id, GError **error)
{
    g_autoptr(GPtrArray) views = views_new();
    if (!load_nodes(trie, id, 1, views, error))
        return NULL;
    return g_ptr_array_steal_index(views, 0);
}

/* ---- looking up ---- */

typedef struct {
    StateEntry entry; /* what is looked for, with its hash */
    StateNodeId at;   /* the node to look in next */
} Search;

/* One step of one search. TRUE when it has to go on in a further node. */
static gboolean
search_step(Search *search, const StateNodeView *view, guint level, char **ret_event_id)
{
    if (!view->is_leaf) {
        search->at = view->children[nibble(search->entry.hash, level)];
        return !is_empty(&search->at);
    }
    for (guint i = 0; i < view->entries->len; i++) {
        const StateEntry *entry = view->entries->pdata[i];
        if (strcmp(entry->type, search->entry.type) == 0 &&
            strcmp(entry->state_key, search->entry.state_key) == 0)
            *ret_event_id = g_strdup(entry->event_id);
    }
    return FALSE;
}

/* One level of all open searches, with one load. *@open_count goes down to those that go on. */
static gboolean
search_level(StateTrie *trie, Search *searches, guint *open, guint *open_count, guint level,
             char **found, GError **error)
{
    g_autoptr(GPtrArray) views = views_new();
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(StateNodeId));
    g_autoptr(GHashTable) places = g_hash_table_new(node_id_hash, node_id_equal);
    g_autofree guint *place_of = g_new(guint, *open_count);
    guint still_open = 0;

    for (guint i = 0; i < *open_count; i++) {
        StateNodeId *at = &searches[open[i]].at;
        gpointer place;
        if (!g_hash_table_lookup_extended(places, at, NULL, &place)) {
            place = GUINT_TO_POINTER(ids->len);
            g_hash_table_insert(places, at, place);
            g_array_append_vals(ids, at, 1);
        }
        place_of[i] = GPOINTER_TO_UINT(place);
    }
    if (!load_nodes(trie, (const StateNodeId *)(gconstpointer)ids->data, ids->len, views, error))
        return FALSE;
    for (guint i = 0; i < *open_count; i++)
        if (search_step(&searches[open[i]], views->pdata[place_of[i]], level, &found[open[i]]))
            open[still_open++] = open[i];
    *open_count = still_open;
    return TRUE;
}

gboolean
state_trie_find_many(StateTrie *trie, const StateNodeId *root, const StateKey *keys, guint count,
                     char **ret_event_ids, GError **error)
{
    g_autofree Search *searches = g_new0(Search, count);
    g_autofree guint *open = g_new(guint, count);
    g_autofree char **found = g_new0(char *, count);
    guint open_count = 0;

    for (guint i = 0; i < count; i++) {
        searches[i].entry.type = keys[i].type;
        searches[i].entry.state_key = keys[i].state_key;
        searches[i].at = *root;
        hash_key(trie, &searches[i].entry);
        if (!is_empty(root))
            open[open_count++] = i;
    }
    for (guint level = 0; open_count > 0 && level <= LEVELS; level++) {
        if (search_level(trie, searches, open, &open_count, level, found, error))
            continue;
        for (guint i = 0; i < count; i++)
            g_free(found[i]);
        return FALSE;
    }
    for (guint i = 0; i < count; i++)
        ret_event_ids[i] = found[i];
    return TRUE;
}

gboolean
state_trie_find(StateTrie *trie, const StateNodeId *root, const char *type, const char *state_key,
                char **ret_event_id, GError **error)
{
    StateKey key = {type, state_key};
    return state_trie_find_many(trie, root, &key, 1, ret_event_id, error);
}

/* ---- writing ---- */

static guint
leaf_max(guint level)
{
    return level == 0 ? ROOT_LEAF_MAX : level < LEVELS ? LEAF_MAX : G_MAXUINT;
}

/* @entries (borrowed, hashed) in 16 parts by their nibble at @level. */
static void
part_by_nibble(const GPtrArray *entries, guint level, GPtrArray *parts[FAN_OUT])
{
    for (guint i = 0; i < FAN_OUT; i++)
        parts[i] = g_ptr_array_new();
    for (guint i = 0; i < entries->len; i++) {
        StateEntry *entry = entries->pdata[i];
        g_ptr_array_add(parts[nibble(entry->hash, level)], entry);
    }
}

/* The node for exactly these entries (borrowed, hashed) at @level.  At most LEVELS deep.
 * @older: the entries of the leaf @base that it takes the place of, or NULL. */
static StateNodeId
build_node(StateTrie *trie, GPtrArray *entries, guint level, const StateNodeId *base,
           const GPtrArray *older)
{
    g_autoptr(GBytes) body = NULL, change = NULL;
    if (entries->len == 0)
        return state_node_empty;
    if (entries->len <= leaf_max(level)) {
        g_ptr_array_sort(entries, state_entry_compare);
        body = state_node_leaf(entries);
        change = older != NULL ? state_node_leaf_change(older, entries) : NULL;
        return store_body(trie, body, base, change);
    }
    GPtrArray *parts[FAN_OUT];
    StateNodeId children[FAN_OUT];
    part_by_nibble(entries, level, parts);
    for (guint i = 0; i < FAN_OUT; i++) {
        children[i] = build_node(trie, parts[i], level + 1, NULL, NULL);
        g_ptr_array_unref(parts[i]);
    }
    body = state_node_inner(entries->len, children);
    return store_body(trie, body, NULL, NULL);
}

/* A change with its hash: event_id NULL takes the entry away. */
typedef StateEntry Change;

/* @entries with @changes done to them.  Both are borrowed, and so is the outcome. */
static GPtrArray *
apply_changes(const GPtrArray *entries, const GPtrArray *changes)
{
    GPtrArray *outcome = g_ptr_array_new();
    g_autoptr(GHashTable) by_key = g_hash_table_new(state_key_hash, state_key_equal);
    for (guint i = 0; i < changes->len; i++) /* the first members of an entry are a StateKey */
        g_hash_table_replace(by_key, changes->pdata[i], changes->pdata[i]);
    for (guint i = 0; i < entries->len; i++)
        if (!g_hash_table_contains(by_key, entries->pdata[i]))
            g_ptr_array_add(outcome, entries->pdata[i]);
    for (guint i = 0; i < changes->len; i++) {
        Change *change = changes->pdata[i];
        if (change->event_id != NULL)
            g_ptr_array_add(outcome, change);
    }
    return outcome;
}

static void
hash_entries(const StateTrie *trie, const GPtrArray *entries)
{
    for (guint i = 0; i < entries->len; i++)
        hash_key(trie, entries->pdata[i]);
}

/* All entries below the @children of a node that has become small, borrowed from @ret_views. */
static gboolean
gather_entries(StateTrie *trie, const StateNodeId children[FAN_OUT], GPtrArray *ret_views,
               GPtrArray *ret_entries, GError **error)
{
    g_autoptr(GArray) open = g_array_new(FALSE, FALSE, sizeof(StateNodeId));
    for (guint i = 0; i < FAN_OUT; i++)
        if (!is_empty(&children[i]))
            g_array_append_val(open, children[i]);
    while (open->len > 0) {
        StateNodeId id = g_array_index(open, StateNodeId, open->len - 1);
        g_array_set_size(open, open->len - 1);
        StateNodeView *view = load_node(trie, &id, error);
        if (view == NULL)
            return FALSE;
        g_ptr_array_add(ret_views, view);
        for (guint i = 0; i < FAN_OUT; i++)
            if (!view->is_leaf && !is_empty(&view->children[i]))
                g_array_append_val(open, view->children[i]);
        for (guint i = 0; i < view->entries->len; i++)
            g_ptr_array_add(ret_entries, view->entries->pdata[i]);
    }
    return TRUE;
}

/* A node and how many entries it stands for. */
typedef struct {
    StateNodeId id;
    guint64 count;
} Subtree;

static gboolean
change_subtree(StateTrie *trie, const StateNodeId *id, guint level, GPtrArray *changes,
               Subtree *ret_before, Subtree *ret_after, GError **error);

/* @view is that of node @id, and changed on the way. */
static gboolean
change_inner(StateTrie *trie, const StateNodeId *id, StateNodeView *view, guint level,
             GPtrArray *changes, Subtree *ret_after, GError **error)
{
    GPtrArray *parts[FAN_OUT];
    StateNodeId older[FAN_OUT];
    guint64 count = view->count;
    gboolean good = TRUE;

    memcpy(older, view->children, sizeof older);
    part_by_nibble(changes, level, parts);
    for (guint i = 0; i < FAN_OUT; i++) {
        Subtree before = {state_node_empty, 0}, after = before;
        if (good && parts[i]->len > 0) {
            good = change_subtree(trie, &view->children[i], level + 1, parts[i], &before, &after,
                                  error);
            view->children[i] = good ? after.id : view->children[i];
            count = count - before.count + after.count;
        }
        g_ptr_array_unref(parts[i]);
    }
    if (!good)
        return FALSE;
    ret_after->count = count;
    if (count > leaf_max(level)) {
        g_autoptr(GBytes) body = state_node_inner(count, view->children);
        g_autoptr(GBytes) change = state_node_inner_change(older, count, view->children);
        ret_after->id = store_body(trie, body, id, change);
        return TRUE;
    }
    g_autoptr(GPtrArray) entries = g_ptr_array_new(), views = views_new();
    if (!gather_entries(trie, view->children, views, entries, error))
        return FALSE;
    ret_after->id = build_node(trie, entries, level, NULL, NULL);
    return TRUE;
}

static gboolean
change_subtree(StateTrie *trie, const StateNodeId *id, guint level, GPtrArray *changes,
               Subtree *ret_before, Subtree *ret_after, GError **error)
{
    g_autoptr(StateNodeView) view = NULL;
    g_autoptr(GPtrArray) none = g_ptr_array_new();

    *ret_before = (Subtree){*id, 0};
    if (!is_empty(id)) {
        view = load_node(trie, id, error);
        if (view == NULL)
            return FALSE;
        ret_before->count = view->count;
        if (!view->is_leaf)
            return change_inner(trie, id, view, level, changes, ret_after, error);
        hash_entries(trie, view->entries);
    }
    g_autoptr(GPtrArray) entries = apply_changes(view != NULL ? view->entries : none, changes);
    ret_after->count = entries->len;
    ret_after->id = build_node(trie, entries, level, id, view != NULL ? view->entries : NULL);
    return TRUE;
}

gboolean
state_trie_change(StateTrie *trie, const StateNodeId *root, const StateChange *changes, guint count,
                  StateNodeId *ret_root, GError **error)
{
    g_autofree Change *hashed = g_new0(Change, count);
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    g_autoptr(GHashTable) by_key = g_hash_table_new(state_key_hash, state_key_equal);
    Subtree before, after;

    for (guint i = 0; i < count; i++) {
        hashed[i].type = changes[i].type;
        hashed[i].state_key = changes[i].state_key;
        hashed[i].event_id = changes[i].event_id;
        g_hash_table_replace(by_key, &hashed[i], &hashed[i]); /* the later one counts */
    }
    for (guint i = 0; i < count; i++)
        if (g_hash_table_lookup(by_key, &hashed[i]) == &hashed[i]) {
            hash_key(trie, &hashed[i]);
            g_ptr_array_add(list, &hashed[i]);
        }
    if (list->len == 0) {
        *ret_root = *root;
        return TRUE;
    }
    if (!change_subtree(trie, root, 0, list, &before, &after, error))
        return FALSE;
    *ret_root = after.id;
    return TRUE;
}

/* ---- walking ---- */

gboolean
state_trie_foreach(StateTrie *trie, const StateNodeId *root, StateEntryFunc func, gpointer data,
                   GError **error)
{
    g_autoptr(GArray) open = g_array_new(FALSE, FALSE, sizeof(StateNodeId));
    if (!is_empty(root))
        g_array_append_vals(open, root, 1);
    while (open->len > 0) {
        /* From the end: what waits stays within the depth times the fan-out of one load. */
        guint batch = MIN(open->len, STATE_LOAD_MAX);
        g_autoptr(GPtrArray) views = views_new();
        const StateNodeId *ids = (const StateNodeId *)(gconstpointer)open->data;
        if (!load_nodes(trie, ids + open->len - batch, batch, views, error))
            return FALSE;
        g_array_set_size(open, open->len - batch);
        for (guint i = 0; i < views->len; i++) {
            const StateNodeView *view = views->pdata[i];
            for (guint j = 0; j < view->entries->len; j++) {
                const StateEntry *entry = view->entries->pdata[j];
                if (!func(entry->type, entry->state_key, entry->event_id, data))
                    return TRUE;
            }
            for (guint j = 0; j < FAN_OUT; j++)
                if (!is_empty(&view->children[j]))
                    g_array_append_val(open, view->children[j]);
        }
    }
    return TRUE;
}

gboolean
state_trie_count(StateTrie *trie, const StateNodeId *root, guint64 *ret_count, GError **error)
{
    if (is_empty(root)) {
        *ret_count = 0;
        return TRUE;
    }
    g_autoptr(StateNodeView) view = load_node(trie, root, error);
    if (view == NULL)
        return FALSE;
    *ret_count = view->count;
    return TRUE;
}

GArray *
state_node_children(GBytes *body, GError **error)
{
    g_autoptr(StateNodeView) view = state_node_view_new(body);
    if (view == NULL) {
        g_set_error_literal(error, STATE_TRIE_ERROR, STATE_TRIE_ERROR_DAMAGED,
                            "a state node has an unknown form");
        return NULL;
    }
    GArray *children = g_array_new(FALSE, FALSE, sizeof(StateNodeId));
    for (guint i = 0; i < FAN_OUT; i++)
        if (!is_empty(&view->children[i]))
            g_array_append_val(children, view->children[i]);
    return children;
}

/* ---- difference ---- */

/* One side of a place where two states may differ: a node still to be read, or, below a leaf that
 * the other side has split, the entries that belong there. */
typedef struct {
    StateNodeId id;     /* empty: see entries */
    GPtrArray *entries; /* StateEntry *, borrowed from a kept view; NULL: none */
} Side;

typedef struct {
    Side old_side;
    Side new_side;
} Pair;

typedef struct {
    StateTrie *trie;
    GPtrArray *views;   /* every node read, so that entries stay valid */
    GPtrArray *lists;   /* every list of entries made */
    GArray *pairs;      /* Pair: this level's */
    GArray *next_pairs; /* the next level's */
    GPtrArray *found;   /* StateDifference * */
} Comparison;

static char *
copy_text(char **room, const char *text)
{
    gsize size = strlen(text) + 1;
    char *copy = memcpy(*room, text, size);
    *room += size;
    return copy;
}

/* Either may be NULL.  All in one piece of memory. */
static void
add_difference(Comparison *comparison, const StateEntry *old_entry, const StateEntry *new_entry)
{
    const StateEntry *either = old_entry != NULL ? old_entry : new_entry;
    gsize size = strlen(either->type) + strlen(either->state_key) + 2 +
                 (old_entry != NULL ? strlen(old_entry->event_id) + 1 : 0) +
                 (new_entry != NULL ? strlen(new_entry->event_id) + 1 : 0);
    StateDifference *difference = g_malloc(sizeof *difference + size);
    char *room = (char *)(difference + 1);
    difference->type = copy_text(&room, either->type);
    difference->state_key = copy_text(&room, either->state_key);
    difference->old_event_id = old_entry != NULL ? copy_text(&room, old_entry->event_id) : NULL;
    difference->new_event_id = new_entry != NULL ? copy_text(&room, new_entry->event_id) : NULL;
    g_ptr_array_add(comparison->found, difference);
}

/* Two lists of entries, in order; NULL is an empty one. */
static void
compare_entries(Comparison *comparison, const GPtrArray *old_entries, const GPtrArray *new_entries)
{
    guint old_count = old_entries != NULL ? old_entries->len : 0, i = 0;
    guint new_count = new_entries != NULL ? new_entries->len : 0, j = 0;
    while (i < old_count || j < new_count) {
        int order = i == old_count ? 1
                    : j == new_count
                        ? -1
                        : state_entry_compare(&old_entries->pdata[i], &new_entries->pdata[j]);
        const StateEntry *old_entry = order <= 0 ? old_entries->pdata[i++] : NULL;
        const StateEntry *new_entry = order >= 0 ? new_entries->pdata[j++] : NULL;
        if (old_entry == NULL || new_entry == NULL ||
            strcmp(old_entry->event_id, new_entry->event_id) != 0)
            add_difference(comparison, old_entry, new_entry);
    }
}

/* What one side has below its 16 children. */
static void
split_side(Comparison *comparison, const StateNodeView *view, GPtrArray *entries, guint level,
           Side ret_sides[FAN_OUT])
{
    GPtrArray *parts[FAN_OUT];
    memset(ret_sides, 0, FAN_OUT * sizeof(Side));
    if (view != NULL && !view->is_leaf) {
        for (guint i = 0; i < FAN_OUT; i++)
            ret_sides[i].id = view->children[i];
        return;
    }
    if (entries == NULL)
        return;
    hash_entries(comparison->trie, entries);
    part_by_nibble(entries, level, parts);
    for (guint i = 0; i < FAN_OUT; i++) {
        ret_sides[i].entries = parts[i]->len > 0 ? parts[i] : NULL;
        g_ptr_array_add(comparison->lists, parts[i]);
    }
}

/* @old_view and @new_view: the nodes read for this pair, NULL where the side was no node. */
static void
compare_pair(Comparison *comparison, const Pair *pair, const StateNodeView *old_view,
             const StateNodeView *new_view, guint level)
{
    gboolean old_inner = old_view != NULL && !old_view->is_leaf;
    gboolean new_inner = new_view != NULL && !new_view->is_leaf;
    GPtrArray *old_entries = old_view != NULL ? old_view->entries : pair->old_side.entries;
    GPtrArray *new_entries = new_view != NULL ? new_view->entries : pair->new_side.entries;
    Side old_sides[FAN_OUT], new_sides[FAN_OUT];

    if (!old_inner && !new_inner) {
        compare_entries(comparison, old_entries, new_entries);
        return;
    }
    split_side(comparison, old_view, old_entries, level, old_sides);
    split_side(comparison, new_view, new_entries, level, new_sides);
    for (guint i = 0; i < FAN_OUT; i++) {
        Pair below = {old_sides[i], new_sides[i]};
        if (state_node_id_equal(&below.old_side.id, &below.new_side.id) &&
            below.old_side.entries == NULL && below.new_side.entries == NULL)
            continue;
        g_array_append_val(comparison->next_pairs, below);
    }
}

static gboolean
compare_level(Comparison *comparison, guint level, GError **error)
{
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(StateNodeId));
    guint first = comparison->views->len;

    for (guint i = 0; i < comparison->pairs->len; i++) {
        const Pair *pair = &g_array_index(comparison->pairs, Pair, i);
        if (!is_empty(&pair->old_side.id))
            g_array_append_val(ids, pair->old_side.id);
        if (!is_empty(&pair->new_side.id))
            g_array_append_val(ids, pair->new_side.id);
    }
    if (!load_nodes(comparison->trie, (const StateNodeId *)(gconstpointer)ids->data, ids->len,
                    comparison->views, error))
        return FALSE;
    for (guint i = 0; i < comparison->pairs->len; i++) {
        const Pair *pair = &g_array_index(comparison->pairs, Pair, i);
        const StateNodeView *old_view = NULL, *new_view = NULL;
        if (!is_empty(&pair->old_side.id))
            old_view = comparison->views->pdata[first++];
        if (!is_empty(&pair->new_side.id))
            new_view = comparison->views->pdata[first++];
        compare_pair(comparison, pair, old_view, new_view, level);
    }
    return TRUE;
}

static int
compare_differences(gconstpointer a, gconstpointer b)
{
    const StateDifference *const *left = a, *const *right = b;
    int order = strcmp((*left)->type, (*right)->type);
    return order != 0 ? order : strcmp((*left)->state_key, (*right)->state_key);
}

GPtrArray *
state_trie_difference(StateTrie *trie, const StateNodeId *old_root, const StateNodeId *new_root,
                      GError **error)
{
    g_autoptr(GPtrArray) views = views_new();
    g_autoptr(GPtrArray) lists = g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
    g_autoptr(GArray) pairs = g_array_new(FALSE, FALSE, sizeof(Pair));
    g_autoptr(GArray) next_pairs = g_array_new(FALSE, FALSE, sizeof(Pair));
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);
    Comparison comparison = {trie, views, lists, pairs, next_pairs, found};
    Pair top = {{.id = *old_root}, {.id = *new_root}};

    if (!state_node_id_equal(old_root, new_root))
        g_array_append_val(pairs, top);
    for (guint level = 0; comparison.pairs->len > 0; level++) {
        if (!compare_level(&comparison, level, error))
            return NULL;
        GArray *done = comparison.pairs;
        comparison.pairs = comparison.next_pairs;
        comparison.next_pairs = done;
        g_array_set_size(done, 0);
    }
    g_ptr_array_sort(found, compare_differences);
    return g_steal_pointer(&found);
}
