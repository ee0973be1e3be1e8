#include "server/certificate/crl_intake.h"

#include <string.h>
#include <sys/stat.h>

#include "identity/audit.h"
#include "identity/crl.h"
#include "identity/enrolment.h"
#include "identity/refusal.h"
#include "identity/seeded_hash.h"
#include "identity/session.h"
#include "server/server.h"

#define LOOK_EVERY_SECONDS 5
#define FILES_MAX 1000

static void
crl_taken_clear(CrlTaken *taken)
{
    g_clear_pointer(&taken->issuer, g_free);
    g_clear_pointer(&taken->number, g_free);
}

/* One list on its way through the lane. */
typedef struct {
    Server *server;
    GBytes *bytes;
    char *actor;
    Crl *crl; /* set by apply; NULL: in force already */
    CrlTaken taken;
    CrlTakenFunction done;
    gpointer data;
} Intake;

static void
intake_free(Intake *intake)
{
    g_bytes_unref(intake->bytes);
    g_free(intake->actor);
    crl_unref(intake->crl);
    crl_taken_clear(&intake->taken);
    g_free(intake);
}

/* Whoever is on the list: a line each, and the end of their sessions. */
static gboolean
end_listed(Intake *intake, LaneBatch *batch, StoreConnection *connection, GError **error)
{
    g_autoptr(GPtrArray) listed =
        enrolment_listed(intake->server->certificates, connection, intake->crl, error);
    if (listed == NULL)
        return FALSE;
    for (guint i = 0; i < listed->len; i++) {
        const EnrolmentRow *row = g_ptr_array_index(listed, i);
        gboolean held = crl_holds(intake->crl, row->serial) &&
                        strcmp(crl_issuer_key(intake->crl), row->issuer_key) == 0;
        AuditLine line = {.type = "certificate_revoked",
                          .actor = intake->actor,
                          .subject = row->user_id,
                          .object = row->serial,
                          .decision = "done",
                          .rule = held ? "held" : "revoked"};
        audit_line_to_batch(batch, &line);
        /* A hold may be lifted: devices keep their keys. */
        sessions_end_in_batch(batch, row->user_id, NULL,
                              held ? SESSION_END_EXPIRED : SESSION_END_COMPROMISE);
    }
    intake->taken.ended = listed->len;
    return TRUE;
}

/* By what every list and enrolment before it has done: an older list never follows a newer one into
 * memory, and nobody who was bound in the same moment is missed. */
static gboolean
intake_apply(LaneBatch *batch, gpointer data, GError **error)
{
    Intake *intake = data;
    g_autoptr(StoreWrites) writes = store_writes_new();
    StoreConnection *connection = lane_batch_first_connection(batch, error);
    g_clear_pointer(&intake->crl, crl_unref); /* it may run again after a rollback */
    crl_taken_clear(&intake->taken);
    intake->taken.ended = 0;
    if (connection == NULL || !crl_import(intake->server->certificates, connection, writes,
                                          intake->bytes, intake->actor, &intake->crl, NULL, error))
        return FALSE;
    store_writes_to_batch(writes, batch);
    return intake->crl == NULL || end_listed(intake, batch, connection, error);
}

static void
intake_done(gpointer data, gint64 position, const GError *error)
{
    Intake *intake = data;
    if (error == NULL && intake->crl != NULL) {
        certificates_take_crl(intake->server->certificates, intake->crl);
        intake->taken.issuer = g_strdup(crl_issuer(intake->crl));
        intake->taken.number = g_strdup(crl_number(intake->crl));
        intake->taken.next_update_ms = crl_next_update_ms(intake->crl);
    }
    intake->done(intake->data, error == NULL ? &intake->taken : NULL, error);
    intake_free(intake);
}

gboolean
crl_intake_submit(Server *server, GBytes *bytes, const char *actor, CrlTakenFunction done,
                  gpointer data, GError **error)
{
    Intake *intake = g_new0(Intake, 1);
    intake->server = server;
    intake->bytes = g_bytes_ref(bytes);
    intake->actor = g_strdup(actor);
    intake->done = done;
    intake->data = data;
    if (lane_submit(server->lane, intake_apply, intake_done, intake, error))
        return TRUE;
    intake_free(intake);
    return FALSE;
}

/* ---- the folder ---- */

struct CrlWatch {
    Server *server;
    char *directory;
    GThread *thread;
    GMutex lock;
    GCond wake;       /* the end has come, or a list was taken */
    gboolean ending;  /* guarded by lock */
    guint under_way;  /* lists on the lane; guarded by lock */
    gboolean again;   /* the database was away: look at all of them again; guarded by lock */
    GHashTable *seen; /* path -> its size and time when last taken; of the looking thread */
};

typedef struct {
    CrlWatch *watch;
    char *path;
} Look;

static void
look_done(gpointer data, const CrlTaken *taken, const GError *error)
{
    Look *look = data;
    CrlWatch *watch = look->watch;
    if (error != NULL)
        g_warning("%s: %s", look->path, error->message);
    else if (taken != NULL && taken->issuer != NULL)
        g_message("%s: the list of %s is in force, %u accounts ended", look->path, taken->issuer,
                  taken->ended);
    g_mutex_lock(&watch->lock);
    watch->again = watch->again || (error != NULL && error->domain != REFUSAL);
    watch->under_way--;
    g_cond_broadcast(&watch->wake);
    g_mutex_unlock(&watch->lock);
    g_free(look->path);
    g_free(look);
}

static void
take_file(CrlWatch *watch, const char *path)
{
    g_autofree char *bytes = NULL;
    gsize length = 0;
    g_autoptr(GError) error = NULL;
    if (!g_file_get_contents(path, &bytes, &length, &error)) {
        g_warning("%s", error->message);
        return;
    }
    g_autoptr(GBytes) list = g_bytes_new_take(g_steal_pointer(&bytes), length);
    Look *look = g_new0(Look, 1);
    look->watch = watch;
    look->path = g_strdup(path);
    g_mutex_lock(&watch->lock);
    watch->under_way++;
    g_mutex_unlock(&watch->lock);
    if (!crl_intake_submit(watch->server, list, "server", look_done, look, &error))
        look_done(look, NULL, error);
}

/* Files are replaced by renaming, so size, time and inode tell a new list. */
static void
look_at_file(CrlWatch *watch, const char *name)
{
    struct stat facts;
    g_autofree char *path = g_build_filename(watch->directory, name, NULL);
    if (stat(path, &facts) != 0 || !S_ISREG(facts.st_mode) || facts.st_size > CRL_BYTES_MAX)
        return;
    g_autofree char *mark = g_strdup_printf("%lld %lld.%09ld %llu", (long long)facts.st_size,
                                            (long long)facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec,
                                            (unsigned long long)facts.st_ino);
    if (g_strcmp0(g_hash_table_lookup(watch->seen, path), mark) == 0)
        return;
    take_file(watch, path);
    g_hash_table_insert(watch->seen, g_steal_pointer(&path), g_steal_pointer(&mark));
}

static void
crl_watch_look(CrlWatch *watch)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) directory = g_dir_open(watch->directory, 0, &error);
    const char *name = NULL;
    if (directory == NULL) {
        g_warning("revocation lists: %s", error->message);
        return;
    }
    for (guint files = 0; files < FILES_MAX && (name = g_dir_read_name(directory)) != NULL; files++)
        if (name[0] != '.' && g_str_has_suffix(name, ".crl"))
            look_at_file(watch, name);
    g_mutex_lock(&watch->lock);
    while (watch->under_way > 0)
        g_cond_wait(&watch->wake, &watch->lock);
    if (watch->again)
        g_hash_table_remove_all(watch->seen);
    watch->again = FALSE;
    g_mutex_unlock(&watch->lock);
}

static gpointer
watch_run(gpointer data)
{
    CrlWatch *watch = data;
    gboolean ending = FALSE;
    while (!ending) {
        gint64 until = g_get_monotonic_time() + LOOK_EVERY_SECONDS * G_TIME_SPAN_SECOND;
        g_mutex_lock(&watch->lock);
        while (!watch->ending && g_cond_wait_until(&watch->wake, &watch->lock, until))
            ;
        ending = watch->ending;
        g_mutex_unlock(&watch->lock);
        if (!ending)
            crl_watch_look(watch);
    }
    return NULL;
}

CrlWatch *
crl_watch_new(Server *server, const char *directory)
{
    CrlWatch *watch = g_new0(CrlWatch, 1);
    watch->server = server;
    watch->directory = g_strdup(directory);
    g_mutex_init(&watch->lock);
    g_cond_init(&watch->wake);
    watch->seen = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, g_free);
    crl_watch_look(watch);
    watch->thread = g_thread_new("crl-watch", watch_run, watch);
    return watch;
}

void
crl_watch_free(CrlWatch *watch)
{
    if (watch == NULL)
        return;
    g_mutex_lock(&watch->lock);
    watch->ending = TRUE;
    g_cond_broadcast(&watch->wake);
    g_mutex_unlock(&watch->lock);
    g_thread_join(watch->thread);
    g_hash_table_unref(watch->seen);
    g_cond_clear(&watch->wake);
    g_mutex_clear(&watch->lock);
    g_free(watch->directory);
    g_free(watch);
}
