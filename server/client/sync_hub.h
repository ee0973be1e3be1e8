/* server/client/sync_hub.h: who waits for what: parked syncs, and the news that wakes them.
 *
 * The hub follows the log (a bell of the ring) and keeps, for users with a parked or recent sync,
 * the rooms that they are joined to, changed by log entries alone.  So a commit wakes exactly the
 * syncs that it concerns, and a sync whose news are plain messages is answered from memory;
 * everything else takes the database path.  The share is counted.
 *
 * Memory is bounded: recent entries by number and bytes, users by number (those who wait are never
 * put out). For server/client/sync.c, typing and serve.c.  Thread-safe; the bell runs on the lane
 * thread. */
#pragma once

#include "server/client/stream_token.h"
#include "server/http/request.h"
#include "storage/log.h"

typedef struct Server Server;
typedef struct SyncHub SyncHub;

/* Registers its bells with server->ring and server->sessions. */
SyncHub *sync_hub_new(Server *server);
void sync_hub_free(SyncHub *hub);

/* The user's joined rooms as they were at @position (char *): from now on the hub follows them. */
void sync_hub_follow(SyncHub *hub, const char *user_id, GPtrArray *room_ids, gint64 position);

/* What concerns a user after a token, if it changes no state of a room: plain messages, others'
 * receipts, typing; in joined rooms. */
typedef struct {
    char *room_id;
    GPtrArray *events;   /* LogEntry, oldest first; maybe none */
    GPtrArray *receipts; /* LogEntry */
    gboolean typing;     /* others type than at the token */
    gint64 quiet_since;  /* after this the room had no event until the first of @events */
} SyncHubRoom;
typedef struct {
    GHashTable *rooms; /* room id -> SyncHubRoom */
    gint64 until;      /* how far that is */
} SyncHubNews;
void sync_hub_news_clear(SyncHubNews *news);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SyncHubNews, sync_hub_news_clear)
/* FALSE: take the database path. */
gboolean
sync_hub_collect(SyncHub *hub, const char *user_id, const SyncToken *since, SyncHubNews *ret_news);

/* Park @request: it is woken (request_wake) by news after @seen; at once if they are there already.
 * The newer request of a device ends the older one's wait.  Then call request_wait(); in its step
 * call sync_hub_leave(). */
void sync_hub_park(SyncHub *hub, Request *request, const SyncToken *seen);
/* TRUE: no newer request of the device has taken its place. */
gboolean sync_hub_leave(SyncHub *hub, Request *request);

/* Something that is not in the log changed in a room (typing): wake who waits there. */
void sync_hub_wake_room(SyncHub *hub, const char *room_id);

/* How many keys of a device wait to be claimed, as members of a sync answer, kept while nothing
 * changes them: every upload and claim calls sync_hub_keys_changed() after its commit.  NULL: read
 * them, and hand them back with the *ret_changes from before reading. */
char *
sync_hub_key_counts(SyncHub *hub, const char *user_id, const char *device_id, guint *ret_changes);
void sync_hub_keep_key_counts(SyncHub *hub, const char *user_id, const char *device_id,
                              guint changes, const char *counts);
void sync_hub_keys_changed(SyncHub *hub, const char *user_id);

typedef struct {
    guint parked;
    guint followed_users;
    guint64 from_memory;
    guint64 from_database;
} SyncHubCounts;
void sync_hub_counts(SyncHub *hub, SyncHubCounts *ret_counts);
void sync_hub_count_answer(SyncHub *hub, gboolean from_memory);
