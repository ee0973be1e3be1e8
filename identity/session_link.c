#include "identity/session_private.h"

#include <string.h>

#include "identity/admission.h"
#include "identity/audit.h"
#include "identity/certificate_proof.h"
#include "identity/clock.h"
#include "identity/device_link.h"
#include "identity/json.h"
#include "identity/refusal.h"

#define SCOPE_ALL "urn:matrix:client:api:*"

enum {
    CLIENT_BYTES_MAX = 256,
    SCOPE_BYTES_MAX = 1024,
};

/* ---- beginnings ---- */

typedef struct {
    Sessions *sessions;
    CertificateProof *proof;
    DeviceRow *device;
    SessionRow session;
    TokenRow access;
    TokenRow refresh;
    SessionTokens *tokens;
    SessionLinked linked;
    gpointer data;
} LinkAct;

static void
link_act_free(LinkAct *act)
{
    certificate_proof_unref(act->proof);
    device_row_free(act->device);
    session_row_clear(&act->session);
    token_row_clear(&act->access);
    token_row_clear(&act->refresh);
    session_tokens_free(act->tokens);
    g_free(act);
}

static const char *
login_kind_name(LoginKind kind)
{
    return kind == LOGIN_BROWSER ? "browser" : kind == LOGIN_CHALLENGE ? "challenge" : "open";
}

static gboolean
link_apply(LaneBatch *batch, gpointer data, GError **error)
{
    LinkAct *act = data;
    g_autoptr(cJSON) refs = cJSON_CreateObject();
    AuditLine line = {
        .type = "login",
        .actor = act->session.user_id,
        .subject = act->session.user_id,
        .object = act->session.device_id,
        .decision = "accepted",
        .refs = refs,
    };
    cJSON_AddStringToObject(refs, "kind", login_kind_name((LoginKind)act->session.kind));
    cJSON_AddStringToObject(refs, "session", act->session.session_id);
    cJSON_AddStringToObject(refs, "client", act->session.client);
    audit_line_to_batch(batch, &line);
    device_link_in_batch(batch, act->proof, act->device);
    session_store_insert_in_batch(batch, &act->session);
    session_store_insert_token_in_batch(batch, &act->access);
    if (act->refresh.session_id != NULL)
        session_store_insert_token_in_batch(batch, &act->refresh);
    return TRUE;
}

static void
link_done(gpointer data, gint64 position, const GError *error)
{
    LinkAct *act = data;
    if (error == NULL) {
        /* The session that the device had before; other processes miss its row within a second. */
        SessionWhose before = {act->session.user_id, act->session.device_id,
                               act->session.session_id};
        sessions_forget_chosen(act->sessions, session_is_whose, &before, SESSION_END_LOGOUT);
    }
    act->linked(act->data, error == NULL ? g_steal_pointer(&act->tokens) : NULL, error);
    link_act_free(act);
}

static gboolean
wish_is_acceptable(const SessionWish *wish, GError **error)
{
    if (wish->device_id != NULL && !device_id_is_valid(wish->device_id))
        refusal_set(
            error, 400, "M_INVALID_PARAM",
            "device_id must be 1 to %d visible ASCII characters; leave it out to get a new one",
            DEVICE_ID_BYTES_MAX);
    else if (wish->display_name != NULL && !device_name_is_valid(wish->display_name))
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "initial_device_display_name must be at most %d bytes", DEVICE_NAME_BYTES_MAX);
    else if ((wish->client != NULL &&
              strnlen(wish->client, CLIENT_BYTES_MAX + 1) > CLIENT_BYTES_MAX) ||
             (wish->scope != NULL && strnlen(wish->scope, SCOPE_BYTES_MAX + 1) > SCOPE_BYTES_MAX))
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "The name of the client or its scope is too long");
    else
        return TRUE;
    return FALSE;
}

static LinkAct *
link_act_new(Sessions *sessions, const CertificateProof *proof, LoginKind kind,
             const SessionWish *wish, const char *device_id)
{
    const SessionSettings *settings = &sessions->settings;
    gint64 now_ms = clock_wall_ms();
    gint64 life_ms = wish->refresh ? settings->session_ms : settings->working_day_ms;
    gint64 expires_ms = MIN(certificate_proof_not_after_ms(proof), now_ms + life_ms);
    gint64 access_ms = MIN(expires_ms, now_ms + (wish->refresh ? settings->access_ms : life_ms));
    guint8 raw[TOKEN_SESSION_BYTES];
    LinkAct *act = g_new0(LinkAct, 1);

    token_session_random(raw);
    act->sessions = sessions;
    act->proof = certificate_proof_ref(proof);
    act->device = g_new0(DeviceRow, 1);
    act->device->user_id = g_strdup(certificate_proof_user_id(proof));
    act->device->device_id = g_strdup(device_id);
    act->device->display_name = g_strdup(wish->display_name != NULL ? wish->display_name : "");
    act->device->created_ms = now_ms;
    act->device->last_seen_ms = now_ms;
    act->device->ed25519 = g_strdup(wish->ed25519 != NULL ? wish->ed25519 : "");
    act->device->curve25519 = g_strdup(wish->curve25519 != NULL ? wish->curve25519 : "");
    act->session = (SessionRow){
        .user_id = g_strdup(act->device->user_id),
        .device_id = g_strdup(device_id),
        .session_id = token_session_text(raw),
        .kind = kind,
        .client = g_strdup(wish->client != NULL ? wish->client : ""),
        .scope = g_strdup(wish->scope != NULL ? wish->scope : SCOPE_ALL),
        .certificate = g_bytes_ref(certificate_proof_certificate(proof)),
        .proof_ms = certificate_proof_made_ms(proof),
        .expires_ms = expires_ms,
        .newest_generation = 1,
        .used_generation = 1, /* the first pair has no pair before it */
    };
    session_row_seal(sessions->key, &act->session);
    act->tokens = g_new0(SessionTokens, 1);
    act->tokens->user_id = g_strdup(act->device->user_id);
    act->tokens->device_id = g_strdup(device_id);
    act->tokens->expires_in_ms = access_ms - now_ms;
    act->tokens->access_token = session_token_issue(sessions->key, &act->session, raw, TOKEN_ACCESS,
                                                    access_ms, &act->access);
    if (wish->refresh)
        act->tokens->refresh_token = session_token_issue(sessions->key, &act->session, raw,
                                                         TOKEN_REFRESH, expires_ms, &act->refresh);
    return act;
}

gboolean
session_link(Sessions *sessions, const CertificateProof *proof, LoginKind kind,
             const SessionWish *wish, SessionLinked linked, gpointer data, GError **error)
{
    g_autofree char *device_id =
        wish->device_id != NULL ? g_strdup(wish->device_id) : device_id_new();
    if (!wish_is_acceptable(wish, error))
        return FALSE;
    if (!certificate_proof_is_fresh(proof) ||
        certificate_proof_not_after_ms(proof) <= clock_wall_ms()) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "The proof of your certificate is too old; show it again");
        return FALSE;
    }
    /* Given back before the lane is asked: nobody waits for a commit with a connection in hand. */
    {
        g_autoptr(StoreConnection) connection = store_borrow(sessions->pool, error);
        if (connection == NULL || !device_link_check(connection, proof, device_id, wish->ed25519,
                                                     wish->curve25519, error))
            return FALSE;
    }
    LinkAct *act = link_act_new(sessions, proof, kind, wish, device_id);
    act->linked = linked;
    act->data = data;
    if (!lane_submit(sessions->lane, link_apply, link_done, act, error)) {
        link_act_free(act);
        return FALSE;
    }
    return TRUE;
}

/* ---- refresh ---- */

/* With the session row locked: write the new pair.  NULL leaves the caller to roll back. */
static SessionTokens *
refresh_locked(Sessions *sessions, StoreConnection *connection, const Token *token,
               SessionRow *session, gint64 now_ms, GError **error)
{
    g_auto(TokenRow) access = {0}, refresh = {0};
    gint64 access_ms = MIN(session->expires_ms, now_ms + sessions->settings.access_ms);

    if (session->newest_generation >= G_MAXUINT32) {
        session_refuse_expired(error);
        return NULL;
    }
    session->used_generation = MAX(session->used_generation, (gint64)token->generation);
    session->newest_generation++;
    session_row_seal(sessions->key, session);
    g_autoptr(SessionTokens) tokens = g_new0(SessionTokens, 1);
    tokens->user_id = g_strdup(session->user_id);
    tokens->device_id = g_strdup(session->device_id);
    tokens->expires_in_ms = access_ms - now_ms;
    tokens->access_token = session_token_issue(sessions->key, session, token->session, TOKEN_ACCESS,
                                               access_ms, &access);
    tokens->refresh_token = session_token_issue(sessions->key, session, token->session,
                                                TOKEN_REFRESH, session->expires_ms, &refresh);
    /* Pairs handed out for this refresh token before, whose answers were lost, go; the pair in use
     * stays. */
    if (!session_store_delete_tokens(connection, session->session_id, session->used_generation,
                                     session->used_generation, error) ||
        !session_store_insert_token(connection, &access, error) ||
        !session_store_insert_token(connection, &refresh, error) ||
        !session_store_update(connection, session, error) || !store_commit(connection, error))
        return NULL;
    return g_steal_pointer(&tokens);
}

static void
pair_before_is_over(Sessions *sessions, const SessionRow *row)
{
    g_mutex_lock(&sessions->lock);
    Session *session = g_hash_table_lookup(sessions->registry, row->session_id);
    if (session != NULL)
        session->used = MAX(session->used, row->used_generation);
    g_mutex_unlock(&sessions->lock);
}

static gboolean
is_doomed(Sessions *sessions, const SessionRow *row)
{
    g_mutex_lock(&sessions->lock);
    gboolean doomed = sessions_is_doomed_locked(sessions, row->user_id, row->device_id);
    g_mutex_unlock(&sessions->lock);
    return doomed;
}

static SessionTokens *
refresh_in_rows(Sessions *sessions, StoreConnection *connection, const Token *token, GBytes *hash,
                SessionRow *session, gboolean *ret_stolen, GError **error)
{
    g_auto(TokenRow) row = {0};
    g_autofree char *id = token_session_text(token->session);
    gint64 now_ms = clock_wall_ms();

    if (!store_begin(connection, error) ||
        !session_store_lock(connection, id, hash, session, &row, error))
        return NULL;
    /* A kill that began before now waits for our lock, and its doom with it: seen here for sure. */
    if (session->session_id != NULL && is_doomed(sessions, session)) {
        session_refuse_ended(error);
        return NULL;
    }
    if (session->session_id != NULL && session_row_is_ours(sessions->key, session) &&
        session->expires_ms > now_ms && (gint64)token->generation < session->used_generation) {
        *ret_stolen = TRUE; /* somebody uses the newer pair already: one of the two is a thief */
        session_refuse_ended(error);
        return NULL;
    }
    if (!session_rows_stand(sessions->key, token, session, &row, now_ms, error) ||
        !admission_still_holds(sessions->certificates, connection, session->user_id,
                               session->certificate, now_ms, error))
        return NULL;
    return refresh_locked(sessions, connection, token, session, now_ms, error);
}

SessionTokens *
sessions_refresh(Sessions *sessions, const char *refresh_token, GError **error)
{
    g_auto(SessionRow) session = {0};
    gboolean stolen = FALSE;
    Token token;

    if (!token_read(sessions->key, refresh_token, &token) || token.kind != TOKEN_REFRESH) {
        session_refuse_unknown(error);
        return NULL;
    }
    g_autoptr(GBytes) hash = token_hash(refresh_token);
    g_autoptr(StoreConnection) connection = store_borrow(sessions->pool, error);
    if (connection == NULL)
        return NULL;
    g_autoptr(SessionTokens) tokens =
        refresh_in_rows(sessions, connection, &token, hash, &session, &stolen, error);
    if (tokens == NULL)
        store_rollback(connection);
    g_clear_pointer(&connection, store_return);
    if (stolen)
        sessions_kill(sessions, session.user_id, session.device_id, SESSION_END_COMPROMISE,
                      "refresh-token-reused");
    if (tokens == NULL)
        return NULL;

    pair_before_is_over(sessions, &session);
    return g_steal_pointer(&tokens);
}
