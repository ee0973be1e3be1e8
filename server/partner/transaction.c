/* server/partner/transaction.c: PUT /send: what a partner tells.  EDUs first, in one operation of
 * the lane, then the events room by room (federation/transaction.h); a transaction that comes again
 * changes nothing. Source: server-server API v1.19, "Transactions". */
#include "federation/transaction.h"

#include <string.h>

#include "identity/refusal.h"
#include "server/http/route.h"
#include "server/partner/edus.h"
#include "server/server.h"

static void
events_done(GBytes *answer, const GError *error, gpointer data)
{
    Request *request = data;
    request_answer(request, answer != NULL ? response_bytes(200, "application/json", answer) : NULL,
                   error);
}

typedef struct {
    Request *request;
    GError *error;
} Pending;

static void
pending_free(gpointer data)
{
    Pending *pending = data;
    g_clear_error(&pending->error);
    g_free(pending);
}

/* On a worker: signatures are checked here. */
static Response *
take_events(Request *request, gpointer data, GError **error)
{
    Pending *pending = data;
    if (pending->error != NULL) {
        g_propagate_error(error, g_steal_pointer(&pending->error));
        return NULL;
    }
    transactions_receive(request_server(request)->transactions, request_origin(request),
                         request_path(request, "txnId"), request_json(request), events_done,
                         request);
    return RESPONSE_LATER;
}

static void
edus_done(const GError *error, gpointer data)
{
    Pending *pending = data;
    pending->error = error != NULL ? g_error_copy(error) : NULL;
    request_continue(pending->request, take_events, pending, pending_free);
}

static Response *
transaction_put(Request *request, GError **error)
{
    const cJSON *body = request_json(request);
    const char *origin = json_get_string(body, "origin");
    if (origin != NULL && strcmp(origin, request_origin(request)) != 0)
        return response_error(403, "M_FORBIDDEN", "A server sends its own transactions alone");
    if (!transactions_check(request_path(request, "txnId"), body, error))
        return NULL;
    Pending *pending = g_new0(Pending, 1);
    pending->request = request;
    partner_edus_receive(request_server(request), request_origin(request),
                         json_get_array(body, "edus"), edus_done, pending);
    return RESPONSE_LATER;
}

const Route routes_partner_transaction[] = {
    {"PUT", "/_matrix/federation/v1/send/{txnId}", LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE,
     BODY_JSON_TRANSACTION, transaction_put},
    {NULL},
};
