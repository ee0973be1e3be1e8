/* storage/lane_batch.c: what operations put into a batch, and how it is taken back. */
#include "storage/lane_private.h"

/* Rows of one statement, under way to becoming its arguments. */
typedef struct {
    const StoreStatement *statement;
    guint place;     /* of the statement among the batch's */
    GPtrArray *rows; /* of StoreArguments, owned */
    GTree *keys;     /* of GBytes; NULL: rows need not differ.  A peer may choose what they are */
} LaneGroup;

void
lane_write_clear(gpointer data)
{
    LaneWrite *write = data;
    g_clear_pointer(&write->arguments, store_arguments_free);
}

LaneBatch *
lane_batch_new(Lane *lane)
{
    LaneBatch *batch = g_new0(LaneBatch, 1);
    batch->lane = lane;
    batch->operations = g_ptr_array_new_with_free_func(g_free);
    batch->writes = g_array_new(FALSE, TRUE, sizeof(LaneWrite));
    batch->late_writes = g_array_new(FALSE, TRUE, sizeof(LaneWrite));
    g_array_set_clear_func(batch->writes, lane_write_clear);
    g_array_set_clear_func(batch->late_writes, lane_write_clear);
    batch->entries = g_ptr_array_new_with_free_func((GDestroyNotify)log_entry_unref);
    batch->history = g_ptr_array_new_with_free_func((GDestroyNotify)log_entry_unref);
    batch->hooks = g_array_new(FALSE, TRUE, sizeof(LaneHook));
    batch->commit_hooks = g_array_new(FALSE, TRUE, sizeof(LaneHook));
    batch->end_hooks = g_array_new(FALSE, TRUE, sizeof(LaneEndHook));
    return batch;
}

void
lane_batch_free(LaneBatch *batch)
{
    g_ptr_array_unref(batch->operations);
    g_array_unref(batch->writes);
    g_array_unref(batch->late_writes);
    g_ptr_array_unref(batch->entries);
    g_ptr_array_unref(batch->history);
    g_array_unref(batch->hooks);
    g_array_unref(batch->commit_hooks);
    g_array_unref(batch->end_hooks);
    g_clear_pointer(&batch->sent, g_array_unref);
    g_free(batch);
}

gboolean
lane_batch_is_empty(const LaneBatch *batch)
{
    return batch->writes->len == 0 && batch->entries->len == 0 && batch->history->len == 0;
}

void
lane_batch_run_hooks(LaneBatch *batch, guint count)
{
    while (batch->hooks->len > count) {
        LaneHook hook = g_array_index(batch->hooks, LaneHook, batch->hooks->len - 1);
        g_array_set_size(batch->hooks, batch->hooks->len - 1);
        hook.hook(hook.data);
    }
}

static void
batch_note_arguments(LaneBatch *batch, const StoreStatement *statement,
                     const StoreArguments *arguments)
{
    batch->bytes += store_arguments_size(arguments) + 64;
    if (store_arguments_malformed(arguments))
        batch->malformed = statement->name;
}

void
lane_batch_add(LaneBatch *batch, const StoreStatement *statement, StoreArguments *arguments)
{
    LaneWrite write = {.statement = statement, .arguments = arguments};
    batch_note_arguments(batch, statement, arguments);
    g_array_append_val(batch->writes, write);
}

void
lane_batch_add_row(LaneBatch *batch, const StoreStatement *statement, guint key_columns,
                   StoreArguments *row)
{
    LaneWrite write = {
        .statement = statement, .arguments = row, .is_row = TRUE, .key_columns = key_columns};
    batch_note_arguments(batch, statement, row);
    g_array_append_val(batch->writes, write);
}

void
lane_batch_at_end(LaneBatch *batch, void (*hook)(LaneBatch *batch, gpointer data), gpointer data)
{
    LaneEndHook added = {hook, data};
    g_array_append_val(batch->end_hooks, added);
}

void
lane_batch_run_end_hooks(LaneBatch *batch)
{
    for (guint i = 0; i < batch->end_hooks->len; i++) {
        const LaneEndHook *hook = &g_array_index(batch->end_hooks, LaneEndHook, i);
        hook->hook(batch, hook->data);
    }
}

void
lane_batch_run_commit_hooks(LaneBatch *batch)
{
    for (guint i = 0; i < batch->commit_hooks->len; i++) {
        const LaneHook *hook = &g_array_index(batch->commit_hooks, LaneHook, i);
        hook->hook(hook->data);
    }
}

static void
batch_note_entry(LaneBatch *batch, const LogEntry *entry)
{
    batch->bytes += 256 + (entry->payload != NULL ? g_bytes_get_size(entry->payload) : 0);
    if ((entry->room_id != NULL && !g_utf8_validate(entry->room_id, -1, NULL)) ||
        (entry->user_id != NULL && !g_utf8_validate(entry->user_id, -1, NULL)) ||
        (entry->ref != NULL && !g_utf8_validate(entry->ref, -1, NULL)))
        batch->malformed = "a log entry";
}

void
lane_batch_log(LaneBatch *batch, LogEntry *entry)
{
    batch_note_entry(batch, entry);
    g_ptr_array_add(batch->entries, entry);
}

void
lane_batch_log_history(LaneBatch *batch, LogEntry *entry)
{
    batch_note_entry(batch, entry);
    g_ptr_array_add(batch->history, entry);
}

void
lane_batch_add_with_position(LaneBatch *batch, const StoreStatement *statement,
                             StoreArguments *arguments, const LogEntry *entry)
{
    LaneWrite write = {.statement = statement, .arguments = arguments};
    gboolean found = g_ptr_array_find(batch->entries, entry, &write.entry);
    g_assert(found);
    batch_note_arguments(batch, statement, arguments);
    g_array_append_val(batch->late_writes, write);
}

void
lane_batch_on_rollback(LaneBatch *batch, void (*hook)(gpointer data), gpointer data)
{
    LaneHook added = {hook, data};
    g_array_append_val(batch->hooks, added);
}

void
lane_batch_on_commit(LaneBatch *batch, void (*hook)(gpointer data), gpointer data)
{
    LaneHook added = {hook, data};
    g_array_append_val(batch->commit_hooks, added);
}

StoreConnection *
lane_batch_connection(LaneBatch *batch, GError **error)
{
    Lane *lane = batch->lane;
    if (lane->reader != NULL) {
        store_rollback(lane->reader); /* an apply function may have left a snapshot open */
        if (!store_connection_alive(lane->reader))
            g_clear_pointer(&lane->reader, store_connection_close);
    }
    if (lane->reader == NULL) {
        lane->reader = store_connection_open(lane->pool, error);
        if (lane->reader != NULL)
            lane->reader->cut_at_us = &lane->give_up_at_us;
    }
    return lane->reader;
}

static StoreConnection *
batch_connection_if(LaneBatch *batch, gboolean may_read, GError **error)
{
    if (may_read)
        return lane_batch_connection(batch, error);
    batch->too_early = TRUE;
    g_set_error(error, STORE_ERROR, STORE_ERROR_CONFLICT, "what was before is not committed yet");
    return NULL;
}

StoreConnection *
lane_batch_settled_connection(LaneBatch *batch, GError **error)
{
    return batch_connection_if(batch, batch->lane->under_way == NULL, error);
}

StoreConnection *
lane_batch_first_connection(LaneBatch *batch, GError **error)
{
    return batch_connection_if(batch, batch->lane->under_way == NULL && batch->operations->len == 0,
                               error);
}

gboolean
lane_batch_apply(LaneBatch *batch, LaneOperation *operation)
{
    g_autoptr(GError) error = NULL;
    guint writes = batch->writes->len, late_writes = batch->late_writes->len;
    guint entries = batch->entries->len, history = batch->history->len, hooks = batch->hooks->len;
    guint end_hooks = batch->end_hooks->len, commit_hooks = batch->commit_hooks->len;
    gboolean accepted;

    batch->malformed = NULL;
    batch->too_early = FALSE;
    operation->tries++;
    accepted = operation->apply(batch, operation->data, &error);
    if (accepted && !batch->too_early && batch->malformed != NULL) {
        g_set_error(&error, STORE_ERROR, STORE_ERROR_FAILED, "%s: text is not UTF-8",
                    batch->malformed);
        accepted = FALSE;
    }
    if (accepted && !batch->too_early) {
        g_clear_pointer(&operation->last_entry, log_entry_unref);
        if (batch->entries->len > entries)
            operation->last_entry =
                log_entry_ref(g_ptr_array_index(batch->entries, batch->entries->len - 1));
        g_ptr_array_add(batch->operations, operation);
        return TRUE;
    }
    lane_batch_run_hooks(batch, hooks);
    g_array_set_size(batch->end_hooks, end_hooks);
    g_array_set_size(batch->commit_hooks, commit_hooks);
    g_array_set_size(batch->writes, writes);
    g_array_set_size(batch->late_writes, late_writes);
    g_ptr_array_set_size(batch->entries, (gint)entries);
    g_ptr_array_set_size(batch->history, (gint)history);
    g_clear_pointer(&operation->last_entry, log_entry_unref);
    if (batch->too_early) {
        operation->waits = TRUE;
        operation->tries--;
        return FALSE;
    }
    if (error == NULL)
        g_set_error(&error, STORE_ERROR, STORE_ERROR_FAILED, "refused without a reason");
    operation->done(operation->data, 0, error);
    g_free(operation);
    return TRUE;
}

void
lane_operation_finish(LaneOperation *operation, const GError *error)
{
    gint64 position =
        error == NULL && operation->last_entry != NULL ? operation->last_entry->position : 0;
    operation->done(operation->data, position, error);
    g_clear_pointer(&operation->last_entry, log_entry_unref);
    g_free(operation);
}

GQueue *
lane_batch_release_operations(LaneBatch *batch)
{
    GQueue *operations = g_queue_new();
    for (guint i = 0; i < batch->operations->len; i++)
        g_queue_push_tail(operations, g_ptr_array_index(batch->operations, i));
    g_ptr_array_set_free_func(batch->operations, NULL);
    g_ptr_array_set_size(batch->operations, 0);
    return operations;
}

void
lane_operations_finish(GQueue *operations, const GError *error)
{
    LaneOperation *operation;
    while ((operation = g_queue_pop_head(operations)) != NULL)
        lane_operation_finish(operation, error);
}

static void
lane_group_free(gpointer data)
{
    LaneGroup *group = data;
    g_ptr_array_unref(group->rows);
    g_clear_pointer(&group->keys, g_tree_unref);
    g_free(group);
}

static int
compare_keys(gconstpointer a, gconstpointer b, gpointer data)
{
    return g_bytes_compare(a, b);
}

/* The group that @write's row joins: the last one of its statement, or a new one. */
static LaneGroup *
group_for_row(GPtrArray *groups, GArray *all, const LaneWrite *write)
{
    g_autoptr(GBytes) key = NULL;
    LaneGroup *group = NULL;

    for (guint i = groups->len; i > 0 && group == NULL; i--) {
        LaneGroup *candidate = g_ptr_array_index(groups, i - 1);
        if (candidate->statement == write->statement)
            group = candidate;
    }
    if (write->key_columns > 0)
        key = store_arguments_key(write->arguments, write->key_columns);
    if (group == NULL || (key != NULL && g_tree_lookup_node(group->keys, key) != NULL)) {
        LaneWrite run = {.statement = write->statement};
        group = g_new0(LaneGroup, 1);
        group->statement = write->statement;
        group->place = all->len;
        group->rows = g_ptr_array_new_with_free_func((GDestroyNotify)store_arguments_free);
        if (key != NULL)
            group->keys = g_tree_new_full(compare_keys, NULL, (GDestroyNotify)g_bytes_unref, NULL);
        g_ptr_array_add(groups, group);
        g_array_append_val(all, run);
    }
    if (key != NULL)
        g_tree_insert(group->keys, g_steal_pointer(&key), NULL);
    return group;
}

void
lane_batch_gather(LaneBatch *batch, GArray *all)
{
    g_autoptr(GPtrArray) groups = g_ptr_array_new_with_free_func(lane_group_free);
    for (guint i = 0; i < batch->writes->len; i++) {
        LaneWrite *write = &g_array_index(batch->writes, LaneWrite, i);
        if (write->is_row)
            g_ptr_array_add(group_for_row(groups, all, write)->rows, write->arguments);
        else
            g_array_append_val(all, *write);
    }
    for (guint i = 0; i < groups->len; i++) {
        const LaneGroup *group = g_ptr_array_index(groups, i);
        g_array_index(all, LaneWrite, group->place).arguments =
            store_arguments_of_rows((StoreArguments *const *)group->rows->pdata, group->rows->len);
    }
}
