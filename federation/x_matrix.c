#include "federation/x_matrix.h"

#include <string.h>

#include "federation/room/identifier.h"
#include "identity/refusal.h"

void
x_matrix_free(XMatrix *header)
{
    if (header == NULL)
        return;
    g_free(header->origin);
    g_free(header->destination);
    g_free(header->key_id);
    g_free(header->signature);
    g_free(header);
}

static gboolean
refuse(GError **error, const char *sentence)
{
    refusal_set(error, 401, "M_UNAUTHORIZED", "%s", sentence);
    return FALSE;
}

/* RFC 9110 token; a colon too, which older servers leave unquoted. */
static gboolean
is_token_byte(char byte)
{
    return g_ascii_isalnum(byte) || (byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static void
skip_blanks(const char **at)
{
    while (**at == ' ' || **at == '\t')
        (*at)++;
}

/* NULL when there is no value, or one with a byte that no value of ours has. */
static char *
read_value(const char **at)
{
    g_autoptr(GString) value = g_string_new(NULL);
    if (**at != '"') {
        while (is_token_byte(**at) || **at == ':' || **at == '/' || **at == '=')
            g_string_append_c(value, *(*at)++);
        return value->len > 0 ? g_string_free(g_steal_pointer(&value), FALSE) : NULL;
    }
    for ((*at)++; **at != '"'; (*at)++) {
        if (**at == '\\')
            (*at)++;
        if ((guchar) * *at < 0x20 || (guchar) * *at > 0x7E)
            return NULL;
        g_string_append_c(value, **at);
    }
    (*at)++;
    return g_string_free(g_steal_pointer(&value), FALSE);
}

/* Takes @value into the member that @name means. FALSE: it is there already. */
static gboolean
set_parameter(XMatrix *header, const char *name, char *value)
{
    char **member = g_ascii_strcasecmp(name, "origin") == 0        ? &header->origin
                    : g_ascii_strcasecmp(name, "destination") == 0 ? &header->destination
                    : g_ascii_strcasecmp(name, "key") == 0         ? &header->key_id
                    : g_ascii_strcasecmp(name, "sig") == 0         ? &header->signature
                                                                   : NULL;
    if (member == NULL) { /* unknown ones are ignored */
        g_free(value);
        return TRUE;
    }
    if (*member != NULL) {
        g_free(value);
        return FALSE;
    }
    *member = value;
    return TRUE;
}

static gboolean
read_parameters(XMatrix *header, const char *at, GError **error)
{
    for (;;) {
        const char *start = at;
        while (is_token_byte(*at))
            at++;
        if (at == start || *at != '=')
            return refuse(error, "The X-Matrix header is malformed: name=value pairs are expected");
        g_autofree char *name = g_strndup(start, (gsize)(at - start));
        at++;
        char *value = read_value(&at);
        if (value == NULL)
            return refuse(error, "The X-Matrix header has a malformed value");
        if (!set_parameter(header, name, value))
            return refuse(error, "The X-Matrix header has a parameter twice");
        skip_blanks(&at);
        if (*at == '\0')
            return TRUE;
        if (*at++ != ',')
            return refuse(error, "The X-Matrix header is malformed: a comma is expected");
        skip_blanks(&at);
    }
}

XMatrix *
x_matrix_parse(const char *value, GError **error)
{
    static const char scheme[] = "X-Matrix ";
    g_autoptr(XMatrix) header = g_new0(XMatrix, 1);
    if (value == NULL || g_ascii_strncasecmp(value, scheme, strlen(scheme)) != 0) {
        refuse(error, "Sign the request: an Authorization header of scheme X-Matrix is missing");
        return NULL;
    }
    if (strlen(value) > X_MATRIX_BYTES_MAX) {
        refuse(error, "The X-Matrix header is too long");
        return NULL;
    }
    const char *at = value + strlen(scheme);
    skip_blanks(&at);
    if (!read_parameters(header, at, error))
        return NULL;
    if (header->origin == NULL || header->destination == NULL || header->key_id == NULL ||
        header->signature == NULL) {
        refuse(error, "The X-Matrix header must have origin, destination, key and sig");
        return NULL;
    }
    if (!identifier_server_name_valid(header->origin) ||
        !identifier_server_name_valid(header->destination) ||
        !g_str_has_prefix(header->key_id, "ed25519:")) {
        refuse(error, "The X-Matrix header names no valid server or no Ed25519 key");
        return NULL;
    }
    return g_steal_pointer(&header);
}

/* What is signed: canonical JSON, its keys written in order. @content: canonical, or NULL. */
static GString *
signed_bytes(const char *origin, const char *destination, const char *method, const char *target,
             const char *content, gsize content_length)
{
    GString *out = g_string_new("{");
    if (content != NULL) {
        g_string_append(out, "\"content\":");
        g_string_append_len(out, content, (gssize)content_length);
        g_string_append_c(out, ',');
    }
    g_string_append(out, "\"destination\":");
    json_append_string(out, destination);
    g_string_append(out, ",\"method\":");
    json_append_string(out, method);
    g_string_append(out, ",\"origin\":");
    json_append_string(out, origin);
    g_string_append(out, ",\"uri\":");
    json_append_string(out, target);
    g_string_append_c(out, '}');
    return out;
}

gboolean
x_matrix_verify(const XMatrix *header, const guint8 public_key[PUBLIC_KEY_BYTES],
                const char *method, const char *target, const cJSON *content, GError **error)
{
    g_autoptr(GBytes) canonical = NULL;
    gsize length = 0;
    if (!g_utf8_validate(target, -1, NULL))
        return refuse(error, "The request's target is not valid UTF-8");
    if (content != NULL && (canonical = json_canonical(content, error)) == NULL)
        return FALSE;
    const char *bytes = canonical != NULL ? g_bytes_get_data(canonical, &length) : NULL;
    g_autoptr(GString) message =
        signed_bytes(header->origin, header->destination, method, target, bytes, length);
    if (!ed25519_verify(public_key, message->str, message->len, header->signature))
        return refuse(error, "The signature on the request does not verify");
    return TRUE;
}

char *
x_matrix_sign(const ServerKey *key, const char *origin, const char *destination, const char *method,
              const char *target, GBytes *content)
{
    gsize length = 0;
    const char *bytes = content != NULL ? g_bytes_get_data(content, &length) : NULL;
    g_autoptr(GString) message = signed_bytes(origin, destination, method, target, bytes, length);
    g_autofree char *signature = server_key_sign(key, message->str, message->len);
    return g_strdup_printf("X-Matrix origin=\"%s\",destination=\"%s\",key=\"%s\",sig=\"%s\"",
                           origin, destination, server_key_id(key), signature);
}
