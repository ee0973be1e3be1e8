#include "federation/transaction.h"

#include <string.h>

#include "federation/room/identifier.h"
#include "identity/clock.h"
#include "identity/refusal.h"
#include "identity/seeded_hash.h"
#include "storage/event_store.h"
#include "storage/partner_store.h"

#define TXN_ID_BYTES_MAX 255
#define MISSING_MAX 20    /* events asked for at once */
#define FETCHED_MAX 200   /* events of one answer that are looked at */
#define ROUNDS_MAX 12     /* questions to the origin for one room of one transaction */
#define ROOM_QUEUE_MAX 20 /* transactions that wait for one room */
#define ANSWERS_KEPT_MS ((gint64)14 * 24 * 3600 * 1000)
#define ANSWERS_FORGOTTEN_AT_ONCE 100
#define WORKER_THREADS 2
#define FORGET_EVERY 64 /* transactions */

struct Transactions {
    StorePool *pool;
    Rooms *rooms;
    Partners *partners;
    PartnerClient *client;
    GThreadPool *workers; /* RoomWork: what follows the lane's word, off the lane's thread */

    GMutex lock;
    GHashTable *open;       /* "origin\ntxn" -> Transaction that is being worked on */
    GHashTable *rooms_busy; /* room id -> GQueue of RoomWork that waits */
    guint counted;
};

typedef struct {
    TransactionDone done;
    gpointer data;
} Waiter;

typedef struct {
    gint references; /* atomic: one a room still at work, one of transactions_receive() */
    Transactions *transactions;
    char *key;
    char *origin;
    char *txn_id;
    GMutex lock;          /* verdicts */
    GHashTable *verdicts; /* event id -> error text, "" when taken */
    GError *failure;      /* storage: nothing is acknowledged */
    GArray *waiters;      /* Waiter; under transactions->lock */
} Transaction;

/* One room's part of a transaction. */
typedef struct {
    Transaction *transaction;
    char *room_id;
    GPtrArray *events; /* GBytes: to be handed in now */
    GHashTable *ours;  /* ids of the events of the transaction itself: only they are answered for */
    GPtrArray *ids;    /* char *: of the transaction's own events, in its order */
    guint rounds;
    gboolean asked;     /* for missing events by get_missing_events */
    GBytes *at_state;   /* the event whose state is being asked for */
    GPtrArray *missing; /* char *: ids of those of @events that could not be placed yet */
    guint first;        /* the one of least depth */
    gboolean again;     /* hand in what is left before anything is fetched */
} RoomWork;

/* ---- construction ---- */

static void
wait_queue_free(gpointer data)
{
    g_queue_free(data); /* empty at the end */
}

static void room_work_continue(gpointer work, gpointer unused);

Transactions *
transactions_new(StorePool *pool, Rooms *rooms, Partners *partners, PartnerClient *client)
{
    Transactions *transactions = g_new0(Transactions, 1);
    transactions->pool = pool;
    transactions->rooms = rooms;
    transactions->partners = partners;
    transactions->client = client;
    transactions->open = g_hash_table_new(seeded_str_hash, g_str_equal);
    transactions->rooms_busy =
        g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, wait_queue_free);
    g_mutex_init(&transactions->lock);
    transactions->workers =
        g_thread_pool_new(room_work_continue, NULL, WORKER_THREADS, FALSE, NULL);
    return transactions;
}

void
transactions_free(Transactions *transactions)
{
    if (transactions == NULL)
        return;
    g_thread_pool_free(transactions->workers, FALSE, TRUE);
    g_hash_table_unref(transactions->open);
    g_hash_table_unref(transactions->rooms_busy);
    g_mutex_clear(&transactions->lock);
    g_free(transactions);
}

/* ---- the answer ---- */

static GBytes *
answer_bytes(Transaction *transaction)
{
    GHashTableIter iter;
    gpointer id, verdict;
    guint count = 0;
    GString *out = g_string_new("{\"pdus\":{");
    g_hash_table_iter_init(&iter, transaction->verdicts);
    while (g_hash_table_iter_next(&iter, &id, &verdict)) {
        if (count++ > 0)
            g_string_append_c(out, ',');
        json_append_string(out, id);
        g_string_append(out, ":{");
        if (*(const char *)verdict != '\0') {
            g_string_append(out, "\"error\":");
            json_append_string(out, verdict);
        }
        g_string_append_c(out, '}');
    }
    g_string_append(out, "}}");
    return g_string_free_to_bytes(out);
}

static gboolean
keep_answer(Transaction *transaction, GBytes *answer, GError **error)
{
    Transactions *transactions = transaction->transactions;
    gint64 now = clock_wall_ms();
    g_autoptr(StoreConnection) connection = store_borrow(transactions->pool, error);
    if (connection == NULL || !partner_store_keep_answer(connection, transaction->origin,
                                                         transaction->txn_id, answer, now, error))
        return FALSE;
    if (g_atomic_int_add((gint *)&transactions->counted, 1) % FORGET_EVERY == 0)
        return partner_store_forget_answers(connection, now - ANSWERS_KEPT_MS,
                                            ANSWERS_FORGOTTEN_AT_ONCE, error);
    return TRUE;
}

/* The last room is done, or there was none. */
static void
transaction_unref(Transaction *transaction)
{
    Transactions *transactions = transaction->transactions;
    g_autoptr(GBytes) answer = NULL;
    if (!g_atomic_int_dec_and_test(&transaction->references))
        return;
    if (transaction->failure == NULL) {
        answer = answer_bytes(transaction);
        keep_answer(transaction, answer, &transaction->failure);
    }
    g_mutex_lock(&transactions->lock);
    g_hash_table_remove(transactions->open, transaction->key);
    g_mutex_unlock(&transactions->lock);
    for (guint i = 0; i < transaction->waiters->len; i++) {
        Waiter *waiter = &g_array_index(transaction->waiters, Waiter, i);
        waiter->done(transaction->failure == NULL ? answer : NULL, transaction->failure,
                     waiter->data);
    }
    g_array_unref(transaction->waiters);
    g_hash_table_unref(transaction->verdicts);
    g_clear_error(&transaction->failure);
    g_mutex_clear(&transaction->lock);
    g_free(transaction->key);
    g_free(transaction->origin);
    g_free(transaction->txn_id);
    g_free(transaction);
}

/* Storage failed: the whole is answered with that, and the partner tries again. */
static void
transaction_fail(Transaction *transaction, const GError *error)
{
    g_mutex_lock(&transaction->lock);
    if (transaction->failure == NULL)
        transaction->failure = g_error_copy(error);
    g_mutex_unlock(&transaction->lock);
}

static void
set_verdict(RoomWork *work, const char *event_id, const char *problem)
{
    if (event_id == NULL)
        return;
    g_mutex_lock(&work->transaction->lock);
    /* Only events of the transaction itself are answered for; the first word on them is by
     * position. */
    if (g_hash_table_contains(work->ours, event_id))
        g_hash_table_insert(work->transaction->verdicts, g_strdup(event_id), g_strdup(problem));
    g_mutex_unlock(&work->transaction->lock);
}

/* ---- one room at a time ---- */

static void room_work_run(RoomWork *work);

static void
room_work_free(RoomWork *work)
{
    Transaction *transaction = work->transaction;
    g_ptr_array_unref(work->events);
    g_ptr_array_unref(work->ids);
    g_hash_table_unref(work->ours);
    g_clear_pointer(&work->at_state, g_bytes_unref);
    g_clear_pointer(&work->missing, g_ptr_array_unref);
    g_free(work->room_id);
    g_free(work);
    transaction_unref(transaction);
}

/* This work has the room; the next one gets it after. */
static void
room_work_end(RoomWork *work)
{
    Transactions *transactions = work->transaction->transactions;
    RoomWork *next = NULL;
    g_mutex_lock(&transactions->lock);
    GQueue *queue = g_hash_table_lookup(transactions->rooms_busy, work->room_id);
    next = g_queue_pop_head(queue);
    if (next == NULL)
        g_hash_table_remove(transactions->rooms_busy, work->room_id);
    g_mutex_unlock(&transactions->lock);
    room_work_free(work);
    if (next != NULL)
        room_work_run(next);
}

static void
room_work_fail(RoomWork *work, const GError *error)
{
    transaction_fail(work->transaction, error);
    room_work_end(work);
}

/* FALSE: too many wait for that room; the partner tries again later. */
static gboolean
room_work_begin(RoomWork *work)
{
    Transactions *transactions = work->transaction->transactions;
    gboolean free_now = FALSE;
    gboolean taken = TRUE;
    g_mutex_lock(&transactions->lock);
    GQueue *queue = g_hash_table_lookup(transactions->rooms_busy, work->room_id);
    if (queue == NULL) {
        g_hash_table_insert(transactions->rooms_busy, g_strdup(work->room_id), g_queue_new());
        free_now = TRUE;
    } else if (g_queue_get_length(queue) < ROOM_QUEUE_MAX) {
        g_queue_push_tail(queue, work);
    } else {
        taken = FALSE;
    }
    g_mutex_unlock(&transactions->lock);
    if (free_now)
        room_work_run(work);
    return taken;
}

static GPtrArray *
bytes_array(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
}

/* New events are taken of partners' users (and ours, which come back) alone, whoever brings them:
 * what a server that was dropped says now, or says that it has said before, counts no more. */
static gboolean
is_by_partner(Transactions *transactions, const cJSON *event)
{
    const char *sender = json_get_string(event, "sender");
    const char *server = sender != NULL ? identifier_server(sender) : NULL;
    if (server == NULL)
        return FALSE;
    if (strcmp(server, partners_own_name(transactions->partners)) == 0)
        return TRUE;
    g_autoptr(Partner) partner =
        partners_find(transactions->partners, server, PARTNER_EITHER, NULL);
    return partner != NULL;
}

/* Objects of a JSON array as canonical JSON; odd ones are passed over. */
static GPtrArray *
events_of(const cJSON *array)
{
    GPtrArray *events = bytes_array();
    for (const cJSON *item = array != NULL ? array->child : NULL; item != NULL; item = item->next) {
        GBytes *bytes = cJSON_IsObject(item) ? json_canonical(item, NULL) : NULL;
        if (bytes != NULL)
            g_ptr_array_add(events, bytes);
    }
    return events;
}

static const char *
describe(const Received *received)
{
    switch (received->verdict) {
    case RECEIVED_ACCEPTED:
    case RECEIVED_KNOWN:
    case RECEIVED_SOFT_FAILED: /* kept; nobody is told of it, its sender neither */
        return "";
    case RECEIVED_MISSING:
        return "Events that it stands on are not known here and could not be fetched";
    default:
        return received->reason != NULL && received->reason[0] != '\0' ? received->reason
                                                                       : "refused";
    }
}

static void received(GPtrArray *results, gint64 position, const GError *error, gpointer data);
static void
placed_at_state(GPtrArray *results, gint64 position, const GError *error, gpointer data);

/* ---- fetching what is missing ---- */

static void
missing_answered(const PartnerAnswer *answer, gpointer data)
{
    RoomWork *work = data;
    /* Oldest first, as they come; then those that stand on them. */
    GPtrArray *fetched = bytes_array();
    const cJSON *events = json_get_array(answer->json, "events");
    for (const cJSON *item = events != NULL ? events->child : NULL;
         item != NULL && fetched->len < FETCHED_MAX; item = item->next) {
        GBytes *bytes = is_by_partner(work->transaction->transactions, item)
                            ? json_canonical(item, NULL)
                            : NULL;
        if (bytes != NULL)
            g_ptr_array_add(fetched, bytes);
    }
    for (guint i = 0; i < work->events->len; i++)
        g_ptr_array_add(fetched, g_bytes_ref(work->events->pdata[i]));
    g_ptr_array_unref(work->events);
    work->events = fetched;
    room_work_run(work);
}

static void
append_ids(GString *out, GPtrArray *ids)
{
    g_string_append_c(out, '[');
    for (guint i = 0; i < ids->len; i++) {
        if (i > 0)
            g_string_append_c(out, ',');
        json_append_string(out, ids->pdata[i]);
    }
    g_string_append_c(out, ']');
}

/* The events between those that we have and @latest. */
static void
ask_for_missing(RoomWork *work)
{
    Transactions *transactions = work->transaction->transactions;
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(transactions->pool, &error);
    g_autoptr(GPtrArray) have =
        connection != NULL ? event_store_extremities(connection, work->room_id, &error) : NULL;
    g_clear_pointer(&connection, store_return);
    if (have == NULL) {
        room_work_fail(work, error);
        return;
    }
    GString *body = g_string_new("{\"earliest_events\":");
    append_ids(body, have);
    g_string_append(body, ",\"latest_events\":");
    append_ids(body, work->missing);
    g_string_append_printf(body, ",\"limit\":%d,\"min_depth\":0}", MISSING_MAX);
    g_autoptr(GBytes) content = g_string_free_to_bytes(body);
    g_autofree char *target =
        partner_client_target("/_matrix/federation/v1/get_missing_events/%s", work->room_id);
    work->asked = TRUE;
    partner_client_send(transactions->client, work->transaction->origin, "POST", target, content,
                        PARTNER_QUICK, missing_answered, work);
}

static void
state_answered(const PartnerAnswer *answer, gpointer data)
{
    RoomWork *work = data;
    g_autoptr(GPtrArray) state = events_of(json_get_array(answer->json, "pdus"));
    g_autoptr(GPtrArray) auth_chain = events_of(json_get_array(answer->json, "auth_chain"));
    g_autoptr(GBytes) event = g_steal_pointer(&work->at_state);
    if (answer->error == NULL && state->len > 0)
        rooms_receive_at_state(work->transaction->transactions->rooms, work->room_id, event, state,
                               auth_chain, placed_at_state, work);
    else if (work->events->len > 0)
        room_work_run(work);
    else
        room_work_end(work);
}

/* The gap is too wide: take @event (of @event_id) by the state that the origin says was before it.
 */
static void
ask_for_state(RoomWork *work, const char *event_id, GBytes *event)
{
    g_autofree char *target = partner_client_target("/_matrix/federation/v1/state/%s?event_id=%s",
                                                    work->room_id, event_id);
    work->at_state = g_bytes_ref(event);
    partner_client_send(work->transaction->transactions->client, work->transaction->origin, "GET",
                        target, NULL, PARTNER_LARGE, state_answered, work);
}

/* Keep in work->events only those with verdict MISSING, in their order, and note their ids. */
static void
keep_missing(RoomWork *work, GPtrArray *results)
{
    GPtrArray *left = bytes_array();
    gint64 least = G_MAXINT64;
    g_ptr_array_set_size(work->missing, 0);
    for (guint i = 0; i < results->len && i < work->events->len; i++) {
        const Received *one = results->pdata[i];
        if (one->verdict != RECEIVED_MISSING || one->event_id == NULL)
            continue;
        if (one->depth < least) {
            least = one->depth;
            work->first = left->len;
        }
        g_ptr_array_add(left, g_bytes_ref(work->events->pdata[i]));
        g_ptr_array_add(work->missing, g_strdup(one->event_id));
    }
    g_ptr_array_unref(work->events);
    work->events = left;
}

static void
note_results(RoomWork *work, GPtrArray *results, const GError *error)
{
    for (guint i = 0; error == NULL && i < results->len; i++) {
        const Received *one = results->pdata[i];
        const char *id = one->event_id;
        if (id == NULL && work->rounds == 0 && i < work->ids->len)
            id = work->ids->pdata[i]; /* refused before it was looked into */
        set_verdict(work, id, describe(one));
    }
    if (error == NULL)
        return;
    transaction_fail(work->transaction, error);
}

/* On the lane thread, both: take notes and leave it. */
static void
received(GPtrArray *results, gint64 position, const GError *error, gpointer data)
{
    RoomWork *work = data;
    note_results(work, results, error);
    if (error == NULL)
        keep_missing(work, results);
    work->again = FALSE;
    g_thread_pool_push(work->transaction->transactions->workers, work, NULL);
}

static void
placed_at_state(GPtrArray *results, gint64 position, const GError *error, gpointer data)
{
    RoomWork *work = data;
    note_results(work, results, error);
    work->again = TRUE;
    g_thread_pool_push(work->transaction->transactions->workers, work, NULL);
}

/* On a worker thread: the next step after the lane's word. */
static void
room_work_continue(gpointer item, gpointer unused)
{
    RoomWork *work = item;
    g_mutex_lock(&work->transaction->lock);
    gboolean failed = work->transaction->failure != NULL;
    g_mutex_unlock(&work->transaction->lock);
    if (failed || work->events->len == 0 || ++work->rounds > ROUNDS_MAX) {
        room_work_end(work);
    } else if (work->again) {
        room_work_run(work);
    } else if (!work->asked) {
        ask_for_missing(work);
    } else {
        g_autoptr(GBytes) event = g_bytes_ref(work->events->pdata[work->first]);
        g_ptr_array_remove_index(work->events, work->first);
        ask_for_state(work, work->missing->pdata[work->first], event);
    }
}

static void
room_work_run(RoomWork *work)
{
    Transactions *transactions = work->transaction->transactions;
    rooms_receive(transactions->rooms, work->room_id, work->transaction->origin, work->events,
                  received, work);
}

/* ---- a transaction comes in ---- */

static RoomWork *
room_work_new(Transaction *transaction, const char *room_id)
{
    RoomWork *work = g_new0(RoomWork, 1);
    g_atomic_int_inc(&transaction->references);
    work->transaction = transaction;
    work->room_id = g_strdup(room_id);
    work->events = bytes_array();
    work->ids = g_ptr_array_new_with_free_func(g_free);
    work->missing = g_ptr_array_new_with_free_func(g_free);
    work->ours = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    return work;
}

/* Its events, sorted into rooms, each in order.  NULL when storage fails: then nothing may be
 * acknowledged. */
static GPtrArray *
split_into_rooms(Transaction *transaction, const cJSON *pdus, GError **error)
{
    g_autoptr(GPtrArray) works = g_ptr_array_new_with_free_func((GDestroyNotify)room_work_free);
    g_autoptr(GHashTable) by_room = g_hash_table_new(seeded_str_hash, g_str_equal);
    for (const cJSON *item = pdus != NULL ? pdus->child : NULL; item != NULL; item = item->next) {
        const char *room_id = json_get_string(item, "room_id");
        const RoomVersion *version = NULL;
        if (room_id == NULL || !identifier_room_id_valid(room_id))
            continue;
        if (!rooms_version(transaction->transactions->rooms, room_id, &version, error))
            return NULL;
        /* No room of ours: it may still be the end of an invite, in the version of that. */
        const char *invited = json_get_string(item, "state_key");
        if (version == NULL && invited != NULL &&
            !rooms_invite_version(transaction->transactions->rooms, room_id, invited, &version,
                                  error))
            return NULL;
        if (version == NULL)
            version = room_version_default();
        GBytes *bytes = json_canonical(item, NULL);
        g_autoptr(Pdu) pdu = pdu_from_value(version, item, NULL);
        if (bytes == NULL || pdu == NULL) {
            g_clear_pointer(&bytes, g_bytes_unref);
            continue;
        }
        if (!is_by_partner(transaction->transactions, item)) {
            g_bytes_unref(bytes);
            g_mutex_lock(&transaction->lock);
            g_hash_table_insert(transaction->verdicts, g_strdup(pdu->event_id),
                                g_strdup("Its sender is not of a partner of this server"));
            g_mutex_unlock(&transaction->lock);
            continue;
        }
        RoomWork *work = g_hash_table_lookup(by_room, room_id);
        if (work == NULL) {
            work = room_work_new(transaction, room_id);
            g_hash_table_insert(by_room, work->room_id, work);
            g_ptr_array_add(works, work);
        }
        g_ptr_array_add(work->events, bytes);
        g_ptr_array_add(work->ids, g_strdup(pdu->event_id));
        g_hash_table_add(work->ours, g_strdup(pdu->event_id));
    }
    g_ptr_array_set_free_func(works, NULL); /* each goes its own way now */
    return g_steal_pointer(&works);
}

gboolean
transactions_check(const char *txn_id, const cJSON *body, GError **error)
{
    const cJSON *pdus = json_get_array(body, "pdus");
    const cJSON *edus = json_get_array(body, "edus");
    if (strlen(txn_id) > TXN_ID_BYTES_MAX)
        refusal_set(error, 400, "M_INVALID_PARAM", "The transaction id is longer than 255 bytes");
    else if (pdus == NULL || (edus == NULL && json_object_get(body, "edus") != NULL))
        refusal_set(error, 400, "M_BAD_JSON", "'pdus' and 'edus' must be arrays");
    else if (cJSON_GetArraySize(pdus) > TRANSACTION_PDUS_MAX)
        refusal_set(error, 400, "M_TOO_LARGE", "A transaction has at most %d PDUs",
                    TRANSACTION_PDUS_MAX);
    else if (edus != NULL && cJSON_GetArraySize(edus) > TRANSACTION_EDUS_MAX)
        refusal_set(error, 400, "M_TOO_LARGE", "A transaction has at most %d EDUs",
                    TRANSACTION_EDUS_MAX);
    else
        return TRUE;
    return FALSE;
}

/* NULL: the same transaction is being worked on, and its answer will be this one's. */
static Transaction *
transaction_open(Transactions *transactions, const char *origin, const char *txn_id, Waiter waiter)
{
    g_autofree char *key = g_strconcat(origin, "\n", txn_id, NULL);
    Transaction *transaction = NULL;
    g_mutex_lock(&transactions->lock);
    Transaction *open = g_hash_table_lookup(transactions->open, key);
    if (open != NULL) {
        g_array_append_val(open->waiters, waiter);
    } else {
        transaction = g_new0(Transaction, 1);
        transaction->references = 1;
        transaction->transactions = transactions;
        transaction->key = g_steal_pointer(&key);
        transaction->origin = g_strdup(origin);
        transaction->txn_id = g_strdup(txn_id);
        g_mutex_init(&transaction->lock);
        transaction->verdicts = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, g_free);
        transaction->waiters = g_array_new(FALSE, FALSE, sizeof(Waiter));
        g_array_append_val(transaction->waiters, waiter);
        g_hash_table_insert(transactions->open, transaction->key, transaction);
    }
    g_mutex_unlock(&transactions->lock);
    return transaction;
}

void
transactions_receive(Transactions *transactions, const char *origin, const char *txn_id,
                     const cJSON *body, TransactionDone done, gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) before = NULL;
    g_autoptr(StoreConnection) connection = NULL;
    if (!transactions_check(txn_id, body, &error) ||
        (connection = store_borrow(transactions->pool, &error)) == NULL ||
        !partner_store_find_answer(connection, origin, txn_id, &before, &error) || before != NULL) {
        done(before, error, data);
        return;
    }
    g_clear_pointer(&connection, store_return);

    Transaction *transaction = transaction_open(transactions, origin, txn_id, (Waiter){done, data});
    if (transaction == NULL)
        return;
    g_autoptr(GPtrArray) works =
        split_into_rooms(transaction, json_get_array(body, "pdus"), &transaction->failure);
    for (guint i = 0; works != NULL && i < works->len; i++) {
        RoomWork *work = works->pdata[i];
        if (!room_work_begin(work)) {
            g_set_error_literal(&error, STORE_ERROR, STORE_ERROR_BUSY,
                                "too many events wait for one room");
            transaction_fail(transaction, error);
            g_clear_error(&error);
            room_work_free(work);
        }
    }
    transaction_unref(transaction);
}
