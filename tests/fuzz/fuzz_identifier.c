/* Fuzz target: user ids, room ids, event ids and server names of strangers, and the patterns of
 * m.room.server_acl, which are also asked of fnmatch(). */
#include <fnmatch.h>
#include <string.h>

#include "federation/room/identifier.h"
#include "federation/room/server_acl.h"
#include "identity/device_link.h"
#include "identity/statement.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static void
check_ids(const char *text)
{
    const char *server = identifier_server(text);
    if (identifier_user_id_strict(text))
        g_assert_true(identifier_user_id_valid(text));
    if (identifier_user_id_valid(text) || (server != NULL && identifier_room_id_valid(text))) {
        g_assert_cmpuint(strlen(text), <=, IDENTIFIER_BYTES_MAX);
        g_assert_true(identifier_server_name_valid(server));
        g_assert_true(identifier_same_server(text, text));
        g_autofree char *id = g_strconcat("@a:", server, NULL);
        g_assert_true(strlen(id) > IDENTIFIER_BYTES_MAX || identifier_user_id_valid(id));
    }
    if (identifier_server_name_valid(text)) {
        g_assert_null(strpbrk(text, "@/\\ \t\r\n\"#?%"));
        g_assert_true(server_acl_allows(NULL, text));
    }
    if (identifier_is_hash(text, '!'))
        g_assert_true(identifier_room_id_valid(text));
    if (statement_user_id_is_valid(text, "a.example"))
        g_assert_true(identifier_user_id_strict(text) && g_str_has_suffix(text, ":a.example"));
    if (device_id_is_valid(text))
        g_assert_cmpuint(strlen(text), <=, DEVICE_ID_BYTES_MAX);
}

/* The first line is a pattern, the second a server's name. */
static void
check_acl(const char *pattern, const char *name)
{
    g_autoptr(cJSON) content = cJSON_CreateObject();
    g_autoptr(cJSON) nobody = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(content, "allow"), cJSON_CreateString(pattern));
    cJSON_AddItemToArray(cJSON_AddArrayToObject(nobody, "allow"), cJSON_CreateString("*"));
    cJSON_AddItemToArray(cJSON_AddArrayToObject(nobody, "deny"), cJSON_CreateString(pattern));
    gboolean allowed = server_acl_allows(content, name);
    /* What is allowed by a pattern alone is what is denied by it alone. */
    g_assert_true(strlen(pattern) > 255 || allowed == !server_acl_allows(nobody, name));
    if (!identifier_server_name_valid(name) || name[0] == '[' || strlen(pattern) > 255 ||
        strchr(pattern, '[') != NULL || !g_str_is_ascii(pattern))
        return;
    g_autofree char *host = g_strndup(name, strcspn(name, ":"));
    g_assert_cmpint(allowed, ==, fnmatch(pattern, host, FNM_NOESCAPE | FNM_CASEFOLD) == 0);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_auto(GStrv) lines = g_strsplit(text, "\n", 3);
    check_ids(text);
    for (guint i = 0; lines[i] != NULL; i++)
        check_ids(lines[i]);
    if (g_strv_length(lines) >= 2 && g_utf8_validate(text, -1, NULL))
        check_acl(lines[0], lines[1]);
    return 0;
}
