/* server/http/workers.h: the threads that run requests, and their bounded queue.
 * New requests are refused when the queue is full; steps of requests already begun are not, and go
 * first. For server/http/ alone.  Thread-safe. */
#pragma once

#include <glib.h>

typedef struct Workers Workers;
typedef void (*WorkFunction)(gpointer data);

Workers *workers_new(guint threads, guint queue_max);
/* FALSE: the queue is full; @function will not run. */
gboolean workers_submit(Workers *workers, WorkFunction function, gpointer data);
void workers_continue(Workers *workers, WorkFunction function, gpointer data);
/* Runs what is queued, then ends the threads. */
void workers_free(Workers *workers);
