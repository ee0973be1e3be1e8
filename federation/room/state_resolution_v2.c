#include "federation/room/state_resolution_v2.h"

#include <string.h>

#include "federation/room/auth_graph.h"
#include "federation/room/conflicted_set.h"
#include "federation/room/event_auth.h"
#include "federation/room/resolution_order.h"

typedef struct {
    AuthGraph graph;
    const StateUnconflicted *unconflicted;
    GHashTable *resolved; /* the state so far: StateKey -> AuthNode, both borrowed from the graph */
} Resolution;

static gboolean
was_rejected(const Resolution *resolution, const char *event_id)
{
    const StateEventSource *source = resolution->graph.source;
    return source->is_rejected != NULL && source->is_rejected(source->data, event_id);
}

/* The event that stands under @key: in the state so far, else (version 2) in what is not in
 * conflict, else among the event's own auth events.  *ret_pdu NULL: none. */
static gboolean
find_auth_event(Resolution *resolution, const AuthNode *node, const StateKey *key,
                const Pdu **ret_pdu, GError **error)
{
    g_autofree char *unconflicted = NULL;
    AuthNode *found = g_hash_table_lookup(resolution->resolved, key);

    *ret_pdu = NULL;
    if (found == NULL &&
        resolution->graph.create->version->state_resolution == STATE_RESOLUTION_V2) {
        if (!resolution->unconflicted->find(resolution->unconflicted->data, key->type,
                                            key->state_key, &unconflicted, error))
            return FALSE;
        found = unconflicted != NULL ? auth_graph_node(&resolution->graph, unconflicted) : NULL;
    }
    if (found != NULL && !auth_graph_event(&resolution->graph, found, ret_pdu, error))
        return FALSE;
    if (*ret_pdu != NULL)
        return TRUE;
    for (guint i = 0; i < node->auth_count; i++) {
        const AuthNode *auth = node_auth(&resolution->graph, node, i);
        if (auth->pdu != NULL && pdu_is(auth->pdu, key->type, key->state_key) &&
            !was_rejected(resolution, auth->event_id))
            *ret_pdu = auth->pdu;
    }
    return TRUE;
}

static gboolean
apply_events(Resolution *resolution, const GPtrArray *sorted, GError **error)
{
    g_autoptr(GPtrArray) auth_events = g_ptr_array_new();
    for (guint i = 0; i < sorted->len; i++) {
        AuthNode *node = sorted->pdata[i];
        EventAuthKeys keys;

        if (was_rejected(resolution, node->event_id))
            continue;
        g_ptr_array_set_size(auth_events, 0);
        event_auth_keys_of_pdu(node->pdu, &keys);
        for (guint j = 0; j < keys.count; j++) {
            const Pdu *auth_event;
            if (!find_auth_event(resolution, node, &keys.keys[j], &auth_event, error))
                return FALSE;
            if (auth_event != NULL)
                g_ptr_array_add(auth_events, (gpointer)auth_event);
        }
        if (event_auth_check(node->pdu, resolution->graph.create, auth_events, NULL) == AUTH_ALLOW)
            g_hash_table_replace(resolution->resolved, &node->key, node);
    }
    return TRUE;
}

/* What is not in conflict stands above what was resolved. */
static gboolean
drop_unconflicted(Resolution *resolution, GError **error)
{
    GHashTableIter iter;
    gpointer key;
    g_hash_table_iter_init(&iter, resolution->resolved);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const StateKey *entry = key;
        g_autofree char *event_id = NULL;
        if (!resolution->unconflicted->find(resolution->unconflicted->data, entry->type,
                                            entry->state_key, &event_id, error))
            return FALSE;
        if (event_id != NULL)
            g_hash_table_iter_remove(&iter);
    }
    return TRUE;
}

static gboolean
resolve(Resolution *resolution, guint state_count, const GPtrArray *conflicts, GError **error)
{
    g_autofree char *unconflicted_levels = NULL;

    if (!conflicted_set_mark(&resolution->graph, state_count, conflicts, resolution->unconflicted,
                             error))
        return FALSE;
    g_autoptr(GPtrArray) power_events = resolution_order_power_events(&resolution->graph);
    if (!apply_events(resolution, power_events, error))
        return FALSE;

    static const StateKey power_levels = {"m.room.power_levels", ""};
    const AuthNode *resolved_levels = g_hash_table_lookup(resolution->resolved, &power_levels);
    const char *levels = resolved_levels != NULL ? resolved_levels->event_id : NULL;
    if (levels == NULL &&
        resolution->graph.create->version->state_resolution == STATE_RESOLUTION_V2) {
        if (!resolution->unconflicted->find(resolution->unconflicted->data, "m.room.power_levels",
                                            "", &unconflicted_levels, error))
            return FALSE;
        levels = unconflicted_levels;
    }
    if (!resolution_order_number_mainline(&resolution->graph, levels, error))
        return FALSE;
    g_autoptr(GPtrArray) leftovers = resolution_order_leftovers(&resolution->graph);
    return apply_events(resolution, leftovers, error) && drop_unconflicted(resolution, error);
}

static GHashTable *
resolved_map(const Resolution *resolution)
{
    GHashTable *map = state_map_new();
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, resolution->resolved);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const AuthNode *node = value;
        state_map_set(map, node->key.type, node->key.state_key, node->event_id);
    }
    return map;
}

gboolean
state_resolve_v2(const Pdu *create, guint state_count, const GPtrArray *conflicts,
                 const StateUnconflicted *unconflicted, const StateEventSource *source,
                 GHashTable **ret_resolved, GError **error)
{
    g_autoptr(GHashTable) resolved = g_hash_table_new(state_key_hash, state_key_equal);
    Resolution resolution = {.unconflicted = unconflicted, .resolved = resolved};

    auth_graph_init(&resolution.graph, create, source);
    gboolean good = resolve(&resolution, state_count, conflicts, error);
    if (good)
        *ret_resolved = resolved_map(&resolution);
    auth_graph_clear(&resolution.graph);
    return good;
}
