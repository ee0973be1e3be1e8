/* Who is no partner: certificates, signatures, lists and directions; each try has its answer and
 * leaves nothing behind. */
#include "tests/support/partner_scene.h"

#include "identity/clock.h"
#include "identity/refusal.h"

#define PROFILE "/_matrix/federation/v1/query/profile?user_id=@anna:alpha.example"
#define SEND "/_matrix/federation/v1/send/x"
#define NOTHING "{\"origin\":\"beta.example\",\"origin_server_ts\":1,\"pdus\":[]}"

static void
test_every_way_in_for_a_stranger(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha, *beta = scene->beta, *gamma = scene->gamma;
    const struct {
        RawRequest raw;
        guint get, put;
    } tries[] = {
        {{.as = beta}, 200, 200}, /* the honest one */
        {{.as = beta, .no_certificate = TRUE}, 403, 403},
        {{.as = gamma}, 403, 403},
        {{.as = gamma, .no_certificate = TRUE}, 403, 403},
        /* beta's name and even its signing key, over another TLS key */
        {{.as = gamma, .signs = beta, .origin = "beta.example"}, 403, 403},
        /* beta's TLS key, another's name, or signing key, or key under beta's key id */
        {{.as = beta, .signs = gamma, .origin = "gamma.example"}, 403, 403},
        {{.as = beta, .signs = gamma, .origin = "beta.example"}, 401, 401},
        {{.as = beta, .signs = gamma, .origin = "beta.example", .key_id = "ed25519:beta"},
         401,
         401},
        {{.as = beta, .origin = "alpha.example"}, 403, 403},
        {{.as = beta, .destination = "gamma.example"}, 401, 401},
        {{.as = beta, .destination = "beta.example"}, 401, 401},
        {{.as = beta, .signed_target = "/_matrix/federation/v1/version"}, 401, 401},
        {{.as = beta, .signed_content = "{\"other\":1}"}, 401, 401},
        {{.as = beta, .authorization = ""}, 401, 401},
        {{.as = beta, .authorization = "Bearer abc"}, 401, 401},
        {{.as = beta, .authorization = "X-Matrix origin=beta.example"}, 401, 401},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(tries); i++) {
        house_assert_status(alpha, &tries[i].raw, "GET", PROFILE, NULL, tries[i].get);
        house_assert_status(alpha, &tries[i].raw, "PUT", SEND, NOTHING, tries[i].put);
    }
    const RawRequest unsigned_one = {.as = beta, .authorization = ""};
    house_assert_status(alpha, &unsigned_one, "GET", "/_matrix/key/v2/server", NULL, 200);
    house_assert_status(alpha, &unsigned_one, "GET", "/_matrix/federation/v1/nonsense", NULL, 404);
    const RawRequest stranger = {.as = gamma, .authorization = ""};
    house_assert_status(alpha, &stranger, "GET", "/_matrix/key/v2/server", NULL, 403);
    house_assert_status(alpha, &stranger, "GET", "/_matrix/federation/v1/nonsense", NULL, 403);
    g_assert_cmpint(
        test_database_count(alpha->database, "SELECT count(*) FROM inbound_transaction"), ==, 1);
}

/* The partners' own watch may meet a list written by hand before we are done with it, and says so.
 */
static gboolean
is_fatal_beside_a_bad_list(const char *domain, GLogLevelFlags level, const char *message,
                           gpointer data)
{
    return !g_str_has_prefix(message, "the allow-list cannot be reloaded: ");
}

static void
test_lists_that_are_not_taken(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha;
    g_autoptr(GError) error = NULL;

    /* signed by somebody who is no federation officer */
    g_assert_false(house_import(alpha, 2, cJSON_CreateArray(), "another", &error));
    g_assert_error(error, REFUSAL, 403);
    g_clear_error(&error);

    /* changed after it was signed */
    cJSON *entries = cJSON_CreateArray();
    cJSON_AddItemToArray(entries, house_entry(scene->beta));
    g_autoptr(GBytes) file = house_sign_list(alpha, 2, entries, "officer", &error);
    g_assert_no_error(error);
    g_autoptr(GString) text =
        g_string_new_len(g_bytes_get_data(file, NULL), (gssize)g_bytes_get_size(file));
    g_string_replace(text, "beta.example", "gamma.example", 1);
    g_autoptr(GBytes) changed = g_bytes_new(text->str, text->len);
    g_assert_false(partners_import(alpha->server.partners, changed, &error));
    g_assert_error(error, REFUSAL, 403);
    g_clear_error(&error);

    g_assert_true(partners_import(alpha->server.partners, file, &error));
    g_assert_cmpint(partners_serial(alpha->server.partners), ==, 2);
    g_assert_true(partners_import(alpha->server.partners, file, &error)); /* again: nothing new */
    /* an older one, though well signed */
    g_assert_false(house_import(alpha, 1, cJSON_CreateArray(), "officer", &error));
    g_assert_error(error, REFUSAL, 409);
    g_clear_error(&error);

    /* a row written by hand, without a signature by an officer, is never in force */
    g_test_log_set_fatal_handler(is_fatal_beside_a_bad_list, NULL);
    g_free(test_database_query(
        alpha->database,
        "INSERT INTO partner_list SELECT 3, list_id, replace(convert_from(content, 'UTF8'), "
        "'\"serial\":2', '\"serial\":3')::bytea, signature, imported_ms FROM partner_list "
        "WHERE serial = 2"));
    g_assert_false(partners_reload(alpha->server.partners, &error));
    g_assert_error(error, REFUSAL, 403);
    g_assert_cmpint(partners_serial(alpha->server.partners), ==, 2);
}

static gboolean
import_changed_entry(PartnerScene *scene, gint64 serial, const char *key, cJSON *value)
{
    g_autoptr(GError) error = NULL;
    cJSON *entries = cJSON_CreateArray();
    cJSON *entry = house_entry(scene->beta);
    cJSON_ReplaceItemInObjectCaseSensitive(entry, key, value);
    cJSON_AddItemToArray(entries, entry);
    gboolean good = house_import(scene->alpha, serial, entries, "officer", &error);
    g_assert_no_error(error);
    return good;
}

static void
test_direction_window_and_expiry(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha, *beta = scene->beta;
    const RawRequest raw = {.as = beta};
    g_autoptr(GError) error = NULL;

    g_assert_true(import_changed_entry(scene, 2, "direction", cJSON_CreateString("out")));
    house_assert_status(alpha, &raw, "GET", PROFILE, NULL, 403);
    house_request(alpha, beta, "GET", "/_matrix/federation/v1/version", NULL, NULL, &error);
    g_assert_no_error(error);

    g_assert_true(import_changed_entry(scene, 3, "direction", cJSON_CreateString("in")));
    house_assert_status(alpha, &raw, "GET", PROFILE, NULL, 200);
    g_assert_false(
        house_request(alpha, beta, "GET", "/_matrix/federation/v1/version", NULL, NULL, &error));
    g_assert_error(error, REFUSAL, 403);
    g_clear_error(&error);

    double now = (double)clock_wall_ms();
    g_assert_true(import_changed_entry(scene, 4, "not_before", cJSON_CreateNumber(now + 1e6)));
    house_assert_status(alpha, &raw, "GET", PROFILE, NULL, 403);
    clock_shift_for_tests(1000 * 1000 +
                          1000); /* asked at each request, not when the list was read */
    house_assert_status(alpha, &raw, "GET", PROFILE, NULL, 200);
    clock_shift_for_tests((gint64)31 * 24 * 3600 * 1000); /* the list itself ends */
    house_assert_status(alpha, &raw, "GET", PROFILE, NULL, 403);
    g_assert_false(
        house_request(alpha, beta, "GET", "/_matrix/federation/v1/version", NULL, NULL, &error));
    g_assert_error(error, REFUSAL, 403);
}

static void
test_an_unlisted_name_makes_no_connection(PartnerScene *scene, gconstpointer data)
{
    House *alpha = scene->alpha;
    g_autoptr(GError) error = NULL;
    g_autofree char *room_id = house_make_room(alpha, ANNA, "invite");
    guint64 before = partner_client_connections(alpha->server.partner_client);
    g_autofree char *literal = g_strdup(scene->gamma->address); /* "127.0.0.1:port" as a name */
    g_autofree char *invitee = g_strdup_printf("@spy:%s", literal);
    const char *const names[] = {"gamma.example", "localhost", literal, "[::1]:8448",
                                 "alpha.example"};

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_assert_false(house_join(alpha, "!somewhere:gamma.example", ANNA, names[i], &error));
        g_assert_true(g_error_matches(error, REFUSAL, 403) || g_error_matches(error, REFUSAL, 404));
        g_clear_error(&error);
    }
    g_assert_false(house_invite(alpha, room_id, ANNA, GUSTAV, &error));
    g_assert_error(error, REFUSAL, 403);
    g_clear_error(&error);
    g_assert_false(house_invite(alpha, room_id, ANNA, invitee, &error));
    g_assert_error(error, REFUSAL, 403);
    g_clear_error(&error);
    g_assert_false(house_request(alpha, scene->gamma, "GET", "/_matrix/federation/v1/version", NULL,
                                 NULL, &error));
    g_assert_error(error, REFUSAL, 403);
    g_assert_cmpuint(partner_client_connections(alpha->server.partner_client), ==, before);
    g_assert_cmpint(test_database_count(alpha->database,
                                        "SELECT count(*) FROM event WHERE type = 'm.room.member'"),
                    ==, 1);
}

static void
test_a_wrong_tls_key_gets_no_request(PartnerScene *scene, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(cJSON) gamma = house_entry(scene->gamma);
    /* a connection by the right key is open when the list changes: it must not be used again */
    house_request(scene->alpha, scene->beta, "GET", "/_matrix/federation/v1/version", NULL, NULL,
                  &error);
    g_assert_no_error(error);
    g_assert_true(import_changed_entry(scene, 2, "tls_pins",
                                       cJSON_Duplicate(json_get_array(gamma, "tls_pins"), TRUE)));
    FrontEndCounts counts;
    g_assert_false(house_request(scene->alpha, scene->beta, "GET", "/_matrix/federation/v1/version",
                                 NULL, NULL, &error));
    g_assert_error(error, PARTNER_CLIENT_ERROR, PARTNER_CLIENT_ERROR_UNREACHABLE);
    front_end_counts(scene->beta->front, &counts);
    g_assert_cmpuint(counts.requests, ==, 0);
}

int
main(int argc, char **argv)
{
    static const PartnerTest tests[] = {
        {"/intruder/every-way-in", test_every_way_in_for_a_stranger},
        {"/intruder/lists", test_lists_that_are_not_taken},
        {"/intruder/direction-and-window", test_direction_window_and_expiry},
        {"/intruder/no-connection", test_an_unlisted_name_makes_no_connection},
        {"/intruder/wrong-tls-key", test_a_wrong_tls_key_gets_no_request},
        {NULL},
    };
    return partner_scene_run_tests(argc, argv, partner_scene_set_up_with_stranger, tests);
}
