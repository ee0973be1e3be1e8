#include "identity/session.h"

#include <string.h>

#include "identity/admission.h"
#include "identity/audit.h"
#include "identity/certificate_proof.h"
#include "identity/clock.h"
#include "identity/device_link.h"
#include "identity/json.h"
#include "identity/refusal.h"
#include "identity/seeded_hash.h"
#include "identity/token.h"
#include "storage/session_store.h"

#define SCOPE_ALL "urn:matrix:client:api:*"
#define SENTENCE_EXPIRED                                                                           \
    "This access token has expired; refresh it, or log in again with your certificate (your keys " \
    "stay)"

enum {
    HASH_BYTES = 32,
    COMPARE_ROWS = 1000,  /* sessions compared with the database in one query */
    SEEN_STEP_MS = 60000, /* a device's last_seen_ms is not written more often */
    LOAD_TRIES = 3,
    CLIENT_BYTES_MAX = 256,
    SCOPE_BYTES_MAX = 1024,
};

const SessionSettings session_settings_default = {
    .access_ms = 5 * 60 * 1000,
    .working_day_ms = (gint64)10 * 3600 * 1000,
    .session_ms = (gint64)30 * 24 * 3600 * 1000,
    .cache_max = 20000,
};

struct Session {
    gint references;    /* atomic; the last one goes under the owner's lock */
    gint end;           /* atomic: 0 while live, then 1 + SessionEnd */
    gint64 used;        /* under the lock: newest generation of tokens that was used */
    gint64 seen_ms;     /* atomic: last authenticated */
    gint64 seen_row_ms; /* as last written; the revocation clock's thread alone */
    Sessions *owner;
    char *id;
    char *user_id;
    char *device_id;
    char *client;
    char *scope;
    LoginKind kind;
    GBytes *certificate;
    gint64 proof_ms;
    gint64 expires_ms;
};

/* One access token that was found good: no query for it until it expires, leaves by age, or its
 * session ends. */
typedef struct {
    guint8 hash[HASH_BYTES];
    Session *session;
    gint64 generation;
    gint64 expires_ms;
    GList link; /* in Sessions.recent, newest first */
} CachedToken;

typedef struct {
    SessionBell run;
    gpointer data;
} Bell;

struct Sessions {
    StorePool *pool;
    Lane *lane;
    Certificates *certificates;
    TokenKey *key;
    SessionSettings settings;

    GMutex lock;          /* guards everything below */
    GArray *bells;        /* of Bell */
    GHashTable *registry; /* session id -> Session, every one that somebody holds; not owned */
    GHashTable *cache;    /* CachedToken by hash, owned */
    GQueue recent;
    GHashTable
        *doomed;       /* "user\ndevice" or "user\n" -> count: killed in memory, rows still to go */
    GQueue unfinished; /* of KillAct: rows that could not be written yet */
    guint64 kills;     /* goes up with every kill: a row read before it may be stale */
};

/* ---- one session ---- */

const char *
session_id(const Session *session)
{
    return session->id;
}

const char *
session_user_id(const Session *session)
{
    return session->user_id;
}

const char *
session_device_id(const Session *session)
{
    return session->device_id;
}

const char *
session_client(const Session *session)
{
    return session->client;
}

const char *
session_scope(const Session *session)
{
    return session->scope;
}

LoginKind
session_kind(const Session *session)
{
    return session->kind;
}

GBytes *
session_certificate(const Session *session)
{
    return session->certificate;
}

gint64
session_proof_ms(const Session *session)
{
    return session->proof_ms;
}

gint64
session_expires_ms(const Session *session)
{
    return session->expires_ms;
}

static void
refuse_unknown(GError **error)
{
    refusal_set(error, 401, "M_UNKNOWN_TOKEN",
                "This token is not known here; log in with your certificate");
}

static void
refuse_ended(GError **error)
{
    refusal_set(error, 401, "M_UNKNOWN_TOKEN",
                "This session was ended; log in again with your certificate");
}

static void
refuse_expired(GError **error)
{
    refusal_set(error, 401, "M_UNKNOWN_TOKEN", "%s", SENTENCE_EXPIRED);
}

gboolean
session_refusal_is_soft(const GError *error)
{
    return g_error_matches(error, REFUSAL, 401) &&
           strcmp(error->message, "M_UNKNOWN_TOKEN: " SENTENCE_EXPIRED) == 0;
}

gboolean
session_is_live(const Session *session, GError **error)
{
    gint end = g_atomic_int_get(&session->end);
    if (end == 0)
        return TRUE;
    if (end == 1 + SESSION_END_EXPIRED)
        refuse_expired(error);
    else
        refuse_ended(error);
    return FALSE;
}

Session *
session_ref(const Session *session)
{
    Session *mutable = (Session *)session;
    g_atomic_int_inc(&mutable->references);
    return mutable;
}

static void
session_free(Session *session)
{
    g_free(session->id);
    g_free(session->user_id);
    g_free(session->device_id);
    g_free(session->client);
    g_free(session->scope);
    g_bytes_unref(session->certificate);
    g_free(session);
}

/* The last reference goes under the lock, so that nobody finds a dying session in the registry. */
static gboolean
session_unref_locked(Session *session)
{
    if (!g_atomic_int_dec_and_test(&session->references))
        return FALSE;
    if (g_hash_table_lookup(session->owner->registry, session->id) == session)
        g_hash_table_remove(session->owner->registry, session->id);
    return TRUE;
}

void
session_unref(Session *session)
{
    if (session == NULL)
        return;
    for (gint count = g_atomic_int_get(&session->references); count > 1;
         count = g_atomic_int_get(&session->references))
        if (g_atomic_int_compare_and_exchange(&session->references, count, count - 1))
            return;
    GMutex *lock = &session->owner->lock;
    g_mutex_lock(lock);
    gboolean last = session_unref_locked(session);
    g_mutex_unlock(lock);
    if (last)
        session_free(session);
}

/* ---- memory ---- */

/* Hashes of tokens that we made and authenticated: nobody chooses them. */
static guint
cached_token_hash(gconstpointer key)
{
    guint hash;
    memcpy(&hash, ((const CachedToken *)key)->hash, sizeof hash);
    return hash;
}

static gboolean
cached_token_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(((const CachedToken *)a)->hash, ((const CachedToken *)b)->hash, HASH_BYTES) == 0;
}

static void
cached_token_drop_locked(Sessions *sessions, CachedToken *token)
{
    g_hash_table_remove(sessions->cache, token);
    g_queue_unlink(&sessions->recent, &token->link);
    if (session_unref_locked(token->session))
        session_free(token->session);
    g_free(token);
}

static void
cached_token_add_locked(Sessions *sessions, GBytes *hash, Session *session, const TokenRow *row)
{
    CachedToken *token = g_new0(CachedToken, 1);
    memcpy(token->hash, g_bytes_get_data(hash, NULL), HASH_BYTES);
    if (g_hash_table_contains(sessions->cache, token)) {
        g_free(token);
        return;
    }
    while (sessions->recent.length >= sessions->settings.cache_max && sessions->recent.length > 0)
        cached_token_drop_locked(sessions, sessions->recent.tail->data);
    token->session = session_ref(session);
    token->generation = row->generation;
    token->expires_ms = row->expires_ms;
    token->link.data = token;
    g_hash_table_add(sessions->cache, token);
    g_queue_push_head_link(&sessions->recent, &token->link);
}

static char *
doomed_name(const char *user_id, const char *device_id)
{
    return g_strconcat(user_id, "\n", device_id, NULL);
}

static gboolean
is_doomed_locked(Sessions *sessions, const char *user_id, const char *device_id)
{
    if (g_hash_table_size(sessions->doomed) == 0)
        return FALSE;
    g_autofree char *one = doomed_name(user_id, device_id);
    g_autofree char *all = doomed_name(user_id, NULL);
    return g_hash_table_contains(sessions->doomed, one) ||
           g_hash_table_contains(sessions->doomed, all);
}

static void
doom_locked(Sessions *sessions, const char *user_id, const char *device_id, gint step)
{
    char *name = doomed_name(user_id, device_id);
    gint count = GPOINTER_TO_INT(g_hash_table_lookup(sessions->doomed, name)) + step;
    if (count > 0) {
        g_hash_table_replace(sessions->doomed, name, GINT_TO_POINTER(count));
        return;
    }
    g_hash_table_remove(sessions->doomed, name);
    g_free(name);
}

typedef gboolean (*SessionChoice)(const Session *session, gconstpointer data);

/* End what @choice picks; TRUE when there was any. */
static gboolean
forget_locked(Sessions *sessions, SessionChoice choice, gconstpointer data, SessionEnd end)
{
    GHashTableIter iterator;
    gpointer value;
    gboolean any = FALSE;

    /* A row that says "not expired" says so at every time: only other ends make what was read
     * before stale. */
    if (end != SESSION_END_EXPIRED)
        sessions->kills++;
    g_hash_table_iter_init(&iterator, sessions->registry);
    while (g_hash_table_iter_next(&iterator, NULL, &value)) {
        Session *session = value;
        if (choice(session, data) &&
            g_atomic_int_compare_and_exchange(&session->end, 0, 1 + (gint)end))
            any = TRUE;
    }
    for (GList *link = any ? sessions->recent.head : NULL, *next; link != NULL; link = next) {
        CachedToken *token = link->data;
        next = link->next;
        if (!session_is_live(token->session, NULL))
            cached_token_drop_locked(sessions, token);
    }
    return any;
}

static void
ring_bells(Sessions *sessions)
{
    g_mutex_lock(&sessions->lock);
    g_autoptr(GArray) bells = g_array_copy(sessions->bells);
    g_mutex_unlock(&sessions->lock);
    for (guint i = 0; i < bells->len; i++) {
        const Bell *bell = &g_array_index(bells, Bell, i);
        bell->run(bell->data);
    }
}

static void
forget(Sessions *sessions, SessionChoice choice, gconstpointer data, SessionEnd end)
{
    g_mutex_lock(&sessions->lock);
    gboolean any = forget_locked(sessions, choice, data, end);
    g_mutex_unlock(&sessions->lock);
    if (any)
        ring_bells(sessions);
}

typedef struct {
    const char *user_id;
    const char *device_id; /* or NULL */
    const char *but_id;    /* or NULL: a session that stays */
} Whose;

static gboolean
session_is_whose(const Session *session, gconstpointer data)
{
    const Whose *whose = data;
    return strcmp(session->user_id, whose->user_id) == 0 &&
           (whose->device_id == NULL || strcmp(session->device_id, whose->device_id) == 0) &&
           (whose->but_id == NULL || strcmp(session->id, whose->but_id) != 0);
}

void
sessions_forget(Sessions *sessions, const char *user_id, const char *device_id, SessionEnd end)
{
    Whose whose = {user_id, device_id, NULL};
    forget(sessions, session_is_whose, &whose, end);
}

static gboolean
session_is_over(const Session *session, gconstpointer data)
{
    return session->expires_ms <= *(const gint64 *)data;
}

void
sessions_expire(Sessions *sessions, gint64 now_ms)
{
    forget(sessions, session_is_over, &now_ms, SESSION_END_EXPIRED);
}

/* On the lane thread, after each commit of any process. */
static void
log_bell(GPtrArray *entries, gpointer data)
{
    for (guint i = 0; i < entries->len; i++) {
        const LogEntry *entry = g_ptr_array_index(entries, i);
        if (entry->kind == LOG_SESSION_END)
            sessions_forget(data, entry->user_id, entry->ref, SESSION_END_LOGOUT);
    }
}

/* One user or device whose sessions end, until the rows have gone. */
typedef struct {
    Sessions *sessions;
    char *user_id;
    char *device_id; /* or NULL */
    SessionEnd end;
    char *rule;
} KillAct;

static void
kill_act_free(KillAct *act)
{
    g_free(act->user_id);
    g_free(act->device_id);
    g_free(act->rule);
    g_free(act);
}

/* ---- the service ---- */

Sessions *
sessions_new(StorePool *pool, Lane *lane, LogRing *ring, Certificates *certificates,
             const RecordKey *record_key, const SessionSettings *settings)
{
    Sessions *sessions = g_new0(Sessions, 1);
    sessions->pool = pool;
    sessions->lane = lane;
    sessions->certificates = certificates;
    sessions->key = token_key_new(record_key);
    sessions->settings = *settings;
    sessions->bells = g_array_new(FALSE, FALSE, sizeof(Bell));
    g_mutex_init(&sessions->lock);
    /* Session ids and hashes are our own random bytes; doomed names hold user ids of rows that
     * exist. */
    sessions->registry = g_hash_table_new(seeded_str_hash, g_str_equal);
    sessions->cache = g_hash_table_new(cached_token_hash, cached_token_equal);
    sessions->doomed = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    g_queue_init(&sessions->recent);
    g_queue_init(&sessions->unfinished);
    if (ring != NULL)
        log_ring_add_bell(ring, log_bell, sessions);
    return sessions;
}

void
sessions_free(Sessions *sessions)
{
    if (sessions == NULL)
        return;
    g_mutex_lock(&sessions->lock);
    while (sessions->recent.length > 0)
        cached_token_drop_locked(sessions, sessions->recent.head->data);
    g_mutex_unlock(&sessions->lock);
    g_assert(g_hash_table_size(sessions->registry) == 0); /* every request has ended by now */
    g_queue_clear_full(&sessions->unfinished, (GDestroyNotify)kill_act_free);
    g_hash_table_unref(sessions->registry);
    g_hash_table_unref(sessions->cache);
    g_hash_table_unref(sessions->doomed);
    g_array_unref(sessions->bells);
    token_key_free(sessions->key);
    g_mutex_clear(&sessions->lock);
    g_free(sessions);
}

const TokenKey *
sessions_token_key(const Sessions *sessions)
{
    return sessions->key;
}

const SessionSettings *
sessions_settings(const Sessions *sessions)
{
    return &sessions->settings;
}

void
sessions_add_bell(Sessions *sessions, SessionBell bell, gpointer data)
{
    Bell row = {bell, data};
    g_mutex_lock(&sessions->lock);
    g_array_append_val(sessions->bells, row);
    g_mutex_unlock(&sessions->lock);
}

/* ---- rows and their MACs ---- */

static void
session_row_mac(const TokenKey *key, const SessionRow *row, guint8 ret_mac[TOKEN_MAC_BYTES])
{
    token_key_mac(key, ret_mac, "session", "tttittyiiii", row->user_id, row->device_id,
                  row->session_id, row->kind, row->client, row->scope, row->certificate,
                  row->proof_ms, row->expires_ms, row->newest_generation, row->used_generation);
}

static void
session_row_seal(const TokenKey *key, SessionRow *row)
{
    guint8 mac[TOKEN_MAC_BYTES];
    session_row_mac(key, row, mac);
    g_clear_pointer(&row->mac, g_bytes_unref);
    row->mac = g_bytes_new(mac, sizeof mac);
}

static gboolean
session_row_is_ours(const TokenKey *key, const SessionRow *row)
{
    guint8 mac[TOKEN_MAC_BYTES];
    session_row_mac(key, row, mac);
    return token_key_mac_equal(mac, row->mac);
}

static void
token_row_mac(const TokenKey *key, const SessionRow *session, const TokenRow *row,
              guint8 ret_mac[TOKEN_MAC_BYTES])
{
    token_key_mac(key, ret_mac, "token", "tttyiii", session->user_id, session->device_id,
                  row->session_id, row->token_hash, row->kind, row->generation, row->expires_ms);
}

static void
token_row_seal(const TokenKey *key, const SessionRow *session, TokenRow *row)
{
    guint8 mac[TOKEN_MAC_BYTES];
    token_row_mac(key, session, row, mac);
    row->mac = g_bytes_new(mac, sizeof mac);
}

static gboolean
token_row_is_ours(const TokenKey *key, const SessionRow *session, const TokenRow *row)
{
    guint8 mac[TOKEN_MAC_BYTES];
    token_row_mac(key, session, row, mac);
    return token_key_mac_equal(mac, row->mac);
}

/* A token of @session's newest generation: its text, and the row to write. */
static char *
token_issue(const TokenKey *key, const SessionRow *session, const guint8 raw[TOKEN_SESSION_BYTES],
            TokenKind kind, gint64 expires_ms, TokenRow *ret_row)
{
    Token token = {.kind = kind, .generation = (guint32)session->newest_generation};
    memcpy(token.session, raw, TOKEN_SESSION_BYTES);
    char *text = token_make(key, &token);
    *ret_row = (TokenRow){
        .session_id = g_strdup(session->session_id),
        .token_hash = token_hash(text),
        .kind = kind,
        .generation = session->newest_generation,
        .expires_ms = expires_ms,
    };
    token_row_seal(key, session, ret_row);
    return text;
}

void
session_tokens_free(SessionTokens *tokens)
{
    if (tokens == NULL)
        return;
    g_free(tokens->user_id);
    g_free(tokens->device_id);
    token_text_free(tokens->access_token);
    token_text_free(tokens->refresh_token);
    g_free(tokens);
}

/* ---- authentication ---- */

/* In memory?  TRUE with *ret_session, or with a refusal that is certain; FALSE: ask the database.
 */
static gboolean
find_in_memory(Sessions *sessions, GBytes *hash, gint64 now_ms, Session **ret_session,
               guint64 *ret_kills)
{
    CachedToken wanted;
    memcpy(wanted.hash, g_bytes_get_data(hash, NULL), HASH_BYTES);
    g_mutex_lock(&sessions->lock);
    *ret_kills = sessions->kills;
    CachedToken *token = g_hash_table_lookup(sessions->cache, &wanted);
    if (token != NULL &&
        (!session_is_live(token->session, NULL) || token->expires_ms <= now_ms ||
         token->session->expires_ms <= now_ms || token->generation < token->session->used)) {
        cached_token_drop_locked(sessions, token);
        token = NULL;
    }
    if (token != NULL) {
        g_queue_unlink(&sessions->recent, &token->link);
        g_queue_push_head_link(&sessions->recent, &token->link);
        *ret_session = session_ref(token->session);
    }
    g_mutex_unlock(&sessions->lock);
    return token != NULL;
}

static Session *
session_from_row(Sessions *sessions, const SessionRow *row)
{
    Session *session = g_new0(Session, 1);
    session->references = 1;
    session->owner = sessions;
    session->id = g_strdup(row->session_id);
    session->user_id = g_strdup(row->user_id);
    session->device_id = g_strdup(row->device_id);
    session->client = g_strdup(row->client);
    session->scope = g_strdup(row->scope);
    session->kind = (LoginKind)row->kind;
    session->certificate = g_bytes_ref(row->certificate);
    session->proof_ms = row->proof_ms;
    session->expires_ms = row->expires_ms;
    session->used = row->used_generation;
    return session;
}

/* Keep what the database said, unless something was killed since it was asked. */
static gboolean
remember(Sessions *sessions, const SessionRow *row, const TokenRow *token, guint64 kills,
         Session **ret_session, GError **error)
{
    gboolean current = TRUE;
    g_mutex_lock(&sessions->lock);
    if (is_doomed_locked(sessions, row->user_id, row->device_id)) {
        g_mutex_unlock(&sessions->lock);
        refuse_ended(error);
        return TRUE;
    }
    if (kills != sessions->kills) {
        current = FALSE;
    } else {
        Session *session = g_hash_table_lookup(sessions->registry, row->session_id);
        if (session != NULL && session_is_live(session, NULL)) {
            session_ref(session);
        } else {
            session = session_from_row(sessions, row);
            g_hash_table_replace(sessions->registry, session->id, session);
        }
        session->used = MAX(session->used, row->used_generation);
        cached_token_add_locked(sessions, token->token_hash, session, token);
        *ret_session = session;
    }
    g_mutex_unlock(&sessions->lock);
    return current;
}

/* The rows under @text: both ours, neither over.  FALSE with the refusal. */
static gboolean
rows_stand(Sessions *sessions, const Token *token, const SessionRow *session, const TokenRow *row,
           gint64 now_ms, GError **error)
{
    if (session->session_id == NULL || !session_row_is_ours(sessions->key, session)) {
        refuse_unknown(error);
        return FALSE;
    }
    /* A token of this session that has no row was replaced by a newer one, or swept away with an
     * expired session: the client refreshes or logs in again, and keeps its keys. */
    if (row->session_id == NULL || session->expires_ms <= now_ms) {
        refuse_expired(error);
        return FALSE;
    }
    if (!token_row_is_ours(sessions->key, session, row) || row->kind != (gint64)token->kind ||
        row->generation != (gint64)token->generation) {
        refuse_unknown(error);
        return FALSE;
    }
    if (row->expires_ms <= now_ms || row->generation < session->used_generation) {
        refuse_expired(error);
        return FALSE;
    }
    return TRUE;
}

/* The first use of a new pair: the pair before it is over. */
static gboolean
pair_first_used(Sessions *sessions, StoreConnection *connection, const Token *token,
                SessionRow *session, TokenRow *row, GError **error)
{
    g_autofree char *id = g_strdup(session->session_id);
    g_autoptr(GBytes) hash = g_bytes_ref(row->token_hash);

    session_row_clear(session);
    token_row_clear(row);
    if (!store_begin(connection, error) ||
        !session_store_lock(connection, id, hash, session, row, error) ||
        !rows_stand(sessions, token, session, row, clock_wall_ms(), error)) {
        store_rollback(connection);
        return FALSE;
    }
    session->used_generation = MAX(session->used_generation, row->generation);
    session_row_seal(sessions->key, session);
    if (!session_store_update(connection, session, error) ||
        !session_store_delete_tokens(connection, id, session->used_generation,
                                     session->newest_generation, error)) {
        store_rollback(connection);
        return FALSE;
    }
    return store_commit(connection, error);
}

/* One reading of the database.  TRUE with *ret_session; FALSE without @error: something was killed
 * meanwhile. */
static gboolean
find_in_rows(Sessions *sessions, const Token *token, GBytes *hash, guint64 kills,
             Session **ret_session, GError **error)
{
    g_auto(SessionRow) session = {0};
    g_auto(TokenRow) row = {0};
    g_autofree char *id = token_session_text(token->session);
    g_autoptr(StoreConnection) connection = store_borrow(sessions->pool, error);

    if (connection == NULL || !session_store_find(connection, id, hash, &session, &row, error) ||
        !rows_stand(sessions, token, &session, &row, clock_wall_ms(), error))
        return FALSE;
    if (row.generation > session.used_generation &&
        !pair_first_used(sessions, connection, token, &session, &row, error))
        return FALSE;
    return remember(sessions, &session, &row, kills, ret_session, error) &&
           (error == NULL || *error == NULL);
}

gboolean
sessions_authenticate(Sessions *sessions, const char *token, Session **ret_session, GError **error)
{
    Session *session = NULL;
    Token read;
    guint64 kills;

    if (token == NULL || token[0] == '\0') {
        refusal_set(error, 401, "M_MISSING_TOKEN",
                    "Send your access token in the header \"Authorization: Bearer …\"");
        return FALSE;
    }
    if (strnlen(token, TOKEN_TEXT_MAX + 1) > TOKEN_TEXT_MAX) {
        refuse_unknown(error);
        return FALSE;
    }
    gint64 now_ms = clock_wall_ms();
    g_autoptr(GBytes) hash = token_hash(token);
    if (!find_in_memory(sessions, hash, now_ms, &session, &kills)) {
        if (!token_read(sessions->key, token, &read) || read.kind != TOKEN_ACCESS) {
            refuse_unknown(error);
            return FALSE;
        }
        for (guint tries = 0; session == NULL; tries++) {
            GError *problem = NULL;
            if (find_in_rows(sessions, &read, hash, kills, &session, &problem))
                break;
            if (problem == NULL && tries + 1 >= LOAD_TRIES)
                g_set_error(&problem, STORE_ERROR, STORE_ERROR_BUSY,
                            "sessions are being ended; try again");
            if (problem != NULL) {
                g_propagate_error(error, problem);
                return FALSE;
            }
            g_mutex_lock(&sessions->lock);
            kills = sessions->kills;
            g_mutex_unlock(&sessions->lock);
        }
    }
    __atomic_store_n(&session->seen_ms, now_ms, __ATOMIC_RELAXED);
    *ret_session = session;
    return TRUE;
}

/* ---- ends ---- */

void
sessions_end_in_batch(LaneBatch *batch, const char *user_id, const char *device_id, SessionEnd end)
{
    if (end == SESSION_END_COMPROMISE) {
        device_remove_in_batch(batch, user_id, device_id);
    } else if (end == SESSION_END_EXPIRED) {
        session_store_delete_all_tokens_in_batch(batch, user_id, device_id);
    } else {
        session_store_delete_in_batch(batch, user_id, device_id);
        lane_batch_log(batch, log_entry_new(LOG_SESSION_END, NULL, user_id, device_id));
    }
}

static gboolean
kill_apply(LaneBatch *batch, gpointer data, GError **error)
{
    KillAct *act = data;
    AuditLine line = {
        .type = "session_end",
        .actor = "server",
        .subject = act->user_id,
        .object = act->device_id,
        .decision = "done",
        .rule = act->rule,
    };
    audit_line_to_batch(batch, &line);
    sessions_end_in_batch(batch, act->user_id, act->device_id, act->end);
    return TRUE;
}

/* Should the rows not have gone, the doom stays until they have. */
static void
kill_done(gpointer data, gint64 position, const GError *error)
{
    KillAct *act = data;
    Sessions *sessions = act->sessions;

    if (error != NULL)
        g_warning("ending sessions of %s: %s; their tokens stay shut", act->user_id,
                  error->message);
    g_mutex_lock(&sessions->lock);
    if (error != NULL)
        g_queue_push_tail(&sessions->unfinished, act);
    else
        doom_locked(sessions, act->user_id, act->device_id, -1);
    g_mutex_unlock(&sessions->lock);
    if (error == NULL)
        kill_act_free(act);
}

static void
kill_submit(KillAct *act)
{
    g_autoptr(GError) error = NULL;
    if (!lane_submit(act->sessions->lane, kill_apply, kill_done, act, &error))
        kill_done(act, 0, error);
}

void
sessions_finish_kills(Sessions *sessions)
{
    g_mutex_lock(&sessions->lock);
    guint count = sessions->unfinished.length;
    g_mutex_unlock(&sessions->lock);
    for (; count > 0; count--) {
        g_mutex_lock(&sessions->lock);
        KillAct *act = g_queue_pop_head(&sessions->unfinished);
        g_mutex_unlock(&sessions->lock);
        if (act == NULL)
            break;
        kill_submit(act);
    }
}

static void
kill_sessions(Sessions *sessions, const char *user_id, const char *device_id, SessionEnd end,
              const char *rule)
{
    Whose whose = {user_id, device_id, NULL};
    g_mutex_lock(&sessions->lock);
    doom_locked(sessions, user_id, device_id, 1);
    gboolean any = forget_locked(sessions, session_is_whose, &whose, end);
    g_mutex_unlock(&sessions->lock);
    if (any)
        ring_bells(sessions);

    KillAct *act = g_new0(KillAct, 1);
    *act = (KillAct){sessions, g_strdup(user_id), g_strdup(device_id), end, g_strdup(rule)};
    kill_submit(act);
}

void
sessions_kill_for_user(Sessions *sessions, const char *user_id, SessionEnd end, const char *rule)
{
    kill_sessions(sessions, user_id, NULL, end, rule);
}

void
sessions_kill_for_device(Sessions *sessions, const char *user_id, const char *device_id,
                         SessionEnd end, const char *rule)
{
    kill_sessions(sessions, user_id, device_id, end, rule);
}

gboolean
sessions_kill_for_certificate(Sessions *sessions, GBytes *certificate_sha256, SessionEnd end,
                              const char *rule, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(sessions->pool, error);
    g_autoptr(GPtrArray) briefs =
        connection != NULL ? session_store_of_certificate(connection, certificate_sha256, error)
                           : NULL;
    if (briefs == NULL)
        return FALSE;
    for (guint i = 0; i < briefs->len; i++) {
        const SessionBrief *brief = g_ptr_array_index(briefs, i);
        kill_sessions(sessions, brief->user_id, brief->device_id, end, rule);
    }
    return TRUE;
}

/* ---- for the revocation clock ---- */

/* References to every session in memory. */
static GPtrArray *
all_in_memory(Sessions *sessions)
{
    GHashTableIter iterator;
    gpointer value;
    g_mutex_lock(&sessions->lock);
    GPtrArray *all =
        g_ptr_array_new_full(g_hash_table_size(sessions->registry), (GDestroyNotify)session_unref);
    g_hash_table_iter_init(&iterator, sessions->registry);
    while (g_hash_table_iter_next(&iterator, NULL, &value))
        g_ptr_array_add(all, session_ref(value));
    g_mutex_unlock(&sessions->lock);
    return all;
}

static gboolean
session_is_listed(const Session *session, gconstpointer data)
{
    return g_hash_table_contains((GHashTable *)data, session->id);
}

static gboolean
compare_page(Sessions *sessions, StoreConnection *connection, GPtrArray *ids, GError **error)
{
    g_autoptr(GPtrArray) existing =
        session_store_existing(connection, (const char *const *)ids->pdata, ids->len, error);
    if (existing == NULL)
        return FALSE;
    if (existing->len == ids->len)
        return TRUE;
    g_autoptr(GHashTable) missing = g_hash_table_new(seeded_str_hash, g_str_equal);
    for (guint i = 0; i < ids->len; i++)
        g_hash_table_add(missing, g_ptr_array_index(ids, i));
    for (guint i = 0; i < existing->len; i++)
        g_hash_table_remove(missing, g_ptr_array_index(existing, i));
    forget(sessions, session_is_listed, missing, SESSION_END_COMPROMISE);
    return TRUE;
}

gboolean
sessions_compare_rows(Sessions *sessions, StoreConnection *connection, GError **error)
{
    g_autoptr(GPtrArray) all = all_in_memory(sessions);
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    for (guint i = 0; i < all->len; i++) {
        const Session *session = g_ptr_array_index(all, i);
        if (session_is_live(session, NULL))
            g_ptr_array_add(ids, session->id);
        if (ids->len == COMPARE_ROWS || (i + 1 == all->len && ids->len > 0)) {
            if (!compare_page(sessions, connection, ids, error))
                return FALSE;
            g_ptr_array_set_size(ids, 0);
        }
    }
    return TRUE;
}

gboolean
sessions_write_seen(Sessions *sessions, StoreConnection *connection, GError **error)
{
    g_autoptr(GPtrArray) all = all_in_memory(sessions);
    g_autoptr(GPtrArray) users = g_ptr_array_new(), devices = g_ptr_array_new();
    g_autoptr(GArray) times = g_array_new(FALSE, FALSE, sizeof(gint64));
    for (guint i = 0; i < all->len; i++) {
        Session *session = g_ptr_array_index(all, i);
        gint64 seen_ms = __atomic_load_n(&session->seen_ms, __ATOMIC_RELAXED);
        if (seen_ms < session->seen_row_ms + SEEN_STEP_MS)
            continue;
        session->seen_row_ms = seen_ms;
        g_ptr_array_add(users, session->user_id);
        g_ptr_array_add(devices, session->device_id);
        g_array_append_val(times, seen_ms);
    }
    return users->len == 0 ||
           device_store_seen(connection, (const char *const *)users->pdata,
                             (const char *const *)devices->pdata,
                             (const gint64 *)(gpointer)times->data, users->len, error);
}

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
        Whose before = {act->session.user_id, act->session.device_id, act->session.session_id};
        forget(act->sessions, session_is_whose, &before, SESSION_END_LOGOUT);
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
    act->tokens->access_token =
        token_issue(sessions->key, &act->session, raw, TOKEN_ACCESS, access_ms, &act->access);
    if (wish->refresh)
        act->tokens->refresh_token = token_issue(sessions->key, &act->session, raw, TOKEN_REFRESH,
                                                 expires_ms, &act->refresh);
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
        refuse_expired(error);
        return NULL;
    }
    session->used_generation = MAX(session->used_generation, (gint64)token->generation);
    session->newest_generation++;
    session_row_seal(sessions->key, session);
    g_autoptr(SessionTokens) tokens = g_new0(SessionTokens, 1);
    tokens->user_id = g_strdup(session->user_id);
    tokens->device_id = g_strdup(session->device_id);
    tokens->expires_in_ms = access_ms - now_ms;
    tokens->access_token =
        token_issue(sessions->key, session, token->session, TOKEN_ACCESS, access_ms, &access);
    tokens->refresh_token = token_issue(sessions->key, session, token->session, TOKEN_REFRESH,
                                        session->expires_ms, &refresh);
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
    if (session->session_id != NULL && session_row_is_ours(sessions->key, session) &&
        session->expires_ms > now_ms && (gint64)token->generation < session->used_generation) {
        *ret_stolen = TRUE; /* somebody uses the newer pair already: one of the two is a thief */
        refuse_ended(error);
        return NULL;
    }
    if (!rows_stand(sessions, token, session, &row, now_ms, error) ||
        !admission_still_holds(sessions->certificates, connection, session->user_id,
                               session->certificate, now_ms, error))
        return NULL;
    return refresh_locked(sessions, connection, token, session, now_ms, error);
}

SessionTokens *
sessions_refresh(Sessions *sessions, const char *refresh_token, GError **error)
{
    g_auto(SessionRow) session = {0};
    gboolean stolen = FALSE, doomed = FALSE;
    Token token;

    if (!token_read(sessions->key, refresh_token, &token) || token.kind != TOKEN_REFRESH) {
        refuse_unknown(error);
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
        kill_sessions(sessions, session.user_id, session.device_id, SESSION_END_COMPROMISE,
                      "refresh-token-reused");
    if (tokens == NULL)
        return NULL;

    g_mutex_lock(&sessions->lock);
    doomed = is_doomed_locked(sessions, session.user_id, session.device_id);
    g_mutex_unlock(&sessions->lock);
    if (doomed) {
        refuse_ended(error);
        return NULL;
    }
    pair_before_is_over(sessions, &session);
    return g_steal_pointer(&tokens);
}
