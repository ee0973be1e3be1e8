#include <string.h>

#include "identity/clock.h"
#include "identity/refusal.h"
#include "identity/seeded_hash.h"
#include "server/access_log.h"
#include "server/http/front_private.h"

/* A client gets this long to take an answer, and then a second for every 8 KiB. */
#define WRITE_GRACE_MS (60 * 1000)
#define WRITE_RATE 8
#define QUERY_PARAMETERS_MAX 100

typedef struct {
    gpointer data;
    RequestFree free_function;
} Kept;

static void
kept_free(gpointer data)
{
    Kept *kept = data;

    kept->free_function(kept->data);
    g_free(kept);
}

Request *
request_new(HttpListener *listener, Connection *connection, struct MHD_Connection *mhd,
            const char *target)
{
    Request *request = g_new0(Request, 1);

    request->refs = 1;
    request->front = listener->front;
    request->server = listener->front->server;
    request->listener = listener;
    request->target = g_strdup(target);
    request->peer_address = g_strdup(connection->peer_address);
    request->headers = g_ptr_array_new_with_free_func(g_free);
    request->kept = g_ptr_array_new_with_free_func(kept_free);
    request->started_us = g_get_monotonic_time();
    request->mhd = mhd;
    request->connection = connection;
    g_mutex_init(&request->lock);
    return request;
}

Request *
request_ref(Request *request)
{
    g_atomic_int_inc(&request->refs);
    return request;
}

void
request_unref(Request *request)
{
    if (request == NULL || !g_atomic_int_dec_and_test(&request->refs))
        return;
    /* In the reverse order of keeping: the later may lean on the earlier. */
    while (request->kept->len > 0)
        g_ptr_array_remove_index(request->kept, request->kept->len - 1);
    g_ptr_array_unref(request->kept);
    if (request->session != NULL)
        request->front->callers->user_free(request->session);
    if (request->partner != NULL)
        request->front->callers->partner_free(request->partner);
    g_clear_pointer(&request->chain, g_ptr_array_unref);
    g_clear_pointer(&request->exporter, g_bytes_unref);
    g_clear_pointer(&request->query, g_hash_table_unref);
    g_clear_pointer(&request->upload, g_byte_array_unref);
    g_clear_pointer(&request->body, g_bytes_unref);
    request_give_room_back(request);
    g_clear_pointer(&request->json, cJSON_Delete);
    g_clear_pointer(&request->refusal, response_free);
    g_ptr_array_unref(request->headers);
    g_strfreev(request->path_values);
    g_free(request->peer_address);
    g_free(request->target);
    g_free(request->method);
    g_mutex_clear(&request->lock);
    g_free(request);
}

/* ---- what the request says ---- */

Server *
request_server(const Request *request)
{
    return request->server;
}

const char *
request_method(const Request *request)
{
    return request->method;
}

const char *
request_target(const Request *request)
{
    return request->target;
}

const char *
request_path(const Request *request, const char *name)
{
    const char *at = request->route->path;
    gsize length = strlen(name);

    for (guint i = 0; (at = strchr(at, '{')) != NULL; at++, i++)
        if (strncmp(at + 1, name, length) == 0 && at[1 + length] == '}')
            return request->path_values[i];
    g_error("route %s has no {%s}", request->route->path, name); /* our own mistake */
}

static void
values_free(gpointer values)
{
    g_ptr_array_unref(values);
}

/* A parameter that cannot be decoded reads as absent; so do those beyond the limit. */
static void
add_parameter(GHashTable *query, const char *text, gsize length)
{
    const char *equals = memchr(text, '=', length);
    gsize name_length = equals != NULL ? (gsize)(equals - text) : length;
    g_autofree char *name = percent_decode(text, (gssize)name_length, TRUE);
    g_autofree char *value =
        equals != NULL ? percent_decode(equals + 1, (gssize)(length - name_length - 1), TRUE)
                       : g_strdup("");
    GPtrArray *values;

    if (name == NULL || value == NULL)
        return;
    values = g_hash_table_lookup(query, name);
    if (values == NULL) {
        values = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(values, NULL);
        g_hash_table_insert(query, g_steal_pointer(&name), values);
    }
    values->pdata[values->len - 1] = g_steal_pointer(&value);
    g_ptr_array_add(values, NULL);
}

static GHashTable *
parse_query(const char *target)
{
    GHashTable *query = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, values_free);
    const char *at = strchr(target, '?');

    for (guint i = 0; at != NULL && i < QUERY_PARAMETERS_MAX; i++) {
        const char *start = at + 1;
        at = strchr(start, '&');
        if (at != start && *start != '\0')
            add_parameter(query, start, at != NULL ? (gsize)(at - start) : strlen(start));
    }
    return query;
}

/* Made when first asked for; a request is read by one thread at a time. */
static GPtrArray *
query_values(const Request *request, const char *name)
{
    Request *own = (Request *)request;

    if (own->query == NULL)
        own->query = parse_query(own->target);
    return g_hash_table_lookup(own->query, name);
}

const char *
request_query(const Request *request, const char *name)
{
    GPtrArray *values = query_values(request, name);

    return values != NULL ? values->pdata[0] : NULL;
}

const char *const *
request_query_all(const Request *request, const char *name)
{
    static const char *const none[] = {NULL};
    GPtrArray *values = query_values(request, name);

    return values != NULL ? (const char *const *)values->pdata : none;
}

gboolean
request_query_integer(const Request *request, const char *name, gint64 minimum, gint64 maximum,
                      gint64 otherwise, gint64 *ret_value, GError **error)
{
    const char *text = request_query(request, name);
    gint64 value = otherwise;

    if (text != NULL && !g_ascii_string_to_signed(text, 10, minimum, maximum, &value, NULL)) {
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "Query parameter %s must be a whole number from %" G_GINT64_FORMAT
                    " to %" G_GINT64_FORMAT,
                    name, minimum, maximum);
        return FALSE;
    }
    *ret_value = value;
    return TRUE;
}

const char *
request_header(const Request *request, const char *name)
{
    for (guint i = 0; i + 1 < request->headers->len; i += 2)
        if (g_ascii_strcasecmp(request->headers->pdata[i], name) == 0)
            return request->headers->pdata[i + 1];
    return NULL;
}

GBytes *
request_body(const Request *request)
{
    return request->body;
}

const cJSON *
request_json(const Request *request)
{
    return request->json;
}

const Session *
request_session(const Request *request)
{
    return request->session;
}

const char *
request_user_id(const Request *request)
{
    return request->session != NULL ? request->front->callers->user_id(request->session) : NULL;
}

const char *
request_device_id(const Request *request)
{
    return request->session != NULL ? request->front->callers->device_id(request->session) : NULL;
}

const char *
request_origin(const Request *request)
{
    return request->partner != NULL ? request->front->callers->partner_name(request->partner)
                                    : NULL;
}

GPtrArray *
request_certificate_chain(const Request *request)
{
    return request->chain;
}

GBytes *
request_tls_exporter(const Request *request)
{
    return request->exporter;
}

void
request_keep(Request *request, gpointer data, RequestFree free_function)
{
    Kept *kept = g_new(Kept, 1);

    *kept = (Kept){data, free_function};
    g_ptr_array_add(request->kept, kept);
}

gboolean
request_is_connected(const Request *request)
{
    Request *own = (Request *)request;
    gboolean connected;

    g_mutex_lock(&own->lock);
    connected = !own->gone && own->mhd != NULL;
    g_mutex_unlock(&own->lock);
    return connected;
}

/* ---- the answer ---- */

static void
unref_bytes(void *bytes)
{
    g_bytes_unref(bytes);
}

static void
add_common_headers(const Request *request, struct MHD_Response *answer, const Response *response)
{
    if ((request->listener->serves & LISTEN_CLIENT) != 0) {
        /* Client-server API, "Web Browser Clients". */
        MHD_add_response_header(answer, "Access-Control-Allow-Origin", "*");
        MHD_add_response_header(answer, "Access-Control-Allow-Methods",
                                "GET, POST, PUT, DELETE, OPTIONS");
        MHD_add_response_header(answer, "Access-Control-Allow-Headers",
                                "X-Requested-With, Content-Type, Authorization");
        MHD_add_response_header(answer, "Access-Control-Max-Age", "86400");
    }
    if ((request->listener->serves & LISTEN_CERTIFICATE) != 0)
        MHD_add_response_header(answer, "X-Frame-Options", "DENY");
    MHD_add_response_header(answer, "X-Content-Type-Options", "nosniff");
    if (response_find_header(response, "Cache-Control") == NULL)
        MHD_add_response_header(answer, "Cache-Control", "no-store");
}

static struct MHD_Response *
make_answer(const Request *request, Response *response, gboolean close)
{
    GBytes *body = g_bytes_ref(response_body(response));
    gsize length;
    const void *data = g_bytes_get_data(body, &length);
    /* libmicrohttpd takes a body of 0 bytes only with a pointer that is not NULL. */
    struct MHD_Response *answer = MHD_create_response_from_buffer_with_free_callback_cls(
        length, (void *)(length > 0 ? data : ""), unref_bytes, body);

    if (answer == NULL) {
        g_bytes_unref(body);
        return NULL;
    }
    for (guint i = 0; i + 1 < response->headers->len; i += 2)
        MHD_add_response_header(answer, response->headers->pdata[i],
                                response->headers->pdata[i + 1]);
    add_common_headers(request, answer, response);
    if (close)
        MHD_add_response_header(answer, "Connection", "close");
    return answer;
}

static void
log_answer(const Request *request, Response *response)
{
    AccessLine line = {
        .listener = (request->listener->serves & LISTEN_CLIENT) != 0    ? "client"
                    : (request->listener->serves & LISTEN_PARTNER) != 0 ? "partner"
                                                                        : "certificate",
        .method = request->method != NULL ? request->method : "?",
        .route = request->route != NULL ? request->route->path : NULL,
        .caller = request->session != NULL ? request_user_id(request) : request_origin(request),
        .status = response->status,
        .body_bytes = g_bytes_get_size(response_body(response)),
        .took_us = g_get_monotonic_time() - request->started_us,
    };

    if (request->front->settings.access_log)
        access_log_write(&line);
}

/* request->lock is held, or the request is on its HTTP thread. */
static enum MHD_Result
queue_answer(Request *request, Response *response)
{
    Connection *connection = request->connection;
    gint64 now_ms = clock_interval_ms();
    gint64 life_ms = request->listener->connection_life_ms;
    gboolean close = response->close || g_atomic_int_get(&request->front->stopping) ||
                     (life_ms > 0 && now_ms - connection->opened_ms >= life_ms);
    struct MHD_Response *answer = make_answer(request, response, close);
    enum MHD_Result queued = MHD_NO;

    request->state = REQUEST_ANSWERED;
    connection_set_deadline(connection, now_ms + WRITE_GRACE_MS +
                                            (gint64)g_bytes_get_size(response->body) / WRITE_RATE);
    if (answer != NULL) {
        queued = MHD_queue_response(request->mhd, response->status, answer);
        MHD_destroy_response(answer);
    }
    return queued;
}

enum MHD_Result
request_send(Request *request, Response *response)
{
    enum MHD_Result result;

    log_answer(request, response);
    g_mutex_lock(&request->lock);
    result = queue_answer(request, response);
    g_mutex_unlock(&request->lock);
    response_free(response);
    return result;
}

void
request_finish(Request *request, Response *response)
{
    gboolean first;

    g_mutex_lock(&request->lock);
    first = request->state != REQUEST_ANSWERED;
    if (first && request->mhd != NULL) {
        queue_answer(request, response);
        request->suspended = FALSE;
        MHD_resume_connection(request->mhd);
    }
    g_mutex_unlock(&request->lock);
    if (first)
        log_answer(request, response);
    response_free(response);
}

/* ---- steps on workers, and waiting ---- */

/* What a request whose session ended while it waited is told, whatever its step has made. */
static Response *
answer_of_cut(Request *request, Response *response)
{
    g_autoptr(GError) error = NULL;

    if (!request->cut || request->front->callers->user_is_live(request->session, &error))
        return response;
    response_free(response);
    return dispatcher_answer_to_error(request, error);
}

static void
run_step(gpointer data)
{
    Request *request = data;
    g_autoptr(GError) error = NULL;
    RequestNext next = request->next;
    Response *response = next(request, request->next_data, &error);

    if (response == response_later())
        return; /* whoever goes on holds our reference now */
    response = answer_of_cut(request, response);
    if (response == NULL)
        response = dispatcher_answer_to_error(request, error);
    request_finish(request, response);
    request_unref(request);
}

static void
set_next(Request *request, RequestNext next, gpointer data, RequestFree free_function)
{
    request->next = next;
    request->next_data = data;
    if (free_function != NULL && data != NULL)
        request_keep(request, data, free_function);
}

void
request_continue(Request *request, RequestNext next, gpointer data, RequestFree free_function)
{
    set_next(request, next, data, free_function);
    workers_continue(request->front->workers, run_step, request);
}

void
request_answer(Request *request, Response *response, const GError *error)
{
    if (response == NULL)
        response = dispatcher_answer_to_error(request, error);
    request_finish(request, response);
    request_unref(request);
}

static void
time_is_up(gpointer data)
{
    g_autoptr(Request) request = data; /* the timer's own reference */

    request_end_wait(request, WAKE_TIME);
}

/* One caller ends a wait; the reference of the parked step goes to the worker. */
static gboolean
end_wait(Request *request, WakeReason reason)
{
    guint64 timer = 0;
    gboolean won;

    g_mutex_lock(&request->lock);
    won = request->state == REQUEST_WAITING;
    if (won) {
        request->state = REQUEST_RUNNING;
        request->reason = reason;
        timer = request->timer;
        request->timer = 0;
        request->woken = FALSE;
    } else if (reason == WAKE_NEWS) {
        request->woken = TRUE;
    }
    g_mutex_unlock(&request->lock);
    if (!won)
        return FALSE;
    g_atomic_int_add(&request->front->waiting, -1);
    if (timer != 0 && watch_cancel_timer(request->front->watch, timer))
        request_unref(request);
    workers_continue(request->front->workers, run_step, request);
    return TRUE;
}

void
request_end_wait(Request *request, WakeReason reason)
{
    end_wait(request, reason);
}

gboolean
request_wake(Request *request)
{
    return end_wait(request, WAKE_NEWS);
}

WakeReason
request_wake_reason(const Request *request)
{
    return request->reason;
}

static gboolean
session_has_ended(const Request *request)
{
    const Callers *callers = request->front->callers;

    return request->session != NULL && callers->user_is_live != NULL &&
           !callers->user_is_live(request->session, NULL);
}

/* Why the wait ends before it began, if it does; request->lock is held. */
static gboolean
has_ended(Request *request, WakeReason *ret_reason)
{
    if (session_has_ended(request))
        request->cut = TRUE;
    if (request->cut || request->gone || request->mhd == NULL)
        *ret_reason = WAKE_GONE;
    else if (g_atomic_int_get(&request->front->stopping))
        *ret_reason = WAKE_STOPPING;
    else if (request->woken)
        *ret_reason = WAKE_NEWS;
    else
        return FALSE;
    return TRUE;
}

void
request_wait(Request *request, guint timeout_ms, RequestNext next, gpointer data,
             RequestFree free_function)
{
    WakeReason reason = WAKE_TIME;
    gboolean ended;

    set_next(request, next, data, free_function);
    g_mutex_lock(&request->lock);
    g_atomic_int_add(&request->front->waiting, 1);
    request->state = REQUEST_WAITING;
    ended = timeout_ms == 0 || has_ended(request, &reason);
    if (!ended)
        request->timer =
            watch_add_timer(request->front->watch, timeout_ms, time_is_up, request_ref(request));
    g_mutex_unlock(&request->lock);
    if (ended)
        end_wait(request, reason);
}

void
request_hang_up(Request *request)
{
    g_mutex_lock(&request->lock);
    request->gone = TRUE;
    g_mutex_unlock(&request->lock);
    end_wait(request, WAKE_GONE);
}

void
request_cut_if_ended(Request *request)
{
    gboolean ended;

    g_mutex_lock(&request->lock);
    ended = request->state == REQUEST_WAITING && session_has_ended(request);
    if (ended)
        request->cut = TRUE;
    g_mutex_unlock(&request->lock);
    if (ended)
        end_wait(request, WAKE_GONE);
}
