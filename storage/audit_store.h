/* storage/audit_store.h: the audit log: appended to and read, nothing else.  For identity/audit.c.
 */
#pragma once

#include "storage/store.h"
#include "storage/writes.h"

/* One line; borrowed, no NULLs. */
typedef struct {
    gint64 seq; /* given by the insert */
    gint64 time_ms;
    const char *type;
    const char *actor;
    const char *subject;
    const char *object;
    const char *decision;
    const char *rule;
    const char *refs;
} StoredAudit;

extern const StoreStatement audit_statements[];
extern const guint audit_statement_count;

/* The statement that appends, and its arguments: takes the next number under the head's lock. */
const StoreStatement *audit_store_append(void);
StoreArguments *audit_store_arguments(const StoredAudit *line);

/* Lines after @after, oldest first; rows of (seq, time_ms, type, actor, subject, object, decision,
 * rule, refs). */
StoreRows *
audit_store_read(StoreConnection *connection, gint64 after, gint64 lines_max, GError **error);
/* Takes the head's lock in the open transaction: acts that wait for it come after this one. */
gboolean audit_store_lock(StoreConnection *connection, GError **error);
/* Time of the newest line; 0 when there is none. */
gboolean audit_store_newest_ms(StoreConnection *connection, gint64 *ret_time_ms, GError **error);
/* The newest line's number. */
gboolean audit_store_head(StoreConnection *connection, gint64 *ret_seq, GError **error);
/* Is there a line after *seq of a type that is not among @but_types?  Moves *seq to the newest
 * line. */
gboolean audit_store_news(StoreConnection *connection, gint64 *seq, const char *const *but_types,
                          gsize count, gboolean *ret_news, GError **error);
