#include "federation/server_acl.h"

#include <arpa/inet.h>
#include <string.h>

/* "*" any characters, "?" one; without regard to case.  Goes back only to the newest star, so the
 * work is at most the product of the two lengths. */
static gboolean
glob_matches(const char *glob, const char *text)
{
    const char *star = NULL;
    const char *resume = NULL;

    while (*text != '\0') {
        if (*glob == '*') {
            star = glob++;
            resume = text;
        } else if (*glob == '?' || g_ascii_tolower(*glob) == g_ascii_tolower(*text)) {
            glob++;
            text++;
        } else if (star != NULL) {
            glob = star + 1;
            text = ++resume;
        } else {
            return FALSE;
        }
    }
    while (*glob == '*')
        glob++;
    return *glob == '\0';
}

static gboolean
list_matches(const cJSON *content, const char *key, const char *name)
{
    const cJSON *list = json_get_array(content, key);
    const cJSON *entry;

    cJSON_ArrayForEach(entry, list) if (cJSON_IsString(entry) &&
                                        glob_matches(entry->valuestring, name)) return TRUE;
    return FALSE;
}

static gboolean
is_ip_literal(const char *name)
{
    struct in_addr address;

    return name[0] == '[' || inet_pton(AF_INET, name, &address) == 1;
}

gboolean
server_acl_allows(const cJSON *content, const char *server_name)
{
    g_autofree char *name = g_strdup(server_name);
    char *port = strrchr(name, ':');

    /* Ports do not count. */
    if (port != NULL && strspn(port + 1, "0123456789") == strlen(port + 1) &&
        (name[0] != '[' || port[-1] == ']'))
        *port = '\0';
    if (!json_get_boolean(content, "allow_ip_literals", TRUE) && is_ip_literal(name))
        return FALSE;
    if (list_matches(content, "deny", name))
        return FALSE;
    return list_matches(content, "allow", name);
}
