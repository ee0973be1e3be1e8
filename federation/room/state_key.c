#include "federation/room/state_key.h"

#include <string.h>

#include "identity/seeded_hash.h"

StateKey *
state_key_new(const char *type, const char *state_key)
{
    gsize type_size = strlen(type) + 1;
    gsize key_size = strlen(state_key) + 1;
    StateKey *key = g_malloc(sizeof *key + type_size + key_size);
    char *text = (char *)(key + 1);
    memcpy(text, type, type_size);
    memcpy(text + type_size, state_key, key_size);
    key->type = text;
    key->state_key = text + type_size;
    return key;
}

int
state_key_compare(const StateKey *a, const StateKey *b)
{
    int order = strcmp(a->type, b->type);
    return order != 0 ? order : strcmp(a->state_key, b->state_key);
}

guint
state_key_hash(gconstpointer key)
{
    const StateKey *k = key;
    /* A rotation, so that (a, b) and (b, a) differ. */
    guint type_hash = seeded_str_hash(k->type);
    return (type_hash << 7 | type_hash >> 25) ^ seeded_str_hash(k->state_key);
}

gboolean
state_key_equal(gconstpointer a, gconstpointer b)
{
    return state_key_compare(a, b) == 0;
}

GHashTable *
state_map_new(void)
{
    return g_hash_table_new_full(state_key_hash, state_key_equal, g_free, g_free);
}

void
state_map_set(GHashTable *map, const char *type, const char *state_key, const char *event_id)
{
    g_hash_table_replace(map, state_key_new(type, state_key), g_strdup(event_id));
}

const char *
state_map_get(GHashTable *map, const char *type, const char *state_key)
{
    StateKey key = {type, state_key};
    return g_hash_table_lookup(map, &key);
}

gboolean
state_map_remove(GHashTable *map, const char *type, const char *state_key)
{
    StateKey key = {type, state_key};
    return g_hash_table_remove(map, &key);
}
