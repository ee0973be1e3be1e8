/* server/client/sync_private.h: what the files of /sync share: the call, and one room's section.
 *
 *   sync.c         the handler: reads the query, answers, parks, answers again
 *   sync_memory.c  the answer out of the hub's memory: plain messages
 *   sync_answer.c  the answer out of the database: one snapshot, everything
 *   sync_room.c    one joined, invited or left room of it
 */
#pragma once

#include "federation/rooms.h"
#include "server/client/filter.h"
#include "server/client/stream_token.h"
#include "server/http/request.h"
#include "server/server.h"

#define SYNC_TIMELINE_MAX 100u
#define SYNC_TO_DEVICE_MAX 100
#define SYNC_USERS_MAX 10000u
#define SYNC_ENTRIES_MAX 2000u /* a longer absence is answered room by room */

typedef struct {
    Request *request; /* borrowed: the call lives with it */
    Server *server;
    const char *user_id;
    const char *device_id;
    Filter *filter;
    gboolean initial; /* no since */
    gboolean full_state;
    const char *state_after; /* the name of the member to answer instead of "state", or NULL */
    SyncToken since;
    gint64 deadline_ms; /* on the interval clock */
} SyncCall;

/* One room on its way into the answer. */
typedef struct {
    const char *room_id;
    GPtrArray *timeline; /* RoomEvent, oldest first */
    gboolean limited;
    gint64 before_position; /* the gap before the timeline */
    GPtrArray *state;       /* Pdu */
    GString *ephemeral;     /* events, separated by commas */
    GString *account_data;
    GString *summary; /* members of the object, or empty */
    guint notifications;
    guint highlights;
} SyncRoom;

SyncRoom *sync_room_new(const char *room_id);
void sync_room_free(SyncRoom *room);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SyncRoom, sync_room_free)
gboolean sync_room_is_empty(const SyncRoom *room);
/* Append "room_id":{…} of rooms.join or rooms.leave. */
gboolean sync_room_append(const SyncCall *call, const SyncRoom *room, gboolean joined, GString *out,
                          GError **error);
/* With lazy members: the member events (Pdu) of the timeline's senders under @root that are not yet
 * in room->state. */
gboolean sync_room_add_senders(const SyncCall *call, SyncRoom *room, GBytes *root, GError **error);
/* Drop from room->timeline what the filter does not want, and what is more than its limit (the
 * oldest). */
void sync_room_limit_timeline(const SyncCall *call, SyncRoom *room);
guint sync_timeline_limit(const SyncCall *call);

/* "device_one_time_keys_count":…,"device_unused_fallback_key_types":…; owned by the caller. */
char *sync_key_counts(const SyncCall *call, StoreConnection *connection, GError **error);

/* The answer if it can be made without the database, or *ret_answer NULL: nothing new up to
 * *ret_next. FALSE with @error unset: take the other way. */
gboolean
sync_from_memory(const SyncCall *call, GString **ret_answer, SyncToken *ret_next, GError **error);
/* The answer out of the database; *ret_answer NULL: nothing new (never for an initial sync). */
gboolean
sync_from_database(const SyncCall *call, GString **ret_answer, SyncToken *ret_next, GError **error);
/* When the time is up: call->since is the next token. */
GString *sync_empty_answer(const SyncCall *call, GError **error);
void sync_append_next_batch(const SyncToken *token, GString *out);
