/* storage/log.h: the one log.  Everything durable that a client, a partner or a pusher must learn
 * of is one entry; its position is its commit order, and nobody reads past what is durable.
 *
 * Entries are written only by the lane (storage/lane.h), read back from PostgreSQL, and kept, as
 * they are committed, in a ring in memory (storage/log_ring.h) that waiting syncs and deliveries
 * read. For federation/ and server/. */
#pragma once

#include "storage/store.h"

typedef enum {
    LOG_EVENT = 1,    /* room_id, ref = event id, payload = the event's federation JSON, state_root;
                         user_id = whose membership it changes, for m.room.member alone */
    LOG_ACCOUNT_DATA, /* user_id, room_id or NULL, ref = type */
    LOG_RECEIPT,      /* room_id, user_id, ref = receipt type */
    LOG_TO_DEVICE,   /* user_id, ref = message id, "DEVICEID/unique": one message for that device */
    LOG_DEVICE_LIST, /* user_id's devices or keys changed: one entry for each of the user's joined
                        rooms (room_id), and one without a room for the user alone */
    LOG_ROOM_FORGOTTEN, /* user_id, room_id */
    LOG_SESSION_END,    /* user_id, ref = device id or NULL for all: sessions died */
    LOG_INVITE,         /* user_id, room_id: an invite, or its end, for a room that we are not in */
    LOG_PROFILE,        /* user_id */
} LogKind;

/* Immutable once committed; shared by reference. */
typedef struct {
    gint64 position; /* given at commit; 0 before; negative for history fetched later (backfill) */
    LogKind kind;
    char *room_id;      /* or NULL */
    char *user_id;      /* or NULL */
    char *ref;          /* or NULL */
    GBytes *state_root; /* LOG_EVENT: the room's current state after it; else NULL */
    GBytes *payload; /* in memory only: LOG_EVENT: the event's bytes (the event table keeps them);
                        LOG_RECEIPT: the m.receipt event that tells the room of it, or NULL */
    gint64 committed_ms; /* wall clock at commit */
} LogEntry;

LogEntry *log_entry_new(LogKind kind, const char *room_id, const char *user_id, const char *ref);
LogEntry *log_entry_ref(LogEntry *entry);
void log_entry_unref(LogEntry *entry);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LogEntry, log_entry_unref)

/* Where the log stands: the last durable position, and the epoch of this database. */
typedef struct {
    gint64 epoch;
    gint64 position;
} LogHead;

gboolean log_head_read(StoreConnection *connection, LogHead *ret_head, GError **error);

/* Entries after @after up to and with @until, oldest first, at most @entries_max, payloads loaded.
 * Free with g_ptr_array_unref. */
GPtrArray *log_read(StoreConnection *connection, gint64 after, gint64 until, guint entries_max,
                    GError **error);

/* Of one kind and user: the same. */
GPtrArray *log_read_user(StoreConnection *connection, const char *user_id, LogKind kind,
                         gint64 after, gint64 until, guint entries_max, GError **error);

/* One page of a room's events by position; @from exclusive.  Backwards: positions below @from,
 * newest first; forwards: above it, oldest first.  History before we joined has negative positions.
 */
GPtrArray *log_read_room(StoreConnection *connection, const char *room_id, gint64 from,
                         gboolean backwards, guint entries_max, GError **error);
/* The state root of the newest entry of @room_id at or before @position; NULL bytes when none. */
gboolean log_state_root_at(StoreConnection *connection, const char *room_id, gint64 position,
                           GBytes **ret_root, GError **error);
