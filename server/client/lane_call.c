#include "server/client/lane_call.h"

#include "server/server.h"

typedef struct {
    Request *request; /* borrowed: the lane's answer is what it waits for */
    LaneApply apply;
    gpointer data;
} LaneCall;

static gboolean
call_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const LaneCall *call = data;

    return call->apply(batch, call->data, error);
}

static void
call_done(gpointer data, gint64 position, const GError *error)
{
    const LaneCall *call = data;

    request_answer(call->request, error == NULL ? response_empty_object() : NULL, error);
}

Response *
lane_call(Request *request, LaneApply apply, gpointer data, RequestFree free_function,
          GError **error)
{
    LaneCall *call = g_new(LaneCall, 1);

    *call = (LaneCall){request, apply, data};
    if (data != NULL && free_function != NULL)
        request_keep(request, data, free_function);
    request_keep(request, call, g_free);
    if (!lane_submit(request_server(request)->lane, call_apply, call_done, call, error))
        return NULL;
    return RESPONSE_LATER;
}
