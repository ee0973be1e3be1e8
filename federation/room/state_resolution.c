#include "federation/room/state_resolution.h"

#include <string.h>

#include "federation/room/event_auth.h"
#include "federation/room/state_resolution_v1.h"
#include "identity/seeded_hash.h"

G_DEFINE_QUARK(chancery - state - resolution - error, state_resolution_error)

#define NO_MAINLINE G_MAXUINT /* a position after all others */

/* One event of the auth graph. */
typedef struct {
    char *event_id;
    Pdu *pdu;       /* NULL: not loaded, unknown, of another room, or let go again */
    GArray *auth;   /* guint: the nodes that it cites */
    guint chains;   /* of how many states' auth chains it is part */
    guint stamp;    /* the last walk that came by */
    guint citing;   /* while sorting: nodes it still waits for */
    guint mainline; /* position, once known */
    Power power;    /* while sorting: its sender's */
    gboolean asked; /* was loaded, or is known to be unknown */
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
    GPtrArray *nodes;     /* Node * */
    GHashTable *by_id;    /* event id -> index in nodes */
    guint loaded;         /* events asked for, against the budget */
    guint stamp;          /* of the last walk */
    guint candidates;     /* that no unconflicted event has reached yet */
    GHashTable *resolved; /* the state so far */
} Resolution;

static void
node_free(gpointer data)
{
    Node *node = data;
    g_free(node->event_id);
    pdu_unref(node->pdu);
    g_array_unref(node->auth);
    g_free(node);
}

static Node *
node_at(const Resolution *resolution, guint index)
{
    return resolution->nodes->pdata[index];
}

/* The index of the node for @event_id, made when absent. */
static guint
node_index(Resolution *resolution, const char *event_id)
{
    gpointer index;
    if (g_hash_table_lookup_extended(resolution->by_id, event_id, NULL, &index))
        return GPOINTER_TO_UINT(index);
    Node *node = g_new0(Node, 1);
    node->event_id = g_strdup(event_id);
    node->auth = g_array_new(FALSE, FALSE, sizeof(guint));
    g_ptr_array_add(resolution->nodes, node);
    g_hash_table_insert(resolution->by_id, node->event_id,
                        GUINT_TO_POINTER(resolution->nodes->len - 1));
    return resolution->nodes->len - 1;
}

/* ---- loading ---- */

/* Consumes @pdu, which may be NULL. */
static void
node_set_pdu(Resolution *resolution, guint index, Pdu *pdu)
{
    Node *node = node_at(resolution, index);
    g_autoptr(Pdu) event = pdu;
    gboolean first = !node->asked;

    node->asked = TRUE;
    if (event == NULL || !pdu_is_state(event) ||
        strcmp(event->room_id, resolution->create->room_id) != 0)
        return;
    for (guint i = 0; first && i < event->auth_event_count; i++) {
        guint auth = node_index(resolution, event->auth_events[i]);
        g_array_append_val(node->auth, auth);
    }
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
            node_set_pdu(resolution, indices[i], pdus[i]);
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
node_event(Resolution *resolution, guint index, const Pdu **ret_pdu, GError **error)
{
    Node *node = node_at(resolution, index);
    if (node->pdu == NULL && !load_batch(resolution, &index, 1, error))
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
            for (guint j = 0; j < node->auth->len; j++) {
                guint auth = g_array_index(node->auth, guint, j);
                if (node_at(resolution, auth)->stamp == stamp)
                    continue;
                node_at(resolution, auth)->stamp = stamp;
                g_array_append_val(next, auth);
            }
        }
        g_array_unref(now);
        now = next;
    }
    return TRUE;
}

/* ---- the full conflicted set ---- */

/* Count one more chain for all that the events of state @state lead to, and for themselves. */
static void
mark_chain(Resolution *resolution, const GPtrArray *conflicts, guint state)
{
    g_autoptr(GArray) open = g_array_new(FALSE, FALSE, sizeof(guint));
    guint stamp = ++resolution->stamp;

    for (guint i = 0; i < conflicts->len; i++) {
        const StateConflict *conflict = conflicts->pdata[i];
        if (conflict->event_ids[state] == NULL)
            continue;
        guint index = node_index(resolution, conflict->event_ids[state]);
        if (node_at(resolution, index)->stamp != stamp) {
            node_at(resolution, index)->stamp = stamp;
            g_array_append_val(open, index);
        }
    }
    while (open->len > 0) {
        Node *node = node_at(resolution, g_array_index(open, guint, open->len - 1));
        g_array_set_size(open, open->len - 1);
        node->chains++;
        for (guint i = 0; i < node->auth->len; i++) {
            guint auth = g_array_index(node->auth, guint, i);
            if (node_at(resolution, auth)->stamp == stamp)
                continue;
            node_at(resolution, auth)->stamp = stamp;
            g_array_append_val(open, auth);
        }
    }
}

/* Who cites each node: an array of arrays of indices. */
static GPtrArray *
citations(const Resolution *resolution)
{
    GPtrArray *citing = g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref);
    for (guint i = 0; i < resolution->nodes->len; i++)
        g_ptr_array_add(citing, g_array_new(FALSE, FALSE, sizeof(guint)));
    for (guint i = 0; i < resolution->nodes->len; i++) {
        const Node *node = node_at(resolution, i);
        for (guint j = 0; j < node->auth->len; j++)
            g_array_append_val(citing->pdata[g_array_index(node->auth, guint, j)], i);
    }
    return citing;
}

/* Every node loaded so far hangs below a conflicted event; those that also lead to one are the
 * conflicted state subgraph. */
static void
mark_subgraph(Resolution *resolution)
{
    g_autoptr(GPtrArray) citing = citations(resolution);
    g_autoptr(GArray) open = g_array_new(FALSE, FALSE, sizeof(guint));

    for (guint i = 0; i < resolution->nodes->len; i++)
        if (node_at(resolution, i)->conflicted) {
            node_at(resolution, i)->in_subgraph = TRUE;
            g_array_append_val(open, i);
        }
    while (open->len > 0) {
        const GArray *above = citing->pdata[g_array_index(open, guint, open->len - 1)];
        g_array_set_size(open, open->len - 1);
        for (guint i = 0; i < above->len; i++) {
            guint index = g_array_index(above, guint, i);
            if (!node_at(resolution, index)->in_subgraph) {
                node_at(resolution, index)->in_subgraph = TRUE;
                g_array_append_val(open, index);
            }
        }
    }
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
            for (guint j = 0; j < node->auth->len; j++) {
                guint auth = g_array_index(node->auth, guint, j);
                if (reach(resolution, node_at(resolution, auth)))
                    g_array_append_val(next, auth);
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
    guint index = node_index(pass->resolution, event_id);
    if (reach(pass->resolution, node_at(pass->resolution, index)))
        g_array_append_val(pass->frontier, index);
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
    GArray *frontier = g_array_new(FALSE, FALSE, sizeof(guint));
    for (guint i = 0; i < conflicts->len; i++) {
        const StateConflict *conflict = conflicts->pdata[i];
        for (guint j = 0; j < state_count; j++) {
            if (conflict->event_ids[j] == NULL)
                continue;
            guint index = node_index(resolution, conflict->event_ids[j]);
            if (!node_at(resolution, index)->conflicted)
                g_array_append_val(frontier, index);
            node_at(resolution, index)->conflicted = TRUE;
        }
    }
    if (!load_chains(resolution, frontier, error))
        return FALSE;
    for (guint state = 0; state < state_count; state++)
        mark_chain(resolution, conflicts, state);
    if (resolution->create->version->state_resolution == STATE_RESOLUTION_V2_1)
        mark_subgraph(resolution);

    guint known = resolution->nodes->len;
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

/* The node of that type, of no state key, that an event cites; FALSE if it cites none. */
static gboolean
cited(const Resolution *resolution, const Node *node, const char *type, guint *ret_index)
{
    for (guint i = 0; i < node->auth->len; i++) {
        guint index = g_array_index(node->auth, guint, i);
        const Node *auth = node_at(resolution, index);
        if (auth->pdu != NULL && pdu_is(auth->pdu, type, "")) {
            *ret_index = index;
            return TRUE;
        }
    }
    return FALSE;
}

/* The power of an event's sender, by what the event cites: a create event cites nothing, so before
 * version 12, where there may be two of them, its sender has none. */
static Power
cited_power(const Resolution *resolution, const Node *node)
{
    guint index;
    PowerLevels view = {NULL, NULL};
    if (resolution->create->version->room_id_is_create_hash)
        view.create = resolution->create;
    else if (cited(resolution, node, "m.room.create", &index))
        view.create = node_at(resolution, index)->pdu;
    else
        return (Power){.level = 0};
    if (cited(resolution, node, "m.room.power_levels", &index))
        view.power_levels = node_at(resolution, index)->pdu;
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
static GArray *
pick_power_events(Resolution *resolution)
{
    GArray *picked = g_array_new(FALSE, FALSE, sizeof(guint));
    for (guint i = 0; i < resolution->nodes->len; i++) {
        Node *node = node_at(resolution, i);
        if (node->full && is_power_event(node->pdu)) {
            node->sorted = TRUE;
            g_array_append_val(picked, i);
        }
    }
    for (guint i = 0; i < picked->len; i++) { /* grows as it goes */
        const Node *node = node_at(resolution, g_array_index(picked, guint, i));
        for (guint j = 0; j < node->auth->len; j++) {
            guint index = g_array_index(node->auth, guint, j);
            Node *auth = node_at(resolution, index);
            if (auth->full && !auth->sorted) {
                auth->sorted = TRUE;
                g_array_append_val(picked, index);
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
    g_autoptr(GArray) picked = pick_power_events(resolution);
    g_autoptr(GPtrArray) citing = citations(resolution);
    g_autoptr(GSequence) ready = g_sequence_new(NULL);
    GPtrArray *sorted = g_ptr_array_new();

    for (guint i = 0; i < picked->len; i++) {
        Node *node = node_at(resolution, g_array_index(picked, guint, i));
        node->power = cited_power(resolution, node);
        node->citing = 0;
        for (guint j = 0; j < node->auth->len; j++)
            node->citing += node_at(resolution, g_array_index(node->auth, guint, j))->sorted;
    }
    for (guint i = 0; i < picked->len; i++) {
        Node *node = node_at(resolution, g_array_index(picked, guint, i));
        if (node->citing == 0)
            g_sequence_insert_sorted(ready, node, compare_by_power, NULL);
    }
    while (!g_sequence_is_empty(ready)) {
        GSequenceIter *first = g_sequence_get_begin_iter(ready);
        Node *node = g_sequence_get(first);
        g_sequence_remove(first);
        g_ptr_array_add(sorted, node);
        const GArray *above =
            citing->pdata[GPOINTER_TO_UINT(g_hash_table_lookup(resolution->by_id, node->event_id))];
        for (guint i = 0; i < above->len; i++) {
            Node *waiting = node_at(resolution, g_array_index(above, guint, i));
            if (waiting->sorted && --waiting->citing == 0)
                g_sequence_insert_sorted(ready, waiting, compare_by_power, NULL);
        }
    }
    return sorted;
}

/* Number the mainline of the power levels in the state so far.  Each step may load an event: those
 * of version 2's unconflicted state are not in the graph yet. */
static gboolean
number_mainline(Resolution *resolution, const char *power_levels_id, GError **error)
{
    if (power_levels_id == NULL)
        return TRUE;
    guint index = node_index(resolution, power_levels_id);
    for (guint position = 0;; position++) {
        const Pdu *unused;
        Node *node = node_at(resolution, index);
        if (node->has_mainline)
            return TRUE;
        node->has_mainline = TRUE;
        node->mainline = position;
        if (!node_event(resolution, index, &unused, error))
            return FALSE;
        for (guint i = 0; i < node->auth->len; i++)
            if (!node_event(resolution, g_array_index(node->auth, guint, i), &unused, error))
                return FALSE;
        if (!cited(resolution, node, "m.room.power_levels", &index))
            return TRUE;
    }
}

/* The position of the first of the power levels behind @node that is on the mainline. */
static guint
mainline_position(Resolution *resolution, const Node *node)
{
    g_autoptr(GPtrArray) passed = g_ptr_array_new();
    guint position = NO_MAINLINE, index;

    while (passed->len <= resolution->nodes->len &&
           cited(resolution, node, "m.room.power_levels", &index)) {
        node = node_at(resolution, index);
        if (node->has_mainline) {
            position = node->mainline;
            break;
        }
        g_ptr_array_add(passed, (gpointer)node);
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
    guint position;
} Leftover;

static int
compare_by_mainline(gconstpointer a, gconstpointer b)
{
    const Leftover *left = a, *right = b;
    if (left->position != right->position)
        return left->position > right->position ? -1 : 1;
    if (left->node->pdu->origin_server_ts != right->node->pdu->origin_server_ts)
        return left->node->pdu->origin_server_ts < right->node->pdu->origin_server_ts ? -1 : 1;
    return strcmp(left->node->event_id, right->node->event_id);
}

static GPtrArray *
sort_leftovers(Resolution *resolution)
{
    g_autoptr(GArray) leftovers = g_array_new(FALSE, FALSE, sizeof(Leftover));
    GPtrArray *sorted = g_ptr_array_new();

    for (guint i = 0; i < resolution->nodes->len; i++) {
        Leftover leftover = {.node = node_at(resolution, i)};
        if (!leftover.node->full || leftover.node->sorted)
            continue;
        leftover.position = mainline_position(resolution, leftover.node);
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
    const char *event_id = g_hash_table_lookup(resolution->resolved, key);

    *ret_pdu = NULL;
    if (event_id == NULL && resolution->create->version->state_resolution == STATE_RESOLUTION_V2) {
        if (!resolution->unconflicted->find(resolution->unconflicted->data, key->type,
                                            key->state_key, &unconflicted, error))
            return FALSE;
        event_id = unconflicted;
    }
    if (event_id != NULL &&
        !node_event(resolution, node_index(resolution, event_id), ret_pdu, error))
        return FALSE;
    if (*ret_pdu != NULL)
        return TRUE;
    for (guint i = 0; i < node->auth->len; i++) {
        const Node *auth = node_at(resolution, g_array_index(node->auth, guint, i));
        if (auth->pdu != NULL && pdu_is(auth->pdu, key->type, key->state_key) &&
            !was_rejected(resolution, auth->event_id))
            *ret_pdu = auth->pdu;
    }
    return TRUE;
}

static gboolean
apply_events(Resolution *resolution, const GPtrArray *sorted, GError **error)
{
    for (guint i = 0; i < sorted->len; i++) {
        const Node *node = sorted->pdata[i];
        g_autoptr(GPtrArray) auth_events = g_ptr_array_new();
        EventAuthKeys keys;

        if (was_rejected(resolution, node->event_id))
            continue;
        event_auth_keys_of_pdu(node->pdu, &keys);
        for (guint j = 0; j < keys.count; j++) {
            const Pdu *auth_event;
            if (!find_auth_event(resolution, node, &keys.keys[j], &auth_event, error))
                return FALSE;
            if (auth_event != NULL)
                g_ptr_array_add(auth_events, (gpointer)auth_event);
        }
        if (event_auth_check(node->pdu, resolution->create, auth_events, NULL) == AUTH_ALLOW)
            state_map_set(resolution->resolved, node->pdu->type, node->pdu->state_key,
                          node->event_id);
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

    const char *levels = state_map_get(resolution->resolved, "m.room.power_levels", "");
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

gboolean
state_resolve(const Pdu *create, guint state_count, const GPtrArray *conflicts,
              const StateUnconflicted *unconflicted, const StateEventSource *source,
              GHashTable **ret_resolved, GError **error)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(node_free);
    g_autoptr(GHashTable) by_id = g_hash_table_new(seeded_str_hash, g_str_equal);
    g_autoptr(GHashTable) resolved = state_map_new();
    Resolution resolution = {
        .create = create,
        .source = source,
        .unconflicted = unconflicted,
        .nodes = nodes,
        .by_id = by_id,
        .resolved = resolved,
    };

    if (create->version->state_resolution == STATE_RESOLUTION_V1)
        return state_resolve_v1(create, state_count, conflicts, unconflicted, source, ret_resolved,
                                error);
    if (!resolve(&resolution, state_count, conflicts, error))
        return FALSE;
    *ret_resolved = g_steal_pointer(&resolved);
    return TRUE;
}

/* ---- from roots to a root ---- */

/* What state_resolve() asks of a trie: the first state without the conflicted keys. */
typedef struct {
    StateTrie *trie;
    StateNodeId root;
    GHashTable *conflicts; /* a set of OwnConflict *, whose first members are a StateKey */
    StateEntryFunc func;
    gpointer func_data;
} FirstState;

/* A conflict that owns its strings. */
typedef struct {
    StateConflict conflict; /* first */
    char **event_ids;       /* one a state; NULL among them */
    guint count;
} OwnConflict;

static void
conflict_free(gpointer data)
{
    OwnConflict *own = data;
    for (guint i = 0; i < own->count; i++)
        g_free(own->event_ids[i]);
    g_free(own->event_ids);
    g_free((char *)own->conflict.type);
    g_free((char *)own->conflict.state_key);
    g_free(own);
}

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
        own = g_new0(OwnConflict, 1);
        own->count = state_count;
        own->event_ids = g_new0(char *, state_count);
        for (guint i = 0; i < state_count; i++)
            own->event_ids[i] = g_strdup(difference->old_event_id);
        own->conflict.type = g_strdup(difference->type);
        own->conflict.state_key = g_strdup(difference->state_key);
        own->conflict.event_ids = (const char *const *)own->event_ids;
        g_hash_table_add(conflicts, own);
    }
    g_free(own->event_ids[state]);
    own->event_ids[state] = g_strdup(difference->new_event_id);
}

/* The root that the first state becomes when conflicted keys become what was resolved. */
static gboolean
apply_resolved(const FirstState *first, GHashTable *resolved, StateNodeId *ret_root, GError **error)
{
    g_autoptr(GArray) changes = g_array_new(FALSE, FALSE, sizeof(StateChange));
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, first->conflicts);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const StateKey *entry = key;
        StateChange gone = {entry->type, entry->state_key, NULL};
        if (!g_hash_table_contains(resolved, entry))
            g_array_append_val(changes, gone);
    }
    g_hash_table_iter_init(&iter, resolved);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const StateKey *entry = key;
        StateChange stands = {entry->type, entry->state_key, value};
        g_array_append_val(changes, stands);
    }
    return state_trie_change(first->trie, &first->root,
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
        g_hash_table_new_full(state_key_hash, state_key_equal, conflict_free, NULL);
    g_autoptr(GPtrArray) conflicts = g_ptr_array_new();
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
        g_autoptr(GPtrArray) differences = state_trie_difference(
            trie, &first.root, &g_array_index(distinct, StateNodeId, i), error);
        if (differences == NULL)
            return FALSE;
        for (guint j = 0; j < differences->len; j++)
            add_conflict(table, differences->pdata[j], i, distinct->len);
    }
    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, &conflict, NULL))
        g_ptr_array_add(conflicts, conflict);
    return state_resolve(create, distinct->len, conflicts, &unconflicted, source, &resolved,
                         error) &&
           apply_resolved(&first, resolved, ret_root, error);
}
