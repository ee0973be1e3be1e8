/* federation/partner_private.h: the inside of Partner and Partners.
 * For federation/partner.c, federation/partner_client.c and the definitions of
 * federation/admission.h. */
#pragma once

#include "federation/partner.h"

struct Partner {
    gint references; /* atomic */
    Partners *partners;
    AllowListEntry
        *entry; /* owned; pins and keys may be absent only in programs that admit without a list */
};

/* The entry of the list in force, whatever its window; NULL when there is none or it is revoked. A
 * new reference. */
Partner *partners_look_up(Partners *partners, const char *server_name);
/* The same by TLS key (SHA-256 of the SPKI). */
Partner *partners_look_up_by_tls(Partners *partners, const guint8 *spki_sha256);
/* A signing key of that name in any list that was in force: valid up to its end, or to the issue of
 * the list that no longer had it. */
gboolean partners_look_up_event_key(Partners *partners, const char *server_name, const char *key_id,
                                    gint64 at_ms, guint8 ret_key[32]);
/* Is @partner's entry that of the list in force, and has the list not expired? */
gboolean partners_still_list(Partners *partners, const Partner *partner, gint64 now_ms);
/* Takes @entry. */
Partner *partner_new(Partners *partners, AllowListEntry *entry);
AllowListEntry *allow_list_entry_new(void);
void allow_list_entry_free(AllowListEntry *entry);
