/* Tokens: only what this key made is read; one spelling each; log-in addresses match exactly. */
#include "identity/token.h"

#include <glib/gstdio.h>
#include <sodium.h>
#include <string.h>

#include "identity/challenge.h"
#include "identity/clock.h"
#include "identity/json.h"
#include "identity/login_token.h"
#include "identity/refusal.h"

static TokenKey *
fresh_key(void)
{
    RecordKey *record_key = record_key_new_for_tests();
    TokenKey *key = token_key_new(record_key);
    record_key_free(record_key);
    return key;
}

/* A key made from another record key. */
static TokenKey *
foreign_key(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *folder = g_dir_make_tmp("chancery-token-XXXXXX", &error);
    g_autofree char *path = g_build_filename(folder, "record.key", NULL);
    RecordKey *record_key = record_key_open(path, TRUE, &error);
    g_assert_no_error(error);
    TokenKey *key = token_key_new(record_key);
    record_key_free(record_key);
    g_unlink(path);
    g_rmdir(folder);
    return key;
}

static void
test_reads_what_it_made(void)
{
    g_autoptr(TokenKey) key = fresh_key();
    Token token = {.kind = TOKEN_REFRESH, .generation = 70000}, read;

    token_session_random(token.session);
    char *text = token_make(key, &token);
    g_assert_cmpuint(strlen(text), <=, TOKEN_TEXT_MAX);
    g_assert_true(token_read(key, text, &read));
    g_assert_cmpint(read.kind, ==, TOKEN_REFRESH);
    g_assert_cmpuint(read.generation, ==, 70000);
    g_assert_cmpmem(read.session, TOKEN_SESSION_BYTES, token.session, TOKEN_SESSION_BYTES);
    char *again = token_make(key, &token);
    g_assert_cmpstr(text, !=, again);
    token_text_free(text);
    token_text_free(again);
}

static void
test_refuses_all_else(void)
{
    g_autoptr(TokenKey) key = fresh_key();
    g_autoptr(TokenKey) other = foreign_key();
    Token token = {.kind = TOKEN_ACCESS, .generation = 1}, read;
    char *text = token_make(key, &token);
    gsize length = strlen(text);

    g_assert_false(token_read(other, text, &read));
    /* Every single character counts, and no other alphabet is taken. */
    for (gsize i = 0; i < length; i++) {
        char kept = text[i];
        text[i] = kept == 'A' ? 'B' : 'A';
        g_assert_false(token_read(key, text, &read));
        text[i] = '\xe9';
        g_assert_false(token_read(key, text, &read));
        text[i] = '\0';
        g_assert_false(token_read(key, text, &read));
        text[i] = kept;
    }
    /* An access token is no refresh token: its kind is under the MAC. */
    memcpy(text, "chr_", 4);
    g_assert_false(token_read(key, text, &read));
    memcpy(text, "cha_", 4);
    g_assert_true(token_read(key, text, &read));
    g_autofree char *longer = g_strconcat(text, "A", NULL);
    g_autofree char *padded = g_strconcat(text, "=", NULL);
    g_assert_false(token_read(key, longer, &read));
    g_assert_false(token_read(key, padded, &read));
    g_assert_false(token_read(key, "", &read));
    g_assert_false(token_read(key, "cha_", &read));
    token_text_free(text);
}

/* Values cannot slide from one column into the next. */
static void
test_mac_frames_values(void)
{
    g_autoptr(TokenKey) key = fresh_key();
    guint8 a[TOKEN_MAC_BYTES], b[TOKEN_MAC_BYTES];
    g_autoptr(GBytes) bytes = g_bytes_new_static("ab", 2);

    token_key_mac(key, a, "session", "tt", "ab", "c");
    token_key_mac(key, b, "session", "tt", "a", "bc");
    g_assert_cmpint(memcmp(a, b, sizeof a), !=, 0);
    token_key_mac(key, b, "token", "tt", "ab", "c");
    g_assert_cmpint(memcmp(a, b, sizeof a), !=, 0);
    token_key_mac(key, a, "session", "t", "ab");
    token_key_mac(key, b, "session", "y", bytes);
    g_assert_cmpint(memcmp(a, b, sizeof a), !=, 0);
    token_key_mac(key, a, "session", "t", "");
    token_key_mac(key, b, "session", "t", NULL);
    g_assert_cmpint(memcmp(a, b, sizeof a), !=, 0);
}

static void
test_redirects_match_exactly(void)
{
    static const char *const allowed[] = {"https://chat.alpha.example/",
                                          "https://chat.alpha.example/app?x=1",
                                          "http://127.0.0.1/landed", "http://localhost", NULL};
    static const struct {
        const char *url;
        gboolean good;
    } cases[] = {
        {"https://chat.alpha.example/", TRUE},
        {"https://chat.alpha.example", FALSE},
        {"https://chat.alpha.example/?", FALSE},
        {"https://chat.alpha.example/app?x=1", TRUE},
        {"https://chat.alpha.example/app?x=12", FALSE},
        {"https://chat.alpha.example/#/room/!a:b", TRUE},
        {"https://chat.alpha.example/\"#", FALSE},
        {"https://chat.alpha.example:443/", FALSE},
        {"https://chat.alpha.example.evil.example/", FALSE},
        {"https://chat.alpha.example@evil.example/", FALSE},
        {"HTTPS://chat.alpha.example/", FALSE},
        {"http://chat.alpha.example/", FALSE},
        {"http://127.0.0.1/landed", TRUE},
        {"http://127.0.0.1:1/landed", TRUE},
        {"http://127.0.0.1:65535/landed", TRUE},
        {"http://127.0.0.1:/landed", FALSE},
        {"http://127.0.0.1:123456/landed", FALSE},
        {"http://127.0.0.1:80x/landed", FALSE},
        {"http://127.0.0.1:80@evil.example/landed", FALSE},
        {"http://127.0.0.1.evil.example/landed", FALSE},
        {"http://127.0.0.1:80/other", FALSE},
        {"http://localhost:8080", TRUE},
        {"http://localhost:8080/", TRUE},
        {"http://localhost:8080/landed", FALSE},
        {"http://localhost\\@evil.example/", FALSE},
        {"javascript:alert(1)", FALSE},
        {"io.element.android:/", FALSE},
        {"", FALSE},
        {"https://chat.alpha.example/\r\nSet-Cookie: a=b", FALSE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%s", cases[i].url);
        g_assert_cmpint(redirect_url_is_allowed(allowed, cases[i].url), ==, cases[i].good);
    }
    g_assert_false(redirect_url_is_allowed(NULL, "https://chat.alpha.example/"));
    g_autofree char *origin = redirect_url_origin("https://chat.alpha.example:8443/app?x=1#y");
    g_assert_cmpstr(origin, ==, "https://chat.alpha.example:8443");
}

/* ---- challenges ---- */

static ChallengeContent
content_of(const char *nonce, GBytes *exporter)
{
    return (ChallengeContent){
        .nonce = nonce,
        .server_name = "alpha.example",
        .purpose = CHALLENGE_PURPOSE_LOGIN,
        .user_id = "@anna:alpha.example",
        .device_id = "ABC",
        .tls_exporter = exporter,
    };
}

static void
assert_judged(Challenges *challenges, const ChallengeContent *content, GBytes *exporter,
              const char *expected_rule)
{
    g_autoptr(GError) error = NULL;
    const char *rule = NULL;
    gboolean good = challenges_judge(challenges, content, "alpha.example", CHALLENGE_PURPOSE_LOGIN,
                                     exporter, &rule, &error);
    g_assert_cmpstr(rule, ==, expected_rule);
    g_assert_cmpint(good, ==, expected_rule == NULL);
    if (!good)
        g_assert_true(g_error_matches(error, REFUSAL, 403));
}

static void
test_a_challenge_is_good_once(void)
{
    g_autoptr(TokenKey) key = fresh_key();
    Challenges *challenges = challenges_new(key);
    g_autoptr(GBytes) exporter = g_bytes_new_static("0123456789abcdef0123456789abcdef", 32);
    g_autofree char *nonce = challenges_issue(challenges, CHALLENGE_PURPOSE_LOGIN);
    ChallengeContent content = content_of(nonce, exporter);

    assert_judged(challenges, &content, exporter, NULL);
    assert_judged(challenges, &content, exporter, "challenge-unknown");
    challenges_free(challenges);
}

/* Relayed: signed by the victim on another connection than the one it is presented on. */
static void
test_a_relayed_challenge_is_refused_and_burnt(void)
{
    g_autoptr(TokenKey) key = fresh_key();
    Challenges *challenges = challenges_new(key);
    g_autoptr(GBytes) signed_on = g_bytes_new_static("0123456789abcdef0123456789abcdef", 32);
    g_autoptr(GBytes) came_on = g_bytes_new_static("0123456789abcdef0123456789abcdeF", 32);
    g_autofree char *nonce = challenges_issue(challenges, CHALLENGE_PURPOSE_LOGIN);
    ChallengeContent content = content_of(nonce, signed_on);

    assert_judged(challenges, &content, came_on, "challenge-connection");
    assert_judged(challenges, &content, signed_on, "challenge-unknown");
    g_autofree char *another = challenges_issue(challenges, CHALLENGE_PURPOSE_LOGIN);
    content = content_of(another, signed_on);
    assert_judged(challenges, &content, NULL, "challenge-connection");
    challenges_free(challenges);
}

static void
test_a_challenge_is_for_one_server_purpose_and_minute(void)
{
    g_autoptr(TokenKey) key = fresh_key();
    Challenges *challenges = challenges_new(key);
    g_autoptr(GBytes) exporter = g_bytes_new_static("0123456789abcdef0123456789abcdef", 32);
    g_autofree char *one = challenges_issue(challenges, CHALLENGE_PURPOSE_LOGIN);
    ChallengeContent content = content_of(one, exporter);
    content.server_name = "beta.example";
    assert_judged(challenges, &content, exporter, "challenge-server");

    g_autofree char *two = challenges_issue(challenges, CHALLENGE_PURPOSE_LOGIN);
    content = content_of(two, exporter);
    content.purpose = CHALLENGE_PURPOSE_UIA;
    assert_judged(challenges, &content, exporter, "challenge-purpose");

    g_autofree char *three = challenges_issue(challenges, CHALLENGE_PURPOSE_UIA);
    content = content_of(three, exporter);
    assert_judged(challenges, &content, exporter, "challenge-unknown");

    g_autofree char *four = challenges_issue(challenges, CHALLENGE_PURPOSE_LOGIN);
    g_autofree char *five = challenges_issue(challenges, CHALLENGE_PURPOSE_LOGIN);
    clock_shift_for_tests(CHALLENGE_LIFE_MS - 1000);
    content = content_of(four, exporter);
    assert_judged(challenges, &content, exporter, NULL);
    clock_shift_for_tests(CHALLENGE_LIFE_MS + 1000);
    content = content_of(five, exporter);
    assert_judged(challenges, &content, exporter, "challenge-unknown");
    clock_shift_for_tests(0);

    Challenges *other = challenges_new(key);
    g_autofree char *foreign = challenges_issue(other, CHALLENGE_PURPOSE_LOGIN);
    content = content_of(foreign, exporter);
    assert_judged(challenges, &content, exporter, "challenge-unknown");
    content.nonce = "";
    assert_judged(challenges, &content, exporter, "challenge-unknown");
    challenges_free(other);
    challenges_free(challenges);
}

/* Burnt nonces are kept until they expire, so many and no more; issuing costs nothing. */
static void
test_burnt_nonces_are_bounded(void)
{
    g_autoptr(TokenKey) key = fresh_key();
    g_autoptr(GError) error = NULL;
    Challenges *challenges = challenges_new(key);
    g_autofree char *waiting = challenges_issue(challenges, CHALLENGE_PURPOSE_LOGIN);

    for (guint i = 0; i < CHALLENGE_BURNT_MAX; i++) {
        g_autofree char *nonce = challenges_issue(challenges, CHALLENGE_PURPOSE_LOGIN);
        g_assert_true(challenges_burn(challenges, nonce, CHALLENGE_PURPOSE_LOGIN, NULL));
    }
    g_assert_false(challenges_burn(challenges, waiting, CHALLENGE_PURPOSE_LOGIN, &error));
    g_assert_true(g_error_matches(error, REFUSAL, 503));
    clock_shift_for_tests(CHALLENGE_LIFE_MS + 2000);
    g_autofree char *later = challenges_issue(challenges, CHALLENGE_PURPOSE_LOGIN);
    g_assert_true(challenges_burn(challenges, later, CHALLENGE_PURPOSE_LOGIN, NULL));
    clock_shift_for_tests(0);
    challenges_free(challenges);
}

static void
test_what_is_signed_is_read_strictly(void)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"nonce\":\"a\"}",
        /* twice the same member; a number for text; an exporter of 31 bytes */
        "{\"nonce\":\"a\",\"nonce\":\"b\",\"purpose\":\"login\",\"server_name\":\"s\",\"tls_"
        "exporter\":"
        "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\",\"user_id\":\"u\"}",
        "{\"nonce\":1,\"purpose\":\"login\",\"server_name\":\"s\",\"tls_exporter\":"
        "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\",\"user_id\":\"u\"}",
        "{\"nonce\":\"a\",\"purpose\":\"login\",\"server_name\":\"s\",\"tls_exporter\":"
        "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZQ\",\"user_id\":\"u\"}",
    };
    g_autoptr(GBytes) exporter = g_bytes_new_static("0123456789abcdef0123456789abcdef", 32);
    ChallengeContent content = content_of("a", exporter), read;
    g_autoptr(GBytes) bytes = challenge_content(&content);
    g_autoptr(cJSON) json = NULL;

    g_assert_true(challenge_content_read(bytes, &json, &read, NULL));
    g_assert_cmpstr(read.user_id, ==, "@anna:alpha.example");
    g_assert_null(read.ed25519);
    g_assert_true(g_bytes_equal(read.tls_exporter, exporter));
    challenge_content_clear(&read);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) text = g_bytes_new_static(bad[i], strlen(bad[i]));
        cJSON *none = NULL;
        g_assert_false(challenge_content_read(text, &none, &read, &error));
        g_assert_true(g_error_matches(error, REFUSAL, 400));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/token/reads what it made", test_reads_what_it_made);
    g_test_add_func("/token/refuses all else", test_refuses_all_else);
    g_test_add_func("/token/mac frames values", test_mac_frames_values);
    g_test_add_func("/redirect/matches exactly", test_redirects_match_exactly);
    g_test_add_func("/challenge/good once", test_a_challenge_is_good_once);
    g_test_add_func("/challenge/relayed", test_a_relayed_challenge_is_refused_and_burnt);
    g_test_add_func("/challenge/one server, purpose, minute",
                    test_a_challenge_is_for_one_server_purpose_and_minute);
    g_test_add_func("/challenge/burnt ones are bounded", test_burnt_nonces_are_bounded);
    g_test_add_func("/challenge/read strictly", test_what_is_signed_is_read_strictly);
    return g_test_run();
}
