/* User-interactive authentication: a fresh proof for one request. */
#include "identity/clock.h"
#include "identity/refusal.h"
#include "identity/uia.h"
#include "tests/support/session_scene.h"

static void
test_an_interactive_proof_is_for_one_request(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "anna", "UIA", FALSE);
    g_autoptr(CertificateProof) anna = test_agency_proof(scene->agency, "anna");
    g_autoptr(CertificateProof) ben = test_agency_proof(scene->agency, "ben");
    g_autoptr(GBytes) request = g_bytes_new_static("request", 7);
    g_autoptr(GBytes) another = g_bytes_new_static("another", 7);
    g_autoptr(Session) session = NULL;
    g_autofree char *id = NULL;
    gboolean passed = TRUE, open = FALSE;
    g_autoptr(StoreConnection) connection = store_borrow(scene->agency->database->pool, &error);
    Sessions *sessions = scene->sessions;

    g_assert_true(sessions_authenticate(sessions, tokens->access_token, &session, &error));
    g_assert_true(uia_begin(sessions, connection, session, "DELETE x", request, &id, &error));
    g_assert_true(uia_is_open(sessions, connection, session, id, request, &open, &error) && open);
    g_assert_true(uia_is_open(sessions, connection, session, id, another, &open, &error) && !open);
    g_assert_true(uia_spend(sessions, connection, session, id, request, &passed, &error) &&
                  !passed);

    /* Somebody else's certificate confirms nothing. */
    g_assert_false(uia_complete(sessions, connection, id, ben, &error));
    g_assert_true(g_error_matches(error, REFUSAL, 403));
    g_clear_error(&error);
    /* Nor does a row by hand. */
    scene_run(scene, "UPDATE uia SET completed_ms = 1");
    g_assert_true(uia_spend(sessions, connection, session, id, request, &passed, &error) &&
                  !passed);
    scene_run(scene, "UPDATE uia SET completed_ms = 0");

    g_assert_true(uia_complete(sessions, connection, id, anna, &error));
    g_assert_false(uia_complete(sessions, connection, id, anna, NULL));
    g_assert_true(uia_spend(sessions, connection, session, id, another, &passed, &error) &&
                  !passed);
    g_assert_true(uia_spend(sessions, connection, session, id, request, &passed, &error) && passed);
    g_assert_true(uia_spend(sessions, connection, session, id, request, &passed, &error) &&
                  !passed);
    g_assert_no_error(error);

    g_autofree char *late = NULL;
    g_assert_true(uia_begin(sessions, connection, session, "x", request, &late, &error));
    g_assert_true(uia_complete(sessions, connection, late, anna, &error));
    clock_shift_for_tests(UIA_LIFE_MS + 1);
    g_assert_true(uia_spend(sessions, connection, session, late, request, &passed, &error) &&
                  !passed);
}

static void
test_interactive_proofs_are_bounded(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "anna", "MANY", FALSE);
    g_autoptr(GBytes) request = g_bytes_new_static("request", 7);
    g_autoptr(Session) session = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(scene->agency->database->pool, &error);
    gboolean open = TRUE;
    g_autofree char *first = NULL;

    g_assert_true(sessions_authenticate(scene->sessions, tokens->access_token, &session, &error));
    g_assert_true(uia_begin(scene->sessions, connection, session, "x", request, &first, &error));
    for (guint i = 1; i < UIA_PER_SESSION_MAX; i++) {
        g_autofree char *id = NULL;
        clock_shift_for_tests(i);
        g_assert_true(uia_begin(scene->sessions, connection, session, "x", request, &id, &error));
    }
    g_assert_true(uia_is_open(scene->sessions, connection, session, first, request, &open, &error));
    g_assert_true(open);
    g_autofree char *last = NULL;
    clock_shift_for_tests(1000);
    g_assert_true(uia_begin(scene->sessions, connection, session, "x", request, &last, &error));
    g_assert_true(uia_is_open(scene->sessions, connection, session, first, request, &open, &error));
    g_assert_false(open);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    scene_begin((const char *const[]){"anna", "ben", NULL});

    scene_add("/interactive/bounded", test_interactive_proofs_are_bounded);
    scene_add("/interactive/for one request", test_an_interactive_proof_is_for_one_request);
    return scene_run_tests();
}
