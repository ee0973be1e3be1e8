/* Single events of other servers, in the specification's order of checks (server-server API,
 * "Checks performed on receipt of a PDU"): what the submission has not checked yet is judged on the
 * lane thread, by the event's own auth events, by the state before it, and by the current state. */
#include "federation/acceptance.h"
#include "federation/invites.h"
#include "federation/judge.h"
#include "federation/past.h"
#include "federation/room/server_acl.h"
#include "identity/json.h"

/* ---- one event, on the lane thread ---- */

/* @told (may be NULL): what a partner says of the prev_events that are not here.  It never replaces
 * what we know ourselves: both are resolved, so a partner's answer cannot shrink a room's state. */
static gboolean
state_before(RoomMemory *memory, const GPtrArray *prev, const StateNodeId *told,
             StateNodeId *ret_root, GError **error)
{
    g_autofree StateNodeId *roots = g_new(StateNodeId, prev->len + 1);
    guint count = prev->len;

    for (guint i = 0; i < prev->len; i++)
        roots[i] = ((RoomEvent *)g_ptr_array_index(prev, i))->after;
    if (told != NULL)
        roots[count++] = *told;
    return room_view_resolve(memory->view, roots, count, ret_root, error);
}

static gboolean
keep_rejected(Submission *submission, RoomMemory *memory, LaneBatch *batch, RoomEvent *event,
              Received *received, const char *reason, GError **error)
{
    event->status = STORED_EVENT_REJECTED;
    event->after = event->before;
    received_judge(received, RECEIVED_REJECTED, reason);
    if (submission->own)
        return TRUE; /* it was to hold or be refused: nothing is kept */
    return acceptance_add(submission->rooms, memory, batch,
                          &(Acceptance){.event = event, .reason = reason}, error);
}

/* Judge @pdu, whose auth events are all here and whose state before is event->before; store it as
 * it stands. */
static gboolean
judge_and_store(Submission *submission, RoomMemory *memory, LaneBatch *batch, RoomEvent *event,
                const GPtrArray *auth, Received *received, GError **error)
{
    const Pdu *pdu = event->pdu;
    const char *reason = NULL;
    AuthVerdict by_state = AUTH_REJECT;
    AuthVerdict by_current = AUTH_REJECT;

    event->has_state = TRUE;
    if (judge_by_auth_events(memory, pdu, auth, &reason) != AUTH_ALLOW)
        return keep_rejected(submission, memory, batch, event, received, reason, error);
    if (!judge_by_state(memory, pdu, &event->before, &by_state, &reason, error))
        return FALSE;
    if (by_state != AUTH_ALLOW)
        return keep_rejected(submission, memory, batch, event, received, reason, error);
    if (!acceptance_state_after(memory, event, error) ||
        !judge_by_state(memory, pdu, &memory->current, &by_current, &reason, error))
        return FALSE;
    if (by_current != AUTH_ALLOW) {
        event->status = STORED_EVENT_SOFT_FAILED;
        received_judge(received, RECEIVED_SOFT_FAILED, reason);
        if (submission->own)
            return TRUE;
    } else {
        received_judge(received, RECEIVED_ACCEPTED, NULL);
        reason = NULL;
    }
    return acceptance_add(
        submission->rooms, memory, batch,
        &(Acceptance){.event = event, .reason = reason, .deliver = submission->own}, error);
}

static gboolean
receive_event_at(Submission *submission, RoomMemory *memory, LaneBatch *batch, const Pdu *pdu,
                 Received *received, const StateNodeId *told, GError **error)
{
    g_autoptr(GPtrArray) prev = judge_new_events();
    g_autoptr(GPtrArray) auth = judge_new_events();
    g_autoptr(GPtrArray) missing = NULL;
    g_autoptr(RoomEvent) event = NULL;
    gboolean known = FALSE;

    if (!judge_is_known(memory, pdu->event_id, received, &known, error))
        return FALSE;
    if (known)
        return TRUE;
    if (pdu->prev_event_count == 0) {
        received_judge(received, RECEIVED_REFUSED, "the event names no prev_events");
        return TRUE;
    }
    if (!judge_load_named(memory, pdu->prev_events, pdu->prev_event_count, TRUE, prev, &missing,
                          error))
        return FALSE;
    if (told == NULL)
        received->missing_prev = g_steal_pointer(&missing);
    if (!judge_load_named(memory, pdu->auth_events, pdu->auth_event_count, FALSE, auth,
                          &received->missing_auth, error))
        return FALSE;
    if (received->missing_prev != NULL || received->missing_auth != NULL) {
        received_judge(received, RECEIVED_MISSING, "events that it stands on are not here");
        return TRUE;
    }
    event = room_event_new(pdu, STORED_EVENT_ACCEPTED, submission_is_local(submission, pdu));
    if (!state_before(memory, prev, missing != NULL ? told : NULL, &event->before, error) ||
        !judge_and_store(submission, memory, batch, event, auth, received, error))
        return FALSE;
    if (missing != NULL)
        event_store_add_missing(batch, submission->room_id, pdu->event_id,
                                (const char *const *)missing->pdata, missing->len);
    return TRUE;
}

static gboolean
receive_event(Submission *submission, RoomMemory *memory, LaneBatch *batch, const Pdu *pdu,
              Received *received, GError **error)
{
    return receive_event_at(submission, memory, batch, pdu, received, NULL, error);
}

/* History is shown, so it must pass by its auth events; the state around it is not known. */
static gboolean
receive_history(Submission *submission, RoomMemory *memory, LaneBatch *batch, const Pdu *pdu,
                Received *received, GError **error)
{
    g_autoptr(GPtrArray) auth = judge_new_events();
    g_autoptr(RoomEvent) event = NULL;
    const char *reason = NULL;
    gboolean known = FALSE;

    if (!judge_is_known(memory, pdu->event_id, received, &known, error))
        return FALSE;
    if (known)
        return TRUE;
    if (!judge_load_named(memory, pdu->auth_events, pdu->auth_event_count, FALSE, auth,
                          &received->missing_auth, error))
        return FALSE;
    if (received->missing_auth != NULL) {
        received_judge(received, RECEIVED_MISSING, "its auth events are not here");
        return TRUE;
    }
    event = room_event_new(pdu, STORED_EVENT_ACCEPTED, submission_is_local(submission, pdu));
    if (judge_by_auth_events(memory, pdu, auth, &reason) != AUTH_ALLOW) {
        event->status = STORED_EVENT_REJECTED;
        received_judge(received, RECEIVED_REJECTED, reason);
        return acceptance_add(submission->rooms, memory, batch,
                              &(Acceptance){.event = event, .reason = reason}, error);
    }
    received_judge(received, RECEIVED_ACCEPTED, NULL);
    return acceptance_add_history(submission->rooms, memory, batch, event, error);
}

static gboolean
receive_at_state(Submission *submission, RoomMemory *memory, LaneBatch *batch, const Pdu *pdu,
                 Received *received, GError **error)
{
    g_autofree char *offence = NULL;
    StateNodeId root;

    if (!past_store(submission, memory, batch, &root, &offence, error))
        return FALSE;
    if (offence != NULL) {
        received_judge(received, RECEIVED_REFUSED, offence);
        return TRUE;
    }
    return receive_event_at(submission, memory, batch, pdu, received, &root, error);
}

/* ---- the lane ---- */

static gboolean
origin_allowed(const Submission *submission, RoomMemory *memory, gboolean *ret_allowed,
               GError **error)
{
    g_autoptr(RoomEvent) acl = NULL;

    *ret_allowed = TRUE;
    if (submission->origin == NULL)
        return TRUE;
    if (!room_memory_state(memory, "m.room.server_acl", "", &acl, error))
        return FALSE;
    *ret_allowed = acl == NULL || server_acl_allows(acl->pdu->content, submission->origin);
    return TRUE;
}

/* What becomes of one event on the lane thread, by the way that it came in. */
typedef gboolean (*ReceiveOne)(Submission *submission, RoomMemory *memory, LaneBatch *batch,
                               const Pdu *pdu, Received *received, GError **error);

static gboolean
apply_in_room(Submission *submission, RoomMemory *memory, LaneBatch *batch, ReceiveOne receive,
              GError **error)
{
    gboolean allowed = TRUE;

    if (!origin_allowed(submission, memory, &allowed, error))
        return FALSE;
    for (guint i = 0; i < submission->pdus->len; i++) {
        const Pdu *pdu = g_ptr_array_index(submission->pdus, i);
        Received *received = g_ptr_array_index(submission->received, i);

        if (pdu == NULL)
            continue;
        if (!allowed) {
            received_judge(received, RECEIVED_REFUSED,
                           "the room's server ACL keeps that server out");
            continue;
        }
        if (!receive(submission, memory, batch, pdu, received, error)) {
            room_memory_damage(memory);
            return FALSE;
        }
    }
    rooms_memory_changed(submission->rooms, batch, memory);
    return TRUE;
}

static gboolean
apply(Submission *submission, LaneBatch *batch, ReceiveOne receive, GError **error)
{
    RoomMemory *memory;

    if (!rooms_memory(submission->rooms, batch, submission->room_id, &memory, error))
        return FALSE;
    if (memory == NULL || room_memory_server_joined(memory, submission->rooms->server_name) == 0)
        return invites_apply_outside(submission, batch, error);
    return apply_in_room(submission, memory, batch, receive, error);
}

static gboolean
apply_events(Submission *submission, LaneBatch *batch, GError **error)
{
    return apply(submission, batch, receive_event, error);
}

static gboolean
apply_history(Submission *submission, LaneBatch *batch, GError **error)
{
    return apply(submission, batch, receive_history, error);
}

static gboolean
apply_at_state(Submission *submission, LaneBatch *batch, GError **error)
{
    return apply(submission, batch, receive_at_state, error);
}

/* ---- on the calling thread ---- */

static gboolean
find_version(Submission *submission, GError **error)
{
    return rooms_version(submission->rooms, submission->room_id, &submission->version, error);
}

/* What the lane thread will ask for comes into the shared cache while nobody waits for it. */
static void
warm(Submission *submission)
{
    g_autoptr(RoomInfo) info = NULL;
    g_autoptr(RoomView) view = NULL;
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    g_autofree RoomEvent **events = NULL;

    if (!room_reader_info(submission->rooms->reader, NULL, submission->room_id, &info, NULL) ||
        info == NULL)
        return;
    view = room_view_new(submission->rooms->reader, NULL, info);
    for (guint i = 0; i < submission->pdus->len; i++) {
        const Pdu *pdu = g_ptr_array_index(submission->pdus, i);

        for (guint j = 0; pdu != NULL && pdu->prev_events[j] != NULL; j++)
            g_ptr_array_add(ids, (gpointer)pdu->prev_events[j]);
        for (guint j = 0; pdu != NULL && pdu->auth_events[j] != NULL; j++)
            g_ptr_array_add(ids, (gpointer)pdu->auth_events[j]);
    }
    if (ids->len == 0)
        return;
    events = g_new0(RoomEvent *, ids->len);
    if (!room_view_events(view, (const char *const *)ids->pdata, ids->len, events, NULL))
        return;
    for (guint i = 0; i < ids->len; i++)
        room_event_unref(events[i]);
}

/* Of the invite that this event may end: the version that it was sent in. */
static gboolean
invite_version(Submission *submission, GBytes *event, GError **error)
{
    gsize length = 0;
    const char *text = g_bytes_get_data(event, &length);
    g_autoptr(cJSON) json = json_parse(text, length, &json_limits_event_lax, NULL);
    const char *user_id = json_get_string(json, "state_key");

    return user_id == NULL || rooms_invite_version(submission->rooms, submission->room_id, user_id,
                                                   &submission->version, error);
}

static void
submit_events(Submission *submission, GPtrArray *events)
{
    g_autoptr(GError) error = NULL;
    gboolean any = FALSE;

    if (!find_version(submission, &error)) {
        submission_answer(submission, 0, error);
        return;
    }
    /* The end of an invite into a room that we never were in. */
    if (submission->version == NULL && submission->apply != apply_history && events->len > 0 &&
        !invite_version(submission, g_ptr_array_index(events, 0), &error)) {
        submission_answer(submission, 0, error);
        return;
    }
    for (guint i = 0; i < events->len; i++) {
        submission_add_input(submission, g_ptr_array_index(events, i));
        any = any || g_ptr_array_index(submission->pdus, i) != NULL;
    }
    if (!any) {
        submission_answer(submission, 0, NULL);
        return;
    }
    warm(submission);
    submission_submit(submission);
}

static void
submit_event(Submission *submission, GBytes *event)
{
    g_autoptr(GPtrArray) events = g_ptr_array_new();

    g_ptr_array_add(events, event);
    submit_events(submission, events);
}

/* ---- the ways in ---- */

void
rooms_receive(Rooms *rooms, const char *room_id, const char *origin, GPtrArray *events,
              RoomsReceived on_done, gpointer data)
{
    Submission *submission = submission_new(rooms, apply_events, room_id, on_done, data);

    submission->origin = g_strdup(origin);
    submit_events(submission, events);
}

void
rooms_receive_history(Rooms *rooms, const char *room_id, GPtrArray *events, RoomsReceived on_done,
                      gpointer data)
{
    submit_events(submission_new(rooms, apply_history, room_id, on_done, data), events);
}

void
rooms_receive_own(Rooms *rooms, const char *room_id, GBytes *event, RoomsReceived on_done,
                  gpointer data)
{
    Submission *submission = submission_new(rooms, apply_events, room_id, on_done, data);

    submission->own = TRUE;
    submit_event(submission, event);
}

void
rooms_accept_leave(Rooms *rooms, const char *room_id, GBytes *leave, RoomsReceived on_done,
                   gpointer data)
{
    submit_event(submission_new(rooms, invites_apply_outside, room_id, on_done, data), leave);
}

void
rooms_receive_at_state(Rooms *rooms, const char *room_id, GBytes *event, GPtrArray *state,
                       GPtrArray *auth_chain, RoomsReceived on_done, gpointer data)
{
    Submission *submission = submission_new(rooms, apply_at_state, room_id, on_done, data);
    g_autoptr(GError) error = NULL;

    if (!find_version(submission, &error)) {
        submission_answer(submission, 0, error);
        return;
    }
    past_take(submission, state, auth_chain);
    submit_event(submission, event);
}
