/* identity/json.h: the one gate for JSON from outside, and canonical JSON.
 *
 * Every byte of JSON that did not come out of our own database passes json_parse(), a strict
 * reader on raw bytes with named limits; only then does cJSON build a tree to look inside.
 * cJSON alone cuts strings at U+0000, takes duplicate keys, floats and bad UTF-8, and rounds
 * 2^53+1.  What is kept, sent, hashed or signed is bytes made by json_canonical().
 *
 * For identity/, federation/ and server/.  No globals; any thread.
 * Source: Matrix v1.19 appendices, "Canonical JSON"; client-server API, "JSON Canonicalisation". */
#pragma once

#include <cjson/cJSON.h>
#include <glib.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(cJSON, cJSON_Delete)

/* 2^53-1: the largest whole number that every JSON reader keeps exact. */
#define JSON_INTEGER_MAX G_GINT64_CONSTANT(9007199254740991)

#define JSON_ERROR (json_error_quark())
GQuark json_error_quark(void);

/* JSON_ERROR_SYNTAX answers M_NOT_JSON; the others M_BAD_JSON, JSON_ERROR_TOO_LARGE M_TOO_LARGE. */
typedef enum {
    JSON_ERROR_SYNTAX,    /* not JSON: syntax, encoding, U+0000, lone surrogate, trailing bytes */
    JSON_ERROR_TOO_LARGE, /* more bytes than the limit */
    JSON_ERROR_LIMIT,     /* nested too deeply, or too many values */
    JSON_ERROR_DUPLICATE, /* a key twice in one object */
    JSON_ERROR_NUMBER,    /* a fraction, an exponent, -0, or an integer outside +-(2^53-1) */
    JSON_ERROR_SHAPE,     /* well-formed, but not the member or type that the caller asked for */
} JsonError;

typedef struct {
    gsize bytes_max;
    guint depth_max;  /* nesting of objects and arrays */
    guint values_max; /* objects, arrays, strings, numbers, literals and keys, all together */
    gboolean floats;  /* TRUE: fractions and exponents pass (client bodies that are not events) */
    /* TRUE: every finite number passes, and one that canonical JSON does not have (a fraction, an
     * exponent, -0, beyond 2^53-1) is kept as the text that it was: see json_number_text().  Events
     * of room versions 1 to 5 hold such numbers, and their hashes cover that text. */
    gboolean raw_numbers;
} JsonLimits;

extern const JsonLimits json_limits_event;     /* 64 KiB: a PDU, or the content of an event */
extern const JsonLimits json_limits_event_lax; /* the same with raw numbers: any version's PDU */
extern const JsonLimits json_limits_request;   /* 1 MiB: an ordinary client request body */
extern const JsonLimits json_limits_content;   /* the same without floats: an event's content */
extern const JsonLimits json_limits_keys;      /* 4 MiB: key uploads, to-device maps */
/* What partners send may hold events of any room version: with raw numbers. */
extern const JsonLimits json_limits_member;      /* 1 MiB: the body of send_join, invite and kin */
extern const JsonLimits json_limits_transaction; /* 16 MiB: 50 PDUs and 100 EDUs */
extern const JsonLimits json_limits_response;    /* 64 MiB: a send_join answer from a partner */

/* Read @length bytes of UTF-8 JSON.  NULL with JSON_ERROR on any doubt; the message names the
 * offence and its byte offset, never the content.  The tree's strings are valid UTF-8 without
 * U+0000.  Caller frees with cJSON_Delete (g_autoptr(cJSON)). */
cJSON *json_parse(const char *bytes, gsize length, const JsonLimits *limits, GError **error);

/* Canonical JSON of @value: keys in byte order, no blanks, shortest escapes, integers only.
 * NULL with JSON_ERROR_NUMBER when a number has no canonical form.  A number that was read under
 * JsonLimits.raw_numbers is written as its text: who wants only canonical ones reads without. */
GBytes *json_canonical(const cJSON *value, GError **error);

/* The same, appended to @out: for splicing a value into an answer. FALSE leaves @out as it was. */
gboolean json_canonical_append(GString *out, const cJSON *value, GError **error);

/* Canonical JSON of the object @value without its members named in @without (NULL-terminated): what
 * is hashed or signed. */
GBytes *json_canonical_without(const cJSON *value, const char *const *without, GError **error);

/* As json_canonical_append(), but fractions pass, in the shortest form that reads back the same:
 * for values that clients keep with us under JsonLimits.floats (a tag's order). Never for events.
 */
gboolean json_plain_append(GString *out, const cJSON *value, GError **error);

/* Append @text as a quoted JSON string (UTF-8, shortest escapes). */
void json_append_string(GString *out, const char *text);

/* Look-ups.  Case-sensitive; NULL when absent or of another type; borrowed from @object, which may
 * be NULL. */
const cJSON *json_object_get(const cJSON *object, const char *key);
const char *json_get_string(const cJSON *object, const char *key);
const cJSON *json_get_object(const cJSON *object, const char *key);
const cJSON *json_get_array(const cJSON *object, const char *key);
/* The text of a number that was read under JsonLimits.raw_numbers and has no canonical form; NULL
 * for any other value.  The other look-ups do not take it for a number. */
const char *json_number_text(const cJSON *value);
gboolean json_get_boolean(const cJSON *object, const char *key, gboolean otherwise);
/* TRUE and *ret_value set only for a whole number within +-(2^53-1). */
gboolean json_get_integer(const cJSON *object, const char *key, gint64 *ret_value);
/* The required forms: NULL/FALSE with JSON_ERROR_SHAPE and a sentence naming the key. */
const char *json_require_string(const cJSON *object, const char *key, GError **error);
const cJSON *json_require_object(const cJSON *object, const char *key, GError **error);
/* Absent or null is success with *ret_value NULL; another type is not. */
gboolean
json_optional_object(const cJSON *object, const char *key, const cJSON **ret_value, GError **error);
gboolean
json_require_integer(const cJSON *object, const char *key, gint64 *ret_value, GError **error);
