#include "federation/room/resolution_order.h"

#include <string.h>

#define NO_MAINLINE G_MAXUINT /* a position after all others */

/* ---- power events ---- */

static gboolean
is_power_event(const Pdu *pdu)
{
    const char *membership = pdu_membership(pdu);
    if (pdu_is(pdu, "m.room.power_levels", "") || pdu_is(pdu, "m.room.join_rules", "") ||
        pdu_is(pdu, "m.room.create", ""))
        return TRUE;
    return membership != NULL &&
           (strcmp(membership, "leave") == 0 || strcmp(membership, "ban") == 0) &&
           strcmp(pdu->sender, pdu->state_key) != 0;
}

/* The create event, or the power levels, that an event cites, or NULL. */
static AuthNode *
cited(AuthGraph *graph, const AuthNode *node, NodeRole role)
{
    for (guint i = 0; i < node->auth_count; i++) {
        AuthNode *auth = node_auth(graph, node, i);
        if (auth->pdu != NULL && auth->role == role)
            return auth;
    }
    return NULL;
}

/* The power of an event's sender, by what the event cites: a create event cites nothing, so before
 * version 12, where there may be two of them, its sender has none. */
static Power
cited_power(AuthGraph *graph, const AuthNode *node)
{
    const AuthNode *create = NULL, *levels = cited(graph, node, ROLE_POWER_LEVELS);
    PowerLevels view = {graph->create, levels != NULL ? levels->pdu : NULL};
    if (!graph->create->version->room_id_is_create_hash) {
        create = cited(graph, node, ROLE_CREATE);
        if (create == NULL)
            return (Power){.level = 0};
        view.create = create->pdu;
    }
    return power_of_user(&view, node->pdu->sender);
}

static int
compare_by_power(gconstpointer a, gconstpointer b, gpointer unused)
{
    const AuthNode *left = a, *right = b;
    int order = power_compare(right->power, left->power);
    if (order != 0)
        return order;
    if (left->pdu->origin_server_ts != right->pdu->origin_server_ts)
        return left->pdu->origin_server_ts < right->pdu->origin_server_ts ? -1 : 1;
    return strcmp(left->event_id, right->event_id);
}

/* The power events of the full conflicted set and what they stand on within it. */
static GPtrArray *
pick_power_events(AuthGraph *graph)
{
    GPtrArray *picked = g_ptr_array_new();
    for (guint i = 0; i < graph->count; i++) {
        AuthNode *node = node_at(graph, i);
        if (node->full && is_power_event(node->pdu)) {
            node->sorted = TRUE;
            g_ptr_array_add(picked, node);
        }
    }
    for (guint i = 0; i < picked->len; i++) { /* grows as it goes */
        const AuthNode *node = picked->pdata[i];
        for (guint j = 0; j < node->auth_count; j++) {
            AuthNode *auth = node_auth(graph, node, j);
            if (auth->full && !auth->sorted) {
                auth->sorted = TRUE;
                g_ptr_array_add(picked, auth);
            }
        }
    }
    return picked;
}

/* Kahn's algorithm; of those that wait for nothing, the smallest first.  Nodes in a circle, which
 * hashes make impossible, would be left out. */
GPtrArray *
resolution_order_power_events(AuthGraph *graph)
{
    g_autoptr(GPtrArray) picked = pick_power_events(graph);
    g_autoptr(GSequence) ready = g_sequence_new(NULL);
    GPtrArray *sorted = g_ptr_array_new();
    Citations citations = auth_graph_citations(graph);

    for (guint i = 0; i < picked->len; i++) {
        AuthNode *node = picked->pdata[i];
        node->power = cited_power(graph, node);
        node->citing = 0;
        for (guint j = 0; j < node->auth_count; j++)
            node->citing += node_auth(graph, node, j)->sorted;
        if (node->citing == 0)
            g_sequence_insert_sorted(ready, node, compare_by_power, NULL);
    }
    while (!g_sequence_is_empty(ready)) {
        GSequenceIter *first = g_sequence_get_begin_iter(ready);
        AuthNode *node = g_sequence_get(first);
        g_sequence_remove(first);
        g_ptr_array_add(sorted, node);
        for (guint i = citations.first[node->index]; i < citations.first[node->index + 1]; i++) {
            AuthNode *waiting = node_at(graph, citations.nodes[i]);
            if (waiting->sorted && --waiting->citing == 0)
                g_sequence_insert_sorted(ready, waiting, compare_by_power, NULL);
        }
    }
    citations_clear(&citations);
    return sorted;
}

/* ---- the mainline ---- */

/* Number the mainline of the power levels in the state so far.  Each step may load an event: those
 * of version 2's unconflicted state are not in the graph yet. */
gboolean
resolution_order_number_mainline(AuthGraph *graph, const char *power_levels_id, GError **error)
{
    AuthNode *node = power_levels_id != NULL ? auth_graph_node(graph, power_levels_id) : NULL;
    for (guint position = 0; node != NULL && !node->has_mainline; position++) {
        const Pdu *unused;
        node->has_mainline = TRUE;
        node->mainline = position;
        if (!auth_graph_event(graph, node, &unused, error))
            return FALSE;
        for (guint i = 0; i < node->auth_count; i++)
            if (!auth_graph_event(graph, node_auth(graph, node, i), &unused, error))
                return FALSE;
        node = cited(graph, node, ROLE_POWER_LEVELS);
    }
    return TRUE;
}

/* The position of the first of the power levels behind @node that is on the mainline; @passed is
 * room to work in. */
static guint
mainline_position(AuthGraph *graph, const AuthNode *node, GPtrArray *passed)
{
    guint position = NO_MAINLINE;
    AuthNode *levels;

    g_ptr_array_set_size(passed, 0);
    while (passed->len <= graph->count &&
           (levels = cited(graph, node, ROLE_POWER_LEVELS)) != NULL) {
        if (levels->has_mainline) {
            position = levels->mainline;
            break;
        }
        g_ptr_array_add(passed, levels);
        node = levels;
    }
    for (guint i = 0; i < passed->len; i++) { /* the next event on this way finds it at once */
        AuthNode *on_the_way = passed->pdata[i];
        on_the_way->has_mainline = TRUE;
        on_the_way->mainline = position;
    }
    return position;
}

typedef struct {
    AuthNode *node;
    gint64 origin_server_ts;
    guint position;
} Leftover;

static int
compare_by_mainline(gconstpointer a, gconstpointer b)
{
    const Leftover *left = a, *right = b;
    if (left->position != right->position)
        return left->position > right->position ? -1 : 1;
    if (left->origin_server_ts != right->origin_server_ts)
        return left->origin_server_ts < right->origin_server_ts ? -1 : 1;
    return strcmp(left->node->event_id, right->node->event_id);
}

GPtrArray *
resolution_order_leftovers(AuthGraph *graph)
{
    g_autoptr(GArray) leftovers = g_array_new(FALSE, FALSE, sizeof(Leftover));
    g_autoptr(GPtrArray) passed = g_ptr_array_new();
    GPtrArray *sorted = g_ptr_array_new();

    for (guint i = 0; i < graph->count; i++) {
        Leftover leftover = {.node = node_at(graph, i)};
        if (!leftover.node->full || leftover.node->sorted)
            continue;
        leftover.position = mainline_position(graph, leftover.node, passed);
        leftover.origin_server_ts = leftover.node->pdu->origin_server_ts;
        g_array_append_val(leftovers, leftover);
    }
    g_array_sort(leftovers, compare_by_mainline);
    for (guint i = 0; i < leftovers->len; i++)
        g_ptr_array_add(sorted, g_array_index(leftovers, Leftover, i).node);
    return sorted;
}
