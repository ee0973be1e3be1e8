#include "server/client/sent_transactions.h"

#include "identity/seeded_hash.h"
#include "storage/event_store.h"

/* Of one device; one that has used more is looked up each time. */
#define DEVICE_IDS_MAX 100000u
/* What is read of a device when it first sends. */
#define DEVICE_ROWS_MAX 20000u
/* Of all devices together, at some 16 bytes each; then it begins anew. */
#define IDS_MAX 1000000u

typedef struct {
    gint references;
    GHashTable *used;  /* GUINT_TO_POINTER: seeded hash of scope and transaction id */
    gboolean complete; /* every row of the device is in `used` */
} Device;

struct SentTransactions {
    StorePool *pool;
    GMutex lock;         /* all below, and the devices */
    GHashTable *devices; /* user id, newline, device id -> Device */
    guint ids;
};

static void
device_unref(gpointer data)
{
    Device *device = data;

    if (!g_atomic_int_dec_and_test(&device->references))
        return;
    g_hash_table_unref(device->used);
    g_free(device);
}

SentTransactions *
sent_transactions_new(StorePool *pool)
{
    SentTransactions *sent = g_new0(SentTransactions, 1);

    g_mutex_init(&sent->lock);
    sent->pool = pool;
    sent->devices = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, device_unref);
    return sent;
}

void
sent_transactions_free(SentTransactions *sent)
{
    if (sent == NULL)
        return;
    g_hash_table_unref(sent->devices);
    g_mutex_clear(&sent->lock);
    g_free(sent);
}

static char *
device_key(const char *user_id, const char *device_id)
{
    return g_strjoin("\n", user_id, device_id, NULL);
}

static gpointer
id_hash(const char *scope, const char *txn_id)
{
    g_autofree char *id = g_strjoin("\n", scope, txn_id, NULL);

    return GUINT_TO_POINTER(seeded_str_hash(id));
}

/* ---- under the lock ---- */

static void
forget_all(SentTransactions *sent)
{
    g_hash_table_remove_all(sent->devices);
    sent->ids = 0;
}

static void
remember(SentTransactions *sent, Device *device, gpointer hash)
{
    if (!g_hash_table_add(device->used, hash))
        return;
    sent->ids++;
    if (g_hash_table_size(device->used) > DEVICE_IDS_MAX) {
        sent->ids -= g_hash_table_size(device->used);
        g_hash_table_remove_all(device->used);
        device->complete = FALSE;
    }
}

/* ---- a device's first send here ---- */

/* Ids that are committed meanwhile go into the same table. */
static gboolean
load(SentTransactions *sent, Device *device, const char *user_id, const char *device_id,
     GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(sent->pool, error);
    g_autoptr(StoreRows) rows = NULL;
    g_autofree char *key = device_key(user_id, device_id);

    if (connection != NULL)
        rows = event_store_transactions(connection, user_id, device_id, DEVICE_ROWS_MAX + 1, error);
    if (rows == NULL)
        return FALSE;
    g_mutex_lock(&sent->lock);
    if (store_rows_count(rows) <= DEVICE_ROWS_MAX &&
        g_hash_table_lookup(sent->devices, key) == device) {
        device->complete = TRUE;
        for (guint i = 0; i < store_rows_count(rows); i++)
            remember(sent, device,
                     id_hash(store_rows_text(rows, i, 0), store_rows_text(rows, i, 1)));
    }
    g_mutex_unlock(&sent->lock);
    return TRUE;
}

typedef enum {
    ANSWER_UNUSED,
    ANSWER_ASK,  /* the database */
    ANSWER_LOAD, /* and the device is ours to load */
} Answer;

static Answer
look(SentTransactions *sent, const char *user_id, const char *device_id, gpointer hash,
     Device **ret_device)
{
    g_autofree char *key = device_key(user_id, device_id);
    Answer answer = ANSWER_ASK;
    Device *device;

    g_mutex_lock(&sent->lock);
    device = g_hash_table_lookup(sent->devices, key);
    if (device == NULL) {
        if (sent->ids > IDS_MAX || g_hash_table_size(sent->devices) > IDS_MAX / 10)
            forget_all(sent);
        device = g_new0(Device, 1);
        device->references = 2; /* the table's, the loader's */
        device->used = g_hash_table_new(g_direct_hash, g_direct_equal);
        g_hash_table_insert(sent->devices, g_steal_pointer(&key), device);
        *ret_device = device;
        answer = ANSWER_LOAD;
    } else if (device->complete && !g_hash_table_contains(device->used, hash)) {
        answer = ANSWER_UNUSED;
    }
    g_mutex_unlock(&sent->lock);
    return answer;
}

static gboolean
ask(SentTransactions *sent, const char *user_id, const char *device_id, const char *scope,
    const char *txn_id, char **ret_event_id, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(sent->pool, error);

    return connection != NULL && event_store_find_transaction(connection, user_id, device_id, scope,
                                                              txn_id, ret_event_id, error);
}

gboolean
sent_transactions_find(SentTransactions *sent, const char *user_id, const char *device_id,
                       const char *scope, const char *txn_id, char **ret_event_id, GError **error)
{
    gpointer hash = id_hash(scope, txn_id);
    Device *device = NULL;

    *ret_event_id = NULL;
    switch (look(sent, user_id, device_id, hash, &device)) {
    case ANSWER_UNUSED:
        return TRUE;
    case ANSWER_LOAD: {
        gboolean loaded = load(sent, device, user_id, device_id, error);

        device_unref(device);
        if (!loaded) {
            sent_transactions_forget(sent, user_id, device_id);
            return FALSE;
        }
        break;
    }
    case ANSWER_ASK:
        break;
    }
    return ask(sent, user_id, device_id, scope, txn_id, ret_event_id, error);
}

void
sent_transactions_add(SentTransactions *sent, const char *user_id, const char *device_id,
                      const char *scope, const char *txn_id)
{
    g_autofree char *key = device_key(user_id, device_id);
    gpointer hash = id_hash(scope, txn_id);
    Device *device;

    g_mutex_lock(&sent->lock);
    device = g_hash_table_lookup(sent->devices, key);
    if (device != NULL)
        remember(sent, device, hash);
    g_mutex_unlock(&sent->lock);
}

void
sent_transactions_forget(SentTransactions *sent, const char *user_id, const char *device_id)
{
    g_autofree char *key = device_key(user_id, device_id);
    const Device *device;

    g_mutex_lock(&sent->lock);
    device = g_hash_table_lookup(sent->devices, key);
    if (device != NULL) {
        sent->ids -= g_hash_table_size(device->used);
        g_hash_table_remove(sent->devices, key);
    }
    g_mutex_unlock(&sent->lock);
}
