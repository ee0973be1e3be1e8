/* storage/store_arguments.c: the values of a statement, in PostgreSQL's binary form. */
#include <stdarg.h>
#include <string.h>

#include "storage/connection.h"

StoreArguments *
store_arguments_new(void)
{
    StoreArguments *arguments = g_new0(StoreArguments, 1);
    /* An event's row, nearly: what is smaller is short-lived too. */
    arguments->bytes = g_byte_array_sized_new(1024);
    arguments->values = g_array_sized_new(FALSE, FALSE, sizeof(StoreValue), 20);
    return arguments;
}

void
store_arguments_free(StoreArguments *arguments)
{
    if (arguments == NULL)
        return;
    g_byte_array_unref(arguments->bytes);
    g_array_unref(arguments->values);
    g_free(arguments);
}

gsize
store_arguments_size(const StoreArguments *arguments)
{
    return arguments != NULL ? arguments->bytes->len : 0;
}

gboolean
store_arguments_malformed(const StoreArguments *arguments)
{
    return arguments != NULL && arguments->malformed;
}

static void
arguments_append_raw(StoreArguments *arguments, Oid type, const void *data, gsize length)
{
    StoreValue value = {type, data == NULL, arguments->bytes->len, length};
    if (data != NULL) {
        /* One byte more, so that even the last value is followed by something readable. */
        g_assert(length < G_MAXINT32 - 1 - arguments->bytes->len);
        g_byte_array_append(arguments->bytes, data, (guint)length);
        g_byte_array_append(arguments->bytes, (const guint8 *)"", 1);
    }
    g_array_append_val(arguments->values, value);
}

static gboolean
text_is_storable(const char *value)
{
    return g_utf8_validate(value, -1, NULL);
}

void
store_arguments_text(StoreArguments *arguments, const char *value)
{
    if (value != NULL && !text_is_storable(value))
        arguments->malformed = TRUE;
    arguments_append_raw(arguments, TYPE_TEXT, value, value != NULL ? strlen(value) : 0);
}

void
store_arguments_integer(StoreArguments *arguments, gint64 value)
{
    gint64 network = GINT64_TO_BE(value);
    arguments_append_raw(arguments, TYPE_INTEGER8, &network, sizeof network);
}

void
store_arguments_boolean(StoreArguments *arguments, gboolean value)
{
    guint8 byte = value ? 1 : 0;
    arguments_append_raw(arguments, TYPE_BOOLEAN, &byte, 1);
}

void
store_arguments_data(StoreArguments *arguments, const void *data, gsize length)
{
    arguments_append_raw(arguments, TYPE_BYTES, data != NULL ? data : "", length);
}

void
store_arguments_bytes(StoreArguments *arguments, GBytes *value)
{
    gsize length = 0;
    const void *data;
    if (value == NULL) {
        arguments_append_raw(arguments, TYPE_BYTES, NULL, 0);
        return;
    }
    data = g_bytes_get_data(value, &length);
    store_arguments_data(arguments, data, length);
}

void
store_arguments_null(StoreArguments *arguments)
{
    arguments_append_raw(arguments, 0, NULL, 0); /* its type follows from the statement */
}

static void
append_integer4(GByteArray *bytes, guint32 value)
{
    guint32 network = GUINT32_TO_BE(value);
    g_byte_array_append(bytes, (const guint8 *)&network, sizeof network);
}

static void
array_append_element(GByteArray *array, const void *data, gsize length)
{
    if (data == NULL) {
        append_integer4(array, (guint32)-1);
        return;
    }
    g_assert(length < G_MAXINT32 - 8 - array->len);
    append_integer4(array, (guint32)length);
    g_byte_array_append(array, data, (guint)length);
}

/* PostgreSQL's array_recv: dimensions, has-nulls, element type, then per dimension size and lower
 * bound. */
static GByteArray *
array_begin(Oid element_type, gsize count, gsize size)
{
    GByteArray *array = g_byte_array_sized_new((guint)MIN(size + 20, G_MAXINT32 / 2));
    g_assert(count < G_MAXINT32 / 8);
    append_integer4(array, count > 0 ? 1 : 0);
    append_integer4(array, 1);
    append_integer4(array, element_type);
    if (count > 0) {
        append_integer4(array, (guint32)count);
        append_integer4(array, 1);
    }
    return array;
}

static void
arguments_append_array(StoreArguments *arguments, Oid type, GByteArray *array)
{
    arguments_append_raw(arguments, type, array->data, array->len);
    g_byte_array_unref(array);
}

void
store_arguments_text_array(StoreArguments *arguments, const char *const *values, gsize count)
{
    GByteArray *array = array_begin(TYPE_TEXT, count, count * 48);
    for (gsize i = 0; i < count; i++) {
        if (values[i] != NULL && !text_is_storable(values[i]))
            arguments->malformed = TRUE;
        array_append_element(array, values[i], values[i] != NULL ? strlen(values[i]) : 0);
    }
    arguments_append_array(arguments, TYPE_TEXT_ARRAY, array);
}

void
store_arguments_integer_array(StoreArguments *arguments, const gint64 *values, gsize count)
{
    GByteArray *array = array_begin(TYPE_INTEGER8, count, count * 12);
    for (gsize i = 0; i < count; i++) {
        gint64 network = GINT64_TO_BE(values[i]);
        array_append_element(array, &network, sizeof network);
    }
    arguments_append_array(arguments, TYPE_INTEGER8_ARRAY, array);
}

void
store_arguments_bytes_array(StoreArguments *arguments, GBytes *const *values, gsize count)
{
    GByteArray *array = array_begin(TYPE_BYTES, count, count * 48);
    for (gsize i = 0; i < count; i++) {
        gsize length = 0;
        const void *data = values[i] != NULL ? g_bytes_get_data(values[i], &length) : NULL;
        if (values[i] != NULL && data == NULL)
            data = "";
        array_append_element(array, data, length);
    }
    arguments_append_array(arguments, TYPE_BYTES_ARRAY, array);
}

GBytes *
store_arguments_key(const StoreArguments *arguments, guint columns)
{
    const StoreValue *last;
    g_assert(columns > 0 && columns <= arguments->values->len);
    /* Texts end with their zero byte, numbers are of one length: no two keys run together. */
    last = &g_array_index(arguments->values, StoreValue, columns - 1);
    return g_bytes_new(arguments->bytes->data, last->offset + last->length);
}

static Oid
array_type_of(Oid type)
{
    switch (type) {
    case TYPE_BOOLEAN:
        return TYPE_BOOLEAN_ARRAY;
    case TYPE_INTEGER8:
        return TYPE_INTEGER8_ARRAY;
    case TYPE_TEXT:
        return TYPE_TEXT_ARRAY;
    case TYPE_BYTES:
        return TYPE_BYTES_ARRAY;
    default:
        g_error("rows cannot hold values of type %u", type); /* our own mistake */
    }
}

StoreArguments *
store_arguments_of_rows(StoreArguments *const *rows, gsize count)
{
    StoreArguments *arguments = store_arguments_new();
    gsize bytes = 0;

    for (gsize i = 0; i < count; i++)
        bytes += rows[i]->bytes->len + rows[i]->values->len * 4;
    g_byte_array_set_size(arguments->bytes, (guint)MIN(bytes, G_MAXINT32 / 2));
    g_byte_array_set_size(arguments->bytes, 0); /* its room is there now */
    for (guint column = 0; column < rows[0]->values->len; column++) {
        Oid type = g_array_index(rows[0]->values, StoreValue, column).type;
        GByteArray *array;
        gsize size = 0;
        for (gsize i = 0; i < count; i++)
            size += g_array_index(rows[i]->values, StoreValue, column).length + 4;
        array = array_begin(type, count, size);
        for (gsize i = 0; i < count; i++) {
            const StoreValue *value = &g_array_index(rows[i]->values, StoreValue, column);
            g_assert(value->type == type && rows[i]->values->len == rows[0]->values->len);
            array_append_element(
                array, value->is_null ? NULL : rows[i]->bytes->data + value->offset, value->length);
        }
        arguments_append_array(arguments, array_type_of(type), array);
    }
    return arguments;
}

StoreArguments *
store_arguments(const char *types, ...)
{
    StoreArguments *arguments = store_arguments_new();
    va_list list;
    va_start(list, types);
    for (const char *type = types; *type != '\0'; type++) {
        switch (*type) {
        case 't':
            store_arguments_text(arguments, va_arg(list, const char *));
            break;
        case 'i':
            store_arguments_integer(arguments, va_arg(list, gint64));
            break;
        case 'b':
            store_arguments_boolean(arguments, va_arg(list, gboolean));
            break;
        case 'y':
            store_arguments_bytes(arguments, va_arg(list, GBytes *));
            break;
        case '0':
            store_arguments_null(arguments);
            break;
        default:
            g_error("store_arguments: no such type letter: %c", *type);
        }
    }
    va_end(list);
    return arguments;
}
