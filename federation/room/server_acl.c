#include "federation/room/server_acl.h"

#include <arpa/inet.h>
#include <string.h>

/* `*` any run, `?` one byte.  Only the newest star is ever gone back to, so the time is bounded by
 * the product of both lengths, each of at most 255 bytes here. */
static gboolean
glob_matches(const char *pattern, const char *text)
{
    const char *star = NULL;
    const char *resume = NULL;
    while (*text != '\0') {
        if (*pattern == '*') {
            star = pattern++;
            resume = text;
        } else if (*pattern == '?' || g_ascii_tolower(*pattern) == g_ascii_tolower(*text)) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star + 1;
            text = ++resume;
        } else {
            return FALSE;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

#define PATTERN_BYTES_MAX 255 /* longer ones can match no server name but by stars alone */

static gboolean
any_matches(const cJSON *patterns, const char *host)
{
    if (!cJSON_IsArray(patterns))
        return FALSE;
    for (const cJSON *item = patterns->child; item != NULL; item = item->next)
        if (cJSON_IsString(item) && strlen(item->valuestring) <= PATTERN_BYTES_MAX &&
            glob_matches(item->valuestring, host))
            return TRUE;
    return FALSE;
}

/* The name without its port. */
static char *
host_of(const char *server_name)
{
    const char *end = server_name[0] == '[' ? strchr(server_name, ']') : NULL;
    const char *colon = strchr(end != NULL ? end : server_name, ':');
    return colon != NULL ? g_strndup(server_name, (gsize)(colon - server_name))
                         : g_strdup(server_name);
}

static gboolean
is_ip_literal(const char *host)
{
    struct in_addr four;
    return host[0] == '[' || inet_pton(AF_INET, host, &four) == 1;
}

gboolean
server_acl_allows(const cJSON *content, const char *server_name)
{
    if (content == NULL)
        return TRUE;
    g_autofree char *host = host_of(server_name);
    if (!json_get_boolean(content, "allow_ip_literals", TRUE) && is_ip_literal(host))
        return FALSE;
    if (any_matches(json_get_array(content, "deny"), host))
        return FALSE;
    return any_matches(json_get_array(content, "allow"), host);
}
