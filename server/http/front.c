/* server/http/front.c: listeners and connections on libmicrohttpd.
 *
 * libmicrohttpd 0.9.75 as it was measured, and what is done about it here:
 *  - an inactivity time-out alone: each connection has a deadline of ours, kept by a sweep that
 * shuts the socket down;
 *  - the path comes decoded: the unescape callback does nothing, the raw target is taken at the
 * request line;
 *  - the client of a suspended connection can go unseen: watch.c sees it;
 *  - stopping with a suspended connection aborts the process: front_end_stop() resumes all first;
 *  - a response queued before a body was read ends the connection: small bodies are read first. */
#include "server/http/front.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "identity/clock.h"
#include "server/http/front_private.h"

#define SWEEP_MS 500
#define BODY_DRAIN_BYTES_MAX                                                                       \
    (1024 * 1024) /* beyond its limit a body is read this far for a polite 413 */
#define UPLOAD_SMALL_BYTES (64 * 1024) /* a body up to here finds room always */
#define CONNECTION_MEMORY_BYTES (16 * 1024)
#define CERTIFICATE_CHAIN_MAX 10
#define STOP_POLL_MS 5
#define STOP_FLUSH_MS 1000

const FrontEndSettings front_end_settings_default = {
    .workers = 8,
    .queue_max = 1000,
    .connections_max = 20000,
    .http_threads = 2,
    .header_ms = 10 * 1000,
    .idle_ms = 75 * 1000,
    .body_grace_ms = 10 * 1000,
    .body_rate = 1024,
    .uploads_bytes_max = 256 * 1024 * 1024,
    .rate_limits = TRUE,
    .access_log = TRUE,
};

#define FRONT_END_ERROR (front_end_error_quark())
static G_DEFINE_QUARK(chancery - front - end, front_end_error)

    /* ---- connections ---- */

    void connection_set_deadline(Connection *connection, gint64 deadline_ms)
{
    __atomic_store_n(&connection->deadline_ms, deadline_ms, __ATOMIC_RELAXED);
}

static char *
address_text(const struct sockaddr *address)
{
    char text[INET6_ADDRSTRLEN] = "";

    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, text,
                  sizeof text);
    else if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, text,
                  sizeof text);
    return g_strdup(text);
}

static void
ask_for_certificate(struct MHD_Connection *mhd)
{
    gnutls_session_t session =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;

    /* No list of authorities: which certificates are good is judged above, and a browser then
     * offers all. */
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUEST);
    gnutls_certificate_send_x509_rdn_sequence(session, 1);
}

static Connection *
connection_open(HttpListener *listener, struct MHD_Connection *mhd)
{
    FrontEnd *front = listener->front;
    Connection *connection = g_new0(Connection, 1);
    int yes = 1;

    connection->listener = listener;
    connection->socket =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    connection->peer_address =
        address_text(MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr);
    connection->opened_ms = clock_interval_ms();
    connection_set_deadline(connection, connection->opened_ms + front->settings.header_ms);
    (void)setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (listener->certificate_wanted)
        ask_for_certificate(mhd);
    g_mutex_lock(&front->lock);
    connection->id = ++front->last_connection;
    g_hash_table_insert(front->connections, &connection->id, connection);
    g_mutex_unlock(&front->lock);
    watch_add_socket(front->watch, connection->socket, connection->id);
    return connection;
}

/* The socket is still open: nobody shuts down or watches its number after this. */
static void
connection_close(Connection *connection)
{
    FrontEnd *front = connection->listener->front;

    watch_remove_socket(front->watch, connection->socket);
    g_mutex_lock(&front->lock);
    g_hash_table_remove(front->connections, &connection->id);
    g_mutex_unlock(&front->lock);
    g_free(connection->peer_address);
    g_free(connection);
}

static void
on_connection(void *data, struct MHD_Connection *mhd, void **socket_context,
              enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        *socket_context = connection_open(data, mhd);
    else if (*socket_context != NULL)
        connection_close(*socket_context);
}

/* The request of a connection, referenced; front->lock is held by the caller. */
static void
collect_requests(FrontEnd *front, GPtrArray *requests)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, front->connections);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Connection *connection = value;
        if (connection->request != NULL)
            g_ptr_array_add(requests, request_ref(connection->request));
    }
}

static void
sweep(gpointer data)
{
    FrontEnd *front = data;
    gint64 now_ms = clock_interval_ms();
    GHashTableIter iter;
    gpointer value;

    g_mutex_lock(&front->lock);
    g_hash_table_iter_init(&iter, front->connections);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Connection *connection = value;
        gint64 deadline_ms = __atomic_load_n(&connection->deadline_ms, __ATOMIC_RELAXED);
        gint64 life_ms = connection->listener->connection_life_ms;
        if ((deadline_ms != 0 && now_ms > deadline_ms) ||
            (life_ms > 0 && connection->request == NULL &&
             now_ms - connection->opened_ms > life_ms))
            shutdown(connection->socket, SHUT_RDWR);
    }
    g_mutex_unlock(&front->lock);
    front->sweep = watch_add_timer(front->watch, SWEEP_MS, sweep, front);
}

static void
on_hangup(guint64 id, gpointer data)
{
    FrontEnd *front = data;
    g_autoptr(Request) request = NULL;
    Connection *connection;

    g_mutex_lock(&front->lock);
    connection = g_hash_table_lookup(front->connections, &id);
    if (connection != NULL) {
        connection->gone = TRUE;
        if (connection->request != NULL)
            request = request_ref(connection->request);
    }
    g_mutex_unlock(&front->lock);
    if (request != NULL)
        request_hang_up(request);
}

void
front_end_cut_ended(FrontEnd *front)
{
    g_autoptr(GPtrArray) requests = g_ptr_array_new_with_free_func((GDestroyNotify)request_unref);

    g_mutex_lock(&front->lock);
    collect_requests(front, requests);
    g_mutex_unlock(&front->lock);
    for (guint i = 0; i < requests->len; i++)
        request_cut_if_ended(requests->pdata[i]);
}

/* ---- requests ---- */

static void *
on_request_line(void *data, const char *target, struct MHD_Connection *mhd)
{
    HttpListener *listener = data;
    FrontEnd *front = listener->front;
    Connection *connection =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    Request *request = request_new(listener, connection, mhd, target);

    g_atomic_int_inc(&front->requests);
    connection_set_deadline(connection, clock_interval_ms() + front->settings.header_ms);
    g_mutex_lock(&front->lock);
    connection->request = request;
    request->gone = connection->gone;
    g_mutex_unlock(&front->lock);
    return request;
}

static void
on_completed(void *data, struct MHD_Connection *mhd, void **slot,
             enum MHD_RequestTerminationCode code)
{
    HttpListener *listener = data;
    FrontEnd *front = listener->front;
    Request *request = *slot;
    Connection *connection;

    if (request == NULL)
        return;
    *slot = NULL;
    g_mutex_lock(&request->lock);
    connection = request->connection;
    request->mhd = NULL;
    request->connection = NULL;
    g_mutex_unlock(&request->lock);
    g_mutex_lock(&front->lock);
    connection->request = NULL;
    g_mutex_unlock(&front->lock);
    connection_set_deadline(connection, clock_interval_ms() + front->settings.idle_ms);
    request_unref(request);
    g_atomic_int_add(&front->requests, -1);
}

static enum MHD_Result
take_header(void *data, enum MHD_ValueKind kind, const char *name, const char *value)
{
    GPtrArray *headers = data;

    g_ptr_array_add(headers, g_strdup(name));
    g_ptr_array_add(headers, g_strdup(value != NULL ? value : ""));
    return MHD_YES;
}

static void
take_certificates(Request *request)
{
    gnutls_session_t session =
        MHD_get_connection_info(request->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
    static const char label[] = "EXPORTER-Channel-Binding"; /* RFC 9266 */
    char exporter[32];
    unsigned count = 0;
    const gnutls_datum_t *peers = gnutls_certificate_get_peers(session, &count);

    if (peers == NULL || count == 0 || count > CERTIFICATE_CHAIN_MAX)
        return;
    request->chain = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    for (unsigned i = 0; i < count; i++)
        g_ptr_array_add(request->chain, g_bytes_new(peers[i].data, peers[i].size));
    if (gnutls_prf_rfc5705(session, sizeof label - 1, label, 0, NULL, sizeof exporter, exporter) ==
        GNUTLS_E_SUCCESS)
        request->exporter = g_bytes_new(exporter, sizeof exporter);
}

static enum MHD_Result
begin_request(Request *request, const char *method)
{
    Response *refusal;

    request->begun = TRUE;
    request->method = g_strdup(method);
    MHD_get_connection_values(request->mhd, MHD_HEADER_KIND, take_header, request->headers);
    if (request->listener->certificate_wanted)
        take_certificates(request);
    request->upload = g_byte_array_new();
    request->upload_begin_ms = clock_interval_ms();
    connection_set_deadline(request->connection,
                            request->upload_begin_ms + request->front->settings.body_grace_ms);
    refusal = dispatcher_judge_headers(request);
    if (refusal != NULL && refusal->close)
        return request_send(request, refusal);
    request->refusal = refusal;
    return MHD_YES;
}

/* Bodies come before anybody has shown a good token: how much of them is kept at a time has a
 * bound, a listener each, so that strangers who send slowly cost partners nothing. */
static gboolean
find_room(Request *request, gsize sum)
{
    HttpListener *listener = request->listener;
    gint64 more = (gint64)(sum - request->upload_counted);

    if (sum <= UPLOAD_SMALL_BYTES)
        return TRUE;
    if (__atomic_add_fetch(&listener->uploads, more, __ATOMIC_RELAXED) >
        request->front->settings.uploads_bytes_max) {
        __atomic_sub_fetch(&listener->uploads, more, __ATOMIC_RELAXED);
        return FALSE;
    }
    request->upload_counted = sum;
    return TRUE;
}

void
request_give_room_back(Request *request)
{
    __atomic_sub_fetch(&request->listener->uploads, (gint64)request->upload_counted,
                       __ATOMIC_RELAXED);
    request->upload_counted = 0;
}

/* FALSE: far too much; the connection ends. */
static gboolean
take_upload(Request *request, const char *bytes, gsize length)
{
    gsize sum = request->upload->len + request->upload_dropped + length;

    if (sum > request->upload_max + BODY_DRAIN_BYTES_MAX)
        return FALSE;
    if (sum > request->upload_max)
        request->upload_over = TRUE;
    else if (!request->upload_busy && !find_room(request, sum))
        request->upload_busy = TRUE;
    if (request->upload_over || request->upload_busy) { /* it gets its answer when it is all read */
        g_byte_array_set_size(request->upload, 0);
        request_give_room_back(request);
        request->upload_dropped = sum;
    } else {
        g_byte_array_append(request->upload, (const guint8 *)bytes, (guint)length);
    }
    connection_set_deadline(request->connection,
                            request->upload_begin_ms + request->front->settings.body_grace_ms +
                                (gint64)sum * 1000 / request->front->settings.body_rate);
    return TRUE;
}

static enum MHD_Result
refuse_body(Request *request)
{
    Response *response =
        response_error(413, "M_TOO_LARGE", "The body is larger than this request may have");

    response->close = TRUE;
    return request_send(request, response);
}

static Response *
refuse_busy(const char *sentence)
{
    Response *response = response_error(503, "M_LIMIT_EXCEEDED", "%s", sentence);

    response_error_set(response, "retry_after_ms", cJSON_CreateNumber(1000));
    response_header(response, "Retry-After", "1");
    return response;
}

static enum MHD_Result
hand_to_worker(Request *request)
{
    FrontEnd *front = request->front;

    request->body = g_byte_array_free_to_bytes(g_steal_pointer(&request->upload));
    connection_set_deadline(request->connection, 0);
    g_mutex_lock(&request->lock);
    request->state = REQUEST_RUNNING;
    request->suspended = TRUE;
    MHD_suspend_connection(request->mhd);
    g_mutex_unlock(&request->lock);
    if (!workers_submit(front->workers, dispatcher_run, request_ref(request))) {
        request_finish(request, refuse_busy("The server has too much to do: try again shortly"));
        request_unref(request);
    }
    return MHD_YES;
}

static enum MHD_Result
on_access(void *data, struct MHD_Connection *mhd, const char *url, const char *method,
          const char *version, const char *upload, size_t *upload_size, void **slot)
{
    Request *request = *slot;

    if (!request->begun)
        return begin_request(request, method);
    if (*upload_size > 0) {
        gsize length = *upload_size;
        *upload_size = 0;
        return take_upload(request, upload, length) ? MHD_YES : MHD_NO;
    }
    if (request->upload_over)
        return refuse_body(request);
    if (request->refusal != NULL)
        return request_send(request, g_steal_pointer(&request->refusal));
    if (request->upload_busy)
        return request_send(request, refuse_busy("Too many large bodies at a time: try again"));
    if (g_atomic_int_get(&request->front->stopping))
        return request_send(request, refuse_busy("The server stops"));
    return hand_to_worker(request);
}

static size_t
leave_escaped(void *data, struct MHD_Connection *mhd, char *text)
{
    return strlen(text);
}

static void G_GNUC_PRINTF(2, 0) on_log(void *data, const char *format, va_list values)
{
    g_autofree char *text = g_strdup_vprintf(format, values);

    g_debug("libmicrohttpd: %s", g_strchomp(text));
}

/* ---- listeners ---- */

static gboolean
parse_address(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_length)
{
    const char *colon = strrchr(text, ':');
    struct sockaddr_in *four = (struct sockaddr_in *)(void *)ret_address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)ret_address;
    g_autofree char *host = NULL;
    guint64 port;

    memset(ret_address, 0, sizeof *ret_address);
    if (colon == NULL || !g_ascii_string_to_unsigned(colon + 1, 10, 0, 65535, &port, NULL))
        return FALSE;
    if (text[0] == '[' && colon[-1] == ']') {
        host = g_strndup(text + 1, (gsize)(colon - text - 2));
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((guint16)port);
        *ret_length = sizeof *six;
        return inet_pton(AF_INET6, host, &six->sin6_addr) == 1;
    }
    host = g_strndup(text, (gsize)(colon - text));
    four->sin_family = AF_INET;
    four->sin_port = htons((guint16)port);
    *ret_length = sizeof *four;
    return inet_pton(AF_INET, host, &four->sin_addr) == 1;
}

/* The socket, listening; *ret_address: where, with the port that was chosen. */
static int
open_socket(const char *text, char **ret_address, GError **error)
{
    struct sockaddr_storage address;
    socklen_t length;
    g_autofree char *host = NULL;
    int yes = 1;
    int fd;

    if (!parse_address(text, &address, &length)) {
        g_set_error(error, FRONT_END_ERROR, 0, "%s is not address:port", text);
        return -1;
    }
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
        g_set_error(error, FRONT_END_ERROR, 0, "cannot listen on %s: %s", text, g_strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    host = address_text((struct sockaddr *)&address);
    *ret_address =
        address.ss_family == AF_INET6
            ? g_strdup_printf("[%s]:%u", host,
                              ntohs(((struct sockaddr_in6 *)(void *)&address)->sin6_port))
            : g_strdup_printf("%s:%u", host,
                              ntohs(((struct sockaddr_in *)(void *)&address)->sin_port));
    return fd;
}

static const char *
default_priorities(Listener serves)
{
    return (serves & LISTEN_CLIENT) != 0
               ? "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"
               : "NORMAL:-VERS-ALL:+VERS-TLS1.3:%NO_TICKETS";
}

/* A stopping front end takes no new connection.  (MHD_quiesce_daemon() races with the workers for
 * the listening socket's place in their epoll sets, and the loser aborts the process.) */
static enum MHD_Result
on_accept(void *data, const struct sockaddr *address, socklen_t length)
{
    const HttpListener *listener = data;

    return g_atomic_int_get(&listener->front->stopping) ? MHD_NO : MHD_YES;
}

static struct MHD_Daemon *
start_daemon(HttpListener *listener, int fd, const ListenerSettings *settings)
{
    const FrontEndSettings *own = &listener->front->settings;
    const char *priorities =
        settings->priorities != NULL ? settings->priorities : default_priorities(settings->serves);
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)settings->certificate},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)settings->key},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)priorities},
        {MHD_OPTION_TLS_NO_ALPN, 1, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    gboolean secure = settings->certificate != NULL;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
                     (secure ? MHD_USE_TLS : 0);

    return MHD_start_daemon(
        flags, 0, on_accept, listener, on_access, listener, MHD_OPTION_EXTERNAL_LOGGER, on_log,
        NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK, on_request_line, listener,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, listener, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, listener, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_THREAD_POOL_SIZE, MAX(own->http_threads, 2u),
        MHD_OPTION_CONNECTION_LIMIT, own->connections_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY_BYTES, MHD_OPTION_ARRAY, secure ? tls : none, MHD_OPTION_END);
}

static void
listener_free(gpointer data)
{
    HttpListener *listener = data;

    g_free(listener->address);
    g_free(listener);
}

gboolean
front_end_listen(FrontEnd *front, const ListenerSettings *settings, GError **error)
{
    HttpListener *listener = g_new0(HttpListener, 1);
    int fd = open_socket(settings->address, &listener->address, error);

    listener->front = front;
    listener->serves = settings->serves;
    listener->certificate_wanted = settings->certificate != NULL && settings->certificate_wanted;
    listener->certificate_required = settings->certificate_required;
    listener->connection_life_ms = settings->connection_life_ms;
    if (fd < 0) {
        listener_free(listener);
        return FALSE;
    }
    /* Known before the first connection: its notifications reach the listener at once. */
    g_ptr_array_add(front->listeners, listener);
    listener->daemon = start_daemon(listener, fd, settings);
    if (listener->daemon == NULL) {
        g_set_error(error, FRONT_END_ERROR, 0,
                    "cannot serve on %s: check that the TLS certificate and key are PEM and belong "
                    "together",
                    settings->address);
        close(fd);
        g_ptr_array_remove(front->listeners, listener);
        return FALSE;
    }
    return TRUE;
}

const char *
front_end_address(const FrontEnd *front, Listener serves)
{
    for (guint i = 0; i < front->listeners->len; i++) {
        const HttpListener *listener = front->listeners->pdata[i];
        if ((listener->serves & serves) != 0)
            return listener->address;
    }
    return NULL;
}

void
front_end_counts(FrontEnd *front, FrontEndCounts *ret_counts)
{
    g_mutex_lock(&front->lock);
    ret_counts->connections = g_hash_table_size(front->connections);
    g_mutex_unlock(&front->lock);
    ret_counts->requests = (guint)g_atomic_int_get(&front->requests);
    ret_counts->waiting = (guint)g_atomic_int_get(&front->waiting);
}

/* ---- beginning and end ---- */

FrontEnd *
front_end_new(Server *server, const FrontEndSettings *settings, const Route *const *tables,
              const Callers *callers, GError **error)
{
    FrontEnd *front = g_new0(FrontEnd, 1);

    g_mutex_init(&front->lock);
    front->server = server;
    front->settings = *settings;
    front->callers = callers;
    front->listeners = g_ptr_array_new_with_free_func(listener_free);
    front->connections = g_hash_table_new(g_int64_hash, g_int64_equal);
    front->router = router_new(tables != NULL ? tables : route_tables);
    front->rates = rate_limits_new(rate_limits_default);
    front->watch = watch_new(on_hangup, front, error);
    front->workers = workers_new(settings->workers, settings->queue_max);
    if (front->watch == NULL) {
        front_end_free(front);
        return NULL;
    }
    front->sweep = watch_add_timer(front->watch, SWEEP_MS, sweep, front);
    return front;
}

/* End every wait; with @by_force answer 503 to what is still under way, so that nothing stays
 * suspended. */
static void
end_requests(FrontEnd *front, gboolean by_force)
{
    g_autoptr(GPtrArray) requests = g_ptr_array_new_with_free_func((GDestroyNotify)request_unref);

    g_mutex_lock(&front->lock);
    collect_requests(front, requests);
    g_mutex_unlock(&front->lock);
    for (guint i = 0; i < requests->len; i++) {
        Request *request = requests->pdata[i];
        gboolean suspended;
        g_mutex_lock(&request->lock);
        suspended = request->suspended;
        g_mutex_unlock(&request->lock);
        request_end_wait(request, WAKE_STOPPING);
        if (by_force && suspended)
            request_finish(request, refuse_busy("The server stopped before this was done"));
    }
}

static void
wait_for_requests(FrontEnd *front, guint grace_ms, gboolean by_force)
{
    gint64 until_ms = clock_interval_ms() + grace_ms;

    while (g_atomic_int_get(&front->requests) > 0) {
        end_requests(front, by_force);
        if (clock_interval_ms() >= until_ms)
            return;
        g_usleep(STOP_POLL_MS * 1000);
    }
}

void
front_end_stop(FrontEnd *front, guint grace_ms)
{
    if (!g_atomic_int_compare_and_exchange(&front->stopping, 0, 1))
        return;
    wait_for_requests(front, grace_ms, FALSE);
    wait_for_requests(front, STOP_FLUSH_MS, TRUE);
    end_requests(front, TRUE);
    for (guint i = 0; i < front->listeners->len; i++) {
        HttpListener *listener = front->listeners->pdata[i];
        MHD_stop_daemon(listener->daemon);
        listener->daemon = NULL;
    }
}

void
front_end_free(FrontEnd *front)
{
    if (front == NULL)
        return;
    front_end_stop(front, 0);
    workers_free(front->workers);
    watch_free(front->watch);
    g_ptr_array_unref(front->listeners);
    g_hash_table_unref(front->connections);
    rate_limits_free(front->rates);
    router_free(front->router);
    g_mutex_clear(&front->lock);
    g_free(front);
}
