/* federation/room/auth_graph.h: the graph that the auth events of a room make, as far as a state
 * resolution has walked it.  For state_resolution_v2.c and what stands below it.  Pure.
 *
 * A node is one event, and carries the marks that the steps of the algorithm leave on it.  Nodes
 * stay in place until auth_graph_clear(); an event is loaded when a walk comes by, against the
 * budget of the source. */
#pragma once

#include "federation/room/power_levels.h"
#include "federation/room/state_resolution.h"

#define NO_NODE G_MAXUINT
#define AUTH_GRAPH_BLOCK_NODES 256
#define AUTH_GRAPH_ALIKE_MAX 8

typedef enum {
    ROLE_OTHER,
    ROLE_CREATE,
    ROLE_POWER_LEVELS,
} NodeRole;

/* One event of the auth graph. */
typedef struct {
    const char *event_id;
    Pdu *pdu;     /* NULL: not loaded, unknown, of another room, or let go again */
    StateKey key; /* of the event, while it is there */
    guint index;
    guint auth_first, auth_count; /* in edges: the nodes that it cites */
    guint chains;                 /* of how many states' auth chains it is part */
    guint stamp;                  /* the last walk that came by */
    guint citing;                 /* while sorting: nodes it still waits for */
    guint mainline;               /* position, once known */
    Power power;                  /* while sorting: its sender's */
    gboolean asked;               /* was loaded, or is known to be unknown */
    NodeRole role;
    gboolean has_mainline;
    gboolean conflicted; /* one of the events that the states disagree on */
    gboolean in_subgraph;
    gboolean candidate; /* in the auth difference unless an unconflicted event leads to it */
    gboolean reached;   /* an unconflicted event leads to it */
    gboolean full;      /* in the full conflicted set */
    gboolean sorted;    /* in the list of power events */
} AuthNode;

typedef struct {
    const Pdu *create;              /* borrowed */
    const StateEventSource *source; /* borrowed */
    GPtrArray *blocks;              /* AUTH_GRAPH_BLOCK_NODES nodes each: many, and they stay put */
    guint count;                    /* of nodes */
    GStringChunk *ids;              /* their event ids */
    GHashTable *by_id;              /* event id -> AuthNode * */
    GArray *edges; /* guint: the nodes that are cited, one node's after another's */
    /* What the event before cited in that place: often the same. */
    guint alike[AUTH_GRAPH_ALIKE_MAX];
    guint loaded; /* events asked for, against the budget */
    guint stamp;  /* of the last walk */
} AuthGraph;

static inline AuthNode *
node_at(const AuthGraph *graph, guint index)
{
    return (AuthNode *)graph->blocks->pdata[index / AUTH_GRAPH_BLOCK_NODES] +
           index % AUTH_GRAPH_BLOCK_NODES;
}

/* The @i-th node that @node cites. */
static inline AuthNode *
node_auth(const AuthGraph *graph, const AuthNode *node, guint i)
{
    return node_at(graph, g_array_index(graph->edges, guint, node->auth_first + i));
}

void auth_graph_init(AuthGraph *graph, const Pdu *create, const StateEventSource *source);
void auth_graph_clear(AuthGraph *graph);

/* The node for @event_id, made when absent. */
AuthNode *auth_graph_node(AuthGraph *graph, const char *event_id);

/* Load those of @indices (guint) that were never asked for. */
gboolean auth_graph_load(AuthGraph *graph, const GArray *indices, GError **error);
/* From @frontier (consumed) along auth events to the end, marking with a new stamp. */
gboolean auth_graph_load_chains(AuthGraph *graph, GArray *frontier, GError **error);
/* The node's event, loaded again if it was let go; *ret_pdu NULL if unknown. */
gboolean auth_graph_event(AuthGraph *graph, AuthNode *node, const Pdu **ret_pdu, GError **error);

/* Who cites each node: those of node i are nodes[first[i]] to nodes[first[i + 1] - 1]. */
typedef struct {
    guint *first;
    guint *nodes;
} Citations;

Citations auth_graph_citations(const AuthGraph *graph);
void citations_clear(Citations *citations);
