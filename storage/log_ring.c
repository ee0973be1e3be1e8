#include "storage/log_ring.h"

#include <string.h>

typedef struct {
    LogBell bell;
    gpointer data;
} RegisteredBell;

/* Entries lie in order in @entries from index @first on; what is before has left.  Positions rise,
 * so a place is found by halving. */
struct LogRing {
    GMutex lock;
    LogHead head;
    gint64 floor; /* everything after this position, up to the head, is here */
    GPtrArray *entries;
    guint first;
    gsize bytes, bytes_max;
    GArray *bells;
};

LogRing *
log_ring_new(gsize bytes_max, LogHead head)
{
    LogRing *ring = g_new0(LogRing, 1);
    g_mutex_init(&ring->lock);
    ring->head = head;
    ring->floor = head.position;
    ring->entries = g_ptr_array_new();
    ring->bytes_max = bytes_max;
    ring->bells = g_array_new(FALSE, FALSE, sizeof(RegisteredBell));
    return ring;
}

static gsize
text_size(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

static gsize
entry_size(const LogEntry *entry)
{
    return sizeof *entry + 64 /* allocators' own */ + text_size(entry->room_id) +
           text_size(entry->user_id) + text_size(entry->ref) +
           (entry->state_root != NULL ? g_bytes_get_size(entry->state_root) : 0) +
           (entry->payload != NULL ? g_bytes_get_size(entry->payload) : 0);
}

static void
ring_drop_oldest(LogRing *ring)
{
    LogEntry *oldest = g_ptr_array_index(ring->entries, ring->first);
    ring->floor = oldest->position;
    ring->bytes -= entry_size(oldest);
    ring->entries->pdata[ring->first++] = NULL;
    log_entry_unref(oldest);
}

static void
ring_clear(LogRing *ring, gint64 floor)
{
    while (ring->first < ring->entries->len)
        ring_drop_oldest(ring);
    g_ptr_array_set_size(ring->entries, 0);
    ring->first = 0;
    ring->floor = floor;
}

void
log_ring_free(LogRing *ring)
{
    if (ring == NULL)
        return;
    ring_clear(ring, 0);
    g_ptr_array_unref(ring->entries);
    g_array_unref(ring->bells);
    g_mutex_clear(&ring->lock);
    g_free(ring);
}

LogHead
log_ring_head(LogRing *ring)
{
    LogHead head;
    g_mutex_lock(&ring->lock);
    head = ring->head;
    g_mutex_unlock(&ring->lock);
    return head;
}

/* Index of the first entry with a position above @after. */
static guint
ring_find_after(const LogRing *ring, gint64 after)
{
    guint low = ring->first, high = ring->entries->len;
    while (low < high) {
        guint middle = low + (high - low) / 2;
        const LogEntry *entry = g_ptr_array_index(ring->entries, middle);
        if (entry->position > after)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

gboolean
log_ring_read(LogRing *ring, gint64 after, guint entries_max, GPtrArray **ret_entries)
{
    gboolean held;
    g_mutex_lock(&ring->lock);
    held = after >= ring->floor;
    if (held) {
        guint from = ring_find_after(ring, after);
        guint count = MIN(ring->entries->len - from, entries_max);
        *ret_entries = g_ptr_array_new_full(count, (GDestroyNotify)log_entry_unref);
        for (guint i = 0; i < count; i++)
            g_ptr_array_add(*ret_entries,
                            log_entry_ref(g_ptr_array_index(ring->entries, from + i)));
    }
    g_mutex_unlock(&ring->lock);
    return held;
}

static void
ring_take(LogRing *ring, LogHead head, GPtrArray *entries)
{
    gint64 before = head.position;
    if (entries->len > 0)
        before = ((const LogEntry *)g_ptr_array_index(entries, 0))->position - 1;
    /* Another process wrote in between, or the database is another one now: what we hold has a
     * hole. */
    if (before != ring->head.position || head.epoch != ring->head.epoch)
        ring_clear(ring, before);
    for (guint i = 0; i < entries->len; i++) {
        LogEntry *entry = g_ptr_array_index(entries, i);
        g_ptr_array_add(ring->entries, log_entry_ref(entry));
        ring->bytes += entry_size(entry);
    }
    ring->head = head;
    while (ring->bytes > ring->bytes_max && ring->first < ring->entries->len)
        ring_drop_oldest(ring);
    if (ring->first > 1024 && ring->first > ring->entries->len / 2) {
        g_ptr_array_remove_range(ring->entries, 0, ring->first);
        ring->first = 0;
    }
}

void
log_ring_append(LogRing *ring, LogHead head, GPtrArray *entries)
{
    g_mutex_lock(&ring->lock);
    ring_take(ring, head, entries);
    g_mutex_unlock(&ring->lock);
    for (guint i = 0; i < ring->bells->len; i++) {
        const RegisteredBell *registered = &g_array_index(ring->bells, RegisteredBell, i);
        registered->bell(entries, registered->data);
    }
}

void
log_ring_add_bell(LogRing *ring, LogBell bell, gpointer data)
{
    RegisteredBell registered = {bell, data};
    g_mutex_lock(&ring->lock);
    g_array_append_val(ring->bells, registered);
    g_mutex_unlock(&ring->lock);
}
