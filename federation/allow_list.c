#include "federation/allow_list.h"

#include <arpa/inet.h>
#include <string.h>

#include "federation/partner_private.h"
#include "federation/room/identifier.h"
#include "identity/refusal.h"
#include "identity/seeded_hash.h"
#include "identity/unpadded_base64.h"

static const JsonLimits list_limits = {ALLOW_LIST_BYTES_MAX, 12, 256 * 1024, FALSE};

AllowListEntry *
allow_list_entry_new(void)
{
    return g_new0(AllowListEntry, 1);
}

void
allow_list_entry_free(AllowListEntry *entry)
{
    if (entry == NULL)
        return;
    for (guint i = 0; i < entry->key_count; i++)
        g_free(entry->keys[i].key_id);
    g_free(entry->server_name);
    g_free(entry->host);
    g_free(entry);
}

void
allow_list_free(AllowList *list)
{
    if (list == NULL)
        return;
    g_clear_pointer(&list->entries, g_ptr_array_unref);
    g_strfreev(list->revoked);
    g_free(list->list_id);
    g_free(list);
}

static gboolean G_GNUC_PRINTF(2, 3) refuse(GError **error, const char *sentence, ...)
{
    va_list values;
    va_start(values, sentence);
    g_autofree char *text = g_strdup_vprintf(sentence, values);
    va_end(values);
    refusal_set(error, 400, "M_BAD_JSON", "Allow-list: %s", text);
    return FALSE;
}

/* @known: the members that @object may have, NULL-terminated. */
static gboolean
only_known_members(const cJSON *object, const char *const *known, const char *where, GError **error)
{
    for (const cJSON *member = object->child; member != NULL; member = member->next)
        if (!g_strv_contains(known, member->string))
            return refuse(error, "%s has a member that this program does not know: '%s'", where,
                          member->string);
    return TRUE;
}

static gboolean
read_time(const cJSON *object, const char *key, const char *where, gint64 *ret_ms, GError **error)
{
    if (json_get_integer(object, key, ret_ms) && *ret_ms > 0)
        return TRUE;
    return refuse(error, "%s: '%s' must be milliseconds since 1970", where, key);
}

/* "192.0.2.7:8448" or "[2001:db8::7]:8448". */
static gboolean
read_address(const char *address, AllowListEntry *entry)
{
    struct in6_addr parsed;
    guint64 port = 0;
    gboolean six = address[0] == '[';
    const char *colon = strrchr(address, ':');
    if (colon == NULL || !g_ascii_string_to_unsigned(colon + 1, 10, 1, 65535, &port, NULL))
        return FALSE;
    if (six && (colon < address + 2 || colon[-1] != ']'))
        return FALSE;
    g_autofree char *host = six ? g_strndup(address + 1, (gsize)(colon - address - 2))
                                : g_strndup(address, (gsize)(colon - address));
    if (inet_pton(six ? AF_INET6 : AF_INET, host, &parsed) != 1)
        return FALSE;
    entry->host = g_steal_pointer(&host);
    entry->port = (guint16)port;
    return TRUE;
}

static gboolean
read_pins(const cJSON *json, AllowListEntry *entry, GError **error)
{
    const cJSON *pins = json_get_array(json, "tls_pins");
    const cJSON *pin = pins != NULL ? pins->child : NULL;
    if (pin == NULL)
        return refuse(error, "%s: 'tls_pins' must be an array with at least one pin",
                      entry->server_name);
    for (; pin != NULL; pin = pin->next) {
        if (entry->pin_count == ALLOW_LIST_PINS_MAX)
            return refuse(error, "%s: more than %d TLS pins", entry->server_name,
                          ALLOW_LIST_PINS_MAX);
        if (!cJSON_IsString(pin) ||
            !unpadded_base64_decode_exact(pin->valuestring, BASE64_STANDARD,
                                          entry->pins[entry->pin_count], 32))
            return refuse(error, "%s: a TLS pin must be 32 bytes in base64", entry->server_name);
        entry->pin_count++;
    }
    return TRUE;
}

static gboolean
read_keys(const cJSON *json, AllowListEntry *entry, GError **error)
{
    static const char *const known[] = {"key", "valid_until_ts", NULL};
    const cJSON *keys = json_get_object(json, "signing_keys");
    const cJSON *key = keys != NULL ? keys->child : NULL;
    if (key == NULL)
        return refuse(error, "%s: 'signing_keys' must be an object with at least one key",
                      entry->server_name);
    for (; key != NULL; key = key->next) {
        if (entry->key_count == ALLOW_LIST_KEYS_MAX)
            return refuse(error, "%s: more than %d signing keys", entry->server_name,
                          ALLOW_LIST_KEYS_MAX);
        AllowListKey *slot = &entry->keys[entry->key_count];
        const char *text = json_get_string(key, "key");
        if (!g_str_has_prefix(key->string, "ed25519:") || strlen(key->string) > 128 ||
            strlen(key->string) == strlen("ed25519:"))
            return refuse(error, "%s: a signing key's id must begin with 'ed25519:'",
                          entry->server_name);
        if (text == NULL || !unpadded_base64_decode_exact(text, BASE64_STANDARD, slot->key, 32))
            return refuse(error, "%s: the signing key %s must be 32 bytes in base64",
                          entry->server_name, key->string);
        if (!only_known_members(key, known, entry->server_name, error) ||
            !read_time(key, "valid_until_ts", entry->server_name, &slot->valid_until_ms, error))
            return FALSE;
        slot->key_id = g_strdup(key->string);
        entry->key_count++;
    }
    return TRUE;
}

static gboolean
read_entry(const cJSON *json, AllowListEntry *entry, GError **error)
{
    static const char *const known[] = {"server_name", "not_before", "not_after",    "direction",
                                        "address",     "tls_pins",   "signing_keys", NULL};
    const char *name = json_get_string(json, "server_name");
    const char *direction = json_get_string(json, "direction");
    const char *address = json_get_string(json, "address");

    if (name == NULL || !identifier_server_name_valid(name))
        return refuse(error, "an entry without a valid 'server_name'");
    entry->server_name = g_strdup(name);
    if (!only_known_members(json, known, name, error) ||
        !read_time(json, "not_before", name, &entry->not_before_ms, error) ||
        !read_time(json, "not_after", name, &entry->not_after_ms, error))
        return FALSE;
    if (entry->not_after_ms <= entry->not_before_ms)
        return refuse(error, "%s: 'not_after' must be after 'not_before'", name);
    if (g_strcmp0(direction, "in") != 0 && g_strcmp0(direction, "out") != 0 &&
        g_strcmp0(direction, "both") != 0)
        return refuse(error, "%s: 'direction' must be \"in\", \"out\" or \"both\"", name);
    entry->inbound = strcmp(direction, "out") != 0;
    entry->outbound = strcmp(direction, "in") != 0;
    if (address == NULL || !read_address(address, entry))
        return refuse(
            error, "%s: 'address' must be a numeric address and a port, as 192.0.2.7:8448", name);
    return read_pins(json, entry, error) && read_keys(json, entry, error);
}

static gboolean
read_entries(const cJSON *json, AllowList *list, GError **error)
{
    const cJSON *entries = json_get_array(json, "entries");
    g_autoptr(GHashTable) seen = g_hash_table_new(seeded_str_hash, g_str_equal);
    if (entries == NULL)
        return refuse(error, "'entries' must be an array");
    for (const cJSON *item = entries->child; item != NULL; item = item->next) {
        AllowListEntry *entry = allow_list_entry_new();
        g_ptr_array_add(list->entries, entry);
        if (list->entries->len > ALLOW_LIST_ENTRIES_MAX)
            return refuse(error, "more than %d entries", ALLOW_LIST_ENTRIES_MAX);
        if (!read_entry(item, entry, error))
            return FALSE;
        if (!g_hash_table_add(seen, entry->server_name))
            return refuse(error, "%s has two entries", entry->server_name);
    }
    return TRUE;
}

static gboolean
read_revoked(const cJSON *json, AllowList *list, GError **error)
{
    const cJSON *revoked = json_get_array(json, "revoked");
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();
    guint count = 0;
    if (revoked == NULL)
        return refuse(error, "'revoked' must be an array");
    for (const cJSON *item = revoked->child; item != NULL; item = item->next) {
        if (!cJSON_IsString(item) || !identifier_server_name_valid(item->valuestring) ||
            ++count > ALLOW_LIST_ENTRIES_MAX)
            return refuse(error, "'revoked' must be an array of at most %d server names",
                          ALLOW_LIST_ENTRIES_MAX);
        g_strv_builder_add(names, item->valuestring);
    }
    list->revoked = g_strv_builder_end(names);
    return TRUE;
}

AllowList *
allow_list_from_json(const cJSON *json, GError **error)
{
    static const char *const known[] = {"list_id", "serial",  "issued", "expires",
                                        "entries", "revoked", NULL};
    g_autoptr(AllowList) list = g_new0(AllowList, 1);
    const char *list_id = json_get_string(json, "list_id");
    list->entries = g_ptr_array_new_with_free_func((GDestroyNotify)allow_list_entry_free);

    if (!cJSON_IsObject(json)) {
        refuse(error, "the list must be an object");
        return NULL;
    }
    if (list_id == NULL || list_id[0] == '\0' || strlen(list_id) > 255) {
        refuse(error, "'list_id' must be a string of 1 to 255 bytes");
        return NULL;
    }
    list->list_id = g_strdup(list_id);
    if (!json_get_integer(json, "serial", &list->serial) || list->serial <= 0) {
        refuse(error, "'serial' must be a whole number above 0");
        return NULL;
    }
    if (!only_known_members(json, known, "the list", error) ||
        !read_time(json, "issued", "the list", &list->issued_ms, error) ||
        !read_time(json, "expires", "the list", &list->expires_ms, error) ||
        !read_entries(json, list, error) || !read_revoked(json, list, error))
        return NULL;
    if (list->expires_ms <= list->issued_ms) {
        refuse(error, "'expires' must be after 'issued'");
        return NULL;
    }
    return g_steal_pointer(&list);
}

AllowList *
allow_list_read(GBytes *file, GBytes **ret_content, GBytes **ret_signature, GError **error)
{
    static const char *const known[] = {"list", "signature", NULL};
    gsize length = 0;
    const char *bytes = g_bytes_get_data(file, &length);
    g_autoptr(cJSON) json = json_parse(bytes != NULL ? bytes : "", length, &list_limits, error);
    const cJSON *content = json_get_object(json, "list");
    const char *text = json_get_string(json, "signature");

    if (json == NULL)
        return NULL;
    if (content == NULL || text == NULL) {
        refuse(error, "the file must hold 'list' and 'signature'");
        return NULL;
    }
    if (!only_known_members(json, known, "the file", error))
        return NULL;
    g_autoptr(GBytes) signature = unpadded_base64_decode(text, BASE64_STANDARD);
    if (signature == NULL) {
        refuse(error, "'signature' is not base64");
        return NULL;
    }
    g_autoptr(AllowList) list = allow_list_from_json(content, error);
    g_autoptr(GBytes) canonical = list != NULL ? json_canonical(content, error) : NULL;
    if (canonical == NULL)
        return NULL;
    *ret_content = g_steal_pointer(&canonical);
    *ret_signature = g_steal_pointer(&signature);
    return g_steal_pointer(&list);
}

GBytes *
allow_list_write(GBytes *content, GBytes *signature, GError **error)
{
    gsize length = 0;
    const void *data = g_bytes_get_data(signature, &length);
    g_autofree char *text = unpadded_base64_encode(data, length, BASE64_STANDARD);
    g_autoptr(GString) out = g_string_new("{\"list\":");
    const char *list = g_bytes_get_data(content, &length);
    g_string_append_len(out, list, (gssize)length);
    g_string_append(out, ",\"signature\":");
    json_append_string(out, text);
    g_string_append(out, "}\n");
    return g_string_free_to_bytes(g_steal_pointer(&out));
}
