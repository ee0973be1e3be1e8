/* Fuzz target: bytes as a stored node of a state, whole or as what differs from another: what can
 * be read is written and read again as the same, and bytes that are not the node's are known by its
 * id. */
#include <string.h>

#include "federation/room/state_node.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

/* A leaf of three entries, ("", "") -> "x" and so on, and an inner node of one child. */
static const guint8 leaf[] = "\1\3\0\0\0\1x\0\0\1k\1y\0\0\1l\1z";
static const guint8 inner[] = "\2\5\1\0the child's name";

/* What comes of @form on top of @base is a body, or refused. */
static void
check_unfold(GBytes *form, GBytes *base)
{
    GBytes *forms[] = {form, base};
    g_autoptr(GBytes) body = state_node_unfold(forms, G_N_ELEMENTS(forms));
    if (body == NULL)
        return;
    g_autoptr(StateNodeView) view = state_node_view_new(body);
    g_assert_nonnull(view);
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

    static const StateNodeId other = {"some other node"};
    g_assert_false(state_node_check(seed, &other, body));
    g_autoptr(GBytes) whole_leaf = g_bytes_new_static(leaf, sizeof leaf - 1);
    g_autoptr(GBytes) whole_inner = g_bytes_new_static(inner, sizeof inner - 1);
    g_autoptr(GBytes) leaf_change = g_bytes_new_static("\3\0\2\1q", 5);
    g_autoptr(GBytes) inner_change = g_bytes_new_static("\4\1\0\0", 4);
    check_unfold(body, whole_leaf);
    check_unfold(body, whole_inner);
    check_unfold(leaf_change, body);
    check_unfold(inner_change, body);
    return 0;
}
