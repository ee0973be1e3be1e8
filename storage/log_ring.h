/* storage/log_ring.h: the newest committed log entries, in memory, and a bell.
 *
 * Written by the lane alone, in commit order.  Bounded in bytes: old entries leave.  Readers ask
 * for what came after a position; what is too old for the ring is read from PostgreSQL instead. For
 * federation/ (delivery) and server/ (sync).  Thread-safe. */
#pragma once

#include "storage/log.h"

typedef struct LogRing LogRing;

LogRing *log_ring_new(gsize bytes_max, LogHead head);
void log_ring_free(LogRing *ring);

/* The last durable head, as the ring knows it. */
LogHead log_ring_head(LogRing *ring);

/* Entries after @after, oldest first, as new references in *ret_entries; FALSE when the ring no
 * longer holds everything after @after (ask log_read). */
gboolean log_ring_read(LogRing *ring, gint64 after, guint entries_max, GPtrArray **ret_entries);

/* Append the entries of one committed batch (GPtrArray of LogEntry, borrowed) and ring every bell.
 */
void log_ring_append(LogRing *ring, LogHead head, GPtrArray *entries);

/* @bell runs on the lane thread after each batch, with its entries (none, if it only wrote rows:
 * what waits in a queue is told of all the same): it must be quick. Register before serving. */
typedef void (*LogBell)(GPtrArray *entries, gpointer data);
void log_ring_add_bell(LogRing *ring, LogBell bell, gpointer data);
