/* A log-in makes a device, or goes on with one. */
#include "identity/clock.h"
#include "identity/device_link.h"
#include "identity/refusal.h"
#include "identity/session.h"
#include "tests/support/session_scene.h"

static void
test_a_device_goes_on(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) one = scene_log_in(scene, "anna", "AGAIN", FALSE);
    scene_assert_opens(scene, one->access_token, "@anna:alpha.example", "AGAIN");
    g_autoptr(SessionTokens) two = scene_log_in(scene, "anna", "AGAIN", FALSE);

    scene_assert_shut(scene, one->access_token, HARD);
    scene_assert_opens(scene, two->access_token, "@anna:alpha.example", "AGAIN");
    g_assert_cmpint(scene_count(scene, "SELECT count(*) FROM device WHERE device_id = 'AGAIN'"), ==,
                    1);
    /* The same name at somebody else is another device. */
    g_autoptr(SessionTokens) ben = scene_log_in(scene, "ben", "AGAIN", FALSE);
    scene_assert_opens(scene, two->access_token, "@anna:alpha.example", "AGAIN");
    scene_assert_opens(scene, ben->access_token, "@ben:alpha.example", "AGAIN");
}

static void
test_bound_keys_never_change(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CertificateProof) proof = test_agency_proof(scene->agency, "anna");
    SessionWish wish = {.device_id = "KEYS", .ed25519 = "one", .curve25519 = "two"};
    g_autoptr(SessionTokens) first = scene_link(scene, proof, &wish, &error);
    g_autoptr(SessionTokens) same = scene_link(scene, proof, &wish, &error);
    g_assert_no_error(error);

    wish.ed25519 = "other";
    g_autoptr(SessionTokens) changed = scene_link(scene, proof, &wish, &error);
    g_assert_null(changed);
    g_assert_true(g_error_matches(error, REFUSAL, 403));
    scene_assert_opens(scene, same->access_token, "@anna:alpha.example", "KEYS");

    /* What is uploaded must be what was bound; a device that bound nothing is free. */
    g_autoptr(StoreConnection) connection = store_borrow(scene->agency->database->pool, NULL);
    g_assert_true(
        device_link_check_keys(connection, "@anna:alpha.example", "KEYS", "one", "two", NULL));
    g_assert_false(
        device_link_check_keys(connection, "@anna:alpha.example", "KEYS", "one", "three", NULL));
    g_assert_false(
        device_link_check_keys(connection, "@anna:alpha.example", "KEYS", NULL, "two", NULL));
    g_assert_true(device_link_check_keys(connection, "@anna:alpha.example", "ONE", "x", "y", NULL));
}

static void
assert_wish_refused(Scene *scene, const SessionWish *wish, gint status)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CertificateProof) proof = test_agency_proof(scene->agency, "hans");
    g_autoptr(SessionTokens) tokens = scene_link(scene, proof, wish, &error);
    g_assert_null(tokens);
    g_assert_true(g_error_matches(error, REFUSAL, status));
}

static void
test_wishes_have_limits(Scene *scene, gconstpointer data)
{
    g_autofree char *id = g_strnfill(DEVICE_ID_BYTES_MAX + 1, 'D');
    g_autofree char *name = g_strnfill(DEVICE_NAME_BYTES_MAX + 1, 'n');

    assert_wish_refused(scene, &(SessionWish){.device_id = id}, 400);
    assert_wish_refused(scene, &(SessionWish){.device_id = ""}, 400);
    assert_wish_refused(scene, &(SessionWish){.device_id = "a b"}, 400);
    assert_wish_refused(scene, &(SessionWish){.device_id = "a\nb"}, 400);
    assert_wish_refused(scene, &(SessionWish){.display_name = name}, 400);
    assert_wish_refused(scene, &(SessionWish){.display_name = "\xff"}, 400);
    id[DEVICE_ID_BYTES_MAX] = '\0';
    g_autoptr(SessionTokens) longest = scene_log_in(scene, "hans", id, FALSE);
    g_assert_cmpstr(longest->device_id, ==, id);
}

static void
test_a_person_has_so_many_devices(Scene *scene, gconstpointer data)
{
    scene_run(scene, "INSERT INTO device SELECT '@hans:alpha.example', 'N' || n, '', 0, 0, '', '' "
                     "FROM generate_series(1, 100) AS n ON CONFLICT DO NOTHING");
    assert_wish_refused(scene, &(SessionWish){.device_id = "TOOMANY"}, 403);
    /* Continuing one makes no more of them. */
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "hans", "N1", FALSE);
    scene_run(scene,
              "DELETE FROM device WHERE user_id = '@hans:alpha.example' AND device_id > 'N2'");
    g_autoptr(SessionTokens) more = scene_log_in(scene, "hans", "TOOMANY", FALSE);
    scene_assert_opens(scene, more->access_token, "@hans:alpha.example", "TOOMANY");
}

static void
test_an_old_proof_makes_nothing(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CertificateProof) proof = test_agency_proof(scene->agency, "anna");
    SessionWish wish = {.device_id = "LATE"};

    clock_shift_for_tests(CERTIFICATE_PROOF_FRESH_MS + 1000);
    g_autoptr(SessionTokens) tokens = scene_link(scene, proof, &wish, &error);
    g_assert_null(tokens);
    g_assert_true(g_error_matches(error, REFUSAL, 403));
    g_assert_cmpint(scene_count(scene, "SELECT count(*) FROM device WHERE device_id = 'LATE'"), ==,
                    0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    scene_begin((const char *const[]){"anna", "ben", "hans", NULL});

    scene_add("/device/goes on", test_a_device_goes_on);
    scene_add("/device/bound keys never change", test_bound_keys_never_change);
    scene_add("/device/wishes have limits", test_wishes_have_limits);
    scene_add("/device/so many for a person", test_a_person_has_so_many_devices);
    scene_add("/device/an old proof makes none", test_an_old_proof_makes_nothing);
    return scene_run_tests();
}
