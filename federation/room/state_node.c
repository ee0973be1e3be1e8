#include "federation/room/state_node.h"

#include <string.h>

#include "federation/room/identifier.h"
#include "identity/unpadded_base64.h"

#define KIND_LEAF 1
#define KIND_INNER 2
#define KIND_LEAF_CHANGE 3
#define KIND_INNER_CHANGE 4
#define STEP_GONE 0
#define STEP_RAW_ID 1
#define STEP_ID 2
#define STEP_NEW 3
#define FLAG_RAW_ID 0x80
#define RAW_ID_BYTES 32
#define RAW_ID_TEXT_BYTES 45 /* "$", 43 characters, and the end */

/* The code of a type is its place here plus one.  Stored: append only, 126 at most. */
static const char *const known_types[] = {
    "m.room.member",
    "m.room.create",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
    "m.room.canonical_alias",
    "m.room.encryption",
    "m.room.third_party_invite",
    "m.room.server_acl",
    "m.room.tombstone",
    "m.room.pinned_events",
    "m.space.child",
    "m.space.parent",
    "m.room.aliases",
    "m.room.related_groups",
    "m.room.policy",
    "m.policy.rule.user",
    "m.policy.rule.room",
    "m.policy.rule.server",
    "m.call.member",
    "org.matrix.msc3401.call.member",
    "im.vector.modular.widgets",
};

int
state_entry_compare(gconstpointer a, gconstpointer b)
{
    const StateEntry *const *left = a, *const *right = b;
    /* The types of two known entries are the same text in one place. */
    int order = (*left)->type == (*right)->type ? 0 : strcmp((*left)->type, (*right)->type);
    return order != 0 ? order : strcmp((*left)->state_key, (*right)->state_key);
}

/* ---- writing ---- */

static void
put_number(GByteArray *out, guint64 number)
{
    guint8 byte;
    do {
        byte = (guint8)(number & 0x7F) | (number > 0x7F ? 0x80 : 0);
        g_byte_array_append(out, &byte, 1);
        number >>= 7;
    } while (number > 0);
}

static void
put_text(GByteArray *out, const char *text)
{
    gsize length = strlen(text);
    put_number(out, length);
    g_byte_array_append(out, (const guint8 *)text, (guint)length);
}

static guint8
code_of_type(const char *type)
{
    for (guint8 i = 0; i < G_N_ELEMENTS(known_types); i++)
        if (strcmp(known_types[i], type) == 0)
            return i + 1;
    return 0;
}

/* Whether @event_id is 32 raw bytes in disguise. */
static gboolean
raw_event_id(const char *event_id, guint8 ret_raw[RAW_ID_BYTES])
{
    return identifier_is_hash(event_id, '$') &&
           unpadded_base64_decode_exact(event_id + 1, BASE64_URL_SAFE, ret_raw, RAW_ID_BYTES);
}

static void
put_entry(GByteArray *out, const StateEntry *entry)
{
    guint8 raw[RAW_ID_BYTES];
    guint8 code = code_of_type(entry->type);
    gboolean is_raw = raw_event_id(entry->event_id, raw);
    guint8 flags = code | (is_raw ? FLAG_RAW_ID : 0);

    g_byte_array_append(out, &flags, 1);
    if (code == 0)
        put_text(out, entry->type);
    put_text(out, entry->state_key);
    if (is_raw)
        g_byte_array_append(out, raw, sizeof raw);
    else
        put_text(out, entry->event_id);
}

GBytes *
state_node_leaf(const GPtrArray *entries)
{
    GByteArray *out = g_byte_array_sized_new(64 * (entries->len + 1));
    guint8 kind = KIND_LEAF;
    g_byte_array_append(out, &kind, 1);
    put_number(out, entries->len);
    for (guint i = 0; i < entries->len; i++)
        put_entry(out, entries->pdata[i]);
    return g_byte_array_free_to_bytes(out);
}

GBytes *
state_node_inner(guint64 count, const StateNodeId children[STATE_FAN_OUT])
{
    GByteArray *out = g_byte_array_sized_new(16 + STATE_FAN_OUT * STATE_NODE_ID_BYTES);
    guint8 kind = KIND_INNER, map[2] = {0, 0};

    for (guint i = 0; i < STATE_FAN_OUT; i++)
        if (!state_node_id_equal(&children[i], &state_node_empty))
            map[i / 8] |= (guint8)(1u << i % 8);
    g_byte_array_append(out, &kind, 1);
    put_number(out, count);
    g_byte_array_append(out, map, sizeof map);
    for (guint i = 0; i < STATE_FAN_OUT; i++)
        if (!state_node_id_equal(&children[i], &state_node_empty))
            g_byte_array_append(out, children[i].bytes, STATE_NODE_ID_BYTES);
    return g_byte_array_free_to_bytes(out);
}

static void
put_step(GByteArray *out, guint place, guint step)
{
    put_number(out, (guint64)place << 2 | step);
}

/* The entry at @place has another event id. */
static void
put_other_id(GByteArray *out, guint place, const char *event_id)
{
    guint8 raw[RAW_ID_BYTES];
    gboolean is_raw = raw_event_id(event_id, raw);

    put_step(out, place, is_raw ? STEP_RAW_ID : STEP_ID);
    if (is_raw)
        g_byte_array_append(out, raw, sizeof raw);
    else
        put_text(out, event_id);
}

GBytes *
state_node_leaf_change(const GPtrArray *older, const GPtrArray *entries)
{
    GByteArray *out = g_byte_array_new();
    guint8 kind = KIND_LEAF_CHANGE;
    guint old = 0, new = 0;

    g_byte_array_append(out, &kind, 1);
    while (old < older->len || new < entries->len) {
        int order = old == older->len ? 1
                    : new == entries->len
                        ? -1
                        : state_entry_compare(&older->pdata[old], &entries->pdata[new]);
        const StateEntry *entry = order >= 0 ? entries->pdata[new] : NULL;
        if (order < 0) {
            put_step(out, old, STEP_GONE);
        } else if (order > 0) {
            put_step(out, old, STEP_NEW);
            put_entry(out, entry);
        } else if (strcmp(((StateEntry *)older->pdata[old])->event_id, entry->event_id) != 0) {
            put_other_id(out, old, entry->event_id);
        }
        old += order <= 0;
        new += order >= 0;
    }
    return g_byte_array_free_to_bytes(out);
}

GBytes *
state_node_inner_change(const StateNodeId older[STATE_FAN_OUT], guint64 count,
                        const StateNodeId children[STATE_FAN_OUT])
{
    GByteArray *out = g_byte_array_new();
    guint8 kind = KIND_INNER_CHANGE, map[2] = {0, 0};

    for (guint i = 0; i < STATE_FAN_OUT; i++)
        if (!state_node_id_equal(&children[i], &older[i]))
            map[i / 8] |= (guint8)(1u << i % 8);
    g_byte_array_append(out, &kind, 1);
    put_number(out, count);
    g_byte_array_append(out, map, sizeof map);
    for (guint i = 0; i < STATE_FAN_OUT; i++)
        if (!state_node_id_equal(&children[i], &older[i]))
            g_byte_array_append(out, children[i].bytes, STATE_NODE_ID_BYTES);
    return g_byte_array_free_to_bytes(out);
}

/* ---- reading: our own bytes, but a disk may have other ideas ---- */

typedef struct {
    const guint8 *bytes;
    gsize length;
    gsize at;
} Reader;

static gboolean
get_number(Reader *reader, guint64 *ret_number)
{
    guint64 number = 0;
    for (guint shift = 0; shift < 63 && reader->at < reader->length; shift += 7) {
        guint8 byte = reader->bytes[reader->at++];
        number |= (guint64)(byte & 0x7F) << shift;
        if ((byte & 0x80) == 0) {
            *ret_number = number;
            return TRUE;
        }
    }
    return FALSE;
}

static const guint8 *
get_bytes(Reader *reader, gsize count)
{
    if (reader->length - reader->at < count)
        return NULL;
    reader->at += count;
    return reader->bytes + reader->at - count;
}

/* @length bytes as text at *@room, which moves on. */
static const char *
put_down(char **room, const guint8 *bytes, gsize length)
{
    char *text = *room;
    memcpy(text, bytes, length);
    text[length] = '\0';
    *room += length + 1;
    return text;
}

static const char *
get_text(Reader *reader, char **room)
{
    guint64 length;
    const guint8 *bytes = get_number(reader, &length) ? get_bytes(reader, length) : NULL;
    return bytes != NULL ? put_down(room, bytes, length) : NULL;
}

static const char *
get_event_id(Reader *reader, gboolean raw, char **room)
{
    if (!raw)
        return get_text(reader, room);
    const guint8 *bytes = get_bytes(reader, RAW_ID_BYTES);
    if (bytes == NULL)
        return NULL;
    char *text = *room;
    text[0] = '$';
    unpadded_base64_encode_to(text + 1, bytes, RAW_ID_BYTES, BASE64_URL_SAFE);
    *room += RAW_ID_TEXT_BYTES;
    return text;
}

/* One entry; its strings go to *@room, which entries_new() has measured. */
static gboolean
get_entry(Reader *reader, StateEntry *entry, char **room)
{
    const guint8 *flags = get_bytes(reader, 1);
    guint code = flags != NULL ? *flags & 0x7F : 0;
    if (flags == NULL || code > G_N_ELEMENTS(known_types))
        return FALSE;
    entry->type = code > 0 ? known_types[code - 1] : get_text(reader, room);
    entry->state_key = entry->type != NULL ? get_text(reader, room) : NULL;
    entry->event_id =
        entry->state_key != NULL ? get_event_id(reader, (*flags & FLAG_RAW_ID) != 0, room) : NULL;
    return entry->event_id != NULL;
}

/* Memory for @count entries out of @length bytes, and for their texts, which begin at *ret_room: a
 * spelt string's length takes at least the byte that its end takes, and a raw id grows. */
static StateEntry *
entries_new(StateNodeView *view, gsize count, gsize length, char **ret_room)
{
    gsize texts = length + count * (RAW_ID_TEXT_BYTES - RAW_ID_BYTES);
    StateEntry *entries = g_malloc0(count * sizeof *entries + texts + 1); /* never nothing */
    g_ptr_array_add(view->memory, entries);
    *ret_room = (char *)(entries + count);
    return entries;
}

static gboolean
read_leaf(Reader *reader, StateNodeView *view)
{
    gsize left = reader->length - reader->at;
    view->is_leaf = TRUE;
    if (view->count > left)
        return FALSE; /* each takes more than a byte */
    char *room;
    StateEntry *entries = entries_new(view, view->count, left, &room);
    for (guint64 i = 0; i < view->count; i++) {
        if (!get_entry(reader, &entries[i], &room))
            return FALSE;
        g_ptr_array_add(view->entries, &entries[i]);
    }
    return TRUE;
}

static gboolean
read_inner(Reader *reader, StateNodeView *view)
{
    const guint8 *map = get_bytes(reader, 2);
    if (map == NULL)
        return FALSE;
    for (guint i = 0; i < STATE_FAN_OUT; i++) {
        if ((map[i / 8] & 1u << i % 8) == 0)
            continue;
        const guint8 *id = get_bytes(reader, STATE_NODE_ID_BYTES);
        if (id == NULL)
            return FALSE;
        memcpy(view->children[i].bytes, id, STATE_NODE_ID_BYTES);
    }
    return TRUE;
}

StateNodeView *
state_node_view_new(GBytes *body)
{
    Reader reader = {.at = 1};
    g_autoptr(StateNodeView) view = g_new0(StateNodeView, 1);

    reader.bytes = g_bytes_get_data(body, &reader.length);
    view->entries = g_ptr_array_new();
    view->memory = g_ptr_array_new_with_free_func(g_free);
    if (reader.length < 2 || !get_number(&reader, &view->count))
        return NULL;
    gboolean good = reader.bytes[0] == KIND_LEAF    ? read_leaf(&reader, view)
                    : reader.bytes[0] == KIND_INNER ? read_inner(&reader, view)
                                                    : FALSE;
    return good && reader.at == reader.length ? g_steal_pointer(&view) : NULL;
}

/* ---- from what is stored to the body ---- */

/* One step of a leaf's change, done to @view @shift places on; new texts go to *@room and the entry
 * to @entry.  FALSE on damage. */
static gboolean
read_step(Reader *reader, StateNodeView *view, gint64 *shift, StateEntry *entry, char **room)
{
    GPtrArray *entries = view->entries;
    guint64 number;
    if (!get_number(reader, &number))
        return FALSE;
    guint step = number & 3;
    gint64 place = (gint64)(number >> 2) + *shift;
    if (place < 0 || place > entries->len || (place == entries->len && step != STEP_NEW))
        return FALSE;
    if (step == STEP_GONE) {
        g_ptr_array_remove_index(entries, (guint)place);
        --*shift;
        return TRUE;
    }
    if (step == STEP_NEW) {
        if (!get_entry(reader, entry, room))
            return FALSE;
        g_ptr_array_insert(entries, (gint)place, entry);
        ++*shift;
        return TRUE;
    }
    *entry = *(const StateEntry *)entries->pdata[place];
    entry->event_id = get_event_id(reader, step == STEP_RAW_ID, room);
    entries->pdata[place] = entry;
    return entry->event_id != NULL;
}

static gboolean
change_leaf(Reader *reader, StateNodeView *view)
{
    gint64 shift = 0;
    gsize left = reader->length - reader->at; /* a step takes at least a byte */
    char *room;
    StateEntry *entries = entries_new(view, left, left, &room);
    for (gsize i = 0; reader->at < reader->length; i++)
        if (!read_step(reader, view, &shift, &entries[i], &room))
            return FALSE;
    view->count = view->entries->len;
    return TRUE;
}

/* @form, which is a change, done to @view. */
static gboolean
change_view(StateNodeView *view, GBytes *form)
{
    Reader reader = {.at = 1};
    reader.bytes = g_bytes_get_data(form, &reader.length);
    if (reader.length < 1)
        return FALSE;
    if (reader.bytes[0] == KIND_LEAF_CHANGE && view->is_leaf)
        return change_leaf(&reader, view);
    return reader.bytes[0] == KIND_INNER_CHANGE && !view->is_leaf &&
           get_number(&reader, &view->count) && read_inner(&reader, view) &&
           reader.at == reader.length;
}

GBytes *
state_node_unfold(GBytes *const *forms, guint count)
{
    if (count == 1)
        return g_bytes_ref(forms[0]);
    g_autoptr(StateNodeView) view = count > 0 ? state_node_view_new(forms[count - 1]) : NULL;
    for (guint i = count - 1; view != NULL && i > 0; i--)
        if (!change_view(view, forms[i - 1]))
            return NULL;
    if (view == NULL)
        return NULL;
    return view->is_leaf ? state_node_leaf(view->entries)
                         : state_node_inner(view->count, view->children);
}

void
state_node_view_free(StateNodeView *view)
{
    if (view == NULL)
        return;
    g_ptr_array_unref(view->entries);
    g_ptr_array_unref(view->memory);
    g_free(view);
}
