#include "federation/room/pdu.h"

#include <sodium.h>
#include <string.h>

#include "federation/room/identifier.h"
#include "federation/room/pdu_members.h"
#include "federation/room/pdu_redact.h"
#include "identity/json.h"
#include "identity/sha256.h"
#include "identity/unpadded_base64.h"

G_DEFINE_QUARK(chancery - pdu - error, pdu_error)

/* What stands behind a Pdu. */
typedef struct {
    Pdu pdu; /* first: a Pdu * is a PduRecord * */
    gatomicrefcount references;
    cJSON *json;
    GArray *members;          /* of the bytes */
    const char **prev_events; /* while it is read */
    const char **auth_events;
    gpointer texts; /* copies of the Pdu's strings and lists */
    gsize memory_size;
} PduRecord;

/* Twice the size of an event: blanks and escapes that its canonical form does not have may pass. */
static const JsonLimits limits_strict = {2 * PDU_BYTES_MAX, 100, PDU_BYTES_MAX, FALSE, FALSE};
static const JsonLimits limits_lax = {2 * PDU_BYTES_MAX, 100, PDU_BYTES_MAX, FALSE, TRUE};

static const JsonLimits *
limits_of(const RoomVersion *version)
{
    return version->canonical_json_strict ? &limits_strict : &limits_lax;
}

static gboolean
fail_format(GError **error, const char *sentence)
{
    g_set_error_literal(error, PDU_ERROR, PDU_ERROR_FORMAT, sentence);
    return FALSE;
}

static gboolean
fail_references(const RoomVersion *version, GError **error)
{
    return fail_format(error, version->reference_pairs
                                  ? "'prev_events' and 'auth_events' must be lists of pairs of an "
                                    "event id and its hashes"
                                  : "'prev_events' and 'auth_events' must be lists of event ids");
}

static gboolean
fail_too_large(GError **error, const char *sentence)
{
    g_set_error_literal(error, PDU_ERROR, PDU_ERROR_TOO_LARGE, sentence);
    return FALSE;
}

Pdu *
pdu_ref(const Pdu *pdu)
{
    PduRecord *record = (PduRecord *)pdu;
    g_atomic_ref_count_inc(&record->references);
    return &record->pdu;
}

void
pdu_unref(Pdu *pdu)
{
    PduRecord *record = (PduRecord *)pdu;
    if (record == NULL || !g_atomic_ref_count_dec(&record->references))
        return;
    cJSON_Delete(record->json);
    if (record->members != NULL)
        g_array_unref(record->members);
    if (record->pdu.bytes != NULL)
        g_bytes_unref(record->pdu.bytes);
    g_free(record->prev_events);
    g_free(record->auth_events);
    g_free(record->texts);
    g_free(record);
}

static GArray *
members_of(const Pdu *pdu)
{
    return ((const PduRecord *)pdu)->members;
}

/* ---- reading ---- */

/* The event id in an entry of prev_events or auth_events; NULL if it has none. */
static const char *
referenced_id(const RoomVersion *version, const cJSON *item)
{
    if (version->reference_pairs) {
        if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 2 ||
            !cJSON_IsObject(item->child->next))
            return NULL;
        item = item->child;
    }
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

/* The event ids of @array, borrowed; FALSE if any entry has none. */
static gboolean
read_ids(const RoomVersion *version, const cJSON *array, const char ***ret_ids, guint *ret_count)
{
    guint count = (guint)cJSON_GetArraySize(array), i = 0;
    g_autofree const char **ids = g_new0(const char *, count + 1);
    const cJSON *item;

    cJSON_ArrayForEach(item, array)
    {
        ids[i] = referenced_id(version, item);
        if (ids[i++] == NULL)
            return FALSE;
    }
    *ret_ids = g_steal_pointer(&ids);
    *ret_count = count;
    return TRUE;
}

/* A whole number of 64 bits: old versions let depths pass that are above 2^53. */
static gboolean
read_integer(const cJSON *json, const char *key, gint64 *ret_value, GError **error)
{
    const char *text = json_number_text(json_object_get(json, key));
    if (text == NULL)
        return json_require_integer(json, key, ret_value, error);
    if (g_ascii_string_to_signed(text, 10, G_MININT64, G_MAXINT64, ret_value, NULL))
        return TRUE;
    g_set_error(error, PDU_ERROR, PDU_ERROR_FORMAT, "'%s' must be an integer of 64 bits", key);
    return FALSE;
}

/* The fields of a Pdu out of its tree. Types are checked; what their values may be is not. */
static gboolean
read_fields(PduRecord *record, GError **error)
{
    Pdu *pdu = &record->pdu;
    const cJSON *json = pdu->json;
    const cJSON *state_key = json_object_get(json, "state_key");

    pdu->type = json_require_string(json, "type", error);
    if (pdu->type == NULL)
        return FALSE;
    pdu->sender = json_require_string(json, "sender", error);
    if (pdu->sender == NULL)
        return FALSE;
    pdu->content = json_require_object(json, "content", error);
    if (pdu->content == NULL ||
        !read_integer(json, "origin_server_ts", &pdu->origin_server_ts, error) ||
        !read_integer(json, "depth", &pdu->depth, error))
        return FALSE;
    if (state_key != NULL && !cJSON_IsString(state_key))
        return fail_format(error, "'state_key' must be a string");
    pdu->state_key = state_key != NULL ? state_key->valuestring : NULL;
    if (!read_ids(pdu->version, json_get_array(json, "prev_events"), &record->prev_events,
                  &pdu->prev_event_count) ||
        !read_ids(pdu->version, json_get_array(json, "auth_events"), &record->auth_events,
                  &pdu->auth_event_count))
        return fail_references(pdu->version, error);
    pdu->prev_events = record->prev_events;
    pdu->auth_events = record->auth_events;
    pdu->room_id = json_get_string(json, "room_id");
    if (pdu->state_key != NULL && strcmp(pdu->type, "m.room.member") == 0)
        pdu->membership = json_get_string(pdu->content, "membership");
    if (strcmp(pdu->type, "m.room.redaction") == 0)
        pdu->redacts =
            json_get_string(pdu->version->redacts_in_content ? pdu->content : json, "redacts");
    return TRUE;
}

static gboolean
check_ids(const char *const *ids, guint count, guint count_max, GError **error)
{
    if (count > count_max)
        return fail_format(error, "at most 20 'prev_events' and 10 'auth_events' are allowed");
    for (guint i = 0; i < count; i++)
        if (ids[i][0] != '$' || strlen(ids[i]) > PDU_FIELD_BYTES_MAX)
            return fail_format(error, "'prev_events' and 'auth_events' must be lists of event ids");
    return TRUE;
}

static gboolean
check_signatures(const cJSON *signatures, GError **error)
{
    const cJSON *server, *signature;
    if (signatures == NULL)
        return fail_format(error, "'signatures' must be an object");
    cJSON_ArrayForEach(server, signatures)
    {
        if (!cJSON_IsObject(server))
            return fail_format(error, "'signatures' must be an object of objects");
        cJSON_ArrayForEach(signature, server) if (!cJSON_IsString(signature)) return fail_format(
            error, "'signatures' must be an object of objects of strings");
    }
    return TRUE;
}

static gboolean
check_room_id(const Pdu *pdu, GError **error)
{
    gboolean is_create = strcmp(pdu->type, "m.room.create") == 0;
    if (pdu->version->room_id_is_create_hash) {
        if (is_create)
            return json_object_get(pdu->json, "room_id") == NULL ||
                   fail_format(error, "a create event has no 'room_id' in this room version "
                                      "(auth rule 1.2)");
        return identifier_is_hash(pdu->room_id, '!') ||
               fail_format(error, "'room_id' must be '!' and the hash of a create event");
    }
    return (identifier_room_id_valid(pdu->room_id) && strchr(pdu->room_id, ':') != NULL) ||
           fail_format(error, "'room_id' must be a room id with a server name");
}

/* Versions 1 and 2: its maker chose it. */
static gboolean
check_event_id(const Pdu *pdu, GError **error)
{
    const char *event_id = json_get_string(pdu->json, "event_id");
    const char *server = identifier_server(event_id);
    if (pdu->version->event_id_format != EVENT_ID_CHOSEN)
        return TRUE;
    if (event_id != NULL && strlen(event_id) > PDU_FIELD_BYTES_MAX)
        return fail_too_large(error, "'event_id' is longer than 255 bytes");
    return (event_id != NULL && event_id[0] == '$' && server != NULL &&
            identifier_server_name_valid(server)) ||
           fail_format(error, "'event_id' must be an event id with a server name");
}

/* What read_fields() has left unasked of an event from outside. */
static gboolean
check_fields(const Pdu *pdu, GError **error)
{
    const RoomVersion *version = pdu->version;
    if (strlen(pdu->type) > PDU_FIELD_BYTES_MAX)
        return fail_too_large(error, "'type' is longer than 255 bytes");
    if (pdu->state_key != NULL && strlen(pdu->state_key) > PDU_FIELD_BYTES_MAX)
        return fail_too_large(error, "'state_key' is longer than 255 bytes");
    if (strlen(pdu->sender) > PDU_FIELD_BYTES_MAX)
        return fail_too_large(error, "'sender' is longer than 255 bytes");
    if (!identifier_user_id_valid(pdu->sender))
        return fail_format(error, "'sender' must be a user id");
    if (pdu->depth < 0 || pdu->depth > version->depth_max)
        return fail_format(error, "'depth' is out of range");
    if (json_get_array(pdu->json, "prev_events") == NULL ||
        json_get_array(pdu->json, "auth_events") == NULL)
        return fail_references(version, error);
    if (json_get_string(json_get_object(pdu->json, "hashes"), "sha256") == NULL)
        return fail_format(error, "'hashes' must be an object with 'sha256'");
    return check_ids(pdu->prev_events, pdu->prev_event_count, PDU_PREV_EVENTS_MAX, error) &&
           check_ids(pdu->auth_events, pdu->auth_event_count, PDU_AUTH_EVENTS_MAX, error) &&
           check_signatures(json_get_object(pdu->json, "signatures"), error) &&
           check_room_id(pdu, error) && check_event_id(pdu, error);
}

static gsize
count_nodes(const cJSON *value)
{
    gsize count = 1; /* depth is bounded by the reader's limit */
    for (const cJSON *child = value->child; child != NULL; child = child->next)
        count += count_nodes(child);
    return count;
}

/* Consumes @json, the tree of the canonical @bytes. */
static PduRecord *
record_new(const RoomVersion *version, GBytes *bytes, cJSON *json)
{
    PduRecord *record = g_new0(PduRecord, 1);
    gsize length = 0;
    const char *text = g_bytes_get_data(bytes, &length);

    g_atomic_ref_count_init(&record->references);
    record->pdu.version = version;
    record->pdu.bytes = g_bytes_ref(bytes);
    record->pdu.json = record->json = json;
    record->members = pdu_members(text, length);
    record->memory_size = sizeof *record + 512 + 2 * length +
                          count_nodes(json) * (sizeof(cJSON) + 2 * sizeof(gpointer));
    return record;
}

static char *
reference_hash(const Pdu *pdu, Base64Alphabet alphabet)
{
    g_autoptr(GString) redacted = g_string_sized_new(1024);
    guint8 hash[SHA256_BYTES];
    pdu_redact_append(redacted, pdu->version, pdu->type, members_of(pdu), pdu->content, FALSE);
    sha256(redacted->str, redacted->len, hash);
    return unpadded_base64_encode(hash, sizeof hash, alphabet);
}

char *
pdu_reference_hash(const Pdu *pdu)
{
    return reference_hash(pdu, BASE64_STANDARD);
}

static char *
event_id_of(const Pdu *pdu)
{
    EventIdFormat format = pdu->version->event_id_format;
    if (format == EVENT_ID_CHOSEN)
        return g_strdup(json_get_string(pdu->json, "event_id"));
    g_autofree char *hash =
        reference_hash(pdu, format == EVENT_ID_HASH ? BASE64_STANDARD : BASE64_URL_SAFE);
    return g_strconcat("$", hash, NULL);
}

static gsize
text_size(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

/* @text (or NULL) copied to *@room, which moves on. */
static const char *
copy_text(char **room, const char *text)
{
    gsize size = text_size(text);
    char *copy = *room;
    if (text == NULL)
        return NULL;
    *room += size;
    return memcpy(copy, text, size);
}

static const char *const *
copy_ids(const char ***list, char **room, const char *const *ids, guint count)
{
    const char **copy = *list;
    for (guint i = 0; i < count; i++)
        copy[i] = copy_text(room, ids[i]);
    copy[count] = NULL;
    *list += count + 1;
    return copy;
}

/* The strings that the rules read of thousands of events, side by side: the tree's own lie all
 * over the memory, and waiting for them was what state resolution mostly did. */
static void
gather_texts(PduRecord *record)
{
    Pdu *pdu = &record->pdu;
    const char **fields[] = {&pdu->type,   &pdu->state_key, &pdu->membership,
                             &pdu->sender, &pdu->room_id,   &pdu->event_id};
    gsize lists = (pdu->auth_event_count + pdu->prev_event_count + 2) * sizeof(char *), size = 0;

    for (guint i = 0; i < G_N_ELEMENTS(fields); i++)
        size += text_size(*fields[i]);
    for (guint i = 0; i < pdu->auth_event_count; i++)
        size += text_size(pdu->auth_events[i]);
    for (guint i = 0; i < pdu->prev_event_count; i++)
        size += text_size(pdu->prev_events[i]);
    record->texts = g_malloc(lists + size);
    record->memory_size += lists + size;
    const char **list = record->texts;
    char *room = (char *)record->texts + lists;
    for (guint i = 0; i < G_N_ELEMENTS(fields); i++)
        *fields[i] = copy_text(&room, *fields[i]);
    pdu->auth_events = copy_ids(&list, &room, pdu->auth_events, pdu->auth_event_count);
    pdu->prev_events = copy_ids(&list, &room, pdu->prev_events, pdu->prev_event_count);
    g_clear_pointer(&record->auth_events, g_free);
    g_clear_pointer(&record->prev_events, g_free);
}

/* The last thing that a Pdu gets. */
static void
set_event_id(PduRecord *record, const char *event_id)
{
    Pdu *pdu = &record->pdu;
    g_autofree char *room_id = NULL;

    pdu->event_id = event_id;
    if (event_id != NULL && pdu->version->room_id_is_create_hash &&
        strcmp(pdu->type, "m.room.create") == 0) {
        room_id = g_strdup(event_id);
        room_id[0] = '!';
        pdu->room_id = room_id;
    }
    gather_texts(record);
}

/* The canonical form of @json without "unsigned"; consumes @json and hands back a tree in that
 * order. */
static cJSON *
canonicalise(const RoomVersion *version, cJSON *json, const char *raw, gsize raw_length,
             GBytes **ret_bytes, GError **error)
{
    static const char *const dropped[] = {"unsigned", NULL};
    g_autoptr(cJSON) tree = json;
    g_autoptr(GBytes) bytes = json_canonical(tree, error);
    if (bytes == NULL)
        return NULL;
    if (g_bytes_get_size(bytes) > PDU_BYTES_MAX) {
        fail_too_large(error, "the event is larger than 65536 bytes");
        return NULL;
    }
    if (json_object_get(tree, "unsigned") != NULL) {
        g_bytes_unref(bytes);
        bytes = json_canonical_without(tree, dropped, error);
        if (bytes == NULL)
            return NULL;
    }
    gsize length = 0;
    const char *text = g_bytes_get_data(bytes, &length);
    if (length != raw_length || memcmp(text, raw, length) != 0) {
        cJSON *sorted = json_parse(text, length, limits_of(version), error);
        if (sorted == NULL)
            return NULL;
        cJSON_Delete(tree);
        tree = sorted;
    }
    *ret_bytes = g_steal_pointer(&bytes);
    return g_steal_pointer(&tree);
}

static cJSON *
parse_event(const RoomVersion *version, const char *bytes, gsize length, GError **error)
{
    cJSON *tree = json_parse(bytes, length, limits_of(version), error);
    if (tree == NULL || cJSON_IsObject(tree))
        return tree;
    cJSON_Delete(tree);
    fail_format(error, "an event is an object");
    return NULL;
}

/* Consumes @tree, that of the canonical @bytes; NULL when it is NULL. */
static Pdu *
check_event(const RoomVersion *version, GBytes *bytes, cJSON *tree, GError **error)
{
    PduRecord *record = tree != NULL ? record_new(version, bytes, tree) : NULL;
    if (record == NULL)
        return NULL;
    if (record->members == NULL || !read_fields(record, error) ||
        !check_fields(&record->pdu, error)) {
        if (error != NULL && *error == NULL)
            fail_format(error, "the event has no canonical form");
        pdu_unref(&record->pdu);
        return NULL;
    }
    g_autofree char *event_id = event_id_of(&record->pdu);
    set_event_id(record, event_id);
    return &record->pdu;
}

Pdu *
pdu_from_json(const RoomVersion *version, const char *bytes, gsize length, GError **error)
{
    g_autoptr(GBytes) canonical = NULL;
    cJSON *tree = parse_event(version, bytes, length, error);
    if (tree != NULL)
        tree = canonicalise(version, tree, bytes, length, &canonical, error);
    return check_event(version, canonical, tree, error);
}

Pdu *
pdu_from_canonical(const RoomVersion *version, GBytes *bytes, GError **error)
{
    gsize length = 0;
    const char *text = g_bytes_get_data(bytes, &length);
    if (length > PDU_BYTES_MAX) {
        fail_too_large(error, "the event is larger than 65536 bytes");
        return NULL;
    }
    return check_event(version, bytes, parse_event(version, text, length, error), error);
}

Pdu *
pdu_from_value(const RoomVersion *version, const cJSON *value, GError **error)
{
    g_autoptr(GBytes) bytes = json_canonical(value, error);
    gsize length = 0;
    if (bytes == NULL)
        return NULL;
    const char *text = g_bytes_get_data(bytes, &length);
    return pdu_from_json(version, text, length, error);
}

Pdu *
pdu_from_trusted_bytes(const RoomVersion *version, const char *event_id, GBytes *bytes,
                       GError **error)
{
    gsize length = 0;
    const char *text = g_bytes_get_data(bytes, &length);
    cJSON *tree = json_parse(text, length, limits_of(version), error);
    if (tree == NULL) {
        g_prefix_error(error, "stored event %s: ", event_id);
        return NULL;
    }
    PduRecord *record = record_new(version, bytes, tree);
    gboolean good = record->members != NULL && read_fields(record, error);
    if (good) {
        set_event_id(record, event_id);
        good = record->pdu.room_id != NULL;
    }
    if (!good) {
        if (error != NULL && *error == NULL)
            fail_format(error, "it is no canonical event");
        g_prefix_error(error, "stored event %s: ", event_id);
        pdu_unref(&record->pdu);
        return NULL;
    }
    return &record->pdu;
}

/* ---- looking ---- */

gboolean
pdu_is_state(const Pdu *pdu)
{
    return pdu->state_key != NULL;
}

gboolean
pdu_is(const Pdu *pdu, const char *type, const char *state_key)
{
    return strcmp(pdu->type, type) == 0 && g_strcmp0(pdu->state_key, state_key) == 0;
}

const char *
pdu_membership(const Pdu *pdu)
{
    return pdu->membership;
}

gsize
pdu_memory_size(const Pdu *pdu)
{
    return ((const PduRecord *)pdu)->memory_size;
}

/* ---- redaction and content hash ---- */

Pdu *
pdu_redacted(const Pdu *pdu, GError **error)
{
    GString *out = g_string_sized_new(1024);
    pdu_redact_append(out, pdu->version, pdu->type, members_of(pdu), pdu->content, TRUE);
    g_autoptr(GBytes) bytes = g_string_free_to_bytes(out);
    return pdu_from_trusted_bytes(pdu->version, pdu->event_id, bytes, error);
}

gboolean
pdu_check_content_hash(const Pdu *pdu)
{
    static const char *const not_hashed[] = {"hashes", "signatures", "unsigned", NULL};
    const char *claimed = json_get_string(json_get_object(pdu->json, "hashes"), "sha256");
    guint8 expected[SHA256_BYTES], hash[SHA256_BYTES];
    if (claimed == NULL ||
        !unpadded_base64_decode_exact(claimed, BASE64_STANDARD, expected, sizeof expected))
        return FALSE;
    g_autoptr(GString) out = g_string_sized_new(g_bytes_get_size(pdu->bytes));
    pdu_members_append_without(out, members_of(pdu), not_hashed);
    sha256(out->str, out->len, hash);
    return sodium_memcmp(hash, expected, sizeof hash) == 0;
}

/* ---- answers to clients ---- */

static void
append_text(GString *out, const char *key, const char *text)
{
    if (text == NULL)
        return;
    g_string_append_printf(out, ",\"%s\":", key);
    json_append_string(out, text);
}

void
pdu_content_json(const Pdu *pdu, GString *out)
{
    const PduMember *content = pdu_member_find(members_of(pdu), "content");
    g_string_append_len(out, content->value, (gssize)content->value_length);
}

/* Clients of either age look for "redacts" in the content or beside it: it stands in both. */
static void
append_client_content(const Pdu *pdu, GString *out)
{
    if (pdu->redacts == NULL || pdu->version->redacts_in_content ||
        json_object_get(pdu->content, "redacts") != NULL) {
        pdu_content_json(pdu, out);
        return;
    }
    g_string_append(out, "{\"redacts\":");
    json_append_string(out, pdu->redacts);
    if (pdu->content->child != NULL)
        g_string_append_c(out, ',');
    gsize brace = out->len;
    pdu_content_json(pdu, out);
    g_string_erase(out, (gssize)brace, 1);
}

static void
append_unsigned(const PduUnsigned *extra, GString *out)
{
    g_string_append(out, ",\"unsigned\":{");
    gsize start = out->len;
    if (extra->has_age)
        g_string_append_printf(out, ",\"age\":%" G_GINT64_FORMAT, extra->age_ms);
    if (extra->relations != NULL)
        g_string_append_printf(out, ",\"m.relations\":%s", extra->relations);
    append_text(out, "membership", extra->membership);
    if (extra->prev_content != NULL) {
        g_string_append(out, ",\"prev_content\":");
        if (!json_canonical_append(out, extra->prev_content, NULL))
            g_string_append(out, "{}");
    }
    append_text(out, "prev_sender", extra->prev_sender);
    if (extra->redacted_because != NULL)
        g_string_append_printf(out, ",\"redacted_because\":%s", extra->redacted_because);
    append_text(out, "replaces_state", extra->replaces_state);
    append_text(out, "transaction_id", extra->transaction_id);
    if (out->len > start)
        g_string_erase(out, (gssize)start, 1);
    g_string_append_c(out, '}');
}

void
pdu_client_json(const Pdu *pdu, gboolean with_room_id, const PduUnsigned *extra, GString *out)
{
    g_string_append(out, "{\"content\":");
    append_client_content(pdu, out);
    append_text(out, "event_id", pdu->event_id);
    g_string_append_printf(out, ",\"origin_server_ts\":%" G_GINT64_FORMAT, pdu->origin_server_ts);
    append_text(out, "redacts", pdu->redacts);
    if (with_room_id)
        append_text(out, "room_id", pdu->room_id);
    append_text(out, "sender", pdu->sender);
    append_text(out, "state_key", pdu->state_key);
    append_text(out, "type", pdu->type);
    if (extra != NULL)
        append_unsigned(extra, out);
    g_string_append_c(out, '}');
}

void
pdu_stripped_json(const Pdu *pdu, GString *out)
{
    g_string_append(out, "{\"content\":");
    pdu_content_json(pdu, out);
    append_text(out, "sender", pdu->sender);
    append_text(out, "state_key", pdu->state_key);
    append_text(out, "type", pdu->type);
    g_string_append_c(out, '}');
}
