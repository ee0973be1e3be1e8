/* federation/lru.h: a bounded cache of immutable shared values (events, nodes of room state).
 *
 * What is immutable never needs invalidation; the bound is in bytes as the caller counts them, and
 * the least recently used leave first.  For federation/.  Thread-safe. */
#pragma once

#include <glib.h>

typedef struct Lru Lru;

typedef gpointer (*LruRef)(gpointer value);

Lru *lru_new(gsize bytes_max, LruRef ref, GDestroyNotify unref);
void lru_free(Lru *lru);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Lru, lru_free)

/* A new reference, or NULL. */
gpointer lru_find(Lru *lru, const char *key);
/* Keeps a reference of its own.  A key that is there already keeps its value. */
void lru_add(Lru *lru, const char *key, gpointer value, gsize bytes);
/* Puts @value in the place of what is there. */
void lru_set(Lru *lru, const char *key, gpointer value, gsize bytes);
void lru_remove(Lru *lru, const char *key);
gsize lru_bytes(Lru *lru);
