/* server/http/request.h: one request, from the dispatcher's checks to its answer.
 *
 * The dispatcher (server/http/dispatcher.c) has already found the route, checked who calls, bounded
 * and read the body and, for routes that say so, parsed it.  A handler runs on a worker thread and
 *   - returns a Response, or
 *   - returns NULL with @error set (the dispatcher maps it to an error code: the one place), or
 *   - parks the request: returns RESPONSE_LATER after arranging that request_continue() or
 *     request_answer() is called exactly once, from any thread, when what it waits for has come.
 * A parked request holds no thread and no database connection.
 *
 * For handlers in server/client, server/partner, server/certificate. */
#pragma once

#include "identity/json.h"
#include "server/http/response.h"

typedef struct Request Request;
typedef struct Server Server;   /* server/server.h: the services of this process */
typedef struct Session Session; /* identity/session.h */
typedef struct Partner Partner; /* federation/partner.h */

typedef Response *(*Handler)(Request *request, GError **error);
typedef void (*RequestFree)(gpointer data);

Server *request_server(const Request *request);
const char *request_method(const Request *request);
/* The target exactly as received (X-Matrix signs it). */
const char *request_target(const Request *request);
/* A {name} of the route's path, percent-decoded once after splitting, valid UTF-8 without U+0000.
 * Never NULL for a name that the route has. */
const char *request_path(const Request *request, const char *name);
/* First value of a query parameter, decoded; NULL when absent. */
const char *request_query(const Request *request, const char *name);
/* All values of a repeated query parameter (`via`); NULL-terminated, borrowed. */
const char *const *request_query_all(const Request *request, const char *name);
/* FALSE with an error (400 M_INVALID_PARAM) when present and not a whole number in the range. */
gboolean request_query_integer(const Request *request, const char *name, gint64 minimum,
                               gint64 maximum, gint64 otherwise, gint64 *ret_value, GError **error);
const char *request_header(const Request *request, const char *name); /* case-insensitive; NULL */
/* The raw body; never NULL, may be empty. */
GBytes *request_body(const Request *request);
/* The body as an object (routes with BODY_JSON; an absent body reads as {}). */
const cJSON *request_json(const Request *request);
/* Who calls: the session of CALLER_USER, NULL otherwise. */
const Session *request_session(const Request *request);
const char *request_user_id(const Request *request);   /* of the session; NULL without */
const char *request_device_id(const Request *request); /* of the session; NULL without */
const char *request_origin(const Request *request);    /* its server name; NULL without */
/* The caller's certificate of CALLER_CERTIFICATE: DER, leaf first (GPtrArray of GBytes), and the
 * TLS exporter value (EXPORTER-Channel-Binding, 32 bytes, RFC 9266). NULL without. */
GPtrArray *request_certificate_chain(const Request *request);
GBytes *request_tls_exporter(const Request *request);
/* Memory that lives as long as the request. */
void request_keep(Request *request, gpointer data, RequestFree free_function);
/* FALSE once the client has gone: a parked request may as well end. */
gboolean request_is_connected(const Request *request);

/* ---- parking ----
 * A handler that must wait returns RESPONSE_LATER after arranging, before it returns, for exactly
 * one of request_continue()  a step to run on a worker (from any thread, when what it waits for is
 * there), request_answer()    the answer itself (from any thread), request_wait()      a step to
 * run when request_wake() is called or the time is up. After that the handler must not touch the
 * request unless it holds a reference. */
#define RESPONSE_LATER (response_later())
Response *response_later(void);

/* Queue @next on a worker: it goes on as a handler does (and may park again).  @data is handed to
 * @next and freed by @free_function (may be NULL) with the request. */
typedef Response *(*RequestNext)(Request *request, gpointer data, GError **error);
void request_continue(Request *request, RequestNext next, gpointer data, RequestFree free_function);

/* Answer from any thread; takes @response; @error (borrowed) is used when @response is NULL. */
void request_answer(Request *request, Response *response, const GError *error);

/* Run @next on a worker when request_wake() is called, when @timeout_ms have passed, when the
 * client goes away or when the server stops: whichever comes first.  A wake that came before
 * request_wait() is kept and ends the wait at once, so a waker may be registered first.
 * request_wake_reason() tells @next why. */
void request_wait(Request *request, guint timeout_ms, RequestNext next, gpointer data,
                  RequestFree free_function);
/* From any thread that holds a reference.  TRUE to the one caller that ends a wait. */
gboolean request_wake(Request *request);

typedef enum {
    WAKE_NEWS,     /* request_wake() */
    WAKE_TIME,     /* the time is up */
    WAKE_GONE,     /* the client closed the connection: any answer will do */
    WAKE_STOPPING, /* the server stops: answer with what there is */
} WakeReason;
WakeReason request_wake_reason(const Request *request);

Request *request_ref(Request *request);
void request_unref(Request *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Request, request_unref)
