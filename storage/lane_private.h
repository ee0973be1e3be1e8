/* storage/lane_private.h: a batch and its lane from the inside.  For lane.c and lane_batch.c. */
#pragma once

#include "storage/connection.h"
#include "storage/lane.h"

typedef struct {
    LaneApply apply;
    LaneDone done;
    gpointer data;
    guint tries;
    gboolean waits;       /* it goes into an empty batch, with nothing under way */
    LogEntry *last_entry; /* owned; of the present batch; NULL if it logs nothing */
} LaneOperation;

typedef struct {
    const StoreStatement *statement;
    StoreArguments *arguments; /* owned */
    guint entry;               /* only with position: index of its entry */
    gboolean is_row;           /* one of many rows of a statement */
    guint key_columns;
} LaneWrite;

typedef struct {
    void (*hook)(gpointer data);
    gpointer data;
} LaneHook;

typedef struct {
    void (*hook)(LaneBatch *batch, gpointer data);
    gpointer data;
} LaneEndHook;

struct LaneBatch {
    Lane *lane;
    GPtrArray *operations; /* of LaneOperation, owned, in order */
    GArray *writes;        /* of LaneWrite */
    GArray *late_writes;   /* of LaneWrite, with position */
    GPtrArray *entries;    /* of LogEntry */
    GPtrArray *history;    /* of LogEntry, newest first */
    GArray *hooks;         /* of LaneHook: on rollback */
    GArray *commit_hooks;  /* of LaneHook */
    GArray *end_hooks;     /* of LaneEndHook */
    gsize bytes;
    const char *malformed; /* name of a statement of the present operation with bad text, or NULL */
    gboolean too_early;    /* the present operation must see what is not committed yet */
    gint64 number;         /* its own id, with @fence, once it was on its way */
    gint64 fence;
    GArray *sent;    /* of LaneWrite: all of it as it is under way; NULL before */
    guint log_index; /* in `sent`: the statement that gives the positions */
};

struct Lane {
    StorePool *pool;
    LogRing *ring;
    GThread *thread;
    char *name; /* random; says in the head who holds the log */

    GMutex lock;
    int bell;        /* eventfd: for a lane that sleeps */
    gboolean asleep; /* under the lock */
    GQueue queue;    /* of LaneOperation */
    guint operations_max;
    gboolean stopping;
    gint64 give_up_at_us; /* atomic; monotonic time; 0: not stopping */

    /* the lane thread's own */
    StoreConnection *writer; /* NULL while PostgreSQL is away */
    StoreConnection *reader; /* opened when first asked for */
    LogHead head;
    gint64 fence;
    gint64 number; /* of the last batch */
    gboolean fenced;
    LaneBatch *under_way; /* sent, not yet answered; or NULL */
    gint64 answer_by_us;  /* of that one; monotonic time */
    LaneBatch *open;      /* gathers operations meanwhile; or NULL */
};

void lane_write_clear(gpointer write);
LaneBatch *lane_batch_new(Lane *lane);
/* Operations must have left it. */
void lane_batch_free(LaneBatch *batch);
gboolean lane_batch_is_empty(const LaneBatch *batch);
/* Take memory back, newest first, down to @count hooks. */
void lane_batch_run_hooks(LaneBatch *batch, guint count);
void lane_batch_run_end_hooks(LaneBatch *batch);
void lane_batch_run_commit_hooks(LaneBatch *batch);
/* Let @operation add its part.  Refused: its part is taken back, it is told, and it is gone. FALSE:
 * its part is taken back, and the caller keeps it for a batch that is empty, with nothing under
 * way.
 */
gboolean lane_batch_apply(LaneBatch *batch, LaneOperation *operation);
/* Take the operations out of a batch, so that they can be tried again or finished. */
GQueue *lane_batch_release_operations(LaneBatch *batch);
/* Add the batch's writes to @all, the rows of each statement gathered into arrays. */
void lane_batch_gather(LaneBatch *batch, GArray *all);
/* @error NULL: it is, or they are, told of success; @operations is empty afterwards. */
void lane_operation_finish(LaneOperation *operation, const GError *error);
void lane_operations_finish(GQueue *operations, const GError *error);
