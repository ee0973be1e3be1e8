#include "identity/session_private.h"

#include <string.h>

#include "identity/audit.h"
#include "identity/device_link.h"
#include "identity/seeded_hash.h"

enum {
    COMPARE_ROWS = 1000,  /* sessions compared with the database in one query */
    SEEN_STEP_MS = 60000, /* a device's last_seen_ms is not written more often */
};

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

void
sessions_unfinished_clear(Sessions *sessions)
{
    g_queue_clear_full(&sessions->unfinished, (GDestroyNotify)kill_act_free);
}

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
        sessions_doom_locked(sessions, act->user_id, act->device_id, -1);
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

void
sessions_kill(Sessions *sessions, const char *user_id, const char *device_id, SessionEnd end,
              const char *rule)
{
    SessionWhose whose = {user_id, device_id, NULL};
    g_mutex_lock(&sessions->lock);
    sessions_doom_locked(sessions, user_id, device_id, 1);
    gboolean any = sessions_forget_locked(sessions, session_is_whose, &whose, end);
    g_mutex_unlock(&sessions->lock);
    if (any)
        sessions_ring(sessions);

    KillAct *act = g_new0(KillAct, 1);
    *act = (KillAct){sessions, g_strdup(user_id), g_strdup(device_id), end, g_strdup(rule)};
    kill_submit(act);
}

void
sessions_kill_for_user(Sessions *sessions, const char *user_id, SessionEnd end, const char *rule)
{
    sessions_kill(sessions, user_id, NULL, end, rule);
}

void
sessions_kill_for_device(Sessions *sessions, const char *user_id, const char *device_id,
                         SessionEnd end, const char *rule)
{
    sessions_kill(sessions, user_id, device_id, end, rule);
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
        sessions_kill(sessions, brief->user_id, brief->device_id, end, rule);
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

static void
add_all(GHashTable *set, GPtrArray *ids)
{
    for (guint i = 0; i < ids->len; i++)
        g_hash_table_add(set, g_ptr_array_index(ids, i));
}

/* No row: ended for cause.  A row without a token: ended softly. */
static gboolean
compare_page(Sessions *sessions, StoreConnection *connection, GPtrArray *ids, GError **error)
{
    g_autoptr(GPtrArray) whole = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) empty = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) soft = g_hash_table_new(seeded_str_hash, g_str_equal);
    g_autoptr(GHashTable) hard = g_hash_table_new(seeded_str_hash, g_str_equal);

    if (!session_store_existing(connection, (const char *const *)ids->pdata, ids->len, whole, empty,
                                error))
        return FALSE;
    if (whole->len == ids->len)
        return TRUE;
    add_all(soft, empty);
    add_all(hard, ids);
    for (guint i = 0; i < whole->len; i++)
        g_hash_table_remove(hard, g_ptr_array_index(whole, i));
    for (guint i = 0; i < empty->len; i++)
        g_hash_table_remove(hard, g_ptr_array_index(empty, i));
    if (g_hash_table_size(soft) > 0)
        sessions_forget_chosen(sessions, session_is_listed, soft, SESSION_END_EXPIRED);
    if (g_hash_table_size(hard) > 0)
        sessions_forget_chosen(sessions, session_is_listed, hard, SESSION_END_COMPROMISE);
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
