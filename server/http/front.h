/* server/http/front.h: the front end: listeners, connections, and the way of a request to its
 * handler.
 *
 *   socket -> libmicrohttpd thread: parse, limits, route (front.c, dispatcher.c)
 *          -> suspended; queued for a worker (workers.c)
 *          -> worker: who calls, body, handler (dispatcher.c)
 *          -> answer queued, connection resumed -> libmicrohttpd thread writes.
 * HTTP threads never wait; a parked request holds neither thread nor database connection.
 * For server/serve.c, tests, tests/openserver. */
#pragma once

#include "server/http/route.h"

typedef struct FrontEnd FrontEnd;

/* Who calls: handed in, so that the front end knows no tokens and no partners itself.  On a worker.
 */
typedef struct {
    /* NULL with @error.  The caller's name and device are asked for by the two after it. */
    Session *(*user)(Server *server, const char *token, GError **error);
    const char *(*user_id)(const Session *session);
    const char *(*device_id)(const Session *session);
    void (*user_free)(Session *session);
    /* FALSE with the 401 once the session was ended; NULL: sessions do not end while a request is
     * parked. */
    gboolean (*user_is_live)(const Session *session, GError **error);
    /* TRUE when a refusal's body must say soft_logout. */
    gboolean (*user_is_soft)(const GError *error);
    /* @signed_request: X-Matrix is asked for (CALLER_PARTNER), not the TLS hand-shake alone. */
    Partner *(*partner)(Server *server, Request *request, gboolean signed_request, GError **error);
    /* Before the body is read: is this TLS peer any partner at all?  NULL: not asked. On an HTTP
     * thread: quick. */
    gboolean (*partner_tls)(Server *server, Request *request, GError **error);
    /* The signature over the request with its parsed body (NULL: none); after partner() with
     * @signed_request. */
    gboolean (*partner_body)(Server *server, Request *request, const cJSON *content,
                             GError **error);
    const char *(*partner_name)(const Partner *partner);
    void (*partner_free)(Partner *partner);
} Callers;

typedef struct {
    guint workers;
    guint queue_max;          /* requests that wait for a worker; beyond it 503 */
    guint connections_max;    /* a listener */
    guint http_threads;       /* a listener */
    guint header_ms;          /* from accept, or the request line, to the end of the headers */
    guint idle_ms;            /* between two requests of a connection */
    guint body_grace_ms;      /* a body may take so long whatever its rate … */
    guint body_rate;          /* … and must keep to so many bytes a second after that */
    gint64 uploads_bytes_max; /* a listener: all bodies over 64 KiB together; beyond it 503 */
    gboolean rate_limits;
    gboolean access_log;
} FrontEndSettings;
extern const FrontEndSettings front_end_settings_default;

/* @tables (NULL: route_tables) and @callers outlive the front end. */
FrontEnd *front_end_new(Server *server, const FrontEndSettings *settings,
                        const Route *const *tables, const Callers *callers, GError **error);

typedef struct {
    Listener serves;             /* one, or several on one port (test suites) */
    const char *address;         /* "127.0.0.1:8008", "[::1]:0"; port 0: a free one */
    const char *certificate;     /* PEM chain; NULL: plain HTTP */
    const char *key;             /* PEM */
    const char *priorities;      /* GnuTLS; NULL: by kind: clients 1.2 and 1.3, others 1.3 alone */
    gboolean certificate_wanted; /* ask clients for a certificate */
    gboolean certificate_required; /* refuse every request without one */
    guint connection_life_ms;      /* 0: no bound */
} ListenerSettings;

gboolean front_end_listen(FrontEnd *front, const ListenerSettings *settings, GError **error);
/* "127.0.0.1:41234" of the first listener of that kind; NULL when none.  Borrowed. */
const char *front_end_address(const FrontEnd *front, Listener listener);

/* Sessions were ended: whoever waits in request_wait() for one of them is answered with its 401 at
 * once.  Any thread. */
void front_end_cut_ended(FrontEnd *front);

/* No new connections; parked requests are woken, begun ones answered; then the sockets close.  What
 * is not answered within @grace_ms gets 503. */
void front_end_stop(FrontEnd *front, guint grace_ms);
void front_end_free(FrontEnd *front); /* stops if need be */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FrontEnd, front_end_free)

typedef struct {
    guint connections; /* open */
    guint requests;    /* begun and not finished */
    guint waiting;     /* of those, in request_wait() */
} FrontEndCounts;
void front_end_counts(FrontEnd *front, FrontEndCounts *ret_counts);
