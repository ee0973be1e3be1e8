#include "identity/statement.h"

#include <sodium.h>
#include <string.h>

#include "identity/refusal.h"
#include "identity/sha256.h"

/* Members beside v, kind, server_name, nonce and issued, which every statement has. */
enum {
    HAS_USER_ID = 1 << 0,
    HAS_PERSON_REF = 1 << 1,
    HAS_AGENCY = 1 << 2,
    HAS_CLEARANCE = 1 << 3,
    HAS_POLICY_OID = 1 << 4,
    HAS_CERT_SHA256 = 1 << 5,
    HAS_SPKI_SHA256 = 1 << 6,
    HAS_TICKET = 1 << 7,
    HAS_REASON = 1 << 8,
    HAS_DEVICE_ID = 1 << 9,
    HAS_ROLE = 1 << 10,
    HAS_ISSUERS = 1 << 11,
    HAS_NOT_AFTER = 1 << 12,
    HAS_CERTIFICATE = HAS_PERSON_REF | HAS_POLICY_OID | HAS_CERT_SHA256 | HAS_SPKI_SHA256 |
                      HAS_TICKET | HAS_ISSUERS | HAS_NOT_AFTER,
};

static const struct {
    const char *name;
    guint signatures;
    guint members;
} kinds[] = {
    [STATEMENT_ENROL] = {"enrol", 2, HAS_USER_ID | HAS_AGENCY | HAS_CLEARANCE | HAS_CERTIFICATE},
    [STATEMENT_OFFICER] = {"officer", 2, HAS_ROLE | HAS_CERTIFICATE},
    [STATEMENT_REINSTATE] = {"reinstate", 2, HAS_USER_ID | HAS_REASON | HAS_TICKET},
    [STATEMENT_SUSPEND] = {"suspend", 1, HAS_USER_ID | HAS_REASON | HAS_TICKET},
    [STATEMENT_REVOKE] = {"revoke", 1, HAS_USER_ID | HAS_CERT_SHA256 | HAS_REASON | HAS_TICKET},
    [STATEMENT_OFFICER_REMOVE] = {"officer-remove", 1, HAS_CERT_SHA256 | HAS_REASON | HAS_TICKET},
    [STATEMENT_DEVICE_REMOVE] = {"device-remove", 1, HAS_USER_ID | HAS_DEVICE_ID | HAS_REASON},
    [STATEMENT_FOUNDING] = {"founding", 0, HAS_ROLE | HAS_CERTIFICATE},
};

/* Where each text member lives. */
static const struct {
    guint flag;
    const char *key;
    gsize offset;
} texts[] = {
    {HAS_USER_ID, "user_id", G_STRUCT_OFFSET(Statement, user_id)},
    {HAS_PERSON_REF, "person_ref", G_STRUCT_OFFSET(Statement, person_ref)},
    {HAS_AGENCY, "agency", G_STRUCT_OFFSET(Statement, agency)},
    {HAS_CLEARANCE, "clearance", G_STRUCT_OFFSET(Statement, clearance)},
    {HAS_POLICY_OID, "policy_oid", G_STRUCT_OFFSET(Statement, policy_oid)},
    {HAS_CERT_SHA256, "cert_sha256", G_STRUCT_OFFSET(Statement, cert_sha256)},
    {HAS_SPKI_SHA256, "spki_sha256", G_STRUCT_OFFSET(Statement, spki_sha256)},
    {HAS_TICKET, "ticket", G_STRUCT_OFFSET(Statement, ticket)},
    {HAS_REASON, "reason", G_STRUCT_OFFSET(Statement, reason)},
    {HAS_DEVICE_ID, "device_id", G_STRUCT_OFFSET(Statement, device_id)},
    {HAS_ROLE, "role", G_STRUCT_OFFSET(Statement, role)},
    {~0u, "server_name", G_STRUCT_OFFSET(Statement, server_name)},
    {~0u, "nonce", G_STRUCT_OFFSET(Statement, nonce)},
};

#define ISSUERS_MAX 64

void
statement_free(Statement *statement)
{
    if (statement == NULL)
        return;
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(G_STRUCT_MEMBER(char *, statement, texts[i].offset));
    g_strfreev(statement->issuers);
    g_clear_pointer(&statement->bytes, g_bytes_unref);
    g_clear_pointer(&statement->digest, g_bytes_unref);
    g_free(statement->digest_hex);
    g_free(statement);
}

const char *
statement_kind_name(StatementKind kind)
{
    return kinds[kind].name;
}

gboolean
statement_kind_from_name(const char *name, StatementKind *ret_kind)
{
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (name != NULL && strcmp(kinds[i].name, name) == 0) {
            *ret_kind = (StatementKind)i;
            return TRUE;
        }
    return FALSE;
}

guint
statement_signatures(StatementKind kind)
{
    return kinds[kind].signatures;
}

static gboolean
set_refusal(GError **error, const char *sentence, const char *what)
{
    refusal_set(error, 400, "M_BAD_JSON", "statement: %s%s%s", sentence, what != NULL ? " " : "",
                what != NULL ? what : "");
    return FALSE;
}

/* Officers read these on a terminal: no control characters, no invisible ones of a line's length.
 */
static gboolean
text_is_plain(const char *text)
{
    gsize length = strlen(text);
    if (length > STATEMENT_TEXT_MAX || !g_utf8_validate(text, (gssize)length, NULL))
        return FALSE;
    for (const char *at = text; *at != '\0'; at = g_utf8_next_char(at))
        if (!g_unichar_isprint(g_utf8_get_char(at)))
            return FALSE;
    return TRUE;
}

static gboolean
text_is_hex256(const char *text)
{
    return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

static gboolean
read_texts(Statement *statement, const cJSON *json, guint members, guint *counted, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        char **slot = &G_STRUCT_MEMBER(char *, statement, texts[i].offset);
        const char *value = json_get_string(json, texts[i].key);
        if ((members & texts[i].flag) == 0) {
            *slot = g_strdup("");
            continue;
        }
        if (value == NULL || !text_is_plain(value))
            return set_refusal(error, "wants a plain text", texts[i].key);
        *slot = g_strdup(value);
        (*counted)++;
    }
    return TRUE;
}

static gboolean
read_issuers(Statement *statement, const cJSON *json, GError **error)
{
    const cJSON *array = json_get_array(json, "issuers");
    const cJSON *item = NULL;
    g_autoptr(GPtrArray) issuers = g_ptr_array_new_with_free_func(g_free);
    cJSON_ArrayForEach(item, array)
    {
        if (!cJSON_IsString(item) || !text_is_hex256(item->valuestring) ||
            issuers->len >= ISSUERS_MAX)
            return set_refusal(error, "wants the SHA-256 of issuers' keys in", "issuers");
        g_ptr_array_add(issuers, g_strdup(item->valuestring));
    }
    if (issuers->len == 0)
        return set_refusal(error, "wants at least one of", "issuers");
    g_ptr_array_add(issuers, NULL);
    statement->issuers = (char **)g_ptr_array_steal(issuers, NULL);
    return TRUE;
}

static gboolean
shapes_fit(const Statement *statement, guint members, GError **error)
{
    if ((members & HAS_CERT_SHA256) != 0 && !text_is_hex256(statement->cert_sha256))
        return set_refusal(error, "wants 64 hex digits in", "cert_sha256");
    if ((members & HAS_SPKI_SHA256) != 0 && !text_is_hex256(statement->spki_sha256))
        return set_refusal(error, "wants 64 hex digits in", "spki_sha256");
    if ((members & HAS_PERSON_REF) != 0 && !text_is_hex256(statement->person_ref))
        return set_refusal(error, "wants 64 hex digits in", "person_ref");
    if ((members & HAS_USER_ID) != 0 &&
        !statement_user_id_is_valid(statement->user_id, statement->server_name))
        return set_refusal(error, "wants a user id of this server in", "user_id");
    if ((members & HAS_ROLE) != 0 && strcmp(statement->role, "identity") != 0)
        return set_refusal(error, "knows one role, identity, in", "role");
    if (!text_is_hex256(statement->nonce))
        return set_refusal(error, "wants 64 hex digits in", "nonce");
    return TRUE;
}

static void
seal(Statement *statement, GBytes *bytes)
{
    guint8 digest[SHA256_BYTES];
    char hex[2 * sizeof digest + 1];
    gsize length = 0;
    const guint8 *data = g_bytes_get_data(bytes, &length);
    sha256(data, length, digest);
    statement->bytes = g_bytes_ref(bytes);
    statement->digest = g_bytes_new(digest, sizeof digest);
    statement->digest_hex = g_strdup(sodium_bin2hex(hex, sizeof hex, digest, sizeof digest));
}

Statement *
statement_from_bytes(GBytes *bytes, GError **error)
{
    gsize length = 0;
    const char *data = g_bytes_get_data(bytes, &length);
    gint64 version = 0;
    guint counted = 3; /* v, kind, issued */
    if (length > STATEMENT_BYTES_MAX) {
        set_refusal(error, "is too long", NULL);
        return NULL;
    }
    g_autoptr(cJSON) json = json_parse(data, length, &json_limits_event, error);
    g_autoptr(GBytes) canonical = json != NULL ? json_canonical(json, error) : NULL;
    if (canonical == NULL)
        return NULL;
    g_autoptr(Statement) statement = g_new0(Statement, 1);
    if (!cJSON_IsObject(json) || !g_bytes_equal(canonical, bytes)) {
        set_refusal(error, "is not a canonical JSON object", NULL);
        return NULL;
    }
    if (!json_get_integer(json, "v", &version) || version != 1 ||
        !statement_kind_from_name(json_get_string(json, "kind"), &statement->kind) ||
        !json_get_integer(json, "issued", &statement->issued_ms)) {
        set_refusal(error, "wants v 1, a known kind, and issued", NULL);
        return NULL;
    }
    guint members = kinds[statement->kind].members;
    if (!read_texts(statement, json, members, &counted, error))
        return NULL;
    if ((members & HAS_ISSUERS) != 0) {
        counted++;
        if (!read_issuers(statement, json, error))
            return NULL;
    }
    if ((members & HAS_NOT_AFTER) != 0) {
        counted++;
        if (!json_require_integer(json, "not_after", &statement->not_after_ms, error))
            return NULL;
    }
    if (!shapes_fit(statement, members, error))
        return NULL;
    if ((guint)cJSON_GetArraySize(json) != counted) {
        set_refusal(error, "has a member that its kind does not know", NULL);
        return NULL;
    }
    seal(statement, bytes);
    return g_steal_pointer(&statement);
}

Statement *
statement_make(const Statement *draft, GError **error)
{
    guint members = kinds[draft->kind].members;
    g_autoptr(cJSON) json = cJSON_CreateObject();
    guint8 random[32];
    char nonce[2 * sizeof random + 1];

    cJSON_AddNumberToObject(json, "v", 1);
    cJSON_AddStringToObject(json, "kind", kinds[draft->kind].name);
    cJSON_AddNumberToObject(json, "issued", (double)draft->issued_ms);
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(nonce, sizeof nonce, random, sizeof random);
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        const char *value = G_STRUCT_MEMBER(char *, draft, texts[i].offset);
        if ((members & texts[i].flag) == 0)
            continue;
        if (value == NULL)
            value = strcmp(texts[i].key, "nonce") == 0 ? nonce : "";
        cJSON_AddStringToObject(json, texts[i].key, value);
    }
    if ((members & HAS_ISSUERS) != 0) {
        cJSON *issuers = cJSON_AddArrayToObject(json, "issuers");
        for (char **issuer = draft->issuers; issuer != NULL && *issuer != NULL; issuer++)
            cJSON_AddItemToArray(issuers, cJSON_CreateString(*issuer));
    }
    if ((members & HAS_NOT_AFTER) != 0)
        cJSON_AddNumberToObject(json, "not_after", (double)draft->not_after_ms);
    g_autoptr(GBytes) bytes = json_canonical(json, error);
    return bytes != NULL ? statement_from_bytes(bytes, error) : NULL;
}

gboolean
statement_user_id_is_valid(const char *user_id, const char *server_name)
{
    const char *colon = strchr(user_id, ':');
    if (user_id[0] != '@' || colon == NULL || colon == user_id + 1 || strlen(user_id) > 255 ||
        strcmp(colon + 1, server_name) != 0)
        return FALSE;
    gsize localpart = (gsize)(colon - user_id) - 1;
    return strspn(user_id + 1, "abcdefghijklmnopqrstuvwxyz0123456789._=-/+") == localpart;
}
