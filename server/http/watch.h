/* server/http/watch.h: one thread that knows when time is up and which clients have hung up.
 *
 * libmicrohttpd does not notice that the client of a suspended connection has gone, and its own
 * time-out counts inactivity only.  A second epoll watches every socket for EPOLLRDHUP,
 * edge-triggered, so data waiting to be read wakes nobody.  For server/http/ alone.  Thread-safe.
 */
#pragma once

#include <glib.h>

typedef struct Watch Watch;
/* On the watch thread; must be quick. */
typedef void (*WatchTimer)(gpointer data);
typedef void (*WatchHangup)(guint64 id, gpointer data);

Watch *watch_new(WatchHangup hangup, gpointer data, GError **error);
void watch_free(Watch *watch); /* timers that have not run are dropped */

/* Runs @timer once, @delay_ms from now, unless cancelled.  Never 0. */
guint64 watch_add_timer(Watch *watch, guint delay_ms, WatchTimer timer, gpointer data);
/* TRUE: it will not run.  FALSE: it has run, or is running. */
gboolean watch_cancel_timer(Watch *watch, guint64 timer);

/* @id is handed to the hangup function: the socket's number may be used again, an id never is. */
void watch_add_socket(Watch *watch, int socket, guint64 id);
void watch_remove_socket(Watch *watch, int socket); /* before it is closed */
