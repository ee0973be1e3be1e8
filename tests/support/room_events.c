#include "tests/support/room_events.h"

#include <string.h>

#include "federation/room/identifier.h"

cJSON *
test_json(const char *text)
{
    g_autofree char *json = g_strdelimit(g_strdup(text), "'", '"');
    GError *error = NULL;
    cJSON *value = json_parse(json, strlen(json), &json_limits_event_lax, &error);
    g_assert_no_error(error);
    return value;
}

PduSigner
test_room_signer(TestRoom *room, const char *user_id)
{
    return pdu_signer(identifier_server(user_id), room->key);
}

static Pdu *
build(TestRoom *room, const PduTemplate *template)
{
    PduSigner signer = test_room_signer(room, template->sender);
    GError *error = NULL;
    g_autofree char *event_id =
        g_strdup_printf("$%u:%s", ++room->events, identifier_server(template->sender));
    PduTemplate numbered = *template;
    numbered.event_id = event_id;
    Pdu *pdu = pdu_build(room->version, &numbered, &signer, &error);
    g_assert_no_error(error);
    return pdu;
}

TestRoom *
test_room_new(const char *creator, const char *more_content)
{
    return test_room_new_of("12", creator, more_content);
}

TestRoom *
test_room_new_of(const char *version, const char *creator, const char *more_content)
{
    static const guint8 seed[PUBLIC_KEY_BYTES] = "a seed for the tests of the room";
    TestRoom *room = g_new0(TestRoom, 1);
    g_autofree char *text = g_strdup_printf("{%s'room_version':'%s'}", more_content, version);
    g_autoptr(cJSON) content = test_json(text);

    room->version = room_version_find(version);
    if (!room->version->creator_is_sender && json_object_get(content, "creator") == NULL)
        cJSON_AddItemToObject(content, "creator", cJSON_CreateString(creator));
    room->key = server_key_new_for_tests("1", seed);
    room->clock_ms = 1700000000000;
    room->depth = 1;
    room->state = g_ptr_array_new_with_free_func((GDestroyNotify)pdu_unref);
    PduTemplate template = {
        .room_id = room->version->room_id_is_create_hash ? NULL : "!room:one.example",
        .type = "m.room.create",
        .state_key = "",
        .sender = creator,
        .content = content,
        .depth = room->depth,
        .origin_server_ts = room->clock_ms,
    };
    room->create = build(room, &template);
    test_room_apply(room, room->create);
    return room;
}

void
test_room_free(TestRoom *room)
{
    if (room == NULL)
        return;
    server_key_free(room->key);
    pdu_unref(room->create);
    g_ptr_array_unref(room->state);
    g_free(room->last);
    g_free(room);
}

const Pdu *
test_room_state(TestRoom *room, const char *type, const char *state_key)
{
    for (guint i = 0; i < room->state->len; i++)
        if (pdu_is(room->state->pdata[i], type, state_key))
            return room->state->pdata[i];
    return NULL;
}

Pdu *
test_room_make_with(TestRoom *room, const char *sender, const char *type, const char *state_key,
                    const char *content, const char *const *prev_events,
                    const char *const *auth_events)
{
    g_autoptr(cJSON) tree = test_json(content);
    PduTemplate template = {
        .room_id = room->create->room_id,
        .type = type,
        .state_key = state_key,
        .sender = sender,
        .content = tree,
        .prev_events = prev_events,
        .auth_events = auth_events,
        .depth = room->depth + 1,
        .origin_server_ts = ++room->clock_ms,
    };
    return build(room, &template);
}

Pdu *
test_room_make(TestRoom *room, const char *sender, const char *type, const char *state_key,
               const char *content)
{
    const char *prev_events[] = {room->last, NULL};
    const char *auth_events[EVENT_AUTH_KEYS_MAX + 1] = {NULL};
    g_autoptr(cJSON) tree = test_json(content);
    EventAuthKeys keys;
    guint count = 0;

    event_auth_keys(room->version, type, state_key, sender, tree, &keys);
    for (guint i = 0; i < keys.count; i++) {
        const Pdu *event = test_room_state(room, keys.keys[i].type, keys.keys[i].state_key);
        if (event != NULL)
            auth_events[count++] = event->event_id;
    }
    return test_room_make_with(room, sender, type, state_key, content, prev_events, auth_events);
}

void
test_room_apply(TestRoom *room, const Pdu *pdu)
{
    g_free(room->last);
    room->last = g_strdup(pdu->event_id);
    room->depth = pdu->depth;
    if (!pdu_is_state(pdu))
        return;
    for (guint i = 0; i < room->state->len; i++)
        if (pdu_is(room->state->pdata[i], pdu->type, pdu->state_key)) {
            g_ptr_array_remove_index_fast(room->state, i);
            break;
        }
    g_ptr_array_add(room->state, pdu_ref(pdu));
}

const Pdu *
test_room_send(TestRoom *room, const char *sender, const char *type, const char *state_key,
               const char *content)
{
    g_autoptr(Pdu) pdu = test_room_make(room, sender, type, state_key, content);
    test_room_apply(room, pdu);
    return state_key != NULL ? test_room_state(room, type, state_key) : NULL;
}

const Pdu *
test_room_member(TestRoom *room, const char *sender, const char *target, const char *membership)
{
    g_autofree char *content = g_strdup_printf("{'membership':'%s'}", membership);
    return test_room_send(room, sender, "m.room.member", target, content);
}
