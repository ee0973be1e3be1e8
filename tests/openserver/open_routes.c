#include "tests/openserver/open_routes.h"

#include <sodium.h>
#include <string.h>

#include "identity/refusal.h"
#include "identity/session.h"
#include "server/client/link.h"
#include "server/server.h"
#include "tests/openserver/accounts.h"

extern const Route *const route_tables[]; /* server/routes.c */

static char *secret;
static GMutex lock;
static GHashTable *nonces; /* those given out and not used */

/* ---- registration by a shared secret, as load tools know it ---- */

static Response *
register_nonce_get(Request *request, GError **error)
{
    guint8 random[16];
    char text[33];
    cJSON *answer = cJSON_CreateObject();
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(text, sizeof text, random, sizeof random);
    g_mutex_lock(&lock);
    if (g_hash_table_size(nonces) > 10000)
        g_hash_table_remove_all(nonces);
    g_hash_table_add(nonces, g_strdup(text));
    g_mutex_unlock(&lock);
    cJSON_AddStringToObject(answer, "nonce", text);
    return response_value(200, answer);
}

static gboolean
mac_agrees(const cJSON *body, const char *nonce, const char *user, const char *password)
{
    static const char zero = '\0';
    const char *admin = json_get_boolean(body, "admin", FALSE) ? "admin" : "notadmin";
    const char *user_type = json_get_string(body, "user_type");
    const char *given = json_get_string(body, "mac");
    const char *const parts[] = {nonce, user, password, admin, user_type};
    g_autoptr(GHmac) hmac = g_hmac_new(G_CHECKSUM_SHA1, (const guint8 *)secret, strlen(secret));
    for (guint i = 0; i < G_N_ELEMENTS(parts) && parts[i] != NULL; i++) {
        if (i > 0)
            g_hmac_update(hmac, (const guint8 *)&zero, 1);
        g_hmac_update(hmac, (const guint8 *)parts[i], (gssize)strlen(parts[i]));
    }
    return g_strcmp0(given, g_hmac_get_string(hmac)) == 0;
}

static Response *
register_secret_post(Request *request, GError **error)
{
    const cJSON *body = request_json(request);
    const char *nonce = json_require_string(body, "nonce", error);
    const char *user = nonce != NULL ? json_require_string(body, "username", error) : NULL;
    const char *password = user != NULL ? json_require_string(body, "password", error) : NULL;
    g_autoptr(CertificateProof) proof = NULL;

    if (password == NULL)
        return NULL;
    g_mutex_lock(&lock);
    gboolean fresh = g_hash_table_remove(nonces, nonce);
    g_mutex_unlock(&lock);
    if (secret == NULL || !fresh || !mac_agrees(body, nonce, user, password))
        return response_error(403, "M_FORBIDDEN", "The nonce or the HMAC is not right");
    {
        g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
        proof = connection != NULL ? accounts_register(connection, user, password, error) : NULL;
    }
    if (proof == NULL)
        return NULL;
    SessionWish wish = login_wish(request, body);
    return login_link(request, proof, LOGIN_OPEN, &wish, error);
}

static const Route suite_routes[] = {
    {"GET", "/_synapse/admin/v1/register", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE,
     register_nonce_get},
    {"POST", "/_synapse/admin/v1/register", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_JSON,
     register_secret_post},
    {NULL},
};

/* ---- older names ---- */

static gboolean
has_route(const char *method, const char *path)
{
    for (guint table = 0; route_tables[table] != NULL; table++)
        for (const Route *route = route_tables[table]; route->method != NULL; route++)
            if (strcmp(route->method, method) == 0 && strcmp(route->path, path) == 0)
                return TRUE;
    return FALSE;
}

/* Each client route once more under r0, and under unstable where that is not a route already. */
static Route *
older_routes(void)
{
    static const struct {
        const char *from;
        const char *to;
    } prefixes[] = {
        {"/_matrix/client/v3/", "/_matrix/client/r0/"},
        {"/_matrix/client/v3/", "/_matrix/client/unstable/"},
        {"/_matrix/media/v3/", "/_matrix/media/r0/"},
    };
    GArray *older = g_array_new(TRUE, TRUE, sizeof(Route));
    for (guint i = 0; i < G_N_ELEMENTS(prefixes); i++)
        for (guint table = 0; route_tables[table] != NULL; table++)
            for (const Route *route = route_tables[table]; route->method != NULL; route++) {
                if (!g_str_has_prefix(route->path, prefixes[i].from))
                    continue;
                Route copy = *route;
                g_autofree char *path =
                    g_strconcat(prefixes[i].to, route->path + strlen(prefixes[i].from), NULL);
                if (has_route(copy.method, path))
                    continue;
                copy.path = g_steal_pointer(&path);
                g_array_append_val(older, copy);
            }
    return (Route *)(void *)g_array_free(older, FALSE);
}

const Route *const *
open_routes(const char *shared_secret)
{
    static const Route *const *volatile gathered; /* lives as long as the program */
    GPtrArray *tables = g_ptr_array_new();
    secret = g_strdup(shared_secret);
    nonces = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint table = 0; route_tables[table] != NULL; table++)
        g_ptr_array_add(tables, (gpointer)route_tables[table]);
    g_ptr_array_add(tables, (gpointer)suite_routes);
    g_ptr_array_add(tables, older_routes());
    g_ptr_array_add(tables, NULL);
    gathered = (const Route *const *)g_ptr_array_free(tables, FALSE);
    return gathered;
}
