/* storage/relation_store.h: which event relates to which.  Plain rows; redacted events are still
 * among them. For federation/acceptance.c (writes) and server/client. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

extern const StoreStatement relation_statements[];
extern const guint relation_statement_count;

/* Known already: stays as it is. */
void relation_store_insert(LaneBatch *batch, const char *room_id, const char *parent_id,
                           const char *event_id, const char *rel_type, const char *type,
                           const char *sender);

typedef struct {
    char *parent_id;
    char *event_id;
    char *sender;
    gint64 position;
    gint64 count;          /* of a thread: its events */
    gboolean participated; /* of a thread: the asked-for user wrote in it */
} StoredRelation;

/* What relates to @parent_id, of @rel_type and @type ("": any): below @from, newest first
 * (@backwards), or above it, oldest first.  GPtrArray of StoredRelation, owned. */
GPtrArray *relation_store_children(StoreConnection *connection, const char *room_id,
                                   const char *parent_id, const char *rel_type, const char *type,
                                   gint64 from, gboolean backwards, guint rows_max, GError **error);
/* The newest event of each thread of the room with count and participation of @user_id, those with
 * the newest event below @from first. @only_own: threads in which @user_id wrote, or whose root is
 * theirs. */
GPtrArray *
relation_store_threads(StoreConnection *connection, const char *room_id, const char *user_id,
                       gboolean only_own, gint64 from, guint rows_max, GError **error);
/* The same of those threads alone that begin at @parent_ids. */
GPtrArray *
relation_store_threads_of(StoreConnection *connection, const char *room_id, const char *user_id,
                          const char *const *parent_ids, gsize count, GError **error);
/* The newest edit (m.replace) of each of @parent_ids by each of its editors. */
GPtrArray *relation_store_edits_of(StoreConnection *connection, const char *room_id,
                                   const char *const *parent_ids, gsize count, GError **error);
