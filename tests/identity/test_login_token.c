/* Login tokens: the way of a browser from the certificate listener to POST /login. */
#include "identity/clock.h"
#include "identity/login_token.h"
#include "identity/refusal.h"
#include "tests/support/session_scene.h"

static const char page[] = "https://chat.alpha.example/";

static char *
issue(Scene *scene, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) chain = test_agency_chain(scene->agency, name);
    g_autoptr(CertificateProof) proof = test_agency_proof(scene->agency, name);
    g_autoptr(StoreConnection) connection = store_borrow(scene->agency->database->pool, &error);
    char *token = login_token_issue(scene->sessions, connection, proof, chain, page, &error);
    g_assert_no_error(error);
    return token;
}

static CertificateProof *
redeem(Scene *scene, const char *token, const char *origin, const char *expected_rule)
{
    g_autoptr(GError) error = NULL;
    const char *rule = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(scene->agency->database->pool, &error);
    CertificateProof *proof = login_token_redeem(scene->sessions, scene->agency->certificates,
                                                 connection, token, origin, &rule, &error);
    g_assert_cmpstr(rule, ==, expected_rule);
    if (proof == NULL)
        g_assert_true(error->domain == REFUSAL);
    return proof;
}

static void
test_a_login_token_is_good_once(Scene *scene, gconstpointer data)
{
    g_autofree char *token = issue(scene, "anna");
    g_autoptr(CertificateProof) proof = redeem(scene, token, "https://chat.alpha.example", NULL);

    g_assert_cmpstr(certificate_proof_user_id(proof), ==, "@anna:alpha.example");
    g_assert_null(redeem(scene, token, NULL, "login-token-unknown"));
    /* Shown from another page it is burnt. */
    g_autofree char *another = issue(scene, "anna");
    g_assert_null(redeem(scene, another, "https://evil.example", "login-token-origin"));
    g_assert_null(redeem(scene, another, "https://chat.alpha.example", "login-token-unknown"));
    g_assert_null(redeem(scene, "guess", NULL, "login-token-form"));
}

static void
test_a_login_token_is_good_for_30_seconds(Scene *scene, gconstpointer data)
{
    g_autofree char *in_time = issue(scene, "anna");
    g_autofree char *late = issue(scene, "anna");

    clock_shift_for_tests(LOGIN_TOKEN_LIFE_MS - 3000);
    g_autoptr(CertificateProof) proof = redeem(scene, in_time, NULL, NULL);
    g_assert_nonnull(proof);
    clock_shift_for_tests(LOGIN_TOKEN_LIFE_MS + 1);
    g_assert_null(redeem(scene, late, NULL, "login-token-expired"));
}

static void
test_a_login_token_row_by_hand_opens_nothing(Scene *scene, gconstpointer data)
{
    g_autofree char *token = issue(scene, "anna");
    g_autofree char *victim = issue(scene, "ben");

    /* Ben's certificates under anna's token. */
    scene_run(scene,
              "UPDATE login_token a SET chain = b.chain FROM login_token b WHERE a.token_hash <> "
              "b.token_hash");
    g_assert_null(redeem(scene, token, NULL, "login-token-row"));
    g_assert_null(redeem(scene, victim, NULL, "login-token-row"));
}

static void
test_a_login_token_of_a_suspended_person(Scene *scene, gconstpointer data)
{
    g_autofree char *token = issue(scene, "ida");
    test_agency_suspend(scene->agency, "ida");
    g_assert_null(redeem(scene, token, NULL, "suspended"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    scene_begin((const char *const[]){"anna", "ben", "ida", NULL});

    scene_add("/login token/good once", test_a_login_token_is_good_once);
    scene_add("/login token/good for 30 s", test_a_login_token_is_good_for_30_seconds);
    scene_add("/login token/rows by hand open nothing",
              test_a_login_token_row_by_hand_opens_nothing);
    scene_add("/login token/of a suspended person", test_a_login_token_of_a_suspended_person);
    return scene_run_tests();
}
