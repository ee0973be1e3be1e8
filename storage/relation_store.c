#include "storage/relation_store.h"

enum {
    RELATION_INSERT,
    RELATION_BACKWARDS,
    RELATION_FORWARDS,
    RELATION_THREADS,
    RELATION_OWN_THREADS,
    RELATION_THREADS_OF,
    RELATION_EDITS_OF,
    N_STATEMENTS,
};

#define PLACED                                                                                     \
    " FROM event_relation r JOIN log l"                                                            \
    " ON l.kind = 1 AND l.ref = r.event_id AND l.room_id = r.room_id"
#define CHILDREN                                                                                   \
    "SELECT r.parent_id, r.event_id, r.sender, l.position, 0::bigint, false" PLACED                \
    " WHERE r.room_id = $1 AND r.parent_id = $2 AND ($3 = '' OR r.rel_type = $3)"                  \
    " AND ($4 = '' OR r.type = $4)"
#define THREADS                                                                                    \
    "SELECT DISTINCT ON (r.parent_id) r.parent_id, r.event_id, r.sender, l.position,"              \
    " count(*) OVER (PARTITION BY r.parent_id),"                                                   \
    " bool_or(r.sender = $2) OVER (PARTITION BY r.parent_id)" PLACED                               \
    " WHERE r.room_id = $1 AND r.rel_type = 'm.thread'"
#define NEWEST_FIRST " ORDER BY r.parent_id, l.position DESC"

const StoreStatement relation_statements[] = {
    [RELATION_INSERT] = {"relation_insert",
                         "INSERT INTO event_relation"
                         " (room_id, parent_id, event_id, rel_type, type, sender)"
                         " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"},
    [RELATION_BACKWARDS] = {"relation_backwards",
                            CHILDREN " AND l.position < $5 ORDER BY l.position DESC LIMIT $6"},
    [RELATION_FORWARDS] = {"relation_forwards",
                           CHILDREN " AND l.position > $5 ORDER BY l.position LIMIT $6"},
    [RELATION_THREADS] = {"relation_threads",
                          "SELECT * FROM (" THREADS NEWEST_FIRST ") AS newest"
                          " WHERE position < $3 ORDER BY position DESC LIMIT $4"},
    [RELATION_OWN_THREADS] = {"relation_own_threads",
                              "SELECT * FROM (" THREADS NEWEST_FIRST ") AS newest"
                              " WHERE position < $3 AND (bool_or OR EXISTS (SELECT 1 FROM event e"
                              " WHERE e.room_id = $1 AND e.event_id = newest.parent_id"
                              " AND e.sender = $2)) ORDER BY position DESC LIMIT $4"},
    [RELATION_THREADS_OF] = {"relation_threads_of",
                             THREADS " AND r.parent_id = ANY($3)" NEWEST_FIRST},
    [RELATION_EDITS_OF] = {"relation_edits_of",
                           "SELECT DISTINCT ON (r.parent_id, r.sender) r.parent_id, r.event_id,"
                           " r.sender, l.position, 0::bigint, false" PLACED
                           " WHERE r.room_id = $1 AND r.rel_type = 'm.replace'"
                           " AND r.parent_id = ANY($2)"
                           " ORDER BY r.parent_id, r.sender, l.position DESC"},
};
const guint relation_statement_count = N_STATEMENTS;

void
relation_store_insert(LaneBatch *batch, const char *room_id, const char *parent_id,
                      const char *event_id, const char *rel_type, const char *type,
                      const char *sender)
{
    lane_batch_add(batch, &relation_statements[RELATION_INSERT],
                   store_arguments("tttttt", room_id, parent_id, event_id, rel_type, type, sender));
}

static void
stored_relation_free(gpointer data)
{
    StoredRelation *relation = data;

    g_free(relation->parent_id);
    g_free(relation->event_id);
    g_free(relation->sender);
    g_free(relation);
}

static GPtrArray *
run(StoreConnection *connection, guint statement, StoreArguments *arguments, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &relation_statements[statement], arguments, error);
    GPtrArray *relations;

    if (rows == NULL)
        return NULL;
    relations = g_ptr_array_new_with_free_func(stored_relation_free);
    for (guint i = 0; i < store_rows_count(rows); i++) {
        StoredRelation *relation = g_new0(StoredRelation, 1);

        relation->parent_id = g_strdup(store_rows_text(rows, i, 0));
        relation->event_id = g_strdup(store_rows_text(rows, i, 1));
        relation->sender = g_strdup(store_rows_text(rows, i, 2));
        relation->position = store_rows_integer(rows, i, 3);
        relation->count = store_rows_integer(rows, i, 4);
        relation->participated = store_rows_boolean(rows, i, 5);
        g_ptr_array_add(relations, relation);
    }
    return relations;
}

GPtrArray *
relation_store_children(StoreConnection *connection, const char *room_id, const char *parent_id,
                        const char *rel_type, const char *type, gint64 from, gboolean backwards,
                        guint rows_max, GError **error)
{
    return run(
        connection, backwards ? RELATION_BACKWARDS : RELATION_FORWARDS,
        store_arguments("ttttii", room_id, parent_id, rel_type, type, from, (gint64)rows_max),
        error);
}

GPtrArray *
relation_store_threads(StoreConnection *connection, const char *room_id, const char *user_id,
                       gboolean only_own, gint64 from, guint rows_max, GError **error)
{
    return run(connection, only_own ? RELATION_OWN_THREADS : RELATION_THREADS,
               store_arguments("ttii", room_id, user_id, from, (gint64)rows_max), error);
}

GPtrArray *
relation_store_threads_of(StoreConnection *connection, const char *room_id, const char *user_id,
                          const char *const *parent_ids, gsize count, GError **error)
{
    StoreArguments *arguments = store_arguments("tt", room_id, user_id);

    store_arguments_text_array(arguments, parent_ids, count);
    return run(connection, RELATION_THREADS_OF, arguments, error);
}

GPtrArray *
relation_store_edits_of(StoreConnection *connection, const char *room_id,
                        const char *const *parent_ids, gsize count, GError **error)
{
    StoreArguments *arguments = store_arguments("t", room_id);

    store_arguments_text_array(arguments, parent_ids, count);
    return run(connection, RELATION_EDITS_OF, arguments, error);
}
