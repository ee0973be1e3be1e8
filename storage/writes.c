#include "storage/writes.h"

typedef struct {
    const StoreStatement *statement;
    StoreArguments *arguments;
} Write;

struct StoreWrites {
    GQueue queue; /* of Write */
};

StoreWrites *
store_writes_new(void)
{
    StoreWrites *writes = g_new0(StoreWrites, 1);
    g_queue_init(&writes->queue);
    return writes;
}

static void
write_free(gpointer data)
{
    Write *write = data;
    if (write->arguments != NULL)
        store_arguments_free(write->arguments);
    g_free(write);
}

void
store_writes_free(StoreWrites *writes)
{
    if (writes == NULL)
        return;
    g_queue_clear_full(&writes->queue, write_free);
    g_free(writes);
}

void
store_writes_add(StoreWrites *writes, const StoreStatement *statement, StoreArguments *arguments)
{
    Write *write = g_new0(Write, 1);
    write->statement = statement;
    write->arguments = arguments;
    g_queue_push_tail(&writes->queue, write);
}

void
store_writes_to_batch(StoreWrites *writes, LaneBatch *batch)
{
    Write *write = NULL;
    while ((write = g_queue_pop_head(&writes->queue)) != NULL) {
        lane_batch_add(batch, write->statement, g_steal_pointer(&write->arguments));
        write_free(write);
    }
}

gboolean
store_writes_run(StoreWrites *writes, StoreConnection *connection, GError **error)
{
    Write *write = NULL;
    while ((write = g_queue_pop_head(&writes->queue)) != NULL) {
        gboolean done =
            store_do(connection, write->statement, g_steal_pointer(&write->arguments), error);
        write_free(write);
        if (!done) {
            g_queue_clear_full(&writes->queue, write_free);
            return FALSE;
        }
    }
    return TRUE;
}
