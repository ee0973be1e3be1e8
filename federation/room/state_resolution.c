#include "federation/room/state_resolution.h"

#include "federation/room/state_resolution_v1.h"
#include "federation/room/state_resolution_v2.h"

G_DEFINE_QUARK(chancery - state - resolution - error, state_resolution_error)

/* What an algorithm asks of a trie: the first state without the conflicted keys. */
typedef struct {
    StateTrie *trie;
    StateNodeId root;
    GHashTable *conflicts; /* a set of StateConflict *, whose first members are a StateKey */
    StateEntryFunc func;
    gpointer func_data;
} FirstState;

/* A conflict with room for its events; the strings are those of the differences. */
typedef struct {
    StateConflict conflict; /* first */
    const char *event_ids[];
} OwnConflict;

static gboolean
first_state_find(gpointer data, const char *type, const char *state_key, char **ret_event_id,
                 GError **error)
{
    const FirstState *first = data;
    StateKey key = {type, state_key};
    *ret_event_id = NULL;
    return g_hash_table_contains(first->conflicts, &key) ||
           state_trie_find(first->trie, &first->root, type, state_key, ret_event_id, error);
}

static gboolean
first_state_entry(const char *type, const char *state_key, const char *event_id, gpointer data)
{
    const FirstState *first = data;
    StateKey key = {type, state_key};
    return g_hash_table_contains(first->conflicts, &key) ||
           first->func(type, state_key, event_id, first->func_data);
}

static gboolean
first_state_foreach(gpointer data, StateEntryFunc func, gpointer func_data, GError **error)
{
    FirstState first = *(const FirstState *)data;
    first.func = func;
    first.func_data = func_data;
    return state_trie_foreach(first.trie, &first.root, first_state_entry, &first, error);
}

/* Note in @conflicts where state @state differs from the first one. */
static void
add_conflict(GHashTable *conflicts, const StateDifference *difference, guint state,
             guint state_count)
{
    StateKey key = {difference->type, difference->state_key};
    OwnConflict *own = g_hash_table_lookup(conflicts, &key);
    if (own == NULL) {
        own = g_malloc0(sizeof *own + state_count * sizeof own->event_ids[0]);
        for (guint i = 0; i < state_count; i++)
            own->event_ids[i] = difference->old_event_id;
        own->conflict.type = difference->type;
        own->conflict.state_key = difference->state_key;
        own->conflict.event_ids = own->event_ids;
        g_hash_table_add(conflicts, own);
    }
    own->event_ids[state] = difference->new_event_id;
}

/* The one of the states that agrees with what was resolved in the most keys. */
static guint
closest_state(const GPtrArray *conflicts, guint state_count, GHashTable *resolved)
{
    g_autofree guint *agreed = g_new0(guint, state_count);
    guint closest = 0;
    for (guint i = 0; i < conflicts->len; i++) {
        const StateConflict *conflict = conflicts->pdata[i];
        const char *stands = g_hash_table_lookup(resolved, conflict);
        for (guint j = 0; j < state_count; j++)
            agreed[j] += g_strcmp0(conflict->event_ids[j], stands) == 0;
    }
    for (guint j = 1; j < state_count; j++)
        if (agreed[j] > agreed[closest])
            closest = j;
    return closest;
}

/* The root of what was resolved: the closest state with what it has otherwise changed. */
static gboolean
apply_resolved(StateTrie *trie, const GArray *roots, const GPtrArray *conflicts,
               GHashTable *conflict_table, GHashTable *resolved, StateNodeId *ret_root,
               GError **error)
{
    g_autoptr(GArray) changes = g_array_new(FALSE, FALSE, sizeof(StateChange));
    guint closest = closest_state(conflicts, roots->len, resolved);
    GHashTableIter iter;
    gpointer key, value;

    for (guint i = 0; i < conflicts->len; i++) {
        const StateConflict *conflict = conflicts->pdata[i];
        StateChange change = {conflict->type, conflict->state_key,
                              g_hash_table_lookup(resolved, conflict)};
        if (g_strcmp0(conflict->event_ids[closest], change.event_id) != 0)
            g_array_append_val(changes, change);
    }
    g_hash_table_iter_init(&iter, resolved);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const StateKey *entry = key;
        StateChange stands = {entry->type, entry->state_key, value};
        if (!g_hash_table_contains(conflict_table, entry))
            g_array_append_val(changes, stands);
    }
    return state_trie_change(trie, &g_array_index(roots, StateNodeId, closest),
                             (const StateChange *)(gconstpointer)changes->data, changes->len,
                             ret_root, error);
}

static gboolean
contains_root(const GArray *roots, const StateNodeId *root)
{
    for (guint i = 0; i < roots->len; i++)
        if (state_node_id_equal(&g_array_index(roots, StateNodeId, i), root))
            return TRUE;
    return FALSE;
}

gboolean
state_resolve_roots(const Pdu *create, StateTrie *trie, const StateNodeId *roots, guint root_count,
                    const StateEventSource *source, StateNodeId *ret_root, GError **error)
{
    g_autoptr(GArray) distinct = g_array_new(FALSE, FALSE, sizeof(StateNodeId));
    g_autoptr(GHashTable) table =
        g_hash_table_new_full(state_key_hash, state_key_equal, g_free, NULL);
    g_autoptr(GPtrArray) conflicts = g_ptr_array_new();
    g_autoptr(GPtrArray) kept = g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
    g_autoptr(GHashTable) resolved = NULL;
    GHashTableIter iter;
    gpointer conflict;

    for (guint i = 0; i < root_count; i++)
        if (!contains_root(distinct, &roots[i]))
            g_array_append_val(distinct, roots[i]);
    if (distinct->len <= 1) {
        *ret_root = root_count > 0 ? roots[0] : state_node_empty;
        return TRUE;
    }

    FirstState first = {.trie = trie, .root = roots[0], .conflicts = table};
    StateUnconflicted unconflicted = {&first, first_state_find, first_state_foreach};
    for (guint i = 1; i < distinct->len; i++) {
        GPtrArray *differences = state_trie_difference(
            trie, &first.root, &g_array_index(distinct, StateNodeId, i), error);
        if (differences == NULL)
            return FALSE;
        g_ptr_array_add(kept, differences);
        for (guint j = 0; j < differences->len; j++)
            add_conflict(table, differences->pdata[j], i, distinct->len);
    }
    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, &conflict, NULL))
        g_ptr_array_add(conflicts, conflict);
    gboolean v1 = create->version->state_resolution == STATE_RESOLUTION_V1;
    return (v1 ? state_resolve_v1 : state_resolve_v2)(create, distinct->len, conflicts,
                                                      &unconflicted, source, &resolved, error) &&
           apply_resolved(trie, distinct, conflicts, table, resolved, ret_root, error);
}
