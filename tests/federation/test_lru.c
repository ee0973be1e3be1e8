/* The bounded cache: what was used last stays, and the bound is kept. */
#include "federation/lru.h"

static int live;

typedef struct {
    int references;
    int number;
} Thing;

static gpointer
thing_ref(gpointer data)
{
    ((Thing *)data)->references++;
    return data;
}

static void
thing_unref(gpointer data)
{
    Thing *thing = data;

    if (--thing->references == 0) {
        live--;
        g_free(thing);
    }
}

static void
add(Lru *lru, const char *key, int number, gsize bytes, gboolean replace)
{
    Thing *thing = g_new(Thing, 1);

    *thing = (Thing){1, number};
    live++;
    if (replace)
        lru_set(lru, key, thing, bytes);
    else
        lru_add(lru, key, thing, bytes);
    thing_unref(thing);
}

static int
number_of(Lru *lru, const char *key)
{
    Thing *thing = lru_find(lru, key);
    int number = thing != NULL ? thing->number : -1;

    if (thing != NULL)
        thing_unref(thing);
    return number;
}

static void
test_the_least_used_leaves_first(void)
{
    Lru *lru = lru_new(10000, thing_ref, thing_unref);

    add(lru, "a", 1, 3000, FALSE);
    add(lru, "b", 2, 3000, FALSE);
    add(lru, "c", 3, 3000, FALSE);
    g_assert_cmpint(number_of(lru, "a"), ==, 1);
    add(lru, "d", 4, 3000, FALSE);
    g_assert_cmpint(number_of(lru, "b"), ==, -1);
    g_assert_cmpint(number_of(lru, "a"), ==, 1);
    g_assert_cmpint(number_of(lru, "c"), ==, 3);
    g_assert_cmpint(number_of(lru, "d"), ==, 4);
    g_assert_cmpuint(lru_bytes(lru), <=, 10000);
    lru_remove(lru, "a");
    lru_remove(lru, "a");
    g_assert_cmpint(number_of(lru, "a"), ==, -1);
    lru_free(lru);
    g_assert_cmpint(live, ==, 0);
}

static void
test_what_is_there_stays_unless_it_is_set(void)
{
    Lru *lru = lru_new(10000, thing_ref, thing_unref);

    add(lru, "a", 1, 100, FALSE);
    add(lru, "a", 2, 100, FALSE);
    g_assert_cmpint(number_of(lru, "a"), ==, 1);
    add(lru, "a", 3, 100, TRUE);
    g_assert_cmpint(number_of(lru, "a"), ==, 3);
    lru_free(lru);
    g_assert_cmpint(live, ==, 0);
}

static void
test_what_is_larger_than_all_is_not_kept(void)
{
    Lru *lru = lru_new(1000, thing_ref, thing_unref);
    Thing *held;

    add(lru, "a", 1, 100, FALSE);
    add(lru, "large", 2, 1001, FALSE);
    g_assert_cmpint(number_of(lru, "large"), ==, -1);
    g_assert_cmpint(number_of(lru, "a"), ==, 1);
    /* Whoever holds a value keeps it, also when it has left. */
    held = lru_find(lru, "a");
    lru_free(lru);
    g_assert_cmpint(held->number, ==, 1);
    thing_unref(held);
    g_assert_cmpint(live, ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/lru/least-used", test_the_least_used_leaves_first);
    g_test_add_func("/lru/stays", test_what_is_there_stays_unless_it_is_set);
    g_test_add_func("/lru/too-large", test_what_is_larger_than_all_is_not_kept);
    return g_test_run();
}
