#include "federation/room/state_resolution.h"

#include <string.h>

#include "federation/room/event_auth.h"
#include "federation/room/state_resolution_v1.h"
#include "identity/seeded_hash.h"

G_DEFINE_QUARK(chancery - state - resolution - error, state_resolution_error)

#define NO_MAINLINE G_MAXUINT /* a position after all others */
#define NO_NODE G_MAXUINT
#define BLOCK_NODES 256
#define ALIKE_MAX 8
#define IDS_BLOCK_BYTES 16384

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
} Node;

typedef struct {
    const Pdu *create;
    const StateEventSource *source;
    const StateUnconflicted *unconflicted;
    GPtrArray *blocks; /* of BLOCK_NODES nodes each: there may be many, and they stay in place */
    guint count;       /* of nodes */
    GStringChunk *ids; /* their event ids */
    GHashTable *by_id; /* event id -> Node * */
    GArray *edges;     /* guint: the nodes that are cited, one node's after another's */
    guint alike[ALIKE_MAX]; /* what the event before cited in that place: often the same */
    guint loaded;           /* events asked for, against the budget */
    guint stamp;            /* of the last walk */
    guint candidates;       /* that no unconflicted event has reached yet */
    GHashTable *resolved;   /* the state so far: StateKey -> Node, both borrowed from nodes */
} Resolution;

static Node *
node_at(const Resolution *resolution, guint index)
{
    return (Node *)resolution->blocks->pdata[index / BLOCK_NODES] + index % BLOCK_NODES;
}

/* The @i-th node that @node cites. */
static Node *
node_auth(const Resolution *resolution, const Node *node, guint i)
{
    return node_at(resolution, g_array_index(resolution->edges, guint, node->auth_first + i));
}

/* The node for @event_id, made when absent. */
static Node *
node_for(Resolution *resolution, const char *event_id)
{
    Node *node = g_hash_table_lookup(resolution->by_id, event_id);
    if (node != NULL)
        return node;
    if (resolution->count % BLOCK_NODES == 0)
        g_ptr_array_add(resolution->blocks, g_new0(Node, BLOCK_NODES));
    node = node_at(resolution, resolution->count);
    node->index = resolution->count++;
    node->event_id = g_string_chunk_insert(resolution->ids, event_id);
    g_hash_table_insert(resolution->by_id, (gpointer)node->event_id, node);
    return node;
}

static void
resolution_clear(Resolution *resolution)
{
    for (guint i = 0; i < resolution->count; i++)
        pdu_unref(node_at(resolution, i)->pdu);
    g_ptr_array_unref(resolution->blocks);
    g_string_chunk_free(resolution->ids);
    g_hash_table_unref(resolution->by_id);
    g_array_unref(resolution->edges);
    g_hash_table_unref(resolution->resolved);
}

/* ---- loading ---- */

/* The events of a room mostly cite the same ones in the same places. */
static guint
cited_index(Resolution *resolution, const char *event_id, guint place)
{
    guint *alike = place < ALIKE_MAX ? &resolution->alike[place] : NULL;
    if (alike != NULL && *alike != NO_NODE &&
        strcmp(node_at(resolution, *alike)->event_id, event_id) == 0)
        return *alike;
    guint index = node_for(resolution, event_id)->index;
    if (alike != NULL)
        *alike = index;
    return index;
}

/* Consumes @pdu, which may be NULL. */
static void
node_set_pdu(Resolution *resolution, Node *node, Pdu *pdu)
{
    g_autoptr(Pdu) event = pdu;
    gboolean first = !node->asked;

    node->asked = TRUE;
    if (event == NULL || !pdu_is_state(event) ||
        strcmp(event->room_id, resolution->create->room_id) != 0)
        return;
    if (first) {
        node->auth_first = resolution->edges->len;
        node->auth_count = event->auth_event_count;
        node->role = pdu_is(event, "m.room.power_levels", "") ? ROLE_POWER_LEVELS
                     : pdu_is(event, "m.room.create", "")     ? ROLE_CREATE
                                                              : ROLE_OTHER;
        for (guint i = 0; i < event->auth_event_count; i++) {
            guint auth = cited_index(resolution, event->auth_events[i], i);
            g_array_append_val(resolution->edges, auth);
        }
    }
    node->key = (StateKey){event->type, event->state_key};
    node->pdu = g_steal_pointer(&event);
}

static gboolean
load_batch(Resolution *resolution, const guint *indices, guint count, GError **error)
{
    const char *event_ids[STATE_LOAD_MAX] = {NULL};
    Pdu *pdus[STATE_LOAD_MAX] = {NULL};

    if (count > resolution->source->events_max - resolution->loaded) {
        g_set_error(error, STATE_RESOLUTION_ERROR, STATE_RESOLUTION_ERROR_BUDGET,
                    "state resolution needs more than %u events", resolution->source->events_max);
        return FALSE;
    }
    resolution->loaded += count;
    for (guint i = 0; i < count; i++)
        event_ids[i] = node_at(resolution, indices[i])->event_id;
    gboolean good =
        resolution->source->load(resolution->source->data, event_ids, count, pdus, error);
    for (guint i = 0; i < count; i++) {
        if (good)
            node_set_pdu(resolution, node_at(resolution, indices[i]), pdus[i]);
        else
            pdu_unref(pdus[i]);
    }
    return good;
}

/* Load those of @indices (guint) that were never asked for. */
static gboolean
load_nodes(Resolution *resolution, const GArray *indices, GError **error)
{
    g_autofree guint *batch = g_new(guint, STATE_LOAD_MAX);
    guint count = 0;
    for (guint i = 0; i < indices->len; i++) {
        guint index = g_array_index(indices, guint, i);
        Node *node = node_at(resolution, index);
        if (!node->asked) {
            batch[count++] = index;
        }
        if (count == STATE_LOAD_MAX || (i + 1 == indices->len && count > 0)) {
            if (!load_batch(resolution, batch, count, error))
                return FALSE;
            count = 0;
        }
    }
    return TRUE;
}

/* The node's event, loaded again if it was let go; *ret_pdu NULL if unknown. */
static gboolean
node_event(Resolution *resolution, Node *node, const Pdu **ret_pdu, GError **error)
{
    if (node->pdu == NULL && !load_batch(resolution, &node->index, 1, error))
        return FALSE;
    *ret_pdu = node->pdu;
    return TRUE;
}

/* From @frontier (consumed) along auth events to the end, marking with a new stamp. */
static gboolean
load_chains(Resolution *resolution, GArray *frontier, GError **error)
{
    g_autoptr(GArray) now = frontier;
    guint stamp = ++resolution->stamp;

    while (now->len > 0) {
        GArray *next = g_array_new(FALSE, FALSE, sizeof(guint));
        if (!load_nodes(resolution, now, error)) {
            g_array_unref(next);
            return FALSE;
        }
        for (guint i = 0; i < now->len; i++) {
            const Node *node = node_at(resolution, g_array_index(now, guint, i));
            for (guint j = 0; j < node->auth_count; j++) {
                Node *auth = node_auth(resolution, node, j);
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

/* ---- the full conflicted set ---- */

/* The events that the states disagree on: node indices, one a conflict and state. */
typedef struct {
    guint *nodes; /* NO_NODE: that state has no entry */
    guint conflict_count, state_count;
} Tips;

/* Count one more chain for all that the events of state @state lead to, and for themselves. */
static void
mark_chain(Resolution *resolution, const Tips *tips, guint state)
{
    g_autoptr(GPtrArray) open = g_ptr_array_new();
    guint stamp = ++resolution->stamp;

    for (guint i = 0; i < tips->conflict_count; i++) {
        guint index = tips->nodes[i * tips->state_count + state];
        if (index == NO_NODE || node_at(resolution, index)->stamp == stamp)
            continue;
        node_at(resolution, index)->stamp = stamp;
        g_ptr_array_add(open, node_at(resolution, index));
    }
    while (open->len > 0) {
        Node *node = g_ptr_array_remove_index_fast(open, open->len - 1);
        node->chains++;
        for (guint i = 0; i < node->auth_count; i++) {
            Node *auth = node_auth(resolution, node, i);
            if (auth->stamp == stamp)
                continue;
            auth->stamp = stamp;
            g_ptr_array_add(open, auth);
        }
    }
}

/* Who cites each node: those of node i are nodes[first[i]] to nodes[first[i + 1] - 1]. */
typedef struct {
    guint *first;
    guint *nodes;
} Citations;

static Citations
citations_new(const Resolution *resolution)
{
    Citations citations = {g_new0(guint, resolution->count + 2),
                           g_new(guint, resolution->edges->len + 1)};
    const guint *edges = (const guint *)(gconstpointer)resolution->edges->data;
    guint *place = citations.first + 1; /* one ahead, and moved while the places are filled */

    for (guint i = 0; i < resolution->edges->len; i++)
        place[edges[i] + 1]++;
    for (guint i = 0; i < resolution->count; i++)
        place[i + 1] += place[i];
    for (guint i = 0; i < resolution->count; i++) {
        const Node *node = node_at(resolution, i);
        for (guint j = 0; j < node->auth_count; j++)
            citations.nodes[place[edges[node->auth_first + j]]++] = i;
    }
    return citations;
}

static void
citations_clear(Citations *citations)
{
    g_free(citations->first);
    g_free(citations->nodes);
}

/* Every node loaded so far hangs below a conflicted event; those that also lead to one are the
 * conflicted state subgraph. */
static void
mark_subgraph(Resolution *resolution)
{
    Citations citations = citations_new(resolution);
    g_autoptr(GArray) open = g_array_new(FALSE, FALSE, sizeof(guint));

    for (guint i = 0; i < resolution->count; i++)
        if (node_at(resolution, i)->conflicted) {
            node_at(resolution, i)->in_subgraph = TRUE;
            g_array_append_val(open, i);
        }
    while (open->len > 0) {
        guint at = g_array_index(open, guint, open->len - 1);
        g_array_set_size(open, open->len - 1);
        for (guint i = citations.first[at]; i < citations.first[at + 1]; i++) {
            Node *above = node_at(resolution, citations.nodes[i]);
            if (above->in_subgraph)
                continue;
            above->in_subgraph = TRUE;
            g_array_append_val(open, above->index);
        }
    }
    citations_clear(&citations);
}

/* An unconflicted event, or one in its chain, was come by. TRUE if it is new. */
static gboolean
reach(Resolution *resolution, Node *node)
{
    if (node->reached)
        return FALSE;
    node->reached = TRUE;
    if (node->candidate)
        resolution->candidates--;
    return TRUE;
}

/* From @frontier along auth events until no candidate is left.  Events are let go once their auth
 * events are known: there may be very many. */
static gboolean
reach_from(Resolution *resolution, GArray *frontier, GError **error)
{
    g_autoptr(GArray) now = g_array_ref(frontier);

    while (now->len > 0 && resolution->candidates > 0) {
        GArray *next = g_array_new(FALSE, FALSE, sizeof(guint));
        if (!load_nodes(resolution, now, error)) {
            g_array_unref(next);
            return FALSE;
        }
        for (guint i = 0; i < now->len; i++) {
            Node *node = node_at(resolution, g_array_index(now, guint, i));
            for (guint j = 0; j < node->auth_count; j++) {
                Node *auth = node_auth(resolution, node, j);
                if (reach(resolution, auth))
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

typedef struct {
    Resolution *resolution;
    gboolean members; /* this pass is for member events, of which there are many, or for the rest */
    GArray *frontier;
    gboolean failed;
    GError **error;
} ReachPass;

static gboolean
reach_entry(const char *type, const char *state_key, const char *event_id, gpointer data)
{
    ReachPass *pass = data;
    if ((strcmp(type, "m.room.member") == 0) != pass->members)
        return TRUE;
    Node *node = node_for(pass->resolution, event_id);
    if (reach(pass->resolution, node))
        g_array_append_val(pass->frontier, node->index);
    if (pass->frontier->len < STATE_LOAD_MAX)
        return pass->resolution->candidates > 0;
    pass->failed = !reach_from(pass->resolution, pass->frontier, pass->error);
    g_array_set_size(pass->frontier, 0);
    return !pass->failed && pass->resolution->candidates > 0;
}

/* Take the candidates out that are in every state's chain because an unconflicted event leads
 * there. */
static gboolean
reach_candidates(Resolution *resolution, GError **error)
{
    for (guint members = 0; members <= 1 && resolution->candidates > 0; members++) {
        g_autoptr(GArray) frontier = g_array_new(FALSE, FALSE, sizeof(guint));
        ReachPass pass = {resolution, members == 1, frontier, FALSE, error};
        if (!resolution->unconflicted->foreach (resolution->unconflicted->data, reach_entry, &pass,
                                                error))
            return FALSE;
        if (pass.failed || !reach_from(resolution, frontier, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
find_full_conflicted_set(Resolution *resolution, guint state_count, const GPtrArray *conflicts,
                         GError **error)
{
    g_autofree guint *nodes = g_new(guint, conflicts->len * state_count);
    Tips tips = {nodes, conflicts->len, state_count};
    GArray *frontier = g_array_new(FALSE, FALSE, sizeof(guint));

    for (guint i = 0; i < conflicts->len; i++) {
        const StateConflict *conflict = conflicts->pdata[i];
        for (guint j = 0; j < state_count; j++) {
            const char *event_id = conflict->event_ids[j];
            Node *node = event_id != NULL ? node_for(resolution, event_id) : NULL;
            nodes[i * state_count + j] = node != NULL ? node->index : NO_NODE;
            if (node == NULL || node->conflicted)
                continue;
            node->conflicted = TRUE;
            g_array_append_val(frontier, node->index);
        }
    }
    if (!load_chains(resolution, frontier, error))
        return FALSE;
    for (guint state = 0; state < state_count; state++)
        mark_chain(resolution, &tips, state);
    if (resolution->create->version->state_resolution == STATE_RESOLUTION_V2_1)
        mark_subgraph(resolution);

    guint known = resolution->count;
    for (guint i = 0; i < known; i++) {
        Node *node = node_at(resolution, i);
        node->candidate = node->pdu != NULL && !node->conflicted && !node->in_subgraph &&
                          node->chains > 0 && node->chains < state_count;
        resolution->candidates += node->candidate;
    }
    if (!reach_candidates(resolution, error))
        return FALSE;
    for (guint i = 0; i < known; i++) {
        Node *node = node_at(resolution, i);
        node->full = node->pdu != NULL &&
                     (node->conflicted || node->in_subgraph || (node->candidate && !node->reached));
    }
    return TRUE;
}

/* ---- orders ---- */

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
static Node *
cited(Resolution *resolution, const Node *node, NodeRole role)
{
    for (guint i = 0; i < node->auth_count; i++) {
        Node *auth = node_auth(resolution, node, i);
        if (auth->pdu != NULL && auth->role == role)
            return auth;
    }
    return NULL;
}

/* The power of an event's sender, by what the event cites: a create event cites nothing, so before
 * version 12, where there may be two of them, its sender has none. */
static Power
cited_power(Resolution *resolution, const Node *node)
{
    const Node *create = NULL, *levels = cited(resolution, node, ROLE_POWER_LEVELS);
    PowerLevels view = {resolution->create, levels != NULL ? levels->pdu : NULL};
    if (!resolution->create->version->room_id_is_create_hash) {
        create = cited(resolution, node, ROLE_CREATE);
        if (create == NULL)
            return (Power){.level = 0};
        view.create = create->pdu;
    }
    return power_of_user(&view, node->pdu->sender);
}

static int
compare_by_power(gconstpointer a, gconstpointer b, gpointer unused)
{
    const Node *left = a, *right = b;
    int order = power_compare(right->power, left->power);
    if (order != 0)
        return order;
    if (left->pdu->origin_server_ts != right->pdu->origin_server_ts)
        return left->pdu->origin_server_ts < right->pdu->origin_server_ts ? -1 : 1;
    return strcmp(left->event_id, right->event_id);
}

/* The power events of the full conflicted set and what they stand on within it. */
static GPtrArray *
pick_power_events(Resolution *resolution)
{
    GPtrArray *picked = g_ptr_array_new();
    for (guint i = 0; i < resolution->count; i++) {
        Node *node = node_at(resolution, i);
        if (node->full && is_power_event(node->pdu)) {
            node->sorted = TRUE;
            g_ptr_array_add(picked, node);
        }
    }
    for (guint i = 0; i < picked->len; i++) { /* grows as it goes */
        const Node *node = picked->pdata[i];
        for (guint j = 0; j < node->auth_count; j++) {
            Node *auth = node_auth(resolution, node, j);
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
static GPtrArray *
sort_power_events(Resolution *resolution)
{
    g_autoptr(GPtrArray) picked = pick_power_events(resolution);
    g_autoptr(GSequence) ready = g_sequence_new(NULL);
    GPtrArray *sorted = g_ptr_array_new();
    Citations citations = citations_new(resolution);

    for (guint i = 0; i < picked->len; i++) {
        Node *node = picked->pdata[i];
        node->power = cited_power(resolution, node);
        node->citing = 0;
        for (guint j = 0; j < node->auth_count; j++)
            node->citing += node_auth(resolution, node, j)->sorted;
        if (node->citing == 0)
            g_sequence_insert_sorted(ready, node, compare_by_power, NULL);
    }
    while (!g_sequence_is_empty(ready)) {
        GSequenceIter *first = g_sequence_get_begin_iter(ready);
        Node *node = g_sequence_get(first);
        g_sequence_remove(first);
        g_ptr_array_add(sorted, node);
        for (guint i = citations.first[node->index]; i < citations.first[node->index + 1]; i++) {
            Node *waiting = node_at(resolution, citations.nodes[i]);
            if (waiting->sorted && --waiting->citing == 0)
                g_sequence_insert_sorted(ready, waiting, compare_by_power, NULL);
        }
    }
    citations_clear(&citations);
    return sorted;
}

/* Number the mainline of the power levels in the state so far.  Each step may load an event: those
 * of version 2's unconflicted state are not in the graph yet. */
static gboolean
number_mainline(Resolution *resolution, const char *power_levels_id, GError **error)
{
    Node *node = power_levels_id != NULL ? node_for(resolution, power_levels_id) : NULL;
    for (guint position = 0; node != NULL && !node->has_mainline; position++) {
        const Pdu *unused;
        node->has_mainline = TRUE;
        node->mainline = position;
        if (!node_event(resolution, node, &unused, error))
            return FALSE;
        for (guint i = 0; i < node->auth_count; i++)
            if (!node_event(resolution, node_auth(resolution, node, i), &unused, error))
                return FALSE;
        node = cited(resolution, node, ROLE_POWER_LEVELS);
    }
    return TRUE;
}

/* The position of the first of the power levels behind @node that is on the mainline; @passed is
 * room to work in. */
static guint
mainline_position(Resolution *resolution, const Node *node, GPtrArray *passed)
{
    guint position = NO_MAINLINE;
    Node *levels;

    g_ptr_array_set_size(passed, 0);
    while (passed->len <= resolution->count &&
           (levels = cited(resolution, node, ROLE_POWER_LEVELS)) != NULL) {
        if (levels->has_mainline) {
            position = levels->mainline;
            break;
        }
        g_ptr_array_add(passed, levels);
        node = levels;
    }
    for (guint i = 0; i < passed->len; i++) { /* the next event on this way finds it at once */
        Node *on_the_way = passed->pdata[i];
        on_the_way->has_mainline = TRUE;
        on_the_way->mainline = position;
    }
    return position;
}

typedef struct {
    Node *node;
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

static GPtrArray *
sort_leftovers(Resolution *resolution)
{
    g_autoptr(GArray) leftovers = g_array_new(FALSE, FALSE, sizeof(Leftover));
    g_autoptr(GPtrArray) passed = g_ptr_array_new();
    GPtrArray *sorted = g_ptr_array_new();

    for (guint i = 0; i < resolution->count; i++) {
        Leftover leftover = {.node = node_at(resolution, i)};
        if (!leftover.node->full || leftover.node->sorted)
            continue;
        leftover.position = mainline_position(resolution, leftover.node, passed);
        leftover.origin_server_ts = leftover.node->pdu->origin_server_ts;
        g_array_append_val(leftovers, leftover);
    }
    g_array_sort(leftovers, compare_by_mainline);
    for (guint i = 0; i < leftovers->len; i++)
        g_ptr_array_add(sorted, g_array_index(leftovers, Leftover, i).node);
    return sorted;
}

/* ---- iterative auth checks ---- */

static gboolean
was_rejected(const Resolution *resolution, const char *event_id)
{
    const StateEventSource *source = resolution->source;
    return source->is_rejected != NULL && source->is_rejected(source->data, event_id);
}

/* The event that stands under @key: in the state so far, else (version 2) in what is not in
 * conflict, else among the event's own auth events.  *ret_pdu NULL: none. */
static gboolean
find_auth_event(Resolution *resolution, const Node *node, const StateKey *key, const Pdu **ret_pdu,
                GError **error)
{
    g_autofree char *unconflicted = NULL;
    Node *found = g_hash_table_lookup(resolution->resolved, key);

    *ret_pdu = NULL;
    if (found == NULL && resolution->create->version->state_resolution == STATE_RESOLUTION_V2) {
        if (!resolution->unconflicted->find(resolution->unconflicted->data, key->type,
                                            key->state_key, &unconflicted, error))
            return FALSE;
        found = unconflicted != NULL ? node_for(resolution, unconflicted) : NULL;
    }
    if (found != NULL && !node_event(resolution, found, ret_pdu, error))
        return FALSE;
    if (*ret_pdu != NULL)
        return TRUE;
    for (guint i = 0; i < node->auth_count; i++) {
        const Node *auth = node_auth(resolution, node, i);
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
        Node *node = sorted->pdata[i];
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
        if (event_auth_check(node->pdu, resolution->create, auth_events, NULL) == AUTH_ALLOW)
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

    if (!find_full_conflicted_set(resolution, state_count, conflicts, error))
        return FALSE;
    g_autoptr(GPtrArray) power_events = sort_power_events(resolution);
    if (!apply_events(resolution, power_events, error))
        return FALSE;

    static const StateKey power_levels = {"m.room.power_levels", ""};
    const Node *resolved_levels = g_hash_table_lookup(resolution->resolved, &power_levels);
    const char *levels = resolved_levels != NULL ? resolved_levels->event_id : NULL;
    if (levels == NULL && resolution->create->version->state_resolution == STATE_RESOLUTION_V2) {
        if (!resolution->unconflicted->find(resolution->unconflicted->data, "m.room.power_levels",
                                            "", &unconflicted_levels, error))
            return FALSE;
        levels = unconflicted_levels;
    }
    if (!number_mainline(resolution, levels, error))
        return FALSE;
    g_autoptr(GPtrArray) leftovers = sort_leftovers(resolution);
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
        const Node *node = value;
        state_map_set(map, node->key.type, node->key.state_key, node->event_id);
    }
    return map;
}

gboolean
state_resolve(const Pdu *create, guint state_count, const GPtrArray *conflicts,
              const StateUnconflicted *unconflicted, const StateEventSource *source,
              GHashTable **ret_resolved, GError **error)
{
    Resolution resolution = {
        .create = create,
        .source = source,
        .unconflicted = unconflicted,
    };

    if (create->version->state_resolution == STATE_RESOLUTION_V1)
        return state_resolve_v1(create, state_count, conflicts, unconflicted, source, ret_resolved,
                                error);
    resolution.blocks = g_ptr_array_new_with_free_func(g_free);
    resolution.ids = g_string_chunk_new(IDS_BLOCK_BYTES);
    resolution.by_id = g_hash_table_new(seeded_str_hash, g_str_equal);
    resolution.edges = g_array_new(FALSE, FALSE, sizeof(guint));
    resolution.resolved = g_hash_table_new(state_key_hash, state_key_equal);
    for (guint i = 0; i < ALIKE_MAX; i++)
        resolution.alike[i] = NO_NODE;
    gboolean good = resolve(&resolution, state_count, conflicts, error);
    if (good)
        *ret_resolved = resolved_map(&resolution);
    resolution_clear(&resolution);
    return good;
}

/* ---- from roots to a root ---- */

/* What state_resolve() asks of a trie: the first state without the conflicted keys. */
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
    return state_resolve(create, distinct->len, conflicts, &unconflicted, source, &resolved,
                         error) &&
           apply_resolved(trie, distinct, conflicts, table, resolved, ret_root, error);
}
