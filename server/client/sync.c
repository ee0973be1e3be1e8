/* server/client/sync.c: GET /sync: what is new for a device, at once or as soon as there is
 * something. Source: client-server API v1.19, "Syncing". */
#include "server/client/sync.h"

#include "identity/clock.h"
#include "identity/refusal.h"
#include "identity/session.h"
#include "server/client/sync_hub.h"
#include "server/client/sync_private.h"
#include "server/client/typing.h"
#include "server/http/route.h"
#include "storage/log_ring.h"

#define SYNC_TIMEOUT_MAX_MS (5 * 60 * 1000)

static void
sync_call_free(gpointer data)
{
    SyncCall *call = data;
    g_clear_pointer(&call->filter, filter_unref);
    g_free(call);
}

static gboolean
is_true(const char *value)
{
    return g_strcmp0(value, "true") == 0;
}

static gboolean
read_since(SyncCall *call, GError **error)
{
    const char *since = request_query(call->request, "since");
    LogHead head = log_ring_head(call->server->ring);

    call->initial = since == NULL || *since == '\0';
    if (call->initial)
        return TRUE;
    if (!sync_token_parse(since, &call->since) || call->since.epoch > head.epoch ||
        call->since.position > head.position) {
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "since is not a token of this server; sync without it to begin anew");
        return FALSE;
    }
    return TRUE;
}

static SyncCall *
sync_call_new(Request *request, GError **error)
{
    gint64 timeout_ms = 0;
    SyncCall *call = g_new0(SyncCall, 1);
    call->request = request;
    call->server = request_server(request);
    call->user_id = request_user_id(request);
    call->device_id = request_device_id(request);
    request_keep(request, call, sync_call_free);
    if (!request_query_integer(request, "timeout", 0, G_MAXINT32, 0, &timeout_ms, error) ||
        !read_since(call, error))
        return NULL;
    call->filter =
        filter_load(call->server->filters, call->user_id, request_query(request, "filter"), error);
    if (call->filter == NULL)
        return NULL;
    call->deadline_ms = clock_interval_ms() + MIN(timeout_ms, SYNC_TIMEOUT_MAX_MS);
    call->full_state = is_true(request_query(request, "full_state"));
    /* The JavaScript SDK knows only the name from before the specification had it. */
    if (is_true(request_query(request, "use_state_after")))
        call->state_after = "state_after";
    else if (is_true(request_query(request, "org.matrix.msc4222.use_state_after")))
        call->state_after = "org.matrix.msc4222.state_after";
    return call;
}

static Response *sync_step(Request *request, gpointer data, GError **error);

static gboolean
make_answer(const SyncCall *call, GString **ret_answer, SyncToken *ret_next, GError **error)
{
    g_autoptr(GError) failure = NULL;
    gboolean from_memory = !call->initial && !call->full_state &&
                           sync_from_memory(call, ret_answer, ret_next, &failure);
    if (failure != NULL) {
        g_propagate_error(error, g_steal_pointer(&failure));
        return FALSE;
    }
    if (!from_memory && !sync_from_database(call, ret_answer, ret_next, error))
        return FALSE;
    if (*ret_answer != NULL)
        sync_hub_count_answer(call->server->sync, from_memory);
    return TRUE;
}

static Response *
answer_or_park(Request *request, SyncCall *call, gboolean may_park, GError **error)
{
    GString *answer = NULL;
    gint64 left_ms = call->deadline_ms - clock_interval_ms();
    SyncToken next;

    if (!make_answer(call, &answer, &next, error))
        return NULL;
    if (answer != NULL)
        return response_json(200, answer);
    call->since = next; /* nothing new until there */
    if (may_park && left_ms > 0) {
        sync_hub_park(call->server->sync, request, &next);
        request_wait(request, (guint)left_ms, sync_step, call, NULL);
        return RESPONSE_LATER;
    }
    answer = sync_empty_answer(call, error);
    return answer != NULL ? response_json(200, answer) : NULL;
}

/* Woken: by news, by the time, by a newer request of the same device, or by the end of the session.
 */
static Response *
sync_step(Request *request, gpointer data, GError **error)
{
    SyncCall *call = data;
    gboolean is_newest = sync_hub_leave(call->server->sync, request);
    if (!session_is_live(request_session(request), error))
        return NULL;
    return answer_or_park(request, call, is_newest && request_wake_reason(request) == WAKE_NEWS,
                          error);
}

static Response *
sync_get(Request *request, GError **error)
{
    SyncCall *call = sync_call_new(request, error);
    return call != NULL ? answer_or_park(request, call, TRUE, error) : NULL;
}

const Route sync_routes[] = {
    {"GET", "/_matrix/client/v3/sync", LISTEN_CLIENT, CALLER_USER, RATE_NONE, BODY_NONE, sync_get},
    {NULL},
};
