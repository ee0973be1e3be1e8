/* How sessions end, and how fast what was revoked stops. */
#include "identity/clock.h"
#include "identity/device_link.h"
#include "identity/revocation.h"
#include "identity/session.h"
#include "tests/support/session_scene.h"

#define HOUR_MS ((gint64)60 * 60 * 1000)

static void
test_a_kill_is_at_once(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) one = scene_log_in(scene, "ben", "K1", FALSE);
    g_autoptr(SessionTokens) two = scene_log_in(scene, "ben", "K2", FALSE);
    g_autoptr(SessionTokens) other = scene_log_in(scene, "anna", "K1", FALSE);
    g_autoptr(Session) parked = NULL;

    g_assert_true(sessions_authenticate(scene->sessions, one->access_token, &parked, &error));
    sessions_kill_for_user(scene->sessions, "@ben:alpha.example", SESSION_END_COMPROMISE, "test");
    g_assert_false(session_is_live(parked, &error));
    scene_assert_refused(error, HARD);
    g_assert_cmpint(scene_bells(), >=, 1);
    scene_assert_shut(scene, one->access_token, HARD);
    /* One that memory had never seen. */
    scene_assert_shut(scene, two->access_token, HARD);
    scene_assert_opens(scene, other->access_token, "@anna:alpha.example", "K1");
    scene_settle(scene);
    scene_assert_shut(scene, two->access_token, HARD);
    g_assert_cmpint(
        scene_count(scene, "SELECT count(*) FROM session WHERE user_id = '@ben:alpha.example'"), ==,
        0);
    /* A fresh log-in opens again. */
    g_autoptr(SessionTokens) again = scene_log_in(scene, "ben", "K1", FALSE);
    scene_assert_opens(scene, again->access_token, "@ben:alpha.example", "K1");
}

static void
test_a_kill_for_a_certificate(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CertificateProof) proof = test_agency_proof(scene->agency, "ben");
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "ben", "CERT", FALSE);
    g_autoptr(SessionTokens) other = scene_log_in(scene, "anna", "CERT", FALSE);

    g_assert_true(sessions_kill_for_certificate(scene->sessions,
                                                certificate_proof_certificate(proof),
                                                SESSION_END_COMPROMISE, "test", &error));
    scene_assert_shut(scene, tokens->access_token, HARD);
    scene_assert_opens(scene, other->access_token, "@anna:alpha.example", "CERT");
    scene_settle(scene);
}

static gboolean
remove_device(LaneBatch *batch, gpointer data, GError **error)
{
    device_remove_in_batch(batch, "@anna:alpha.example", data);
    return TRUE;
}

/* Another process removes the device: the log alone tells. */
static void
test_the_log_ends_sessions(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "anna", "LOGGED", FALSE);
    g_autoptr(Session) parked = NULL;

    g_assert_true(sessions_authenticate(scene->sessions, tokens->access_token, &parked, &error));
    g_assert_true(lane_submit_and_wait(scene->agency->lane, remove_device, "LOGGED", NULL, &error));
    g_assert_false(session_is_live(parked, NULL));
    g_assert_cmpint(scene_bells(), >=, 1);
    scene_assert_shut(scene, tokens->access_token, HARD);
}

/* From the act's commit to the last token shut, on a running clock. */
static gint64
time_to_end(Scene *scene, const char *token)
{
    g_autoptr(GError) error = NULL;
    gint64 begin_ms = clock_interval_ms();

    while (clock_interval_ms() - begin_ms < 2 * REVOCATION_BOUND_MS) {
        g_autoptr(Session) session = NULL;
        if (!sessions_authenticate(scene->sessions, token, &session, &error))
            break;
        g_usleep(5000);
    }
    scene_assert_refused(error, HARD);
    return clock_interval_ms() - begin_ms;
}

static void
test_suspension_ends_everything_within_the_bound(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) fritz = scene_log_in(scene, "fritz", "F", TRUE);
    g_autoptr(SessionTokens) anna = scene_log_in(scene, "anna", "F", TRUE);
    RevocationClock *clock = revocation_clock_new(scene->sessions, scene->agency->database->pool,
                                                  scene->agency->certificates, NULL);

    scene_assert_opens(scene, fritz->access_token, "@fritz:alpha.example", "F");
    test_agency_suspend(scene->agency, "fritz");
    gint64 took_ms = time_to_end(scene, fritz->access_token);
    g_test_message("figure: suspension: tokens dead after %" G_GINT64_FORMAT " ms", took_ms);
    g_assert_cmpint(took_ms, <, REVOCATION_BOUND_MS);
    scene_assert_opens(scene, anna->access_token, "@anna:alpha.example", "F");
    revocation_clock_free(clock);
    scene_settle(scene);
    g_assert_cmpint(
        scene_count(scene, "SELECT count(*) FROM device WHERE user_id = '@fritz:alpha.example'"),
        ==, 0);
}

static void
test_an_imported_crl_ends_everything_within_the_bound(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) gerd = scene_log_in(scene, "gerd", "G", TRUE);
    RevocationClock *clock = revocation_clock_new(scene->sessions, scene->agency->database->pool,
                                                  scene->agency->certificates, NULL);

    scene_assert_opens(scene, gerd->access_token, "@gerd:alpha.example", "G");
    test_agency_make(scene->agency, "revoke gerd");
    test_agency_import_crls(scene->agency);
    gint64 took_ms = time_to_end(scene, gerd->access_token);
    g_test_message("figure: CRL import: tokens dead after %" G_GINT64_FORMAT " ms", took_ms);
    g_assert_cmpint(took_ms, <, REVOCATION_BOUND_MS);
    revocation_clock_free(clock);
    scene_settle(scene);
}

/* A CRL that nobody renews ends sessions after its time, and nobody loses keys for it. */
static void
test_an_old_crl_ends_softly(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "anna", "OLDCRL", TRUE);
    const char tokens_of[] = "SELECT count(*) FROM token JOIN session USING (session_id) "
                             "WHERE device_id = 'OLDCRL'";

    clock_shift_for_tests(CERTIFICATES_CRL_SESSION_AGE_MS + HOUR_MS);
    RevocationClock *clock = revocation_clock_new(scene->sessions, scene->agency->database->pool,
                                                  scene->agency->certificates, NULL);
    while (scene_count(scene, "%s", tokens_of) > 0)
        g_usleep(5000);
    revocation_clock_free(clock);
    g_assert_cmpint(scene_count(scene, "SELECT count(*) FROM device WHERE device_id = 'OLDCRL'"),
                    ==, 1);
    clock_shift_for_tests(0);
    scene_assert_shut(scene, tokens->access_token, SOFT);
    g_autoptr(SessionTokens) again = scene_log_in(scene, "anna", "OLDCRL", TRUE);
    scene_assert_opens(scene, again->access_token, "@anna:alpha.example", "OLDCRL");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    scene_begin((const char *const[]){"anna", "ben", "fritz", "gerd", NULL});

    scene_add("/end/a kill is at once", test_a_kill_is_at_once);
    scene_add("/end/for a certificate", test_a_kill_for_a_certificate);
    scene_add("/end/by the log", test_the_log_ends_sessions);
    scene_add("/end/suspension within the bound", test_suspension_ends_everything_within_the_bound);
    scene_add("/end/CRL import within the bound",
              test_an_imported_crl_ends_everything_within_the_bound);
    scene_add("/end/an old CRL ends softly", test_an_old_crl_ends_softly);
    return scene_run_tests();
}
