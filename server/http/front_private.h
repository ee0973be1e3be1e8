/* server/http/front_private.h: what the files of server/http/ share. */
#pragma once

#include <microhttpd.h>

#include "server/http/front.h"
#include "server/http/response_private.h"
#include "server/http/router.h"
#include "server/http/watch.h"
#include "server/http/workers.h"
#include "server/rate_limit.h"

typedef struct HttpListener HttpListener;
typedef struct Connection Connection;

struct FrontEnd {
    Server *server;
    FrontEndSettings settings;
    const Callers *callers;
    Router *router;
    Workers *workers;
    Watch *watch;
    RateLimits *rates;
    GPtrArray *listeners;    /* HttpListener */
    gint stopping;           /* atomic */
    gint requests;           /* atomic: between request line and completion */
    gint waiting;            /* atomic */
    guint64 sweep;           /* timer */
    GMutex lock;             /* all below */
    GHashTable *connections; /* id -> Connection */
    guint64 last_connection;
};

struct HttpListener {
    FrontEnd *front;
    Listener serves;
    gboolean certificate_wanted;
    gboolean certificate_required;
    gint64 connection_life_ms;
    struct MHD_Daemon *daemon;
    char *address;
    gint stopped_accepting;
    gint64 uploads; /* atomic: bytes of large bodies in memory */
};

/* One socket.  Made and freed by libmicrohttpd's notifications; the sweep and hang-ups reach it
 * under front->lock. */
struct Connection {
    guint64 id;
    int socket;
    HttpListener *listener;
    char *peer_address;
    gint64 opened_ms;
    gint64 deadline_ms; /* atomic; 0: none.  Beyond it the socket is shut down */
    gboolean gone;      /* front->lock */
    Request *request;   /* front->lock; the one under way */
};

void connection_set_deadline(Connection *connection, gint64 deadline_ms);
/* The body of @request is not in memory any more. */
void request_give_room_back(Request *request);

typedef enum {
    REQUEST_READING, /* on an HTTP thread */
    REQUEST_RUNNING, /* suspended; on a worker or parked */
    REQUEST_WAITING, /* suspended; in request_wait() */
    REQUEST_ANSWERED,
} RequestState;

struct Request {
    gint refs;
    FrontEnd *front;
    Server *server;
    HttpListener *listener;
    char *method;
    char *target;
    char *peer_address;
    GPtrArray *headers; /* name, value, … as received */
    const Route *route;
    char **path_values; /* of the route's {name}s, in order */
    GHashTable *query;  /* name -> GPtrArray of values, NULL-terminated; made when first asked */
    GByteArray *upload;
    gsize upload_max;
    gboolean upload_over; /* a chunked body that grew beyond the limit */
    gboolean upload_busy; /* no room for it among the others' */
    gsize upload_dropped; /* bytes of such a body that were not kept */
    gsize upload_counted; /* of listener->uploads */
    gint64 upload_begin_ms;
    Response *refusal; /* decided at the headers, sent when a small body has been read */
    gboolean begun;    /* the headers were judged */
    GBytes *body;
    cJSON *json;
    Session *session;
    Partner *partner;
    GPtrArray *chain;
    GBytes *exporter;
    gint64 started_us;
    GPtrArray *kept; /* Kept: what request_keep() was given */

    GMutex lock; /* all below */
    RequestState state;
    struct MHD_Connection *mhd; /* NULL once completed */
    Connection *connection;     /* the same */
    gboolean suspended;
    gboolean gone;
    gboolean woken; /* a wake before the wait */
    gboolean cut;   /* its session ended while it waited: the answer is the 401 */
    WakeReason reason;
    guint64 timer;
    RequestNext next;
    gpointer next_data;
};

Request *request_new(HttpListener *listener, Connection *connection, struct MHD_Connection *mhd,
                     const char *target);
/* The rest of the request's way, called by front.c. */
Response *dispatcher_judge_headers(Request *request); /* HTTP thread; NULL: go on */
void dispatcher_run(gpointer request);                /* worker; consumes a reference */
Response *dispatcher_answer_to_error(Request *request, const GError *error);
/* Give @response (taken) to the client; from any thread; later answers are dropped. */
void request_finish(Request *request, Response *response);
void request_end_wait(Request *request, WakeReason reason);
void request_hang_up(Request *request);
void request_cut_if_ended(Request *request);
/* HTTP thread, connection not suspended. */
enum MHD_Result request_send(Request *request, Response *response);
