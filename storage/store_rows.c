#include "storage/connection.h"

struct StoreRows {
    PGresult *result;
};

StoreRows *
store_rows_new(PGresult *result)
{
    StoreRows *rows = g_new0(StoreRows, 1);

    rows->result = result;
    return rows;
}

void
store_rows_free(StoreRows *rows)
{
    if (rows == NULL)
        return;
    PQclear(rows->result);
    g_free(rows);
}

guint
store_rows_count(const StoreRows *rows)
{
    return (guint)PQntuples(rows->result);
}

guint64
store_rows_affected(const StoreRows *rows)
{
    return g_ascii_strtoull(PQcmdTuples(rows->result), NULL, 10);
}

gboolean
store_rows_is_null(const StoreRows *rows, guint row, guint column)
{
    return PQgetisnull(rows->result, (int)row, (int)column) != 0;
}

const void *
store_rows_data(const StoreRows *rows, guint row, guint column, gsize *ret_length)
{
    if (store_rows_is_null(rows, row, column)) {
        *ret_length = 0;
        return NULL;
    }
    *ret_length = (gsize)PQgetlength(rows->result, (int)row, (int)column);
    return PQgetvalue(rows->result, (int)row, (int)column);
}

const char *
store_rows_text(const StoreRows *rows, guint row, guint column)
{
    gsize length;
    return store_rows_data(rows, row, column,
                           &length); /* libpq ends every value with a zero byte */
}

gint64
store_rows_integer(const StoreRows *rows, guint row, guint column)
{
    gsize length;
    const guint8 *data = store_rows_data(rows, row, column, &length);
    guint64 value = 0;
    if (data == NULL)
        return 0;
    for (gsize i = 0; i < length; i++)
        value = value << 8 | data[i];
    if (length == 2)
        return (gint16)value;
    return length == 4 ? (gint32)value : (gint64)value;
}

gboolean
store_rows_boolean(const StoreRows *rows, guint row, guint column)
{
    gsize length;
    const guint8 *data = store_rows_data(rows, row, column, &length);
    return data != NULL && length == 1 && data[0] != 0;
}

GBytes *
store_rows_bytes(const StoreRows *rows, guint row, guint column)
{
    gsize length;
    const void *data = store_rows_data(rows, row, column, &length);
    return data != NULL ? g_bytes_new(data, length) : NULL;
}

GPtrArray *
store_rows_text_column(const StoreRows *rows, guint column)
{
    guint count = store_rows_count(rows);
    GPtrArray *texts = g_ptr_array_new_full(count, g_free);
    for (guint row = 0; row < count; row++)
        g_ptr_array_add(texts, g_strdup(store_rows_text(rows, row, column)));
    return texts;
}
