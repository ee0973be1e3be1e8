#include "federation/room/auth_graph.h"

#include <string.h>

#include "identity/seeded_hash.h"

#define IDS_BLOCK_BYTES 16384

void
auth_graph_init(AuthGraph *graph, const Pdu *create, const StateEventSource *source)
{
    *graph = (AuthGraph){.create = create, .source = source};
    graph->blocks = g_ptr_array_new_with_free_func(g_free);
    graph->ids = g_string_chunk_new(IDS_BLOCK_BYTES);
    graph->by_id = g_hash_table_new(seeded_str_hash, g_str_equal);
    graph->edges = g_array_new(FALSE, FALSE, sizeof(guint));
    for (guint i = 0; i < AUTH_GRAPH_ALIKE_MAX; i++)
        graph->alike[i] = NO_NODE;
}

void
auth_graph_clear(AuthGraph *graph)
{
    for (guint i = 0; i < graph->count; i++)
        pdu_unref(node_at(graph, i)->pdu);
    g_ptr_array_unref(graph->blocks);
    g_string_chunk_free(graph->ids);
    g_hash_table_unref(graph->by_id);
    g_array_unref(graph->edges);
}

AuthNode *
auth_graph_node(AuthGraph *graph, const char *event_id)
{
    AuthNode *node = g_hash_table_lookup(graph->by_id, event_id);
    if (node != NULL)
        return node;
    if (graph->count % AUTH_GRAPH_BLOCK_NODES == 0)
        g_ptr_array_add(graph->blocks, g_new0(AuthNode, AUTH_GRAPH_BLOCK_NODES));
    node = node_at(graph, graph->count);
    node->index = graph->count++;
    node->event_id = g_string_chunk_insert(graph->ids, event_id);
    g_hash_table_insert(graph->by_id, (gpointer)node->event_id, node);
    return node;
}

/* ---- loading ---- */

/* The events of a room mostly cite the same ones in the same places. */
static guint
cited_index(AuthGraph *graph, const char *event_id, guint place)
{
    guint *alike = place < AUTH_GRAPH_ALIKE_MAX ? &graph->alike[place] : NULL;
    if (alike != NULL && *alike != NO_NODE &&
        strcmp(node_at(graph, *alike)->event_id, event_id) == 0)
        return *alike;
    guint index = auth_graph_node(graph, event_id)->index;
    if (alike != NULL)
        *alike = index;
    return index;
}

/* Consumes @pdu, which may be NULL. */
static void
node_set_pdu(AuthGraph *graph, AuthNode *node, Pdu *pdu)
{
    g_autoptr(Pdu) event = pdu;
    gboolean first = !node->asked;

    node->asked = TRUE;
    if (event == NULL || !pdu_is_state(event) ||
        strcmp(event->room_id, graph->create->room_id) != 0)
        return;
    if (first) {
        node->auth_first = graph->edges->len;
        node->auth_count = event->auth_event_count;
        node->role = pdu_is(event, "m.room.power_levels", "") ? ROLE_POWER_LEVELS
                     : pdu_is(event, "m.room.create", "")     ? ROLE_CREATE
                                                              : ROLE_OTHER;
        for (guint i = 0; i < event->auth_event_count; i++) {
            guint auth = cited_index(graph, event->auth_events[i], i);
            g_array_append_val(graph->edges, auth);
        }
    }
    node->key = (StateKey){event->type, event->state_key};
    node->pdu = g_steal_pointer(&event);
}

static gboolean
load_batch(AuthGraph *graph, const guint *indices, guint count, GError **error)
{
    const char *event_ids[STATE_LOAD_MAX] = {NULL};
    Pdu *pdus[STATE_LOAD_MAX] = {NULL};

    if (count > graph->source->events_max - graph->loaded) {
        g_set_error(error, STATE_RESOLUTION_ERROR, STATE_RESOLUTION_ERROR_BUDGET,
                    "state resolution needs more than %u events", graph->source->events_max);
        return FALSE;
    }
    graph->loaded += count;
    for (guint i = 0; i < count; i++)
        event_ids[i] = node_at(graph, indices[i])->event_id;
    gboolean good = graph->source->load(graph->source->data, event_ids, count, pdus, error);
    for (guint i = 0; i < count; i++) {
        if (good)
            node_set_pdu(graph, node_at(graph, indices[i]), pdus[i]);
        else
            pdu_unref(pdus[i]);
    }
    return good;
}

gboolean
auth_graph_load(AuthGraph *graph, const GArray *indices, GError **error)
{
    g_autofree guint *batch = g_new(guint, STATE_LOAD_MAX);
    guint count = 0;
    for (guint i = 0; i < indices->len; i++) {
        guint index = g_array_index(indices, guint, i);
        AuthNode *node = node_at(graph, index);
        if (!node->asked) {
            batch[count++] = index;
        }
        if (count == STATE_LOAD_MAX || (i + 1 == indices->len && count > 0)) {
            if (!load_batch(graph, batch, count, error))
                return FALSE;
            count = 0;
        }
    }
    return TRUE;
}

gboolean
auth_graph_event(AuthGraph *graph, AuthNode *node, const Pdu **ret_pdu, GError **error)
{
    if (node->pdu == NULL && !load_batch(graph, &node->index, 1, error))
        return FALSE;
    *ret_pdu = node->pdu;
    return TRUE;
}

gboolean
auth_graph_load_chains(AuthGraph *graph, GArray *frontier, GError **error)
{
    g_autoptr(GArray) now = frontier;
    guint stamp = ++graph->stamp;

    while (now->len > 0) {
        GArray *next = g_array_new(FALSE, FALSE, sizeof(guint));
        if (!auth_graph_load(graph, now, error)) {
            g_array_unref(next);
            return FALSE;
        }
        for (guint i = 0; i < now->len; i++) {
            const AuthNode *node = node_at(graph, g_array_index(now, guint, i));
            for (guint j = 0; j < node->auth_count; j++) {
                AuthNode *auth = node_auth(graph, node, j);
                if (auth->stamp == stamp)
                    continue;
                auth->stamp = stamp;
                g_array_append_val(next, auth->index);
            }
        }
        g_array_unref(now);
        now = next;
    }
    return TRUE;
}

/* ---- who cites ---- */

Citations
auth_graph_citations(const AuthGraph *graph)
{
    Citations citations = {g_new0(guint, graph->count + 2), g_new(guint, graph->edges->len + 1)};
    const guint *edges = (const guint *)(gconstpointer)graph->edges->data;
    guint *place = citations.first + 1; /* one ahead, and moved while the places are filled */

    for (guint i = 0; i < graph->edges->len; i++)
        place[edges[i] + 1]++;
    for (guint i = 0; i < graph->count; i++)
        place[i + 1] += place[i];
    for (guint i = 0; i < graph->count; i++) {
        const AuthNode *node = node_at(graph, i);
        for (guint j = 0; j < node->auth_count; j++)
            citations.nodes[place[edges[node->auth_first + j]]++] = i;
    }
    return citations;
}

void
citations_clear(Citations *citations)
{
    g_free(citations->first);
    g_free(citations->nodes);
}
