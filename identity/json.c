#include "identity/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "identity/seeded_hash.h"

G_DEFINE_QUARK(chancery - json - error, json_error)

#define DEPTH_CEILING 256    /* no limit may ask for more; cJSON's own recursion stops at 1000 */
#define NUMBER_LENGTH_MAX 63 /* what cJSON reads of one number */
#define CANONICAL_BYTES_FIRST 1024 /* most events fit: nothing is moved while they grow */
#define KEYS_COMPARED_IN_PAIRS 12  /* in a larger object a hash table looks for doubles */

/* An event keeps a little room, so that what is accepted alone also passes inside a transaction. */
const JsonLimits json_limits_event = {64 * 1024, 100, 32 * 1024, FALSE};
const JsonLimits json_limits_request = {1024 * 1024, 100, 256 * 1024, TRUE};
const JsonLimits json_limits_content = {1024 * 1024, 100, 256 * 1024, FALSE};
const JsonLimits json_limits_keys = {4 * 1024 * 1024, 100, 512 * 1024, FALSE};
const JsonLimits json_limits_event_lax = {64 * 1024, 100, 32 * 1024, FALSE, TRUE};
const JsonLimits json_limits_member = {1024 * 1024, 108, 256 * 1024, FALSE, TRUE};
const JsonLimits json_limits_transaction = {16 * 1024 * 1024, 108, 2 * 1024 * 1024, FALSE, TRUE};
const JsonLimits json_limits_response = {64 * 1024 * 1024, 108, 8 * 1024 * 1024, FALSE, TRUE};

/* ---- the strict reader: one pass, no recursion, nothing kept but the open brackets ---- */

typedef enum {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* after '[' */
    EXPECT_KEY,
    EXPECT_KEY_OR_END, /* after '{' */
    EXPECT_COLON,
    EXPECT_COMMA_OR_END,
} Expect;

/* A number without canonical form: which of the text's numbers it is, and where. */
typedef struct {
    guint ordinal;
    gsize at;
    gsize length;
} RawNumber;

typedef struct {
    const guint8 *bytes;
    gsize length;
    gsize at;
    const JsonLimits *limits;
    guint values;
    guint depth;
    char open[DEPTH_CEILING]; /* '{' or '[' */
    guint numbers;
    GArray *raw_numbers; /* RawNumber; NULL: not kept */
    GError **error;
} Scan;

static gboolean
scan_fail(Scan *scan, JsonError code, const char *offence)
{
    g_set_error(scan->error, JSON_ERROR, code, "%s at byte %" G_GSIZE_FORMAT, offence, scan->at);
    return FALSE;
}

static gboolean
scan_count_value(Scan *scan)
{
    if (++scan->values > scan->limits->values_max)
        return scan_fail(scan, JSON_ERROR_LIMIT, "too many values");
    return TRUE;
}

static gboolean
scan_hex4(const Scan *scan, gsize at, guint *ret_unit)
{
    guint unit = 0;
    if (scan->length - at < 4)
        return FALSE;
    for (gsize i = at; i < at + 4; i++) {
        int digit = g_ascii_xdigit_value((char)scan->bytes[i]);
        if (digit < 0)
            return FALSE;
        unit = unit << 4 | (guint)digit;
    }
    *ret_unit = unit;
    return TRUE;
}

/* At a backslash. */
static gboolean
scan_escape(Scan *scan)
{
    guint unit = 0, low = 0;
    if (scan->length - scan->at < 2)
        return scan_fail(scan, JSON_ERROR_SYNTAX, "the text ends inside an escape");
    guint8 kind = scan->bytes[scan->at + 1];
    if (kind != 'u') {
        if (kind == 0 || strchr("\"\\/bfnrt", kind) == NULL)
            return scan_fail(scan, JSON_ERROR_SYNTAX, "an unknown escape");
        scan->at += 2;
        return TRUE;
    }
    if (!scan_hex4(scan, scan->at + 2, &unit))
        return scan_fail(scan, JSON_ERROR_SYNTAX, "a \\u escape without four hex digits");
    if (unit == 0)
        return scan_fail(scan, JSON_ERROR_SYNTAX, "U+0000 in a string");
    if (unit >= 0xDC00 && unit <= 0xDFFF)
        return scan_fail(scan, JSON_ERROR_SYNTAX, "a lone surrogate");
    if (unit >= 0xD800 && unit <= 0xDBFF) {
        gsize next = scan->at + 6;
        if (scan->length - next < 6 || scan->bytes[next] != '\\' || scan->bytes[next + 1] != 'u' ||
            !scan_hex4(scan, next + 2, &low) || low < 0xDC00 || low > 0xDFFF)
            return scan_fail(scan, JSON_ERROR_SYNTAX, "a lone surrogate");
        scan->at += 6;
    }
    scan->at += 6;
    return TRUE;
}

/* Length of the UTF-8 sequence at @p (RFC 3629: no overlong form, no surrogate, at most U+10FFFF);
 * 0 if none. */
static gsize
utf8_sequence(const guint8 *p, gsize left)
{
    guint8 first = p[0], low = 0x80, high = 0xBF;
    gsize length;
    if (first >= 0xC2 && first <= 0xDF)
        length = 2;
    else if (first >= 0xE0 && first <= 0xEF)
        length = 3;
    else if (first >= 0xF0 && first <= 0xF4)
        length = 4;
    else
        return 0;
    if (left < length)
        return 0;
    if (first == 0xE0)
        low = 0xA0;
    else if (first == 0xED)
        high = 0x9F;
    else if (first == 0xF0)
        low = 0x90;
    else if (first == 0xF4)
        high = 0x8F;
    if (p[1] < low || p[1] > high)
        return 0;
    for (gsize i = 2; i < length; i++)
        if (p[i] < 0x80 || p[i] > 0xBF)
            return 0;
    return length;
}

/* At an opening quote. */
static gboolean
scan_string(Scan *scan)
{
    scan->at++;
    while (scan->at < scan->length) {
        guint8 byte = scan->bytes[scan->at];
        if (byte == '"') {
            scan->at++;
            return TRUE;
        }
        if (byte == '\\') {
            if (!scan_escape(scan))
                return FALSE;
        } else if (byte < 0x20) {
            return scan_fail(scan, JSON_ERROR_SYNTAX, "a control character in a string");
        } else if (byte < 0x80) {
            scan->at++;
        } else {
            gsize sequence = utf8_sequence(scan->bytes + scan->at, scan->length - scan->at);
            if (sequence == 0)
                return scan_fail(scan, JSON_ERROR_SYNTAX, "a string that is not UTF-8");
            scan->at += sequence;
        }
    }
    return scan_fail(scan, JSON_ERROR_SYNTAX, "the text ends inside a string");
}

static gsize
scan_digits(Scan *scan)
{
    gsize start = scan->at;
    while (scan->at < scan->length && g_ascii_isdigit(scan->bytes[scan->at]))
        scan->at++;
    return scan->at - start;
}

static gboolean
scan_peek(const Scan *scan, const char *any_of)
{
    return scan->at < scan->length && scan->bytes[scan->at] != 0 &&
           strchr(any_of, scan->bytes[scan->at]) != NULL;
}

static gboolean
scan_is_finite(const Scan *scan, gsize start)
{
    char text[NUMBER_LENGTH_MAX + 1];
    gsize length = scan->at - start;
    memcpy(text, scan->bytes + start, length);
    text[length] = '\0';
    return isfinite(g_ascii_strtod(text, NULL));
}

/* Behind a number that canonical JSON does not have. */
static gboolean
scan_keep_raw(Scan *scan, gsize start)
{
    RawNumber raw = {scan->numbers, start, scan->at - start};
    if (!scan_is_finite(scan, start))
        return scan_fail(scan, JSON_ERROR_NUMBER, "a number out of range");
    g_array_append_val(scan->raw_numbers, raw);
    scan->numbers++;
    return TRUE;
}

/* At '-' or a digit. */
static gboolean
scan_number(Scan *scan)
{
    gsize start = scan->at;
    gboolean negative = scan->bytes[scan->at] == '-';
    scan->at += negative ? 1 : 0;
    gsize digits_at = scan->at;
    gsize digits = scan_digits(scan);
    gboolean zero = digits == 1 && scan->bytes[digits_at] == '0';
    if (digits == 0 || (digits > 1 && scan->bytes[digits_at] == '0'))
        return scan_fail(scan, JSON_ERROR_SYNTAX, "a malformed number");

    gboolean whole = TRUE;
    if (scan_peek(scan, ".")) {
        whole = FALSE;
        scan->at++;
        if (scan_digits(scan) == 0)
            return scan_fail(scan, JSON_ERROR_SYNTAX, "a malformed number");
    }
    if (scan_peek(scan, "eE")) {
        whole = FALSE;
        scan->at++;
        if (scan_peek(scan, "+-"))
            scan->at++;
        if (scan_digits(scan) == 0)
            return scan_fail(scan, JSON_ERROR_SYNTAX, "a malformed number");
    }
    gsize length = scan->at - start;
    if (length > NUMBER_LENGTH_MAX)
        return scan_fail(scan, JSON_ERROR_NUMBER, "a number of too many digits");
    gint64 value = 0; /* 16 digits fit */
    for (gsize i = 0; whole && i < digits && i < 17; i++)
        value = value * 10 + (scan->bytes[digits_at + i] - '0');
    gboolean large = whole && (digits > 16 || value > JSON_INTEGER_MAX);
    if (scan->raw_numbers != NULL && (!whole || large || (negative && zero)))
        return scan_keep_raw(scan, start);
    if (!whole && !scan->limits->floats)
        return scan_fail(scan, JSON_ERROR_NUMBER, "a number with fraction or exponent");
    if (!whole && !scan_is_finite(scan, start))
        return scan_fail(scan, JSON_ERROR_NUMBER, "a number out of range");
    if (negative && zero && !scan->limits->floats)
        return scan_fail(scan, JSON_ERROR_NUMBER, "a negative zero");
    if (large)
        return scan_fail(scan, JSON_ERROR_NUMBER, "an integer outside +-(2^53-1)");
    scan->numbers++;
    return TRUE;
}

static gboolean
scan_literal(Scan *scan, const char *literal)
{
    gsize length = strlen(literal);
    if (scan->length - scan->at < length || memcmp(scan->bytes + scan->at, literal, length) != 0)
        return scan_fail(scan, JSON_ERROR_SYNTAX, "not a JSON value");
    scan->at += length;
    return TRUE;
}

/* At the first byte of a value; an opening bracket is entered, anything else is read whole. */
static gboolean
scan_value(Scan *scan, Expect *expect)
{
    guint8 byte = scan->bytes[scan->at];
    if (!scan_count_value(scan))
        return FALSE;
    *expect = EXPECT_COMMA_OR_END;
    switch (byte) {
    case '{':
    case '[':
        if (scan->depth >= MIN(scan->limits->depth_max, DEPTH_CEILING))
            return scan_fail(scan, JSON_ERROR_LIMIT, "nested too deeply");
        scan->open[scan->depth++] = (char)byte;
        scan->at++;
        *expect = byte == '{' ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
        return TRUE;
    case '"':
        return scan_string(scan);
    case 't':
        return scan_literal(scan, "true");
    case 'f':
        return scan_literal(scan, "false");
    case 'n':
        return scan_literal(scan, "null");
    default:
        if (byte == '-' || g_ascii_isdigit(byte))
            return scan_number(scan);
        return scan_fail(scan, JSON_ERROR_SYNTAX, "not a JSON value");
    }
}

static gboolean
scan_step(Scan *scan, Expect *expect)
{
    guint8 byte = scan->bytes[scan->at];
    char closing = scan->depth > 0 && scan->open[scan->depth - 1] == '{' ? '}' : ']';

    if (*expect != EXPECT_VALUE && *expect != EXPECT_KEY && *expect != EXPECT_COLON &&
        byte == (guint8)closing) {
        scan->depth--;
        scan->at++;
        *expect = EXPECT_COMMA_OR_END;
        return TRUE;
    }
    switch (*expect) {
    case EXPECT_VALUE:
    case EXPECT_VALUE_OR_END:
        return scan_value(scan, expect);
    case EXPECT_KEY:
    case EXPECT_KEY_OR_END:
        if (byte != '"')
            return scan_fail(scan, JSON_ERROR_SYNTAX, "a key is expected");
        *expect = EXPECT_COLON;
        return scan_count_value(scan) && scan_string(scan);
    case EXPECT_COLON:
        if (byte != ':')
            return scan_fail(scan, JSON_ERROR_SYNTAX, "a colon is expected");
        scan->at++;
        *expect = EXPECT_VALUE;
        return TRUE;
    case EXPECT_COMMA_OR_END:
        if (byte != ',')
            return scan_fail(scan, JSON_ERROR_SYNTAX, "a comma or the end is expected");
        scan->at++;
        *expect = closing == '}' ? EXPECT_KEY : EXPECT_VALUE;
        return TRUE;
    }
    return FALSE;
}

static gboolean
scan_all(Scan *scan)
{
    Expect expect = EXPECT_VALUE;
    gboolean begun = FALSE;
    while (scan->at < scan->length) {
        guint8 byte = scan->bytes[scan->at];
        if (byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r') {
            scan->at++;
            continue;
        }
        if (begun && scan->depth == 0)
            return scan_fail(scan, JSON_ERROR_SYNTAX, "more bytes after the value");
        if (!scan_step(scan, &expect))
            return FALSE;
        begun = TRUE;
    }
    if (!begun || scan->depth > 0)
        return scan_fail(scan, JSON_ERROR_SYNTAX, "the text ends too early");
    return TRUE;
}

/* ---- duplicate keys, looked for in cJSON's tree, where escapes are already undone ---- */

static gboolean
object_has_double(const cJSON *object)
{
    guint count = 0;
    for (const cJSON *member = object->child; member != NULL; member = member->next)
        count++;
    if (count <= KEYS_COMPARED_IN_PAIRS) {
        for (const cJSON *a = object->child; a != NULL; a = a->next)
            for (const cJSON *b = a->next; b != NULL; b = b->next)
                if (strcmp(a->string, b->string) == 0)
                    return TRUE;
        return FALSE;
    }
    g_autoptr(GHashTable) seen = g_hash_table_new(seeded_str_hash, g_str_equal);
    for (const cJSON *member = object->child; member != NULL; member = member->next)
        if (!g_hash_table_add(seen, member->string))
            return TRUE;
    return FALSE;
}

/* Recursion is bounded by the depth limit of the reader. */
static gboolean
tree_has_double(const cJSON *value)
{
    if (cJSON_IsObject(value) && object_has_double(value))
        return TRUE;
    for (const cJSON *child = value->child; child != NULL; child = child->next)
        if (child->child != NULL && tree_has_double(child))
            return TRUE;
    return FALSE;
}

typedef struct {
    const char *bytes;
    const GArray *raw_numbers;
    guint next; /* of them */
    guint numbers;
} RawNumbers;

/* The tree has its numbers in the order of the text.  Recursion is bounded by the depth limit. */
static void
put_raw_numbers(RawNumbers *raw, cJSON *value)
{
    if (cJSON_IsNumber(value) && raw->next < raw->raw_numbers->len) {
        const RawNumber *number = &g_array_index(raw->raw_numbers, RawNumber, raw->next);
        if (number->ordinal == raw->numbers++) {
            char *text = cJSON_malloc(number->length + 1);
            memcpy(text, raw->bytes + number->at, number->length);
            text[number->length] = '\0';
            value->type = (value->type & ~0xFF) | cJSON_Raw;
            value->valuestring = text;
            raw->next++;
        }
    }
    for (cJSON *child = value->child; child != NULL; child = child->next)
        put_raw_numbers(raw, child);
}

cJSON *
json_parse(const char *bytes, gsize length, const JsonLimits *limits, GError **error)
{
    if (length > limits->bytes_max) {
        g_set_error(error, JSON_ERROR, JSON_ERROR_TOO_LARGE,
                    "%" G_GSIZE_FORMAT " bytes, more than the %" G_GSIZE_FORMAT " allowed", length,
                    limits->bytes_max);
        return NULL;
    }
    g_autoptr(GArray) raw_numbers =
        limits->raw_numbers ? g_array_new(FALSE, FALSE, sizeof(RawNumber)) : NULL;
    Scan scan = {.bytes = (const guint8 *)bytes,
                 .length = length,
                 .limits = limits,
                 .raw_numbers = raw_numbers,
                 .error = error};
    if (!scan_all(&scan))
        return NULL;

    g_autoptr(cJSON) tree = cJSON_ParseWithLength(bytes, length);
    if (tree == NULL) {
        g_set_error_literal(error, JSON_ERROR, JSON_ERROR_SYNTAX, "not readable as JSON");
        return NULL;
    }
    if (tree_has_double(tree)) {
        g_set_error_literal(error, JSON_ERROR, JSON_ERROR_DUPLICATE, "a key twice in one object");
        return NULL;
    }
    if (raw_numbers != NULL && raw_numbers->len > 0)
        put_raw_numbers(&(RawNumbers){bytes, raw_numbers, 0, 0}, tree);
    return g_steal_pointer(&tree);
}

/* ---- writing ---- */

void
json_append_string(GString *out, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    const char *run = text;
    g_string_append_c(out, '"');
    for (const char *p = text; *p != '\0'; p++) {
        guint8 byte = (guint8)*p;
        if (byte >= 0x20 && byte != '"' && byte != '\\')
            continue;
        g_string_append_len(out, run, p - run);
        run = p + 1;
        g_string_append_c(out, '\\');
        switch (byte) {
        case '\b':
            g_string_append_c(out, 'b');
            break;
        case '\t':
            g_string_append_c(out, 't');
            break;
        case '\n':
            g_string_append_c(out, 'n');
            break;
        case '\f':
            g_string_append_c(out, 'f');
            break;
        case '\r':
            g_string_append_c(out, 'r');
            break;
        case '"':
        case '\\':
            g_string_append_c(out, (char)byte);
            break;
        default:
            g_string_append(out, "u00");
            g_string_append_c(out, hex[byte >> 4]);
            g_string_append_c(out, hex[byte & 15]);
        }
    }
    g_string_append(out, run);
    g_string_append_c(out, '"');
}

static gboolean
number_is_whole(double number)
{
    return isfinite(number) && fabs(number) <= (double)JSON_INTEGER_MAX && number == trunc(number);
}

static gboolean
append_number(GString *out, double number, gboolean fractions, GError **error)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    if (number_is_whole(number)) {
        g_string_append_printf(out, "%" G_GINT64_FORMAT, (gint64)number);
        return TRUE;
    }
    if (!fractions || !isfinite(number)) {
        g_set_error_literal(error, JSON_ERROR, JSON_ERROR_NUMBER,
                            "a number that is not an integer within +-(2^53-1)");
        return FALSE;
    }
    g_ascii_formatd(text, sizeof text, "%.15g", number);
    if (g_ascii_strtod(text, NULL) != number)
        g_ascii_formatd(text, sizeof text, "%.17g", number);
    g_string_append(out, text);
    return TRUE;
}

static int
compare_keys(gconstpointer a, gconstpointer b)
{
    return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

static gboolean append_value(GString *out, const cJSON *value, gboolean fractions, GError **error);

/* Byte order of UTF-8 is the code point order that the specification asks for. */
static gboolean
append_object(GString *out, const cJSON *object, const char *const *without, gboolean fractions,
              GError **error)
{
    g_autoptr(GPtrArray) members = g_ptr_array_new();
    for (const cJSON *member = object->child; member != NULL; member = member->next)
        if (without == NULL || !g_strv_contains(without, member->string))
            g_ptr_array_add(members, (gpointer)member);
    g_ptr_array_sort(members, compare_keys);
    g_string_append_c(out, '{');
    for (guint i = 0; i < members->len; i++) {
        const cJSON *member = members->pdata[i];
        if (i > 0)
            g_string_append_c(out, ',');
        json_append_string(out, member->string);
        g_string_append_c(out, ':');
        if (!append_value(out, member, fractions, error))
            return FALSE;
    }
    g_string_append_c(out, '}');
    return TRUE;
}

/* Recursion is bounded: a tree comes from json_parse(), or from our own code around such trees. */
static gboolean
append_value(GString *out, const cJSON *value, gboolean fractions, GError **error)
{
    switch (value->type & 0xFF) {
    case cJSON_False:
        g_string_append(out, "false");
        return TRUE;
    case cJSON_True:
        g_string_append(out, "true");
        return TRUE;
    case cJSON_Number:
        return append_number(out, value->valuedouble, fractions, error);
    case cJSON_String:
        json_append_string(out, value->valuestring);
        return TRUE;
    case cJSON_Raw:
        g_string_append(out, value->valuestring);
        return TRUE;
    case cJSON_Array:
        g_string_append_c(out, '[');
        for (const cJSON *item = value->child; item != NULL; item = item->next) {
            if (item != value->child)
                g_string_append_c(out, ',');
            if (!append_value(out, item, fractions, error))
                return FALSE;
        }
        g_string_append_c(out, ']');
        return TRUE;
    case cJSON_Object:
        return append_object(out, value, NULL, fractions, error);
    default:
        g_string_append(out, "null");
        return TRUE;
    }
}

static gboolean
append_or_restore(GString *out, const cJSON *value, gboolean fractions, GError **error)
{
    gsize before = out->len;
    if (append_value(out, value, fractions, error))
        return TRUE;
    g_string_truncate(out, before);
    return FALSE;
}

gboolean
json_canonical_append(GString *out, const cJSON *value, GError **error)
{
    return append_or_restore(out, value, FALSE, error);
}

gboolean
json_plain_append(GString *out, const cJSON *value, GError **error)
{
    return append_or_restore(out, value, TRUE, error);
}

GBytes *
json_canonical(const cJSON *value, GError **error)
{
    g_autoptr(GString) out = g_string_sized_new(CANONICAL_BYTES_FIRST);
    if (!append_value(out, value, FALSE, error))
        return NULL;
    return g_string_free_to_bytes(g_steal_pointer(&out));
}

GBytes *
json_canonical_without(const cJSON *value, const char *const *without, GError **error)
{
    g_autoptr(GString) out = g_string_sized_new(CANONICAL_BYTES_FIRST);
    if (!cJSON_IsObject(value)) {
        g_set_error_literal(error, JSON_ERROR, JSON_ERROR_SHAPE, "an object is expected");
        return NULL;
    }
    if (!append_object(out, value, without, FALSE, error))
        return NULL;
    return g_string_free_to_bytes(g_steal_pointer(&out));
}

/* ---- look-ups ---- */

const cJSON *
json_object_get(const cJSON *object, const char *key)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

const char *
json_get_string(const cJSON *object, const char *key)
{
    const cJSON *value = json_object_get(object, key);
    return cJSON_IsString(value) ? value->valuestring : NULL;
}

const cJSON *
json_get_object(const cJSON *object, const char *key)
{
    const cJSON *value = json_object_get(object, key);
    return cJSON_IsObject(value) ? value : NULL;
}

const cJSON *
json_get_array(const cJSON *object, const char *key)
{
    const cJSON *value = json_object_get(object, key);
    return cJSON_IsArray(value) ? value : NULL;
}

const char *
json_number_text(const cJSON *value)
{
    return cJSON_IsRaw(value) ? value->valuestring : NULL;
}

gboolean
json_get_boolean(const cJSON *object, const char *key, gboolean otherwise)
{
    const cJSON *value = json_object_get(object, key);
    return cJSON_IsBool(value) ? cJSON_IsTrue(value) : otherwise;
}

gboolean
json_get_integer(const cJSON *object, const char *key, gint64 *ret_value)
{
    const cJSON *value = json_object_get(object, key);
    if (!cJSON_IsNumber(value) || !number_is_whole(value->valuedouble))
        return FALSE;
    *ret_value = (gint64)value->valuedouble;
    return TRUE;
}

const char *
json_require_string(const cJSON *object, const char *key, GError **error)
{
    const char *text = json_get_string(object, key);
    if (text == NULL)
        g_set_error(error, JSON_ERROR, JSON_ERROR_SHAPE, "'%s' must be a string", key);
    return text;
}

const cJSON *
json_require_object(const cJSON *object, const char *key, GError **error)
{
    const cJSON *value = json_get_object(object, key);
    if (value == NULL)
        g_set_error(error, JSON_ERROR, JSON_ERROR_SHAPE, "'%s' must be an object", key);
    return value;
}

gboolean
json_optional_object(const cJSON *object, const char *key, const cJSON **ret_value, GError **error)
{
    const cJSON *value = json_object_get(object, key);
    if (value != NULL && !cJSON_IsNull(value) && !cJSON_IsObject(value)) {
        g_set_error(error, JSON_ERROR, JSON_ERROR_SHAPE, "'%s' must be an object", key);
        return FALSE;
    }
    *ret_value = value != NULL && cJSON_IsObject(value) ? value : NULL;
    return TRUE;
}

gboolean
json_require_integer(const cJSON *object, const char *key, gint64 *ret_value, GError **error)
{
    if (json_get_integer(object, key, ret_value))
        return TRUE;
    g_set_error(error, JSON_ERROR, JSON_ERROR_SHAPE, "'%s' must be an integer within +-(2^53-1)",
                key);
    return FALSE;
}
