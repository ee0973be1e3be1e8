/* The JSON gate: what passes, what does not, and each limit at n and n + 1. */
#include "identity/json.h"

#include <string.h>

#include "identity/seeded_hash.h"
#include "identity/unpadded_base64.h"

static const JsonLimits small = {200, 3, 8, FALSE};
static const JsonLimits roomy = {64 * 1024, 100, 4096, FALSE};
static const JsonLimits lenient = {64 * 1024, 100, 4096, TRUE};

typedef struct {
    const char *name;
    const char *text;
    gssize length; /* -1: up to the terminator */
    int code;
} BadCase;

static const BadCase bad_cases[] = {
    {"nothing", "", -1, JSON_ERROR_SYNTAX},
    {"blanks", " \n", -1, JSON_ERROR_SYNTAX},
    {"truncated object", "{\"a\":1", -1, JSON_ERROR_SYNTAX},
    {"truncated string", "\"abc", -1, JSON_ERROR_SYNTAX},
    {"truncated literal", "tru", -1, JSON_ERROR_SYNTAX},
    {"trailing value", "{} {}", -1, JSON_ERROR_SYNTAX},
    {"trailing bracket", "[]]", -1, JSON_ERROR_SYNTAX},
    {"trailing NUL", "{}\0", 3, JSON_ERROR_SYNTAX},
    {"trailing comma in array", "[1,]", -1, JSON_ERROR_SYNTAX},
    {"trailing comma in object", "{\"a\":1,}", -1, JSON_ERROR_SYNTAX},
    {"leading comma", "[,1]", -1, JSON_ERROR_SYNTAX},
    {"missing colon", "{\"a\" 1}", -1, JSON_ERROR_SYNTAX},
    {"missing value", "{\"a\":}", -1, JSON_ERROR_SYNTAX},
    {"bare key", "{a:1}", -1, JSON_ERROR_SYNTAX},
    {"number as key", "{1:1}", -1, JSON_ERROR_SYNTAX},
    {"wrong closing", "[1}", -1, JSON_ERROR_SYNTAX},
    {"wrong closing of an object", "{]", -1, JSON_ERROR_SYNTAX},
    {"single quotes", "{'a':1}", -1, JSON_ERROR_SYNTAX},
    {"comment", "{} // no", -1, JSON_ERROR_SYNTAX},
    {"byte order mark", "\xEF\xBB\xBF{}", -1, JSON_ERROR_SYNTAX},
    {"form feed as blank", "\f{}", -1, JSON_ERROR_SYNTAX},
    {"NaN", "NaN", -1, JSON_ERROR_SYNTAX},
    {"Infinity", "[Infinity]", -1, JSON_ERROR_SYNTAX},
    {"-Infinity", "[-Infinity]", -1, JSON_ERROR_SYNTAX},
    {"hex number", "0x10", -1, JSON_ERROR_SYNTAX},
    {"leading zero", "01", -1, JSON_ERROR_SYNTAX},
    {"leading plus", "+1", -1, JSON_ERROR_SYNTAX},
    {"minus alone", "-", -1, JSON_ERROR_SYNTAX},
    {"dot alone", "1.", -1, JSON_ERROR_SYNTAX},
    {"exponent alone", "1e", -1, JSON_ERROR_SYNTAX},
    {"fraction", "1.5", -1, JSON_ERROR_NUMBER},
    {"whole fraction", "1.0", -1, JSON_ERROR_NUMBER},
    {"exponent", "1e3", -1, JSON_ERROR_NUMBER},
    {"capital exponent", "1E3", -1, JSON_ERROR_NUMBER},
    {"negative zero", "-0", -1, JSON_ERROR_NUMBER},
    {"2^53", "9007199254740992", -1, JSON_ERROR_NUMBER},
    {"2^53+1", "9007199254740993", -1, JSON_ERROR_NUMBER},
    {"-2^53", "-9007199254740992", -1, JSON_ERROR_NUMBER},
    {"2^63", "9223372036854775808", -1, JSON_ERROR_NUMBER},
    {"2^64+1", "18446744073709551617", -1, JSON_ERROR_NUMBER},
    {"seventy digits", "1111111111111111111111111111111111111111111111111111111111111111111111", -1,
     JSON_ERROR_NUMBER},
    {"raw NUL in a string", "\"a\0b\"", 5, JSON_ERROR_SYNTAX},
    {"escaped NUL", "\"a\\u0000b\"", -1, JSON_ERROR_SYNTAX},
    {"escaped NUL in a key", "{\"a\\u0000b\":1}", -1, JSON_ERROR_SYNTAX},
    {"raw line feed in a string", "\"a\nb\"", -1, JSON_ERROR_SYNTAX},
    {"raw tab in a string", "\"a\tb\"", -1, JSON_ERROR_SYNTAX},
    {"unknown escape", "\"\\x41\"", -1, JSON_ERROR_SYNTAX},
    {"short \\u", "\"\\u12\"", -1, JSON_ERROR_SYNTAX},
    {"bad hex", "\"\\u12G4\"", -1, JSON_ERROR_SYNTAX},
    {"backslash at the end", "\"\\", -1, JSON_ERROR_SYNTAX},
    {"lone high surrogate", "\"\\uD800\"", -1, JSON_ERROR_SYNTAX},
    {"lone low surrogate", "\"\\uDC00\"", -1, JSON_ERROR_SYNTAX},
    {"two high surrogates", "\"\\uD800\\uD800\"", -1, JSON_ERROR_SYNTAX},
    {"high surrogate, then a letter", "\"\\uD800\\u0041\"", -1, JSON_ERROR_SYNTAX},
    {"raw surrogate", "\"\xED\xA0\x80\"", -1, JSON_ERROR_SYNTAX},
    {"stray continuation byte", "\"\x80\"", -1, JSON_ERROR_SYNTAX},
    {"truncated sequence", "\"\xE6\x97\"", -1, JSON_ERROR_SYNTAX},
    {"overlong two", "\"\xC0\xAF\"", -1, JSON_ERROR_SYNTAX},
    {"overlong NUL", "\"\xC0\x80\"", -1, JSON_ERROR_SYNTAX},
    {"overlong three", "\"\xE0\x80\xAF\"", -1, JSON_ERROR_SYNTAX},
    {"overlong four", "\"\xF0\x80\x80\xAF\"", -1, JSON_ERROR_SYNTAX},
    {"beyond U+10FFFF", "\"\xF4\x90\x80\x80\"", -1, JSON_ERROR_SYNTAX},
    {"five-byte sequence", "\"\xF8\x88\x80\x80\x80\"", -1, JSON_ERROR_SYNTAX},
    {"Latin-1", "\"caf\xE9\"", -1, JSON_ERROR_SYNTAX},
    {"bad UTF-8 in a key", "{\"\xFF\":1}", -1, JSON_ERROR_SYNTAX},
    {"a key twice", "{\"a\":1,\"a\":2}", -1, JSON_ERROR_DUPLICATE},
    {"a key twice by escape", "{\"a\":1,\"\\u0061\":2}", -1, JSON_ERROR_DUPLICATE},
    {"a key twice by surrogates", "{\"\xF0\x9F\x98\x80\":1,\"\\uD83D\\uDE00\":2}", -1,
     JSON_ERROR_DUPLICATE},
    {"a slash twice by escape", "{\"a/b\":1,\"a\\/b\":2}", -1, JSON_ERROR_DUPLICATE},
    {"the empty key twice", "{\"\":1,\"\":2}", -1, JSON_ERROR_DUPLICATE},
    {"a key twice deep inside", "[{\"x\":[{\"a\":1,\"b\":2,\"a\":3}]}]", -1, JSON_ERROR_DUPLICATE},
};

static void
test_bad_input_is_refused(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_cases); i++) {
        const BadCase *bad = &bad_cases[i];
        g_autoptr(GError) error = NULL;
        gsize length = bad->length < 0 ? strlen(bad->text) : (gsize)bad->length;
        /* an exact copy, so that reading one byte too many is seen by AddressSanitizer */
        g_autofree char *copy = g_memdup2(bad->text, length);
        g_autoptr(cJSON) tree = json_parse(copy, length, &roomy, &error);
        if (tree != NULL || !g_error_matches(error, JSON_ERROR, bad->code))
            g_error("%s: %s", bad->name, error != NULL ? error->message : "accepted");
        g_assert_null(tree);
    }
}

static void
test_every_truncation_is_refused(void)
{
    static const char whole[] =
        "{\"a\":[1,-2,true,false,null,{\"\\u00e9\":\"\xC3\xA9\\n\xF0\x9F\x98\x80\"}],\"b\":{}}";
    g_autoptr(cJSON) tree = json_parse(whole, strlen(whole), &roomy, NULL);
    g_assert_nonnull(tree);
    for (gsize length = 0; length < strlen(whole); length++) {
        g_autofree char *copy = g_memdup2(whole, length);
        g_autoptr(GError) error = NULL;
        g_assert_null(json_parse(copy, length, &roomy, &error));
        g_assert_error(error, JSON_ERROR, JSON_ERROR_SYNTAX);
    }
}

static gboolean
passes(const char *text, const JsonLimits *limits)
{
    g_autoptr(cJSON) tree = json_parse(text, strlen(text), limits, NULL);
    return tree != NULL;
}

static void
assert_refused(const char *text, const JsonLimits *limits, int code)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(json_parse(text, strlen(text), limits, &error));
    g_assert_error(error, JSON_ERROR, code);
}

static void
test_limits_hold_at_n_and_not_beyond(void)
{
    g_assert_true(passes("[[[]]]", &small));
    assert_refused("[[[[]]]]", &small, JSON_ERROR_LIMIT);
    g_assert_true(passes("[1,2,3,4,5,6,7]", &small));
    assert_refused("[1,2,3,4,5,6,7,8]", &small, JSON_ERROR_LIMIT);
    g_assert_true(passes("{\"a\":1,\"b\":2,\"c\":[]}", &small));
    assert_refused("{\"a\":1,\"b\":2,\"c\":[],\"d\":2}", &small, JSON_ERROR_LIMIT);

    g_autofree char *fits = g_strnfill(200, 'x');
    fits[0] = fits[199] = '"';
    g_assert_true(passes(fits, &small));
    g_autofree char *over = g_strnfill(201, 'x');
    over[0] = over[200] = '"';
    assert_refused(over, &small, JSON_ERROR_TOO_LARGE);

    g_assert_true(passes("9007199254740991", &roomy));
    g_assert_true(passes("-9007199254740991", &roomy));
}

static void
test_a_million_brackets_end_early(void)
{
    g_autofree char *deep = g_strnfill(1000 * 1000, '[');
    assert_refused(deep, &json_limits_request, JSON_ERROR_LIMIT);
}

static void
test_many_keys_are_compared_in_linear_time(void)
{
    g_autoptr(GString) text = g_string_new("{");
    for (guint i = 0; i < 90000; i++)
        g_string_append_printf(text, "\"k%u\":0,", i);
    g_string_append(text, "\"last\":0}");
    g_assert_true(passes(text->str, &json_limits_request));
    g_string_truncate(text, text->len - 1);
    g_string_append(text, ",\"k\\u0030\":0}"); /* k0 again */
    assert_refused(text->str, &json_limits_request, JSON_ERROR_DUPLICATE);
}

static void
test_floats_pass_only_where_asked(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(cJSON) tree = json_parse("{\"order\":0.25}", 14, &lenient, &error);
    g_assert_no_error(error);
    g_autoptr(GString) out = g_string_new(NULL);
    g_assert_true(json_plain_append(out, tree, &error));
    g_assert_cmpstr(out->str, ==, "{\"order\":0.25}");
    g_assert_false(json_canonical_append(out, tree, &error));
    g_assert_error(error, JSON_ERROR, JSON_ERROR_NUMBER);
    g_assert_cmpstr(out->str, ==, "{\"order\":0.25}"); /* as it was */
    assert_refused("1e400", &lenient, JSON_ERROR_NUMBER);
    assert_refused("9007199254740993", &lenient, JSON_ERROR_NUMBER);
    g_assert_true(passes("-0", &lenient));
}

static void
test_escapes_are_the_shortest(void)
{
    g_autoptr(GString) out = g_string_new(NULL);
    json_append_string(out, "\b\t\n\f\r\"\\/\x01\x1f\x7f \xC3\xA9\xE2\x80\xA8");
    g_assert_cmpstr(out->str, ==,
                    "\"\\b\\t\\n\\f\\r\\\"\\\\/\\u0001\\u001f\x7f \xC3\xA9\xE2\x80\xA8\"");
}

static void
test_keys_sort_by_code_point_not_by_utf16(void)
{
    /* U+FF01 comes before U+1F600, though its UTF-16 unit is above the surrogates */
    static const char text[] =
        "{\"\xF0\x9F\x98\x80\":1,\"\xEF\xBC\x81\":2,\"a\":3,\"\":4,\"aa\":5}";
    g_autoptr(cJSON) tree = json_parse(text, strlen(text), &roomy, NULL);
    g_autoptr(GBytes) bytes = json_canonical(tree, NULL);
    static const char sorted[] =
        "{\"\":4,\"a\":3,\"aa\":5,\"\xEF\xBC\x81\":2,\"\xF0\x9F\x98\x80\":1}";
    g_assert_cmpmem(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), sorted, strlen(sorted));
}

static void
test_look_ups_want_the_type_and_the_case(void)
{
    static const char text[] = "{\"a\":\"x\",\"n\":7,\"o\":{},\"l\":[],\"t\":true,\"f\":1.5}";
    g_autoptr(cJSON) tree = json_parse(text, strlen(text), &lenient, NULL);
    g_autoptr(GError) error = NULL;
    gint64 number = 0;
    g_assert_cmpstr(json_get_string(tree, "a"), ==, "x");
    g_assert_null(json_get_string(tree, "A"));
    g_assert_null(json_get_string(tree, "n"));
    g_assert_null(json_get_object(tree, "l"));
    g_assert_nonnull(json_get_array(tree, "l"));
    g_assert_true(json_get_boolean(tree, "t", FALSE));
    g_assert_true(json_get_boolean(tree, "a", TRUE));
    g_assert_true(json_get_integer(tree, "n", &number));
    g_assert_cmpint(number, ==, 7);
    g_assert_false(json_get_integer(tree, "f", &number));
    g_assert_null(json_get_string(NULL, "a"));
    g_assert_null(json_require_object(tree, "missing", &error));
    g_assert_error(error, JSON_ERROR, JSON_ERROR_SHAPE);
}

static void
test_base64_is_strict(void)
{
    static const char *const vectors[][2] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"},
    };
    static const char *const bad[] = {"Z",    "Zm9v=", "Zg=",  "Zg===", "Z g",
                                      "Zg\n", "Zm-v",  "Zm_v", "====",  "Zm9vYmF\xC3"};
    for (gsize i = 0; i < G_N_ELEMENTS(vectors); i++) {
        gsize length = strlen(vectors[i][0]);
        g_autofree char *text = unpadded_base64_encode(vectors[i][0], length, BASE64_STANDARD);
        g_assert_cmpstr(text, ==, vectors[i][1]);
        char again[UNPADDED_BASE64_SIZE(6)];
        unpadded_base64_encode_to(again, (const guint8 *)vectors[i][0], length, BASE64_STANDARD);
        g_assert_cmpstr(again, ==, text);
        g_autoptr(GBytes) back = unpadded_base64_decode(text, BASE64_STANDARD);
        g_assert_cmpmem(g_bytes_get_data(back, NULL), g_bytes_get_size(back), vectors[i][0],
                        length);
    }
    g_test_message("figure: %u unpadded base64 vectors of the appendices",
                   (guint)G_N_ELEMENTS(vectors));
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        if (unpadded_base64_decode(bad[i], BASE64_STANDARD) != NULL)
            g_error("accepted: %s", bad[i]);
    g_autoptr(GBytes) padded = unpadded_base64_decode("Zg==", BASE64_STANDARD);
    g_assert_nonnull(padded);
    g_autoptr(GBytes) url = unpadded_base64_decode("-_8", BASE64_URL_SAFE);
    g_assert_nonnull(url);
    for (guint i = 0; i < 1000; i++) {
        guint8 bytes[32];
        char quick[UNPADDED_BASE64_SIZE(sizeof bytes)];
        for (guint j = 0; j < sizeof bytes; j++)
            bytes[j] = (guint8)g_test_rand_int();
        g_autofree char *slow = unpadded_base64_encode(bytes, i % 33, BASE64_URL_SAFE);
        unpadded_base64_encode_to(quick, bytes, i % 33, BASE64_URL_SAFE);
        g_assert_cmpstr(quick, ==, slow);
    }
    guint8 four[4] = {0};
    g_assert_true(unpadded_base64_decode_exact("Zm9vYg", BASE64_STANDARD, four, 4));
    g_assert_cmpmem(four, 4, "foob", 4);
    g_assert_false(unpadded_base64_decode_exact("Zm9v", BASE64_STANDARD, four, 4));
    g_assert_false(unpadded_base64_decode_exact("Zm9vYmE", BASE64_STANDARD, four, 4));
}

static void
test_the_seeded_hash_agrees_with_itself(void)
{
    g_autofree char *copy = g_strdup("@alice:alpha.example");
    g_assert_cmpuint(seeded_str_hash(copy), ==, seeded_str_hash("@alice:alpha.example"));
}

/* Numbers that canonical JSON does not have, for events of old room versions: kept to the letter.
 */
static void
test_raw_numbers(void)
{
    static const JsonLimits raw = {1000, 10, 100, FALSE, TRUE};
    static const JsonLimits strict = {1000, 10, 100, FALSE, FALSE};
    static const char text[] =
        "{\"a\":[1,2.50,{\"b\":-0,\"c\":\"1.5\"},3],\"d\":1E5,\"e\":12345678901234567890,\"f\":7}";
    static const char *const bad[] = {"[1e400]", "[01]", "[.5]", "[+1]", "[NaN]", "[1.]", "[-]"};
    GError *error = NULL;
    gint64 number = 0;
    g_autoptr(cJSON) tree = json_parse(text, strlen(text), &raw, &error);
    g_assert_no_error(error);
    g_autoptr(GBytes) again = json_canonical(tree, &error);
    g_assert_no_error(error);
    g_assert_cmpmem(g_bytes_get_data(again, NULL), g_bytes_get_size(again), text, strlen(text));

    g_assert_cmpstr(json_number_text(json_object_get(tree, "d")), ==, "1E5");
    g_assert_cmpstr(json_number_text(json_object_get(tree, "e")), ==, "12345678901234567890");
    g_assert_null(json_number_text(json_object_get(tree, "f")));
    g_assert_null(json_number_text(json_object_get(tree, "absent")));
    g_assert_false(json_get_integer(tree, "d", &number));
    g_assert_true(json_get_integer(tree, "f", &number));
    g_assert_cmpint(number, ==, 7);
    g_autoptr(cJSON) copy = cJSON_Duplicate(tree, TRUE);
    g_assert_cmpstr(json_number_text(json_object_get(copy, "d")), ==, "1E5");

    g_assert_null(json_parse(text, strlen(text), &strict, &error));
    g_assert_error(error, JSON_ERROR, JSON_ERROR_NUMBER);
    g_clear_error(&error);
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_null(json_parse(bad[i], strlen(bad[i]), &raw, NULL));
    for (guint length = 63; length <= 64; length++) {
        g_autofree char *digits = g_strnfill(length, '9');
        g_autoptr(cJSON) large = json_parse(digits, length, &raw, NULL);
        g_assert_cmpstr(json_number_text(large), ==, length == 63 ? digits : NULL);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/json/bad-input", test_bad_input_is_refused);
    g_test_add_func("/json/truncation", test_every_truncation_is_refused);
    g_test_add_func("/json/limits", test_limits_hold_at_n_and_not_beyond);
    g_test_add_func("/json/brackets", test_a_million_brackets_end_early);
    g_test_add_func("/json/many-keys", test_many_keys_are_compared_in_linear_time);
    g_test_add_func("/json/floats", test_floats_pass_only_where_asked);
    g_test_add_func("/json/escapes", test_escapes_are_the_shortest);
    g_test_add_func("/json/key-order", test_keys_sort_by_code_point_not_by_utf16);
    g_test_add_func("/json/look-ups", test_look_ups_want_the_type_and_the_case);
    g_test_add_func("/base64/strict", test_base64_is_strict);
    g_test_add_func("/seeded-hash/same", test_the_seeded_hash_agrees_with_itself);
    g_test_add_func("/json/raw-numbers", test_raw_numbers);
    return g_test_run();
}
