#include "server/partner/authenticate.h"

#include "federation/delivery.h"
#include "federation/inbound.h"
#include "identity/audit.h"
#include "identity/refusal.h"
#include "server/server.h"

/* The peer's TLS key; NULL when it showed no certificate. */
static const guint8 *
peer_key(const Request *request, guint8 *room)
{
    const GPtrArray *chain = request_certificate_chain(request);
    gsize length = 0;
    if (chain == NULL || chain->len == 0)
        return NULL;
    const void *der = g_bytes_get_data(chain->pdata[0], &length);
    return inbound_spki_sha256(der, length, room) ? room : NULL;
}

/* Every refused try leaves a line; above a rate they are counted together, or strangers would fill
 * the log.
 * @claimed: who it says it is, if it does. */
static void
note_refusal(Server *server, const Request *request, const char *claimed, const GError *error)
{
    const char *sentence = NULL;
    if (server->audit == NULL || error == NULL || error->domain != REFUSAL)
        return;
    g_autofree char *rule = refusal_errcode(error, &sentence);
    audit_refusal(server->audit, &(AuditLine){.type = "partner_refused",
                                              .actor = claimed,
                                              .object = request_method(request),
                                              .decision = "refused",
                                              .rule = rule});
}

gboolean
partner_caller_tls(Server *server, Request *request, GError **error)
{
    guint8 room[32];
    g_autoptr(GError) refusal = NULL;
    g_autoptr(Partner) partner =
        partners_find_by_tls(server->partners, peer_key(request, room), &refusal);
    if (partner != NULL)
        return TRUE;
    note_refusal(server, request, NULL, refusal);
    g_propagate_error(error, g_steal_pointer(&refusal));
    return FALSE;
}

Partner *
partner_caller(Server *server, Request *request, gboolean signed_request, GError **error)
{
    guint8 room[32];
    const guint8 *key = peer_key(request, room);
    if (!signed_request)
        return partners_find_by_tls(server->partners, key, error);
    g_autoptr(InboundCall) call = inbound_begin(
        server->partners, server->name, request_header(request, "Authorization"), key, error);
    return call != NULL ? partner_ref(inbound_call_partner(call)) : NULL;
}

gboolean
partner_caller_body(Server *server, Request *request, const cJSON *content, GError **error)
{
    guint8 room[32];
    g_autoptr(InboundCall) call =
        inbound_begin(server->partners, server->name, request_header(request, "Authorization"),
                      peer_key(request, room), error);
    g_autoptr(GError) refusal = NULL;
    if (call == NULL)
        return FALSE;
    if (!inbound_verify(call, request_method(request), request_target(request), content,
                        &refusal)) {
        note_refusal(server, request, partner_name(inbound_call_partner(call)), refusal);
        g_propagate_error(error, g_steal_pointer(&refusal));
        return FALSE;
    }
    delivery_wake(server->delivery, partner_name(inbound_call_partner(call)));
    return TRUE;
}
