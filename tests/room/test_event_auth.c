#include "federation/room/event_auth.h"

#include <sodium.h>
#include <string.h>

#include "identity/unpadded_base64.h"
#include "tests/support/room_events.h"

/* An event in one line: "sender|type|state key|content"; state key "-": not a state event. */
typedef struct {
    const char *sender;
    const char *type;
    const char *state_key;
    const char *content;
    char **parts;
} Line;

static Line
line_read(const char *text)
{
    char **parts = g_strsplit(text, "|", 4);
    g_assert_cmpuint(g_strv_length(parts), ==, 4);
    return (Line){parts[0], parts[1], strcmp(parts[2], "-") == 0 ? NULL : parts[2], parts[3],
                  parts};
}

static void
send_line(TestRoom *room, const char *text)
{
    Line line = line_read(text);
    test_room_send(room, line.sender, line.type, line.state_key, line.content);
    g_strfreev(line.parts);
}

static Pdu *
make_line(TestRoom *room, const char *text)
{
    Line line = line_read(text);
    Pdu *pdu = test_room_make(room, line.sender, line.type, line.state_key, line.content);
    g_strfreev(line.parts);
    return pdu;
}

/* @reason NULL: allowed.  Otherwise the refusal must begin with it. */
static void
check_verdict(const char *what, const Pdu *pdu, const Pdu *create, const GPtrArray *state,
              const char *reason)
{
    const char *given = NULL;
    AuthVerdict verdict = event_auth_check(pdu, create, state, &given);
    if (reason == NULL && verdict == AUTH_REJECT)
        g_error("%s: refused by %s", what, given);
    if (reason != NULL && verdict == AUTH_ALLOW)
        g_error("%s: allowed, but %s", what, reason);
    if (reason != NULL && !g_str_has_prefix(given, reason))
        g_error("%s: refused by %s, not by %s", what, given, reason);
    if (reason == NULL)
        g_assert_null(given);
}

#define SETUP_MAX 8

typedef struct {
    const char *setup[SETUP_MAX]; /* after the create event and its maker's join */
    const char *event;
    const char *reason;
} Case;

/* @alice made the room. In the state before each event: */
#define PUBLIC "@alice:one.example|m.room.join_rules||{'join_rule':'public'}"
#define INVITE "@alice:one.example|m.room.join_rules||{'join_rule':'invite'}"
#define KNOCK "@alice:one.example|m.room.join_rules||{'join_rule':'knock'}"
#define RESTRICTED "@alice:one.example|m.room.join_rules||{'join_rule':'restricted'}"
#define KNOCK_RESTRICTED "@alice:one.example|m.room.join_rules||{'join_rule':'knock_restricted'}"
#define BOB_JOINED "@bob:one.example|m.room.member|@bob:one.example|{'membership':'join'}"
#define BOB_INVITED "@alice:one.example|m.room.member|@bob:one.example|{'membership':'invite'}"
#define BOB_LEFT "@bob:one.example|m.room.member|@bob:one.example|{'membership':'leave'}"
#define BOB_BANNED "@alice:one.example|m.room.member|@bob:one.example|{'membership':'ban'}"
#define BOB_KNOCKED "@bob:one.example|m.room.member|@bob:one.example|{'membership':'knock'}"
#define CAROL_JOINED "@carol:two.example|m.room.member|@carol:two.example|{'membership':'join'}"
#define CAROL_BANNED "@alice:one.example|m.room.member|@carol:two.example|{'membership':'ban'}"
#define LEVELS(levels) "@alice:one.example|m.room.power_levels||{" levels "}"
#define BOB_50 LEVELS("'users':{'@bob:one.example':50}")
#define BOTH_50 LEVELS("'users':{'@bob:one.example':50,'@carol:two.example':50}")

static const Case cases[] = {
    /* 5.1 */
    {{0}, "@bob:one.example|m.room.member|-|{'membership':'join'}", "rule 5.1"},
    {{0}, "@bob:one.example|m.room.member|@bob:one.example|{}", "rule 5.1"},
    {{0}, "@bob:one.example|m.room.member|@bob:one.example|{'membership':1}", "rule 5.1"},
    /* 5.2 */
    {{PUBLIC},
     "@bob:one.example|m.room.member|@bob:one.example|"
     "{'membership':'join','join_authorised_via_users_server':'@alice:one.example'}",
     NULL},
    {{PUBLIC},
     "@bob:one.example|m.room.member|@bob:one.example|"
     "{'membership':'join','join_authorised_via_users_server':'@carol:two.example'}",
     "rule 5.2"},
    {{PUBLIC},
     "@bob:one.example|m.room.member|@bob:one.example|"
     "{'membership':'join','join_authorised_via_users_server':['@alice:one.example']}",
     "rule 5.2"},
    {{PUBLIC},
     "@bob:one.example|m.room.member|@bob:one.example|"
     "{'membership':'join','join_authorised_via_users_server':'alice'}",
     "rule 5.2"},
    /* 5.3.2, 5.3.3 */
    {{PUBLIC},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'join'}",
     "rule 5.3.2"},
    {{PUBLIC, BOB_BANNED}, BOB_JOINED, "rule 5.3.3"},
    /* 5.3.4 */
    {{INVITE}, BOB_JOINED, "rule 5.3.4"},
    {{0}, BOB_JOINED, "rule 5.3.4"}, /* no join rules: by invitation */
    {{INVITE, BOB_INVITED}, BOB_JOINED, NULL},
    {{INVITE, BOB_INVITED, BOB_JOINED},
     "@bob:one.example|m.room.member|@bob:one.example|{'membership':'join','displayname':'B'}",
     NULL},
    {{KNOCK}, BOB_JOINED, "rule 5.3.4"},
    {{KNOCK, BOB_KNOCKED}, BOB_JOINED, "rule 5.3.4"},
    {{KNOCK, BOB_KNOCKED, BOB_INVITED}, BOB_JOINED, NULL},
    {{INVITE, BOB_INVITED, BOB_LEFT}, BOB_JOINED, "rule 5.3.4"},
    /* 5.3.5 */
    {{RESTRICTED}, BOB_JOINED, "rule 5.3.5.2"},
    {{KNOCK_RESTRICTED}, BOB_JOINED, "rule 5.3.5.2"},
    {{RESTRICTED, BOB_INVITED}, BOB_JOINED, NULL},
    {{KNOCK_RESTRICTED, BOB_INVITED}, BOB_JOINED, NULL},
    {{RESTRICTED},
     "@bob:one.example|m.room.member|@bob:one.example|"
     "{'membership':'join','join_authorised_via_users_server':'@alice:one.example'}",
     NULL},
    {{RESTRICTED},
     "@bob:one.example|m.room.member|@bob:one.example|"
     "{'membership':'join','join_authorised_via_users_server':'@carol:one.example'}",
     "rule 5.3.5.2"}, /* not in the room */
    {{PUBLIC, CAROL_JOINED, LEVELS("'invite':1"), RESTRICTED},
     "@dan:two.example|m.room.member|@dan:two.example|"
     "{'membership':'join','join_authorised_via_users_server':'@carol:two.example'}",
     "rule 5.3.5.2"}, /* may not invite */
    {{PUBLIC, CAROL_JOINED, LEVELS("'invite':0"), RESTRICTED},
     "@dan:two.example|m.room.member|@dan:two.example|"
     "{'membership':'join','join_authorised_via_users_server':'@carol:two.example'}",
     NULL},
    /* 5.3.6, 5.3.7 */
    {{PUBLIC}, BOB_JOINED, NULL},
    {{"@alice:one.example|m.room.join_rules||{'join_rule':'private'}"}, BOB_JOINED, "rule 5.3.7"},
    {{"@alice:one.example|m.room.join_rules||{'join_rule':'private'}", BOB_INVITED},
     BOB_JOINED,
     "rule 5.3.7"},
    {{"@alice:one.example|m.room.join_rules||{'join_rule':5}"}, BOB_JOINED, "rule 5.3.7"},
    /* 5.4.2 to 5.4.5 */
    {{PUBLIC},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'invite'}",
     "rule 5.4.2"},
    {{PUBLIC, BOB_JOINED, CAROL_JOINED},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'invite'}",
     "rule 5.4.3"},
    {{PUBLIC, BOB_JOINED, CAROL_BANNED},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'invite'}",
     "rule 5.4.3"},
    {{PUBLIC, BOB_JOINED},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'invite'}",
     NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'invite':1")},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'invite'}",
     "rule 5.4.5"},
    {{PUBLIC, BOB_JOINED, LEVELS("'invite':50,'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'invite'}",
     NULL},
    /* 5.5.1 */
    {{PUBLIC}, BOB_LEFT, "rule 5.5.1"},
    {{PUBLIC, BOB_JOINED}, BOB_LEFT, NULL},
    {{INVITE, BOB_INVITED}, BOB_LEFT, NULL},
    {{KNOCK, BOB_KNOCKED}, BOB_LEFT, NULL},
    {{PUBLIC, BOB_JOINED, BOB_LEFT}, BOB_LEFT, "rule 5.5.1"},
    {{BOB_BANNED}, BOB_LEFT, "rule 5.5.1"},
    /* 5.5.2 to 5.5.5: kicks, and bans lifted */
    {{PUBLIC, CAROL_JOINED, BOB_50},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'leave'}",
     "rule 5.5.2"},
    {{PUBLIC, CAROL_JOINED, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'leave'}",
     NULL},
    {{PUBLIC, CAROL_JOINED, BOB_JOINED},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'leave'}",
     "rule 5.5.5"},
    {{PUBLIC, CAROL_JOINED, BOB_JOINED, BOTH_50},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'leave'}",
     "rule 5.5.5"},
    {{PUBLIC, CAROL_JOINED, BOB_JOINED, LEVELS("'kick':51,'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'leave'}",
     "rule 5.5.5"},
    {{PUBLIC, BOB_JOINED, CAROL_BANNED, BOB_50},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'leave'}",
     NULL},
    {{PUBLIC, BOB_JOINED, CAROL_BANNED, LEVELS("'ban':51,'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'leave'}",
     "rule 5.5.3"},
    {{PUBLIC, BOB_JOINED, CAROL_BANNED,
      LEVELS("'ban':50,'kick':51,'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'leave'}",
     "rule 5.5.5"},
    {{PUBLIC, BOB_JOINED, LEVELS("'users':{'@bob:one.example':9007199254740991}")},
     "@bob:one.example|m.room.member|@alice:one.example|{'membership':'leave'}",
     "rule 5.5.5"}, /* nobody stands above a creator */
    /* 5.6 */
    {{PUBLIC, BOB_50},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'ban'}",
     "rule 5.6.1"},
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'ban'}",
     NULL},
    {{PUBLIC, BOB_JOINED},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'ban'}",
     "rule 5.6.3"},
    {{PUBLIC, BOB_JOINED, BOTH_50},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'ban'}",
     "rule 5.6.3"},
    {{PUBLIC, BOB_JOINED, LEVELS("'ban':51,'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'ban'}",
     "rule 5.6.3"},
    {{PUBLIC, BOB_JOINED, LEVELS("'users':{'@bob:one.example':9007199254740991}")},
     "@bob:one.example|m.room.member|@alice:one.example|{'membership':'ban'}",
     "rule 5.6.3"},
    /* 5.7, 5.8 */
    {{PUBLIC}, BOB_KNOCKED, "rule 5.7.1"},
    {{INVITE}, BOB_KNOCKED, "rule 5.7.1"},
    {{RESTRICTED}, BOB_KNOCKED, "rule 5.7.1"},
    {{KNOCK}, BOB_KNOCKED, NULL},
    {{KNOCK_RESTRICTED}, BOB_KNOCKED, NULL},
    {{KNOCK, BOB_KNOCKED}, BOB_KNOCKED, NULL},
    {{KNOCK},
     "@bob:one.example|m.room.member|@carol:two.example|{'membership':'knock'}",
     "rule 5.7.2"},
    {{KNOCK, BOB_BANNED}, BOB_KNOCKED, "rule 5.7.4"},
    {{KNOCK, BOB_INVITED}, BOB_KNOCKED, "rule 5.7.4"},
    {{KNOCK, BOB_INVITED, BOB_JOINED}, BOB_KNOCKED, "rule 5.7.4"},
    {{PUBLIC},
     "@bob:one.example|m.room.member|@bob:one.example|{'membership':'visit'}",
     "rule 5.8"},
    {{PUBLIC}, "@bob:one.example|m.room.member|@bob:one.example|{'membership':''}", "rule 5.8"},
    /* 6 */
    {{PUBLIC}, "@bob:one.example|m.room.message|-|{}", "rule 6"},
    {{PUBLIC, BOB_JOINED}, "@bob:one.example|m.room.message|-|{}", NULL},
    {{PUBLIC, BOB_JOINED, BOB_LEFT}, "@bob:one.example|m.room.message|-|{}", "rule 6"},
    {{BOB_INVITED}, "@bob:one.example|m.room.message|-|{}", "rule 6"},
    /* 7: the level to send state does not matter for third party invites */
    {{PUBLIC, BOB_JOINED}, "@bob:one.example|m.room.third_party_invite|token|{}", NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'invite':1")},
     "@bob:one.example|m.room.third_party_invite|token|{}",
     "rule 7"},
    /* 8 */
    {{PUBLIC, BOB_JOINED}, "@bob:one.example|m.room.name||{}", "rule 8"}, /* no levels: 50 */
    {{PUBLIC, BOB_JOINED, BOB_50}, "@bob:one.example|m.room.name||{}", NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'users_default':49")},
     "@bob:one.example|m.room.name||{}",
     "rule 8"},
    {{PUBLIC, BOB_JOINED, LEVELS("'users_default':50")}, "@bob:one.example|m.room.name||{}", NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'state_default':0")}, "@bob:one.example|m.room.name||{}", NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'state_default':0,'events':{'m.room.name':1}")},
     "@bob:one.example|m.room.name||{}",
     "rule 8"},
    {{PUBLIC, BOB_JOINED, LEVELS("'events_default':1")},
     "@bob:one.example|m.room.message|-|{}",
     "rule 8"},
    {{PUBLIC, BOB_JOINED, LEVELS("'events_default':1,'events':{'m.room.message':0}")},
     "@bob:one.example|m.room.message|-|{}",
     NULL},
    {{PUBLIC, BOB_JOINED, LEVELS("'events':{'m.room.redaction':1}")},
     "@bob:one.example|m.room.redaction|-|{'redacts':'$x'}",
     "rule 8"},
    {{PUBLIC, BOB_JOINED}, "@bob:one.example|m.room.redaction|-|{'redacts':'$x'}", NULL},
    {{PUBLIC, BOB_JOINED}, "@bob:one.example|m.room.power_levels||{}", "rule 8"},
    {{PUBLIC, BOB_JOINED}, "@bob:one.example|m.room.join_rules||{}", "rule 8"},
    /* 9 */
    {{PUBLIC, BOB_JOINED, BOB_50}, "@bob:one.example|org.example|@bob:one.example|{}", NULL},
    {{PUBLIC, BOB_JOINED, BOB_50}, "@bob:one.example|org.example|@carol:two.example|{}", "rule 9"},
    {{PUBLIC, BOB_JOINED, BOB_50}, "@bob:one.example|org.example|@|{}", "rule 9"},
    {{0}, "@alice:one.example|org.example|@bob:one.example|{}", "rule 9"}, /* nor a creator */
    {{PUBLIC, BOB_JOINED, BOB_50}, "@bob:one.example|org.example|carol|{}", NULL},
    /* 10.1 */
    {{0}, LEVELS("'ban':'50'"), "rule 10.1"},
    {{0}, LEVELS("'users_default':null"), "rule 10.1"},
    {{0}, LEVELS("'events_default':[]"), "rule 10.1"},
    {{0}, LEVELS("'state_default':{}"), "rule 10.1"},
    {{0}, LEVELS("'redact':true"), "rule 10.1"},
    {{0}, LEVELS("'kick':'x'"), "rule 10.1"},
    {{0}, LEVELS("'invite':'0'"), "rule 10.1"},
    {{0}, LEVELS("'ban':-5,'invite':0,'kick':9007199254740991"), NULL},
    /* 10.2 */
    {{0}, LEVELS("'events':[]"), "rule 10.2"},
    {{0}, LEVELS("'events':{'a':'1'}"), "rule 10.2"},
    {{0}, LEVELS("'notifications':5"), "rule 10.2"},
    {{0}, LEVELS("'notifications':{'room':'50'}"), "rule 10.2"},
    {{0}, LEVELS("'events':{'a':1},'notifications':{'room':1}"), NULL},
    /* 10.3 */
    {{0}, LEVELS("'users':[]"), "rule 10.3"},
    {{0}, LEVELS("'users':'@bob:one.example'"), "rule 10.3"},
    {{0}, LEVELS("'users':{'@bob:one.example':'5'}"), "rule 10.3"},
    {{0}, LEVELS("'users':{'bob':5}"), "rule 10.3"},
    {{0}, LEVELS("'users':{'@bob:':5}"), "rule 10.3"},
    {{0}, LEVELS("'users':{'@bob:one.example':5}"), NULL},
    /* 10.4 */
    {{0}, LEVELS("'users':{'@alice:one.example':100}"), "rule 10.4"},
    {{0}, LEVELS("'users':{'@alice:one.example':0,'@bob:one.example':5}"), "rule 10.4"},
    /* 10.5 */
    {{0}, LEVELS(""), NULL},
    /* 10.6: Bob has 50 */
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.power_levels||{'ban':50,'users':{'@bob:one.example':50}}",
     NULL},
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.power_levels||{'ban':51,'users':{'@bob:one.example':50}}",
     "rule 10.6.2"},
    {{PUBLIC, BOB_JOINED, LEVELS("'ban':51,'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.power_levels||{'ban':50,'users':{'@bob:one.example':50}}",
     "rule 10.6.1"},
    {{PUBLIC, BOB_JOINED, LEVELS("'ban':51,'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.power_levels||{'users':{'@bob:one.example':50}}",
     "rule 10.6.1"},
    {{PUBLIC, BOB_JOINED, LEVELS("'ban':51,'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.power_levels||{'ban':51,'users':{'@bob:one.example':50},'x':9}",
     NULL},
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.power_levels||"
     "{'users_default':51,'users':{'@bob:one.example':50}}",
     "rule 10.6.2"},
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.power_levels||"
     "{'state_default':51,'users':{'@bob:one.example':50}}",
     "rule 10.6.2"},
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.power_levels||{'invite':50,'kick':50,'redact':50,'events_default':"
     "50,'state_default':50,'users_default':50,'users':{'@bob:one.example':50}}",
     NULL},
    /* 10.7, 10.8 */
    {{PUBLIC, BOB_JOINED, LEVELS("'events':{'a':51},'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.power_levels||{'events':{'a':50},'users':{'@bob:one.example':50}}",
     "rule 10.7"},
    {{PUBLIC, BOB_JOINED, LEVELS("'events':{'a':51},'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.power_levels||{'users':{'@bob:one.example':50}}",
     "rule 10.7"},
    {{PUBLIC, BOB_JOINED, LEVELS("'notifications':{'room':51},'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.power_levels||"
     "{'notifications':{'room':1},'users':{'@bob:one.example':50}}",
     "rule 10.7"},
    {{PUBLIC, BOB_JOINED, LEVELS("'events':{'a':51},'users':{'@bob:one.example':50}")},
     "@bob:one.example|m.room.power_levels||"
     "{'events':{'0':1,'a':51,'b':50},'users':{'@bob:one.example':50}}",
     NULL},
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.power_levels||{'events':{'a':51},'users':{'@bob:one.example':50}}",
     "rule 10.8"},
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.power_levels||"
     "{'notifications':{'room':51},'users':{'@bob:one.example':50}}",
     "rule 10.8"},
    /* 10.9 */
    {{PUBLIC, BOB_JOINED, BOTH_50},
     "@bob:one.example|m.room.power_levels||{'users':{'@bob:one.example':50}}",
     "rule 10.9"},
    {{PUBLIC, BOB_JOINED, BOTH_50},
     "@bob:one.example|m.room.power_levels||"
     "{'users':{'@bob:one.example':50,'@carol:two.example':49}}",
     "rule 10.9"},
    {{PUBLIC, BOB_JOINED, LEVELS("'users':{'@bob:one.example':50,'@carol:two.example':49}")},
     "@bob:one.example|m.room.power_levels||{'users':{'@bob:one.example':50}}",
     NULL},
    {{PUBLIC, BOB_JOINED, BOTH_50},
     "@bob:one.example|m.room.power_levels||"
     "{'users':{'@bob:one.example':0,'@carol:two.example':50}}",
     NULL}, /* one's own may always go down */
    {{PUBLIC, BOB_JOINED, BOTH_50}, LEVELS(""), NULL},
    /* 10.10 */
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.power_levels||"
     "{'users':{'@bob:one.example':50,'@dan:two.example':50}}",
     NULL},
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.power_levels||"
     "{'users':{'@bob:one.example':50,'@dan:two.example':51}}",
     "rule 10.10"},
    {{PUBLIC, BOB_JOINED, BOB_50},
     "@bob:one.example|m.room.power_levels||{'users':{'@bob:one.example':51}}",
     "rule 10.10"},
    {{0}, LEVELS("'users':{'@bob:one.example':9007199254740991}"), NULL},
    /* 11 */
    {{0}, "@alice:one.example|anything.at.all|key|{}", NULL},
};

static void
test_every_rule_allows_and_refuses(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(TestRoom) room = test_room_new(ALICE, "");
        test_room_member(room, ALICE, ALICE, "join");
        for (guint j = 0; j < SETUP_MAX && cases[i].setup[j] != NULL; j++) {
            Line line = line_read(cases[i].setup[j]);
            g_autoptr(Pdu) pdu = make_line(room, cases[i].setup[j]);
            if (!g_str_has_prefix(line.type, "m.room.join_rules")) /* of odd rules too */
                check_verdict(cases[i].setup[j], pdu, NULL, room->state, NULL);
            test_room_apply(room, pdu);
            g_strfreev(line.parts);
        }
        g_autoptr(Pdu) pdu = make_line(room, cases[i].event);
        check_verdict(cases[i].event, pdu, room->create, room->state, cases[i].reason);
        check_verdict(cases[i].event, pdu, NULL, room->state, cases[i].reason);

        /* Its own auth events say the same. */
        const char *reason = NULL;
        g_autoptr(GPtrArray) auth_events = g_ptr_array_new();
        for (guint j = 0; j < room->state->len; j++)
            if (g_strv_contains(pdu->auth_events, ((Pdu *)room->state->pdata[j])->event_id))
                g_ptr_array_add(auth_events, room->state->pdata[j]);
        g_assert_cmpuint(auth_events->len, ==, pdu->auth_event_count);
        AuthVerdict verdict = event_auth_check_own(pdu, room->create, auth_events, NULL, &reason);
        g_assert_cmpint(verdict, ==, cases[i].reason == NULL ? AUTH_ALLOW : AUTH_REJECT);
    }
}

static void
test_create_events(void)
{
    static const struct {
        const char *content;
        const char *reason;
    } creates[] = {
        {"{'room_version':'12'}", NULL},
        {"{}", "rule 1.3"}, /* version 1 */
        {"{'room_version':'11'}", "rule 1.3"},
        {"{'room_version':'99'}", "rule 1.3"},
        {"{'room_version':12}", "rule 1.3"},
        {"{'room_version':'12','additional_creators':[]}", NULL},
        {"{'room_version':'12','additional_creators':['@bob:one.example']}", NULL},
        {"{'room_version':'12','additional_creators':'@bob:one.example'}", "rule 1.4"},
        {"{'room_version':'12','additional_creators':{}}", "rule 1.4"},
        {"{'room_version':'12','additional_creators':null}", "rule 1.4"},
        {"{'room_version':'12','additional_creators':['bob']}", "rule 1.4"},
        {"{'room_version':'12','additional_creators':['@bob:one.example',7]}", "rule 1.4"},
    };
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    for (guint i = 0; i < G_N_ELEMENTS(creates); i++) {
        g_autoptr(cJSON) content = test_json(creates[i].content);
        PduTemplate template = {
            .type = "m.room.create", .state_key = "", .sender = ALICE, .content = content};
        PduSigner signer = test_room_signer(room, ALICE);
        g_autoptr(Pdu) pdu = pdu_build(room->version, &template, &signer, NULL);
        check_verdict(creates[i].content, pdu, NULL, NULL, creates[i].reason);

        const char *prev_events[] = {room->create->event_id, NULL};
        template.prev_events = prev_events;
        g_autoptr(Pdu) second = pdu_build(room->version, &template, &signer, NULL);
        check_verdict(creates[i].content, second, room->create, room->state, "rule 1.1");
    }
}

static void
test_the_creator_joins_first(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "'additional_creators':['@bob:one.example'],");
    const char *after_create[] = {room->create->event_id, NULL};
    const char *nothing[] = {NULL};
    const char *content = "{'membership':'join'}";
    g_autoptr(Pdu) alice =
        test_room_make_with(room, ALICE, "m.room.member", ALICE, content, after_create, nothing);
    check_verdict("creator", alice, NULL, room->state, NULL);
    g_autoptr(Pdu) bob =
        test_room_make_with(room, BOB, "m.room.member", BOB, content, after_create, nothing);
    check_verdict("additional creator", bob, NULL, room->state, "rule 5.3.4");
    test_room_apply(room, alice);
    const char *later[] = {alice->event_id, room->create->event_id, NULL};
    g_autoptr(Pdu) again =
        test_room_make_with(room, CAROL, "m.room.member", ALICE, content, later, nothing);
    check_verdict("not only the create event", again, NULL, room->state, "rule 5.3.2");
}

static void
test_creators_stand_above_all(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "'additional_creators':['@bob:one.example'],");
    test_room_member(room, ALICE, ALICE, "join");
    send_line(room, PUBLIC);
    test_room_member(room, BOB, BOB, "join");
    test_room_member(room, CAROL, CAROL, "join");
    send_line(room, LEVELS("'users':{'@carol:two.example':9007199254740991},'state_default':"
                           "9007199254740991"));
    PowerLevels levels = {room->create, test_room_state(room, "m.room.power_levels", "")};
    g_assert_true(power_of_user(&levels, ALICE).infinite);
    g_assert_true(power_of_user(&levels, BOB).infinite);
    g_assert_false(power_of_user(&levels, CAROL).infinite);
    g_assert_cmpint(power_compare(power_of_user(&levels, ALICE), power_of_user(&levels, CAROL)), ==,
                    1);
    g_assert_cmpint(power_compare(power_of_user(&levels, ALICE), power_of_user(&levels, BOB)), ==,
                    0);

    g_autoptr(Pdu) kick =
        test_room_make(room, BOB, "m.room.member", CAROL, "{'membership':'leave'}");
    check_verdict("a creator kicks", kick, NULL, room->state, NULL);
    g_autoptr(Pdu) peers =
        test_room_make(room, BOB, "m.room.member", ALICE, "{'membership':'leave'}");
    check_verdict("a creator kicks a creator", peers, NULL, room->state, "rule 5.5.5");
    g_autoptr(Pdu) demote =
        test_room_make(room, BOB, "m.room.power_levels", "", "{'users':{'@carol:two.example':1}}");
    check_verdict("a creator demotes the highest", demote, NULL, room->state, NULL);
    g_autoptr(Pdu) listed =
        test_room_make(room, BOB, "m.room.power_levels", "", "{'users':{'@bob:one.example':1}}");
    check_verdict("an additional creator listed", listed, NULL, room->state, "rule 10.4");
}

static void
test_rooms_that_do_not_federate(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "'m.federate':false,");
    test_room_member(room, ALICE, ALICE, "join");
    send_line(room, PUBLIC);
    g_autoptr(Pdu) bob = make_line(room, BOB_JOINED);
    check_verdict("same server", bob, NULL, room->state, NULL);
    g_autoptr(Pdu) carol = make_line(room, CAROL_JOINED);
    check_verdict("other server", carol, NULL, room->state, "rule 4");
}

static void
test_the_room_must_be_that_of_the_create_event(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_autoptr(TestRoom) other = test_room_new(ALICE, "'other':true,");
    test_room_member(room, ALICE, ALICE, "join");
    g_autoptr(Pdu) pdu = test_room_make(room, ALICE, "m.room.message", NULL, "{}");
    g_autoptr(GPtrArray) nothing = g_ptr_array_new();
    check_verdict("own", pdu, room->create, room->state, NULL);
    check_verdict("another create event", pdu, other->create, nothing, "rule 2");
    check_verdict("the state's own counts", pdu, other->create, room->state, NULL);
    check_verdict("no create event", pdu, NULL, nothing, "rule 2");
    check_verdict("no state", pdu, room->create, NULL, "rule 6");
}

static void
check_own(const Pdu *pdu, const Pdu *create, const Pdu *first, const Pdu *second,
          const char *const *rejected, const char *expected)
{
    const char *reason = NULL;
    g_autoptr(GPtrArray) auth_events = g_ptr_array_new();
    g_ptr_array_add(auth_events, (gpointer)first);
    if (second != NULL)
        g_ptr_array_add(auth_events, (gpointer)second);
    AuthVerdict verdict = event_auth_check_own(pdu, create, auth_events, rejected, &reason);
    g_assert_cmpint(verdict, ==, expected == NULL ? AUTH_ALLOW : AUTH_REJECT);
    if (expected != NULL && !g_str_has_prefix(reason, expected))
        g_error("%s, not %s", reason, expected);
}

static void
test_auth_events_must_be_the_selected_ones(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    g_autoptr(TestRoom) other = test_room_new(ALICE, "'other':true,");
    const Pdu *join = test_room_member(room, ALICE, ALICE, "join");
    const Pdu *other_join = test_room_member(other, ALICE, ALICE, "join");
    g_autoptr(Pdu) rejoin = test_room_make(room, ALICE, "m.room.member", ALICE,
                                           "{'membership':'join','displayname':'A'}");
    send_line(room, PUBLIC);
    const Pdu *rules = test_room_state(room, "m.room.join_rules", "");
    g_autoptr(Pdu) message = test_room_make(room, ALICE, "m.room.message", NULL, "{}");
    g_autoptr(Pdu) no_state = test_room_make(room, ALICE, "m.room.member", NULL, "{}");
    const char *rejected[] = {"$other", join->event_id, NULL};
    const char *not_this[] = {"$other", NULL};

    check_own(message, room->create, join, NULL, NULL, NULL);
    check_own(message, room->create, join, NULL, not_this, NULL);
    check_own(message, room->create, join, rejoin, NULL, "rule 3.1");
    check_own(message, room->create, join, rules, NULL, "rule 3.2");
    check_own(message, room->create, join, room->create, NULL, "rule 3.2");
    check_own(message, room->create, join, message, NULL, "rule 3.2");
    check_own(message, room->create, join, no_state, NULL, "rule 3.2");
    check_own(message, room->create, join, NULL, rejected, "rule 3.3");
    check_own(message, room->create, other_join, NULL, NULL, "rule 3.5");
    check_own(message, other->create, join, NULL, NULL, "rule 2");
}

static void
check_keys(const char *type, const char *state_key, const char *content, const char *expected)
{
    EventAuthKeys keys;
    g_autoptr(cJSON) tree = test_json(content);
    g_autoptr(GString) text = g_string_new(NULL);
    event_auth_keys(room_version_default(), type, state_key, ALICE, tree, &keys);
    for (guint i = 0; i < keys.count; i++)
        g_string_append_printf(text, "%s%s/%s", i > 0 ? " " : "", keys.keys[i].type + 7,
                               keys.keys[i].state_key);
    g_assert_cmpstr(text->str, ==, expected);
}

static void
test_selection_of_auth_events(void)
{
    check_keys("m.room.create", "", "{}", "");
    check_keys("m.room.message", NULL, "{}", "power_levels/ member/@alice:one.example");
    check_keys("m.room.member", ALICE, "{'membership':'leave'}",
               "power_levels/ member/@alice:one.example");
    check_keys("m.room.member", BOB, "{'membership':'ban'}",
               "power_levels/ member/@alice:one.example member/@bob:one.example");
    check_keys("m.room.member", BOB, "{'membership':'invite'}",
               "power_levels/ member/@alice:one.example member/@bob:one.example join_rules/");
    check_keys("m.room.member", ALICE, "{'membership':'knock'}",
               "power_levels/ member/@alice:one.example join_rules/");
    check_keys("m.room.member", ALICE,
               "{'membership':'join','join_authorised_via_users_server':'@carol:two.example'}",
               "power_levels/ member/@alice:one.example join_rules/ member/@carol:two.example");
    check_keys("m.room.member", BOB,
               "{'membership':'invite','third_party_invite':{'signed':{'token':'t'}}}",
               "power_levels/ member/@alice:one.example member/@bob:one.example join_rules/ "
               "third_party_invite/t");
    check_keys("m.room.member", BOB, "{'membership':5}",
               "power_levels/ member/@alice:one.example member/@bob:one.example");
    EventAuthKeys keys;
    event_auth_keys(room_version_find("11"), "m.room.name", "", ALICE, NULL, &keys);
    g_assert_cmpuint(keys.count, ==, 3);
    g_assert_cmpstr(keys.keys[0].type, ==, "m.room.create");
}

/* ---- invites through a third party ---- */

typedef struct {
    TestRoom *room;
    guint8 public_key[PUBLIC_KEY_BYTES];
    guint8 secret_key[crypto_sign_SECRETKEYBYTES];
    char *public_text;
} ThirdParty;

static char *
signed_proof(ThirdParty *party, const char *fields)
{
    g_autoptr(cJSON) proof = test_json(fields);
    g_autoptr(GBytes) message = signed_json_bytes(proof, NULL);
    guint8 signature[crypto_sign_BYTES];
    crypto_sign_detached(signature, NULL, g_bytes_get_data(message, NULL),
                         g_bytes_get_size(message), party->secret_key);
    g_autofree char *text = unpadded_base64_encode(signature, sizeof signature, BASE64_STANDARD);
    signed_json_add_signature(proof, "identity.example", "ed25519:0", text, NULL);
    g_autoptr(GBytes) json = json_canonical(proof, NULL);
    return g_strdelimit(g_strndup(g_bytes_get_data(json, NULL), g_bytes_get_size(json)), "\"",
                        '\'');
}

static void
check_third_party(ThirdParty *party, const char *sender, const char *third_party,
                  const char *reason)
{
    g_autofree char *content =
        g_strdup_printf("{'membership':'invite','third_party_invite':%s}", third_party);
    g_autoptr(Pdu) pdu = test_room_make(party->room, sender, "m.room.member", CAROL, content);
    check_verdict(third_party, pdu, NULL, party->room->state, reason);
}

static void
test_invites_through_a_third_party(void)
{
    ThirdParty party = {.room = test_room_new(ALICE, "")};
    TestRoom *room = party.room;
    crypto_sign_keypair(party.public_key, party.secret_key);
    party.public_text =
        unpadded_base64_encode(party.public_key, sizeof party.public_key, BASE64_STANDARD);
    g_autofree char *url_safe =
        unpadded_base64_encode(party.public_key, sizeof party.public_key, BASE64_URL_SAFE);

    test_room_member(room, ALICE, ALICE, "join");
    send_line(room, PUBLIC);
    test_room_member(room, BOB, BOB, "join");
    g_autofree char *single = g_strdup_printf("{'public_key':'%s'}", party.public_text);
    g_autofree char *list = g_strdup_printf(
        "{'public_key':'AAAA','public_keys':[7,{'public_key':null},{'public_key':'%s'}]}",
        url_safe);
    test_room_send(room, ALICE, "m.room.third_party_invite", "single", single);
    test_room_send(room, ALICE, "m.room.third_party_invite", "list", list);
    test_room_send(room, ALICE, "m.room.third_party_invite", "empty", "{}");

    g_autofree char *good = signed_proof(&party, "{'mxid':'@carol:two.example','token':'single'}");
    g_autofree char *listed = signed_proof(&party, "{'mxid':'@carol:two.example','token':'list'}");
    g_autofree char *no_key = signed_proof(&party, "{'mxid':'@carol:two.example','token':'empty'}");
    g_autofree char *unknown =
        signed_proof(&party, "{'mxid':'@carol:two.example','token':'other'}");
    g_autofree char *other = signed_proof(&party, "{'mxid':'@bob:one.example','token':'single'}");
    struct {
        const char *sender;
        const char *proof; /* NULL: no "signed" */
        const char *reason;
    } proofs[] = {
        {ALICE, good, NULL},
        {ALICE, listed, NULL},
        {ALICE, no_key, "rule 5.4.1.8"},
        {ALICE, NULL, "rule 5.4.1.2"},
        {ALICE, "[]", "rule 5.4.1.2"},
        {ALICE, "{'mxid':'@carol:two.example'}", "rule 5.4.1.3"},
        {ALICE, "{'token':'single','mxid':1}", "rule 5.4.1.3"},
        {ALICE, other, "rule 5.4.1.4"},
        {ALICE, unknown, "rule 5.4.1.5"},
        {BOB, good, "rule 5.4.1.6"},
        {ALICE, "{'mxid':'@carol:two.example','token':'single'}", "rule 5.4.1.8"},
        {ALICE,
         "{'mxid':'@carol:two.example','token':'single','signatures':{'a':{'ed25519:0':'x','b':1},"
         "'c':5}}",
         "rule 5.4.1.8"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(proofs); i++) {
        g_autofree char *text = proofs[i].proof != NULL
                                    ? g_strdup_printf("{'signed':%s}", proofs[i].proof)
                                    : g_strdup("{}");
        check_third_party(&party, proofs[i].sender, text, proofs[i].reason);
    }
    check_third_party(&party, ALICE, "'no object'", "rule 5.4.1.2");

    /* Signed, then changed. */
    g_autofree char *more = g_strdup_printf("{'signed':{'extra':1,%s}", good + 1);
    check_third_party(&party, ALICE, more, "rule 5.4.1.8");

    g_autofree char *text = g_strdup_printf("{'signed':%s}", good);
    send_line(room, CAROL_BANNED);
    check_third_party(&party, ALICE, text, "rule 5.4.1.1");

    g_free(party.public_text);
    test_room_free(room);
}

/* A hostile list of keys and signatures costs a bounded number of verifications. */
static void
test_third_party_verifications_are_bounded(void)
{
    ThirdParty party = {.room = test_room_new(ALICE, "")};
    TestRoom *room = party.room;
    crypto_sign_keypair(party.public_key, party.secret_key);
    party.public_text =
        unpadded_base64_encode(party.public_key, sizeof party.public_key, BASE64_STANDARD);
    test_room_member(room, ALICE, ALICE, "join");

    for (guint over = 0; over <= 1; over++) {
        g_autoptr(GString) keys = g_string_new("{'public_keys':[");
        guint8 seed[crypto_sign_SEEDBYTES] = {1}, other[PUBLIC_KEY_BYTES];
        guint8 other_secret[crypto_sign_SECRETKEYBYTES];
        crypto_sign_seed_keypair(other, other_secret, seed);
        g_autofree char *other_text = unpadded_base64_encode(other, sizeof other, BASE64_STANDARD);
        for (guint i = 0; i < 255 + over; i++)
            g_string_append_printf(keys, "{'public_key':'%s'},", other_text);
        g_string_append_printf(keys, "{'public_key':'%s'}]}", party.public_text);
        test_room_send(room, ALICE, "m.room.third_party_invite", "token", keys->str);
        g_autofree char *proof =
            signed_proof(&party, "{'mxid':'@carol:two.example','token':'token'}");
        g_autofree char *text = g_strdup_printf("{'signed':%s}", proof);
        check_third_party(&party, ALICE, text, over == 0 ? NULL : "rule 5.4.1.8");
    }
    g_free(party.public_text);
    test_room_free(room);
}

static void
test_levels_for_servers(void)
{
    g_autoptr(TestRoom) room = test_room_new(ALICE, "");
    test_room_member(room, ALICE, ALICE, "join");
    PowerLevels none = {room->create, NULL};
    g_assert_cmpint(power_level_for(&none, POWER_ACTION_INVITE), ==, 0);
    g_assert_cmpint(power_level_for(&none, POWER_ACTION_KICK), ==, 50);
    g_assert_cmpint(power_level_for(&none, POWER_ACTION_BAN), ==, 50);
    g_assert_cmpint(power_level_for(&none, POWER_ACTION_REDACT), ==, 50);
    g_assert_cmpint(power_level_to_send(&none, "x", TRUE), ==, 50);
    g_assert_cmpint(power_level_to_send(&none, "x", FALSE), ==, 0);
    g_assert_cmpint(power_level_to_notify(&none, "room"), ==, 50);
    g_assert_cmpint(power_of_user(&none, BOB).level, ==, 0);

    send_line(room, LEVELS("'users':{'@bob:one.example':7},'users_default':3,'redact':7,"
                           "'notifications':{'room':9},'events':{'x':11}"));
    PowerLevels some = {room->create, test_room_state(room, "m.room.power_levels", "")};
    g_assert_cmpint(power_of_user(&some, BOB).level, ==, 7);
    g_assert_cmpint(power_of_user(&some, CAROL).level, ==, 3);
    g_assert_cmpint(power_level_to_notify(&some, "room"), ==, 9);
    g_assert_cmpint(power_level_to_notify(&some, "other"), ==, 50);
    g_assert_cmpint(power_level_to_send(&some, "x", TRUE), ==, 11);
    g_assert_cmpint(power_level_to_send(&some, "x", FALSE), ==, 11);

    g_autoptr(Pdu) of_alice = test_room_make(room, ALICE, "m.room.message", NULL, "{}");
    g_autoptr(Pdu) of_carol = test_room_make(room, CAROL, "m.room.message", NULL, "{}");
    g_autoptr(Pdu) by_bob = test_room_make(room, BOB, "m.room.redaction", NULL, "{}");
    g_autoptr(Pdu) by_carol = test_room_make(room, CAROL, "m.room.redaction", NULL, "{}");
    g_assert_true(power_may_redact(&some, by_bob, of_carol));
    g_assert_true(power_may_redact(&some, by_carol, of_carol));
    g_assert_false(power_may_redact(&some, by_carol, of_alice));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/event-auth/rules", test_every_rule_allows_and_refuses);
    g_test_add_func("/event-auth/create", test_create_events);
    g_test_add_func("/event-auth/first-join", test_the_creator_joins_first);
    g_test_add_func("/event-auth/creators", test_creators_stand_above_all);
    g_test_add_func("/event-auth/federate", test_rooms_that_do_not_federate);
    g_test_add_func("/event-auth/room", test_the_room_must_be_that_of_the_create_event);
    g_test_add_func("/event-auth/auth-events", test_auth_events_must_be_the_selected_ones);
    g_test_add_func("/event-auth/selection", test_selection_of_auth_events);
    g_test_add_func("/event-auth/third-party", test_invites_through_a_third_party);
    g_test_add_func("/event-auth/third-party-bounded", test_third_party_verifications_are_bounded);
    g_test_add_func("/event-auth/levels", test_levels_for_servers);
    return g_test_run();
}
