/* X-Matrix: what is signed is what is checked, and every crooked header is refused. */
#include "federation/x_matrix.h"

#include <string.h>

#include "federation/room/server_acl.h"
#include "identity/refusal.h"

#define TARGET "/_matrix/federation/v1/send/a%2Fb?x=%20"

typedef struct {
    ServerKey *key;
    GBytes *content;
    cJSON *json;
} Fixture;

static void
set_up(Fixture *fixture, gconstpointer data)
{
    static const char body[] = "{\"a\":\"\\u00e9\",\"b\":[1,2]}";
    guint8 seed[32];
    memset(seed, 7, sizeof seed);
    fixture->key = server_key_new_for_tests("k1", seed);
    fixture->json = json_parse(body, strlen(body), &json_limits_request, NULL);
    fixture->content = json_canonical(fixture->json, NULL);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    server_key_free(fixture->key);
    g_bytes_unref(fixture->content);
    cJSON_Delete(fixture->json);
}

static XMatrix *
parsed(const char *value)
{
    g_autoptr(GError) error = NULL;
    XMatrix *header = x_matrix_parse(value, &error);
    g_assert_no_error(error);
    return header;
}

static gboolean
verifies(Fixture *fixture, const XMatrix *header, const char *method, const char *target,
         const cJSON *content)
{
    g_autoptr(GError) error = NULL;
    gboolean good =
        x_matrix_verify(header, server_key_public(fixture->key), method, target, content, &error);
    if (!good)
        g_assert_error(error, REFUSAL, 401);
    return good;
}

static void
test_a_signed_request_verifies(Fixture *fixture, gconstpointer data)
{
    g_autofree char *value = x_matrix_sign(fixture->key, "alpha.example", "beta.example:8448",
                                           "PUT", TARGET, fixture->content);
    g_autoptr(XMatrix) header = parsed(value);
    g_assert_cmpstr(header->origin, ==, "alpha.example");
    g_assert_cmpstr(header->destination, ==, "beta.example:8448");
    g_assert_cmpstr(header->key_id, ==, "ed25519:k1");
    g_assert_true(verifies(fixture, header, "PUT", TARGET, fixture->json));

    g_assert_false(verifies(fixture, header, "POST", TARGET, fixture->json));
    g_assert_false(verifies(fixture, header, "PUT", TARGET "1", fixture->json));
    g_assert_false(
        verifies(fixture, header, "PUT", "/_matrix/federation/v1/send/a/b?x=%20", fixture->json));
    g_assert_false(verifies(fixture, header, "PUT", TARGET, NULL));
    cJSON_AddItemToObject(fixture->json, "c", cJSON_CreateNull());
    g_assert_false(verifies(fixture, header, "PUT", TARGET, fixture->json));

    /* for another server, or from another one */
    g_free(header->destination);
    header->destination = g_strdup("gamma.example");
    g_assert_false(verifies(fixture, header, "PUT", TARGET, fixture->json));
}

static void
test_a_request_without_body_has_no_content(Fixture *fixture, gconstpointer data)
{
    g_autofree char *value =
        x_matrix_sign(fixture->key, "alpha.example", "beta.example", "GET", "/x", NULL);
    g_autoptr(XMatrix) header = parsed(value);
    g_autoptr(cJSON) empty = cJSON_CreateObject();
    g_assert_true(verifies(fixture, header, "GET", "/x", NULL));
    g_assert_false(verifies(fixture, header, "GET", "/x", empty));
}

static void
test_forms_that_the_specification_allows(void)
{
    static const char *const good[] = {
        "X-Matrix origin=a.example,destination=b.example,key=\"ed25519:1\",sig=\"c2ln\"",
        "x-matrix   origin=\"a.example\" , destination=\"b.example\",\tkey=\"ed25519:1\",sig=c2ln",
        "X-Matrix sig=\"c2ln\",key=ed25519:1,destination=b.example,origin=a.example",
        "X-Matrix ORIGIN=a.example,Destination=b.example,KEY=ed25519:1,sig=c2ln,future=\"x\"",
        "X-Matrix origin=\"a\\.example\",destination=b.example,key=ed25519:1,sig=c2ln",
    };
    /* The example of the specification's "Request Authentication". */
    g_autoptr(XMatrix) example = parsed(
        "X-Matrix origin=\"origin.hs.example.com\",destination=\"destination.hs.example.com\","
        "key=\"ed25519:key1\",sig=\"ABCDEF...\"");
    g_assert_cmpstr(example->origin, ==, "origin.hs.example.com");
    g_assert_cmpstr(example->destination, ==, "destination.hs.example.com");
    g_assert_cmpstr(example->key_id, ==, "ed25519:key1");
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(XMatrix) header = parsed(good[i]);
        g_assert_cmpstr(header->origin, ==, "a.example");
        g_assert_cmpstr(header->destination, ==, "b.example");
        g_assert_cmpstr(header->key_id, ==, "ed25519:1");
        g_assert_cmpstr(header->signature, ==, "c2ln");
    }
}

static void
test_crooked_headers_are_refused(void)
{
    static const char *const bad[] = {
        "",
        "X-Matrix",
        "X-Matrix ",
        "Bearer abc",
        "X-MatrixY origin=a.example,destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=a.example,destination=b.example,key=ed25519:1",
        "X-Matrix origin=a.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=a.example,destination=b.example,sig=c2ln",
        "X-Matrix destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=a.example,origin=c.example,destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=a.example,Origin=a.example,destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=a.example destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=a.example,,destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=a.example,destination=b.example,key=ed25519:1,sig=c2ln,",
        "X-Matrix origin=\"a.example,destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=\"a.example\\",
        "X-Matrix origin=\"a.example\"x,destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=,destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix =a.example,destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=\"a example\",destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=\"../a\",destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=\"a.example\xC3\xA9\",destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=\"a.example\n\",destination=b.example,key=ed25519:1,sig=c2ln",
        "X-Matrix origin=a.example,destination=b.example,key=rsa:1,sig=c2ln",
    };
    g_autoptr(GError) error = NULL;
    g_assert_null(x_matrix_parse(NULL, &error));
    g_assert_error(error, REFUSAL, 401);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) refusal = NULL;
        g_autoptr(XMatrix) header = x_matrix_parse(bad[i], &refusal);
        if (header != NULL)
            g_error("accepted: %s", bad[i]);
        g_assert_error(refusal, REFUSAL, 401);
    }
    g_autofree char *longest = g_strnfill(X_MATRIX_BYTES_MAX, 'a');
    g_autofree char *long_header = g_strconcat(
        "X-Matrix origin=a.example,destination=b.example,key=ed25519:1,sig=c2ln,x=", longest, NULL);
    g_clear_error(&error);
    g_assert_null(x_matrix_parse(long_header, &error));
    g_assert_error(error, REFUSAL, 401);
}

static gboolean
acl_allows(const char *content, const char *server_name)
{
    g_autoptr(cJSON) json = json_parse(content, strlen(content), &json_limits_event, NULL);
    g_assert_nonnull(json);
    return server_acl_allows(json, server_name);
}

static void
test_server_acls(void)
{
    g_assert_true(server_acl_allows(NULL, "a.example"));
    g_assert_false(acl_allows("{}", "a.example")); /* nobody is allowed */
    g_assert_true(acl_allows("{\"allow\":[\"*\"]}", "a.example:8448"));
    g_assert_false(acl_allows("{\"allow\":[\"*\"],\"deny\":[\"EVIL.example\"]}", "evil.EXAMPLE:1"));
    g_assert_false(
        acl_allows("{\"allow\":[\"*\"],\"deny\":[\"*.evil.example\"]}", "a.evil.example"));
    g_assert_true(acl_allows("{\"allow\":[\"*\"],\"deny\":[\"*.evil.example\"]}", "evil.example"));
    g_assert_true(acl_allows("{\"allow\":[\"?.example\"]}", "a.example"));
    g_assert_false(acl_allows("{\"allow\":[\"?.example\"]}", "ab.example"));
    g_assert_false(acl_allows("{\"allow\":[\"*\"],\"allow_ip_literals\":false}", "192.0.2.1:8448"));
    g_assert_false(acl_allows("{\"allow\":[\"*\"],\"allow_ip_literals\":false}", "[2001:db8::1]"));
    g_assert_true(acl_allows("{\"allow\":[\"*\"],\"allow_ip_literals\":\"no\"}", "192.0.2.1"));
    g_assert_false(acl_allows("{\"allow\":\"*\"}", "a.example"));
    g_assert_false(acl_allows("{\"allow\":[1,null,{}]}", "a.example"));

    /* many stars on a long name end at once */
    g_autoptr(GString) stars = g_string_new("{\"allow\":[\"");
    for (guint i = 0; i < 120; i++)
        g_string_append(stars, "*a");
    g_string_append(stars, "*b\"]}");
    g_autofree char *name = g_strnfill(255, 'a');
    g_assert_false(acl_allows(stars->str, name));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/x-matrix/signed", Fixture, NULL, set_up, test_a_signed_request_verifies,
               tear_down);
    g_test_add("/x-matrix/no-body", Fixture, NULL, set_up,
               test_a_request_without_body_has_no_content, tear_down);
    g_test_add_func("/x-matrix/forms", test_forms_that_the_specification_allows);
    g_test_add_func("/x-matrix/crooked", test_crooked_headers_are_refused);
    g_test_add_func("/server-acl/table", test_server_acls);
    return g_test_run();
}
