#include "federation/room/pdu.h"

#include <sodium.h>
#include <string.h>

#include "federation/room/identifier.h"
#include "federation/room/pdu_members.h"
#include "federation/room/pdu_redact.h"
#include "identity/unpadded_base64.h"
#include "tests/support/room_events.h"

/* The key of the specification's test vectors. */
static ServerKey *
vector_key(void)
{
    guint8 seed[PUBLIC_KEY_BYTES];
    g_assert_true(unpadded_base64_decode_exact("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1",
                                               BASE64_STANDARD, seed, sizeof seed));
    return server_key_new_for_tests("1", seed);
}

/* Hash and sign as pdu_build() does, but events of the first versions that lack members. */
static void
check_vector(const char *version_id, const char *event, const char *hash, const char *signature)
{
    const RoomVersion *version = room_version_find(version_id);
    g_autoptr(ServerKey) key = vector_key();
    g_autoptr(cJSON) tree = test_json(event);
    static const char *const not_hashed[] = {"hashes", "signatures", "unsigned", NULL};
    g_autoptr(GBytes) body = json_canonical_without(tree, not_hashed, NULL);
    gsize length = 0;
    const guint8 *bytes = g_bytes_get_data(body, &length);

    guint8 digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(digest, bytes, length);
    g_autofree char *digest_text = unpadded_base64_encode(digest, sizeof digest, BASE64_STANDARD);
    g_assert_cmpstr(digest_text, ==, hash);

    g_autoptr(GArray) members = pdu_members((const char *)bytes, length);
    g_autofree char *hashes = g_strdup_printf("{\"sha256\":\"%s\"}", digest_text);
    g_autoptr(GBytes) hashed = pdu_members_with(members, "hashes", hashes);
    const char *hashed_bytes = g_bytes_get_data(hashed, &length);
    g_autoptr(GArray) hashed_members = pdu_members(hashed_bytes, length);
    g_autoptr(GString) redacted = g_string_new(NULL);
    pdu_redact_append(redacted, version, json_get_string(tree, "type"), hashed_members,
                      json_get_object(tree, "content"), FALSE);
    g_autofree char *signed_text = server_key_sign(key, redacted->str, redacted->len);
    g_assert_cmpstr(signed_text, ==, signature);
}

/* The appendices, "Event Signing": the version's redaction, then the hash and the signature. */
static const struct {
    const char *event;
    const char *hash;
    const char *signature;
} signing_vectors[] = {
    {"{'room_id':'!x:domain','sender':'@a:domain','origin':'domain','origin_server_ts':1000000,"
     "'signatures':{},'hashes':{},'type':'X','content':{},'prev_events':[],'auth_events':[],"
     "'depth':3,'unsigned':{'age_ts':1000000}}",
     "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
     "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"},
    {"{'content':{'body':'Here is the message content'},'event_id':'$0:domain','origin':'domain',"
     "'origin_server_ts':1000000,'type':'m.room.message','room_id':'!r:domain',"
     "'sender':'@u:domain','signatures':{},'unsigned':{'age_ts':1000000}}",
     "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
     "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA"},
};

static void
test_vectors_of_the_specification(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(signing_vectors); i++)
        check_vector("1", signing_vectors[i].event, signing_vectors[i].hash,
                     signing_vectors[i].signature);
    g_test_message("figure: %u event signing vectors of the appendices",
                   (guint)G_N_ELEMENTS(signing_vectors));
}

/* The example of an event that each room version's page shows.  Its hashes and signatures are
 * made up, so that much must be noticed; some of its ids are, where a version hashes events. */
#define EXAMPLE_COMMON                                                                             \
    "'sender':'@alice:example.com','origin_server_ts':1404838188000,'depth':12,"                   \
    "'type':'m.room.message','content':{'key':'value'},"                                           \
    "'hashes':{'sha256':'thishashcoversallfieldsincasethisisredacted'},"                           \
    "'signatures':{'example.com':{'ed25519:key_version':"                                          \
    "'these86bytesofbase64signaturecoveressentialfieldsincludinghashessocancheckredactedpdus'}},"  \
    "'unsigned':{'age':4612}"
#define EXAMPLE_ROOM "'room_id':'!UcYsUzyxTGDxLBEvLy:example.org',"
#define EXAMPLE_REFERENCES(name)                                                                   \
    ",'" name "':[['$af232176:example.org',"                                                       \
    "{'sha256':'abase64encodedsha256hashshouldbe43byteslong'}]]"
#define EXAMPLE_IDS(one, two)                                                                      \
    ",'auth_events':['" one "','" two "'],'prev_events':['" one "','" two "']"

static const struct {
    const char *versions[8];
    const char *event;
} event_examples[] = {
    {{"1", "2"},
     "{" EXAMPLE_ROOM EXAMPLE_COMMON
     ",'event_id':'$a4ecee13e2accdadf56c1025:example.com'" EXAMPLE_REFERENCES("auth_events")
         EXAMPLE_REFERENCES("prev_events") "}"},
    {{"3"},
     "{" EXAMPLE_ROOM EXAMPLE_COMMON EXAMPLE_IDS(
         "$base64encodedeventid", "$adifferenteventid") ",'redacts':'$some/old+event'}"},
    {{"4", "5", "6", "7", "8", "9", "10"},
     "{" EXAMPLE_ROOM EXAMPLE_COMMON EXAMPLE_IDS(
         "$urlsafe_base64_encoded_eventid",
         "$a-different-event-id") ",'redacts':'$some-old_event'}"},
    {{"11"},
     "{" EXAMPLE_ROOM EXAMPLE_COMMON EXAMPLE_IDS("$urlsafe_base64_encoded_eventid",
                                                 "$a-different-event-id") "}"},
    {{"12"},
     "{'room_id':'!Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ'," EXAMPLE_COMMON EXAMPLE_IDS(
         "$urlsafe_base64_encoded_eventid", "$a-different-event-id") "}"},
};

static void
test_event_examples_of_the_versions(void)
{
    guint checked = 0;
    for (guint i = 0; i < G_N_ELEMENTS(event_examples); i++)
        for (guint j = 0; event_examples[i].versions[j] != NULL; j++, checked++) {
            const char *version_id = event_examples[i].versions[j];
            g_autoptr(GError) error = NULL;
            g_autofree char *text = g_strdelimit(g_strdup(event_examples[i].event), "'", '"');
            g_autoptr(Pdu) pdu =
                pdu_from_json(room_version_find(version_id), text, strlen(text), &error);
            g_test_message("version %s", version_id);
            g_assert_no_error(error);
            g_assert_cmpstr(pdu->sender, ==, "@alice:example.com");
            g_assert_cmpint(pdu->depth, ==, 12);
            g_assert_cmpuint(pdu->prev_event_count, ==, i == 0 ? 1 : 2);
            g_assert_cmpuint(pdu->auth_event_count, ==, i == 0 ? 1 : 2);
            g_assert_false(pdu_check_content_hash(pdu));
        }
    g_test_message("figure: %u event examples of the room versions", checked);
}

static void
test_versions_are_rows(void)
{
    guint count = 0;
    const RoomVersion *table = room_version_table(&count);
    g_assert_cmpuint(count, ==, 12);
    g_assert_cmpstr(table[0].id, ==, "1");
    g_assert_cmpstr(room_version_default()->id, ==, "12");
    g_assert_true(room_version_default()->supported);
    g_assert_nonnull(room_version_find("11"));
    g_assert_nonnull(room_version_find_supported("1"));
    g_assert_null(room_version_find_supported("13"));
    g_assert_null(room_version_find("13"));
    g_assert_null(room_version_find("012"));
    g_assert_null(room_version_find(NULL));
}

static void
test_a_room_is_named_by_its_create_event(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_assert_true(identifier_is_hash(room->create->event_id, '$'));
    g_assert_true(identifier_is_hash(room->create->room_id, '!'));
    g_assert_cmpstr(room->create->room_id + 1, ==, room->create->event_id + 1);
    g_assert_null(json_object_get(room->create->json, "room_id"));
    g_assert_true(pdu_is_state(room->create));
    g_assert_cmpuint(room->create->prev_event_count, ==, 0);
    g_assert_null(room->create->prev_events[0]);
}

static void
test_built_events_read_back_the_same(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    test_room_member(room, ALICE, ALICE, "join");
    g_autoptr(Pdu) pdu =
        test_room_make(room, ALICE, "m.room.message", NULL,
                       "{'body':'a \\\\ \\u00e9 line\\n','b':[1,{'z':0,'a':null}]}");
    gsize length = 0;
    const char *bytes = g_bytes_get_data(pdu->bytes, &length);
    GError *error = NULL;
    g_autoptr(Pdu) again = pdu_from_json(room->version, bytes, length, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(again->event_id, ==, pdu->event_id);
    g_assert_true(g_bytes_equal(again->bytes, pdu->bytes));
    g_assert_true(pdu_check_content_hash(again));
    g_assert_true(
        pdu_verify_signature(again, "one.example", "ed25519:1", server_key_public(room->key)));
    g_assert_false(
        pdu_verify_signature(again, "two.example", "ed25519:1", server_key_public(room->key)));
    g_assert_false(
        pdu_verify_signature(again, "one.example", "ed25519:2", server_key_public(room->key)));

    g_autoptr(Pdu) stored =
        pdu_from_trusted_bytes(room->version, pdu->event_id, pdu->bytes, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(stored->event_id, ==, pdu->event_id);
    g_assert_cmpstr(stored->room_id, ==, room->create->room_id);
    g_assert_cmpint(stored->depth, ==, pdu->depth);
    g_assert_cmpuint(pdu_memory_size(stored), >, length);

    g_autoptr(GBytes) damaged = g_bytes_new(bytes, length - 1);
    g_assert_null(pdu_from_trusted_bytes(room->version, pdu->event_id, damaged, &error));
    g_assert_nonnull(error);
    g_clear_error(&error);
}

/* Order of keys, blanks and "unsigned" on the wire change neither bytes nor event id. */
static void
test_what_is_kept_is_canonical(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_autoptr(Pdu) pdu = test_room_make(room, ALICE, "a", NULL, "{'b':1,'a':{'d':2,'c':3}}");
    g_autoptr(cJSON) tree = cJSON_Duplicate(pdu->json, TRUE);
    cJSON *content = cJSON_DetachItemFromObjectCaseSensitive(tree, "content");
    cJSON *first = cJSON_DetachItemFromObjectCaseSensitive(content, "a");
    cJSON_AddItemToObject(content, "a", first);
    cJSON_AddItemToObject(tree, "content", content);
    cJSON_AddItemToObject(tree, "unsigned", test_json("{'age':5,'forged':true}"));
    g_autofree char *pretty = cJSON_Print(tree);
    GError *error = NULL;
    g_autoptr(Pdu) again = pdu_from_json(room->version, pretty, strlen(pretty), &error);
    g_assert_no_error(error);
    g_assert_true(g_bytes_equal(again->bytes, pdu->bytes));
    g_assert_cmpstr(again->event_id, ==, pdu->event_id);
    g_assert_cmpstr(again->content->child->string, ==, "a");
    g_autoptr(Pdu) from_value = pdu_from_value(room->version, tree, &error);
    g_assert_no_error(error);
    g_assert_true(g_bytes_equal(from_value->bytes, pdu->bytes));
}

static void
test_a_changed_event_fails_its_hash_and_keeps_its_signature_when_redacted(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_autoptr(Pdu) pdu =
        test_room_make(room, ALICE, "m.room.message", NULL, "{'body':'yes','msgtype':'m.text'}");
    g_autoptr(cJSON) tree = cJSON_Duplicate(pdu->json, TRUE);
    cJSON_SetValuestring((cJSON *)json_object_get(json_get_object(tree, "content"), "body"), "no!");
    g_autoptr(Pdu) changed = pdu_from_value(room->version, tree, NULL);
    g_assert_nonnull(changed);
    g_assert_cmpstr(changed->event_id, ==, pdu->event_id);
    g_assert_false(pdu_check_content_hash(changed));

    g_autoptr(Pdu) redacted = pdu_redacted(changed, NULL);
    g_assert_cmpstr(redacted->event_id, ==, pdu->event_id);
    g_assert_null(redacted->content->child);
    g_assert_false(pdu_check_content_hash(redacted));
    g_assert_true(
        pdu_verify_signature(redacted, "one.example", "ed25519:1", server_key_public(room->key)));

    cJSON_SetNumberValue((cJSON *)json_object_get(tree, "depth"), 99);
    g_autoptr(Pdu) forged = pdu_from_value(room->version, tree, NULL);
    g_assert_cmpstr(forged->event_id, !=, pdu->event_id);
    g_assert_false(
        pdu_verify_signature(forged, "one.example", "ed25519:1", server_key_public(room->key)));
}

static void
test_redaction_keeps_what_the_version_says(void)
{
    static const struct {
        const char *type;
        const char *content;
        const char *kept;
    } cases[] = {
        {"m.room.member",
         "{'membership':'join','displayname':'x','join_authorised_via_users_server':'@a:b',"
         "'third_party_invite':{'signed':{'token':'t'},'display_name':'y'}}",
         "{\"join_authorised_via_users_server\":\"@a:b\",\"membership\":\"join\","
         "\"third_party_invite\":{\"signed\":{\"token\":\"t\"}}}"},
        {"m.room.member", "{'membership':'join','third_party_invite':'no object'}",
         "{\"membership\":\"join\"}"},
        {"m.room.join_rules", "{'join_rule':'restricted','allow':[],'x':1}",
         "{\"allow\":[],\"join_rule\":\"restricted\"}"},
        {"m.room.power_levels",
         "{'ban':1,'events':{},'events_default':2,'invite':3,'kick':4,'redact':5,"
         "'state_default':6,'users':{},'users_default':7,'notifications':{'room':8}}",
         "{\"ban\":1,\"events\":{},\"events_default\":2,\"invite\":3,\"kick\":4,\"redact\":5,"
         "\"state_default\":6,\"users\":{},\"users_default\":7}"},
        {"m.room.history_visibility", "{'history_visibility':'shared','x':1}",
         "{\"history_visibility\":\"shared\"}"},
        {"m.room.redaction", "{'redacts':'$x','reason':'y'}", "{\"redacts\":\"$x\"}"},
        {"m.room.aliases", "{'aliases':['#a:b']}", "{}"},
        {"m.room.name", "{'name':'x'}", "{}"},
    };
    g_autoptr(TestRoom) room = test_room_new(ALICE, "'m.federate':true,'anything':[1],");
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Pdu) pdu = test_room_make(room, ALICE, cases[i].type, "", cases[i].content);
        g_autoptr(Pdu) redacted = pdu_redacted(pdu, NULL);
        g_autoptr(GString) content = g_string_new(NULL);
        pdu_content_json(redacted, content);
        g_assert_cmpstr(content->str, ==, cases[i].kept);
        g_assert_cmpstr(redacted->event_id, ==, pdu->event_id);
        g_autoptr(Pdu) twice = pdu_redacted(redacted, NULL);
        g_assert_true(g_bytes_equal(twice->bytes, redacted->bytes));
    }
    g_autoptr(Pdu) create = pdu_redacted(room->create, NULL);
    g_assert_true(g_bytes_equal(create->bytes, room->create->bytes));
}

static void
test_redaction_drops_unknown_top_level_members(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_autoptr(Pdu) pdu = test_room_make(room, ALICE, "a", NULL, "{}");
    g_autoptr(cJSON) tree = cJSON_Duplicate(pdu->json, TRUE);
    cJSON_AddItemToObject(tree, "origin", cJSON_CreateString("one.example"));
    cJSON_AddItemToObject(tree, "zz", test_json("{'a':['}',',\\\"']}"));
    g_autoptr(Pdu) more = pdu_from_value(room->version, tree, NULL);
    g_assert_cmpstr(more->event_id, ==, pdu->event_id);
    g_assert_false(pdu_check_content_hash(more));
    g_autoptr(Pdu) redacted = pdu_redacted(more, NULL);
    g_assert_null(json_object_get(redacted->json, "zz"));
    g_assert_null(json_object_get(redacted->json, "origin"));
}

/* Take an event that is good, put @value in place of @key, and expect the refusal. */
static void
check_refused(const cJSON *good, const char *key, const char *value, GQuark domain, int code)
{
    g_autoptr(cJSON) tree = cJSON_Duplicate(good, TRUE);
    cJSON_DeleteItemFromObjectCaseSensitive(tree, key);
    if (value != NULL)
        cJSON_AddItemToObject(tree, key, test_json(value));
    GError *error = NULL;
    g_autoptr(Pdu) pdu = pdu_from_value(room_version_default(), tree, &error);
    if (pdu != NULL)
        g_error("%s = %s was taken", key, value != NULL ? value : "(absent)");
    g_assert_error(error, domain, code);
    g_clear_error(&error);
}

static void
test_malformed_events_are_refused(void)
{
    static const struct {
        const char *key;
        const char *value;
    } cases[] = {
        {"type", "1"},         {"sender", "['@a:b']"},      {"content", "[]"},
        {"content", "'text'"}, {"origin_server_ts", "'1'"}, {"depth", "'1'"},
        {"depth", "null"},
    };
    static const struct {
        const char *key;
        const char *value;
    } format_cases[] = {
        {"state_key", "null"},
        {"state_key", "{}"},
        {"sender", "'alice'"},
        {"sender", "'@alice'"},
        {"sender", "'@alice:'"},
        {"sender", "'@alice:one.example:port'"},
        {"sender", "'@alice:one example'"},
        {"room_id", "'!x:one.example'"},
        {"room_id", "'!short'"},
        {"room_id", "7"},
        {"depth", "-1"},
        {"prev_events", "{}"},
        {"prev_events", "[1]"},
        {"prev_events", "['x']"},
        {"prev_events", "[['$a',{'sha256':'b'}]]"},
        {"auth_events", "'$a'"},
        {"auth_events", "[null]"},
        {"hashes", "{}"},
        {"hashes", "{'sha256':5}"},
        {"hashes", "'x'"},
        {"signatures", "[]"},
        {"signatures", "{'one.example':'x'}"},
        {"signatures", "{'one.example':{'ed25519:1':{}}}"},
    };
    static const char *const required[] = {"type", "sender", "content", "origin_server_ts",
                                           "depth"};
    static const char *const required_format[] = {"room_id", "prev_events", "auth_events", "hashes",
                                                  "signatures"};
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_autoptr(Pdu) pdu = test_room_make(room, ALICE, "a", "", "{}");

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        check_refused(pdu->json, cases[i].key, cases[i].value, JSON_ERROR, JSON_ERROR_SHAPE);
    for (guint i = 0; i < G_N_ELEMENTS(required); i++)
        check_refused(pdu->json, required[i], NULL, JSON_ERROR, JSON_ERROR_SHAPE);
    for (guint i = 0; i < G_N_ELEMENTS(format_cases); i++)
        check_refused(pdu->json, format_cases[i].key, format_cases[i].value, PDU_ERROR,
                      PDU_ERROR_FORMAT);
    for (guint i = 0; i < G_N_ELEMENTS(required_format); i++)
        check_refused(pdu->json, required_format[i], NULL, PDU_ERROR, PDU_ERROR_FORMAT);
    g_autofree char *room_id = g_strdup_printf("'%s'", room->create->room_id);
    check_refused(room->create->json, "room_id", room_id, PDU_ERROR, PDU_ERROR_FORMAT);
}

static void
test_bytes_that_are_no_event_are_refused(void)
{
    static const char *const cases[] = {
        "", "{", "[]", "null", "\"x\"", "{\"a\":1.5}", "{\"a\":1,\"a\":2}", "{}"};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        GError *error = NULL;
        g_assert_null(pdu_from_json(room_version_default(), cases[i], strlen(cases[i]), &error));
        g_assert_nonnull(error);
        g_clear_error(&error);
        g_assert_null(pdu_from_json(room_version_default(), cases[i], strlen(cases[i]), NULL));
    }
}

static char *
quoted_ids(guint count)
{
    GString *out = g_string_new("[");
    for (guint i = 0; i < count; i++)
        g_string_append_printf(out, "%s'$%u'", i > 0 ? "," : "", i);
    g_string_append_c(out, ']');
    return g_string_free(out, FALSE);
}

static gboolean
takes(const cJSON *good, const char *key, const char *value)
{
    g_autoptr(cJSON) tree = cJSON_Duplicate(good, TRUE);
    cJSON_DeleteItemFromObjectCaseSensitive(tree, key);
    cJSON_AddItemToObject(tree, key, test_json(value));
    g_autoptr(Pdu) pdu = pdu_from_value(room_version_default(), tree, NULL);
    return pdu != NULL;
}

static char *
quoted_text(const char *before, gsize length, const char *after)
{
    g_autofree char *fill = g_strnfill(length, 'x');
    return g_strdup_printf("'%s%s%s'", before, fill, after);
}

static void
test_limits_hold_at_n_and_break_at_n_plus_1(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_autoptr(Pdu) pdu = test_room_make(room, ALICE, "a", "", "{}");
    const cJSON *good = pdu->json;

    for (guint over = 0; over <= 1; over++) {
        g_autofree char *prev = quoted_ids(PDU_PREV_EVENTS_MAX + over);
        g_autofree char *auth = quoted_ids(PDU_AUTH_EVENTS_MAX + over);
        g_autofree char *type = quoted_text("", PDU_FIELD_BYTES_MAX + over, "");
        g_autofree char *sender = quoted_text("@", PDU_FIELD_BYTES_MAX - 5 + over, ":a.b");
        g_autofree char *id = quoted_text("$", PDU_FIELD_BYTES_MAX - 1 + over, "");
        g_autofree char *ids = g_strdup_printf("[%s]", id);
        g_assert_cmpint(takes(good, "prev_events", prev), ==, over == 0);
        g_assert_cmpint(takes(good, "auth_events", auth), ==, over == 0);
        g_assert_cmpint(takes(good, "type", type), ==, over == 0);
        g_assert_cmpint(takes(good, "state_key", type), ==, over == 0);
        g_assert_cmpint(takes(good, "sender", sender), ==, over == 0);
        g_assert_cmpint(takes(good, "prev_events", ids), ==, over == 0);
        g_assert_cmpint(takes(good, "auth_events", ids), ==, over == 0);
    }
    g_assert_true(takes(good, "depth", "9007199254740991"));

    /* The whole event: exactly 65536 bytes, and one more. */
    gsize room_left = PDU_BYTES_MAX - g_bytes_get_size(pdu->bytes) - strlen("\"b\":\"\"");
    for (guint over = 0; over <= 1; over++) {
        g_autofree char *body = g_strnfill(room_left + over, 'x');
        g_autoptr(cJSON) content = cJSON_CreateObject();
        cJSON_AddItemToObject(content, "b", cJSON_CreateString(body));
        PduTemplate template = {
            .room_id = pdu->room_id,
            .type = pdu->type,
            .state_key = "",
            .sender = pdu->sender,
            .content = content,
            .prev_events = pdu->prev_events,
            .auth_events = pdu->auth_events,
            .depth = pdu->depth,
            .origin_server_ts = pdu->origin_server_ts,
        };
        PduSigner signer = test_room_signer(room, ALICE);
        GError *error = NULL;
        g_autoptr(Pdu) large = pdu_build(room->version, &template, &signer, &error);
        if (over == 0) {
            g_assert_no_error(error);
            g_assert_cmpuint(g_bytes_get_size(large->bytes), ==, PDU_BYTES_MAX);
            PduSigner second = test_room_signer(room, CAROL);
            g_assert_null(pdu_add_signature(large, &second, &error));
        }
        g_assert_error(error, PDU_ERROR, PDU_ERROR_TOO_LARGE);
        g_clear_error(&error);
    }
}

static void
test_depth_stays_within_the_version(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    room->depth = G_GINT64_CONSTANT(9007199254740991);
    g_autoptr(Pdu) pdu = test_room_make(room, ALICE, "a", NULL, "{}");
    g_assert_cmpint(pdu->depth, ==, G_GINT64_CONSTANT(9007199254740991));
}

static void
test_a_second_server_signs(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_autoptr(Pdu) invite =
        test_room_make(room, ALICE, "m.room.member", CAROL, "{'membership':'invite'}");
    PduSigner signer = test_room_signer(room, CAROL);
    g_autoptr(Pdu) both = pdu_add_signature(invite, &signer, NULL);
    g_assert_cmpstr(both->event_id, ==, invite->event_id);
    g_assert_true(
        pdu_verify_signature(both, "one.example", "ed25519:1", server_key_public(room->key)));
    g_assert_true(
        pdu_verify_signature(both, "two.example", "ed25519:1", server_key_public(room->key)));
    g_assert_true(pdu_check_content_hash(both));
    g_autoptr(GPtrArray) key_ids = pdu_signature_key_ids(both, "two.example");
    g_assert_cmpuint(key_ids->len, ==, 1);
    g_assert_cmpstr(key_ids->pdata[0], ==, "ed25519:1");
    g_autoptr(GPtrArray) none = pdu_signature_key_ids(invite, "two.example");
    g_assert_cmpuint(none->len, ==, 0);
}

static void
check_signers(const Pdu *pdu, const char *first, const char *second)
{
    g_autoptr(GPtrArray) signers = pdu_required_signers(pdu);
    guint count = (first != NULL) + (second != NULL);
    g_assert_cmpuint(signers->len, ==, count);
    if (count > 0)
        g_assert_cmpstr(signers->pdata[0], ==, first);
    if (count > 1)
        g_assert_cmpstr(signers->pdata[1], ==, second);
}

static void
test_signers_that_are_needed(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_autoptr(Pdu) message = test_room_make(room, CAROL, "m.room.message", NULL, "{}");
    check_signers(message, "two.example", NULL);
    g_autoptr(Pdu) restricted = test_room_make(
        room, CAROL, "m.room.member", CAROL,
        "{'membership':'join','join_authorised_via_users_server':'@alice:one.example'}");
    check_signers(restricted, "two.example", "one.example");
    g_autoptr(Pdu) own = test_room_make(
        room, BOB, "m.room.member", BOB,
        "{'membership':'join','join_authorised_via_users_server':'@alice:one.example'}");
    check_signers(own, "one.example", NULL);
    g_autoptr(Pdu) third_party =
        test_room_make(room, ALICE, "m.room.member", CAROL,
                       "{'membership':'invite','third_party_invite':{'signed':{}}}");
    check_signers(third_party, NULL, NULL);
}

static void
test_client_form(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_autoptr(Pdu) message =
        test_room_make(room, ALICE, "m.room.message", NULL, "{'body':'a \\\"quote\\\"'}");
    g_autoptr(GString) out = g_string_new(NULL);
    pdu_client_json(message, FALSE, NULL, out);
    g_autofree char *expected = g_strdup_printf(
        "{\"content\":{\"body\":\"a "
        "\\\"quote\\\"\"},\"event_id\":\"%s\",\"origin_server_ts\":%" G_GINT64_FORMAT
        ",\"sender\":\"%s\",\"type\":\"m.room.message\"}",
        message->event_id, message->origin_server_ts, ALICE);
    g_assert_cmpstr(out->str, ==, expected);

    g_autoptr(cJSON) before = test_json("{'name':'old'}");
    PduUnsigned extra = {
        .has_age = TRUE,
        .age_ms = 12,
        .transaction_id = "txn",
        .membership = "join",
        .prev_content = before,
        .prev_sender = BOB,
        .replaces_state = "$old",
        .redacted_because = "{\"type\":\"m.room.redaction\"}",
        .relations = "{}",
    };
    g_autoptr(Pdu) name = test_room_make(room, ALICE, "m.room.name", "", "{'name':'new'}");
    g_string_truncate(out, 0);
    pdu_client_json(name, TRUE, &extra, out);
    g_autoptr(cJSON) tree = json_parse(out->str, out->len, &json_limits_event, NULL);
    const cJSON *extras = json_get_object(tree, "unsigned");
    gint64 age = 0;
    g_assert_cmpstr(json_get_string(tree, "room_id"), ==, room->create->room_id);
    g_assert_cmpstr(json_get_string(tree, "state_key"), ==, "");
    g_assert_true(json_get_integer(extras, "age", &age) && age == 12);
    g_assert_cmpstr(json_get_string(extras, "transaction_id"), ==, "txn");
    g_assert_cmpstr(json_get_string(extras, "membership"), ==, "join");
    g_assert_cmpstr(json_get_string(extras, "replaces_state"), ==, "$old");
    g_assert_cmpstr(json_get_string(extras, "prev_sender"), ==, BOB);
    g_assert_cmpstr(json_get_string(json_get_object(extras, "prev_content"), "name"), ==, "old");
    g_assert_nonnull(json_get_object(extras, "redacted_because"));
    g_assert_nonnull(json_get_object(extras, "m.relations"));
    g_assert_null(json_object_get(tree, "hashes"));

    PduUnsigned nothing = {0};
    g_string_truncate(out, 0);
    pdu_client_json(name, FALSE, &nothing, out);
    g_assert_true(g_str_has_suffix(out->str, ",\"unsigned\":{}}"));

    g_string_truncate(out, 0);
    pdu_stripped_json(name, out);
    g_assert_cmpstr(out->str, ==,
                    "{\"content\":{\"name\":\"new\"},\"sender\":\"@alice:one.example\","
                    "\"state_key\":\"\",\"type\":\"m.room.name\"}");
}

static void
test_redacts_stands_in_both_places(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_autoptr(cJSON) content = test_json("{'reason':'typo'}");
    PduTemplate template = {
        .room_id = room->create->room_id,
        .type = "m.room.redaction",
        .sender = ALICE,
        .content = content,
        .redacts = "$that",
        .depth = 2,
        .origin_server_ts = 5,
    };
    PduSigner signer = test_room_signer(room, ALICE);
    g_autoptr(Pdu) pdu = pdu_build(room->version, &template, &signer, NULL);
    g_assert_cmpstr(pdu->redacts, ==, "$that");
    g_assert_null(json_object_get(pdu->json, "redacts"));
    g_autoptr(GString) out = g_string_new(NULL);
    pdu_client_json(pdu, FALSE, NULL, out);
    g_autoptr(cJSON) tree = json_parse(out->str, out->len, &json_limits_event, NULL);
    g_assert_cmpstr(json_get_string(tree, "redacts"), ==, "$that");
    g_assert_cmpstr(json_get_string(json_get_object(tree, "content"), "redacts"), ==, "$that");
    g_assert_cmpstr(json_get_string(json_get_object(tree, "content"), "reason"), ==, "typo");

    /* An older version keeps it beside the content. */
    template.room_id = "!x:one.example";
    g_autoptr(Pdu) old = pdu_build(room_version_find("10"), &template, &signer, NULL);
    g_assert_cmpstr(old->redacts, ==, "$that");
    g_assert_null(json_object_get(old->content, "redacts"));
    g_string_truncate(out, 0);
    pdu_client_json(old, FALSE, NULL, out);
    g_autoptr(cJSON) old_tree = json_parse(out->str, out->len, &json_limits_event, NULL);
    g_assert_cmpstr(json_get_string(old_tree, "redacts"), ==, "$that");
    g_assert_cmpstr(json_get_string(json_get_object(old_tree, "content"), "redacts"), ==, "$that");
}

static void
test_identifiers(void)
{
    /* The examples of the appendices, "Server Name". */
    static const char *const server_names[] = {
        "matrix.org",   "matrix.org:8888",   "1.2.3.4",
        "1.2.3.4:1234", "[1234:5678::abcd]", "[1234:5678::abcd]:5678",
    };
    for (guint i = 0; i < G_N_ELEMENTS(server_names); i++)
        g_assert_true(identifier_server_name_valid(server_names[i]));
    g_test_message("figure: %u server name examples of the appendices",
                   (guint)G_N_ELEMENTS(server_names));

    g_assert_true(identifier_user_id_valid("@a:b"));
    g_assert_true(identifier_user_id_valid("@:b"));
    g_assert_true(identifier_user_id_valid("@A b!:[::1]:8448"));
    g_assert_false(identifier_user_id_valid("@a:b:c"));
    g_assert_false(identifier_user_id_valid("a:b"));
    g_assert_false(identifier_user_id_valid("@a:[::1"));
    g_assert_false(identifier_user_id_valid("@a:b:123456"));
    g_assert_false(identifier_user_id_valid("@a:b_c"));
    g_assert_false(identifier_user_id_valid("@a:"));
    g_assert_false(identifier_user_id_valid("@"));
    g_assert_false(identifier_user_id_valid(""));
    g_assert_true(identifier_user_id_strict("@a.b_c=d-e/f+1:b"));
    g_assert_false(identifier_user_id_strict("@A:b"));
    g_assert_false(identifier_user_id_strict("@:b"));
    g_assert_true(identifier_server_name_valid("a.example:8448"));
    g_assert_false(identifier_server_name_valid("a.example:"));
    g_assert_false(identifier_server_name_valid(""));
    g_assert_false(identifier_server_name_valid("a/../b"));
    g_assert_true(identifier_room_id_valid("!x:y"));
    g_assert_false(identifier_room_id_valid("!x"));
    /* 43 characters hold two bits too many: the last one may not set them. */
    g_assert_true(identifier_is_hash("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", '$'));
    g_assert_false(identifier_is_hash("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB", '$'));
    g_assert_false(identifier_is_hash("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", '$'));
    g_assert_true(identifier_same_server("@a:x", "@b:x"));
    g_assert_false(identifier_same_server("@a:x", "@b:x:1"));
    g_assert_false(identifier_same_server("@a", "@b"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/pdu/vectors", test_vectors_of_the_specification);
    g_test_add_func("/pdu/examples", test_event_examples_of_the_versions);
    g_test_add_func("/pdu/versions", test_versions_are_rows);
    g_test_add_func("/pdu/create-names-room", test_a_room_is_named_by_its_create_event);
    g_test_add_func("/pdu/round-trip", test_built_events_read_back_the_same);
    g_test_add_func("/pdu/canonical", test_what_is_kept_is_canonical);
    g_test_add_func("/pdu/content-hash",
                    test_a_changed_event_fails_its_hash_and_keeps_its_signature_when_redacted);
    g_test_add_func("/pdu/redaction", test_redaction_keeps_what_the_version_says);
    g_test_add_func("/pdu/redaction-top-level", test_redaction_drops_unknown_top_level_members);
    g_test_add_func("/pdu/malformed", test_malformed_events_are_refused);
    g_test_add_func("/pdu/no-event", test_bytes_that_are_no_event_are_refused);
    g_test_add_func("/pdu/limits", test_limits_hold_at_n_and_break_at_n_plus_1);
    g_test_add_func("/pdu/depth", test_depth_stays_within_the_version);
    g_test_add_func("/pdu/second-signature", test_a_second_server_signs);
    g_test_add_func("/pdu/required-signers", test_signers_that_are_needed);
    g_test_add_func("/pdu/client-form", test_client_form);
    g_test_add_func("/pdu/redacts", test_redacts_stands_in_both_places);
    g_test_add_func("/pdu/identifiers", test_identifiers);
    return g_test_run();
}
