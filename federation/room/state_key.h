/* federation/room/state_key.h: the (type, state key) pair under which state is kept, and maps by
 * it. Pure; any thread. */
#pragma once

#include <glib.h>

typedef struct {
    const char *type;
    const char *state_key;
} StateKey;

/* A copy of both strings in one piece of memory: free with g_free. */
StateKey *state_key_new(const char *type, const char *state_key);
int state_key_compare(const StateKey *a, const StateKey *b); /* by bytes: type, then state key */

/* A table StateKey * (owned) -> event id (owned char *), with the seeded hash. */
GHashTable *state_map_new(void);
void state_map_set(GHashTable *map, const char *type, const char *state_key, const char *event_id);
const char *state_map_get(GHashTable *map, const char *type, const char *state_key);
gboolean state_map_remove(GHashTable *map, const char *type, const char *state_key);

/* For tables of one's own. */
guint state_key_hash(gconstpointer key);
gboolean state_key_equal(gconstpointer a, gconstpointer b);
