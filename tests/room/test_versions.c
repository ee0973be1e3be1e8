/* Every rule that a room version changes: allowed and refused, in the versions that have it and in
 * those that have not. */
#include "federation/room/event_auth.h"
#include "federation/room/identifier.h"
#include "federation/room/pdu_members.h"

#include <sodium.h>
#include <string.h>

#include "tests/support/room_events.h"

#define VERSIONS 12

static const char *const version_ids[VERSIONS] = {"1", "2", "3", "4",  "5",  "6",
                                                  "7", "8", "9", "10", "11", "12"};

/* An event in one line: "sender|type|state key|content"; state key "-": not a state event. */
static Pdu *
make_line(TestRoom *room, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "|", 4);
    g_assert_cmpuint(g_strv_length(parts), ==, 4);
    return test_room_make(room, parts[0], parts[1], strcmp(parts[2], "-") == 0 ? NULL : parts[2],
                          parts[3]);
}

static void
apply_line(TestRoom *room, const char *text)
{
    g_autoptr(Pdu) pdu = make_line(room, text);
    test_room_apply(room, pdu);
}

/* @reason NULL: allowed.  Otherwise the refusal must begin with it.  By the state, and by the
 * event's own auth events. */
static void
check_verdict(TestRoom *room, const char *what, const Pdu *pdu, const char *reason)
{
    g_autoptr(GPtrArray) own = g_ptr_array_new();
    for (guint i = 0; i < room->state->len; i++)
        if (g_strv_contains(pdu->auth_events, ((Pdu *)room->state->pdata[i])->event_id))
            g_ptr_array_add(own, room->state->pdata[i]);
    for (guint way = 0; way < 2; way++) {
        const char *given = NULL;
        AuthVerdict verdict = way == 0 ? event_auth_check(pdu, room->create, room->state, &given)
                                       : event_auth_check_own(pdu, room->create, own, NULL, &given);
        if (reason == NULL && verdict == AUTH_REJECT)
            g_error("version %s: %s: refused by %s", room->version->id, what, given);
        if (reason != NULL && verdict == AUTH_ALLOW)
            g_error("version %s: %s: allowed, but %s", room->version->id, what, reason);
        if (reason != NULL && !g_str_has_prefix(given, reason))
            g_error("version %s: %s: refused by %s, not by %s", room->version->id, what, given,
                    reason);
    }
}

#define SETUP_MAX 6

typedef struct {
    const char *setup[SETUP_MAX]; /* after the create event and Alice's join */
    const char *event;
    guint from, to;      /* versions */
    const char *inside;  /* the verdict in these */
    const char *outside; /* and in the others */
} Case;

#define NOWHERE 99, 99, NULL
#define EVERYWHERE 1, VERSIONS

#define PUBLIC "@alice:one.example|m.room.join_rules||{'join_rule':'public'}"
#define INVITE "@alice:one.example|m.room.join_rules||{'join_rule':'invite'}"
#define KNOCK "@alice:one.example|m.room.join_rules||{'join_rule':'knock'}"
#define RESTRICTED "@alice:one.example|m.room.join_rules||{'join_rule':'restricted'}"
#define KNOCK_RESTRICTED "@alice:one.example|m.room.join_rules||{'join_rule':'knock_restricted'}"
#define BOB_JOINED "@bob:one.example|m.room.member|@bob:one.example|{'membership':'join'}"
#define BOB_INVITED "@alice:one.example|m.room.member|@bob:one.example|{'membership':'invite'}"
#define BOB_LEFT "@bob:one.example|m.room.member|@bob:one.example|{'membership':'leave'}"
#define BOB_KNOCKED "@bob:one.example|m.room.member|@bob:one.example|{'membership':'knock'}"
#define CAROL_JOINED "@carol:two.example|m.room.member|@carol:two.example|{'membership':'join'}"
#define CAROL_KICKED "@bob:one.example|m.room.member|@carol:two.example|{'membership':'leave'}"
#define CAROL_BANNED "@bob:one.example|m.room.member|@carol:two.example|{'membership':'ban'}"
#define BOB_BY_ALICE                                                                               \
    "@bob:one.example|m.room.member|@bob:one.example|"                                             \
    "{'membership':'join','join_authorised_via_users_server':'@alice:one.example'}"
#define LEVELS(levels) "@alice:one.example|m.room.power_levels||{" levels "}"
/* By Bob, who has 50. */
#define BOB_50 LEVELS("'users':{'@bob:one.example':50}")
#define BOB_SETS(levels)                                                                           \
    "@bob:one.example|m.room.power_levels||{'users':{'@bob:one.example':50}" levels "}"

static const Case cases[] = {
    /* knocking: 7 */
    {{KNOCK}, BOB_KNOCKED, 7, 12, NULL, "rule 5.8"},
    {{INVITE}, BOB_KNOCKED, 7, 12, "rule 5.7.1", "rule 5.8"},
    {{KNOCK}, BOB_JOINED, 7, 12, "rule 5.3.4", "rule 5.3.7"},
    {{KNOCK, BOB_INVITED}, BOB_JOINED, 7, 12, NULL, "rule 5.3.7"},
    {{KNOCK, BOB_KNOCKED}, BOB_LEFT, 7, 12, NULL, "rule 5.5.1"},
    {{KNOCK, BOB_INVITED}, BOB_KNOCKED, 7, 12, "rule 5.7.4", "rule 5.8"},
    {{KNOCK},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'knock'}",
     7,
     12,
     "rule 5.7.2",
     "rule 5.8"},
    /* restricted joins: 8 */
    {{RESTRICTED}, BOB_BY_ALICE, 8, 12, NULL, "rule 5.3.7"},
    {{RESTRICTED}, BOB_JOINED, 8, 12, "rule 5.3.5.2", "rule 5.3.7"},
    {{RESTRICTED, BOB_INVITED}, BOB_JOINED, 8, 12, NULL, "rule 5.3.7"},
    {{PUBLIC},
     "@bob:one.example|m.room.member|@bob:one.example|"
     "{'membership':'join','join_authorised_via_users_server':'@carol:two.example'}",
     8,
     12,
     "rule 5.2",
     NULL},
    /* both: 10 */
    {{KNOCK_RESTRICTED}, BOB_BY_ALICE, 10, 12, NULL, "rule 5.3.7"},
    {{KNOCK_RESTRICTED}, BOB_JOINED, 10, 12, "rule 5.3.5.2", "rule 5.3.7"},
    {{KNOCK_RESTRICTED}, BOB_KNOCKED, 10, 12, NULL, "rule 5."},
    {{RESTRICTED}, BOB_KNOCKED, 7, 12, "rule 5.7.1", "rule 5.8"},
    /* levels as strings: up to 9 */
    {{0}, LEVELS("'ban':'50'"), 1, 9, NULL, "rule 10.1"},
    {{0}, LEVELS("'kick':null,'events_default':[],'redact':'x'"), 1, 9, NULL, "rule 10.1"},
    {{0}, LEVELS("'events':{'m.room.name':'50'}"), 1, 9, NULL, "rule 10.2"},
    {{0}, LEVELS("'events':[]"), 1, 9, NULL, "rule 10.2"},
    {{0}, LEVELS("'notifications':{'room':'50'}"), 1, 9, NULL, "rule 10.2"},
    {{0}, LEVELS("'users':{'@bob:one.example':'50'}"), 1, 9, NULL, "rule 10.3"},
    {{0}, LEVELS("'users':{'@bob:one.example':' -0050 '}"), 1, 9, NULL, "rule 10.3"},
    {{0}, LEVELS("'users':{'@bob:one.example':'+50'}"), 1, 9, NULL, "rule 10.3"},
    {{0}, LEVELS("'users':{'@bob:one.example':'5.0'}"), EVERYWHERE, "rule 10.3", NULL},
    {{0}, LEVELS("'users':{'@bob:one.example':'5e1'}"), EVERYWHERE, "rule 10.3", NULL},
    {{0}, LEVELS("'users':{'@bob:one.example':'- 5'}"), EVERYWHERE, "rule 10.3", NULL},
    {{0}, LEVELS("'users':{'@bob:one.example':'++5'}"), EVERYWHERE, "rule 10.3", NULL},
    {{0}, LEVELS("'users':{'@bob:one.example':'5_0'}"), EVERYWHERE, "rule 10.3", NULL},
    {{0}, LEVELS("'users':{'@bob:one.example':''}"), EVERYWHERE, "rule 10.3", NULL},
    {{0}, LEVELS("'users':{'@bob:one.example':true}"), EVERYWHERE, "rule 10.3", NULL},
    {{0}, LEVELS("'users':[]"), EVERYWHERE, "rule 10.3", NULL},
    {{0}, LEVELS("'users':{'bob':5}"), EVERYWHERE, "rule 10.3", NULL},
    {{PUBLIC, BOB_JOINED, CAROL_JOINED, LEVELS("'users':{'@bob:one.example':' 50 '}")},
     CAROL_KICKED,
     1,
     9,
     NULL,
     "rule 5.5.5"}, /* a string is no level later, even where it stands in the state */
    {{PUBLIC, BOB_JOINED, CAROL_JOINED, LEVELS("'users':{'@bob:one.example':'50'},'kick':'51'")},
     CAROL_KICKED,
     1,
     9,
     "rule 5.5.5",
     "rule 5.5.5"},
    /* creators stand above all: 12 */
    {{0}, LEVELS("'users':{'@alice:one.example':100}"), 12, 12, "rule 10.4", NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'users':{'@bob:one.example':101,'@alice:two.example':9}")},
     "@bob:one.example|m.room.member|@alice:one.example|{'membership':'leave'}",
     12,
     12,
     "rule 5.5.5",
     NULL},
    {{LEVELS("'events':{'m.room.name':1}")},
     "@alice:one.example|m.room.name||{}",
     12,
     12,
     NULL,
     "rule 8"}, /* up to 11 who is not listed has users_default */
    {{0}, "@alice:one.example|m.room.name||{}", NOWHERE, NULL}, /* 100 where there are no levels */
    {{LEVELS("'events':{'m.room.name':101},'users':{'@alice:one.example':100}")},
     "@alice:one.example|m.room.name||{}",
     12,
     12,
     NULL,
     "rule 8"},
    /* notifications: 6 */
    {{PUBLIC, BOB_JOINED, BOB_50},
     BOB_SETS(",'notifications':{'room':51}"),
     6,
     12,
     "rule 10.8",
     NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'notifications':{'room':51},'users':{'@bob:one.example':50}")},
     BOB_SETS(""),
     6,
     12,
     "rule 10.7",
     NULL},
    {{PUBLIC, BOB_JOINED, BOB_50}, BOB_SETS(",'notifications':{'room':50}"), NOWHERE, NULL},
    {{PUBLIC, BOB_JOINED, BOB_50}, BOB_SETS(",'events':{'a':51}"), EVERYWHERE, "rule 10.8", NULL},
    {{PUBLIC, BOB_JOINED, BOB_50}, BOB_SETS(",'events':{'a':50}"), NOWHERE, NULL},
    {{PUBLIC, BOB_JOINED, BOB_50}, BOB_SETS(",'ban':51"), EVERYWHERE, "rule 10.6.2", NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'ban':51,'users':{'@bob:one.example':50}")},
     BOB_SETS(",'ban':50"),
     EVERYWHERE,
     "rule 10.6.1",
     NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'users':{'@bob:one.example':50,'@carol:two.example':50}")},
     BOB_SETS(""),
     EVERYWHERE,
     "rule 10.9",
     NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'users':{'@bob:one.example':50,'@carol:two.example':49}")},
     BOB_SETS(""),
     NOWHERE,
     NULL},
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.power_levels||{'users':{'@bob:one.example':51}}",
     EVERYWHERE,
     "rule 10.10",
     NULL},
    /* aliases: a rule of their own up to 5 */
    {{PUBLIC, BOB_JOINED}, "@bob:one.example|m.room.aliases|one.example|{}", 1, 5, NULL, "rule 8"},
    {{0}, "@alice:one.example|m.room.aliases|two.example|{}", 1, 5, "rule 4 of", NULL},
    {{0}, "@alice:one.example|m.room.aliases|-|{}", 1, 5, "rule 4 of", NULL},
    {{0}, "@dan:two.example|m.room.aliases|two.example|{}", 1, 5, NULL, "rule 6"},
    /* redactions: a rule of their own in 1 and 2 */
    {{PUBLIC, BOB_JOINED},
     "@bob:one.example|m.room.redaction|-|{'redacts':'$x:two.example'}",
     1,
     2,
     "rule 11 of",
     NULL},
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.redaction|-|{'redacts':'$x:two.example'}",
     NOWHERE,
     NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'redact':51,'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.redaction|-|{}",
     1,
     2,
     "rule 11 of",
     NULL},
    /* the same in all */
    {{PUBLIC}, BOB_JOINED, NOWHERE, NULL},
    {{INVITE}, BOB_JOINED, EVERYWHERE, "rule 5.3.4", NULL},
    {{INVITE, BOB_INVITED}, BOB_JOINED, NOWHERE, NULL},
    {{PUBLIC},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'join'}",
     EVERYWHERE,
     "rule 5.3.2",
     NULL},
    {{PUBLIC, BOB_JOINED, CAROL_JOINED, BOB_50, CAROL_BANNED},
     CAROL_JOINED,
     EVERYWHERE,
     "rule 5.3.3",
     NULL},
    {{PUBLIC, BOB_JOINED, CAROL_JOINED}, CAROL_BANNED, EVERYWHERE, "rule 5.6.3", NULL},
    {{PUBLIC, BOB_JOINED, CAROL_JOINED, BOB_50}, CAROL_BANNED, NOWHERE, NULL},
    {{PUBLIC, BOB_JOINED}, BOB_LEFT, NOWHERE, NULL},
    {{PUBLIC}, BOB_LEFT, EVERYWHERE, "rule 5.5.1", NULL},
    {{PUBLIC}, "@bob:one.example|m.room.message|-|{}", EVERYWHERE, "rule 6", NULL},
    {{PUBLIC, BOB_JOINED}, "@bob:one.example|m.room.message|-|{}", NOWHERE, NULL},
    {{PUBLIC, BOB_JOINED}, "@bob:one.example|m.room.name||{}", EVERYWHERE, "rule 8", NULL},
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|org.example|@carol:two.example|{}",
     EVERYWHERE,
     "rule 9",
     NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'invite':1")},
     "@bob:one.example|m.room.third_party_invite|t|{}",
     EVERYWHERE,
     "rule 7",
     NULL},
    {{PUBLIC, BOB_JOINED}, "@bob:one.example|m.room.third_party_invite|t|{}", NOWHERE, NULL},
    {{PUBLIC},
     "@bob:one.example|m.room.member|-|{'membership':'join'}",
     EVERYWHERE,
     "rule 5.1",
     NULL},
};

static void
test_every_rule_in_every_version(void)
{
    for (guint version = 1; version <= VERSIONS; version++)
        for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
            const Case *one = &cases[i];
            gboolean inside = version >= one->from && version <= one->to;
            g_autoptr(TestRoom) room = test_room_new_of(version_ids[version - 1], ALICE, "");

            test_room_member(room, ALICE, ALICE, "join");
            for (guint j = 0; j < SETUP_MAX && one->setup[j] != NULL; j++)
                apply_line(room, one->setup[j]);
            g_autoptr(Pdu) pdu = make_line(room, one->event);
            check_verdict(room, one->event, pdu, inside ? one->inside : one->outside);
        }
}

/* ---- the create event ---- */

static Pdu *
make_create(const char *version, const char *room_id, const char *content, GError **error)
{
    g_autoptr(TestRoom) room = test_room_new_of(version, ALICE, "");
    g_autofree char *text = g_strdup_printf("{%s}", content);
    g_autoptr(cJSON) tree = test_json(text);
    PduSigner signer = test_room_signer(room, ALICE);
    PduTemplate template = {
        .event_id = "$create:one.example",
        .room_id = room_id,
        .type = "m.room.create",
        .state_key = "",
        .sender = ALICE,
        .content = tree,
        .depth = 1,
    };
    return pdu_build(room->version, &template, &signer, error);
}

static void
check_create(guint version, const char *room_id, const char *more, const char *reason)
{
    const char *given = NULL;
    g_autofree char *content =
        g_strdup_printf("%s'room_version':'%s'", more, version_ids[version - 1]);
    g_autoptr(Pdu) pdu = make_create(version_ids[version - 1], room_id, content, NULL);
    g_assert_nonnull(pdu);
    AuthVerdict verdict = event_auth_check(pdu, NULL, NULL, &given);
    g_assert_cmpint(verdict, ==, reason == NULL ? AUTH_ALLOW : AUTH_REJECT);
    if (reason != NULL && !g_str_has_prefix(given, reason))
        g_error("version %u: %s", version, given);
}

static void
test_create_events(void)
{
    for (guint version = 1; version <= 11; version++) {
        const char *alice = "'creator':'@alice:one.example',";
        const char *no_creator = version <= 10 ? "rule 1.4" : NULL;
        check_create(version, "!room:one.example", alice, NULL);
        check_create(version, "!room:two.example", alice, "rule 1.2");
        check_create(version, "!room:one.example", "", no_creator);
        /* present is enough: nobody is the creator then */
        check_create(version, "!room:one.example", "'creator':5,", NULL);

        g_autoptr(GError) error = NULL;
        g_autoptr(Pdu) none = make_create(version_ids[version - 1], NULL, "", &error);
        g_assert_error(error, PDU_ERROR, PDU_ERROR_FORMAT);
        g_clear_error(&error);
        g_autoptr(Pdu) hash = make_create(
            version_ids[version - 1], "!Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg", "", &error);
        g_assert_error(error, PDU_ERROR, PDU_ERROR_FORMAT);
    }
    /* A create event without a version is one of version 1. */
    const char *reason = NULL;
    g_autoptr(Pdu) first =
        make_create("1", "!room:one.example", "'creator':'@alice:one.example'", NULL);
    g_assert_cmpint(event_auth_check(first, NULL, NULL, &reason), ==, AUTH_ALLOW);
    g_autoptr(Pdu) eleventh = make_create("11", "!room:one.example", "", NULL);
    g_assert_cmpint(event_auth_check(eleventh, NULL, NULL, &reason), ==, AUTH_REJECT);
    g_assert_true(g_str_has_prefix(reason, "rule 1.3"));
}

/* The creator of versions 1 to 10 is who content.creator says; later it is the sender. */
static void
test_who_the_creator_is(void)
{
    for (guint version = 1; version <= VERSIONS; version++) {
        g_autoptr(TestRoom) room =
            test_room_new_of(version_ids[version - 1], ALICE, "'creator':'@bob:one.example',");
        const char *creator = version <= 10 ? BOB : ALICE;
        const char *other = version <= 10 ? ALICE : BOB;
        g_autoptr(Pdu) first =
            test_room_make(room, creator, "m.room.member", creator, "{'membership':'join'}");
        check_verdict(room, "the creator's join", first, NULL);
        g_autoptr(Pdu) wrong =
            test_room_make(room, other, "m.room.member", other, "{'membership':'join'}");
        check_verdict(room, "another's join", wrong, "rule 5.3.4");
        PowerLevels levels = {room->create, NULL};
        Power power = power_of_user(&levels, creator);
        g_assert_true(version == 12 ? power.infinite : power.level == 100);
        g_assert_cmpint(power_of_user(&levels, other).level, ==, 0);
    }
}

/* Versions 1 to 11 select the create event as an auth event; version 12 must not. */
static void
test_the_create_event_among_auth_events(void)
{
    for (guint version = 1; version <= VERSIONS; version++) {
        g_autoptr(TestRoom) room = test_room_new_of(version_ids[version - 1], ALICE, "");
        const Pdu *join = test_room_member(room, ALICE, ALICE, "join");
        g_autoptr(Pdu) message = test_room_make(room, ALICE, "m.room.message", NULL, "{}");
        g_autoptr(GPtrArray) with = g_ptr_array_new();
        g_autoptr(GPtrArray) without = g_ptr_array_new();
        const char *reason = NULL;

        g_ptr_array_add(with, room->create);
        g_ptr_array_add(with, (gpointer)join);
        g_ptr_array_add(without, (gpointer)join);
        g_assert_cmpuint(message->auth_event_count, ==, version == 12 ? 1 : 2);
        g_assert_cmpint(event_auth_check_own(message, room->create, with, NULL, &reason), ==,
                        version == 12 ? AUTH_REJECT : AUTH_ALLOW);
        g_assert_true(version != 12 || g_str_has_prefix(reason, "rule 3.2"));
        g_assert_cmpint(event_auth_check_own(message, room->create, without, NULL, &reason), ==,
                        version == 12 ? AUTH_ALLOW : AUTH_REJECT);
        g_assert_true(version == 12 || g_str_has_prefix(reason, "rule 3.4"));
    }
}

/* ---- redaction ---- */

/* @versions 1 to 12: what stays of @content, by the first version in which it does. */
static void
check_redacted(const char *type, const char *content, guint from, guint to, const char *expected)
{
    for (guint version = from; version <= to; version++) {
        g_autoptr(TestRoom) room = test_room_new_of(version_ids[version - 1], ALICE, "");
        g_autoptr(Pdu) pdu = test_room_make(room, ALICE, type, "", content);
        g_autoptr(Pdu) redacted = pdu_redacted(pdu, NULL);
        g_autoptr(GString) left = g_string_new(NULL);
        g_autofree char *quoted = g_strdelimit(g_strdup(expected), "'", '"');
        pdu_content_json(redacted, left);
        if (strcmp(left->str, quoted) != 0)
            g_error("version %u, %s: %s, not %s", version, type, left->str, quoted);
        g_assert_cmpstr(redacted->event_id, ==, pdu->event_id);
        g_autofree char *hash = pdu_reference_hash(pdu), *again = pdu_reference_hash(redacted);
        g_assert_cmpstr(hash, ==, again);
    }
}

static void
test_what_redaction_keeps(void)
{
    const char *levels = "{'ban':1,'events':{},'events_default':1,'invite':1,'kick':1,"
                         "'notifications':{},'redact':1,'state_default':1,'users':{},"
                         "'users_default':1,'x':1}";
    const char *member =
        "{'displayname':'A','join_authorised_via_users_server':'@a:b','membership':'join',"
        "'third_party_invite':{'display_name':'A','signed':{'token':'t'}}}";

    check_redacted("m.room.message", "{'body':'x'}", 1, 12, "{}");
    check_redacted("m.room.aliases", "{'aliases':['#a:b'],'x':1}", 1, 5, "{'aliases':['#a:b']}");
    check_redacted("m.room.aliases", "{'aliases':['#a:b'],'x':1}", 6, 12, "{}");
    check_redacted("m.room.join_rules", "{'allow':[],'join_rule':'x','y':1}", 1, 7,
                   "{'join_rule':'x'}");
    check_redacted("m.room.join_rules", "{'allow':[],'join_rule':'x','y':1}", 8, 12,
                   "{'allow':[],'join_rule':'x'}");
    check_redacted("m.room.member", member, 1, 8, "{'membership':'join'}");
    check_redacted("m.room.member", member, 9, 10,
                   "{'join_authorised_via_users_server':'@a:b','membership':'join'}");
    check_redacted("m.room.member", member, 11, 12,
                   "{'join_authorised_via_users_server':'@a:b','membership':'join',"
                   "'third_party_invite':{'signed':{'token':'t'}}}");
    check_redacted("m.room.power_levels", levels, 1, 10,
                   "{'ban':1,'events':{},'events_default':1,'kick':1,'redact':1,"
                   "'state_default':1,'users':{},'users_default':1}");
    check_redacted("m.room.power_levels", levels, 11, 12,
                   "{'ban':1,'events':{},'events_default':1,'invite':1,'kick':1,'redact':1,"
                   "'state_default':1,'users':{},'users_default':1}");
    check_redacted("m.room.history_visibility", "{'history_visibility':'x','y':1}", 1, 12,
                   "{'history_visibility':'x'}");
    check_redacted("m.room.redaction", "{'reason':'x','redacts':'$y'}", 1, 10, "{}");
    check_redacted("m.room.redaction", "{'reason':'x','redacts':'$y'}", 11, 12, "{'redacts':'$y'}");
}

static void
test_redacted_create_events(void)
{
    for (guint version = 1; version <= VERSIONS; version++) {
        g_autoptr(TestRoom) room =
            test_room_new_of(version_ids[version - 1], ALICE, "'m.federate':false,");
        g_autoptr(Pdu) redacted = pdu_redacted(room->create, NULL);
        gboolean whole = version >= 11;
        g_assert_cmpint(json_object_get(redacted->content, "m.federate") != NULL, ==, whole);
        g_assert_cmpint(json_object_get(redacted->content, "room_version") != NULL, ==, whole);
        g_assert_cmpint(json_object_get(redacted->content, "creator") != NULL, ==, version <= 10);
    }
}

/* An event as bytes: {… "hashes" …} with what @more says ("'a':1,"). */
static Pdu *
read_event(guint version, const char *more, GError **error)
{
    const RoomVersion *row = room_version_find(version_ids[version - 1]);
    g_autofree char *id = version <= 2 ? g_strdup("'event_id':'$x:one.example',") : g_strdup("");
    g_autofree char *room_id =
        g_strdup(version == 12 ? "!Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg" : "!r:one.example");
    g_autofree char *json =
        g_strdup_printf("{%s%s'hashes':{'sha256':'x'},'origin_server_ts':1,'room_id':'%s',"
                        "'sender':'@alice:one.example','signatures':{},'type':'m.room.message'}",
                        id, more, room_id);
    g_strdelimit(json, "'", '"');
    return pdu_from_json(row, json, strlen(json), error);
}

#define REST "'auth_events':[],'prev_events':[],'content':{},'depth':1,"

static void
test_old_members_of_the_event_itself(void)
{
    for (guint version = 1; version <= VERSIONS; version++) {
        g_autoptr(Pdu) pdu = read_event(
            version, REST "'membership':'x','origin':'one.example','prev_state':[],'y':1,", NULL);
        g_assert_nonnull(pdu);
        g_autoptr(Pdu) redacted = pdu_redacted(pdu, NULL);
        static const char *const legacy[] = {"membership", "origin", "prev_state"};
        for (guint i = 0; i < G_N_ELEMENTS(legacy); i++)
            g_assert_cmpint(json_object_get(redacted->json, legacy[i]) != NULL, ==, version <= 10);
        g_assert_null(json_object_get(redacted->json, "y"));
    }
}

static void
test_where_redacts_stands(void)
{
    for (guint version = 1; version <= VERSIONS; version++) {
        g_autoptr(TestRoom) room = test_room_new_of(version_ids[version - 1], ALICE, "");
        g_autoptr(cJSON) content = test_json("{'reason':'x'}");
        PduSigner signer = test_room_signer(room, ALICE);
        PduTemplate template = {
            .event_id = "$r:one.example",
            .room_id = room->create->room_id,
            .type = "m.room.redaction",
            .sender = ALICE,
            .content = content,
            .redacts = "$target:one.example",
            .depth = 2,
        };
        g_autoptr(Pdu) pdu = pdu_build(room->version, &template, &signer, NULL);
        g_autoptr(GString) client = g_string_new(NULL);
        gboolean in_content = version >= 11;

        g_assert_cmpstr(pdu->redacts, ==, "$target:one.example");
        g_assert_cmpint(json_object_get(pdu->content, "redacts") != NULL, ==, in_content);
        g_assert_cmpint(json_object_get(pdu->json, "redacts") == NULL, ==, in_content);
        pdu_client_json(pdu, TRUE, NULL, client);
        g_autoptr(cJSON) shown = test_json(client->str);
        g_assert_cmpstr(json_get_string(shown, "redacts"), ==, "$target:one.example");
        g_assert_cmpstr(json_get_string(json_get_object(shown, "content"), "redacts"), ==,
                        "$target:one.example");
    }
}

/* Who may have a redaction carried out: the level, or the same server: of the sender from version
 * 3 on, of the event ids before. */
static void
test_redactions_carried_out(void)
{
    for (guint version = 1; version <= VERSIONS; version++) {
        g_autoptr(TestRoom) room = test_room_new_of(version_ids[version - 1], ALICE, "");
        PowerLevels levels = {room->create, NULL};
        g_autoptr(Pdu) target = test_room_make(room, ALICE, "m.room.message", NULL, "{}");
        g_autoptr(Pdu) near = test_room_make(room, BOB, "m.room.redaction", NULL, "{}");
        g_autoptr(Pdu) far = test_room_make(room, CAROL, "m.room.redaction", NULL, "{}");
        g_autoptr(Pdu) by_alice = test_room_make(room, ALICE, "m.room.redaction", NULL, "{}");
        g_assert_true(power_may_redact(&levels, near, target));
        g_assert_false(power_may_redact(&levels, far, target));
        g_assert_true(power_may_redact(&levels, by_alice, far));
    }
}

/* ---- event ids and formats ---- */

static void
test_event_ids(void)
{
    gboolean standard_seen = FALSE;
    for (guint version = 1; version <= VERSIONS; version++) {
        g_autoptr(TestRoom) room = test_room_new_of(version_ids[version - 1], ALICE, "");
        for (guint i = 0; i < 64; i++) {
            g_autoptr(Pdu) pdu = test_room_make(room, ALICE, "m.room.message", NULL, "{}");
            if (version <= 2)
                g_assert_cmpstr(pdu->event_id, ==, json_get_string(pdu->json, "event_id"));
            else
                g_assert_null(json_object_get(pdu->json, "event_id"));
            if (version == 3)
                standard_seen = standard_seen || strpbrk(pdu->event_id, "+/") != NULL;
            if (version >= 4)
                g_assert_true(identifier_is_hash(pdu->event_id, '$'));
            if (version == 3)
                g_assert_cmpuint(strlen(pdu->event_id), ==, 44);
        }
    }
    g_assert_true(standard_seen);
}

static void
check_read(guint from, guint to, const char *more, gboolean good)
{
    for (guint version = from; version <= to; version++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Pdu) pdu = read_event(version, more, &error);
        if ((pdu != NULL) != good)
            g_error("version %u: %s: %s", version, more, pdu != NULL ? "read" : error->message);
        if (!good)
            g_assert_nonnull(error);
    }
}

/* Versions 1 and 2 name events together with their hashes. */
static void
test_references(void)
{
    check_read(1, 12, REST, TRUE);
#define PREV(list) "'auth_events':[],'content':{},'depth':1,'prev_events':[" list "],"
#define AUTH(list) "'auth_events':[" list "],'content':{},'depth':1,'prev_events':[],"
    check_read(3, 12, PREV("'$a'"), TRUE);
    check_read(1, 2, PREV("'$a'"), FALSE);
    check_read(3, 12, PREV("['$a',{}]"), FALSE);
    check_read(1, 2, PREV("['$a:b',{}]"), TRUE);
    check_read(1, 2, PREV("['$a:b',{'sha256':'x'}],['$b:b',{'md5':1}]"), TRUE);
    check_read(1, 2, AUTH("['$a:b',{'sha256':'x'}]"), TRUE);
    check_read(1, 2, AUTH("['$a:b']"), FALSE);
    check_read(1, 2, AUTH("[]"), FALSE);
    check_read(1, 2, AUTH("['$a:b',{},1]"), FALSE);
    check_read(1, 2, AUTH("['$a:b',[]]"), FALSE);
    check_read(1, 2, AUTH("[['$a:b'],{}]"), FALSE);
    check_read(1, 2, AUTH("{'$a:b':{}}"), FALSE);
    check_read(1, 2, AUTH("['a:b',{}]"), FALSE);

    for (guint version = 1; version <= 2; version++) {
        g_autoptr(TestRoom) room = test_room_new_of(version_ids[version - 1], ALICE, "");
        g_autofree char *hash = pdu_reference_hash(room->create);
        const char *ids[] = {room->create->event_id, NULL}, *hashes[] = {hash, NULL};
        g_autoptr(cJSON) content = test_json("{'membership':'join'}");
        PduSigner signer = test_room_signer(room, ALICE);
        PduTemplate template = {
            .event_id = "$join:one.example",
            .room_id = room->create->room_id,
            .type = "m.room.member",
            .state_key = ALICE,
            .sender = ALICE,
            .content = content,
            .prev_events = ids,
            .auth_events = ids,
            .prev_hashes = hashes,
            .auth_hashes = hashes,
            .depth = 2,
        };
        g_autoptr(Pdu) pdu = pdu_build(room->version, &template, &signer, NULL);
        const cJSON *pair = json_get_array(pdu->json, "prev_events")->child;
        g_assert_cmpstr(pdu->prev_events[0], ==, room->create->event_id);
        g_assert_cmpstr(pdu->auth_events[0], ==, room->create->event_id);
        g_assert_cmpstr(json_get_string(pair->child->next, "sha256"), ==, hash);
        g_assert_true(pdu_check_content_hash(pdu));
    }
}

static void
test_chosen_event_ids(void)
{
    const RoomVersion *version = room_version_find("1");
    static const struct {
        const char *member;
        gboolean good;
    } ids[] = {
        {"'event_id':'$x:one.example',", TRUE},
        {"", FALSE},
        {"'event_id':5,", FALSE},
        {"'event_id':'x:one.example',", FALSE},
        {"'event_id':'$x',", FALSE},
        {"'event_id':'$x:',", FALSE},
        {"'event_id':'$x:a b',", FALSE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(ids); i++) {
        g_autofree char *json = g_strdup_printf(
            "{%s" REST "'hashes':{'sha256':'x'},'origin_server_ts':1,'room_id':'!r:one.example',"
            "'sender':'@alice:one.example','signatures':{},'type':'m.room.message'}",
            ids[i].member);
        g_strdelimit(json, "'", '"');
        g_autoptr(Pdu) pdu = pdu_from_json(version, json, strlen(json), NULL);
        g_assert_cmpint(pdu != NULL, ==, ids[i].good);
    }
    for (guint length = 255; length <= 256; length++) {
        g_autofree char *opaque = g_strnfill(length - strlen("$:one.example"), 'x');
        g_autofree char *json = g_strdup_printf(
            "{'event_id':'$%s:one.example'," REST
            "'hashes':{'sha256':'x'},'origin_server_ts':1,'room_id':'!r:one.example',"
            "'sender':'@alice:one.example','signatures':{},'type':'m.room.message'}",
            opaque);
        g_strdelimit(json, "'", '"');
        g_autoptr(Pdu) pdu = pdu_from_json(version, json, strlen(json), NULL);
        g_assert_cmpint(pdu != NULL, ==, length == 255);
    }
}

/* The server that an event id names signs as well, in versions 1 and 2. */
static void
test_required_signers(void)
{
    for (guint version = 1; version <= VERSIONS; version++) {
        g_autoptr(TestRoom) room = test_room_new_of(version_ids[version - 1], ALICE, "");
        g_autoptr(cJSON) content =
            test_json("{'membership':'join','join_authorised_via_users_server':'@x:four.example'}");
        PduSigner signer = test_room_signer(room, ALICE);
        PduTemplate template = {
            .event_id = "$x:three.example",
            .room_id = room->create->room_id,
            .type = "m.room.member",
            .state_key = ALICE,
            .sender = ALICE,
            .content = content,
            .depth = 2,
        };
        g_autoptr(Pdu) pdu = pdu_build(room->version, &template, &signer, NULL);
        g_autoptr(GPtrArray) signers = pdu_required_signers(pdu);
        g_autoptr(GString) names = g_string_new(NULL);
        for (guint i = 0; i < signers->len; i++)
            g_string_append_printf(names, "%s ", (char *)signers->pdata[i]);
        g_assert_cmpstr(names->str, ==,
                        version <= 2   ? "one.example three.example "
                        : version <= 7 ? "one.example "
                                       : "one.example four.example ");
    }
}

/* ---- numbers that canonical JSON does not have ---- */

#define NUMBER(number) "'auth_events':[],'prev_events':[],'depth':1,'content':{'n':" number "},"
#define DEPTH(number) "'auth_events':[],'prev_events':[],'content':{},'depth':" number ","

static void
test_odd_numbers_up_to_version_5(void)
{
    static const char *const odd[] = {
        NUMBER("1.5"),
        NUMBER("1.0"),
        NUMBER("1e5"),
        NUMBER("-0"),
        NUMBER("-0.0"),
        NUMBER("2E+1"),
        NUMBER("1e-400"),
        NUMBER("9007199254740992"),
        NUMBER("-9007199254740992"),
        NUMBER("123456789012345678901234567890"),
    };
    for (guint i = 0; i < G_N_ELEMENTS(odd); i++) {
        check_read(1, 5, odd[i], TRUE);
        check_read(6, 12, odd[i], FALSE);
    }
    check_read(1, 12, NUMBER("1e400"), FALSE);
    check_read(1, 12, NUMBER("NaN"), FALSE);
    check_read(1, 12, NUMBER("01"), FALSE);
    check_read(1, 12, DEPTH("9007199254740991"), TRUE);
    check_read(1, 5, DEPTH("9007199254740992"), TRUE);
    check_read(6, 12, DEPTH("9007199254740992"), FALSE);
    check_read(1, 5, DEPTH("9223372036854775807"), TRUE);
    check_read(1, 12, DEPTH("9223372036854775808"), FALSE);
    check_read(1, 12, DEPTH("1.0"), FALSE);
    check_read(1, 12, DEPTH("-1"), FALSE);

    /* What was read is kept to the letter: the hashes cover it. */
    for (guint version = 1; version <= 5; version++) {
        g_autoptr(Pdu) pdu =
            read_event(version, NUMBER("[1.50,{'a':-0,'b':1E2},100000000000000000001,7]"), NULL);
        g_autoptr(GString) content = g_string_new(NULL);
        pdu_content_json(pdu, content);
        g_assert_cmpstr(content->str, ==,
                        "{\"n\":[1.50,{\"a\":-0,\"b\":1E2},100000000000000000001,7]}");
        g_autoptr(Pdu) stored =
            pdu_from_trusted_bytes(pdu->version, pdu->event_id, pdu->bytes, NULL);
        g_assert_true(g_bytes_equal(stored->bytes, pdu->bytes));
        g_autoptr(Pdu) again = pdu_from_value(pdu->version, pdu->json, NULL);
        g_assert_cmpstr(again->event_id, ==, pdu->event_id);
    }
}

/* A room whose depth has reached the end goes on at that depth. */
static void
test_depth_stays_at_its_end(void)
{
    for (guint version = 1; version <= VERSIONS; version++) {
        g_autoptr(TestRoom) room = test_room_new_of(version_ids[version - 1], ALICE, "");
        room->depth = room->version->depth_max - 1;
        test_room_member(room, ALICE, ALICE, "join");
        g_assert_cmpint(room->depth, ==, room->version->depth_max);
        g_assert_cmpint(room->depth, ==,
                        version <= 5 ? G_MAXINT64 : G_GINT64_CONSTANT(9007199254740991));
        g_assert_cmpint(test_room_state(room, "m.room.member", ALICE)->depth, ==, room->depth);
    }
}

/* rooms/v1: "accept values as floats", "as strings". */
static void
test_levels_in_odd_numbers(void)
{
    static const struct {
        const char *value;
        gboolean level;
        gint64 expected;
    } values[] = {
        {"50", TRUE, 50},
        {"50.57", TRUE, 50},
        {"-50.57", TRUE, -50},
        {"5.114698E4", TRUE, 51146},
        {"1e3", TRUE, 1000},
        {"0.9", TRUE, 0},
        {"-0", TRUE, 0},
        {"9007199254740993", TRUE, G_GINT64_CONSTANT(9007199254740993)},
        {"9223372036854775808", TRUE, G_MAXINT64},
        {"-99999999999999999999", TRUE, G_MININT64},
        {"1e300", TRUE, G_MAXINT64},
        {"-1e300", TRUE, G_MININT64},
        {"'000100'", TRUE, 100},
        {"' +100 '", TRUE, 100},
        {"'99999999999999999999'", TRUE, G_MAXINT64},
        {"'1.5'", FALSE, 0},
        {"''", FALSE, 0},
        {"null", FALSE, 0},
        {"true", FALSE, 0},
    };
    for (guint version = 1; version <= 5; version++)
        for (guint i = 0; i < G_N_ELEMENTS(values); i++) {
            g_autoptr(TestRoom) room = test_room_new_of(version_ids[version - 1], ALICE, "");
            g_autofree char *content =
                g_strdup_printf("{'users':{'@bob:one.example':%s}}", values[i].value);
            test_room_member(room, ALICE, ALICE, "join");
            g_autoptr(Pdu) pdu = test_room_make(room, ALICE, "m.room.power_levels", "", content);
            PowerLevels levels = {room->create, pdu};
            g_assert_cmpint(power_of_user(&levels, BOB).level, ==, values[i].expected);
            check_verdict(room, content, pdu, values[i].level ? NULL : "rule 10.3");
        }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/versions/rules", test_every_rule_in_every_version);
    g_test_add_func("/versions/create", test_create_events);
    g_test_add_func("/versions/creator", test_who_the_creator_is);
    g_test_add_func("/versions/create-in-auth-events", test_the_create_event_among_auth_events);
    g_test_add_func("/versions/redaction", test_what_redaction_keeps);
    g_test_add_func("/versions/redaction-create", test_redacted_create_events);
    g_test_add_func("/versions/redaction-legacy", test_old_members_of_the_event_itself);
    g_test_add_func("/versions/redacts", test_where_redacts_stands);
    g_test_add_func("/versions/redactions-carried-out", test_redactions_carried_out);
    g_test_add_func("/versions/event-ids", test_event_ids);
    g_test_add_func("/versions/references", test_references);
    g_test_add_func("/versions/chosen-event-ids", test_chosen_event_ids);
    g_test_add_func("/versions/signers", test_required_signers);
    g_test_add_func("/versions/odd-numbers", test_odd_numbers_up_to_version_5);
    g_test_add_func("/versions/depth", test_depth_stays_at_its_end);
    g_test_add_func("/versions/odd-levels", test_levels_in_odd_numbers);
    return g_test_run();
}
