/* Sessions from log-in to end: who a token speaks for, what a row written by hand opens, how pairs
 * rotate, and how fast what was revoked stops.  The people are enrolled by two officers, as in
 * life. */
#include "identity/session.h"

#include <string.h>

#include "identity/clock.h"
#include "identity/device_link.h"
#include "identity/login_token.h"
#include "identity/refusal.h"
#include "identity/revocation.h"
#include "identity/token.h"
#include "identity/uia.h"
#include "tests/support/agency.h"

#define MINUTE_MS ((gint64)60 * 1000)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)

static TestAgency *agency;
static GPtrArray *all_sessions; /* the log's bell knows each until the agency ends */

typedef struct {
    Sessions *sessions;
} Fixture;

static gint bells; /* atomic */

/* Wait for the lane: what was submitted before is committed. */
static gboolean
apply_nothing(LaneBatch *batch, gpointer data, GError **error)
{
    return TRUE;
}

static void
settle(void)
{
    g_autoptr(GError) error = NULL;
    lane_submit_and_wait(agency->lane, apply_nothing, NULL, NULL, &error);
    g_assert_no_error(error);
}

static void
count_bell(gpointer data)
{
    g_atomic_int_inc((gint *)data);
}

static void
fixture_open(Fixture *fixture, gconstpointer data)
{
    SessionSettings settings = session_settings_default;
    g_atomic_int_set(&bells, 0);
    if (data != NULL)
        settings.cache_max = GPOINTER_TO_UINT(data);
    fixture->sessions = sessions_new(agency->database->pool, agency->lane, agency->ring,
                                     agency->certificates, agency->record_key, &settings);
    g_ptr_array_add(all_sessions, fixture->sessions);
    sessions_add_bell(fixture->sessions, count_bell, &bells);
}

static void
fixture_close(Fixture *fixture, gconstpointer data)
{
    clock_shift_for_tests(0);
    settle();
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

static SessionTokens *
try_link(Fixture *fixture, const CertificateProof *proof, const SessionWish *wish, GError **error)
{
    Waiter waiter = {0};
    if (!session_link(fixture->sessions, proof, LOGIN_BROWSER, wish, waiter_told, &waiter, error))
        return NULL;
    g_mutex_lock(&waiter.lock);
    while (!waiter.done)
        g_cond_wait(&waiter.there, &waiter.lock);
    g_mutex_unlock(&waiter.lock);
    g_assert_no_error(waiter.error);
    return waiter.tokens;
}

static SessionTokens *
log_in(Fixture *fixture, const char *name, const char *device_id, gboolean refresh)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CertificateProof) proof = test_agency_proof(agency, name);
    SessionWish wish = {.device_id = device_id, .client = "test", .refresh = refresh};
    SessionTokens *tokens = try_link(fixture, proof, &wish, &error);
    g_assert_no_error(error);
    return tokens;
}

/* ---- what a token does ---- */

static void
assert_opens(Fixture *fixture, const char *token, const char *user_id, const char *device_id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Session) session = NULL;
    sessions_authenticate(fixture->sessions, token, &session, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(session_user_id(session), ==, user_id);
    g_assert_cmpstr(session_device_id(session), ==, device_id);
    g_assert_true(session_is_live(session, NULL));
}

typedef enum {
    HARD,
    SOFT
} Softness;

static void
assert_refused(const GError *error, Softness softness)
{
    g_assert_nonnull(error);
    g_assert_true(g_error_matches(error, REFUSAL, 401));
    g_assert_true(g_str_has_prefix(error->message, "M_UNKNOWN_TOKEN: "));
    g_assert_cmpint(session_refusal_is_soft(error), ==, softness == SOFT);
}

static void
assert_shut(Fixture *fixture, const char *token, Softness softness)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Session) session = NULL;
    g_assert_false(sessions_authenticate(fixture->sessions, token, &session, &error));
    g_assert_null(session);
    assert_refused(error, softness);
}

static gint64 count(const char *format, ...) G_GNUC_PRINTF(1, 2);

static gint64
count(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    g_autofree char *sql = g_strdup_vprintf(format, values);
    va_end(values);
    return test_database_count(agency->database, sql);
}

static void
run(const char *sql)
{
    g_free(test_database_query(agency->database, sql));
}

/* ---- tests ---- */

static void
test_a_proof_becomes_a_session(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) tokens = log_in(fixture, "anna", "ONE", FALSE);

    g_assert_cmpstr(tokens->user_id, ==, "@anna:alpha.example");
    g_assert_cmpstr(tokens->device_id, ==, "ONE");
    g_assert_null(tokens->refresh_token);
    assert_opens(fixture, tokens->access_token, "@anna:alpha.example", "ONE");
    g_assert_cmpint(
        count("SELECT count(*) FROM audit WHERE type = 'login' AND decision = 'accepted' "
              "AND subject = '@anna:alpha.example' AND object = 'ONE'"),
        ==, 1);
    /* What the database keeps opens nothing by itself. */
    g_assert_cmpint(
        count("SELECT count(*) FROM token WHERE position('%s' IN encode(token_hash, 'escape')) > 0",
              tokens->access_token + 4),
        ==, 0);
}

static void
test_a_known_token_costs_no_query(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = log_in(fixture, "anna", "MEMORY", FALSE);

    assert_opens(fixture, tokens->access_token, "@anna:alpha.example", "MEMORY");
    run("DELETE FROM session WHERE device_id = 'MEMORY'");
    gint64 begin_us = g_get_monotonic_time();
    for (guint i = 0; i < 20000; i++)
        assert_opens(fixture, tokens->access_token, "@anna:alpha.example", "MEMORY");
    g_test_message("%.2f us each", (double)(g_get_monotonic_time() - begin_us) / 20000);
    assert_opens(fixture, tokens->access_token, "@anna:alpha.example", "MEMORY");
    /* Until the clock compares memory with the rows. */
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_assert_true(sessions_compare_rows(fixture->sessions, connection, &error));
    g_assert_no_error(error);
    g_clear_pointer(&connection, store_return);
    assert_shut(fixture, tokens->access_token, HARD);
    g_assert_cmpint(g_atomic_int_get(&bells), ==, 1);
}

static gboolean
end_softly(LaneBatch *batch, gpointer data, GError **error)
{
    sessions_end_in_batch(batch, "@anna:alpha.example", data, SESSION_END_EXPIRED);
    return TRUE;
}

/* Another process ended it softly: memory learns by the rows. */
static void
test_a_session_without_tokens_is_over(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = log_in(fixture, "anna", "EMPTY", FALSE);

    assert_opens(fixture, tokens->access_token, "@anna:alpha.example", "EMPTY");
    g_assert_true(lane_submit_and_wait(agency->lane, end_softly, "EMPTY", NULL, &error));
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_assert_true(sessions_compare_rows(fixture->sessions, connection, &error));
    g_assert_no_error(error);
    assert_shut(fixture, tokens->access_token, SOFT);
}

static void
test_bad_tokens(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) tokens = log_in(fixture, "anna", "BAD", TRUE);
    g_autoptr(Session) session = NULL;
    g_autoptr(GError) missing = NULL, empty = NULL, refused = NULL;
    g_autofree char *endless = g_strnfill(100000, 'A');
    Token forged = {.kind = TOKEN_ACCESS, .generation = 1};

    g_assert_false(sessions_authenticate(fixture->sessions, NULL, &session, &missing));
    g_assert_true(g_str_has_prefix(missing->message, "M_MISSING_TOKEN: "));
    g_assert_false(sessions_authenticate(fixture->sessions, "", &session, &empty));
    g_assert_true(g_str_has_prefix(empty->message, "M_MISSING_TOKEN: "));
    assert_shut(fixture, "guess", HARD);
    assert_shut(fixture, endless, HARD);
    assert_shut(fixture, "\xff\xfe", HARD);
    assert_shut(fixture, tokens->refresh_token, HARD);
    /* Made with the right key, yet of no session. */
    char *of_nobody = token_make(sessions_token_key(fixture->sessions), &forged);
    assert_shut(fixture, of_nobody, HARD);
    token_text_free(of_nobody);
    g_assert_null(sessions_refresh(fixture->sessions, tokens->access_token, &refused));
    assert_refused(refused, HARD);
}

/* Whoever can write the database can still not log in. */
static void
test_rows_by_hand_open_nothing(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) anna = log_in(fixture, "anna", "HAND", FALSE);
    g_autoptr(SessionTokens) ben = log_in(fixture, "ben", "HAND", FALSE);
    g_autofree char *session = test_database_query(
        agency->database,
        "SELECT session_id FROM session WHERE user_id LIKE '@ben%' AND device_id = 'HAND'");
    Token own = {.kind = TOKEN_ACCESS, .generation = 1};
    g_autofree char *sql = NULL;
    g_autofree char *back = NULL;

    /* A token made by the server's own function, its row by hand. */
    char *text = token_make(sessions_token_key(fixture->sessions), &own);
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
    run(sql);
    assert_shut(fixture, text, HARD);
    token_text_free(text);

    /* Ben's session is given to anna, who has never used it here: the token opens neither. */
    run("UPDATE session SET user_id = '@anna:alpha.example', device_id = 'ONE2' WHERE FALSE");
    run("INSERT INTO device VALUES ('@anna:alpha.example', 'STOLEN', '', 0, 0, '', '')");
    g_autofree char *steal = g_strdup_printf("UPDATE session SET user_id = '@anna:alpha.example', "
                                             "device_id = 'STOLEN' WHERE session_id = '%s'",
                                             session);
    run(steal);
    assert_shut(fixture, ben->access_token, HARD);
    back = g_strdup_printf("UPDATE session SET user_id = '@ben:alpha.example', device_id = 'HAND' "
                           "WHERE session_id = '%s'",
                           session);
    run(back);
    assert_opens(fixture, ben->access_token, "@ben:alpha.example", "HAND");

    /* A longer life, written by hand. */
    run("UPDATE token SET expires_ms = expires_ms + 1 WHERE session_id IN "
        "(SELECT session_id FROM session WHERE user_id = '@anna:alpha.example' AND device_id = "
        "'HAND')");
    assert_shut(fixture, anna->access_token, HARD);
    run("DELETE FROM device WHERE user_id = '@mallory:alpha.example' OR device_id IN ('STOLEN')");
}

static void
test_time_ends_softly(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) brief = log_in(fixture, "anna", "BRIEF", TRUE);
    g_autoptr(SessionTokens) day = log_in(fixture, "anna", "DAY", FALSE);

    g_assert_cmpint(brief->expires_in_ms, ==, 5 * MINUTE_MS);
    g_assert_cmpint(day->expires_in_ms, ==, 10 * HOUR_MS);
    clock_shift_for_tests(5 * MINUTE_MS - 2000);
    assert_opens(fixture, brief->access_token, "@anna:alpha.example", "BRIEF");
    clock_shift_for_tests(5 * MINUTE_MS + 1);
    assert_shut(fixture, brief->access_token, SOFT);
    clock_shift_for_tests(10 * HOUR_MS - 2000);
    assert_opens(fixture, day->access_token, "@anna:alpha.example", "DAY");
    clock_shift_for_tests(10 * HOUR_MS + 1);
    assert_shut(fixture, day->access_token, SOFT);
}

/* A parked request of a session that reaches its end is told so. */
static void
test_the_end_is_rung(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = log_in(fixture, "anna", "END", FALSE);
    g_autoptr(Session) parked = NULL;

    g_assert_true(sessions_authenticate(fixture->sessions, tokens->access_token, &parked, &error));
    sessions_expire(fixture->sessions, session_expires_ms(parked) - 1);
    g_assert_true(session_is_live(parked, NULL));
    sessions_expire(fixture->sessions, session_expires_ms(parked));
    g_assert_false(session_is_live(parked, &error));
    assert_refused(error, SOFT);
    g_assert_cmpint(g_atomic_int_get(&bells), ==, 1);
}

static void
test_no_session_outlives_its_certificate(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CertificateProof) proof = test_agency_proof(agency, "dora"); /* 20 days */
    g_autoptr(SessionTokens) tokens = log_in(fixture, "dora", NULL, TRUE);
    g_autoptr(Session) session = NULL;

    g_assert_true(sessions_authenticate(fixture->sessions, tokens->access_token, &session, &error));
    g_assert_cmpint(session_expires_ms(session), ==, certificate_proof_not_after_ms(proof));
    g_assert_cmpint(session_expires_ms(session), <, clock_wall_ms() + 21 * DAY_MS);
}

/* ---- refresh ---- */

static SessionTokens *
refresh(Fixture *fixture, const char *token)
{
    g_autoptr(GError) error = NULL;
    SessionTokens *tokens = sessions_refresh(fixture->sessions, token, &error);
    g_assert_no_error(error);
    return tokens;
}

static void
assert_no_refresh(Fixture *fixture, const char *token, Softness softness)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(sessions_refresh(fixture->sessions, token, &error));
    assert_refused(error, softness);
}

static void
test_refresh_rotates(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) one = log_in(fixture, "anna", "TURN", TRUE);
    assert_opens(fixture, one->access_token, "@anna:alpha.example", "TURN");
    g_autoptr(SessionTokens) two = refresh(fixture, one->refresh_token);

    /* Both pairs are good until the new one is first used. */
    assert_opens(fixture, one->access_token, "@anna:alpha.example", "TURN");
    assert_opens(fixture, two->access_token, "@anna:alpha.example", "TURN");
    assert_shut(fixture, one->access_token, SOFT);
    g_autoptr(SessionTokens) three = refresh(fixture, two->refresh_token);
    /* The refresh token is a first use too. */
    g_autoptr(SessionTokens) four = refresh(fixture, three->refresh_token);
    assert_shut(fixture, two->access_token, SOFT);
    assert_opens(fixture, four->access_token, "@anna:alpha.example", "TURN");
    g_assert_cmpint(count("SELECT count(*) FROM token t JOIN session s USING (session_id) "
                          "WHERE s.device_id = 'TURN'"),
                    ==, 2);
}

static void
test_a_lost_answer_is_no_theft(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) one = log_in(fixture, "anna", "LOST", TRUE);
    g_autoptr(SessionTokens) lost = refresh(fixture, one->refresh_token);
    g_autoptr(SessionTokens) two = refresh(fixture, one->refresh_token);

    assert_opens(fixture, two->access_token, "@anna:alpha.example", "LOST");
    assert_shut(fixture, lost->access_token, SOFT);
}

static void
test_a_stolen_refresh_token_ends_the_family(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) one = log_in(fixture, "anna", "THEFT", TRUE);
    g_autoptr(SessionTokens) two = refresh(fixture, one->refresh_token);

    assert_opens(fixture, two->access_token, "@anna:alpha.example", "THEFT");
    assert_no_refresh(fixture, one->refresh_token, HARD);
    assert_shut(fixture, two->access_token, HARD);
    assert_no_refresh(fixture, two->refresh_token, HARD);
    settle();
    assert_shut(fixture, two->access_token, HARD);
    g_assert_cmpint(count("SELECT count(*) FROM device WHERE device_id = 'THEFT'"), ==, 0);
    g_assert_cmpint(
        count("SELECT count(*) FROM audit WHERE type = 'session_end' AND object = 'THEFT' "
              "AND rule = 'refresh-token-reused'"),
        ==, 1);
}

static void
test_refresh_asks_whether_the_binding_holds(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = log_in(fixture, "emil", "EMIL", TRUE);

    test_agency_suspend(agency, "emil");
    g_assert_null(sessions_refresh(fixture->sessions, tokens->refresh_token, &error));
    g_assert_true(error->domain == REFUSAL);
}

static void
test_refresh_ends_with_the_session(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) tokens = log_in(fixture, "anna", "MONTH", TRUE);
    clock_shift_for_tests(30 * DAY_MS + 1);
    assert_no_refresh(fixture, tokens->refresh_token, SOFT);
}

/* ---- ends ---- */

static void
test_a_kill_is_at_once(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) one = log_in(fixture, "ben", "K1", FALSE);
    g_autoptr(SessionTokens) two = log_in(fixture, "ben", "K2", FALSE);
    g_autoptr(SessionTokens) other = log_in(fixture, "anna", "K1", FALSE);
    g_autoptr(Session) parked = NULL;

    g_assert_true(sessions_authenticate(fixture->sessions, one->access_token, &parked, &error));
    sessions_kill_for_user(fixture->sessions, "@ben:alpha.example", SESSION_END_COMPROMISE, "test");
    g_assert_false(session_is_live(parked, &error));
    assert_refused(error, HARD);
    g_assert_cmpint(g_atomic_int_get(&bells), >=, 1);
    assert_shut(fixture, one->access_token, HARD);
    /* One that memory had never seen. */
    assert_shut(fixture, two->access_token, HARD);
    assert_opens(fixture, other->access_token, "@anna:alpha.example", "K1");
    settle();
    assert_shut(fixture, two->access_token, HARD);
    g_assert_cmpint(count("SELECT count(*) FROM session WHERE user_id = '@ben:alpha.example'"), ==,
                    0);
    /* A fresh log-in opens again. */
    g_autoptr(SessionTokens) again = log_in(fixture, "ben", "K1", FALSE);
    assert_opens(fixture, again->access_token, "@ben:alpha.example", "K1");
}

static void
test_a_kill_for_a_certificate(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CertificateProof) proof = test_agency_proof(agency, "ben");
    g_autoptr(SessionTokens) tokens = log_in(fixture, "ben", "CERT", FALSE);
    g_autoptr(SessionTokens) other = log_in(fixture, "anna", "CERT", FALSE);

    g_assert_true(sessions_kill_for_certificate(fixture->sessions,
                                                certificate_proof_certificate(proof),
                                                SESSION_END_COMPROMISE, "test", &error));
    assert_shut(fixture, tokens->access_token, HARD);
    assert_opens(fixture, other->access_token, "@anna:alpha.example", "CERT");
    settle();
}

static gboolean
remove_device(LaneBatch *batch, gpointer data, GError **error)
{
    device_remove_in_batch(batch, "@anna:alpha.example", data);
    return TRUE;
}

/* Another process removes the device: the log alone tells. */
static void
test_the_log_ends_sessions(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = log_in(fixture, "anna", "LOGGED", FALSE);
    g_autoptr(Session) parked = NULL;

    g_assert_true(sessions_authenticate(fixture->sessions, tokens->access_token, &parked, &error));
    g_assert_true(lane_submit_and_wait(agency->lane, remove_device, "LOGGED", NULL, &error));
    g_assert_false(session_is_live(parked, NULL));
    g_assert_cmpint(g_atomic_int_get(&bells), >=, 1);
    assert_shut(fixture, tokens->access_token, HARD);
}

/* From the act's commit to the last token shut, on a running clock. */
static gint64
time_to_end(Fixture *fixture, const char *token)
{
    g_autoptr(GError) error = NULL;
    gint64 begin_ms = clock_interval_ms();

    while (clock_interval_ms() - begin_ms < 2 * REVOCATION_BOUND_MS) {
        g_autoptr(Session) session = NULL;
        if (!sessions_authenticate(fixture->sessions, token, &session, &error))
            break;
        g_usleep(5000);
    }
    assert_refused(error, HARD);
    return clock_interval_ms() - begin_ms;
}

static void
test_suspension_ends_everything_within_the_bound(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) fritz = log_in(fixture, "fritz", "F", TRUE);
    g_autoptr(SessionTokens) anna = log_in(fixture, "anna", "F", TRUE);
    RevocationClock *clock =
        revocation_clock_new(fixture->sessions, agency->database->pool, agency->certificates, NULL);

    assert_opens(fixture, fritz->access_token, "@fritz:alpha.example", "F");
    test_agency_suspend(agency, "fritz");
    gint64 took_ms = time_to_end(fixture, fritz->access_token);
    g_test_message("figure: suspension: tokens dead after %" G_GINT64_FORMAT " ms", took_ms);
    g_assert_cmpint(took_ms, <, REVOCATION_BOUND_MS);
    assert_opens(fixture, anna->access_token, "@anna:alpha.example", "F");
    revocation_clock_free(clock);
    settle();
    g_assert_cmpint(count("SELECT count(*) FROM device WHERE user_id = '@fritz:alpha.example'"), ==,
                    0);
}

static void
test_an_imported_crl_ends_everything_within_the_bound(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) gerd = log_in(fixture, "gerd", "G", TRUE);
    RevocationClock *clock =
        revocation_clock_new(fixture->sessions, agency->database->pool, agency->certificates, NULL);

    assert_opens(fixture, gerd->access_token, "@gerd:alpha.example", "G");
    test_agency_make(agency, "revoke gerd");
    test_agency_import_crls(agency);
    gint64 took_ms = time_to_end(fixture, gerd->access_token);
    g_test_message("figure: CRL import: tokens dead after %" G_GINT64_FORMAT " ms", took_ms);
    g_assert_cmpint(took_ms, <, REVOCATION_BOUND_MS);
    revocation_clock_free(clock);
    settle();
}

/* A CRL that nobody renews ends sessions after its time, and nobody loses keys for it. */
static void
test_an_old_crl_ends_softly(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) tokens = log_in(fixture, "anna", "OLDCRL", TRUE);
    const char tokens_of[] = "SELECT count(*) FROM token JOIN session USING (session_id) "
                             "WHERE device_id = 'OLDCRL'";

    clock_shift_for_tests(CERTIFICATES_CRL_SESSION_AGE_MS + HOUR_MS);
    RevocationClock *clock =
        revocation_clock_new(fixture->sessions, agency->database->pool, agency->certificates, NULL);
    while (count("%s", tokens_of) > 0)
        g_usleep(5000);
    revocation_clock_free(clock);
    g_assert_cmpint(count("SELECT count(*) FROM device WHERE device_id = 'OLDCRL'"), ==, 1);
    clock_shift_for_tests(0);
    assert_shut(fixture, tokens->access_token, SOFT);
    g_autoptr(SessionTokens) again = log_in(fixture, "anna", "OLDCRL", TRUE);
    assert_opens(fixture, again->access_token, "@anna:alpha.example", "OLDCRL");
}

/* ---- devices ---- */

static void
test_devices_are_seen(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = log_in(fixture, "anna", "SEEN", FALSE);
    const char seen[] = "SELECT last_seen_ms FROM device WHERE device_id = 'SEEN'";
    gint64 before_ms = count("%s", seen);

    clock_shift_for_tests(10 * MINUTE_MS);
    assert_opens(fixture, tokens->access_token, "@anna:alpha.example", "SEEN");
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    g_assert_true(sessions_write_seen(fixture->sessions, connection, &error));
    g_assert_no_error(error);
    g_assert_cmpint(count("%s", seen), >=, before_ms + 10 * MINUTE_MS);
}

static void
test_a_device_goes_on(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) one = log_in(fixture, "anna", "AGAIN", FALSE);
    assert_opens(fixture, one->access_token, "@anna:alpha.example", "AGAIN");
    g_autoptr(SessionTokens) two = log_in(fixture, "anna", "AGAIN", FALSE);

    assert_shut(fixture, one->access_token, HARD);
    assert_opens(fixture, two->access_token, "@anna:alpha.example", "AGAIN");
    g_assert_cmpint(count("SELECT count(*) FROM device WHERE device_id = 'AGAIN'"), ==, 1);
    /* The same name at somebody else is another device. */
    g_autoptr(SessionTokens) ben = log_in(fixture, "ben", "AGAIN", FALSE);
    assert_opens(fixture, two->access_token, "@anna:alpha.example", "AGAIN");
    assert_opens(fixture, ben->access_token, "@ben:alpha.example", "AGAIN");
}

static void
test_bound_keys_never_change(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CertificateProof) proof = test_agency_proof(agency, "anna");
    SessionWish wish = {.device_id = "KEYS", .ed25519 = "one", .curve25519 = "two"};
    g_autoptr(SessionTokens) first = try_link(fixture, proof, &wish, &error);
    g_autoptr(SessionTokens) same = try_link(fixture, proof, &wish, &error);
    g_assert_no_error(error);

    wish.ed25519 = "other";
    g_autoptr(SessionTokens) changed = try_link(fixture, proof, &wish, &error);
    g_assert_null(changed);
    g_assert_true(g_error_matches(error, REFUSAL, 403));
    assert_opens(fixture, same->access_token, "@anna:alpha.example", "KEYS");

    /* What is uploaded must be what was bound; a device that bound nothing is free. */
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, NULL);
    g_assert_true(
        device_link_check_keys(connection, "@anna:alpha.example", "KEYS", "one", "two", NULL));
    g_assert_false(
        device_link_check_keys(connection, "@anna:alpha.example", "KEYS", "one", "three", NULL));
    g_assert_false(
        device_link_check_keys(connection, "@anna:alpha.example", "KEYS", NULL, "two", NULL));
    g_assert_true(device_link_check_keys(connection, "@anna:alpha.example", "ONE", "x", "y", NULL));
}

static void
assert_wish_refused(Fixture *fixture, const SessionWish *wish, gint status)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CertificateProof) proof = test_agency_proof(agency, "hans");
    g_autoptr(SessionTokens) tokens = try_link(fixture, proof, wish, &error);
    g_assert_null(tokens);
    g_assert_true(g_error_matches(error, REFUSAL, status));
}

static void
test_wishes_have_limits(Fixture *fixture, gconstpointer data)
{
    g_autofree char *id = g_strnfill(DEVICE_ID_BYTES_MAX + 1, 'D');
    g_autofree char *name = g_strnfill(DEVICE_NAME_BYTES_MAX + 1, 'n');

    assert_wish_refused(fixture, &(SessionWish){.device_id = id}, 400);
    assert_wish_refused(fixture, &(SessionWish){.device_id = ""}, 400);
    assert_wish_refused(fixture, &(SessionWish){.device_id = "a b"}, 400);
    assert_wish_refused(fixture, &(SessionWish){.device_id = "a\nb"}, 400);
    assert_wish_refused(fixture, &(SessionWish){.display_name = name}, 400);
    assert_wish_refused(fixture, &(SessionWish){.display_name = "\xff"}, 400);
    id[DEVICE_ID_BYTES_MAX] = '\0';
    g_autoptr(SessionTokens) longest = log_in(fixture, "hans", id, FALSE);
    g_assert_cmpstr(longest->device_id, ==, id);
}

static void
test_a_person_has_so_many_devices(Fixture *fixture, gconstpointer data)
{
    run("INSERT INTO device SELECT '@hans:alpha.example', 'N' || n, '', 0, 0, '', '' "
        "FROM generate_series(1, 100) AS n ON CONFLICT DO NOTHING");
    assert_wish_refused(fixture, &(SessionWish){.device_id = "TOOMANY"}, 403);
    /* Continuing one makes no more of them. */
    g_autoptr(SessionTokens) tokens = log_in(fixture, "hans", "N1", FALSE);
    run("DELETE FROM device WHERE user_id = '@hans:alpha.example' AND device_id > 'N2'");
    g_autoptr(SessionTokens) more = log_in(fixture, "hans", "TOOMANY", FALSE);
    assert_opens(fixture, more->access_token, "@hans:alpha.example", "TOOMANY");
}

static void
test_an_old_proof_makes_nothing(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CertificateProof) proof = test_agency_proof(agency, "anna");
    SessionWish wish = {.device_id = "LATE"};

    clock_shift_for_tests(CERTIFICATE_PROOF_FRESH_MS + 1000);
    g_autoptr(SessionTokens) tokens = try_link(fixture, proof, &wish, &error);
    g_assert_null(tokens);
    g_assert_true(g_error_matches(error, REFUSAL, 403));
    g_assert_cmpint(count("SELECT count(*) FROM device WHERE device_id = 'LATE'"), ==, 0);
}

static void
test_memory_is_bounded(Fixture *fixture, gconstpointer data)
{
    g_autoptr(SessionTokens) one = log_in(fixture, "anna", "M1", FALSE);
    g_autoptr(SessionTokens) two = log_in(fixture, "anna", "M2", FALSE);
    g_autoptr(SessionTokens) three = log_in(fixture, "anna", "M3", FALSE);

    for (guint i = 0; i < 3; i++) {
        assert_opens(fixture, one->access_token, "@anna:alpha.example", "M1");
        assert_opens(fixture, two->access_token, "@anna:alpha.example", "M2");
        assert_opens(fixture, three->access_token, "@anna:alpha.example", "M3");
    }
    /* A parked request of a session that memory let go is told of its end all the same. */
    g_autoptr(GError) error = NULL;
    g_autoptr(Session) parked = NULL;
    g_assert_true(sessions_authenticate(fixture->sessions, one->access_token, &parked, &error));
    assert_opens(fixture, two->access_token, "@anna:alpha.example", "M2");
    assert_opens(fixture, three->access_token, "@anna:alpha.example", "M3");
    sessions_kill_for_device(fixture->sessions, "@anna:alpha.example", "M1", SESSION_END_LOGOUT,
                             "test");
    g_assert_false(session_is_live(parked, NULL));
    settle();
}

/* ---- login tokens ---- */

static const char page[] = "https://chat.alpha.example/";

static char *
issue(Fixture *fixture, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) chain = test_agency_chain(agency, name);
    g_autoptr(CertificateProof) proof = test_agency_proof(agency, name);
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    char *token = login_token_issue(fixture->sessions, connection, proof, chain, page, &error);
    g_assert_no_error(error);
    return token;
}

static CertificateProof *
redeem(Fixture *fixture, const char *token, const char *origin, const char *expected_rule)
{
    g_autoptr(GError) error = NULL;
    const char *rule = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    CertificateProof *proof = login_token_redeem(fixture->sessions, agency->certificates,
                                                 connection, token, origin, &rule, &error);
    g_assert_cmpstr(rule, ==, expected_rule);
    if (proof == NULL)
        g_assert_true(error->domain == REFUSAL);
    return proof;
}

static void
test_a_login_token_is_good_once(Fixture *fixture, gconstpointer data)
{
    g_autofree char *token = issue(fixture, "anna");
    g_autoptr(CertificateProof) proof = redeem(fixture, token, "https://chat.alpha.example", NULL);

    g_assert_cmpstr(certificate_proof_user_id(proof), ==, "@anna:alpha.example");
    g_assert_null(redeem(fixture, token, NULL, "login-token-unknown"));
    /* Shown from another page it is burnt. */
    g_autofree char *another = issue(fixture, "anna");
    g_assert_null(redeem(fixture, another, "https://evil.example", "login-token-origin"));
    g_assert_null(redeem(fixture, another, "https://chat.alpha.example", "login-token-unknown"));
    g_assert_null(redeem(fixture, "guess", NULL, "login-token-form"));
}

static void
test_a_login_token_is_good_for_30_seconds(Fixture *fixture, gconstpointer data)
{
    g_autofree char *in_time = issue(fixture, "anna");
    g_autofree char *late = issue(fixture, "anna");

    clock_shift_for_tests(LOGIN_TOKEN_LIFE_MS - 3000);
    g_autoptr(CertificateProof) proof = redeem(fixture, in_time, NULL, NULL);
    g_assert_nonnull(proof);
    clock_shift_for_tests(LOGIN_TOKEN_LIFE_MS + 1);
    g_assert_null(redeem(fixture, late, NULL, "login-token-expired"));
}

static void
test_a_login_token_row_by_hand_opens_nothing(Fixture *fixture, gconstpointer data)
{
    g_autofree char *token = issue(fixture, "anna");
    g_autofree char *victim = issue(fixture, "ben");

    /* Ben's certificates under anna's token. */
    run("UPDATE login_token a SET chain = b.chain FROM login_token b WHERE a.token_hash <> "
        "b.token_hash");
    g_assert_null(redeem(fixture, token, NULL, "login-token-row"));
    g_assert_null(redeem(fixture, victim, NULL, "login-token-row"));
}

static void
test_a_login_token_of_a_suspended_person(Fixture *fixture, gconstpointer data)
{
    g_autofree char *token = issue(fixture, "ida");
    test_agency_suspend(agency, "ida");
    g_assert_null(redeem(fixture, token, NULL, "suspended"));
}

/* ---- interactive ---- */

static void
test_an_interactive_proof_is_for_one_request(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = log_in(fixture, "anna", "UIA", FALSE);
    g_autoptr(CertificateProof) anna = test_agency_proof(agency, "anna");
    g_autoptr(CertificateProof) ben = test_agency_proof(agency, "ben");
    g_autoptr(GBytes) request = g_bytes_new_static("request", 7);
    g_autoptr(GBytes) another = g_bytes_new_static("another", 7);
    g_autoptr(Session) session = NULL;
    g_autofree char *id = NULL;
    gboolean passed = TRUE, open = FALSE;
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    Sessions *sessions = fixture->sessions;

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
    run("UPDATE uia SET completed_ms = 1");
    g_assert_true(uia_spend(sessions, connection, session, id, request, &passed, &error) &&
                  !passed);
    run("UPDATE uia SET completed_ms = 0");

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
test_interactive_proofs_are_bounded(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SessionTokens) tokens = log_in(fixture, "anna", "MANY", FALSE);
    g_autoptr(GBytes) request = g_bytes_new_static("request", 7);
    g_autoptr(Session) session = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(agency->database->pool, &error);
    gboolean open = TRUE;
    g_autofree char *first = NULL;

    g_assert_true(sessions_authenticate(fixture->sessions, tokens->access_token, &session, &error));
    g_assert_true(uia_begin(fixture->sessions, connection, session, "x", request, &first, &error));
    for (guint i = 1; i < UIA_PER_SESSION_MAX; i++) {
        g_autofree char *id = NULL;
        clock_shift_for_tests(i);
        g_assert_true(uia_begin(fixture->sessions, connection, session, "x", request, &id, &error));
    }
    g_assert_true(
        uia_is_open(fixture->sessions, connection, session, first, request, &open, &error));
    g_assert_true(open);
    g_autofree char *last = NULL;
    clock_shift_for_tests(1000);
    g_assert_true(uia_begin(fixture->sessions, connection, session, "x", request, &last, &error));
    g_assert_true(
        uia_is_open(fixture->sessions, connection, session, first, request, &open, &error));
    g_assert_false(open);
}

#define ADD(path, function) g_test_add(path, Fixture, NULL, fixture_open, function, fixture_close)

int
main(int argc, char **argv)
{
    static const char *const people[] = {"anna", "ben", "emil", "fritz", "gerd", "hans", "ida"};

    g_test_init(&argc, &argv, NULL);
    all_sessions = g_ptr_array_new_with_free_func((GDestroyNotify)sessions_free);
    agency = test_agency_new();
    for (gsize i = 0; i < G_N_ELEMENTS(people); i++)
        test_agency_enrol_new(agency, people[i]);
    test_agency_make(agency, "person dora --days 20");
    test_agency_enrol_made(agency, "dora");

    ADD("/session/a proof becomes a session", test_a_proof_becomes_a_session);
    ADD("/session/a known token costs no query", test_a_known_token_costs_no_query);
    ADD("/session/without tokens", test_a_session_without_tokens_is_over);
    ADD("/session/bad tokens", test_bad_tokens);
    ADD("/session/rows by hand open nothing", test_rows_by_hand_open_nothing);
    ADD("/session/time ends softly", test_time_ends_softly);
    ADD("/session/the end is rung", test_the_end_is_rung);
    ADD("/session/none outlives its certificate", test_no_session_outlives_its_certificate);
    ADD("/refresh/rotates", test_refresh_rotates);
    ADD("/refresh/a lost answer is no theft", test_a_lost_answer_is_no_theft);
    ADD("/refresh/a stolen token ends the family", test_a_stolen_refresh_token_ends_the_family);
    ADD("/refresh/asks whether the binding holds", test_refresh_asks_whether_the_binding_holds);
    ADD("/refresh/ends with the session", test_refresh_ends_with_the_session);
    ADD("/end/a kill is at once", test_a_kill_is_at_once);
    ADD("/end/for a certificate", test_a_kill_for_a_certificate);
    ADD("/end/by the log", test_the_log_ends_sessions);
    ADD("/end/suspension within the bound", test_suspension_ends_everything_within_the_bound);
    ADD("/end/CRL import within the bound", test_an_imported_crl_ends_everything_within_the_bound);
    ADD("/end/an old CRL ends softly", test_an_old_crl_ends_softly);
    ADD("/device/seen", test_devices_are_seen);
    ADD("/device/goes on", test_a_device_goes_on);
    ADD("/device/bound keys never change", test_bound_keys_never_change);
    ADD("/device/wishes have limits", test_wishes_have_limits);
    ADD("/device/so many for a person", test_a_person_has_so_many_devices);
    ADD("/device/an old proof makes none", test_an_old_proof_makes_nothing);
    g_test_add("/session/memory is bounded", Fixture, GUINT_TO_POINTER(2), fixture_open,
               test_memory_is_bounded, fixture_close);
    ADD("/login token/good once", test_a_login_token_is_good_once);
    ADD("/login token/good for 30 s", test_a_login_token_is_good_for_30_seconds);
    ADD("/login token/rows by hand open nothing", test_a_login_token_row_by_hand_opens_nothing);
    ADD("/login token/of a suspended person", test_a_login_token_of_a_suspended_person);
    ADD("/interactive/bounded", test_interactive_proofs_are_bounded);
    ADD("/interactive/for one request", test_an_interactive_proof_is_for_one_request);
    int status = g_test_run();
    test_agency_free(agency);
    g_ptr_array_unref(all_sessions);
    return status;
}
