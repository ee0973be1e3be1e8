/* The allow-list's form: one good list, and every way to spoil it. */
#include "federation/allow_list.h"

#include <string.h>

#include "identity/refusal.h"

#define KEY "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
#define ENTRY                                                                                      \
    "{\"server_name\":\"beta.example\",\"not_before\":1,\"not_after\":2,\"direction\":\"both\","   \
    "\"address\":\"192.0.2.7:8448\",\"tls_pins\":[\"" KEY "\"],\"signing_keys\":{\"ed25519:1\":"   \
    "{\"key\":\"" KEY "\",\"valid_until_ts\":5}}}"
#define LIST(entries)                                                                              \
    "{\"list_id\":\"fed\",\"serial\":7,\"issued\":1,\"expires\":9,\"entries\":[" entries           \
    "],\"revoked\":[\"gamma.example\"]}"

static AllowList *
read_list(const char *text, GError **error)
{
    g_autoptr(cJSON) json = json_parse(text, strlen(text), &json_limits_request, error);
    return json != NULL ? allow_list_from_json(json, error) : NULL;
}

static void
test_a_good_list(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(AllowList) list = read_list(LIST(ENTRY), &error);
    g_assert_no_error(error);
    g_assert_cmpint(list->serial, ==, 7);
    g_assert_cmpuint(list->entries->len, ==, 1);
    const AllowListEntry *entry = list->entries->pdata[0];
    g_assert_cmpstr(entry->server_name, ==, "beta.example");
    g_assert_cmpstr(entry->host, ==, "192.0.2.7");
    g_assert_cmpuint(entry->port, ==, 8448);
    g_assert_true(entry->inbound && entry->outbound);
    g_assert_cmpuint(entry->pin_count, ==, 1);
    g_assert_cmpuint(entry->pins[0][31], ==, 31);
    g_assert_cmpstr(entry->keys[0].key_id, ==, "ed25519:1");
    g_assert_cmpstr(list->revoked[0], ==, "gamma.example");
}

static const struct {
    const char *from, *to; /* one change to the good list */
} spoilt[] = {
    {"\"serial\":7", "\"serial\":0"},
    {"\"serial\":7", "\"serial\":\"7\""},
    {"\"serial\":7,", ""},
    {"\"list_id\":\"fed\"", "\"list_id\":\"\""},
    {"\"expires\":9", "\"expires\":1"},
    {"\"issued\":1", "\"issued\":null"},
    {"\"revoked\":[\"gamma.example\"]", "\"revoked\":{}"},
    {"\"revoked\":[\"gamma.example\"]", "\"revoked\":[7]"},
    {"\"revoked\"", "\"Revoked\""},
    {"\"list_id\"", "\"more\":1,\"list_id\""},
    {"\"server_name\":\"beta.example\"", "\"server_name\":\"beta example\""},
    {"\"server_name\":\"beta.example\"", "\"server_name\":\"\""},
    {"\"server_name\":\"beta.example\",", ""},
    {"\"not_after\":2", "\"not_after\":1"},
    {"\"not_before\":1", "\"not_before\":-1"},
    {"\"direction\":\"both\"", "\"direction\":\"all\""},
    {"\"direction\":\"both\",", ""},
    {"\"direction\"", "\"label_max\":3,\"direction\""},
    {"192.0.2.7:8448", "beta.example:8448"}, /* a name would have to be looked up */
    {"192.0.2.7:8448", "192.0.2.7"},
    {"192.0.2.7:8448", "192.0.2.7:0"},
    {"192.0.2.7:8448", "192.0.2.7:65536"},
    {"192.0.2.7:8448", "192.0.2.256:8448"},
    {"192.0.2.7:8448", "2001:db8::7:8448"},
    {"192.0.2.7:8448", "[2001:db8::7]8448"},
    {"192.0.2.7:8448", "[]:8448"},
    {"\"tls_pins\":[\"" KEY "\"]", "\"tls_pins\":[]"},
    {"\"tls_pins\":[\"" KEY "\"]", "\"tls_pins\":[\"AAEC\"]"},
    {"\"tls_pins\":[\"" KEY "\"],", ""},
    {"\"ed25519:1\"", "\"rsa:1\""},
    {"\"ed25519:1\"", "\"ed25519:\""},
    {"\"key\":\"" KEY "\"", "\"key\":\"AAEC\""},
    {"\"valid_until_ts\":5", "\"valid_until_ts\":0"},
    {"\"valid_until_ts\":5", "\"valid_until_ts\":5,\"use\":\"sig\""},
    {"{\"ed25519:1\":{\"key\":\"" KEY "\",\"valid_until_ts\":5}}", "{}"},
};

static void
test_spoilt_lists_are_refused(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(spoilt); i++) {
        g_autoptr(GString) text = g_string_new(LIST(ENTRY));
        g_autoptr(GError) error = NULL;
        g_assert_cmpuint(g_string_replace(text, spoilt[i].from, spoilt[i].to, 1), ==, 1);
        g_autoptr(AllowList) list = read_list(text->str, &error);
        if (list != NULL)
            g_error("accepted: %s", spoilt[i].to);
        g_assert_error(error, REFUSAL, 400);
    }
    g_autoptr(GError) error = NULL;
    g_assert_null(read_list(LIST(ENTRY "," ENTRY), &error)); /* one name twice */
    g_assert_error(error, REFUSAL, 400);
}

static void
test_an_ipv6_address(void)
{
    g_autoptr(GString) text = g_string_new(LIST(ENTRY));
    g_autoptr(GError) error = NULL;
    g_string_replace(text, "192.0.2.7:8448", "[2001:db8::7]:443", 1);
    g_autoptr(AllowList) list = read_list(text->str, &error);
    g_assert_no_error(error);
    const AllowListEntry *entry = list->entries->pdata[0];
    g_assert_cmpstr(entry->host, ==, "2001:db8::7");
    g_assert_cmpuint(entry->port, ==, 443);
}

/* A list of @entries entries, each with @pins pins and @keys keys. */
static char *
sized_list(guint entries, guint pins, guint keys)
{
    GString *text =
        g_string_new("{\"list_id\":\"f\",\"serial\":1,\"issued\":1,\"expires\":9,\"entries\":[");
    for (guint i = 0; i < entries; i++) {
        g_string_append_printf(text,
                               "%s{\"server_name\":\"s%u\",\"not_before\":1,\"not_after\":2,"
                               "\"direction\":\"in\",\"address\":\"192.0.2.7:1\",\"tls_pins\":[",
                               i > 0 ? "," : "", i);
        for (guint p = 0; p < pins; p++)
            g_string_append_printf(text, "%s\"" KEY "\"", p > 0 ? "," : "");
        g_string_append(text, "],\"signing_keys\":{");
        for (guint k = 0; k < keys; k++)
            g_string_append_printf(text,
                                   "%s\"ed25519:%u\":{\"key\":\"" KEY "\",\"valid_until_ts\":1}",
                                   k > 0 ? "," : "", k);
        g_string_append(text, "}}");
    }
    g_string_append(text, "],\"revoked\":[]}");
    return g_string_free(text, FALSE);
}

static gboolean
sized_passes(guint entries, guint pins, guint keys)
{
    static const JsonLimits limits = {64 * 1024 * 1024, 12, 1024 * 1024, FALSE};
    g_autofree char *text = sized_list(entries, pins, keys);
    g_autoptr(cJSON) json = json_parse(text, strlen(text), &limits, NULL);
    g_autoptr(AllowList) list = json != NULL ? allow_list_from_json(json, NULL) : NULL;
    return list != NULL;
}

static void
test_limits_hold_at_n_and_not_beyond(void)
{
    g_assert_true(sized_passes(ALLOW_LIST_ENTRIES_MAX, 1, 1));
    g_assert_false(sized_passes(ALLOW_LIST_ENTRIES_MAX + 1, 1, 1));
    g_assert_true(sized_passes(1, ALLOW_LIST_PINS_MAX, ALLOW_LIST_KEYS_MAX));
    g_assert_false(sized_passes(1, ALLOW_LIST_PINS_MAX + 1, 1));
    g_assert_false(sized_passes(1, 1, ALLOW_LIST_KEYS_MAX + 1));
}

static AllowList *
read_file(const char *text, GBytes **ret_content, GBytes **ret_signature, GError **error)
{
    g_autoptr(GBytes) file = g_bytes_new(text, strlen(text));
    return allow_list_read(file, ret_content, ret_signature, error);
}

static void
test_the_file_around_a_list(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) content = NULL;
    g_autoptr(GBytes) signature = NULL;
    g_autoptr(AllowList) list = read_file("{\"list\": " LIST(ENTRY) ", \"signature\": \"Zm9v\"}",
                                          &content, &signature, &error);
    g_assert_no_error(error);
    g_assert_nonnull(list);
    g_assert_cmpmem(g_bytes_get_data(signature, NULL), g_bytes_get_size(signature), "foo", 3);
    g_autoptr(GBytes) file = allow_list_write(content, signature, &error);
    g_autoptr(GBytes) content_again = NULL;
    g_autoptr(GBytes) signature_again = NULL;
    g_autoptr(AllowList) again = allow_list_read(file, &content_again, &signature_again, &error);
    g_assert_no_error(error);
    g_assert_nonnull(again);
    g_assert_true(g_bytes_equal(content, content_again));

    static const char *const bad[] = {
        "",
        "[]",
        "{\"list\":" LIST(ENTRY) "}",
        "{\"signature\":\"Zm9v\"}",
        "{\"list\":" LIST(ENTRY) ",\"signature\":\"?\"}",
        "{\"list\":" LIST(ENTRY) ",\"signature\":\"Zm9v\",\"more\":1}",
        "{\"list\":{\"a\":1,\"\\u0061\":2},\"signature\":\"Zm9v\"}",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GBytes) c = NULL;
        g_autoptr(GBytes) s = NULL;
        g_autoptr(GError) refusal = NULL;
        g_assert_null(read_file(bad[i], &c, &s, &refusal));
        g_assert_nonnull(refusal);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/allow-list/good", test_a_good_list);
    g_test_add_func("/allow-list/spoilt", test_spoilt_lists_are_refused);
    g_test_add_func("/allow-list/ipv6", test_an_ipv6_address);
    g_test_add_func("/allow-list/limits", test_limits_hold_at_n_and_not_beyond);
    g_test_add_func("/allow-list/file", test_the_file_around_a_list);
    return g_test_run();
}
