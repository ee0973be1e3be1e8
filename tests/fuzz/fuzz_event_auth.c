/* Fuzz target: lines "sender|type|state key|content" become events, one after the other, as far as
 * the rules allow.  No crash; and what the rules are for holds: nobody gains power above their own.
 */
#include <string.h>

#include "tests/support/room_events.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

#define EVENTS_MAX 40

/* @pdu was allowed: no user may have got more power than its sender had, unless they had it before.
 */
static void
check_power(const TestRoom *room, const Pdu *before, const Pdu *pdu)
{
    PowerLevels old_levels = {room->create, before};
    PowerLevels new_levels = {room->create, pdu};
    Power limit = power_of_user(&old_levels, pdu->sender);
    const cJSON *user;
    if (before == NULL)
        return; /* rule 10.5 */
    cJSON_ArrayForEach(user, json_get_object(pdu->content, "users"))
    {
        Power power = power_of_user(&new_levels, user->string);
        Power had = power_of_user(&old_levels, user->string);
        g_assert_true(power_compare(power, limit) <= 0 || power_compare(power, had) <= 0);
    }
}

static void
try_line(TestRoom *room, const char *line)
{
    g_auto(GStrv) parts = g_strsplit(line, "|", 4);
    if (g_strv_length(parts) != 4)
        return;
    g_autofree char *json = g_strdelimit(g_strdup(parts[3]), "'", '"');
    g_autoptr(cJSON) content = json_parse(json, strlen(json), &json_limits_event_lax, NULL);
    if (!cJSON_IsObject(content))
        return;

    const char *prev_events[] = {room->last, NULL};
    const char *auth_events[EVENT_AUTH_KEYS_MAX + 1] = {NULL};
    const char *state_key = strcmp(parts[2], "-") == 0 ? NULL : parts[2];
    g_autoptr(GPtrArray) auth = g_ptr_array_new();
    EventAuthKeys keys;
    event_auth_keys(room->version, parts[1], state_key, parts[0], content, &keys);
    for (guint i = 0; i < keys.count; i++) {
        const Pdu *event = test_room_state(room, keys.keys[i].type, keys.keys[i].state_key);
        if (event != NULL) {
            auth_events[auth->len] = event->event_id;
            g_ptr_array_add(auth, (gpointer)event);
        }
    }
    PduTemplate template = {
        .event_id = "$of-versions-1-and-2:one.example",
        .room_id = strcmp(parts[1], "m.room.create") == 0 ? NULL : room->create->room_id,
        .type = parts[1],
        .state_key = state_key,
        .sender = parts[0],
        .content = content,
        .prev_events = prev_events,
        .auth_events = auth_events,
        .depth = room->depth + 1,
        .origin_server_ts = ++room->clock_ms,
    };
    PduSigner signer = pdu_signer("fuzz.example", room->key);
    g_autoptr(Pdu) pdu = pdu_build(room->version, &template, &signer, NULL);
    if (pdu == NULL)
        return;
    AuthVerdict verdict = event_auth_check(pdu, room->create, room->state, NULL);
    AuthVerdict own = event_auth_check_own(pdu, room->create, auth, NULL, NULL);
    g_assert_cmpint(verdict, ==, own);
    if (verdict == AUTH_REJECT || strcmp(pdu->type, "m.room.create") == 0)
        return;
    if (pdu_is(pdu, "m.room.power_levels", ""))
        check_power(room, test_room_state(room, "m.room.power_levels", ""), pdu);
    test_room_apply(room, pdu);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    if (!g_utf8_validate(text, -1, NULL))
        return 0;
    guint count = 0;
    const RoomVersion *versions = room_version_table(&count);
    g_autoptr(TestRoom) room = test_room_new_of(versions[size % count].id, ALICE,
                                                "'additional_creators':['@bob:one.example'],");
    g_auto(GStrv) lines = g_strsplit(text, "\n", EVENTS_MAX);
    test_room_member(room, ALICE, ALICE, "join");
    test_room_send(room, ALICE, "m.room.join_rules", "", "{'join_rule':'public'}");
    for (guint i = 0; lines[i] != NULL; i++)
        try_line(room, lines[i]);
    return 0;
}
