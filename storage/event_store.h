/* storage/event_store.h: events as bytes, the edges of their graph, redactions, and clients'
 * transaction ids.
 *
 * Writers add to a lane batch; readers take a borrowed connection.  Plain rows: what an event means
 * and whether it may be stored is judged above.  For federation/ (writers: the acceptance of events
 * alone) and server/. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

typedef enum {
    STORED_EVENT_ACCEPTED = 1,
    STORED_EVENT_SOFT_FAILED, /* in the graph, told to nobody */
    STORED_EVENT_REJECTED,    /* kept so that it is not fetched again */
    STORED_EVENT_OUTLIER,     /* known by its auth chain or a state answer, without its place in the
                                 graph */
} StoredEventStatus;

/* What a writer hands in; everything borrowed. */
typedef struct {
    const char *room_id;
    const char *event_id;
    const char *type;
    const char *state_key; /* NULL: no state event */
    const char *sender;
    gint64 depth;
    gint64 origin_server_ts;
    StoredEventStatus status;
    gboolean local;       /* made by this server */
    GBytes *state_before; /* roots, or NULL when not known (outliers) */
    GBytes *state_after;
    const char *const *auth_event_ids; /* both ended by NULL; NULL counts as empty */
    const char *const *prev_event_ids;
    const char *reason;    /* of a rejection or soft failure, or NULL */
    GBytes *json;          /* the federation form */
    const char *device_id; /* of the local client that sent it with a transaction id; or NULL */
    const char *txn_id;
    gboolean is_new; /* made in this operation: it cannot be there yet */
} NewEvent;

typedef struct {
    char *room_id;
    char *event_id;
    char *type;
    char *state_key;
    char *sender;
    gint64 depth;
    gint64 origin_server_ts;
    StoredEventStatus status;
    gboolean local;
    GBytes *state_before;
    GBytes *state_after;
    char *reason;
    GBytes *json;
    char *device_id; /* of the local client that sent it, with its transaction id; or NULL */
    char *txn_id;
    gint64 position; /* in the log; 0 when it is not there (outliers, rejected, soft-failed) */
} StoredEvent;

void stored_event_free(StoredEvent *event);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoredEvent, stored_event_free)

/* A known outlier takes the new status, states and reason; any other known event stays as it is. */
void event_store_insert(LaneBatch *batch, const NewEvent *event);

/* An absent event is success with *ret_event NULL; FALSE means that the database failed. */
gboolean event_store_find(StoreConnection *connection, const char *room_id, const char *event_id,
                          StoredEvent **ret_event, GError **error);
/* Those of @event_ids that are there, in no particular order: a GPtrArray of StoredEvent that owns
 * them. */
GPtrArray *event_store_find_many(StoreConnection *connection, const char *room_id,
                                 const char *const *event_ids, gsize count, GError **error);
/* Where only the id is known: the room of an event that is in the log, or NULL. */
gboolean event_store_find_room(StoreConnection *connection, const char *event_id,
                               char **ret_room_id, GError **error);
/* The newest event of the log in this room with an origin_server_ts at or before (@backwards), or
 * at or after @ts: its id, or NULL. */
gboolean
event_store_find_by_time(StoreConnection *connection, const char *room_id, gint64 ts,
                         gboolean backwards, char **ret_event_id, gint64 *ret_ts, GError **error);

/* Ids of the auth chain of @event_ids, these themselves left out unless another one's chain holds
 * them; at most
 * @budget, *ret_complete FALSE when there were more (or an event of the chain is not stored). */
GPtrArray *event_store_auth_chain(StoreConnection *connection, const char *room_id,
                                  const char *const *event_ids, gsize count, guint budget,
                                  gboolean *ret_complete, GError **error);
/* Back along prev_events from @from_ids, these included if @include_from, never past or with
 * @stop_ids, accepted and soft-failed events only, at most @events_max, by falling depth:
 * StoredEvent, owned. */
GPtrArray *
event_store_walk_back(StoreConnection *connection, const char *room_id, const char *const *from_ids,
                      gsize from_count, const char *const *stop_ids, gsize stop_count,
                      gboolean include_from, guint events_max, GError **error);

/* Forward extremities: GPtrArray of char *, sorted, owned. */
GPtrArray *
event_store_extremities(StoreConnection *connection, const char *room_id, GError **error);
/* They become exactly @event_ids (ended by NULL): once a batch is enough. */
void
event_store_set_extremities(LaneBatch *batch, const char *room_id, const char *const *event_ids);

/* prev_events that @child_event_id names and that are not stored: the room's backward edge. */
void event_store_add_missing(LaneBatch *batch, const char *room_id, const char *child_event_id,
                             const char *const *missing_ids, gsize count);
void event_store_clear_missing(LaneBatch *batch, const char *room_id, const char *event_id);
/* GPtrArray of char *, owned: ids that are missed, those of the deepest children first. */
GPtrArray *event_store_missing(StoreConnection *connection, const char *room_id, guint ids_max,
                               GError **error);

void event_store_insert_redaction(LaneBatch *batch, const char *room_id, const char *redacts,
                                  const char *event_id);
/* Which of @event_ids are redacted: redacted id -> id of the redaction (the first in byte order);
 * keys and values owned by the table. */
GHashTable *event_store_find_redactions(StoreConnection *connection, const char *room_id,
                                        const char *const *event_ids, gsize count, GError **error);

/* A client's transaction id, in the batch of its event.  Used twice at the same time, the second
 * operation is refused with STORE_ERROR_CONFLICT when it runs alone: read first, in the apply
 * function. */
void event_store_record_transaction(LaneBatch *batch, const char *user_id, const char *device_id,
                                    const char *scope, const char *txn_id, const char *event_id,
                                    gint64 now_ms);
gboolean event_store_find_transaction(StoreConnection *connection, const char *user_id,
                                      const char *device_id, const char *scope, const char *txn_id,
                                      char **ret_event_id, GError **error);
/* What the device has used, at most @rows_max of it: scope and transaction id, column 0 and 1. */
StoreRows *event_store_transactions(StoreConnection *connection, const char *user_id,
                                    const char *device_id, guint rows_max, GError **error);
void event_store_trim_transactions(LaneBatch *batch, gint64 before_ms);
