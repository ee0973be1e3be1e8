#include "federation/delivery.h"

#include <sodium.h>
#include <string.h>

#include "identity/clock.h"
#include "identity/seeded_hash.h"
#include "identity/unpadded_base64.h"
#include "storage/delivery_store.h"

#define BACK_OFF_FIRST_MS 1000
#define BACK_OFF_LONGEST_MS (3600 * 1000)
#define WOKEN_AT_MOST_EVERY_MS 1000
#define POLL_MS 250 /* while somebody is in back-off: the injected clock may jump */
#define VOLATILE_MAX 200
#define BODY_BYTES_MAX (8 * 1024 * 1024)
#define NUMBERS_A_POSITION                                                                         \
    20 /* bits: rows added in one life of a process per position it began at */

typedef enum {
    PEER_IDLE,
    PEER_DUE,
    PEER_SENDING,
    PEER_BACK_OFF,
} PeerStanding;

typedef struct {
    char *replaces; /* or NULL */
    GBytes *edu;
} VolatileEdu;

/* Somebody who waits until the queue's rows up to one are told. */
typedef struct {
    gint64 queue_no;
    DeliveryTold done;
    gpointer data;
} Listener;

typedef struct {
    Delivery *delivery;
    char *name;
    PeerStanding standing;
    gboolean again;                 /* something came while sending */
    gboolean looked;                /* the database was asked for a transaction left on its way */
    guint failures;                 /* in a row */
    gint64 tried_ms, retry_ms;      /* clock_interval_ms() */
    GQueue edus;                    /* VolatileEdu */
    QueuedTransaction *transaction; /* on its way; its bytes never change */
    gboolean stored;                /* and it is a row */
    gint64 told_no;                 /* the newest row that is known to have arrived */
    GArray *listeners;              /* Listener */
} Peer;

struct Delivery {
    char *own_name;
    StorePool *pool;
    Rooms *rooms;
    Partners *partners;
    PartnerClient *client;
    guint first_ms, longest_ms;

    gint64 queue_no;     /* the lane thread alone */
    GHashTable *pending; /* names with rows in the open batch; the lane thread alone */

    GMutex lock; /* peers and what follows */
    GCond bell;
    GHashTable *peers; /* name -> Peer */
    GThread *thread;
    gboolean stopping;
};

static void
volatile_edu_free(gpointer data)
{
    VolatileEdu *edu = data;
    g_free(edu->replaces);
    g_bytes_unref(edu->edu);
    g_free(edu);
}

static void
peer_free(gpointer data)
{
    Peer *peer = data;
    g_queue_clear_full(&peer->edus, volatile_edu_free);
    queued_transaction_free(peer->transaction);
    g_array_unref(peer->listeners);
    g_free(peer->name);
    g_free(peer);
}

/* Under the lock. */
static Peer *
peer_of(Delivery *delivery, const char *name)
{
    Peer *peer = g_hash_table_lookup(delivery->peers, name);
    if (peer == NULL) {
        peer = g_new0(Peer, 1);
        peer->delivery = delivery;
        peer->name = g_strdup(name);
        g_queue_init(&peer->edus);
        peer->listeners = g_array_new(FALSE, FALSE, sizeof(Listener));
        g_hash_table_insert(delivery->peers, peer->name, peer);
    }
    return peer;
}

/* Under the lock: there is something new for @peer. */
static void
peer_due(Peer *peer)
{
    if (peer->standing == PEER_SENDING)
        peer->again = TRUE;
    else if (peer->standing == PEER_IDLE)
        peer->standing = PEER_DUE;
    g_cond_signal(&peer->delivery->bell);
}

/* Under the lock: those of @peer that wait for nothing after @queue_no go over to @ret_called. */
static void
take_listeners(Peer *peer, gint64 queue_no, GArray *ret_called)
{
    for (guint i = peer->listeners->len; i > 0; i--) {
        const Listener *listener = &g_array_index(peer->listeners, Listener, i - 1);

        if (listener->queue_no > queue_no)
            continue;
        g_array_append_val(ret_called, *listener);
        g_array_remove_index_fast(peer->listeners, i - 1);
    }
}

/* Without the lock. */
static void
call_listeners(GArray *called)
{
    for (guint i = 0; i < called->len; i++) {
        const Listener *listener = &g_array_index(called, Listener, i);

        listener->done(listener->data);
    }
}

/* ---- on the lane ---- */

static gboolean
is_served(Delivery *delivery, const char *name)
{
    if (partners_lists(delivery->partners, name))
        return TRUE; /* also while the list has expired: a new one brings what waits */
    g_autoptr(Partner) partner = partners_find(delivery->partners, name, PARTNER_OUTBOUND, NULL);
    return partner != NULL;
}

static void
queue(LaneBatch *batch, Delivery *delivery, const char *const *servers, const char *room_id,
      const char *event_id, GBytes *edu)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (; *servers != NULL; servers++)
        if (is_served(delivery, *servers))
            g_ptr_array_add(names, (gpointer)*servers);
    if (names->len == 0)
        return;
    delivery_store_add(batch, (const char *const *)names->pdata, names->len, ++delivery->queue_no,
                       room_id, event_id, edu);
    for (guint i = 0; i < names->len; i++)
        g_hash_table_add(delivery->pending, g_strdup(names->pdata[i]));
}

static void
delivery_queue_event(LaneBatch *batch, const char *room_id, const char *event_id, GBytes *pdu,
                     const char *const *servers, gpointer data)
{
    queue(batch, data, servers, room_id, event_id, NULL);
}

void
delivery_queue_edu(LaneBatch *batch, Delivery *delivery, const char *server_name, GBytes *edu)
{
    const char *const servers[] = {server_name, NULL};
    queue(batch, delivery, servers, NULL, NULL, edu);
}

/* The batch is durable: now they may be told.  A name whose operation was rolled back is woken for
 * nothing. */
static void
batch_committed(GPtrArray *entries, gpointer data)
{
    Delivery *delivery = data;
    GHashTableIter iter;
    gpointer name;
    if (g_hash_table_size(delivery->pending) == 0)
        return;
    g_mutex_lock(&delivery->lock);
    g_hash_table_iter_init(&iter, delivery->pending);
    while (g_hash_table_iter_next(&iter, &name, NULL))
        peer_due(peer_of(delivery, name));
    g_mutex_unlock(&delivery->lock);
    g_hash_table_remove_all(delivery->pending);
}

/* ---- making a transaction ---- */

typedef struct {
    GString *pdus, *edus;
    guint pdu_count, edu_count;
} Body;

static void
body_add(GString *list, guint *count, GBytes *json)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(json, &length);
    if ((*count)++ > 0)
        g_string_append_c(list, ',');
    g_string_append_len(list, bytes, (gssize)length);
}

static gboolean
body_is_full(const Body *body)
{
    return body->pdu_count == DELIVERY_PDUS_MAX || body->edu_count == DELIVERY_EDUS_MAX ||
           body->pdus->len + body->edus->len > BODY_BYTES_MAX;
}

/* The queue's head into @body, in order; *ret_last_no: the last row that is in. */
static gboolean
body_add_queue(Delivery *delivery, Body *body, GPtrArray *items, gint64 *ret_last_no,
               GError **error)
{
    for (guint i = 0; i < items->len && !body_is_full(body); i++) {
        const QueuedItem *item = items->pdata[i];
        if (item->edu != NULL) {
            body_add(body->edus, &body->edu_count, item->edu);
        } else {
            g_autoptr(RoomEvent) event = NULL;
            if (!rooms_event(delivery->rooms, item->room_id, item->event_id, &event, error))
                return FALSE;
            if (event != NULL) /* gone: the room was purged */
                body_add(body->pdus, &body->pdu_count, event->pdu->bytes);
        }
        *ret_last_no = item->queue_no;
    }
    return TRUE;
}

/* Takes what fits of the volatile ones; under the lock. */
static void
body_add_volatile(Peer *peer, Body *body)
{
    while (!g_queue_is_empty(&peer->edus) && !body_is_full(body)) {
        VolatileEdu *edu = g_queue_pop_head(&peer->edus);
        body_add(body->edus, &body->edu_count, edu->edu);
        volatile_edu_free(edu);
    }
}

static char *
random_txn_id(void)
{
    guint8 raw[15];
    randombytes_buf(raw, sizeof raw);
    return unpadded_base64_encode(raw, sizeof raw, BASE64_URL_SAFE);
}

/* Canonical JSON, for it is signed: keys in order. */
static GBytes *
body_finish(Delivery *delivery, Body *body)
{
    GString *out = g_string_sized_new(body->pdus->len + body->edus->len + 256);
    g_string_append_printf(out, "{\"edus\":[%s],\"origin\":", body->edus->str);
    json_append_string(out, delivery->own_name);
    g_string_append_printf(out, ",\"origin_server_ts\":%" G_GINT64_FORMAT ",\"pdus\":[%s]}",
                           clock_wall_ms(), body->pdus->str);
    return g_string_free_to_bytes(out);
}

/* *ret_transaction NULL: nothing to tell. */
static gboolean
transaction_make(Peer *peer, QueuedTransaction **ret_transaction, gboolean *ret_stored,
                 GError **error)
{
    Delivery *delivery = peer->delivery;
    g_autoptr(GString) pdus = g_string_new(NULL);
    g_autoptr(GString) edus = g_string_new(NULL);
    Body body = {pdus, edus, 0, 0};
    gint64 last_no = 0;

    g_autoptr(StoreConnection) connection = store_borrow(delivery->pool, error);
    g_autoptr(GPtrArray) items =
        connection != NULL ? delivery_store_head(connection, peer->name,
                                                 DELIVERY_PDUS_MAX + DELIVERY_EDUS_MAX, error)
                           : NULL;
    g_clear_pointer(&connection, store_return);
    if (items == NULL || !body_add_queue(delivery, &body, items, &last_no, error))
        return FALSE;
    g_mutex_lock(&delivery->lock);
    body_add_volatile(peer, &body);
    g_mutex_unlock(&delivery->lock);
    if (last_no == 0 && body.edu_count == 0)
        return TRUE;

    g_autoptr(QueuedTransaction) transaction = g_new0(QueuedTransaction, 1);
    transaction->txn_id = random_txn_id();
    transaction->last_no = last_no;
    transaction->body = body_finish(delivery, &body);
    /* Stored before it is sent; what is volatile only may be lost with the process. */
    if (last_no > 0) {
        connection = store_borrow(delivery->pool, error);
        if (connection == NULL ||
            !delivery_store_keep_transaction(connection, peer->name, transaction, error))
            return FALSE;
    }
    *ret_stored = last_no > 0;
    *ret_transaction = g_steal_pointer(&transaction);
    return TRUE;
}

/* ---- sending ---- */

/* Under the lock.  Our own database being away is no sign of the partner: try again soon. */
static void
peer_fail(Peer *peer, const GError *error)
{
    Delivery *delivery = peer->delivery;
    gint64 pause = delivery->first_ms;
    if (error->domain != STORE_ERROR) {
        if (peer->failures == 0) /* told once an outage */
            g_message("delivery to %s waits: %s", peer->name, error->message);
        for (guint i = 0; i < peer->failures && pause < delivery->longest_ms; i++)
            pause *= 2;
        pause = MIN(pause, delivery->longest_ms);
        peer->failures++;
    }
    pause += g_random_int_range(0, (gint32)(pause / 5) + 1); /* not all at once after an outage */
    peer->standing = PEER_BACK_OFF;
    peer->retry_ms = clock_interval_ms() + pause;
}

/* A partner that takes a transaction says for each event whether it took that. */
static void
log_refused_events(const Peer *peer, const cJSON *answer)
{
    const cJSON *pdus = json_get_object(answer, "pdus");
    for (const cJSON *one = pdus != NULL ? pdus->child : NULL; one != NULL; one = one->next)
        if (json_get_string(one, "error") != NULL)
            g_message("%s refuses event %.64s: %.200s", peer->name, one->string,
                      json_get_string(one, "error"));
}

static gboolean
transaction_finish(Peer *peer, GError **error)
{
    if (!peer->stored)
        return TRUE;
    g_autoptr(StoreConnection) connection = store_borrow(peer->delivery->pool, error);
    return connection != NULL &&
           delivery_store_finish(connection, peer->name, peer->transaction->txn_id,
                                 peer->transaction->last_no, error);
}

static void
answered(const PartnerAnswer *answer, gpointer data)
{
    Peer *peer = data;
    Delivery *delivery = peer->delivery;
    g_autoptr(GArray) called = g_array_new(FALSE, FALSE, sizeof(Listener));
    g_autoptr(GError) error = answer->error != NULL ? g_error_copy(answer->error) : NULL;
    if (error == NULL) {
        log_refused_events(peer, answer->json);
        transaction_finish(peer, &error);
    }
    gboolean served = is_served(delivery, peer->name);
    g_mutex_lock(&delivery->lock);
    if (error == NULL) {
        peer->told_no = MAX(peer->told_no, peer->transaction->last_no);
        g_clear_pointer(&peer->transaction, queued_transaction_free);
        peer->failures = 0;
        peer->standing = PEER_DUE; /* until the queue is found empty */
        peer->again = FALSE;
    } else if (!served) { /* dropped meanwhile: nothing of before is told, even after a return */
        g_clear_pointer(&peer->transaction, queued_transaction_free);
        peer->standing = PEER_IDLE;
    } else {
        peer_fail(peer, error);
    }
    take_listeners(peer, error == NULL ? peer->told_no : G_MAXINT64, called);
    g_cond_signal(&delivery->bell);
    g_mutex_unlock(&delivery->lock);
    call_listeners(called);
}

/* On the delivery thread, without the lock; @peer is SENDING, so nobody else touches its
 * transaction. */
static void
peer_step(Peer *peer)
{
    Delivery *delivery = peer->delivery;
    g_autoptr(GError) error = NULL;
    gboolean good = TRUE;

    if (!peer->looked) {
        g_autoptr(StoreConnection) connection = store_borrow(delivery->pool, &error);
        good = connection != NULL &&
               delivery_store_find_transaction(connection, peer->name, &peer->transaction, &error);
        peer->looked = good;
        peer->stored = peer->transaction != NULL;
    }
    if (good && peer->transaction == NULL)
        good = transaction_make(peer, &peer->transaction, &peer->stored, &error);
    if (good && peer->transaction != NULL) {
        g_autofree char *target =
            partner_client_target("/_matrix/federation/v1/send/%s", peer->transaction->txn_id);
        partner_client_send(delivery->client, peer->name, "PUT", target, peer->transaction->body,
                            PARTNER_SEND, answered, peer);
        return;
    }
    g_autoptr(GArray) called = g_array_new(FALSE, FALSE, sizeof(Listener));
    g_mutex_lock(&delivery->lock);
    if (!good) {
        peer_fail(peer, error);
    } else {
        peer->standing = peer->again ? PEER_DUE : PEER_IDLE;
        peer->again = FALSE;
    }
    if (peer->standing != PEER_DUE) /* the queue is empty, or cannot be read */
        take_listeners(peer, G_MAXINT64, called);
    g_mutex_unlock(&delivery->lock);
    call_listeners(called);
}

/* Under the lock.  *ret_waiting: somebody is in back-off. */
static Peer *
next_due(Delivery *delivery, gboolean *ret_waiting)
{
    GHashTableIter iter;
    gpointer value;
    gint64 now = clock_interval_ms();
    *ret_waiting = FALSE;
    g_hash_table_iter_init(&iter, delivery->peers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Peer *peer = value;
        if (peer->standing == PEER_DUE ||
            (peer->standing == PEER_BACK_OFF && now >= peer->retry_ms))
            return peer;
        *ret_waiting |= peer->standing == PEER_BACK_OFF;
    }
    return NULL;
}

static gpointer
deliver(gpointer data)
{
    Delivery *delivery = data;
    gboolean waiting = FALSE;
    g_mutex_lock(&delivery->lock);
    while (!delivery->stopping) {
        Peer *peer = next_due(delivery, &waiting);
        if (peer == NULL && waiting) {
            g_cond_wait_until(&delivery->bell, &delivery->lock,
                              g_get_monotonic_time() + (gint64)POLL_MS * 1000);
        } else if (peer == NULL) {
            g_cond_wait(&delivery->bell, &delivery->lock);
        } else {
            peer->standing = PEER_SENDING;
            peer->again = FALSE;
            peer->tried_ms = clock_interval_ms();
            g_mutex_unlock(&delivery->lock);
            peer_step(peer);
            g_mutex_lock(&delivery->lock);
        }
    }
    g_mutex_unlock(&delivery->lock);
    return NULL;
}

/* ---- outside ---- */

Delivery *
delivery_new(const char *own_name, StorePool *pool, LogRing *ring, Rooms *rooms, Partners *partners,
             PartnerClient *client, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(pool, error);
    g_autoptr(GPtrArray) waiting =
        connection != NULL ? delivery_store_partners(connection, error) : NULL;
    if (waiting == NULL)
        return NULL;
    Delivery *delivery = g_new0(Delivery, 1);
    delivery->own_name = g_strdup(own_name);
    delivery->pool = pool;
    delivery->rooms = rooms;
    delivery->partners = partners;
    delivery->client = client;
    delivery->first_ms = BACK_OFF_FIRST_MS;
    delivery->longest_ms = BACK_OFF_LONGEST_MS;
    /* Above every number of an earlier life: each row then came with an entry of the log, give or
     * take. */
    delivery->queue_no = log_ring_head(ring).position << NUMBERS_A_POSITION;
    delivery->pending = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    delivery->peers = g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, peer_free);
    g_mutex_init(&delivery->lock);
    g_cond_init(&delivery->bell);
    for (guint i = 0; i < waiting->len; i++)
        peer_due(peer_of(delivery, waiting->pdata[i]));
    rooms_set_delivery(rooms, delivery_queue_event, delivery);
    log_ring_add_bell(ring, batch_committed, delivery);
    return delivery;
}

void
delivery_set_back_off(Delivery *delivery, guint first_ms, guint longest_ms)
{
    delivery->first_ms = first_ms;
    delivery->longest_ms = longest_ms;
}

void
delivery_start(Delivery *delivery)
{
    delivery->thread = g_thread_new("delivery", deliver, delivery);
}

/* Nothing more is told: they go on as they are. */
static void
release_listeners(Delivery *delivery)
{
    g_autoptr(GArray) called = g_array_new(FALSE, FALSE, sizeof(Listener));
    GHashTableIter iter;
    gpointer value;
    g_mutex_lock(&delivery->lock);
    g_hash_table_iter_init(&iter, delivery->peers);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        take_listeners(value, G_MAXINT64, called);
    g_mutex_unlock(&delivery->lock);
    call_listeners(called);
}

void
delivery_stop(Delivery *delivery)
{
    g_mutex_lock(&delivery->lock);
    delivery->stopping = TRUE;
    g_cond_signal(&delivery->bell);
    g_mutex_unlock(&delivery->lock);
    if (delivery->thread != NULL)
        g_thread_join(g_steal_pointer(&delivery->thread));
    release_listeners(delivery);
}

void
delivery_free(Delivery *delivery)
{
    if (delivery == NULL)
        return;
    delivery_stop(delivery);
    g_hash_table_unref(delivery->peers);
    g_hash_table_unref(delivery->pending);
    g_mutex_clear(&delivery->lock);
    g_cond_clear(&delivery->bell);
    g_free(delivery->own_name);
    g_free(delivery);
}

static void
peer_add_volatile(Peer *peer, GBytes *edu, const char *replaces)
{
    for (GList *link = peer->edus.head; link != NULL && replaces != NULL; link = link->next) {
        VolatileEdu *older = link->data;
        if (g_strcmp0(older->replaces, replaces) == 0) {
            g_bytes_unref(older->edu);
            older->edu = g_bytes_ref(edu);
            return;
        }
    }
    if (g_queue_get_length(&peer->edus) == VOLATILE_MAX)
        volatile_edu_free(g_queue_pop_head(&peer->edus));
    VolatileEdu *newer = g_new0(VolatileEdu, 1);
    newer->replaces = g_strdup(replaces);
    newer->edu = g_bytes_ref(edu);
    g_queue_push_tail(&peer->edus, newer);
}

void
delivery_send_edu(Delivery *delivery, const char *const *servers, GBytes *edu, const char *replaces)
{
    for (; *servers != NULL; servers++) {
        if (!is_served(delivery, *servers))
            continue;
        g_mutex_lock(&delivery->lock);
        Peer *peer = peer_of(delivery, *servers);
        peer_add_volatile(peer, edu, replaces);
        peer_due(peer);
        g_mutex_unlock(&delivery->lock);
    }
}

void
delivery_wake(Delivery *delivery, const char *server_name)
{
    g_mutex_lock(&delivery->lock);
    Peer *peer = g_hash_table_lookup(delivery->peers, server_name);
    if (peer != NULL && peer->standing == PEER_BACK_OFF) {
        peer->retry_ms = MIN(peer->retry_ms, peer->tried_ms + WOKEN_AT_MOST_EVERY_MS);
        g_cond_signal(&delivery->bell);
    }
    g_mutex_unlock(&delivery->lock);
}

/* Under the lock.  FALSE: it waits for nothing. */
static gboolean
peer_listen(Peer *peer, const Listener *listener)
{
    if (listener->queue_no <= peer->told_no || peer->delivery->stopping)
        return FALSE;
    if (peer->standing == PEER_BACK_OFF) /* one attempt now says how it stands */
        peer->retry_ms = clock_interval_ms();
    g_array_append_val(peer->listeners, *listener);
    peer_due(peer);
    return TRUE;
}

void
delivery_when_told(Delivery *delivery, const char *server_name, const char *room_id,
                   DeliveryTold done, gpointer data)
{
    Listener listener = {0, done, data};
    gboolean waits = FALSE;
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(delivery->pool, &error);
    if (connection == NULL ||
        !delivery_store_newest(connection, server_name, room_id, &listener.queue_no, &error))
        g_warning("what waits for %s is not known: %s", server_name, error->message);
    g_clear_pointer(&connection, store_return);
    if (listener.queue_no > 0 && is_served(delivery, server_name)) {
        g_mutex_lock(&delivery->lock);
        waits = peer_listen(peer_of(delivery, server_name), &listener);
        g_mutex_unlock(&delivery->lock);
    }
    if (!waits)
        done(data);
}

static void
peer_drop(Delivery *delivery, const char *name)
{
    gint64 count = 0;
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(delivery->pool, &error);
    if (connection == NULL || !delivery_store_drop(connection, name, &count, &error))
        g_warning("what waits for %s, no partner any more, cannot be dropped: %s", name,
                  error->message);
    else
        g_message("%s is no partner any more: %" G_GINT64_FORMAT " waiting items dropped", name,
                  count);
    g_autoptr(GArray) called = g_array_new(FALSE, FALSE, sizeof(Listener));
    g_mutex_lock(&delivery->lock);
    Peer *peer = g_hash_table_lookup(delivery->peers, name);
    if (peer != NULL) {
        take_listeners(peer, G_MAXINT64, called);
        g_queue_clear_full(&peer->edus, volatile_edu_free);
        if (peer->standing != PEER_SENDING) {
            g_clear_pointer(&peer->transaction, queued_transaction_free);
            peer->standing = PEER_IDLE;
        }
    }
    g_mutex_unlock(&delivery->lock);
    call_listeners(called);
}

void
delivery_recheck(Delivery *delivery)
{
    GHashTableIter iter;
    gpointer value;
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_mutex_lock(&delivery->lock);
    g_hash_table_iter_init(&iter, delivery->peers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Peer *peer = value;
        g_ptr_array_add(names, g_strdup(peer->name));
        if (peer->standing == PEER_BACK_OFF) /* a new list may have the cure */
            peer->retry_ms = clock_interval_ms();
    }
    g_cond_signal(&delivery->bell);
    g_mutex_unlock(&delivery->lock);
    for (guint i = 0; i < names->len; i++)
        if (!is_served(delivery, names->pdata[i]))
            peer_drop(delivery, names->pdata[i]);
}
