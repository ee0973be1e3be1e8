/* server/client/key_changes.c: between two syncs, whose devices changed and who is met no more:
 * what the syncs in between said.  Source: client-server API v1.19, "Key management API". */
#include "server/client/key_changes.h"

#include "identity/refusal.h"
#include "server/client/sync_private.h"
#include "storage/log_ring.h"

static gboolean
read_token(const Request *request, const char *name, SyncToken *ret_token, GError **error)
{
    LogHead head = log_ring_head(request_server(request)->ring);

    if (sync_token_parse(request_query(request, name), ret_token) &&
        ret_token->epoch <= head.epoch && ret_token->position <= head.position)
        return TRUE;
    refusal_set(error, 400, "M_INVALID_PARAM", "'%s' must be a token that a sync gave", name);
    return FALSE;
}

Response *
keys_changes_get(Request *request, GError **error)
{
    SyncCall call = {
        .request = request,
        .server = request_server(request),
        .user_id = request_user_id(request),
        .device_id = request_device_id(request),
    };
    g_auto(SyncLook) look = {.call = &call};
    g_autoptr(StoreConnection) connection = NULL;
    SyncToken to;

    if (!read_token(request, "from", &call.since, error) || !read_token(request, "to", &to, error))
        return NULL;
    GString *answer = g_string_new("{");
    if (to.position > call.since.position) {
        look.until = to.position;
        look.connection = connection = store_borrow(call.server->pool, error);
        if (connection == NULL || !sync_look_begin(&look, error) ||
            !sync_note_device_lists(&look, error)) {
            g_string_free(answer, TRUE);
            return NULL;
        }
        sync_append_device_lists(&look, answer);
    } else {
        g_string_append(answer, "\"changed\":[],\"left\":[]");
    }
    g_string_append_c(answer, '}');
    return response_json(200, answer);
}
