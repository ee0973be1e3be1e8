#include "federation/room/identifier.h"

#include <string.h>

#define HASH_LENGTH 43 /* 32 bytes in unpadded base64 */

static gboolean
port_valid(const char *port)
{
    gsize length = strlen(port);
    return length >= 1 && length <= 5 && strspn(port, "0123456789") == length;
}

gboolean
identifier_server_name_valid(const char *name)
{
    gsize length = name != NULL ? strlen(name) : 0;
    if (length == 0 || length > SERVER_NAME_BYTES_MAX)
        return FALSE;

    const char *rest;
    if (name[0] == '[') {
        gsize inner = strspn(name + 1, "0123456789ABCDEFabcdef:.");
        if (inner < 2 || inner > 45 || name[1 + inner] != ']')
            return FALSE;
        rest = name + inner + 2;
    } else {
        gsize host = 0;
        while (g_ascii_isalnum(name[host]) || name[host] == '-' || name[host] == '.')
            host++;
        if (host == 0)
            return FALSE;
        rest = name + host;
    }
    return *rest == '\0' || (*rest == ':' && port_valid(rest + 1));
}

gboolean
identifier_user_id_valid(const char *user_id)
{
    if (user_id == NULL || user_id[0] != '@' || strlen(user_id) > IDENTIFIER_BYTES_MAX)
        return FALSE;
    const char *server = identifier_server(user_id);
    return server != NULL && identifier_server_name_valid(server);
}

gboolean
identifier_user_id_strict(const char *user_id)
{
    if (!identifier_user_id_valid(user_id))
        return FALSE;
    gsize local = strspn(user_id + 1, "abcdefghijklmnopqrstuvwxyz0123456789._=-/+");
    return local > 0 && user_id[1 + local] == ':';
}

const char *
identifier_server(const char *id)
{
    const char *colon = id != NULL ? strchr(id, ':') : NULL;
    return colon != NULL ? colon + 1 : NULL;
}

gboolean
identifier_is_of(const char *id, const char *server_name)
{
    return g_strcmp0(identifier_server(id), server_name) == 0;
}

gboolean
identifier_is_user_of(const char *user_id, const char *server_name)
{
    return identifier_user_id_valid(user_id) && identifier_is_of(user_id, server_name);
}

gboolean
identifier_same_server(const char *a, const char *b)
{
    const char *server_a = identifier_server(a);
    const char *server_b = identifier_server(b);
    return server_a != NULL && server_b != NULL && strcmp(server_a, server_b) == 0;
}

gboolean
identifier_is_hash(const char *id, char sigil)
{
    if (id == NULL || id[0] != sigil || strlen(id) != HASH_LENGTH + 1)
        return FALSE;
    for (const char *p = id + 1; *p != '\0'; p++)
        if (!g_ascii_isalnum(*p) && *p != '-' && *p != '_')
            return FALSE;
    /* 43 characters hold 258 bits: the last two must be zero, or one hash had four spellings. */
    return strchr("AEIMQUYcgkosw048", id[HASH_LENGTH]) != NULL;
}

gboolean
identifier_room_id_valid(const char *room_id)
{
    if (room_id == NULL || room_id[0] != '!' || strlen(room_id) > IDENTIFIER_BYTES_MAX)
        return FALSE;
    const char *server = identifier_server(room_id);
    return server != NULL ? identifier_server_name_valid(server) : identifier_is_hash(room_id, '!');
}
