#include "federation/admission.h"

#include <sodium.h>
#include <string.h>

#include "identity/refusal.h"

/* The signed allow-list alone decides. */

static gboolean
entry_allows(const AllowListEntry *entry, PartnerDirection direction, gint64 now_ms)
{
    if (now_ms < entry->not_before_ms || now_ms >= entry->not_after_ms)
        return FALSE;
    return direction == PARTNER_INBOUND    ? entry->inbound
           : direction == PARTNER_OUTBOUND ? entry->outbound
                                           : entry->inbound || entry->outbound;
}

Partner *
admission_find_partner(Partners *partners, const char *server_name, PartnerDirection direction,
                       gint64 now_ms, GError **error)
{
    g_autoptr(Partner) partner = partners_look_up(partners, server_name);
    if (partner == NULL || !admission_partner_holds(partner, direction, now_ms)) {
        refusal_set(error, 403, "M_FORBIDDEN", "This server does not federate with %s",
                    server_name);
        return NULL;
    }
    return g_steal_pointer(&partner);
}

Partner *
admission_find_by_tls(Partners *partners, const guint8 *spki_sha256, gint64 now_ms, GError **error)
{
    g_autoptr(Partner) partner =
        spki_sha256 != NULL ? partners_look_up_by_tls(partners, spki_sha256) : NULL;
    if (partner == NULL || !admission_partner_holds(partner, PARTNER_INBOUND, now_ms)) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "This server answers only partners, by their TLS certificate");
        return NULL;
    }
    return g_steal_pointer(&partner);
}

gboolean
admission_partner_holds(const Partner *partner, PartnerDirection direction, gint64 now_ms)
{
    return entry_allows(partner->entry, direction, now_ms) &&
           partners_still_list(partner->partners, partner, now_ms);
}

gboolean
admission_accepts_tls(const Partner *partner, const guint8 *spki_sha256)
{
    for (guint i = 0; spki_sha256 != NULL && i < partner->entry->pin_count; i++)
        if (sodium_memcmp(partner->entry->pins[i], spki_sha256, 32) == 0)
            return TRUE;
    return FALSE;
}

gboolean
admission_find_key(const Partner *partner, const char *key_id, gint64 at_ms, guint8 ret_key[32])
{
    for (guint i = 0; i < partner->entry->key_count; i++) {
        const AllowListKey *key = &partner->entry->keys[i];
        if (strcmp(key->key_id, key_id) == 0 && at_ms <= key->valid_until_ms) {
            memcpy(ret_key, key->key, 32);
            return TRUE;
        }
    }
    return FALSE;
}

gboolean
admission_find_event_key(Partners *partners, const char *server_name, const char *key_id,
                         gint64 at_ms, guint8 ret_key[32])
{
    return partners_look_up_event_key(partners, server_name, key_id, at_ms, ret_key);
}
