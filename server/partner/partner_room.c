#include "server/partner/partner_room.h"

#include <string.h>

#include "federation/room/server_acl.h"
#include "identity/refusal.h"

gboolean
partner_room_acl_allows(Server *server, const char *room_id, const char *origin,
                        gboolean *ret_allows, GError **error)
{
    g_autoptr(GBytes) root = NULL;
    g_autoptr(Pdu) acl = NULL;
    if (!rooms_current_root(server->rooms, room_id, &root, error) ||
        (root != NULL &&
         !rooms_state_find(server->rooms, room_id, root, "m.room.server_acl", "", &acl, error)))
        return FALSE;
    *ret_allows = server_acl_allows(acl != NULL ? acl->content : NULL, origin);
    return TRUE;
}

gboolean
partner_room_allows(Request *request, const char *room_id, gboolean must_be_in, GError **error)
{
    Server *server = request_server(request);
    const char *origin = request_origin(request);
    const RoomVersion *version = NULL;
    gboolean we_are = FALSE, they_are = FALSE, allows = FALSE;

    if (!rooms_version(server->rooms, room_id, &version, error))
        return FALSE;
    if (version != NULL &&
        !rooms_server_in_room(server->rooms, room_id, server->name, &we_are, error))
        return FALSE;
    if (!we_are) {
        refusal_set(error, 404, "M_NOT_FOUND", "This server is not in that room");
        return FALSE;
    }
    if (!partner_room_acl_allows(server, room_id, origin, &allows, error) ||
        !rooms_server_in_room(server->rooms, room_id, origin, &they_are, error))
        return FALSE;
    if (!allows) {
        refusal_set(error, 403, "M_FORBIDDEN", "The room's server ACL keeps %s out", origin);
        return FALSE;
    }
    if (must_be_in && !they_are) {
        refusal_set(error, 403, "M_FORBIDDEN", "%s has no user in that room", origin);
        return FALSE;
    }
    return TRUE;
}

gboolean
partner_room_event(Request *request, const char *room_id, const char *event_id,
                   RoomEvent **ret_event, GError **error)
{
    g_autoptr(RoomEvent) event = NULL;
    if (!rooms_event(request_server(request)->rooms, room_id, event_id, &event, error))
        return FALSE;
    if (event == NULL || event->status != STORED_EVENT_ACCEPTED) {
        refusal_set(error, 404, "M_NOT_FOUND", "That event is not known in that room");
        return FALSE;
    }
    *ret_event = g_steal_pointer(&event);
    return TRUE;
}

static void
append_bytes(GString *out, GBytes *bytes)
{
    gsize length = 0;
    const char *data = g_bytes_get_data(bytes, &length);
    g_string_append_len(out, data, (gssize)length);
}

gboolean
partner_room_append(Request *request, GString *out, const RoomEvent *event, GError **error)
{
    gboolean visible = FALSE;
    if (!rooms_visible_to_server(request_server(request)->rooms, event, request_origin(request),
                                 &visible, error))
        return FALSE;
    if (visible && event->redaction_id == NULL) {
        append_bytes(out, event->pdu->bytes);
        return TRUE;
    }
    /* The graph holds together, the content stays here. */
    g_autoptr(Pdu) redacted = pdu_redacted(event->pdu, error);
    if (redacted == NULL)
        return FALSE;
    append_bytes(out, redacted->bytes);
    return TRUE;
}

void
partner_room_append_pdus(GString *out, const GPtrArray *pdus)
{
    g_string_append_c(out, '[');
    for (guint i = 0; i < pdus->len; i++) {
        if (i > 0)
            g_string_append_c(out, ',');
        append_bytes(out, ((const Pdu *)pdus->pdata[i])->bytes);
    }
    g_string_append_c(out, ']');
}

void
partner_room_append_ids(GString *out, const GPtrArray *pdus)
{
    g_string_append_c(out, '[');
    for (guint i = 0; i < pdus->len; i++) {
        if (i > 0)
            g_string_append_c(out, ',');
        json_append_string(out, ((const Pdu *)pdus->pdata[i])->event_id);
    }
    g_string_append_c(out, ']');
}
