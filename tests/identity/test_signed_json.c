/* Every vector of the specification's appendices for canonical JSON and signing, and the key file.
 */
#include "identity/server_key.h"

#include <glib/gstdio.h>
#include <string.h>

#include "identity/unpadded_base64.h"

#define SEED "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"

static const JsonLimits limits = {64 * 1024, 20, 1000, FALSE};
static const JsonLimits limits_with_floats = {64 * 1024, 20, 1000, TRUE};

static const struct {
    const char *given;
    const char *canonical;
} canonical_vectors[] = {
    {"{}", "{}"},
    {"{\"one\": 1, \"two\": \"Two\"}", "{\"one\":1,\"two\":\"Two\"}"},
    {"{\"b\": \"2\", \"a\": \"1\"}", "{\"a\":\"1\",\"b\":\"2\"}"},
    {"{\"b\":\"2\",\"a\":\"1\"}", "{\"a\":\"1\",\"b\":\"2\"}"},
    {"{\"auth\": {\"success\": true, \"mxid\": \"@john.doe:example.com\", \"profile\": {"
     "\"display_name\": \"John Doe\", \"three_pids\": [{\"medium\": \"email\", \"address\": "
     "\"john.doe@example.org\"}, {\"medium\": \"msisdn\", \"address\": \"123456789\"}]}}}",
     "{\"auth\":{\"mxid\":\"@john.doe:example.com\",\"profile\":{\"display_name\":\"John Doe\","
     "\"three_pids\":[{\"address\":\"john.doe@example.org\",\"medium\":\"email\"},{\"address\":"
     "\"123456789\",\"medium\":\"msisdn\"}]},\"success\":true}}"},
    {"{\"a\": \"\u65e5\u672c\u8a9e\"}", "{\"a\":\"\u65e5\u672c\u8a9e\"}"},
    {"{\"\u672c\": 2, \"\u65e5\": 1}", "{\"\u65e5\":1,\"\u672c\":2}"},
    {"{\"a\": \"\\u65E5\"}", "{\"a\":\"\u65e5\"}"},
    {"{\"a\": null}", "{\"a\":null}"},
    {"{\"a\": -0, \"b\": 1e10}", "{\"a\":0,\"b\":10000000000}"},
};

/* "JSON Signing"; "Event Signing" is in tests/room/test_pdu.c, by the rules of events. */
static const struct {
    const char *given;
    const char *signature;
} signing_vectors[] = {
    {"{}",
     "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"},
    {"{\"one\": 1, \"two\": \"Two\"}",
     "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw"},
};

static cJSON *
parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    cJSON *tree = json_parse(text, strlen(text), &limits, &error);
    g_assert_no_error(error);
    return tree;
}

static ServerKey *
vector_key(void)
{
    guint8 seed[PUBLIC_KEY_BYTES];
    g_assert_true(unpadded_base64_decode_exact(SEED, BASE64_STANDARD, seed, sizeof seed));
    return server_key_new_for_tests("1", seed);
}

static void
test_canonical_vectors(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(canonical_vectors); i++) {
        g_autoptr(GError) error = NULL;
        const char *given = canonical_vectors[i].given;
        g_autoptr(cJSON) tree = json_parse(given, strlen(given), &limits_with_floats, &error);
        g_assert_no_error(error);
        g_autoptr(GBytes) bytes = json_canonical(tree, &error);
        g_assert_no_error(error);
        g_assert_cmpmem(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes),
                        canonical_vectors[i].canonical, strlen(canonical_vectors[i].canonical));
    }
    g_test_message("figure: %u canonical JSON vectors of the appendices",
                   (guint)G_N_ELEMENTS(canonical_vectors));
}

static void
test_signing_vectors(void)
{
    g_autoptr(ServerKey) key = vector_key();
    for (gsize i = 0; i < G_N_ELEMENTS(signing_vectors); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(cJSON) object = parse(signing_vectors[i].given);
        g_assert_true(server_key_sign_json(key, "domain", object, &error));
        g_assert_no_error(error);
        g_assert_cmpstr(signed_json_signature(object, "domain", "ed25519:1"), ==,
                        signing_vectors[i].signature);
        g_assert_true(
            signed_json_verify(object, "domain", "ed25519:1", server_key_public(key), &error));
    }
    g_test_message("figure: %u JSON signing vectors of the appendices",
                   (guint)G_N_ELEMENTS(signing_vectors));
}

static void
assert_not_verified(const cJSON *object, const char *entity, const char *key_id,
                    const guint8 *public_key)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(signed_json_verify(object, entity, key_id, public_key, &error));
    g_assert_error(error, JSON_ERROR, JSON_ERROR_SHAPE);
}

static void
test_what_does_not_verify(void)
{
    g_autoptr(ServerKey) key = vector_key();
    g_autoptr(cJSON) object = parse("{\"a\":1}");
    g_assert_true(server_key_sign_json(key, "domain", object, NULL));
    const guint8 *public_key = server_key_public(key);

    assert_not_verified(object, "other", "ed25519:1", public_key);
    assert_not_verified(object, "domain", "ed25519:2", public_key);
    guint8 another[PUBLIC_KEY_BYTES];
    memcpy(another, public_key, sizeof another);
    another[0] ^= 1;
    assert_not_verified(object, "domain", "ed25519:1", another);
    memset(another, 0, sizeof another); /* a point of small order */
    assert_not_verified(object, "domain", "ed25519:1", another);

    /* unsigned may change, anything else may not */
    cJSON_AddItemToObject(object, "unsigned", parse("{\"age\":5}"));
    g_assert_true(signed_json_verify(object, "domain", "ed25519:1", public_key, NULL));
    cJSON_AddItemToObject(object, "b", cJSON_CreateNumber(2));
    assert_not_verified(object, "domain", "ed25519:1", public_key);

    static const char *const shapes[] = {
        "{}",
        "{\"signatures\":[]}",
        "{\"signatures\":{\"domain\":\"x\"}}",
        "{\"signatures\":{\"domain\":{\"ed25519:1\":7}}}",
        "{\"signatures\":{\"domain\":{\"ed25519:1\":\"\"}}}",
        "{\"signatures\":{\"domain\":{\"ed25519:1\":\"not base64!\"}}}",
        "{\"signatures\":{\"domain\":{\"ed25519:1\":\"Zm9v\"}}}",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(shapes); i++) {
        g_autoptr(cJSON) bad = parse(shapes[i]);
        assert_not_verified(bad, "domain", "ed25519:1", public_key);
    }
    g_autoptr(cJSON) odd = parse("{\"signatures\":[]}");
    g_autoptr(GError) error = NULL;
    g_assert_false(server_key_sign_json(key, "domain", odd, &error));
    g_assert_error(error, JSON_ERROR, JSON_ERROR_SHAPE);
}

typedef struct {
    char *folder;
    char *path;
} KeyFile;

static void
key_file_set_up(KeyFile *file, gconstpointer data)
{
    file->folder = g_dir_make_tmp("chancery-key-XXXXXX", NULL);
    file->path = g_build_filename(file->folder, "signing.key", NULL);
}

static void
key_file_tear_down(KeyFile *file, gconstpointer data)
{
    g_remove(file->path);
    g_rmdir(file->folder);
    g_free(file->path);
    g_free(file->folder);
}

static void
test_a_key_is_made_once_and_found_again(KeyFile *file, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    GStatBuf status;
    g_assert_null(server_key_load(file->path, &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT);
    g_clear_error(&error);
    g_autoptr(ServerKey) made = server_key_load_or_create(file->path, &error);
    g_assert_no_error(error);
    g_autoptr(ServerKey) again = server_key_load_or_create(file->path, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(server_key_id(made), ==, server_key_id(again));
    g_assert_cmpmem(server_key_public(made), PUBLIC_KEY_BYTES, server_key_public(again),
                    PUBLIC_KEY_BYTES);
    g_assert_cmpint(g_stat(file->path, &status), ==, 0);
    g_assert_cmpint(status.st_mode & 0777, ==, 0600);

    g_autoptr(GBytes) bytes = server_key_document(made, "alpha.example", 4102444800000, &error);
    g_assert_no_error(error);
    g_autoptr(cJSON) document =
        json_parse(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), &limits, &error);
    g_assert_no_error(error);
    g_assert_true(signed_json_verify(document, "alpha.example", server_key_id(made),
                                     server_key_public(made), &error));
    g_assert_cmpstr(
        json_get_string(
            json_get_object(json_get_object(document, "verify_keys"), server_key_id(made)), "key"),
        ==, server_key_public_base64(made));

    g_assert_cmpint(g_chmod(file->path, 0644), ==, 0);
    g_assert_null(server_key_load_or_create(file->path, &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_PERM);
}

static void
test_bad_key_files_are_refused(KeyFile *file, gconstpointer data)
{
    static const char *const bad[] = {
        "",
        "ed25519 1",
        "ed25519 1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n", /* all zero */
        "ed25519 1 AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\n", /* one byte repeated */
        "ed25519 1 " SEED "\n",                                    /* published */
        "rsa 1 c2VlZHNlZWRzZWVkc2VlZHNlZWRzZWVkc2VlZHNlZWQ\n",
        "ed25519 a:b c2VlZHNlZWRzZWVkc2VlZHNlZWRzZWVkc2VlZHNlZWQ\n",
        "ed25519 1 c2VlZHNlZWRzZWVkc2VlZHNlZWRzZWVkc2VlZHNlZQ\n", /* 31 bytes */
        "ed25519 1 c2VlZHNlZWRzZWVkc2VlZHNlZWRzZWVkc2VlZHNlZWQ more\n",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(
            g_file_set_contents_full(file->path, bad[i], -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
        g_assert_null(server_key_load_or_create(file->path, &error));
        g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/canonical/vectors", test_canonical_vectors);
    g_test_add_func("/signing/vectors", test_signing_vectors);
    g_test_add_func("/signing/refused", test_what_does_not_verify);
    g_test_add("/server-key/file", KeyFile, NULL, key_file_set_up,
               test_a_key_is_made_once_and_found_again, key_file_tear_down);
    g_test_add("/server-key/bad-files", KeyFile, NULL, key_file_set_up,
               test_bad_key_files_are_refused, key_file_tear_down);
    return g_test_run();
}
