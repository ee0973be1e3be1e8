/* federation/allow_list.h: the signed file that says who our partners are.
 *
 * The file is JSON {"list": {…}, "signature": "base64"}: a CMS signature (identity/cms.h) of a
 * federation officer over the canonical JSON of `list`:
 *
 *   {"list_id": "fed-2026", "serial": 7, "issued": ms, "expires": ms,
 *    "entries": [{"server_name": "beta.example", "not_before": ms, "not_after": ms,
 *                 "direction": "in" | "out" | "both",
 *                 "address": "192.0.2.7:8448" or "[2001:db8::7]:8448",
 *                 "tls_pins": ["SHA-256 of the server's public key (SPKI), unpadded base64", …],
 *                 "signing_keys": {"ed25519:abc": {"key": "unpadded base64", "valid_until_ts":
 * ms}}}], "revoked": ["gamma.example"]}
 *
 * Addresses are numeric, so that no name is ever looked up.  Times are milliseconds since 1970.  A
 * name in `revoked` is no partner even if an entry names it.  Unknown members are refused: a rule
 * that this program does not know must not be passed over in silence. Pure: no I/O.  For
 * federation/ and server/command/partner.c. */
#pragma once

#include "identity/json.h"

#define ALLOW_LIST_BYTES_MAX (4 * 1024 * 1024)
#define ALLOW_LIST_ENTRIES_MAX 4096
#define ALLOW_LIST_PINS_MAX 8 /* of one entry */
#define ALLOW_LIST_KEYS_MAX 8 /* of one entry */

typedef struct {
    char *key_id;
    guint8 key[32];
    gint64 valid_until_ms;
} AllowListKey;

typedef struct {
    char *server_name;
    gint64 not_before_ms, not_after_ms;
    gboolean inbound, outbound;
    char *host; /* numeric, without brackets */
    guint16 port;
    guint pin_count;
    guint8 pins[ALLOW_LIST_PINS_MAX][32]; /* SHA-256 of the SPKI */
    guint key_count;
    AllowListKey keys[ALLOW_LIST_KEYS_MAX];
} AllowListEntry;

typedef struct {
    char *list_id;
    gint64 serial; /* > 0 */
    gint64 issued_ms, expires_ms;
    GPtrArray *entries; /* AllowListEntry */
    char **revoked;
} AllowList;
void allow_list_free(AllowList *list);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AllowList, allow_list_free)

/* Every rule of the form; a REFUSAL (400 M_BAD_JSON) names the entry and member at fault. Judges
 * neither signature nor time. */
AllowList *allow_list_from_json(const cJSON *list, GError **error);
/* Split the file: *ret_content is the canonical JSON that is signed, *ret_signature the CMS bytes.
 */
AllowList *
allow_list_read(GBytes *file, GBytes **ret_content, GBytes **ret_signature, GError **error);
/* The file of a list and its signature. */
GBytes *allow_list_write(GBytes *content, GBytes *signature, GError **error);
