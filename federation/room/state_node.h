/* federation/room/state_node.h: one node of a state trie as bytes.  For state_trie.c alone.
 *
 * A body is the whole node, and its hash is the node's id:
 *   leaf:  1, count, entries in order of (type, state key)
 *   entry: flags (bit 7: the event id is 32 raw bytes of URL-safe base64; bits 0-6: the type's
 *          code, 0: spelt out), [type], state key, event id
 *   inner: 2, count of entries below, 2 bytes that tell which of the 16 children are there, their
 *          ids
 * What is stored is the body, or how it differs from the body of an older node:
 *   leaf:  3, steps in order of place; each a number, four times its place among the older entries
 *          plus 0: the entry there is gone; 1: it has another event id, these 32 raw bytes;
 *          2: the same, spelt out; 3: this entry is new, before it
 *   inner: 4, count, 2 bytes that tell which children changed, their ids (all zero: gone)
 *
 * Numbers and lengths are LEB128.  This is a format of stored data: codes are added, never changed.
 */
#pragma once

#include "federation/room/state_trie.h"

#define STATE_HASH_BYTES 16
#define STATE_FAN_OUT 16

typedef struct {
    const char *type;
    const char *state_key;
    const char *event_id;
    guint8 hash[STATE_HASH_BYTES]; /* of type and state key; set by state_trie.c when it needs it */
} StateEntry;

int state_entry_compare(gconstpointer a,
                        gconstpointer b); /* StateEntry ** each: for g_ptr_array_sort */

typedef struct {
    gboolean is_leaf;
    guint64 count;                       /* entries here and below */
    GPtrArray *entries;                  /* StateEntry *, in memory; empty in an inner node */
    GPtrArray *memory;                   /* what the entries and their strings lie in */
    StateNodeId children[STATE_FAN_OUT]; /* of an inner node; empty ids where there is none */
} StateNodeView;

/* NULL if @body is no body of a node. */
StateNodeView *state_node_view_new(GBytes *body);
void state_node_view_free(StateNodeView *view); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StateNodeView, state_node_view_free)

GBytes *state_node_leaf(const GPtrArray *entries); /* sorted */
GBytes *state_node_inner(guint64 count, const StateNodeId children[STATE_FAN_OUT]);

/* How the leaf of @entries differs from that of @older, both sorted. */
GBytes *state_node_leaf_change(const GPtrArray *older, const GPtrArray *entries);
GBytes *state_node_inner_change(const StateNodeId older[STATE_FAN_OUT], guint64 count,
                                const StateNodeId children[STATE_FAN_OUT]);
