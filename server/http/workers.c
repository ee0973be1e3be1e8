#include "server/http/workers.h"

typedef struct {
    WorkFunction function;
    gpointer data;
} Work;

struct Workers {
    GMutex lock;
    GCond bell;
    GQueue fresh; /* Work */
    GQueue begun; /* Work */
    guint queue_max;
    guint idle;  /* workers that wait for the bell */
    guint calls; /* of the bell, that no worker has heeded yet */
    gboolean ending;
    GPtrArray *threads;
};

static Work *
workers_next(Workers *workers)
{
    Work *work;

    g_mutex_lock(&workers->lock);
    for (;;) {
        work = g_queue_pop_head(&workers->begun);
        if (work == NULL)
            work = g_queue_pop_head(&workers->fresh);
        if (work != NULL || workers->ending)
            break;
        workers->idle++;
        g_cond_wait(&workers->bell, &workers->lock);
        workers->idle--;
        workers->calls -= workers->calls > 0;
    }
    g_mutex_unlock(&workers->lock);
    return work;
}

static gpointer
workers_run(gpointer data)
{
    Work *work;

    while ((work = workers_next(data)) != NULL) {
        work->function(work->data);
        g_free(work);
    }
    return NULL;
}

Workers *
workers_new(guint threads, guint queue_max)
{
    Workers *workers = g_new0(Workers, 1);

    g_mutex_init(&workers->lock);
    g_cond_init(&workers->bell);
    g_queue_init(&workers->fresh);
    g_queue_init(&workers->begun);
    workers->queue_max = queue_max;
    workers->threads = g_ptr_array_new();
    for (guint i = 0; i < threads; i++)
        g_ptr_array_add(workers->threads, g_thread_new("worker", workers_run, workers));
    return workers;
}

static gboolean
workers_push(Workers *workers, GQueue *queue, guint max, WorkFunction function, gpointer data)
{
    gboolean taken;
    Work *work = g_new(Work, 1);

    *work = (Work){function, data};
    g_mutex_lock(&workers->lock);
    taken = g_queue_get_length(queue) < max;
    if (taken) {
        g_queue_push_tail(queue, work);
        /* A call is a system call: none when everybody works, or as many are on their way already
         * as wait. */
        if (workers->idle > workers->calls) {
            workers->calls++;
            g_cond_signal(&workers->bell);
        }
    }
    g_mutex_unlock(&workers->lock);
    if (!taken)
        g_free(work);
    return taken;
}

gboolean
workers_submit(Workers *workers, WorkFunction function, gpointer data)
{
    return workers_push(workers, &workers->fresh, workers->queue_max, function, data);
}

void
workers_continue(Workers *workers, WorkFunction function, gpointer data)
{
    /* Bounded all the same: each entry is a request, and connections are bounded. */
    workers_push(workers, &workers->begun, G_MAXUINT, function, data);
}

void
workers_free(Workers *workers)
{
    if (workers == NULL)
        return;
    g_mutex_lock(&workers->lock);
    workers->ending = TRUE;
    g_cond_broadcast(&workers->bell);
    g_mutex_unlock(&workers->lock);
    for (guint i = 0; i < workers->threads->len; i++)
        g_thread_join(workers->threads->pdata[i]);
    g_ptr_array_unref(workers->threads);
    g_mutex_clear(&workers->lock);
    g_cond_clear(&workers->bell);
    g_free(workers);
}
