#include "federation/room/conflicted_set.h"

#include <string.h>

/* The events that the states disagree on: node indices, one a conflict and state. */
typedef struct {
    guint *nodes; /* NO_NODE: that state has no entry */
    guint conflict_count, state_count;
} Tips;

/* Count one more chain for all that the events of state @state lead to, and for themselves. */
static void
mark_chain(AuthGraph *graph, const Tips *tips, guint state)
{
    g_autoptr(GPtrArray) open = g_ptr_array_new();
    guint stamp = ++graph->stamp;

    for (guint i = 0; i < tips->conflict_count; i++) {
        guint index = tips->nodes[i * tips->state_count + state];
        if (index == NO_NODE || node_at(graph, index)->stamp == stamp)
            continue;
        node_at(graph, index)->stamp = stamp;
        g_ptr_array_add(open, node_at(graph, index));
    }
    while (open->len > 0) {
        AuthNode *node = g_ptr_array_remove_index_fast(open, open->len - 1);
        node->chains++;
        for (guint i = 0; i < node->auth_count; i++) {
            AuthNode *auth = node_auth(graph, node, i);
            if (auth->stamp == stamp)
                continue;
            auth->stamp = stamp;
            g_ptr_array_add(open, auth);
        }
    }
}

/* Every node loaded so far hangs below a conflicted event; those that also lead to one are the
 * conflicted state subgraph. */
static void
mark_subgraph(AuthGraph *graph)
{
    Citations citations = auth_graph_citations(graph);
    g_autoptr(GArray) open = g_array_new(FALSE, FALSE, sizeof(guint));

    for (guint i = 0; i < graph->count; i++)
        if (node_at(graph, i)->conflicted) {
            node_at(graph, i)->in_subgraph = TRUE;
            g_array_append_val(open, i);
        }
    while (open->len > 0) {
        guint at = g_array_index(open, guint, open->len - 1);
        g_array_set_size(open, open->len - 1);
        for (guint i = citations.first[at]; i < citations.first[at + 1]; i++) {
            AuthNode *above = node_at(graph, citations.nodes[i]);
            if (above->in_subgraph)
                continue;
            above->in_subgraph = TRUE;
            g_array_append_val(open, above->index);
        }
    }
    citations_clear(&citations);
}

/* ---- what unconflicted events lead to ---- */

/* A search for candidates that unconflicted events lead to. */
typedef struct {
    AuthGraph *graph;
    guint candidates; /* that no unconflicted event has reached yet */
    gboolean members; /* this pass is for member events, of which there are many, or for the rest */
    GArray *frontier;
    gboolean failed;
    GError **error;
} Reach;

/* An unconflicted event, or one in its chain, was come by. TRUE if it is new. */
static gboolean
reach(Reach *search, AuthNode *node)
{
    if (node->reached)
        return FALSE;
    node->reached = TRUE;
    if (node->candidate)
        search->candidates--;
    return TRUE;
}

/* From the frontier along auth events until no candidate is left.  Events are let go once their
 * auth events are known: there may be very many. */
static gboolean
reach_from(Reach *search)
{
    g_autoptr(GArray) now = g_array_ref(search->frontier);

    while (now->len > 0 && search->candidates > 0) {
        GArray *next = g_array_new(FALSE, FALSE, sizeof(guint));
        if (!auth_graph_load(search->graph, now, search->error)) {
            g_array_unref(next);
            return FALSE;
        }
        for (guint i = 0; i < now->len; i++) {
            AuthNode *node = node_at(search->graph, g_array_index(now, guint, i));
            for (guint j = 0; j < node->auth_count; j++) {
                AuthNode *auth = node_auth(search->graph, node, j);
                if (reach(search, auth))
                    g_array_append_val(next, auth->index);
            }
            if (node->chains == 0)
                g_clear_pointer(&node->pdu, pdu_unref);
        }
        g_array_unref(now);
        now = next;
    }
    return TRUE;
}

static gboolean
reach_entry(const char *type, const char *state_key, const char *event_id, gpointer data)
{
    Reach *search = data;
    if ((strcmp(type, "m.room.member") == 0) != search->members)
        return TRUE;
    AuthNode *node = auth_graph_node(search->graph, event_id);
    if (reach(search, node))
        g_array_append_val(search->frontier, node->index);
    if (search->frontier->len < STATE_LOAD_MAX)
        return search->candidates > 0;
    search->failed = !reach_from(search);
    g_array_set_size(search->frontier, 0);
    return !search->failed && search->candidates > 0;
}

/* Take the candidates out that are in every state's chain because an unconflicted event leads
 * there. */
static gboolean
reach_candidates(AuthGraph *graph, guint candidates, const StateUnconflicted *unconflicted,
                 GError **error)
{
    Reach search = {.graph = graph, .candidates = candidates, .error = error};

    for (guint members = 0; members <= 1 && search.candidates > 0; members++) {
        g_autoptr(GArray) frontier = g_array_new(FALSE, FALSE, sizeof(guint));
        search.members = members == 1;
        search.frontier = frontier;
        if (!unconflicted->foreach (unconflicted->data, reach_entry, &search, error))
            return FALSE;
        if (search.failed || !reach_from(&search))
            return FALSE;
    }
    return TRUE;
}

/* ---- the set ---- */

gboolean
conflicted_set_mark(AuthGraph *graph, guint state_count, const GPtrArray *conflicts,
                    const StateUnconflicted *unconflicted, GError **error)
{
    g_autofree guint *nodes = g_new(guint, conflicts->len * state_count);
    Tips tips = {nodes, conflicts->len, state_count};
    GArray *frontier = g_array_new(FALSE, FALSE, sizeof(guint));

    for (guint i = 0; i < conflicts->len; i++) {
        const StateConflict *conflict = conflicts->pdata[i];
        for (guint j = 0; j < state_count; j++) {
            const char *event_id = conflict->event_ids[j];
            AuthNode *node = event_id != NULL ? auth_graph_node(graph, event_id) : NULL;
            nodes[i * state_count + j] = node != NULL ? node->index : NO_NODE;
            if (node == NULL || node->conflicted)
                continue;
            node->conflicted = TRUE;
            g_array_append_val(frontier, node->index);
        }
    }
    if (!auth_graph_load_chains(graph, frontier, error))
        return FALSE;
    for (guint state = 0; state < state_count; state++)
        mark_chain(graph, &tips, state);
    if (graph->create->version->state_resolution == STATE_RESOLUTION_V2_1)
        mark_subgraph(graph);

    guint known = graph->count, candidates = 0;
    for (guint i = 0; i < known; i++) {
        AuthNode *node = node_at(graph, i);
        node->candidate = node->pdu != NULL && !node->conflicted && !node->in_subgraph &&
                          node->chains > 0 && node->chains < state_count;
        candidates += node->candidate;
    }
    if (!reach_candidates(graph, candidates, unconflicted, error))
        return FALSE;
    for (guint i = 0; i < known; i++) {
        AuthNode *node = node_at(graph, i);
        node->full = node->pdu != NULL &&
                     (node->conflicted || node->in_subgraph || (node->candidate && !node->reached));
    }
    return TRUE;
}
