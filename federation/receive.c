/* Events of other servers, in the specification's order of checks (server-server API, "Checks
 * performed on receipt of a PDU"): format, signature and hash on the calling thread; the auth rules
 * on the lane thread, by the event's own auth events, by the state before it, and by the current
 * state. */
#include "federation/acceptance.h"
#include "federation/room/identifier.h"
#include "federation/room/server_acl.h"
#include "federation/rooms_private.h"
#include "identity/clock.h"
#include "identity/json.h"
#include "identity/refusal.h"
#include "identity/seeded_hash.h"
#include "identity/server_key.h"
#include "storage/membership_store.h"
#include "storage/room_store.h"

#include <sodium.h>

void
received_free(Received *received)
{
    if (received == NULL)
        return;
    g_free(received->event_id);
    g_free(received->reason);
    g_clear_pointer(&received->missing_prev, g_ptr_array_unref);
    g_clear_pointer(&received->missing_auth, g_ptr_array_unref);
    g_free(received);
}

static void
verdict(Received *received, ReceivedVerdict what, const char *reason)
{
    received->verdict = what;
    g_free(received->reason);
    received->reason = g_strdup(reason);
}

/* ---- format, signature, hash: on the calling thread ---- */

static gboolean
signed_by(Rooms *rooms, const Pdu *pdu, const char *server)
{
    g_autoptr(GPtrArray) key_ids = pdu_signature_key_ids(pdu, server);
    gint64 at_ms = pdu->version->key_validity_enforced ? pdu->origin_server_ts : 0;

    for (guint i = 0; i < key_ids->len; i++) {
        const char *key_id = g_ptr_array_index(key_ids, i);
        guint8 key[PUBLIC_KEY_BYTES];

        if (g_str_equal(server, rooms->server_name)) {
            if (!g_str_equal(key_id, server_key_id(rooms->key)))
                continue;
            memcpy(key, server_key_public(rooms->key), sizeof key);
        } else if (rooms->find_key == NULL ||
                   !rooms->find_key(server, key_id, at_ms, key, rooms->find_key_data)) {
            continue;
        }
        if (pdu_verify_signature(pdu, server, key_id, key))
            return TRUE;
    }
    return FALSE;
}

/* NULL with *ret_reason: to be dropped. */
static Pdu *
check_bytes(Rooms *rooms, const RoomVersion *version, const char *room_id, GBytes *bytes,
            char **ret_reason)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Pdu) pdu = NULL;
    g_autoptr(GPtrArray) signers = NULL;
    gsize length = 0;
    const char *text = g_bytes_get_data(bytes, &length);

    pdu = pdu_from_json(version, text, length, &error);
    if (pdu == NULL) {
        *ret_reason = g_strdup_printf("not an event: %s", error->message);
        return NULL;
    }
    if (!g_str_equal(pdu->room_id, room_id)) {
        *ret_reason = g_strdup("the event is of another room");
        return NULL;
    }
    signers = pdu_required_signers(pdu);
    for (guint i = 0; i < signers->len; i++) {
        const char *server = g_ptr_array_index(signers, i);

        if (!signed_by(rooms, pdu, server)) {
            *ret_reason = g_strdup_printf("no good signature of %s by a known key", server);
            return NULL;
        }
    }
    if (!pdu_check_content_hash(pdu)) {
        Pdu *redacted = pdu_redacted(pdu, &error);

        if (redacted == NULL)
            *ret_reason = g_strdup("the event is damaged");
        return redacted;
    }
    return g_steal_pointer(&pdu);
}

/* ---- a submission ---- */

typedef enum {
    RECEIVE_EVENTS,
    RECEIVE_OUTLIERS,
    RECEIVE_AT_STATE,
    RECEIVE_HISTORY,
    RECEIVE_OWN,
    RECEIVE_JOIN,
    RECEIVE_INVITE,
    RECEIVE_LEAVE,
} ReceiveKind;

typedef struct {
    Rooms *rooms;
    ReceiveKind kind;
    char *room_id;
    char *origin;               /* or NULL */
    const RoomVersion *version; /* NULL: not a room of ours */
    GPtrArray *pdus;            /* Pdu or NULL, beside received */
    GPtrArray *received;        /* Received */
    GPtrArray *
        past; /* Pdu: state and auth chain that came along, in an order that respects auth_events */
    GHashTable *state; /* event ids (borrowed from past) of the state among them */
    GBytes *stripped_state;
    RoomsReceived done;
    gpointer data;
} Submission;

static void
unref_pdu(gpointer pdu)
{
    pdu_unref(pdu); /* accepts NULL */
}

static Submission *
submission_new(Rooms *rooms, ReceiveKind kind, const char *room_id, const char *origin,
               RoomsReceived done, gpointer data)
{
    Submission *submission = g_new0(Submission, 1);

    submission->rooms = rooms;
    submission->kind = kind;
    submission->room_id = g_strdup(room_id);
    submission->origin = g_strdup(origin);
    submission->pdus = g_ptr_array_new_with_free_func(unref_pdu);
    submission->received = g_ptr_array_new_with_free_func((GDestroyNotify)received_free);
    submission->past = g_ptr_array_new_with_free_func(unref_pdu);
    submission->state = g_hash_table_new(seeded_str_hash, g_str_equal);
    submission->done = done;
    submission->data = data;
    return submission;
}

static void
submission_free(Submission *submission)
{
    g_free(submission->room_id);
    g_free(submission->origin);
    g_hash_table_unref(submission->state);
    g_ptr_array_unref(submission->pdus);
    g_ptr_array_unref(submission->received);
    g_ptr_array_unref(submission->past);
    if (submission->stripped_state != NULL)
        g_bytes_unref(submission->stripped_state);
    g_free(submission);
}

static void
submission_answer(Submission *submission, gint64 position, const GError *error)
{
    submission->done(error == NULL ? submission->received : NULL, position, error,
                     submission->data);
    submission_free(submission);
}

static void
add_input(Submission *submission, GBytes *bytes)
{
    Received *received = g_new0(Received, 1);
    Pdu *pdu = NULL;

    received->verdict = RECEIVED_REFUSED;
    if (submission->version == NULL)
        received->reason = g_strdup("this server is not in that room");
    else
        pdu = check_bytes(submission->rooms, submission->version, submission->room_id, bytes,
                          &received->reason);
    if (pdu != NULL) {
        received->event_id = g_strdup(pdu->event_id);
        received->depth = pdu->depth;
    }
    g_ptr_array_add(submission->pdus, pdu);
    g_ptr_array_add(submission->received, received);
}

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

/* ---- the auth rules: on the lane thread ---- */

static GPtrArray *
new_events(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)room_event_unref);
}

/* The events that @ids name; those that are not here, or may not be stood on, are added to
 * *ret_missing. */
static gboolean
load_named(RoomMemory *memory, const char *const *ids, guint count, gboolean placed,
           GPtrArray *events, GPtrArray **ret_missing, GError **error)
{
    g_autofree RoomEvent **found = g_new0(RoomEvent *, count + 1);

    if (!room_view_events(memory->view, ids, count, found, error))
        return FALSE;
    for (guint i = 0; i < count; i++) {
        if (found[i] != NULL && (!placed || room_event_is_placed(found[i]))) {
            g_ptr_array_add(events, found[i]);
            continue;
        }
        room_event_unref(found[i]);
        if (*ret_missing == NULL)
            *ret_missing = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(*ret_missing, g_strdup(ids[i]));
    }
    return TRUE;
}

/* By its own auth events, all of which are in @auth. */
static AuthVerdict
judge_by_auth_events(const RoomMemory *memory, const Pdu *pdu, const GPtrArray *auth,
                     const char **ret_reason)
{
    g_autoptr(GPtrArray) pdus = g_ptr_array_new();
    g_autoptr(GPtrArray) rejected = g_ptr_array_new();

    for (guint i = 0; i < auth->len; i++) {
        const RoomEvent *event = g_ptr_array_index(auth, i);

        g_ptr_array_add(pdus, event->pdu);
        if (event->status == STORED_EVENT_REJECTED)
            g_ptr_array_add(rejected, (gpointer)event->pdu->event_id);
    }
    g_ptr_array_add(rejected, NULL);
    return event_auth_check_own(pdu, memory->create, pdus, (const char *const *)rejected->pdata,
                                ret_reason);
}

static gboolean
judge_by_state(RoomMemory *memory, const Pdu *pdu, const StateNodeId *root,
               AuthVerdict *ret_verdict, const char **ret_reason, GError **error)
{
    g_autoptr(GPtrArray) state = NULL;
    EventAuthKeys keys;

    event_auth_keys_of_pdu(pdu, &keys);
    state = state_node_id_equal(root, &memory->current)
                ? room_memory_state_pdus(memory, &keys, error)
                : room_view_state_pdus(memory->view, root, &keys, error);
    if (state == NULL)
        return FALSE;
    *ret_verdict = event_auth_check(pdu, memory->create, state, ret_reason);
    return TRUE;
}

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
    verdict(received, RECEIVED_REJECTED, reason);
    if (submission->kind == RECEIVE_OWN)
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
    gboolean own = submission->kind == RECEIVE_OWN;
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
        verdict(received, RECEIVED_SOFT_FAILED, reason);
        if (own)
            return TRUE;
    } else {
        verdict(received, RECEIVED_ACCEPTED, NULL);
        reason = NULL;
    }
    return acceptance_add(submission->rooms, memory, batch,
                          &(Acceptance){.event = event, .reason = reason, .deliver = own}, error);
}

/* TRUE in *ret_known: nothing is to be done. */
static gboolean
is_known(RoomMemory *memory, const char *event_id, Received *received, gboolean *ret_known,
         GError **error)
{
    g_autoptr(RoomEvent) known = NULL;

    if (!room_view_event(memory->view, event_id, &known, error))
        return FALSE;
    *ret_known = known != NULL && known->status != STORED_EVENT_OUTLIER;
    if (*ret_known)
        verdict(received,
                known->status == STORED_EVENT_REJECTED ? RECEIVED_REJECTED : RECEIVED_KNOWN,
                known->status == STORED_EVENT_REJECTED ? "the event was rejected before" : NULL);
    return TRUE;
}

static gboolean
is_local_sender(const Submission *submission, const Pdu *pdu)
{
    return g_strcmp0(identifier_server(pdu->sender), submission->rooms->server_name) == 0;
}

static gboolean
receive_event(Submission *submission, RoomMemory *memory, LaneBatch *batch, const Pdu *pdu,
              Received *received, const StateNodeId *told, GError **error)
{
    g_autoptr(GPtrArray) prev = new_events();
    g_autoptr(GPtrArray) auth = new_events();
    g_autoptr(GPtrArray) missing = NULL;
    g_autoptr(RoomEvent) event = NULL;
    gboolean known = FALSE;

    if (!is_known(memory, pdu->event_id, received, &known, error))
        return FALSE;
    if (known)
        return TRUE;
    if (pdu->prev_event_count == 0) {
        verdict(received, RECEIVED_REFUSED, "the event names no prev_events");
        return TRUE;
    }
    if (!load_named(memory, pdu->prev_events, pdu->prev_event_count, TRUE, prev, &missing, error))
        return FALSE;
    if (told == NULL)
        received->missing_prev = g_steal_pointer(&missing);
    if (!load_named(memory, pdu->auth_events, pdu->auth_event_count, FALSE, auth,
                    &received->missing_auth, error))
        return FALSE;
    if (received->missing_prev != NULL || received->missing_auth != NULL) {
        verdict(received, RECEIVED_MISSING, "events that it stands on are not here");
        return TRUE;
    }
    event = room_event_new(pdu, STORED_EVENT_ACCEPTED, is_local_sender(submission, pdu));
    if (!state_before(memory, prev, missing != NULL ? told : NULL, &event->before, error) ||
        !judge_and_store(submission, memory, batch, event, auth, received, error))
        return FALSE;
    if (missing != NULL)
        event_store_add_missing(batch, submission->room_id, pdu->event_id,
                                (const char *const *)missing->pdata, missing->len);
    return TRUE;
}

/* An auth event that is not stored yet. */
static gboolean
receive_new_outlier(Submission *submission, RoomMemory *memory, LaneBatch *batch, const Pdu *pdu,
                    Received *received, GError **error)
{
    g_autoptr(GPtrArray) auth = new_events();
    g_autoptr(RoomEvent) event = NULL;
    const char *reason = NULL;

    if (!load_named(memory, pdu->auth_events, pdu->auth_event_count, FALSE, auth,
                    &received->missing_auth, error))
        return FALSE;
    if (received->missing_auth != NULL) {
        verdict(received, RECEIVED_MISSING, "its auth events are not here");
        return TRUE;
    }
    event = room_event_new(pdu, STORED_EVENT_OUTLIER, is_local_sender(submission, pdu));
    if (judge_by_auth_events(memory, pdu, auth, &reason) != AUTH_ALLOW) {
        event->status = STORED_EVENT_REJECTED;
        verdict(received, RECEIVED_REJECTED, reason);
    } else {
        verdict(received, RECEIVED_ACCEPTED, NULL);
        reason = NULL;
    }
    return acceptance_add(submission->rooms, memory, batch,
                          &(Acceptance){.event = event, .reason = reason}, error);
}

static gboolean
receive_outlier(Submission *submission, RoomMemory *memory, LaneBatch *batch, const Pdu *pdu,
                Received *received, GError **error)
{
    g_autoptr(RoomEvent) known = NULL;

    if (!room_view_event(memory->view, pdu->event_id, &known, error))
        return FALSE;
    if (known == NULL)
        return receive_new_outlier(submission, memory, batch, pdu, received, error);
    verdict(received, RECEIVED_KNOWN, NULL);
    return TRUE;
}

/* History is shown, so it must pass by its auth events; the state around it is not known. */
static gboolean
receive_history(Submission *submission, RoomMemory *memory, LaneBatch *batch, const Pdu *pdu,
                Received *received, GError **error)
{
    g_autoptr(GPtrArray) auth = new_events();
    g_autoptr(RoomEvent) event = NULL;
    const char *reason = NULL;
    gboolean known = FALSE;

    if (!is_known(memory, pdu->event_id, received, &known, error))
        return FALSE;
    if (known)
        return TRUE;
    if (!load_named(memory, pdu->auth_events, pdu->auth_event_count, FALSE, auth,
                    &received->missing_auth, error))
        return FALSE;
    if (received->missing_auth != NULL) {
        verdict(received, RECEIVED_MISSING, "its auth events are not here");
        return TRUE;
    }
    event = room_event_new(pdu, STORED_EVENT_ACCEPTED, is_local_sender(submission, pdu));
    if (judge_by_auth_events(memory, pdu, auth, &reason) != AUTH_ALLOW) {
        event->status = STORED_EVENT_REJECTED;
        verdict(received, RECEIVED_REJECTED, reason);
        return acceptance_add(submission->rooms, memory, batch,
                              &(Acceptance){.event = event, .reason = reason}, error);
    }
    verdict(received, RECEIVED_ACCEPTED, NULL);
    return acceptance_add_history(submission->rooms, memory, batch, event, error);
}

/* ---- a past that comes along ---- */

/* Checks the bytes of @inputs and adds what passes to submission->past; what does not is left out,
 * and whatever stands on it falls by the auth rules. */
static void
add_past(Submission *submission, GPtrArray *inputs, gboolean state, GHashTable *seen)
{
    for (guint i = 0; i < inputs->len; i++) {
        g_autofree char *reason = NULL;
        g_autoptr(Pdu) pdu =
            check_bytes(submission->rooms, submission->version, submission->room_id,
                        g_ptr_array_index(inputs, i), &reason);
        Pdu *held;

        if (pdu == NULL) {
            g_debug("event in the past of %s left out: %s", submission->room_id, reason);
            continue;
        }
        held = g_hash_table_lookup(seen, pdu->event_id);
        if (held == NULL) {
            held = pdu_ref(pdu);
            g_ptr_array_add(submission->past, held);
            g_hash_table_insert(seen, (char *)held->event_id, held);
        }
        if (state)
            g_hash_table_add(submission->state, (char *)held->event_id);
    }
}

/* Auth events before those that name them (Kahn's order); what stands in a circle is left out. */
static void
sort_past(Submission *submission, GHashTable *seen)
{
    g_autoptr(GHashTable) children = g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL,
                                                           (GDestroyNotify)g_ptr_array_unref);
    g_autoptr(GHashTable) waits = g_hash_table_new(seeded_str_hash, g_str_equal);
    GPtrArray *sorted = g_ptr_array_new_with_free_func(unref_pdu);

    for (guint i = 0; i < submission->past->len; i++) {
        Pdu *pdu = g_ptr_array_index(submission->past, i);
        guint count = 0;

        for (guint j = 0; pdu->auth_events[j] != NULL; j++) {
            GPtrArray *list;

            if (!g_hash_table_contains(seen, pdu->auth_events[j]))
                continue;
            list = g_hash_table_lookup(children, pdu->auth_events[j]);
            if (list == NULL) {
                list = g_ptr_array_new();
                g_hash_table_insert(children, (char *)pdu->auth_events[j], list);
            }
            g_ptr_array_add(list, pdu);
            count++;
        }
        g_hash_table_insert(waits, (char *)pdu->event_id, GUINT_TO_POINTER(count));
        if (count == 0)
            g_ptr_array_add(sorted, pdu_ref(pdu));
    }
    for (guint i = 0; i < sorted->len; i++) {
        const Pdu *pdu = g_ptr_array_index(sorted, i);
        GPtrArray *list = g_hash_table_lookup(children, pdu->event_id);

        for (guint j = 0; list != NULL && j < list->len; j++) {
            Pdu *child = g_ptr_array_index(list, j);
            guint count = GPOINTER_TO_UINT(g_hash_table_lookup(waits, child->event_id)) - 1;

            g_hash_table_insert(waits, (char *)child->event_id, GUINT_TO_POINTER(count));
            if (count == 0)
                g_ptr_array_add(sorted, pdu_ref(child));
        }
    }
    /* submission->state borrows its ids from the same Pdus, which sorted holds too; those of a
     * circle leave it. */
    for (guint i = 0; i < submission->past->len; i++) {
        const Pdu *pdu = g_ptr_array_index(submission->past, i);

        if (GPOINTER_TO_UINT(g_hash_table_lookup(waits, pdu->event_id)) != 0)
            g_hash_table_remove(submission->state, pdu->event_id);
    }
    g_ptr_array_unref(submission->past);
    submission->past = sorted;
}

static void
take_past(Submission *submission, GPtrArray *state, GPtrArray *auth_chain)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(seeded_str_hash, g_str_equal);

    if (submission->version == NULL)
        return;
    add_past(submission, state, TRUE, seen);
    add_past(submission, auth_chain, FALSE, seen);
    sort_past(submission, seen);
}

/* Which of what came along is stored already: event id (borrowed) -> RoomEvent.  In parts, so that
 * no query is without bounds. */
static GHashTable *
known_past(const Submission *submission, RoomMemory *memory, GError **error)
{
    g_autoptr(GHashTable) known =
        g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, (GDestroyNotify)room_event_unref);
    const char *ids[STATE_LOAD_MAX];
    RoomEvent *events[STATE_LOAD_MAX];

    for (guint from = 0; from < submission->past->len; from += STATE_LOAD_MAX) {
        guint count = MIN(STATE_LOAD_MAX, submission->past->len - from);

        for (guint i = 0; i < count; i++)
            ids[i] = ((Pdu *)g_ptr_array_index(submission->past, from + i))->event_id;
        if (!room_view_events(memory->view, ids, count, events, error))
            return NULL;
        for (guint i = 0; i < count; i++)
            if (events[i] != NULL)
                g_hash_table_insert(known, (gpointer)ids[i], events[i]);
    }
    return g_steal_pointer(&known);
}

/* Stored as an outlier by its own auth events, unless it is @known.  *ret_rejected: it does not
 * count. */
static gboolean
store_past_event(Submission *submission, RoomMemory *memory, LaneBatch *batch, GHashTable *known,
                 const Pdu *pdu, gboolean *ret_rejected, GError **error)
{
    const RoomEvent *held = g_hash_table_lookup(known, pdu->event_id);
    Received received = {0};
    gboolean ok;

    if (held != NULL) {
        *ret_rejected = held->status == STORED_EVENT_REJECTED;
        return TRUE;
    }
    ok = receive_new_outlier(submission, memory, batch, pdu, &received, error);
    *ret_rejected = received.verdict != RECEIVED_ACCEPTED;
    g_clear_pointer(&received.missing_prev, g_ptr_array_unref);
    g_clear_pointer(&received.missing_auth, g_ptr_array_unref);
    g_free(received.reason);
    return ok;
}

/* Store what came along as outliers, each judged by its own auth events, and make the state of what
 * passed. */
static gboolean
store_past(Submission *submission, RoomMemory *memory, LaneBatch *batch, StateNodeId *ret_root,
           char **ret_offence, GError **error)
{
    g_autoptr(GArray) changes = g_array_new(FALSE, FALSE, sizeof(StateChange));
    g_autoptr(GHashTable) keys = state_map_new();
    g_autoptr(GHashTable) known = known_past(submission, memory, error);

    if (known == NULL)
        return FALSE;
    for (guint i = 0; i < submission->past->len; i++) {
        const Pdu *pdu = g_ptr_array_index(submission->past, i);
        StateChange change = {pdu->type, pdu->state_key, pdu->event_id};
        gboolean rejected = FALSE;

        if (!store_past_event(submission, memory, batch, known, pdu, &rejected, error))
            return FALSE;
        if (rejected || !g_hash_table_contains(submission->state, pdu->event_id))
            continue;
        if (!pdu_is_state(pdu) || state_map_get(keys, pdu->type, pdu->state_key) != NULL) {
            *ret_offence = g_strdup("the state that came along is none: an entry is there twice");
            return TRUE;
        }
        state_map_set(keys, pdu->type, pdu->state_key, pdu->event_id);
        g_array_append_val(changes, change);
    }
    return state_trie_change(memory->view->trie, &state_node_empty,
                             (const StateChange *)changes->data, changes->len, ret_root, error);
}

static gboolean
receive_at_state(Submission *submission, RoomMemory *memory, LaneBatch *batch, GError **error)
{
    Received *received = g_ptr_array_index(submission->received, 0);
    const Pdu *pdu = g_ptr_array_index(submission->pdus, 0);
    g_autofree char *offence = NULL;
    StateNodeId root;

    if (!store_past(submission, memory, batch, &root, &offence, error))
        return FALSE;
    if (offence != NULL) {
        verdict(received, RECEIVED_REFUSED, offence);
        return TRUE;
    }
    return receive_event(submission, memory, batch, pdu, received, &root, error);
}

/* ---- a room begins here ---- */

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
    g_autoptr(GPtrArray) auth = new_events();
    g_autoptr(GPtrArray) prev = new_events();
    g_autoptr(GPtrArray) missing = NULL;
    g_autofree char *offence = NULL;
    const char *reason = NULL;
    AuthVerdict by_state = AUTH_REJECT;
    gboolean detached;

    event->has_state = TRUE;
    if (!store_past(submission, memory, batch, &event->before, &offence, error))
        return FALSE;
    if (offence == NULL) {
        if (!load_named(memory, pdu->auth_events, pdu->auth_event_count, FALSE, auth, &missing,
                        error))
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
        !load_named(memory, pdu->prev_events, pdu->prev_event_count, TRUE, prev, &missing, error))
        return FALSE;
    if (missing != NULL)
        event_store_add_missing(batch, submission->room_id, pdu->event_id,
                                (const char *const *)missing->pdata, missing->len);
    verdict(g_ptr_array_index(submission->received, 0), RECEIVED_ACCEPTED, NULL);
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
    if (!is_known(memory, received->event_id, received, &known, error))
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

/* ---- rooms that we are not in ---- */

static void
log_invite(LaneBatch *batch, const Pdu *pdu)
{
    lane_batch_log(batch, log_entry_new(LOG_INVITE, pdu->room_id, pdu->state_key, pdu->event_id));
}

static gboolean
apply_invite(Submission *submission, LaneBatch *batch, GError **error)
{
    const Pdu *pdu = g_ptr_array_index(submission->pdus, 0);
    RoomMemory *memory;

    if (!rooms_memory(submission->rooms, batch, submission->room_id, &memory, error))
        return FALSE;
    verdict(g_ptr_array_index(submission->received, 0), RECEIVED_ACCEPTED, NULL);
    /* Where we are in the room the invite comes as an event of the room as well, and is judged
     * there. */
    if (memory != NULL && room_memory_server_joined(memory, submission->rooms->server_name) > 0)
        return TRUE;
    membership_store_set_invite(batch, &(StoredInvite){
                                           .user_id = (char *)pdu->state_key,
                                           .room_id = (char *)pdu->room_id,
                                           .room_version = (char *)pdu->version->id,
                                           .event_id = (char *)pdu->event_id,
                                           .sender = (char *)pdu->sender,
                                           .json = pdu->bytes,
                                           .room_state = submission->stripped_state,
                                       });
    log_invite(batch, pdu);
    return TRUE;
}

/* A knock of ours waits in the invite's place. */
static gboolean
is_knock(const StoredInvite *invite)
{
    gsize length = 0;
    const char *text = g_bytes_get_data(invite->json, &length);
    g_autoptr(cJSON) json = json_parse(text, length, &json_limits_event_lax, NULL);

    return g_strcmp0(json_get_string(json_get_object(json, "content"), "membership"), "knock") == 0;
}

/* The end of an invite: by the invited user, or taken back by a user of the inviter's server.  Of a
 * knock: by who knocked, or refused by a user of any partner, for nobody outside knows who has the
 * power there; knocking again costs little. */
static gboolean
apply_leave(Submission *submission, LaneBatch *batch, const Pdu *pdu, Received *received,
            GError **error)
{
    StoreConnection *connection = lane_batch_connection(batch, error);
    g_autoptr(StoredInvite) invite = NULL;

    if (connection == NULL ||
        !membership_store_find_invite(connection, pdu->state_key, pdu->room_id, &invite, error))
        return FALSE;
    if (invite == NULL ||
        (!g_str_equal(pdu->sender, pdu->state_key) &&
         !identifier_same_server(pdu->sender, invite->sender) && !is_knock(invite))) {
        verdict(received, RECEIVED_REFUSED, "there is no invite that this event could end");
        return TRUE;
    }
    membership_store_remove_invite(batch, pdu->state_key, pdu->room_id);
    log_invite(batch, pdu);
    verdict(received, RECEIVED_ACCEPTED, NULL);
    return TRUE;
}

static gboolean
ends_invite(const Submission *submission, const Pdu *pdu)
{
    const char *membership = pdu_membership(pdu);

    return (g_strcmp0(membership, "leave") == 0 || g_strcmp0(membership, "ban") == 0) &&
           g_strcmp0(identifier_server(pdu->state_key), submission->rooms->server_name) == 0;
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

static gboolean
apply_one(Submission *submission, RoomMemory *memory, LaneBatch *batch, guint index, GError **error)
{
    const Pdu *pdu = g_ptr_array_index(submission->pdus, index);
    Received *received = g_ptr_array_index(submission->received, index);

    switch (submission->kind) {
    case RECEIVE_OUTLIERS:
        return receive_outlier(submission, memory, batch, pdu, received, error);
    case RECEIVE_HISTORY:
        return receive_history(submission, memory, batch, pdu, received, error);
    case RECEIVE_AT_STATE:
        return receive_at_state(submission, memory, batch, error);
    default:
        return receive_event(submission, memory, batch, pdu, received, NULL, error);
    }
}

/* Not in the room: all that may still concern us is the end of an invite. */
static gboolean
apply_outside(Submission *submission, LaneBatch *batch, GError **error)
{
    for (guint i = 0; i < submission->pdus->len; i++) {
        const Pdu *pdu = g_ptr_array_index(submission->pdus, i);
        Received *received = g_ptr_array_index(submission->received, i);

        if (pdu == NULL)
            continue;
        if (ends_invite(submission, pdu)) {
            if (!apply_leave(submission, batch, pdu, received, error))
                return FALSE;
        } else {
            verdict(received, RECEIVED_REFUSED, "this server is not in that room");
        }
    }
    return TRUE;
}

static gboolean
apply_in_room(Submission *submission, RoomMemory *memory, LaneBatch *batch, GError **error)
{
    gboolean allowed = TRUE;

    if (!origin_allowed(submission, memory, &allowed, error))
        return FALSE;
    for (guint i = 0; i < submission->pdus->len; i++) {
        if (g_ptr_array_index(submission->pdus, i) == NULL)
            continue;
        if (!allowed) {
            verdict(g_ptr_array_index(submission->received, i), RECEIVED_REFUSED,
                    "the room's server ACL keeps that server out");
            continue;
        }
        if (!apply_one(submission, memory, batch, i, error)) {
            room_memory_damage(memory);
            return FALSE;
        }
    }
    rooms_memory_changed(submission->rooms, batch, memory);
    return TRUE;
}

/* It may run again after a batch was taken back. */
static void
reset_verdicts(Submission *submission)
{
    for (guint i = 0; i < submission->received->len; i++) {
        Received *received = g_ptr_array_index(submission->received, i);

        if (g_ptr_array_index(submission->pdus, i) == NULL)
            continue;
        verdict(received, RECEIVED_REFUSED, NULL);
        g_clear_pointer(&received->missing_prev, g_ptr_array_unref);
        g_clear_pointer(&received->missing_auth, g_ptr_array_unref);
    }
}

static gboolean
apply(LaneBatch *batch, gpointer data, GError **error)
{
    Submission *submission = data;
    RoomMemory *memory;

    reset_verdicts(submission);
    if (submission->kind == RECEIVE_JOIN)
        return apply_join(submission, batch, error);
    if (submission->kind == RECEIVE_INVITE)
        return apply_invite(submission, batch, error);
    if (!rooms_memory(submission->rooms, batch, submission->room_id, &memory, error))
        return FALSE;
    if (memory == NULL || submission->kind == RECEIVE_LEAVE ||
        room_memory_server_joined(memory, submission->rooms->server_name) == 0)
        return apply_outside(submission, batch, error);
    return apply_in_room(submission, memory, batch, error);
}

static void
done(gpointer data, gint64 position, const GError *error)
{
    Submission *submission = data;
    g_autoptr(GError) refusal = NULL;

    if (error == NULL)
        rooms_memory_committed(submission->rooms, submission->room_id);
    if (error == NULL && submission->kind == RECEIVE_OWN) {
        const Received *received = g_ptr_array_index(submission->received, 0);

        if (received->verdict == RECEIVED_REJECTED || received->verdict == RECEIVED_SOFT_FAILED)
            refusal_set(&refusal, 403, "M_FORBIDDEN", "The rules of the room do not allow this: %s",
                        received->reason);
    }
    submission_answer(submission, position, error != NULL ? error : refusal);
}

static void
submit(Submission *submission)
{
    g_autoptr(GError) error = NULL;

    if (!lane_submit(submission->rooms->lane, apply, done, submission, &error))
        submission_answer(submission, 0, error);
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
    if (submission->version == NULL && submission->kind != RECEIVE_OUTLIERS &&
        submission->kind != RECEIVE_HISTORY && events->len > 0 &&
        !invite_version(submission, g_ptr_array_index(events, 0), &error)) {
        submission_answer(submission, 0, error);
        return;
    }
    for (guint i = 0; i < events->len; i++) {
        add_input(submission, g_ptr_array_index(events, i));
        any = any || g_ptr_array_index(submission->pdus, i) != NULL;
    }
    if (!any) {
        submission_answer(submission, 0, NULL);
        return;
    }
    warm(submission);
    submit(submission);
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
    submit_events(submission_new(rooms, RECEIVE_EVENTS, room_id, origin, on_done, data), events);
}

void
rooms_receive_outliers(Rooms *rooms, const char *room_id, GPtrArray *events, RoomsReceived on_done,
                       gpointer data)
{
    submit_events(submission_new(rooms, RECEIVE_OUTLIERS, room_id, NULL, on_done, data), events);
}

void
rooms_receive_history(Rooms *rooms, const char *room_id, GPtrArray *events, RoomsReceived on_done,
                      gpointer data)
{
    submit_events(submission_new(rooms, RECEIVE_HISTORY, room_id, NULL, on_done, data), events);
}

void
rooms_receive_own(Rooms *rooms, const char *room_id, GBytes *event, RoomsReceived on_done,
                  gpointer data)
{
    submit_event(submission_new(rooms, RECEIVE_OWN, room_id, NULL, on_done, data), event);
}

void
rooms_accept_leave(Rooms *rooms, const char *room_id, GBytes *leave, RoomsReceived on_done,
                   gpointer data)
{
    submit_event(submission_new(rooms, RECEIVE_LEAVE, room_id, NULL, on_done, data), leave);
}

void
rooms_receive_at_state(Rooms *rooms, const char *room_id, GBytes *event, GPtrArray *state,
                       GPtrArray *auth_chain, RoomsReceived on_done, gpointer data)
{
    Submission *submission = submission_new(rooms, RECEIVE_AT_STATE, room_id, NULL, on_done, data);
    g_autoptr(GError) error = NULL;

    if (!find_version(submission, &error)) {
        submission_answer(submission, 0, error);
        return;
    }
    take_past(submission, state, auth_chain);
    submit_event(submission, event);
}

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
    Submission *submission = submission_new(rooms, RECEIVE_JOIN, room_id, NULL, on_done, data);
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
    take_past(submission, state, auth_chain);
    add_input(submission, join);
    received = g_ptr_array_index(submission->received, 0);
    if (g_ptr_array_index(submission->pdus, 0) == NULL || find_create(submission) == NULL) {
        refusal_set(&error, 502, "M_UNKNOWN", "The partner's answer to the join does not hold: %s",
                    received->reason != NULL ? received->reason
                                             : "its create event is not properly signed");
        submission_answer(submission, 0, error);
        return;
    }
    submit(submission);
}

static void
accept_from_outside(Rooms *rooms, const char *room_id, const RoomVersion *version,
                    const char *membership, GBytes *event, GBytes *stripped_state,
                    RoomsReceived on_done, gpointer data)
{
    Submission *submission = submission_new(rooms, RECEIVE_INVITE, room_id, NULL, on_done, data);
    g_autoptr(GError) error = NULL;
    const Received *received;
    const Pdu *pdu;

    submission->version = version;
    submission->stripped_state = g_bytes_ref(stripped_state);
    add_input(submission, event);
    received = g_ptr_array_index(submission->received, 0);
    pdu = g_ptr_array_index(submission->pdus, 0);
    if (pdu == NULL || g_strcmp0(pdu_membership(pdu), membership) != 0 ||
        g_strcmp0(identifier_server(pdu->state_key), rooms->server_name) != 0) {
        refusal_set(&error, 400, "M_INVALID_PARAM", "That is no %s of a user of this server: %s",
                    membership,
                    received->reason != NULL ? received->reason : "wrong membership or state_key");
        submission_answer(submission, 0, error);
        return;
    }
    submit(submission);
}

void
rooms_accept_invite(Rooms *rooms, const char *room_id, const RoomVersion *version, GBytes *invite,
                    GBytes *stripped_state, RoomsReceived on_done, gpointer data)
{
    accept_from_outside(rooms, room_id, version, "invite", invite, stripped_state, on_done, data);
}

void
rooms_accept_knock(Rooms *rooms, const char *room_id, const RoomVersion *version, GBytes *knock,
                   GBytes *stripped_state, RoomsReceived on_done, gpointer data)
{
    accept_from_outside(rooms, room_id, version, "knock", knock, stripped_state, on_done, data);
}

/* ---- an invite ends here alone ---- */

typedef struct {
    char *room_id;
    char *user_id;
    RoomsDone done;
    gpointer data;
} InviteDrop;

static gboolean
drop_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const InviteDrop *drop = data;

    membership_store_remove_invite(batch, drop->user_id, drop->room_id);
    lane_batch_log(batch, log_entry_new(LOG_INVITE, drop->room_id, drop->user_id, NULL));
    return TRUE;
}

static void
drop_done(gpointer data, gint64 position, const GError *error)
{
    InviteDrop *drop = data;
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    const RoomsOutcome outcome = {drop->room_id, none, position};

    drop->done(error == NULL ? &outcome : NULL, error, drop->data);
    g_free(drop->room_id);
    g_free(drop->user_id);
    g_free(drop);
}

void
rooms_drop_invite(Rooms *rooms, const char *room_id, const char *user_id, RoomsDone on_done,
                  gpointer data)
{
    InviteDrop *drop = g_new0(InviteDrop, 1);
    g_autoptr(GError) error = NULL;

    drop->room_id = g_strdup(room_id);
    drop->user_id = g_strdup(user_id);
    drop->done = on_done;
    drop->data = data;
    if (!lane_submit(rooms->lane, drop_apply, drop_done, drop, &error))
        drop_done(drop, 0, error);
}
