/* The ring: what it holds, what it has let go, and its bound. */
#include "storage/log_ring.h"

#include <string.h>

static GPtrArray *
entries_new(gint64 first, guint count, gsize payload_bytes)
{
    GPtrArray *entries = g_ptr_array_new_with_free_func((GDestroyNotify)log_entry_unref);
    for (guint i = 0; i < count; i++) {
        LogEntry *entry = log_entry_new(LOG_EVENT, "!room", NULL, "$event");
        entry->position = first + i;
        if (payload_bytes > 0)
            entry->payload = g_bytes_new_take(g_malloc0(payload_bytes), payload_bytes);
        g_ptr_array_add(entries, entry);
    }
    return entries;
}

static void
append(LogRing *ring, gint64 epoch, gint64 first, guint count, gsize payload_bytes)
{
    g_autoptr(GPtrArray) entries = entries_new(first, count, payload_bytes);
    LogHead head = {epoch, first + count - 1};
    log_ring_append(ring, head, entries);
}

static gint64
position_at(GPtrArray *entries, guint index)
{
    return ((LogEntry *)g_ptr_array_index(entries, index))->position;
}

static void
test_reads_what_came_after(void)
{
    LogRing *ring = log_ring_new(1 << 20, (LogHead){1, 10});
    g_autoptr(GPtrArray) entries = NULL;

    g_assert_true(log_ring_read(ring, 10, 5, &entries));
    g_assert_cmpuint(entries->len, ==, 0);
    g_clear_pointer(&entries, g_ptr_array_unref);
    g_assert_false(log_ring_read(ring, 9, 5, &entries)); /* from before its time */
    append(ring, 1, 11, 4, 0);
    g_assert_true(log_ring_read(ring, 12, 1, &entries));
    g_assert_cmpuint(entries->len, ==, 1);
    g_assert_cmpint(position_at(entries, 0), ==, 13);
    g_clear_pointer(&entries, g_ptr_array_unref);
    g_assert_true(log_ring_read(ring, 10, 100, &entries));
    g_assert_cmpuint(entries->len, ==, 4);
    g_clear_pointer(&entries, g_ptr_array_unref);
    g_assert_true(log_ring_read(ring, 99, 100, &entries));
    g_assert_cmpuint(entries->len, ==, 0);
    g_assert_cmpint(log_ring_head(ring).position, ==, 14);
    log_ring_free(ring);
}

static void
test_is_bounded_in_bytes(void)
{
    LogRing *ring = log_ring_new(64 * 1024, (LogHead){1, 0});
    gint64 floor = 0;
    for (guint i = 0; i < 5000; i++) {
        g_autoptr(GPtrArray) entries = NULL;
        append(ring, 1, 1 + i, 1, 1000);
        while (!log_ring_read(ring, floor, 1, &entries))
            floor++;
        /* what is left is at most what fits, and is all there */
        g_assert_cmpint(i + 1 - floor, <=, 64);
        if (i > 100)
            g_assert_cmpint(i + 1 - floor, >=, 40);
    }
    /* one entry that is larger than the ring leaves at once */
    append(ring, 1, 5001, 1, 70 * 1024);
    {
        g_autoptr(GPtrArray) entries = NULL;
        g_assert_false(log_ring_read(ring, 5000, 1, &entries));
        g_assert_true(log_ring_read(ring, 5001, 1, &entries));
    }
    log_ring_free(ring);
}

static void
test_hole_empties_it(void)
{
    LogRing *ring = log_ring_new(1 << 20, (LogHead){1, 0});
    g_autoptr(GPtrArray) entries = NULL;
    append(ring, 1, 1, 3, 0);
    append(ring, 1, 8, 2, 0); /* 4 to 7 were written by another process */
    g_assert_false(log_ring_read(ring, 3, 10, &entries));
    g_assert_false(log_ring_read(ring, 6, 10, &entries));
    g_assert_true(log_ring_read(ring, 7, 10, &entries));
    g_assert_cmpuint(entries->len, ==, 2);
    g_clear_pointer(&entries, g_ptr_array_unref);
    append(ring, 2, 10, 1, 0); /* another epoch: nothing of before counts */
    g_assert_false(log_ring_read(ring, 8, 10, &entries));
    g_assert_true(log_ring_read(ring, 9, 10, &entries));
    log_ring_free(ring);
}

static void
count_bell(GPtrArray *entries, gpointer data)
{
    *(guint *)data += entries->len;
}

static void
test_bells_ring_with_the_new_entries(void)
{
    LogRing *ring = log_ring_new(1 << 20, (LogHead){1, 0});
    guint first = 0, second = 0;
    log_ring_add_bell(ring, count_bell, &first);
    append(ring, 1, 1, 3, 0);
    log_ring_add_bell(ring, count_bell, &second);
    append(ring, 1, 4, 2, 0);
    append(ring, 1, 6, 0, 0); /* a batch of rows alone */
    g_assert_cmpuint(first, ==, 5);
    g_assert_cmpuint(second, ==, 2);
    log_ring_free(ring);
}

typedef struct {
    LogRing *ring;
    gint stop; /* atomic */
} Reading;

static gpointer
reader_thread(gpointer data)
{
    Reading *reading = data;
    gint64 after = 0;
    while (g_atomic_int_get(&reading->stop) == 0) {
        g_autoptr(GPtrArray) entries = NULL;
        if (!log_ring_read(reading->ring, after, 16, &entries)) {
            after = log_ring_head(reading->ring).position;
            continue;
        }
        for (guint i = 0; i < entries->len; i++)
            g_assert_cmpint(position_at(entries, i), ==, ++after);
    }
    return NULL;
}

static void
test_readers_see_every_entry_in_order_while_it_turns(void)
{
    Reading reading = {log_ring_new(32 * 1024, (LogHead){1, 0}), 0};
    GThread *threads[3];
    for (guint i = 0; i < 3; i++)
        threads[i] = g_thread_new("reader", reader_thread, &reading);
    for (guint i = 0; i < 20000; i += 4)
        append(reading.ring, 1, 1 + i, 4, 200);
    g_atomic_int_set(&reading.stop, 1);
    for (guint i = 0; i < 3; i++)
        g_thread_join(threads[i]);
    log_ring_free(reading.ring);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/log-ring/reads", test_reads_what_came_after);
    g_test_add_func("/log-ring/bound", test_is_bounded_in_bytes);
    g_test_add_func("/log-ring/hole", test_hole_empties_it);
    g_test_add_func("/log-ring/bells", test_bells_ring_with_the_new_entries);
    g_test_add_func("/log-ring/threads", test_readers_see_every_entry_in_order_while_it_turns);
    return g_test_run();
}
