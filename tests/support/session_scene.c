#include "tests/support/session_scene.h"

#include "identity/clock.h"
#include "identity/refusal.h"

static TestAgency *agency;
static GPtrArray *all_sessions; /* the log's bell knows each until the agency ends */
static gint bells;              /* atomic */

static gboolean
apply_nothing(LaneBatch *batch, gpointer data, GError **error)
{
    return TRUE;
}

void
scene_settle(Scene *scene)
{
    g_autoptr(GError) error = NULL;
    lane_submit_and_wait(scene->agency->lane, apply_nothing, NULL, NULL, &error);
    g_assert_no_error(error);
}

gint
scene_bells(void)
{
    return g_atomic_int_get(&bells);
}

static void
count_bell(gpointer data)
{
    g_atomic_int_inc((gint *)data);
}

static void
scene_open(Scene *scene, gconstpointer data)
{
    SessionSettings settings = session_settings_default;
    g_atomic_int_set(&bells, 0);
    scene->agency = agency;
    if (data != NULL)
        settings.cache_max = GPOINTER_TO_UINT(data);
    scene->sessions =
        sessions_new(scene->agency->database->pool, scene->agency->lane, scene->agency->ring,
                     scene->agency->certificates, scene->agency->record_key, &settings);
    g_ptr_array_add(all_sessions, scene->sessions);
    sessions_add_bell(scene->sessions, count_bell, &bells);
}

static void
scene_close(Scene *scene, gconstpointer data)
{
    clock_shift_for_tests(0);
    scene_settle(scene);
}

void
scene_begin(const char *const *people)
{
    all_sessions = g_ptr_array_new_with_free_func((GDestroyNotify)sessions_free);
    agency = test_agency_new();
    for (guint i = 0; people[i] != NULL; i++)
        test_agency_enrol_new(agency, people[i]);
}

TestAgency *
scene_agency(void)
{
    return agency;
}

void
scene_add(const char *path, SceneTest test)
{
    scene_add_with_cache(path, 0, test);
}

void
scene_add_with_cache(const char *path, guint cache_max, SceneTest test)
{
    g_test_add(path, Scene, GUINT_TO_POINTER(cache_max), scene_open, test, scene_close);
}

int
scene_run_tests(void)
{
    int status = g_test_run();

    test_agency_free(agency);
    g_ptr_array_unref(all_sessions);
    return status;
}

/* ---- log-in ---- */

typedef struct {
    GMutex lock;
    GCond there;
    gboolean done;
    SessionTokens *tokens;
    GError *error;
} Waiter;

static void
waiter_told(gpointer data, SessionTokens *tokens, const GError *error)
{
    Waiter *waiter = data;
    g_mutex_lock(&waiter->lock);
    waiter->done = TRUE;
    waiter->tokens = tokens;
    waiter->error = error != NULL ? g_error_copy(error) : NULL;
    g_cond_signal(&waiter->there);
    g_mutex_unlock(&waiter->lock);
}

SessionTokens *
scene_link(Scene *scene, const CertificateProof *proof, const SessionWish *wish, GError **error)
{
    Waiter waiter = {0};
    if (!session_link(scene->sessions, proof, LOGIN_BROWSER, wish, waiter_told, &waiter, error))
        return NULL;
    g_mutex_lock(&waiter.lock);
    while (!waiter.done)
        g_cond_wait(&waiter.there, &waiter.lock);
    g_mutex_unlock(&waiter.lock);
    g_assert_no_error(waiter.error);
    return waiter.tokens;
}

SessionTokens *
scene_log_in(Scene *scene, const char *name, const char *device_id, gboolean refresh)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CertificateProof) proof = test_agency_proof(scene->agency, name);
    SessionWish wish = {.device_id = device_id, .client = "test", .refresh = refresh};
    SessionTokens *tokens = scene_link(scene, proof, &wish, &error);
    g_assert_no_error(error);
    return tokens;
}

/* ---- what a token does ---- */

void
scene_assert_opens(Scene *scene, const char *token, const char *user_id, const char *device_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Session) session = NULL;
    sessions_authenticate(scene->sessions, token, &session, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(session_user_id(session), ==, user_id);
    g_assert_cmpstr(session_device_id(session), ==, device_id);
    g_assert_true(session_is_live(session, NULL));
}

void
scene_assert_refused(const GError *error, Softness softness)
{
    g_assert_nonnull(error);
    g_assert_true(g_error_matches(error, REFUSAL, 401));
    g_assert_true(g_str_has_prefix(error->message, "M_UNKNOWN_TOKEN: "));
    g_assert_cmpint(session_refusal_is_soft(error), ==, softness == SOFT);
}

void
scene_assert_shut(Scene *scene, const char *token, Softness softness)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Session) session = NULL;
    g_assert_false(sessions_authenticate(scene->sessions, token, &session, &error));
    g_assert_null(session);
    scene_assert_refused(error, softness);
}

gint64
scene_count(Scene *scene, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    g_autofree char *sql = g_strdup_vprintf(format, values);
    va_end(values);
    return test_database_count(scene->agency->database, sql);
}

void
scene_run(Scene *scene, const char *sql)
{
    g_free(test_database_query(scene->agency->database, sql));
}
