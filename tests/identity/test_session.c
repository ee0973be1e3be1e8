/* Sessions: who a token speaks for, what a row written by hand opens, and how pairs rotate. */
#include "identity/session.h"

#include <string.h>

#include "identity/clock.h"
#include "identity/refusal.h"
#include "identity/token.h"
#include "tests/support/session_scene.h"

#define MINUTE_MS ((gint64)60 * 1000)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)

static void
test_a_proof_becomes_a_session(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "anna", "ONE", FALSE);

    g_assert_cmpstr(tokens->user_id, ==, "@anna:alpha.example");
    g_assert_cmpstr(tokens->device_id, ==, "ONE");
    g_assert_null(tokens->refresh_token);
    scene_assert_opens(scene, tokens->access_token, "@anna:alpha.example", "ONE");
    g_assert_cmpint(
        scene_count(scene,
                    "SELECT count(*) FROM audit WHERE type = 'login' AND decision = 'accepted' "
                    "AND subject = '@anna:alpha.example' AND object = 'ONE'"),
        ==, 1);
    /* What the database keeps opens nothing by itself. */
    g_assert_cmpint(
        scene_count(
            scene,
            "SELECT count(*) FROM token WHERE position('%s' IN encode(token_hash, 'escape')) > 0",
            tokens->access_token + 4),
        ==, 0);
}

static void
test_a_known_token_costs_no_query(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "anna", "MEMORY", FALSE);

    scene_assert_opens(scene, tokens->access_token, "@anna:alpha.example", "MEMORY");
    scene_run(scene, "DELETE FROM session WHERE device_id = 'MEMORY'");
    gint64 begin_us = g_get_monotonic_time();
    for (guint i = 0; i < 20000; i++)
        scene_assert_opens(scene, tokens->access_token, "@anna:alpha.example", "MEMORY");
    g_test_message("%.2f us each", (double)(g_get_monotonic_time() - begin_us) / 20000);
    scene_assert_opens(scene, tokens->access_token, "@anna:alpha.example", "MEMORY");
    /* Until the clock compares memory with the rows. */
    g_autoptr(StoreConnection) connection = store_borrow(scene->agency->database->pool, &error);
    g_assert_true(sessions_compare_rows(scene->sessions, connection, &error));
    g_assert_no_error(error);
    g_clear_pointer(&connection, store_return);
    scene_assert_shut(scene, tokens->access_token, HARD);
    g_assert_cmpint(scene_bells(), ==, 1);
}

static gboolean
end_softly(LaneBatch *batch, gpointer data, GError **error)
{
    sessions_end_in_batch(batch, "@anna:alpha.example", data, SESSION_END_EXPIRED);
    return TRUE;
}

/* Another process ended it softly: memory learns by the rows. */
static void
test_a_session_without_tokens_is_over(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "anna", "EMPTY", FALSE);

    scene_assert_opens(scene, tokens->access_token, "@anna:alpha.example", "EMPTY");
    g_assert_true(lane_submit_and_wait(scene->agency->lane, end_softly, "EMPTY", NULL, &error));
    g_autoptr(StoreConnection) connection = store_borrow(scene->agency->database->pool, &error);
    g_assert_true(sessions_compare_rows(scene->sessions, connection, &error));
    g_assert_no_error(error);
    scene_assert_shut(scene, tokens->access_token, SOFT);
}

static void
test_bad_tokens(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "anna", "BAD", TRUE);
    g_autoptr(Session) session = NULL;
    g_autoptr(GError) missing = NULL, empty = NULL, refused = NULL;
    g_autofree char *endless = g_strnfill(100000, 'A');
    Token forged = {.kind = TOKEN_ACCESS, .generation = 1};

    g_assert_false(sessions_authenticate(scene->sessions, NULL, &session, &missing));
    g_assert_true(g_str_has_prefix(missing->message, "M_MISSING_TOKEN: "));
    g_assert_false(sessions_authenticate(scene->sessions, "", &session, &empty));
    g_assert_true(g_str_has_prefix(empty->message, "M_MISSING_TOKEN: "));
    scene_assert_shut(scene, "guess", HARD);
    scene_assert_shut(scene, endless, HARD);
    scene_assert_shut(scene, "\xff\xfe", HARD);
    scene_assert_shut(scene, tokens->refresh_token, HARD);
    /* Made with the right key, yet of no session. */
    char *of_nobody = token_make(sessions_token_key(scene->sessions), &forged);
    scene_assert_shut(scene, of_nobody, HARD);
    token_text_free(of_nobody);
    g_assert_null(sessions_refresh(scene->sessions, tokens->access_token, &refused));
    scene_assert_refused(refused, HARD);
}

/* Whoever can write the database can still not log in. */
static void
test_rows_by_hand_open_nothing(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) anna = scene_log_in(scene, "anna", "HAND", FALSE);
    g_autoptr(SessionTokens) ben = scene_log_in(scene, "ben", "HAND", FALSE);
    g_autofree char *session = test_database_query(
        scene->agency->database,
        "SELECT session_id FROM session WHERE user_id LIKE '@ben%' AND device_id = 'HAND'");
    Token own = {.kind = TOKEN_ACCESS, .generation = 1};
    g_autofree char *sql = NULL;
    g_autofree char *back = NULL;

    /* A token made by the server's own function, its row by hand. */
    char *text = token_make(sessions_token_key(scene->sessions), &own);
    g_autoptr(GBytes) hash = token_hash(text);
    g_autofree char *hex = g_malloc0(65);
    for (guint i = 0; i < 32; i++)
        g_snprintf(hex + 2 * i, 3, "%02x", ((const guint8 *)g_bytes_get_data(hash, NULL))[i]);
    g_autofree char *id = token_session_text(own.session);
    sql = g_strdup_printf(
        "INSERT INTO device VALUES ('@mallory:alpha.example', 'X', '', 0, 0, '', '');"
        "INSERT INTO session SELECT '@mallory:alpha.example', 'X', '%s', kind, client, scope, "
        "certificate, proof_ms, "
        "expires_ms, newest_generation, used_generation, mac FROM session WHERE session_id = '%s';"
        "INSERT INTO token SELECT '%s', decode('%s', 'hex'), kind, generation, expires_ms, mac "
        "FROM token "
        "WHERE session_id = '%s'",
        id, session, id, hex, session);
    scene_run(scene, sql);
    scene_assert_shut(scene, text, HARD);
    token_text_free(text);

    /* Ben's session is given to anna, who has never used it here: the token opens neither. */
    scene_run(scene,
              "UPDATE session SET user_id = '@anna:alpha.example', device_id = 'ONE2' WHERE FALSE");
    scene_run(scene,
              "INSERT INTO device VALUES ('@anna:alpha.example', 'STOLEN', '', 0, 0, '', '')");
    g_autofree char *steal = g_strdup_printf("UPDATE session SET user_id = '@anna:alpha.example', "
                                             "device_id = 'STOLEN' WHERE session_id = '%s'",
                                             session);
    scene_run(scene, steal);
    scene_assert_shut(scene, ben->access_token, HARD);
    back = g_strdup_printf("UPDATE session SET user_id = '@ben:alpha.example', device_id = 'HAND' "
                           "WHERE session_id = '%s'",
                           session);
    scene_run(scene, back);
    scene_assert_opens(scene, ben->access_token, "@ben:alpha.example", "HAND");

    /* A longer life, written by hand. */
    scene_run(
        scene,
        "UPDATE token SET expires_ms = expires_ms + 1 WHERE session_id IN "
        "(SELECT session_id FROM session WHERE user_id = '@anna:alpha.example' AND device_id = "
        "'HAND')");
    scene_assert_shut(scene, anna->access_token, HARD);
    scene_run(
        scene,
        "DELETE FROM device WHERE user_id = '@mallory:alpha.example' OR device_id IN ('STOLEN')");
}

static void
test_time_ends_softly(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) brief = scene_log_in(scene, "anna", "BRIEF", TRUE);
    g_autoptr(SessionTokens) day = scene_log_in(scene, "anna", "DAY", FALSE);

    g_assert_cmpint(brief->expires_in_ms, ==, 5 * MINUTE_MS);
    g_assert_cmpint(day->expires_in_ms, ==, 10 * HOUR_MS);
    clock_shift_for_tests(4 * MINUTE_MS);
    scene_assert_opens(scene, brief->access_token, "@anna:alpha.example", "BRIEF");
    clock_shift_for_tests(5 * MINUTE_MS + 1);
    scene_assert_shut(scene, brief->access_token, SOFT);
    clock_shift_for_tests(10 * HOUR_MS - MINUTE_MS);
    scene_assert_opens(scene, day->access_token, "@anna:alpha.example", "DAY");
    clock_shift_for_tests(10 * HOUR_MS + 1);
    scene_assert_shut(scene, day->access_token, SOFT);
}

/* A parked request of a session that reaches its end is told so. */
static void
test_the_end_is_rung(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "anna", "END", FALSE);
    g_autoptr(Session) parked = NULL;

    g_assert_true(sessions_authenticate(scene->sessions, tokens->access_token, &parked, &error));
    sessions_expire(scene->sessions, session_expires_ms(parked) - 1);
    g_assert_true(session_is_live(parked, NULL));
    sessions_expire(scene->sessions, session_expires_ms(parked));
    g_assert_false(session_is_live(parked, &error));
    scene_assert_refused(error, SOFT);
    g_assert_cmpint(scene_bells(), ==, 1);
}

static void
test_no_session_outlives_its_certificate(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CertificateProof) proof = test_agency_proof(scene->agency, "dora"); /* 20 days */
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "dora", NULL, TRUE);
    g_autoptr(Session) session = NULL;

    g_assert_true(sessions_authenticate(scene->sessions, tokens->access_token, &session, &error));
    g_assert_cmpint(session_expires_ms(session), ==, certificate_proof_not_after_ms(proof));
    g_assert_cmpint(session_expires_ms(session), <, clock_wall_ms() + 21 * DAY_MS);
}

static void
test_devices_are_seen(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "anna", "SEEN", FALSE);
    const char seen[] = "SELECT last_seen_ms FROM device WHERE device_id = 'SEEN'";
    gint64 before_ms = scene_count(scene, "%s", seen);

    clock_shift_for_tests(10 * MINUTE_MS);
    scene_assert_opens(scene, tokens->access_token, "@anna:alpha.example", "SEEN");
    g_autoptr(StoreConnection) connection = store_borrow(scene->agency->database->pool, &error);
    g_assert_true(sessions_write_seen(scene->sessions, connection, &error));
    g_assert_no_error(error);
    g_assert_cmpint(scene_count(scene, "%s", seen), >=, before_ms + 10 * MINUTE_MS);
}

static void
test_memory_is_bounded(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) one = scene_log_in(scene, "anna", "M1", FALSE);
    g_autoptr(SessionTokens) two = scene_log_in(scene, "anna", "M2", FALSE);
    g_autoptr(SessionTokens) three = scene_log_in(scene, "anna", "M3", FALSE);

    for (guint i = 0; i < 3; i++) {
        scene_assert_opens(scene, one->access_token, "@anna:alpha.example", "M1");
        scene_assert_opens(scene, two->access_token, "@anna:alpha.example", "M2");
        scene_assert_opens(scene, three->access_token, "@anna:alpha.example", "M3");
    }
    /* A parked request of a session that memory let go is told of its end all the same. */
    g_autoptr(GError) error = NULL;
    g_autoptr(Session) parked = NULL;
    g_assert_true(sessions_authenticate(scene->sessions, one->access_token, &parked, &error));
    scene_assert_opens(scene, two->access_token, "@anna:alpha.example", "M2");
    scene_assert_opens(scene, three->access_token, "@anna:alpha.example", "M3");
    sessions_kill_for_device(scene->sessions, "@anna:alpha.example", "M1", SESSION_END_LOGOUT,
                             "test");
    g_assert_false(session_is_live(parked, NULL));
    scene_settle(scene);
}

static SessionTokens *
refresh(Scene *scene, const char *token)
{
    g_autoptr(GError) error = NULL;
    SessionTokens *tokens = sessions_refresh(scene->sessions, token, &error);
    g_assert_no_error(error);
    return tokens;
}

static void
assert_no_refresh(Scene *scene, const char *token, Softness softness)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(sessions_refresh(scene->sessions, token, &error));
    scene_assert_refused(error, softness);
}

static void
test_refresh_rotates(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) one = scene_log_in(scene, "anna", "TURN", TRUE);
    scene_assert_opens(scene, one->access_token, "@anna:alpha.example", "TURN");
    g_autoptr(SessionTokens) two = refresh(scene, one->refresh_token);

    /* Both pairs are good until the new one is first used. */
    scene_assert_opens(scene, one->access_token, "@anna:alpha.example", "TURN");
    scene_assert_opens(scene, two->access_token, "@anna:alpha.example", "TURN");
    scene_assert_shut(scene, one->access_token, SOFT);
    g_autoptr(SessionTokens) three = refresh(scene, two->refresh_token);
    /* The refresh token is a first use too. */
    g_autoptr(SessionTokens) four = refresh(scene, three->refresh_token);
    scene_assert_shut(scene, two->access_token, SOFT);
    scene_assert_opens(scene, four->access_token, "@anna:alpha.example", "TURN");
    g_assert_cmpint(scene_count(scene,
                                "SELECT count(*) FROM token t JOIN session s USING (session_id) "
                                "WHERE s.device_id = 'TURN'"),
                    ==, 2);
}

static void
test_a_lost_answer_is_no_theft(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) one = scene_log_in(scene, "anna", "LOST", TRUE);
    g_autoptr(SessionTokens) lost = refresh(scene, one->refresh_token);
    g_autoptr(SessionTokens) two = refresh(scene, one->refresh_token);

    scene_assert_opens(scene, two->access_token, "@anna:alpha.example", "LOST");
    scene_assert_shut(scene, lost->access_token, SOFT);
}

static void
test_a_stolen_refresh_token_ends_the_family(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) one = scene_log_in(scene, "anna", "THEFT", TRUE);
    g_autoptr(SessionTokens) two = refresh(scene, one->refresh_token);

    scene_assert_opens(scene, two->access_token, "@anna:alpha.example", "THEFT");
    assert_no_refresh(scene, one->refresh_token, HARD);
    scene_assert_shut(scene, two->access_token, HARD);
    assert_no_refresh(scene, two->refresh_token, HARD);
    scene_settle(scene);
    scene_assert_shut(scene, two->access_token, HARD);
    g_assert_cmpint(scene_count(scene, "SELECT count(*) FROM device WHERE device_id = 'THEFT'"), ==,
                    0);
    g_assert_cmpint(
        scene_count(scene,
                    "SELECT count(*) FROM audit WHERE type = 'session_end' AND object = 'THEFT' "
                    "AND rule = 'refresh-token-reused'"),
        ==, 1);
}

static void
test_refresh_asks_whether_the_binding_holds(Scene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "emil", "EMIL", TRUE);

    test_agency_suspend(scene->agency, "emil");
    g_assert_null(sessions_refresh(scene->sessions, tokens->refresh_token, &error));
    g_assert_true(error->domain == REFUSAL);
}

static void
test_refresh_ends_with_the_session(Scene *scene, gconstpointer data)
{
    g_autoptr(SessionTokens) tokens = scene_log_in(scene, "anna", "MONTH", TRUE);
    clock_shift_for_tests(30 * DAY_MS + 1);
    assert_no_refresh(scene, tokens->refresh_token, SOFT);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    scene_begin((const char *const[]){"anna", "ben", "emil", NULL});
    test_agency_make(scene_agency(), "person dora --days 20");
    test_agency_enrol_made(scene_agency(), "dora");

    scene_add("/session/a proof becomes a session", test_a_proof_becomes_a_session);
    scene_add("/session/a known token costs no query", test_a_known_token_costs_no_query);
    scene_add("/session/without tokens", test_a_session_without_tokens_is_over);
    scene_add("/session/bad tokens", test_bad_tokens);
    scene_add("/session/rows by hand open nothing", test_rows_by_hand_open_nothing);
    scene_add("/session/time ends softly", test_time_ends_softly);
    scene_add("/session/the end is rung", test_the_end_is_rung);
    scene_add("/session/none outlives its certificate", test_no_session_outlives_its_certificate);
    scene_add("/refresh/rotates", test_refresh_rotates);
    scene_add("/refresh/a lost answer is no theft", test_a_lost_answer_is_no_theft);
    scene_add("/refresh/a stolen token ends the family",
              test_a_stolen_refresh_token_ends_the_family);
    scene_add("/refresh/asks whether the binding holds",
              test_refresh_asks_whether_the_binding_holds);
    scene_add("/refresh/ends with the session", test_refresh_ends_with_the_session);
    scene_add("/device/seen", test_devices_are_seen);
    scene_add_with_cache("/session/memory is bounded", 2, test_memory_is_bounded);
    return scene_run_tests();
}
