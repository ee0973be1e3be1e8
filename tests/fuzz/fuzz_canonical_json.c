/* Fuzz target: the bytes grow a tree of any strings, keys and integers.  Its canonical form does
 * not depend on the order of keys, has them in order, and reads back as the same tree; what clients
 * keep with us, fractions and all, comes back as it went in. */
#include <string.h>

#include "federation/room/pdu_members.h"
#include "identity/json.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

#define DEPTH_MAX 8
#define CHILDREN_MAX 16
#define TEXT_MAX 12

typedef struct {
    const guint8 *data;
    gsize size;
} Seed;

static guint8
next_byte(Seed *seed)
{
    if (seed->size == 0)
        return 0;
    seed->size--;
    return *seed->data++;
}

/* Code points around every limit that escapes and UTF-8 have. */
static char *
grow_text(Seed *seed)
{
    static const gunichar odd[] = {0x01,   0x08,   0x09,   0x0A,    0x0B,     0x0C,
                                   0x0D,   0x1F,   0x20,   0x22,    0x2F,     0x5C,
                                   0x7F,   0x80,   0x7FF,  0x800,   0x2028,   0xD7FF,
                                   0xE000, 0xFEFF, 0xFFFF, 0x10000, 0x10FFFF, 0x1F600};
    GString *text = g_string_new(NULL);
    guint count = next_byte(seed) % TEXT_MAX;
    for (guint i = 0; i < count; i++) {
        guint8 byte = next_byte(seed);
        g_string_append_unichar(text,
                                byte >= 0x20 && byte < 0x7F ? byte : odd[byte % G_N_ELEMENTS(odd)]);
    }
    return g_string_free(text, FALSE);
}

static gint64
grow_integer(Seed *seed)
{
    gint64 value = 0;
    guint count = next_byte(seed) % 8;
    for (guint i = 0; i < count; i++)
        value = value << 8 | next_byte(seed);
    return value % 2 == 0 ? value % (JSON_INTEGER_MAX + 1) : -(value % (JSON_INTEGER_MAX + 1));
}

static cJSON *
grow(Seed *seed, guint depth)
{
    guint8 kind = next_byte(seed) % 8;
    guint count = kind < 4 && depth < DEPTH_MAX ? next_byte(seed) % CHILDREN_MAX : 0;
    cJSON *value = kind < 2 ? cJSON_CreateObject() : kind < 4 ? cJSON_CreateArray() : NULL;

    for (guint i = 0; i < count && seed->size > 0; i++) {
        if (kind >= 2) {
            cJSON_AddItemToArray(value, grow(seed, depth + 1));
            continue;
        }
        g_autofree char *key = grow_text(seed);
        if (json_object_get(value, key) == NULL)
            cJSON_AddItemToObject(value, key, grow(seed, depth + 1));
    }
    if (value != NULL)
        return value;
    if (kind == 4)
        return cJSON_CreateNumber((double)grow_integer(seed));
    if (kind == 5)
        return next_byte(seed) % 3 == 0 ? cJSON_CreateNull()
                                        : cJSON_CreateBool(seed->size % 2 == 0);
    g_autofree char *text = grow_text(seed);
    return cJSON_CreateString(text);
}

/* The same tree, the members of all its objects in the other order. */
static cJSON *
turned(const cJSON *value)
{
    cJSON *copy = cJSON_IsObject(value)  ? cJSON_CreateObject()
                  : cJSON_IsArray(value) ? cJSON_CreateArray()
                                         : cJSON_Duplicate(value, TRUE);
    if (cJSON_IsObject(value) || cJSON_IsArray(value))
        for (const cJSON *child = value->child; child != NULL; child = child->next) {
            if (cJSON_IsArray(value)) {
                cJSON_AddItemToArray(copy, turned(child));
                continue;
            }
            cJSON *other = turned(child);
            cJSON_free(other->string);
            other->string = cJSON_malloc(strlen(child->string) + 1);
            strcpy(other->string, child->string);
            cJSON_InsertItemInArray(copy, 0, other);
        }
    return copy;
}

static void
check_members(const char *bytes, gsize length)
{
    g_autoptr(GArray) members = pdu_members(bytes, length);
    g_autofree char *before = NULL;
    g_assert_nonnull(members);
    for (guint i = 0; i < members->len; i++) {
        const PduMember *member = &g_array_index(members, PduMember, i);
        g_autofree char *quoted =
            g_strdup_printf("[\"%.*s\"]", (int)member->key_length, member->key);
        g_autoptr(cJSON) list = json_parse(quoted, strlen(quoted), &json_limits_transaction, NULL);
        g_assert_nonnull(list);
        const char *key = list->child->valuestring;
        g_assert_true(before == NULL || strcmp(before, key) < 0);
        g_assert_true(pdu_member_find(members, key) == member ||
                      strpbrk(key, "\"\\\b\f\n\r\t") != NULL || strlen(key) != member->key_length);
        g_free(before);
        before = g_strdup(key);
    }
}

static void
check_canonical(const cJSON *tree)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) once = json_canonical(tree, &error);
    g_assert_no_error(error);
    gsize length = 0;
    const char *bytes = g_bytes_get_data(once, &length);
    g_autoptr(cJSON) again = json_parse(bytes, length, &json_limits_transaction, &error);
    g_assert_no_error(error);
    g_assert_true(cJSON_Compare(tree, again, TRUE));
    g_autoptr(cJSON) other = turned(tree);
    g_autoptr(GBytes) twice = json_canonical(other, &error);
    g_assert_no_error(error);
    g_assert_true(g_bytes_equal(once, twice));
    if (cJSON_IsObject(tree))
        check_members(bytes, length);
}

static void
check_plain(const char *text, gsize length)
{
    g_autoptr(cJSON) tree = json_parse(text, length, &json_limits_request, NULL);
    g_autoptr(GString) once = g_string_new(NULL);
    g_autoptr(GString) twice = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    if (tree == NULL || !json_plain_append(once, tree, NULL))
        return;
    g_autoptr(cJSON) again = json_parse(once->str, once->len, &json_limits_request, &error);
    g_assert_no_error(error);
    g_assert_true(json_plain_append(twice, again, &error));
    g_assert_cmpstr(once->str, ==, twice->str);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    Seed seed = {data, size};
    g_autoptr(cJSON) tree = grow(&seed, 0);
    check_canonical(tree);
    check_plain((const char *)data, size);
    return 0;
}
