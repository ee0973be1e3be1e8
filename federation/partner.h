/* federation/partner.h: the servers that we federate with: the signed allow-list in force.
 *
 * A request goes to, or is taken from, a `Partner`; only the allow-list makes one
 * (federation/admission.h decides, and a test suite's program links another definition of it).  An
 * unlisted name has no Partner, so no path of the program can connect to it, look it up, or believe
 * it.
 *
 * `Partners` holds the list.  A Partner is one entry: immutable, reference-counted, and
 * short-lived: fetch it anew for each request, for the list may have changed since.  Thread-safe.
 * For federation/ and server/. */
#pragma once

#include <glib.h>

#include "federation/allow_list.h"
#include "storage/store.h"

typedef struct Certificates Certificates; /* identity/certificate.h */
typedef struct Partner Partner;
typedef struct Partners Partners;

typedef enum {
    PARTNER_INBOUND,  /* they ask us */
    PARTNER_OUTBOUND, /* we ask them */
    PARTNER_EITHER,   /* somebody of theirs may be named: an invite, an event in a room */
} PartnerDirection;

/* @own_name is never a partner. @officers: SHA-256 (lower-case hex) of the certificates of those
 * who may sign the list, NULL-terminated, copied. @pool, @certificates: borrowed. Starts empty:
 * nobody is a partner. */
Partners *partners_new(const char *own_name, StorePool *pool, Certificates *certificates,
                       const char *const *officers);
/* Ends the watch, if any: nothing changes any more. */
void partners_stop(Partners *partners);
void partners_free(Partners *partners);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Partners, partners_free)

/* Take the list that is in the database, if it is newer than the one in force; its signature is
 * checked again. TRUE also when there is none. */
gboolean partners_reload(Partners *partners, GError **error);
/* Check @file (allow_list.h) and write it to the database if its serial is higher; then as
 * partners_reload(). */
gboolean partners_import(Partners *partners, GBytes *file, GError **error);
/* A thread that reloads every 2 s, so that an import by another process, or the end of an entry's
 * window, is in force within 5 s.  @changed (may be NULL) runs on it after each change; see also
 * partner_is_current. */
typedef void (*PartnersChanged)(gpointer data);
void partners_watch(Partners *partners, PartnersChanged changed, gpointer data);
const char *partners_own_name(const Partners *partners);
/* The list's serial; 0: none. */
gint64 partners_serial(Partners *partners);
/* Is it on the list in force, whatever the time and direction?  For what may wait, never for
 * admission. */
gboolean partners_lists(Partners *partners, const char *server_name);

/* The one question: is @server_name a partner in that direction just now?  A new reference, or NULL
 * with a REFUSAL (403 M_FORBIDDEN). No network. */
Partner *partners_find(Partners *partners, const char *server_name, PartnerDirection direction,
                       GError **error);
/* The partner whose TLS key this is (SHA-256 of the SPKI, 32 bytes): for requests without X-Matrix.
 */
Partner *partners_find_by_tls(Partners *partners, const guint8 *spki_sha256, GError **error);

Partner *partner_ref(const Partner *partner);
void partner_unref(Partner *partner);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Partner, partner_unref)
const char *partner_name(const Partner *partner);
/* Still a partner in that direction at this moment? */
gboolean partner_is_current(const Partner *partner, PartnerDirection direction);
/* Is a TLS peer with this key that partner?  NULL, no certificate: never. */
gboolean partner_accepts_tls(const Partner *partner, const guint8 *spki_sha256);
/* The pinned signing key @key_id ("ed25519:…") as valid at @at_ms (0: whatever its validity). */
gboolean
partner_find_key(const Partner *partner, const char *key_id, gint64 at_ms, guint8 ret_key[32]);

/* RoomsFindKey (federation/rooms.h): keys of servers on the list in force, and of those that were
 * on it (their old events stay verifiable: a key of a dropped partner counts up to the moment it
 * was dropped).  @data: Partners. */
gboolean partners_find_event_key(const char *server_name, const char *key_id, gint64 at_ms,
                                 guint8 ret_key[32], gpointer data);
