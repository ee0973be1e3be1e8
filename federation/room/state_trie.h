/* federation/room/state_trie.h: a room's state as a persistent hash trie.
 *
 * A state map (type, state key -> event id) is named by the id of its root node.  Nodes never
 * change and are shared between the snapshots of one room.  A node's id is a keyed hash of its
 * body, and the shape depends on the content alone: equal states have equal roots, however they
 * were made.  Looking up or writing a key costs O(log n), the difference of two states O(changes).
 *
 * The key of all hashes is the room's seed: 16 random bytes, chosen once when the room
 * is first stored, and secret, so that nobody can choose colliding keys or nodes.
 *
 * Pure: nodes are read through a callback, and new ones are handed out for the caller to store as
 * (room, node id, body), idempotently.  A StateTrie belongs to one thread at a time. */
#pragma once

#include "federation/room/state_key.h"

#include <glib.h>

#define STATE_NODE_ID_BYTES 16
#define STATE_SEED_BYTES 16

typedef struct {
    guint8 bytes[STATE_NODE_ID_BYTES];
} StateNodeId;

/* The root of the state without entries: all zero; there is no such node to store. */
extern const StateNodeId state_node_empty;
gboolean state_node_id_equal(const StateNodeId *a, const StateNodeId *b);

#define STATE_TRIE_ERROR (state_trie_error_quark())
GQuark state_trie_error_quark(void);
typedef enum {
    STATE_TRIE_ERROR_DAMAGED, /* a node is not what its id says, or is missing */
} StateTrieError;

/* Read @count nodes (1 to STATE_LOAD_MAX) of this room: ret_bodies[i] is set to the body of ids[i],
 * owned by the trie from then on.  FALSE with @error if any is missing or the database failed.
 * Called once a level, so one query can serve many nodes.  What comes from a disk has passed
 * state_node_check(); a body kept in memory needs it no more. */
#define STATE_LOAD_MAX 512
typedef gboolean (*StateNodesLoad)(gpointer data, const StateNodeId *ids, guint count,
                                   GBytes **ret_bodies, GError **error);

typedef struct StateTrie StateTrie;

/* @load may be NULL for a trie that is only in memory. */
StateTrie *state_trie_new(const guint8 seed[STATE_SEED_BYTES], StateNodesLoad load, gpointer data);
void state_trie_free(StateTrie *trie); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StateTrie, state_trie_free)

/* *ret_event_id is a copy (g_free), or NULL if the state has no such entry. */
gboolean state_trie_find(StateTrie *trie, const StateNodeId *root, const char *type,
                         const char *state_key, char **ret_event_id, GError **error);

/* Many keys at once, with one load a level.  ret_event_ids[i] answers keys[i], as above. */
gboolean state_trie_find_many(StateTrie *trie, const StateNodeId *root, const StateKey *keys,
                              guint count, char **ret_event_ids, GError **error);

typedef struct {
    const char *type;
    const char *state_key;
    const char *event_id; /* NULL: take the entry away */
} StateChange;

/* The state that @changes make out of @root; of two changes of one key the later counts.
 * New nodes are kept in @trie until taken. */
gboolean state_trie_change(StateTrie *trie, const StateNodeId *root, const StateChange *changes,
                           guint count, StateNodeId *ret_root, GError **error);

/* A node, and the form in which it is to be stored: its body, or how that differs from the body of
 * node @base, which is stored already or comes along. Which of the two is decided by the id, about
 * one node in sixteen being whole, so that whoever stores a node chooses the same. Of two stored
 * forms of one node either will do; the one that is there first must stay, for then no node can
 * come to stand on itself. */
typedef struct {
    StateNodeId id;
    GBytes *body;
    StateNodeId base; /* state_node_empty: @form is the body */
    GBytes *form;
} StateNode;

/* The nodes made since the last call: StateNode *, freed with the array.  They can still be
 * read through @trie afterwards only by its load callback. A node that only an intermediate state
 * used is among them; storing it does no harm. */
GPtrArray *state_trie_take_new_nodes(StateTrie *trie);

/* The body (owned by the caller) of a stored node: @forms are its own form, that of its base, and
 * so on down to a body. NULL if they do not fit together. */
GBytes *state_node_unfold(GBytes *const *forms, guint count);
/* Is @body that of node @id of the room with this seed? */
gboolean state_node_check(const guint8 seed[STATE_SEED_BYTES], const StateNodeId *id, GBytes *body);

/* Each entry, in no order that means anything.  Return FALSE to stop early (which is success). */
typedef gboolean (*StateEntryFunc)(const char *type, const char *state_key, const char *event_id,
                                   gpointer data);
gboolean state_trie_foreach(StateTrie *trie, const StateNodeId *root, StateEntryFunc func,
                            gpointer data, GError **error);
gboolean
state_trie_count(StateTrie *trie, const StateNodeId *root, guint64 *ret_count, GError **error);

/* One key where two states differ: an event id is NULL where that state has no entry. */
typedef struct {
    char *type;
    char *state_key;
    char *old_event_id;
    char *new_event_id;
} StateDifference;

/* What changes from @old_root to @new_root: StateDifference *, freed with the array, ordered by
 * type and state key. */
GPtrArray *state_trie_difference(StateTrie *trie, const StateNodeId *old_root,
                                 const StateNodeId *new_root, GError **error);

/* The node ids that @body of a node refers to: StateNodeId entries. Mark and sweep follows them,
 * and each stored node's base. */
GArray *state_node_children(GBytes *body, GError **error);
