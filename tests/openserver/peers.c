#include "tests/openserver/peers.h"

#include <curl/curl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "identity/json.h"
#include "identity/signed_json.h"
#include "identity/unpadded_base64.h"

#define KEY_ANSWER_BYTES_MAX 65536
#define DEFAULT_PORT 8448

static GMutex lock;
static GHashTable *table; /* server name -> "host:port" */
static GHashTable *keys;  /* "server name key id" -> GBytes */
static char *ca;

void
peers_open(const char *ca_file)
{
    ca = g_strdup(ca_file);
    table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);
}

gboolean
peers_add(const char *line)
{
    const char *equals = strchr(line, '=');
    if (equals == NULL || equals == line || strchr(equals, ':') == NULL)
        return FALSE;
    g_hash_table_replace(table, g_strndup(line, (gsize)(equals - line)), g_strdup(equals + 1));
    return TRUE;
}

static char *
numeric(const char *host)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char text[NI_MAXHOST];
    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return NULL;
    gboolean read = getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, NULL, 0,
                                NI_NUMERICHOST) == 0;
    freeaddrinfo(found);
    return read ? g_strdup(text) : NULL;
}

gboolean
peers_find(const char *server_name, char **ret_host, guint16 *ret_port)
{
    const char *listed = g_hash_table_lookup(table, server_name);
    const char *where = listed != NULL ? listed : server_name;
    const char *colon = strrchr(where, ':');
    g_autofree char *host =
        colon != NULL ? g_strndup(where, (gsize)(colon - where)) : g_strdup(where);
    *ret_host = numeric(host);
    *ret_port = colon != NULL ? (guint16)strtoul(colon + 1, NULL, 10) : DEFAULT_PORT;
    return *ret_host != NULL;
}

static size_t
collect(char *bytes, size_t size, size_t count, void *data)
{
    GString *body = data;
    if (body->len + size * count > KEY_ANSWER_BYTES_MAX)
        return 0;
    g_string_append_len(body, bytes, (gssize)(size * count));
    return size * count;
}

static cJSON *
fetch_keys(const char *server_name)
{
    g_autofree char *host = NULL;
    guint16 port = 0;
    g_autoptr(GString) body = g_string_new(NULL);
    CURL *curl = curl_easy_init();
    gboolean fetched = FALSE;

    if (curl != NULL && peers_find(server_name, &host, &port)) {
        g_autofree char *to = g_strdup_printf("::%s:%u", host, port);
        g_autofree char *url = g_strdup_printf("https://%s/_matrix/key/v2/server", server_name);
        struct curl_slist *connect_to = curl_slist_append(NULL, to);
        curl_easy_setopt(curl, CURLOPT_URL, url);
        curl_easy_setopt(curl, CURLOPT_CONNECT_TO, connect_to);
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, 10L);
        if (ca != NULL)
            curl_easy_setopt(curl, CURLOPT_CAINFO, ca);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
        fetched = curl_easy_perform(curl) == CURLE_OK;
        curl_slist_free_all(connect_to);
    }
    curl_easy_cleanup(curl);
    return fetched ? json_parse(body->str, body->len, &json_limits_request, NULL) : NULL;
}

/* Both the keys in use and the old ones: suites replay events. */
static void
remember(const char *server_name, const cJSON *answer)
{
    const char *const maps[] = {"verify_keys", "old_verify_keys"};
    for (guint i = 0; i < G_N_ELEMENTS(maps); i++) {
        const cJSON *map = json_get_object(answer, maps[i]);
        for (const cJSON *item = map != NULL ? map->child : NULL; item != NULL; item = item->next) {
            g_autoptr(GBytes) key =
                unpadded_base64_decode(json_get_string(item, "key"), BASE64_STANDARD);
            if (key == NULL || g_bytes_get_size(key) != 32)
                continue;
            if (i == 0 && !signed_json_verify(answer, server_name, item->string,
                                              g_bytes_get_data(key, NULL), NULL))
                continue;
            g_hash_table_replace(keys, g_strconcat(server_name, " ", item->string, NULL),
                                 g_bytes_ref(key));
        }
    }
}

gboolean
peers_find_key(const char *server_name, const char *key_id, guint8 ret_key[32])
{
    g_autofree char *name = g_strconcat(server_name, " ", key_id, NULL);
    g_mutex_lock(&lock);
    GBytes *key = g_hash_table_lookup(keys, name);
    if (key == NULL) {
        g_autoptr(cJSON) answer = fetch_keys(server_name);
        if (answer != NULL && g_strcmp0(json_get_string(answer, "server_name"), server_name) == 0)
            remember(server_name, answer);
        key = g_hash_table_lookup(keys, name);
    }
    if (key != NULL)
        memcpy(ret_key, g_bytes_get_data(key, NULL), 32);
    g_mutex_unlock(&lock);
    return key != NULL;
}
