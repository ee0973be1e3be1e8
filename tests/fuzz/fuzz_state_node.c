/* Fuzz target: bytes as a stored node of a state: what can be read is written and read again as the
 * same, and a trie that is handed them in place of its own nodes says that it is damaged. */
#include <string.h>

#include "federation/room/state_node.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static gboolean
load(gpointer data, const StateNodeId *ids, guint count, GBytes **ret_bodies, GError **error)
{
    for (guint i = 0; i < count; i++)
        ret_bodies[i] = g_bytes_ref(data);
    return TRUE;
}

static void
check_same(const StateNodeView *view, const StateNodeView *again)
{
    g_assert_true(view->is_leaf == again->is_leaf && view->count == again->count);
    g_assert_cmpuint(view->entries->len, ==, again->entries->len);
    g_assert_cmpmem(view->children, sizeof view->children, again->children, sizeof again->children);
    for (guint i = 0; i < view->entries->len; i++) {
        const StateEntry *entry = view->entries->pdata[i], *other = again->entries->pdata[i];
        g_assert_cmpstr(entry->type, ==, other->type);
        g_assert_cmpstr(entry->state_key, ==, other->state_key);
        g_assert_cmpstr(entry->event_id, ==, other->event_id);
    }
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static const guint8 seed[STATE_SEED_BYTES] = "the fuzzer's key";
    g_autoptr(GBytes) body = g_bytes_new(data, size);
    g_autoptr(StateNodeView) view = state_node_view_new(body);
    g_autoptr(GArray) children = state_node_children(body, NULL);
    g_assert_true((view == NULL) == (children == NULL));
    if (view != NULL) {
        g_autoptr(GBytes) written = view->is_leaf ? state_node_leaf(view->entries)
                                                  : state_node_inner(view->count, view->children);
        g_autoptr(StateNodeView) again = state_node_view_new(written);
        g_assert_nonnull(again);
        check_same(view, again);
    }

    StateNodeId root = {"some other node"};
    g_autoptr(StateTrie) trie = state_trie_new(seed, load, body);
    g_autoptr(GError) error = NULL;
    char *event_id = NULL;
    g_assert_false(state_trie_find(trie, &root, "m.room.member", "@a:b", &event_id, &error));
    g_assert_error(error, STATE_TRIE_ERROR, STATE_TRIE_ERROR_DAMAGED);
    return 0;
}
