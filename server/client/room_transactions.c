#include "server/client/room_transactions.h"

#include "identity/seeded_hash.h"

struct RoomTransactions {
    GMutex lock;
    GHashTable *under_way; /* key -> GPtrArray of Request that wait */
};

RoomTransactions *
room_transactions_new(void)
{
    RoomTransactions *transactions = g_new0(RoomTransactions, 1);

    g_mutex_init(&transactions->lock);
    transactions->under_way = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free,
                                                    (GDestroyNotify)g_ptr_array_unref);
    return transactions;
}

void
room_transactions_free(RoomTransactions *transactions)
{
    if (transactions == NULL)
        return;
    g_hash_table_unref(transactions->under_way);
    g_mutex_clear(&transactions->lock);
    g_free(transactions);
}

gboolean
room_transactions_begin(RoomTransactions *transactions, const char *key, Request *request)
{
    GPtrArray *waiting;

    g_mutex_lock(&transactions->lock);
    waiting = g_hash_table_lookup(transactions->under_way, key);
    if (waiting == NULL)
        g_hash_table_insert(transactions->under_way, g_strdup(key), g_ptr_array_new());
    else
        g_ptr_array_add(waiting, request);
    g_mutex_unlock(&transactions->lock);
    return waiting == NULL;
}

void
room_transactions_end(RoomTransactions *transactions, const char *key, const char *event_id,
                      const GError *error)
{
    g_autoptr(GPtrArray) waiting = NULL;
    gpointer stolen_key = NULL;
    gpointer stolen = NULL;

    g_mutex_lock(&transactions->lock);
    if (g_hash_table_steal_extended(transactions->under_way, key, &stolen_key, &stolen))
        waiting = stolen;
    g_mutex_unlock(&transactions->lock);
    g_free(stolen_key);
    for (guint i = 0; waiting != NULL && i < waiting->len; i++) {
        Response *response = NULL;

        if (error == NULL && event_id == NULL) {
            response = response_empty_object();
        } else if (error == NULL) {
            GString *body = g_string_new("{\"event_id\":");

            json_append_string(body, event_id);
            g_string_append_c(body, '}');
            response = response_json(200, body);
        }
        request_answer(g_ptr_array_index(waiting, i), response, error);
    }
}
