/* A partner's answer to our join (server-server API, send_join): the room's state and auth chain
 * with our user's join.  Everything is verified; then the room begins here. */
#include "federation/acceptance.h"
#include "federation/judge.h"
#include "federation/past.h"
#include "identity/clock.h"
#include "identity/json.h"
#include "identity/refusal.h"
#include "storage/room_store.h"

#include <sodium.h>

/* ---- on the lane thread ---- */

static const Pdu *
find_create(const Submission *submission)
{
    for (guint i = 0; i < submission->past->len; i++) {
        const Pdu *pdu = g_ptr_array_index(submission->past, i);

        if (pdu_is(pdu, "m.room.create", ""))
            return pdu;
    }
    return NULL;
}

static RoomMemory *
begin_room(Submission *submission, LaneBatch *batch, GError **error)
{
    guint8 seed[STATE_SEED_BYTES];
    g_autoptr(RoomInfo) info = NULL;
    g_autoptr(GBytes) seed_bytes = NULL;
    g_autoptr(RoomMemory) memory = NULL;

    randombytes_buf(seed, sizeof seed);
    seed_bytes = g_bytes_new(seed, sizeof seed);
    info = room_info_new(submission->room_id, submission->version, seed);
    if (!submission->version->room_id_is_create_hash)
        room_info_set_create(info, find_create(submission));
    memory = room_memory_new(submission->rooms->reader, info);
    memory->view->connection = lane_batch_connection(batch, error);
    if (memory->view->connection == NULL)
        return NULL;
    memory->create = pdu_ref(find_create(submission));
    room_store_insert(batch, submission->room_id, submission->version->id, seed_bytes,
                      clock_wall_ms());
    return g_steal_pointer(&memory);
}

/* The join by the state that came along; then it is the one end of the graph here. */
static gboolean
store_join(Submission *submission, RoomMemory *memory, LaneBatch *batch, GError **error)
{
    const Pdu *pdu = g_ptr_array_index(submission->pdus, 0);
    g_autoptr(RoomEvent) event = room_event_new(pdu, STORED_EVENT_ACCEPTED, TRUE);
    g_autoptr(GPtrArray) auth = judge_new_events();
    g_autoptr(GPtrArray) prev = judge_new_events();
    g_autoptr(GPtrArray) missing = NULL;
    g_autofree char *offence = NULL;
    const char *reason = NULL;
    AuthVerdict by_state = AUTH_REJECT;
    gboolean detached;

    event->has_state = TRUE;
    if (!past_store(submission, memory, batch, &event->before, &offence, error))
        return FALSE;
    if (offence == NULL) {
        if (!judge_load_named(memory, pdu->auth_events, pdu->auth_event_count, FALSE, auth,
                              &missing, error))
            return FALSE;
        if (missing != NULL)
            reason = "its auth events did not come along";
        else if (judge_by_auth_events(memory, pdu, auth, &reason) == AUTH_ALLOW &&
                 !judge_by_state(memory, pdu, &event->before, &by_state, &reason, error))
            return FALSE;
        if (by_state != AUTH_ALLOW)
            offence = g_strdup(reason);
    }
    if (offence != NULL) {
        refusal_set(error, 502, "M_UNKNOWN", "The partner's answer to the join does not hold: %s",
                    offence);
        return FALSE;
    }
    g_clear_pointer(&missing, g_ptr_array_unref);
    if (!acceptance_state_after(memory, event, error) ||
        !judge_load_named(memory, pdu->prev_events, pdu->prev_event_count, TRUE, prev, &missing,
                          error))
        return FALSE;
    if (missing != NULL)
        event_store_add_missing(batch, submission->room_id, pdu->event_id,
                                (const char *const *)missing->pdata, missing->len);
    received_judge(g_ptr_array_index(submission->received, 0), RECEIVED_ACCEPTED, NULL);
    /* Two users of ours may have joined at the same time, each from outside: then the graph has two
     * ends. */
    detached = room_memory_server_joined(memory, submission->rooms->server_name) == 0;
    return acceptance_add(submission->rooms, memory, batch,
                          &(Acceptance){.event = event, .detached = detached}, error);
}

static gboolean
apply_join(Submission *submission, LaneBatch *batch, GError **error)
{
    Received *received = g_ptr_array_index(submission->received, 0);
    g_autoptr(RoomMemory) begun = NULL;
    gboolean known = FALSE;
    RoomMemory *memory;

    if (!rooms_memory(submission->rooms, batch, submission->room_id, &memory, error))
        return FALSE;
    if (memory == NULL) {
        memory = begun = begin_room(submission, batch, error);
        if (begun == NULL)
            return FALSE;
    }
    if (!judge_is_known(memory, received->event_id, received, &known, error))
        return FALSE;
    if (known)
        return TRUE;
    /* Two users of ours may have joined at the same time, each from outside: the second is an event
     * like others. */
    if (!store_join(submission, memory, batch, error)) {
        if (begun == NULL)
            room_memory_damage(memory);
        return FALSE;
    }
    if (begun != NULL)
        rooms_memory_add(submission->rooms, batch, g_steal_pointer(&begun));
    else
        rooms_memory_changed(submission->rooms, batch, memory);
    return TRUE;
}

/* ---- the way in ---- */

/* The version that the create event among @state names, and that makes its id the room's. */
static const RoomVersion *
version_of_state(const char *room_id, GPtrArray *state)
{
    for (guint i = 0; i < state->len; i++) {
        gsize length = 0;
        const char *text = g_bytes_get_data(g_ptr_array_index(state, i), &length);
        g_autoptr(cJSON) json = json_parse(text, length, &json_limits_event_lax, NULL);
        const RoomVersion *version;
        g_autoptr(Pdu) pdu = NULL;
        const cJSON *named;

        if (g_strcmp0(json_get_string(json, "type"), "m.room.create") != 0)
            continue;
        named = json_object_get(json_get_object(json, "content"), "room_version");
        version = room_version_find_supported(named == NULL ? "1" : named->valuestring);
        pdu = version != NULL ? pdu_from_json(version, text, length, NULL) : NULL;
        if (pdu != NULL && g_str_equal(pdu->room_id, room_id))
            return version;
    }
    return NULL;
}

void
rooms_accept_join(Rooms *rooms, const char *room_id, GBytes *join, GPtrArray *state,
                  GPtrArray *auth_chain, RoomsReceived on_done, gpointer data)
{
    Submission *submission = submission_new(rooms, apply_join, room_id, on_done, data);
    g_autoptr(GError) error = NULL;
    const Received *received;

    submission->version = version_of_state(room_id, state);
    if (submission->version == NULL) {
        refusal_set(
            &error, 502, "M_UNKNOWN",
            "The partner's answer to the join has no create event of that room in a version "
            "that this server knows");
        submission_answer(submission, 0, error);
        return;
    }
    past_take(submission, state, auth_chain);
    submission_add_input(submission, join);
    received = g_ptr_array_index(submission->received, 0);
    if (g_ptr_array_index(submission->pdus, 0) == NULL || find_create(submission) == NULL) {
        refusal_set(&error, 502, "M_UNKNOWN", "The partner's answer to the join does not hold: %s",
                    received->reason != NULL ? received->reason
                                             : "its create event is not properly signed");
        submission_answer(submission, 0, error);
        return;
    }
    submission_submit(submission);
}
