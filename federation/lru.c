#include "federation/lru.h"

#include <string.h>

#include "identity/seeded_hash.h"

/* What an entry costs beside its value: the key, the list links, the table's slot. */
#define ENTRY_OVERHEAD_BYTES 160

typedef struct Entry {
    struct Entry *newer;
    struct Entry *older;
    char *key;
    gpointer value;
    gsize bytes;
} Entry;

struct Lru {
    GMutex lock;
    GHashTable *entries; /* key (borrowed from the entry) -> Entry */
    Entry *newest;
    Entry *oldest;
    gsize bytes;
    gsize bytes_max;
    LruRef ref;
    GDestroyNotify unref;
};

Lru *
lru_new(gsize bytes_max, LruRef ref, GDestroyNotify unref)
{
    Lru *lru = g_new0(Lru, 1);

    g_mutex_init(&lru->lock);
    lru->entries = g_hash_table_new(seeded_str_hash, g_str_equal);
    lru->bytes_max = bytes_max;
    lru->ref = ref;
    lru->unref = unref;
    return lru;
}

static void
unlink_entry(Lru *lru, Entry *entry)
{
    if (entry->newer != NULL)
        entry->newer->older = entry->older;
    else
        lru->newest = entry->older;
    if (entry->older != NULL)
        entry->older->newer = entry->newer;
    else
        lru->oldest = entry->newer;
    entry->newer = entry->older = NULL;
}

static void
push_newest(Lru *lru, Entry *entry)
{
    entry->older = lru->newest;
    if (lru->newest != NULL)
        lru->newest->newer = entry;
    else
        lru->oldest = entry;
    lru->newest = entry;
}

static void
drop_entry(Lru *lru, Entry *entry)
{
    unlink_entry(lru, entry);
    g_hash_table_remove(lru->entries, entry->key);
    lru->bytes -= entry->bytes;
    lru->unref(entry->value);
    g_free(entry->key);
    g_free(entry);
}

void
lru_free(Lru *lru)
{
    if (lru == NULL)
        return;
    while (lru->oldest != NULL)
        drop_entry(lru, lru->oldest);
    g_hash_table_unref(lru->entries);
    g_mutex_clear(&lru->lock);
    g_free(lru);
}

gpointer
lru_find(Lru *lru, const char *key)
{
    Entry *entry;
    gpointer value = NULL;

    g_mutex_lock(&lru->lock);
    entry = g_hash_table_lookup(lru->entries, key);
    if (entry != NULL) {
        if (entry != lru->newest) {
            unlink_entry(lru, entry);
            push_newest(lru, entry);
        }
        value = lru->ref(entry->value);
    }
    g_mutex_unlock(&lru->lock);
    return value;
}

static void
add_locked(Lru *lru, const char *key, gpointer value, gsize bytes)
{
    Entry *entry;

    bytes += strlen(key) + ENTRY_OVERHEAD_BYTES;
    if (bytes > lru->bytes_max)
        return;
    while (lru->bytes + bytes > lru->bytes_max)
        drop_entry(lru, lru->oldest);
    entry = g_new0(Entry, 1);
    entry->key = g_strdup(key);
    entry->value = lru->ref(value);
    entry->bytes = bytes;
    g_hash_table_insert(lru->entries, entry->key, entry);
    push_newest(lru, entry);
    lru->bytes += bytes;
}

void
lru_add(Lru *lru, const char *key, gpointer value, gsize bytes)
{
    g_mutex_lock(&lru->lock);
    if (!g_hash_table_contains(lru->entries, key))
        add_locked(lru, key, value, bytes);
    g_mutex_unlock(&lru->lock);
}

void
lru_set(Lru *lru, const char *key, gpointer value, gsize bytes)
{
    Entry *entry;

    g_mutex_lock(&lru->lock);
    entry = g_hash_table_lookup(lru->entries, key);
    if (entry != NULL)
        drop_entry(lru, entry);
    add_locked(lru, key, value, bytes);
    g_mutex_unlock(&lru->lock);
}

void
lru_remove(Lru *lru, const char *key)
{
    Entry *entry;

    g_mutex_lock(&lru->lock);
    entry = g_hash_table_lookup(lru->entries, key);
    if (entry != NULL)
        drop_entry(lru, entry);
    g_mutex_unlock(&lru->lock);
}

gsize
lru_bytes(Lru *lru)
{
    gsize bytes;

    g_mutex_lock(&lru->lock);
    bytes = lru->bytes;
    g_mutex_unlock(&lru->lock);
    return bytes;
}
