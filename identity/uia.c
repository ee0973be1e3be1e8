#include "identity/uia.h"

#include <string.h>

#include "identity/clock.h"
#include "identity/refusal.h"
#include "identity/token.h"
#include "storage/uia_store.h"

enum {
    UIA_ID_BYTES_MAX = 64
};

const char *
uia_stage(LoginKind kind)
{
    switch (kind) {
    case LOGIN_BROWSER:
        return UIA_STAGE_SSO;
    case LOGIN_CHALLENGE:
        return UIA_STAGE_CHALLENGE;
    case LOGIN_OPEN:
        break;
    }
    return NULL;
}

static void
uia_mac(Sessions *sessions, const UiaRow *row, guint8 ret_mac[TOKEN_MAC_BYTES])
{
    token_key_mac(sessions_token_key(sessions), ret_mac, "uia", "ttttyii", row->uia_id,
                  row->user_id, row->session_id, row->what, row->request_hash, row->completed_ms,
                  row->expires_ms);
}

gboolean
uia_begin(Sessions *sessions, StoreConnection *connection, const Session *session, const char *what,
          GBytes *request_hash, char **ret_id, GError **error)
{
    g_auto(UiaRow) row = {0};
    guint8 raw[TOKEN_SESSION_BYTES], mac[TOKEN_MAC_BYTES];

    token_session_random(raw);
    row.uia_id = token_session_text(raw);
    row.user_id = g_strdup(session_user_id(session));
    row.session_id = g_strdup(session_id(session));
    row.what = g_strdup(what);
    row.request_hash = g_bytes_ref(request_hash);
    row.expires_ms = clock_wall_ms() + UIA_LIFE_MS;
    uia_mac(sessions, &row, mac);
    row.mac = g_bytes_new(mac, sizeof mac);
    if (!uia_store_insert(connection, &row, UIA_PER_SESSION_MAX, error))
        return FALSE;
    *ret_id = g_strdup(row.uia_id);
    return TRUE;
}

/* The row, if it is ours and not over; otherwise uia_id is NULL. */
static gboolean
uia_read(Sessions *sessions, StoreConnection *connection, const char *id, UiaRow *ret_row,
         GError **error)
{
    guint8 mac[TOKEN_MAC_BYTES];

    *ret_row = (UiaRow){0};
    if (strnlen(id, UIA_ID_BYTES_MAX + 1) > UIA_ID_BYTES_MAX)
        return TRUE;
    if (!uia_store_find(connection, id, ret_row, error))
        return FALSE;
    if (ret_row->uia_id == NULL)
        return TRUE;
    uia_mac(sessions, ret_row, mac);
    if (!token_key_mac_equal(mac, ret_row->mac) || ret_row->expires_ms <= clock_wall_ms()) {
        uia_row_clear(ret_row);
        *ret_row = (UiaRow){0};
    }
    return TRUE;
}

static gboolean
is_for(const UiaRow *row, const Session *session, GBytes *request_hash)
{
    return row->uia_id != NULL && strcmp(row->session_id, session_id(session)) == 0 &&
           strcmp(row->user_id, session_user_id(session)) == 0 &&
           g_bytes_equal(row->request_hash, request_hash);
}

gboolean
uia_spend(Sessions *sessions, StoreConnection *connection, const Session *session, const char *id,
          GBytes *request_hash, gboolean *ret_passed, GError **error)
{
    g_auto(UiaRow) row = {0};
    gboolean taken = FALSE;

    if (!uia_read(sessions, connection, id, &row, error))
        return FALSE;
    if (is_for(&row, session, request_hash) && row.completed_ms != 0 &&
        !uia_store_take(connection, id, &taken, error))
        return FALSE;
    *ret_passed = taken;
    return TRUE;
}

gboolean
uia_is_open(Sessions *sessions, StoreConnection *connection, const Session *session, const char *id,
            GBytes *request_hash, gboolean *ret_open, GError **error)
{
    g_auto(UiaRow) row = {0};

    if (!uia_read(sessions, connection, id, &row, error))
        return FALSE;
    *ret_open = is_for(&row, session, request_hash) && row.completed_ms == 0;
    return TRUE;
}

gboolean
uia_describe(Sessions *sessions, StoreConnection *connection, const char *id, char **ret_user_id,
             char **ret_what, GError **error)
{
    g_auto(UiaRow) row = {0};

    if (!uia_read(sessions, connection, id, &row, error))
        return FALSE;
    gboolean open = row.uia_id != NULL && row.completed_ms == 0;
    *ret_user_id = open ? g_steal_pointer(&row.user_id) : NULL;
    *ret_what = open ? g_steal_pointer(&row.what) : NULL;
    return TRUE;
}

gboolean
uia_complete(Sessions *sessions, StoreConnection *connection, const char *id,
             const CertificateProof *proof, GError **error)
{
    g_auto(UiaRow) row = {0};
    guint8 mac[TOKEN_MAC_BYTES];
    gboolean done = FALSE;

    if (!uia_read(sessions, connection, id, &row, error))
        return FALSE;
    if (row.uia_id == NULL || row.completed_ms != 0) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "This confirmation is not known, is over, or was given before; go back to your "
                    "client and start again");
        return FALSE;
    }
    if (strcmp(row.user_id, certificate_proof_user_id(proof)) != 0) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "Your client is logged in as %s, but this certificate is of %s", row.user_id,
                    certificate_proof_user_id(proof));
        return FALSE;
    }
    if (!certificate_proof_is_fresh(proof)) {
        refusal_set(error, 403, "M_FORBIDDEN", "The proof of your certificate is too old");
        return FALSE;
    }
    row.completed_ms = clock_wall_ms();
    uia_mac(sessions, &row, mac);
    g_autoptr(GBytes) sealed = g_bytes_new(mac, sizeof mac);
    if (!uia_store_complete(connection, id, row.completed_ms, sealed, &done, error))
        return FALSE;
    if (!done)
        refusal_set(error, 403, "M_FORBIDDEN", "This confirmation was given before");
    return done;
}
