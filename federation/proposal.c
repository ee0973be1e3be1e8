/* Events of local users: built, judged and stored on the lane thread. */
#include "federation/acceptance.h"
#include "federation/room/pdu_build.h"
#include "federation/rooms_private.h"
#include "identity/clock.h"
#include "identity/refusal.h"
#include "storage/alias_store.h"
#include "storage/room_store.h"

#include <sodium.h>

/* A client's repetition of a request is known for so long. */
#define TRANSACTION_LIFE_MS ((gint64)24 * 3600 * 1000)
#define TRANSACTION_TRIM_PERIOD_MS ((gint64)10 * 60 * 1000)

typedef struct {
    char *type;
    char *state_key; /* or NULL */
    cJSON *content;
} Draft;

struct RoomsProposal {
    char *room_id; /* NULL: a room is made */
    char *sender;
    GPtrArray *drafts;
    gboolean idempotent;
    char *alias; /* of the new room, or NULL */
    gboolean published;
    char *device_id; /* with a transaction id; else NULL */
    char *scope;
    char *txn_id;
};

static void
draft_free(gpointer data)
{
    Draft *draft = data;

    g_free(draft->type);
    g_free(draft->state_key);
    cJSON_Delete(draft->content);
    g_free(draft);
}

RoomsProposal *
rooms_proposal_new(const char *room_id, const char *sender)
{
    RoomsProposal *proposal = g_new0(RoomsProposal, 1);

    proposal->room_id = g_strdup(room_id);
    proposal->sender = g_strdup(sender);
    proposal->drafts = g_ptr_array_new_with_free_func(draft_free);
    return proposal;
}

void
rooms_proposal_free(RoomsProposal *proposal)
{
    if (proposal == NULL)
        return;
    g_free(proposal->room_id);
    g_free(proposal->sender);
    g_ptr_array_unref(proposal->drafts);
    g_free(proposal->alias);
    g_free(proposal->device_id);
    g_free(proposal->scope);
    g_free(proposal->txn_id);
    g_free(proposal);
}

void
rooms_proposal_add(RoomsProposal *proposal, const char *type, const char *state_key, cJSON *content)
{
    Draft *draft = g_new0(Draft, 1);

    draft->type = g_strdup(type);
    draft->state_key = g_strdup(state_key);
    draft->content = content;
    g_ptr_array_add(proposal->drafts, draft);
}

void
rooms_proposal_set_transaction(RoomsProposal *proposal, const char *device_id, const char *scope,
                               const char *txn_id)
{
    proposal->device_id = g_strdup(device_id);
    proposal->scope = g_strdup(scope);
    proposal->txn_id = g_strdup(txn_id);
}

void
rooms_proposal_set_names(RoomsProposal *proposal, const char *alias, gboolean published)
{
    proposal->alias = g_strdup(alias);
    proposal->published = published;
}

void
rooms_proposal_set_idempotent(RoomsProposal *proposal)
{
    proposal->idempotent = TRUE;
}

/* ---- one operation of the lane ---- */

typedef struct {
    Rooms *rooms;
    RoomsProposal *proposal;
    RoomsDone done; /* one of these two */
    RoomsBuilt built;
    gpointer data;
    char *room_id;
    GPtrArray *event_ids;
    Pdu *pdu; /* for built */
} Operation;

static void
operation_free(Operation *operation)
{
    rooms_proposal_free(operation->proposal);
    g_free(operation->room_id);
    g_ptr_array_unref(operation->event_ids);
    pdu_unref(operation->pdu);
    g_free(operation);
}

/* What the builder says about content that a client chose. */
static void
refuse_event(GError **error, const GError *cause)
{
    if (g_error_matches(cause, PDU_ERROR, PDU_ERROR_TOO_LARGE))
        refusal_set(error, 413, "M_TOO_LARGE", "The event is too large: %s", cause->message);
    else
        refusal_set(error, 400, "M_BAD_JSON", "That does not make an event: %s", cause->message);
}

/* Versions 1 and 2 put the hash beside each id; later ones hold no place for it. */
static void
take_reference(const RoomVersion *version, const Pdu *pdu, const char **ret_id, char **ret_hash)
{
    *ret_id = pdu->event_id;
    *ret_hash = version->reference_pairs ? pdu_reference_hash(pdu) : NULL;
}

static Pdu *
build_event(const Operation *operation, const RoomMemory *memory, const RoomVersion *version,
            const Draft *draft, const GPtrArray *auth_pdus, gint64 origin_server_ts, GError **error)
{
    const char *prev[ROOM_EXTREMITIES_MAX + 1] = {NULL};
    const char *auth[EVENT_AUTH_KEYS_MAX + 1] = {NULL};
    g_auto(GStrv) prev_hashes = g_new0(char *, ROOM_EXTREMITIES_MAX + 1);
    g_auto(GStrv) auth_hashes = g_new0(char *, EVENT_AUTH_KEYS_MAX + 1);
    g_autofree char *event_id =
        version->event_id_format == EVENT_ID_CHOSEN ? rooms_new_id(operation->rooms, '$') : NULL;
    g_autofree char *room_id = version->room_id_is_create_hash || memory != NULL
                                   ? NULL
                                   : rooms_new_id(operation->rooms, '!');
    gboolean redaction = g_str_equal(draft->type, "m.room.redaction");
    gint64 depth = memory != NULL ? room_memory_depth(memory) : 0;
    g_autoptr(GError) cause = NULL;
    Pdu *pdu;

    for (guint i = 0; memory != NULL && i < memory->extremities->len; i++)
        take_reference(version, ((RoomEvent *)g_ptr_array_index(memory->extremities, i))->pdu,
                       &prev[i], &prev_hashes[i]);
    for (guint i = 0; i < auth_pdus->len; i++)
        take_reference(version, g_ptr_array_index(auth_pdus, i), &auth[i], &auth_hashes[i]);
    pdu = pdu_build(version,
                    &(PduTemplate){
                        .event_id = event_id,
                        .room_id = memory != NULL ? memory->info->room_id : room_id,
                        .type = draft->type,
                        .state_key = draft->state_key,
                        .sender = operation->proposal->sender,
                        .content = draft->content,
                        .redacts = redaction ? json_get_string(draft->content, "redacts") : NULL,
                        .prev_events = prev,
                        .auth_events = auth,
                        .prev_hashes = (const char *const *)prev_hashes,
                        .auth_hashes = (const char *const *)auth_hashes,
                        .depth = depth < version->depth_max ? depth + 1 : depth,
                        .origin_server_ts = origin_server_ts,
                    },
                    &operation->rooms->signer, &cause);
    if (pdu == NULL)
        refuse_event(error, cause);
    return pdu;
}

/* The event that this draft becomes at the room's ends; the rules allow it. */
static RoomEvent *
judge_draft(const Operation *operation, RoomMemory *memory, const Draft *draft, GError **error)
{
    g_autoptr(GPtrArray) auth_pdus = NULL;
    g_autoptr(RoomEvent) event = NULL;
    g_autoptr(Pdu) pdu = NULL;
    const char *reason = NULL;
    EventAuthKeys keys;

    event_auth_keys(memory->info->version, draft->type, draft->state_key,
                    operation->proposal->sender, draft->content, &keys);
    auth_pdus = room_memory_state_pdus(memory, &keys, error);
    if (auth_pdus == NULL)
        return NULL;
    pdu = build_event(operation, memory, memory->info->version, draft, auth_pdus, clock_wall_ms(),
                      error);
    if (pdu == NULL)
        return NULL;
    if (event_auth_check(pdu, memory->create, auth_pdus, &reason) != AUTH_ALLOW) {
        refusal_set(error, 403, "M_FORBIDDEN", "The rules of the room do not allow this: %s",
                    reason);
        return NULL;
    }
    event = room_event_new(pdu, STORED_EVENT_ACCEPTED, TRUE);
    event->has_state = TRUE;
    event->before = memory->current;
    if (!acceptance_state_after(memory, event, error))
        return NULL;
    return g_steal_pointer(&event);
}

/* The state event in force when it says the same already. */
static gboolean
find_same(const Operation *operation, RoomMemory *memory, const Draft *draft, RoomEvent **ret_same,
          GError **error)
{
    g_autoptr(RoomEvent) event = NULL;

    *ret_same = NULL;
    if (!operation->proposal->idempotent || draft->state_key == NULL)
        return TRUE;
    if (!room_memory_state(memory, draft->type, draft->state_key, &event, error))
        return FALSE;
    if (event != NULL && event->redaction_id == NULL &&
        g_str_equal(event->pdu->sender, operation->proposal->sender) &&
        cJSON_Compare(event->pdu->content, draft->content, TRUE))
        *ret_same = g_steal_pointer(&event);
    return TRUE;
}

static gboolean
add_draft(Operation *operation, RoomMemory *memory, LaneBatch *batch, const Draft *draft,
          GError **error)
{
    g_autoptr(RoomEvent) event = NULL;

    if (!find_same(operation, memory, draft, &event, error))
        return FALSE;
    if (event != NULL) {
        g_ptr_array_add(operation->event_ids, g_strdup(event->pdu->event_id));
        return TRUE;
    }
    event = judge_draft(operation, memory, draft, error);
    if (event == NULL)
        return FALSE;
    if (operation->built != NULL) {
        operation->pdu = pdu_ref(event->pdu);
        return TRUE;
    }
    if (operation->proposal->txn_id != NULL && operation->event_ids->len == 0) {
        event->device_id = g_strdup(operation->proposal->device_id);
        event->txn_id = g_strdup(operation->proposal->txn_id);
    }
    if (!acceptance_add(operation->rooms, memory, batch,
                        &(Acceptance){.event = event, .deliver = TRUE, .is_new = TRUE}, error)) {
        room_memory_damage(memory);
        return FALSE;
    }
    g_ptr_array_add(operation->event_ids, g_strdup(event->pdu->event_id));
    return TRUE;
}

/* A room's id is its create event's hash, so equal create events would be one room: what one user
 * asks for twice in a millisecond differs by its time. */
static Pdu *
build_create(Operation *operation, LaneBatch *batch, const RoomVersion *version, GError **error)
{
    const Draft *draft = g_ptr_array_index(operation->proposal->drafts, 0);
    Rooms *rooms = operation->rooms;
    StoreConnection *connection = lane_batch_connection(batch, error);
    g_autoptr(GPtrArray) none = g_ptr_array_new();

    if (connection == NULL)
        return NULL;
    rooms->last_create_ms = MAX(rooms->last_create_ms + 1, clock_wall_ms());
    for (;; rooms->last_create_ms++) {
        g_autoptr(Pdu) pdu =
            build_event(operation, NULL, version, draft, none, rooms->last_create_ms, error);
        g_autoptr(RoomInfo) info = NULL;

        if (pdu == NULL || !room_reader_info(rooms->reader, connection, pdu->room_id, &info, error))
            return NULL;
        if (info == NULL && room_memories_find(rooms->memories, pdu->room_id) == NULL)
            return g_steal_pointer(&pdu);
    }
}

/* The create event gives version 12's room its id (and names the id of older ones), so it comes
 * before the room's memory. */
static RoomMemory *
make_room(Operation *operation, LaneBatch *batch, GError **error)
{
    const Draft *draft = g_ptr_array_index(operation->proposal->drafts, 0);
    const RoomVersion *version =
        room_version_find_supported(json_get_string(draft->content, "room_version"));
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    g_autoptr(RoomInfo) info = NULL;
    g_autoptr(RoomMemory) memory = NULL;
    g_autoptr(RoomEvent) event = NULL;
    g_autoptr(GBytes) seed_bytes = NULL;
    g_autoptr(Pdu) pdu = NULL;
    guint8 seed[STATE_SEED_BYTES];
    const char *reason = NULL;

    if (version == NULL) {
        refusal_set(error, 400, "M_UNSUPPORTED_ROOM_VERSION",
                    "This server makes no rooms of that version");
        return NULL;
    }
    pdu = build_create(operation, batch, version, error);
    if (pdu == NULL)
        return NULL;
    if (event_auth_check(pdu, NULL, none, &reason) != AUTH_ALLOW) {
        refusal_set(error, 400, "M_BAD_JSON", "That is no m.room.create event: %s", reason);
        return NULL;
    }
    randombytes_buf(seed, sizeof seed);
    info = room_info_new(pdu->room_id, version, seed);
    if (!version->room_id_is_create_hash)
        room_info_set_create(info, pdu);
    memory = room_memory_new(operation->rooms->reader, info);
    memory->view->connection = lane_batch_connection(batch, error);
    if (memory->view->connection == NULL)
        return NULL;
    seed_bytes = g_bytes_new(seed, sizeof seed);
    room_store_insert(batch, pdu->room_id, version->id, seed_bytes, pdu->origin_server_ts);
    event = room_event_new(pdu, STORED_EVENT_ACCEPTED, TRUE);
    event->has_state = TRUE;
    event->before = state_node_empty;
    if (!acceptance_state_after(memory, event, error) ||
        !acceptance_add(operation->rooms, memory, batch, &(Acceptance){.event = event}, error))
        return NULL;
    g_ptr_array_add(operation->event_ids, g_strdup(pdu->event_id));
    return g_steal_pointer(&memory);
}

/* Somebody may have taken the name since the request was looked at. */
static gboolean
check_alias(const Operation *operation, LaneBatch *batch, GError **error)
{
    const char *alias = operation->proposal->alias;
    StoreConnection *connection = lane_batch_connection(batch, error);
    g_autoptr(StoredAlias) taken = NULL;

    if (connection == NULL || !alias_store_find(connection, alias, &taken, error))
        return FALSE;
    if (taken == NULL)
        return TRUE;
    refusal_set(error, 400, "M_ROOM_IN_USE", "A room has the name %s already", alias);
    return FALSE;
}

static gboolean
apply_new_room(Operation *operation, LaneBatch *batch, GError **error)
{
    g_autoptr(RoomMemory) memory = NULL;

    if (operation->proposal->alias != NULL && !check_alias(operation, batch, error))
        return FALSE;
    memory = make_room(operation, batch, error);
    if (memory == NULL)
        return FALSE;
    for (guint i = 1; i < operation->proposal->drafts->len; i++)
        if (!add_draft(operation, memory, batch, g_ptr_array_index(operation->proposal->drafts, i),
                       error))
            return FALSE;
    operation->room_id = g_strdup(memory->info->room_id);
    if (operation->proposal->alias != NULL)
        alias_store_insert(batch, operation->proposal->alias, operation->room_id,
                           operation->proposal->sender, clock_wall_ms());
    if (operation->proposal->published)
        alias_store_publish(batch, operation->room_id, clock_wall_ms());
    rooms_memory_add(operation->rooms, batch, g_steal_pointer(&memory));
    return TRUE;
}

static gboolean
apply_events(Operation *operation, LaneBatch *batch, GError **error)
{
    const GPtrArray *drafts = operation->proposal->drafts;
    g_autoptr(RoomMemorySaved) saved = NULL;
    RoomMemory *memory;

    if (!rooms_memory(operation->rooms, batch, operation->room_id, &memory, error))
        return FALSE;
    if (memory == NULL || room_memory_server_joined(memory, operation->rooms->server_name) == 0) {
        refusal_set(error, 403, "M_FORBIDDEN", "You are not in that room");
        return FALSE;
    }
    saved = drafts->len > 1 ? room_memory_save(memory) : NULL;
    for (guint i = 0; i < drafts->len; i++) {
        if (add_draft(operation, memory, batch, g_ptr_array_index(drafts, i), error))
            continue;
        if (saved != NULL && !memory->damaged)
            room_memory_restore(memory, saved);
        return FALSE;
    }
    rooms_memory_changed(operation->rooms, batch, memory);
    return TRUE;
}

static void
record_transaction(const Operation *operation, LaneBatch *batch)
{
    const RoomsProposal *proposal = operation->proposal;
    Rooms *rooms = operation->rooms;
    gint64 now_ms = clock_wall_ms();

    event_store_record_transaction(batch, proposal->sender, proposal->device_id, proposal->scope,
                                   proposal->txn_id, g_ptr_array_index(operation->event_ids, 0),
                                   now_ms);
    if (now_ms < rooms->next_trim_ms)
        return;
    rooms->next_trim_ms = now_ms + TRANSACTION_TRIM_PERIOD_MS;
    event_store_trim_transactions(batch, now_ms - TRANSACTION_LIFE_MS);
}

static gboolean
apply(LaneBatch *batch, gpointer data, GError **error)
{
    Operation *operation = data;
    const RoomsProposal *proposal = operation->proposal;

    /* It may run again after a batch was taken back. */
    g_ptr_array_set_size(operation->event_ids, 0);
    g_clear_pointer(&operation->pdu, pdu_unref);
    g_free(operation->room_id);
    operation->room_id = g_strdup(proposal->room_id);
    if (proposal->room_id == NULL ? !apply_new_room(operation, batch, error)
                                  : !apply_events(operation, batch, error))
        return FALSE;
    if (proposal->txn_id != NULL && operation->event_ids->len > 0)
        record_transaction(operation, batch);
    return TRUE;
}

static void
done(gpointer data, gint64 position, const GError *error)
{
    Operation *operation = data;
    const RoomsOutcome outcome = {operation->room_id, operation->event_ids, position};

    if (operation->built != NULL)
        operation->built(error == NULL ? operation->pdu : NULL, error, operation->data);
    else
        operation->done(error == NULL ? &outcome : NULL, error, operation->data);
    operation_free(operation);
}

static void
submit(Rooms *rooms, RoomsProposal *proposal, RoomsDone on_done, RoomsBuilt built, gpointer data)
{
    Operation *operation = g_new0(Operation, 1);
    g_autoptr(GError) error = NULL;

    operation->rooms = rooms;
    operation->proposal = proposal;
    operation->done = on_done;
    operation->built = built;
    operation->data = data;
    operation->event_ids = g_ptr_array_new_with_free_func(g_free);
    g_assert(proposal->drafts->len > 0);
    if (!lane_submit(rooms->lane, apply, done, operation, &error)) {
        if (built != NULL)
            built(NULL, error, data);
        else
            on_done(NULL, error, data);
        operation_free(operation);
    }
}

void
rooms_propose(Rooms *rooms, RoomsProposal *proposal, RoomsDone on_done, gpointer data)
{
    submit(rooms, proposal, on_done, NULL, data);
}

void
rooms_build(Rooms *rooms, RoomsProposal *proposal, RoomsBuilt built, gpointer data)
{
    submit(rooms, proposal, NULL, built, data);
}
