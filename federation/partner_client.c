#include "federation/partner_client.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <string.h>
#include <unistd.h>

#include "federation/partner_private.h"
#include "federation/x_matrix.h"
#include "identity/clock.h"
#include "identity/refusal.h"
#include "identity/unpadded_base64.h"
#include "storage/store.h"

G_DEFINE_QUARK(chancery - partner - client - error, partner_client_error)

#define CONNECTIONS_MAX 64
#define PER_PARTNER_MAX 4
#define CALLS_MAX 2000 /* waiting and running, all partners together */
#define CALLBACK_THREADS 2
#define CONNECT_MS 10000
#define POLL_MS 1000
#define SENTENCE_MAX 300 /* bytes of a partner's own words that we repeat */

static const struct {
    long timeout_ms;
    gsize bytes_max;
} efforts[] = {
    [PARTNER_QUICK] = {30 * 1000, 4 * 1024 * 1024},
    [PARTNER_SEND] = {60 * 1000, 1024 * 1024},
    [PARTNER_LARGE] = {180 * 1000, 64 * 1024 * 1024},
};

struct PartnerClient {
    char *own_name;
    char *certificate_file;
    char *private_key_file;
    char *ca_file;
    Partners *partners;
    const ServerKey *key;
    guint connections_max, per_partner_max;

    CURLM *multi;
    GThread *thread;
    GThreadPool *callbacks;
    guint64 connections; /* atomic */

    GMutex lock; /* arriving, stopping, calls */
    GQueue arriving;
    gboolean stopping;
    guint calls; /* begun, their callback not yet run */

    GHashTable *running; /* Call -> itself; the client's thread alone */
    gint recheck;        /* atomic: look whether all running ones are still allowed */
};

/* One request, from partner_client_send() to its callback. */
typedef struct {
    PartnerClient *client;
    char *server_name;
    char *method;
    char *target;
    GBytes *content;
    PartnerEffort effort;
    PartnerDone done;
    gpointer data;

    Partner *partner;
    CURL *easy;
    struct curl_slist *headers;
    struct curl_slist *connect_to;
    GByteArray *body;
    gboolean too_large;
    char curl_error[CURL_ERROR_SIZE];
    guint status;
    GError *error;
} Call;

static void
call_free(Call *call)
{
    if (call->easy != NULL)
        curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    curl_slist_free_all(call->connect_to);
    g_clear_pointer(&call->content, g_bytes_unref);
    g_byte_array_unref(call->body);
    partner_unref(call->partner);
    g_clear_error(&call->error);
    g_free(call->server_name);
    g_free(call->method);
    g_free(call->target);
    g_free(call);
}

/* ---- the answer, on the callback threads ---- */

/* What a partner may say of a request of ours, and our users' clients then hear.  Nothing else of
 * theirs is repeated: to a client M_UNKNOWN_TOKEN or M_USER_LOCKED say that its own session here is
 * over, and it throws its keys away. */
static const struct {
    guint status;
    const char *errcodes[8]; /* the first one stands for all others */
} repeated[] = {
    {400,
     {"M_UNKNOWN", "M_UNABLE_TO_AUTHORISE_JOIN", "M_UNABLE_TO_GRANT_JOIN",
      "M_INCOMPATIBLE_ROOM_VERSION", "M_INVALID_PARAM", "M_MISSING_PARAM", "M_BAD_JSON"}},
    {403, {"M_FORBIDDEN"}},
    {404, {"M_NOT_FOUND", "M_UNRECOGNIZED"}},
    {429, {"M_LIMIT_EXCEEDED"}},
};

static const char *
repeated_errcode(guint status, const char *errcode)
{
    for (gsize i = 0; i < G_N_ELEMENTS(repeated); i++) {
        if (repeated[i].status != status)
            continue;
        for (const char *const *known = repeated[i].errcodes; *known != NULL; known++)
            if (g_strcmp0(*known, errcode) == 0)
                return *known;
        return repeated[i].errcodes[0];
    }
    return NULL;
}

/* Their words, cut to what may be repeated. */
static void
refusal_from_answer(Call *call, const cJSON *json, GError **error)
{
    const char *errcode = repeated_errcode(call->status, json_get_string(json, "errcode"));
    const char *sentence = json_get_string(json, "error");
    g_autofree char *words =
        g_strndup(sentence != NULL ? sentence : "no reason given", SENTENCE_MAX);
    g_autofree char *valid = g_utf8_make_valid(words, -1);
    refusal_set(error, errcode != NULL ? call->status : 502,
                errcode != NULL ? errcode : "M_UNKNOWN", "%s answers: %s", call->server_name,
                valid);
}

static void
run_callback(gpointer item, gpointer unused)
{
    Call *call = item;
    PartnerClient *client = call->client;
    JsonLimits limits = json_limits_response;
    limits.bytes_max = efforts[call->effort].bytes_max;
    g_autoptr(GError) error = g_steal_pointer(&call->error);
    g_autoptr(cJSON) json = NULL;
    g_autoptr(GBytes) body = g_bytes_new(call->body->data, call->body->len);

    if (error == NULL) {
        g_autoptr(GError) bad = NULL;
        json = json_parse((const char *)call->body->data, call->body->len, &limits, &bad);
        if (call->status >= 300)
            refusal_from_answer(call, json, &error);
        else if (!cJSON_IsObject(json) && !cJSON_IsArray(json))
            g_set_error(&error, PARTNER_CLIENT_ERROR, PARTNER_CLIENT_ERROR_ANSWER,
                        "%s answered with something that is no JSON object (%s)", call->server_name,
                        bad != NULL ? bad->message : "another value");
    }
    PartnerAnswer answer = {call->status, error == NULL ? json : NULL, body, error};
    call->done(&answer, call->data);
    call_free(call);

    g_mutex_lock(&client->lock);
    client->calls--;
    g_mutex_unlock(&client->lock);
}

/* ---- the transfers, on the client's thread ---- */

static size_t
take_body(char *data, size_t size, size_t count, void *user)
{
    Call *call = user;
    gsize length = size * count;
    if (length > efforts[call->effort].bytes_max - call->body->len) {
        call->too_large = TRUE;
        return CURL_WRITEFUNC_ERROR;
    }
    g_byte_array_append(call->body, (const guint8 *)data, (guint)length);
    return length;
}

/* The last door before a socket: whatever libcurl came to think, only the listed address is
 * connected to. */
static curl_socket_t
open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    Call *call = user;
    char host[INET6_ADDRSTRLEN] = "";
    char listed[INET6_ADDRSTRLEN] = "";
    guint16 port = 0;
    struct in6_addr raw;
    const AllowListEntry *entry = call->partner->entry;

    if (address->family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)&address->addr;
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        port = ntohs(four->sin_port);
    } else if (address->family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)&address->addr;
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        port = ntohs(six->sin6_port);
    }
    if (inet_pton(address->family, entry->host, &raw) == 1)
        inet_ntop(address->family, &raw, listed, sizeof listed);
    if (host[0] == '\0' || strcmp(host, listed) != 0 || port != entry->port)
        return CURL_SOCKET_BAD;
    __atomic_add_fetch(&call->client->connections, 1, __ATOMIC_RELAXED);
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* "sha256//…;sha256//…" as CURLOPT_PINNEDPUBLICKEY wants it; NULL without pins. */
static char *
pins_for_curl(const AllowListEntry *entry)
{
    g_autoptr(GString) pins = g_string_new(NULL);
    for (guint i = 0; i < entry->pin_count; i++) {
        g_autofree char *pin = g_base64_encode(entry->pins[i], 32);
        g_string_append_printf(pins, "%ssha256//%s", i > 0 ? ";" : "", pin);
    }
    return pins->len > 0 ? g_string_free(g_steal_pointer(&pins), FALSE) : NULL;
}

static void
set_tls(Call *call)
{
    PartnerClient *client = call->client;
    g_autofree char *pins = pins_for_curl(call->partner->entry);
    curl_easy_setopt(call->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_3);
    if (client->certificate_file != NULL) {
        curl_easy_setopt(call->easy, CURLOPT_SSLCERT, client->certificate_file);
        curl_easy_setopt(call->easy, CURLOPT_SSLKEY, client->private_key_file);
    }
    if (pins != NULL) {
        /* The pin says more than a chain would: this key, whoever certified it. */
        curl_easy_setopt(call->easy, CURLOPT_PINNEDPUBLICKEY, pins);
        curl_easy_setopt(call->easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(call->easy, CURLOPT_SSL_VERIFYHOST, 0L);
    } else if (client->ca_file != NULL) {
        curl_easy_setopt(call->easy, CURLOPT_CAINFO, client->ca_file);
    }
    curl_easy_setopt(call->easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
}

static void
set_address(Call *call)
{
    const AllowListEntry *entry = call->partner->entry;
    gboolean six = strchr(entry->host, ':') != NULL;
    g_autofree char *to = g_strdup_printf(six ? "::[%s]:%u" : "::%s:%u", entry->host, entry->port);
    g_autofree char *url = g_strdup_printf("https://%s%s", entry->server_name, call->target);
    call->connect_to = curl_slist_append(NULL, to);
    curl_easy_setopt(call->easy, CURLOPT_URL, url);
    curl_easy_setopt(call->easy, CURLOPT_PATH_AS_IS, 1L); /* what was signed is what is sent */
    curl_easy_setopt(call->easy, CURLOPT_CONNECT_TO, call->connect_to);
    curl_easy_setopt(call->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(call->easy, CURLOPT_OPENSOCKETDATA, call);
    curl_easy_setopt(call->easy, CURLOPT_PROXY, "");
    curl_easy_setopt(call->easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(call->easy, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(call->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(call->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(call->easy, CURLOPT_MAXAGE_CONN, 60L);
}

static void
set_request(Call *call)
{
    PartnerClient *client = call->client;
    g_autofree char *signature = x_matrix_sign(client->key, client->own_name, call->server_name,
                                               call->method, call->target, call->content);
    g_autofree char *authorization = g_strdup_printf("Authorization: %s", signature);
    call->headers = curl_slist_append(NULL, authorization);
    call->headers = curl_slist_append(call->headers, "Expect:");
    call->headers = curl_slist_append(call->headers, "Accept: application/json");
    curl_easy_setopt(call->easy, CURLOPT_USERAGENT, "Chancery");
    if (call->content != NULL) {
        gsize length = 0;
        const char *bytes = g_bytes_get_data(call->content, &length);
        call->headers = curl_slist_append(call->headers, "Content-Type: application/json");
        curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, bytes);
        curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)length);
    }
    curl_easy_setopt(call->easy, CURLOPT_CUSTOMREQUEST, call->method);
    curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(call->easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(call->easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(call->easy, CURLOPT_ERRORBUFFER, call->curl_error);
    curl_easy_setopt(call->easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(call->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(call->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(call->easy, CURLOPT_TIMEOUT_MS, efforts[call->effort].timeout_ms);
}

static void
finish(Call *call)
{
    if (call->easy != NULL)
        curl_multi_remove_handle(call->client->multi, call->easy);
    g_hash_table_remove(call->client->running, call);
    g_thread_pool_push(call->client->callbacks, call, NULL);
}

static void
begin(Call *call)
{
    PartnerClient *client = call->client;
    g_hash_table_add(client->running, call);
    /* The decision comes before anything that could touch the network. */
    call->partner =
        partners_find(client->partners, call->server_name, PARTNER_OUTBOUND, &call->error);
    if (call->partner == NULL) {
        finish(call);
        return;
    }
    call->easy = curl_easy_init();
    if (call->easy == NULL)
        g_error("libcurl has no memory");
    set_address(call);
    set_tls(call);
    set_request(call);
    curl_multi_add_handle(client->multi, call->easy);
}

static void
finish_transfer(Call *call, CURLcode code)
{
    long status = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (call->too_large)
        g_set_error(&call->error, PARTNER_CLIENT_ERROR, PARTNER_CLIENT_ERROR_ANSWER,
                    "%s answered with more bytes than the limit", call->server_name);
    else if (code != CURLE_OK)
        g_set_error(&call->error, PARTNER_CLIENT_ERROR, PARTNER_CLIENT_ERROR_UNREACHABLE,
                    "%s cannot be reached: %s", call->server_name,
                    call->curl_error[0] != '\0' ? call->curl_error : curl_easy_strerror(code));
    else
        call->status = (guint)status;
    finish(call);
}

static void
finish_all(PartnerClient *client, gboolean only_dropped)
{
    g_autoptr(GPtrArray) calls = g_ptr_array_new();
    GHashTableIter iter;
    gpointer key;
    g_hash_table_iter_init(&iter, client->running);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        g_ptr_array_add(calls, key);
    for (guint i = 0; i < calls->len; i++) {
        Call *call = calls->pdata[i];
        if (only_dropped && partner_is_current(call->partner, PARTNER_OUTBOUND))
            continue;
        if (only_dropped)
            refusal_set(&call->error, 403, "M_FORBIDDEN", "This server no longer federates with %s",
                        call->server_name);
        else
            g_set_error_literal(&call->error, PARTNER_CLIENT_ERROR, PARTNER_CLIENT_ERROR_STOPPED,
                                "this server is stopping");
        finish(call);
    }
}

/* TRUE: go on. */
static gboolean
take_arriving(PartnerClient *client)
{
    Call *call;
    g_mutex_lock(&client->lock);
    gboolean stopping = client->stopping;
    while ((call = g_queue_pop_head(&client->arriving)) != NULL) {
        g_mutex_unlock(&client->lock);
        begin(call);
        g_mutex_lock(&client->lock);
    }
    g_mutex_unlock(&client->lock);
    return !stopping;
}

static gpointer
drive(gpointer data)
{
    PartnerClient *client = data;
    while (take_arriving(client)) {
        int left = 0;
        CURLMsg *message;
        curl_multi_perform(client->multi, &left);
        while ((message = curl_multi_info_read(client->multi, &left)) != NULL) {
            char *call = NULL;
            if (message->msg != CURLMSG_DONE)
                continue;
            CURLcode code = message->data.result;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
            finish_transfer((Call *)(gpointer)call, code);
        }
        if (g_atomic_int_compare_and_exchange(&client->recheck, 1, 0))
            finish_all(client, TRUE);
        curl_multi_poll(client->multi, NULL, 0, POLL_MS, NULL);
    }
    finish_all(client, FALSE);
    return NULL;
}

/* ---- outside ---- */

PartnerClient *
partner_client_new(const PartnerClientSettings *settings, Partners *partners, const ServerKey *key,
                   GError **error)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        g_set_error_literal(error, PARTNER_CLIENT_ERROR, PARTNER_CLIENT_ERROR_STOPPED,
                            "libcurl does not start");
        return NULL;
    }
    /* Without any, no partner that asks for a certificate will talk to us. */
    if (settings->certificate_file != NULL &&
        (settings->private_key_file == NULL || access(settings->certificate_file, R_OK) != 0 ||
         access(settings->private_key_file, R_OK) != 0)) {
        g_set_error(error, PARTNER_CLIENT_ERROR, PARTNER_CLIENT_ERROR_STOPPED,
                    "cannot read the server certificate %s and its key %s",
                    settings->certificate_file,
                    settings->private_key_file != NULL ? settings->private_key_file : "(absent)");
        return NULL;
    }
    PartnerClient *client = g_new0(PartnerClient, 1);
    client->own_name = g_strdup(settings->own_name);
    client->certificate_file = g_strdup(settings->certificate_file);
    client->private_key_file = g_strdup(settings->private_key_file);
    client->ca_file = g_strdup(settings->ca_file);
    client->partners = partners;
    client->key = key;
    g_mutex_init(&client->lock);
    g_queue_init(&client->arriving);
    client->running = g_hash_table_new(NULL, NULL);
    client->multi = curl_multi_init();
    guint connections_max =
        settings->connections_max > 0 ? settings->connections_max : CONNECTIONS_MAX;
    guint per_partner_max =
        settings->per_partner_max > 0 ? settings->per_partner_max : PER_PARTNER_MAX;
    curl_multi_setopt(client->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)connections_max);
    curl_multi_setopt(client->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)per_partner_max);
    client->callbacks = g_thread_pool_new(run_callback, NULL, CALLBACK_THREADS, FALSE, NULL);
    client->thread = g_thread_new("partner-client", drive, client);
    return client;
}

void
partner_client_stop(PartnerClient *client)
{
    if (client->thread == NULL)
        return;
    g_mutex_lock(&client->lock);
    client->stopping = TRUE;
    g_mutex_unlock(&client->lock);
    curl_multi_wakeup(client->multi);
    g_thread_join(g_steal_pointer(&client->thread));
    g_thread_pool_free(g_steal_pointer(&client->callbacks), FALSE, TRUE);
}

void
partner_client_free(PartnerClient *client)
{
    if (client == NULL)
        return;
    partner_client_stop(client);
    curl_multi_cleanup(client->multi);
    g_hash_table_unref(client->running);
    g_mutex_clear(&client->lock);
    g_free(client->own_name);
    g_free(client->certificate_file);
    g_free(client->private_key_file);
    g_free(client->ca_file);
    g_free(client);
}

void
partner_client_send(PartnerClient *client, const char *server_name, const char *method,
                    const char *target, GBytes *content, PartnerEffort effort, PartnerDone done,
                    gpointer data)
{
    Call *call = g_new0(Call, 1);
    call->client = client;
    call->server_name = g_strdup(server_name);
    call->method = g_strdup(method);
    call->target = g_strdup(target);
    call->content = content != NULL ? g_bytes_ref(content) : NULL;
    call->effort = effort;
    call->done = done;
    call->data = data;
    call->body = g_byte_array_new();

    g_mutex_lock(&client->lock);
    client->calls++;
    if (client->stopping)
        g_set_error_literal(&call->error, PARTNER_CLIENT_ERROR, PARTNER_CLIENT_ERROR_STOPPED,
                            "this server is stopping");
    else if (client->calls > CALLS_MAX)
        g_set_error_literal(&call->error, STORE_ERROR, STORE_ERROR_BUSY,
                            "too many requests to partners are waiting");
    else
        g_queue_push_tail(&client->arriving, call);
    gboolean stopped = client->stopping;
    g_mutex_unlock(&client->lock);
    if (stopped) /* the pool may be gone */
        run_callback(call, NULL);
    else if (call->error != NULL)
        g_thread_pool_push(client->callbacks, call, NULL);
    else
        curl_multi_wakeup(client->multi);
}

char *
partner_client_target(const char *format, ...)
{
    g_autoptr(GString) target = g_string_new(NULL);
    va_list segments;
    va_start(segments, format);
    for (const char *at = format; *at != '\0'; at++) {
        if (at[0] == '%' && at[1] == 's') {
            g_string_append_uri_escaped(target, va_arg(segments, const char *), NULL, FALSE);
            at++;
        } else {
            g_string_append_c(target, *at);
        }
    }
    va_end(segments);
    return g_string_free(g_steal_pointer(&target), FALSE);
}

guint64
partner_client_connections(PartnerClient *client)
{
    return __atomic_load_n(&client->connections, __ATOMIC_RELAXED);
}

void
partner_client_recheck(PartnerClient *client)
{
    g_atomic_int_set(&client->recheck, 1);
    curl_multi_wakeup(client->multi);
}
