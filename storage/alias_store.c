#include "storage/alias_store.h"

enum {
    ALIAS_INSERT,
    ALIAS_REMOVE,
    ALIAS_MOVE,
    ALIAS_FIND,
    ALIAS_OF_ROOM,
    PUBLISHED_SET,
    PUBLISHED_REMOVE,
    PUBLISHED_FIND,
    PUBLISHED_LIST,
    N_STATEMENTS,
};

const StoreStatement alias_statements[] = {
    [ALIAS_INSERT] = {"alias_insert", "INSERT INTO room_alias (alias, room_id, creator, created_ms)"
                                      " VALUES ($1, $2, $3, $4)"},
    [ALIAS_REMOVE] = {"alias_remove", "DELETE FROM room_alias WHERE alias = $1"},
    [ALIAS_MOVE] = {"alias_move",
                    "UPDATE room_alias SET room_id = $3 WHERE alias = $1 AND room_id = $2"},
    [ALIAS_FIND] = {"alias_find", "SELECT room_id, creator FROM room_alias WHERE alias = $1"},
    [ALIAS_OF_ROOM] = {"alias_of_room",
                       "SELECT alias FROM room_alias WHERE room_id = $1 ORDER BY alias"},
    [PUBLISHED_SET] = {"alias_publish",
                       "INSERT INTO room_published (room_id, published_ms) VALUES ($1, $2)"
                       " ON CONFLICT DO NOTHING"},
    [PUBLISHED_REMOVE] = {"alias_unpublish", "DELETE FROM room_published WHERE room_id = $1"},
    [PUBLISHED_FIND] = {"alias_is_published", "SELECT 1 FROM room_published WHERE room_id = $1"},
    [PUBLISHED_LIST] = {"alias_published",
                        "SELECT room_id FROM room_published ORDER BY room_id LIMIT $1"},
};
const guint alias_statement_count = N_STATEMENTS;

void
stored_alias_free(StoredAlias *alias)
{
    if (alias == NULL)
        return;
    g_free(alias->alias);
    g_free(alias->room_id);
    g_free(alias->creator);
    g_free(alias);
}

void
alias_store_insert(LaneBatch *batch, const char *alias, const char *room_id, const char *creator,
                   gint64 created_ms)
{
    lane_batch_add(batch, &alias_statements[ALIAS_INSERT],
                   store_arguments("ttti", alias, room_id, creator, created_ms));
}

void
alias_store_remove(LaneBatch *batch, const char *alias)
{
    lane_batch_add(batch, &alias_statements[ALIAS_REMOVE], store_arguments("t", alias));
}

void
alias_store_move(LaneBatch *batch, const char *alias, const char *from_room_id,
                 const char *to_room_id)
{
    lane_batch_add(batch, &alias_statements[ALIAS_MOVE],
                   store_arguments("ttt", alias, from_room_id, to_room_id));
}

gboolean
alias_store_find(StoreConnection *connection, const char *alias, StoredAlias **ret_alias,
                 GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &alias_statements[ALIAS_FIND], store_arguments("t", alias), error);

    if (rows == NULL)
        return FALSE;
    *ret_alias = NULL;
    if (store_rows_count(rows) > 0) {
        *ret_alias = g_new0(StoredAlias, 1);
        (*ret_alias)->alias = g_strdup(alias);
        (*ret_alias)->room_id = g_strdup(store_rows_text(rows, 0, 0));
        (*ret_alias)->creator = g_strdup(store_rows_text(rows, 0, 1));
    }
    return TRUE;
}

static GPtrArray *
texts(StoreConnection *connection, guint statement, StoreArguments *arguments, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &alias_statements[statement], arguments, error);
    GPtrArray *values;

    if (rows == NULL)
        return NULL;
    values = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < store_rows_count(rows); i++)
        g_ptr_array_add(values, g_strdup(store_rows_text(rows, i, 0)));
    return values;
}

GPtrArray *
alias_store_of_room(StoreConnection *connection, const char *room_id, GError **error)
{
    return texts(connection, ALIAS_OF_ROOM, store_arguments("t", room_id), error);
}

void
alias_store_publish(LaneBatch *batch, const char *room_id, gint64 published_ms)
{
    lane_batch_add(batch, &alias_statements[PUBLISHED_SET],
                   store_arguments("ti", room_id, published_ms));
}

void
alias_store_unpublish(LaneBatch *batch, const char *room_id)
{
    lane_batch_add(batch, &alias_statements[PUBLISHED_REMOVE], store_arguments("t", room_id));
}

gboolean
alias_store_is_published(StoreConnection *connection, const char *room_id, gboolean *ret_is,
                         GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &alias_statements[PUBLISHED_FIND],
                                          store_arguments("t", room_id), error);

    if (rows == NULL)
        return FALSE;
    *ret_is = store_rows_count(rows) > 0;
    return TRUE;
}

GPtrArray *
alias_store_published(StoreConnection *connection, guint rooms_max, GError **error)
{
    return texts(connection, PUBLISHED_LIST, store_arguments("i", (gint64)rooms_max), error);
}
