/* federation/admission.h: who is a partner.
 *
 * Two definitions, chosen when the program is linked: federation/admission.c in chancery, which
 * knows the signed allow-list alone; tests/openserver/federation_admission.c in the binary for
 * public test suites, which admits any server and fetches its keys.  Nothing else widens it.  For
 * federation/partner.c alone. */
#pragma once

#include "federation/partner_private.h"

/* A new reference, or NULL with a REFUSAL. @now_ms: wall clock. */
Partner *admission_find_partner(Partners *partners, const char *server_name,
                                PartnerDirection direction, gint64 now_ms, GError **error);
/* For requests without X-Matrix. @spki_sha256 NULL: no certificate was shown. */
Partner *
admission_find_by_tls(Partners *partners, const guint8 *spki_sha256, gint64 now_ms, GError **error);
/* Does the entry (still) admit that direction? */
gboolean admission_partner_holds(const Partner *partner, PartnerDirection direction, gint64 now_ms);
gboolean admission_accepts_tls(const Partner *partner, const guint8 *spki_sha256);
gboolean
admission_find_key(const Partner *partner, const char *key_id, gint64 at_ms, guint8 ret_key[32]);
/* A key that signed an event at @at_ms; see partners_find_event_key(). */
gboolean admission_find_event_key(Partners *partners, const char *server_name, const char *key_id,
                                  gint64 at_ms, guint8 ret_key[32]);
