/* The partners of the program for public test suites: any server, its keys fetched when they are
 * needed.  Never linked into chancery.  See federation/admission.h. */
#include "federation/admission.h"

#include "identity/refusal.h"
#include "tests/openserver/peers.h"

Partner *
admission_find_partner(Partners *partners, const char *server_name, PartnerDirection direction,
                       gint64 now_ms, GError **error)
{
    g_autofree char *host = NULL;
    guint16 port = 0;
    if (!peers_find(server_name, &host, &port)) {
        refusal_set(error, 403, "M_FORBIDDEN", "There is no server %s", server_name);
        return NULL;
    }
    AllowListEntry *entry = allow_list_entry_new();
    entry->server_name = g_strdup(server_name);
    entry->host = g_steal_pointer(&host);
    entry->port = port;
    entry->not_after_ms = G_MAXINT64;
    entry->inbound = entry->outbound = TRUE;
    return partner_new(partners, entry);
}

/* Keys and version are for everybody here: the name matters to nobody. */
Partner *
admission_find_by_tls(Partners *partners, const guint8 *spki_sha256, gint64 now_ms, GError **error)
{
    AllowListEntry *entry = allow_list_entry_new();
    entry->server_name = g_strdup("anonymous.invalid");
    entry->host = g_strdup("127.0.0.1");
    entry->not_after_ms = G_MAXINT64;
    entry->inbound = TRUE;
    return partner_new(partners, entry);
}

gboolean
admission_partner_holds(const Partner *partner, PartnerDirection direction, gint64 now_ms)
{
    return TRUE;
}

gboolean
admission_accepts_tls(const Partner *partner, const guint8 *spki_sha256)
{
    return TRUE;
}

gboolean
admission_find_key(const Partner *partner, const char *key_id, gint64 at_ms, guint8 ret_key[32])
{
    return peers_find_key(partner->entry->server_name, key_id, ret_key);
}

gboolean
admission_find_event_key(Partners *partners, const char *server_name, const char *key_id,
                         gint64 at_ms, guint8 ret_key[32])
{
    return peers_find_key(server_name, key_id, ret_key);
}
