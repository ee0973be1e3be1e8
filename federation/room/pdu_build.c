#include "federation/room/pdu_build.h"

#include <string.h>

#include "federation/room/pdu_members.h"
#include "federation/room/pdu_redact.h"
#include "identity/sha256.h"
#include "identity/unpadded_base64.h"

/* "$id", or ["$id",{"sha256":"hash"}]. */
static cJSON *
reference(const RoomVersion *version, const char *id, const char *hash)
{
    if (!version->reference_pairs)
        return cJSON_CreateString(id);
    cJSON *pair = cJSON_CreateArray();
    cJSON *hashes = cJSON_CreateObject();
    if (hash != NULL && hash[0] != '\0')
        cJSON_AddItemToObject(hashes, "sha256", cJSON_CreateString(hash));
    cJSON_AddItemToArray(pair, cJSON_CreateString(id));
    cJSON_AddItemToArray(pair, hashes);
    return pair;
}

static cJSON *
reference_list(const RoomVersion *version, const char *const *ids, const char *const *hashes)
{
    cJSON *list = cJSON_CreateArray();
    for (guint i = 0; ids != NULL && ids[i] != NULL; i++)
        cJSON_AddItemToArray(list, reference(version, ids[i], hashes != NULL ? hashes[i] : NULL));
    return list;
}

/* A cJSON number is a double: what is above 2^53 goes in as text. */
static cJSON *
integer(gint64 value)
{
    if (ABS(value) <= JSON_INTEGER_MAX)
        return cJSON_CreateNumber((double)value);
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, value);
    return cJSON_CreateRaw(text);
}

/* The template's tree.  Without a redaction's copy of it, the content is borrowed. */
static cJSON *
template_tree(const RoomVersion *version, const PduTemplate *template)
{
    cJSON *event = cJSON_CreateObject();

    if (template->redacts != NULL) {
        cJSON *content = cJSON_Duplicate(template->content, TRUE);
        cJSON_DeleteItemFromObjectCaseSensitive(content, "redacts");
        cJSON_AddItemToObject(event, "content", content);
        cJSON_AddItemToObject(version->redacts_in_content ? content : event, "redacts",
                              cJSON_CreateString(template->redacts));
    } else {
        cJSON_AddItemReferenceToObject(event, "content", (cJSON *)template->content);
    }
    if (template->event_id != NULL && version->event_id_format == EVENT_ID_CHOSEN)
        cJSON_AddItemToObject(event, "event_id", cJSON_CreateString(template->event_id));
    if (template->room_id != NULL)
        cJSON_AddItemToObject(event, "room_id", cJSON_CreateString(template->room_id));
    if (template->state_key != NULL)
        cJSON_AddItemToObject(event, "state_key", cJSON_CreateString(template->state_key));
    cJSON_AddItemToObject(event, "type", cJSON_CreateString(template->type));
    cJSON_AddItemToObject(event, "sender", cJSON_CreateString(template->sender));
    cJSON_AddItemToObject(event, "prev_events",
                          reference_list(version, template->prev_events, template->prev_hashes));
    cJSON_AddItemToObject(event, "auth_events",
                          reference_list(version, template->auth_events, template->auth_hashes));
    cJSON_AddItemToObject(event, "depth", integer(CLAMP(template->depth, 0, version->depth_max)));
    cJSON_AddItemToObject(event, "origin_server_ts",
                          cJSON_CreateNumber((double)template->origin_server_ts));
    return event;
}

/* "@bytes" with "hashes": the hash of all that stands there now. */
static GBytes *
with_content_hash(GBytes *event)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(event, &length);
    g_autoptr(GArray) members = pdu_members(bytes, length);
    guint8 hash[SHA256_BYTES];
    sha256(bytes, length, hash);
    g_autofree char *text = unpadded_base64_encode(hash, sizeof hash, BASE64_STANDARD);
    g_autofree char *hashes = g_strdup_printf("{\"sha256\":\"%s\"}", text);
    return pdu_members_with(members, "hashes", hashes);
}

/* "@event" with "signatures": that of @signer over the redacted event. */
static GBytes *
with_signature(const RoomVersion *version, GBytes *event, const char *type, const cJSON *content,
               const PduSigner *signer)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(event, &length);
    g_autoptr(GArray) members = pdu_members(bytes, length);
    g_autoptr(GString) message = g_string_sized_new(1024);
    pdu_redact_append(message, version, type, members, content, FALSE);

    g_autofree char *signature = signer->sign(signer->data, message->str, message->len);
    g_autoptr(GString) signatures = g_string_sized_new(256);

    g_string_append_c(signatures, '{');
    json_append_string(signatures, signer->server_name);
    g_string_append(signatures, ":{");
    json_append_string(signatures, signer->key_id);
    g_string_append_c(signatures, ':');
    json_append_string(signatures, signature);
    g_string_append(signatures, "}}");
    return pdu_members_with(members, "signatures", signatures->str);
}

Pdu *
pdu_build_from_value(const RoomVersion *version, const cJSON *template, const PduSigner *signer,
                     GError **error)
{
    static const char *const replaced[] = {"hashes", "signatures", "unsigned", NULL};
    g_autoptr(GBytes) body = json_canonical_without(template, replaced, error);
    gsize length = 0;
    if (body == NULL)
        return NULL;

    const char *bytes = g_bytes_get_data(body, &length);
    if (length > PDU_BYTES_MAX) {
        g_set_error_literal(error, PDU_ERROR, PDU_ERROR_TOO_LARGE,
                            "the event is larger than 65536 bytes");
        return NULL;
    }
    const char *type = json_require_string(template, "type", error);
    const cJSON *content = type != NULL ? json_require_object(template, "content", error) : NULL;
    g_autoptr(cJSON) tree = NULL;
    if (content != NULL && pdu_redact_keeps_content(type)) {
        /* Read back, so that content has its keys in order, as redaction needs them. */
        tree = json_parse(
            bytes, length,
            version->canonical_json_strict ? &json_limits_event : &json_limits_event_lax, error);
        content = tree != NULL ? json_require_object(tree, "content", error) : NULL;
    }
    if (content == NULL)
        return NULL;

    g_autoptr(GBytes) hashed = with_content_hash(body);
    g_autoptr(GBytes) event = with_signature(version, hashed, type, content, signer);
    return pdu_from_canonical(version, event, error);
}

Pdu *
pdu_build(const RoomVersion *version, const PduTemplate *template, const PduSigner *signer,
          GError **error)
{
    g_autoptr(cJSON) tree = template_tree(version, template);
    return pdu_build_from_value(version, tree, signer, error);
}

GBytes *
pdu_template_json(const RoomVersion *version, const PduTemplate *template, GError **error)
{
    g_autoptr(cJSON) tree = template_tree(version, template);
    return json_canonical(tree, error);
}
