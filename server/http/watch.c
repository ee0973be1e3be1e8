#include "server/http/watch.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BELL_ID 0
#define EVENTS_MAX 64

typedef struct {
    gint64 at_us;
    guint64 id;
    WatchTimer timer;
    gpointer data;
} Timer;

struct Watch {
    int epoll;
    int bell; /* eventfd: the earliest timer changed, or the end */
    WatchHangup hangup;
    gpointer data;
    GThread *thread;
    GMutex lock;       /* all below */
    GTree *by_time;    /* Timer, owned, by at_us and id */
    GHashTable *by_id; /* guint64 id -> Timer */
    guint64 last_id;
    gboolean ending;
};

static gint
timer_compare(gconstpointer first, gconstpointer second, gpointer data)
{
    const Timer *a = first;
    const Timer *b = second;

    if (a->at_us != b->at_us)
        return a->at_us < b->at_us ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

static void
watch_ring(Watch *watch)
{
    guint64 one = 1;

    /* A full counter rings as well. */
    if (write(watch->bell, &one, sizeof one) < 0 && errno != EAGAIN)
        g_warning("watch: eventfd: %s", g_strerror(errno));
}

/* The due timer, taken out; or NULL with *ret_wait_ms until the next (-1: none). */
static Timer *
watch_take_due(Watch *watch, int *ret_wait_ms)
{
    GTreeNode *node = g_tree_node_first(watch->by_time);
    Timer *timer;
    gint64 left_us;

    *ret_wait_ms = -1;
    if (node == NULL)
        return NULL;
    timer = g_tree_node_key(node);
    left_us = timer->at_us - g_get_monotonic_time();
    if (left_us > 0) {
        *ret_wait_ms = (int)MIN(left_us / 1000 + 1, 60 * 1000);
        return NULL;
    }
    g_tree_steal(watch->by_time, timer);
    g_hash_table_remove(watch->by_id, &timer->id);
    return timer;
}

/* FALSE at the end. */
static gboolean
watch_run_timers(Watch *watch, int *ret_wait_ms)
{
    for (;;) {
        Timer *timer;
        gboolean ending;

        g_mutex_lock(&watch->lock);
        ending = watch->ending;
        timer = ending ? NULL : watch_take_due(watch, ret_wait_ms);
        g_mutex_unlock(&watch->lock);
        if (timer == NULL)
            return !ending;
        timer->timer(timer->data);
        g_free(timer);
    }
}

static gpointer
watch_run(gpointer data)
{
    Watch *watch = data;
    struct epoll_event events[EVENTS_MAX];
    int wait_ms = -1;

    while (watch_run_timers(watch, &wait_ms)) {
        int count = epoll_wait(watch->epoll, events, EVENTS_MAX, wait_ms);
        for (int i = 0; i < count; i++) {
            guint64 drained;
            if (events[i].data.u64 != BELL_ID)
                watch->hangup(events[i].data.u64, watch->data);
            else if (read(watch->bell, &drained, sizeof drained) < 0 && errno != EAGAIN)
                g_warning("watch: eventfd: %s", g_strerror(errno));
        }
    }
    return NULL;
}

Watch *
watch_new(WatchHangup hangup, gpointer data, GError **error)
{
    struct epoll_event bell = {.events = EPOLLIN, .data.u64 = BELL_ID};
    Watch *watch = g_new0(Watch, 1);

    g_mutex_init(&watch->lock);
    watch->hangup = hangup;
    watch->data = data;
    watch->by_time = g_tree_new_full(timer_compare, NULL, g_free, NULL);
    watch->by_id = g_hash_table_new(g_int64_hash, g_int64_equal);
    watch->epoll = epoll_create1(EPOLL_CLOEXEC);
    watch->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watch->epoll < 0 || watch->bell < 0 ||
        epoll_ctl(watch->epoll, EPOLL_CTL_ADD, watch->bell, &bell) < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "epoll: %s",
                    g_strerror(errno));
        watch_free(watch);
        return NULL;
    }
    watch->thread = g_thread_new("watch", watch_run, watch);
    return watch;
}

void
watch_free(Watch *watch)
{
    if (watch == NULL)
        return;
    if (watch->thread != NULL) {
        g_mutex_lock(&watch->lock);
        watch->ending = TRUE;
        g_mutex_unlock(&watch->lock);
        watch_ring(watch);
        g_thread_join(watch->thread);
    }
    if (watch->epoll >= 0)
        close(watch->epoll);
    if (watch->bell >= 0)
        close(watch->bell);
    g_hash_table_unref(watch->by_id);
    g_tree_unref(watch->by_time);
    g_mutex_clear(&watch->lock);
    g_free(watch);
}

guint64
watch_add_timer(Watch *watch, guint delay_ms, WatchTimer function, gpointer data)
{
    Timer *timer = g_new0(Timer, 1);
    gboolean first;
    guint64 id;

    timer->at_us = g_get_monotonic_time() + (gint64)delay_ms * 1000;
    timer->timer = function;
    timer->data = data;
    g_mutex_lock(&watch->lock);
    id = timer->id = ++watch->last_id;
    g_tree_insert(watch->by_time, timer, timer);
    g_hash_table_insert(watch->by_id, &timer->id, timer);
    first = g_tree_node_key(g_tree_node_first(watch->by_time)) == timer;
    g_mutex_unlock(&watch->lock);
    if (first)
        watch_ring(watch);
    return id;
}

gboolean
watch_cancel_timer(Watch *watch, guint64 id)
{
    Timer *timer;

    g_mutex_lock(&watch->lock);
    timer = g_hash_table_lookup(watch->by_id, &id);
    if (timer != NULL) {
        g_hash_table_remove(watch->by_id, &id);
        g_tree_remove(watch->by_time, timer);
    }
    g_mutex_unlock(&watch->lock);
    return timer != NULL;
}

void
watch_add_socket(Watch *watch, int socket, guint64 id)
{
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data.u64 = id};

    if (epoll_ctl(watch->epoll, EPOLL_CTL_ADD, socket, &event) < 0)
        g_warning("watch: socket: %s", g_strerror(errno));
}

void
watch_remove_socket(Watch *watch, int socket)
{
    /* It may have failed to be added: nothing to take out then. */
    (void)epoll_ctl(watch->epoll, EPOLL_CTL_DEL, socket, NULL);
}
