#include "identity/session_private.h"

#include <string.h>

#include "identity/clock.h"
#include "identity/refusal.h"
#include "identity/seeded_hash.h"

enum {
    HASH_BYTES = 32,
    LOAD_TRIES = 50, /* every log-in ends what was on its device before: many at once are no reason
                        for 503 */
};

const SessionSettings session_settings_default = {
    .access_ms = 5 * 60 * 1000,
    .working_day_ms = (gint64)10 * 3600 * 1000,
    .session_ms = (gint64)30 * 24 * 3600 * 1000,
    .cache_max = 20000,
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

LoginKind
session_kind(const Session *session)
{
    return session->kind;
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

gboolean
session_is_live(const Session *session, GError **error)
{
    gint end = g_atomic_int_get(&session->end);
    if (end == 0)
        return TRUE;
    if (end == 1 + SESSION_END_EXPIRED)
        session_refuse_expired(error);
    else
        session_refuse_ended(error);
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

gboolean
sessions_is_doomed_locked(Sessions *sessions, const char *user_id, const char *device_id)
{
    if (g_hash_table_size(sessions->doomed) == 0)
        return FALSE;
    g_autofree char *one = doomed_name(user_id, device_id);
    g_autofree char *all = doomed_name(user_id, NULL);
    return g_hash_table_contains(sessions->doomed, one) ||
           g_hash_table_contains(sessions->doomed, all);
}

void
sessions_doom_locked(Sessions *sessions, const char *user_id, const char *device_id, gint step)
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

/* End what @choice picks; TRUE when there was any. */
gboolean
sessions_forget_locked(Sessions *sessions, SessionChoice choice, gconstpointer data, SessionEnd end)
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

void
sessions_ring(Sessions *sessions)
{
    g_mutex_lock(&sessions->lock);
    g_autoptr(GArray) bells = g_array_copy(sessions->bells);
    g_mutex_unlock(&sessions->lock);
    for (guint i = 0; i < bells->len; i++) {
        const Bell *bell = &g_array_index(bells, Bell, i);
        bell->run(bell->data);
    }
}

void
sessions_forget_chosen(Sessions *sessions, SessionChoice choice, gconstpointer data, SessionEnd end)
{
    g_mutex_lock(&sessions->lock);
    gboolean any = sessions_forget_locked(sessions, choice, data, end);
    g_mutex_unlock(&sessions->lock);
    if (any)
        sessions_ring(sessions);
}

gboolean
session_is_whose(const Session *session, gconstpointer data)
{
    const SessionWhose *whose = data;
    return strcmp(session->user_id, whose->user_id) == 0 &&
           (whose->device_id == NULL || strcmp(session->device_id, whose->device_id) == 0) &&
           (whose->but_id == NULL || strcmp(session->id, whose->but_id) != 0);
}

void
sessions_forget(Sessions *sessions, const char *user_id, const char *device_id, SessionEnd end)
{
    SessionWhose whose = {user_id, device_id, NULL};
    sessions_forget_chosen(sessions, session_is_whose, &whose, end);
}

static gboolean
session_is_over(const Session *session, gconstpointer data)
{
    return session->expires_ms <= *(const gint64 *)data;
}

void
sessions_expire(Sessions *sessions, gint64 now_ms)
{
    sessions_forget_chosen(sessions, session_is_over, &now_ms, SESSION_END_EXPIRED);
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
    sessions_unfinished_clear(sessions);
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

void
sessions_add_bell(Sessions *sessions, SessionBell bell, gpointer data)
{
    Bell row = {bell, data};
    g_mutex_lock(&sessions->lock);
    g_array_append_val(sessions->bells, row);
    g_mutex_unlock(&sessions->lock);
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
    if (sessions_is_doomed_locked(sessions, row->user_id, row->device_id)) {
        g_mutex_unlock(&sessions->lock);
        session_refuse_ended(error);
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
        !session_rows_stand(sessions->key, token, session, row, clock_wall_ms(), error)) {
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
        !session_rows_stand(sessions->key, token, &session, &row, clock_wall_ms(), error))
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
        session_refuse_unknown(error);
        return FALSE;
    }
    gint64 now_ms = clock_wall_ms();
    g_autoptr(GBytes) hash = token_hash(token);
    if (!find_in_memory(sessions, hash, now_ms, &session, &kills)) {
        if (!token_read(sessions->key, token, &read) || read.kind != TOKEN_ACCESS) {
            session_refuse_unknown(error);
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
