/* server/client/sync_private.h: what the files of /sync share: the call, and one room's section.
 *
 *   sync.c         the handler: reads the query, answers, parks, answers again
 *   sync_memory.c  the answer out of the hub's memory: plain messages
 *   sync_look.c    one snapshot of the database
 *   sync_answer.c  the answer out of it: everything
 *   sync_devices.c the part of it that is about devices: inbox, device lists, counts of keys
 *   sync_room.c    one joined, invited or left room of it
 */
#pragma once

#include "federation/rooms.h"
#include "server/client/filter.h"
#include "server/client/stream_token.h"
#include "server/http/request.h"
#include "server/server.h"
#include "storage/log.h"

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

/* One look into the database, in a snapshot. */
typedef struct {
    const SyncCall *call;
    StoreConnection *connection; /* in the snapshot */
    gint64 since;
    gint64 until;           /* 0 before the look begins: up to the head */
    gboolean whole;         /* initial, or away too long: entries is empty and everything is told */
    GPtrArray *entries;     /* LogEntry after since */
    GHashTable *by_room;    /* room id -> GPtrArray of those that are of the room */
    GPtrArray *memberships; /* StoredMembership of the user, as they are at the head */
    GHashTable *joined;     /* room id -> StoredMembership */
    GHashTable *told;       /* room ids that stand in the answer as invites or as left */
    GHashTable *account_rooms; /* room ids whose account data changed */
    GHashTable *changed_users; /* whose devices changed: sync_note_device_lists() */
    GHashTable *left_users;    /* who is met no more */
} SyncLook;

/* Opens the snapshot on look->connection; look->call and, if it is not to be the head, look->until
 * are set before. */
gboolean sync_look_begin(SyncLook *look, GError **error);
void sync_look_clear(SyncLook *look);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SyncLook, sync_look_clear)
/* The entries of @room_id since the token, oldest first; NULL: none. */
GPtrArray *sync_look_room_entries(const SyncLook *look, const char *room_id);
gboolean
sync_look_has_entry(const SyncLook *look, const char *room_id, LogKind kind, const char *user_id);
/* The membership at the token, and the root of the state then (may be NULL). */
gboolean sync_look_membership_then(const SyncLook *look, const char *room_id, const char *user_id,
                                   GBytes **ret_root, char **ret_membership, GError **error);

/* Fill look->changed_users and look->left_users. */
gboolean sync_note_device_lists(SyncLook *look, GError **error);
/* "changed":[…],"left":[…] */
void sync_append_device_lists(const SyncLook *look, GString *out);
/* The next messages of the device's inbox; @next moves on over them. */
gboolean sync_append_to_device(const SyncLook *look, SyncToken *next, GString *out, GError **error);
/* What the device has had leaves its inbox. */
gboolean
sync_acknowledge_to_device(const SyncCall *call, StoreConnection *connection, GError **error);

/* One room on its way into the answer. */
typedef struct {
    const char *room_id;
    GPtrArray *timeline; /* RoomEvent, oldest first */
    gboolean limited;
    gint64 before_position; /* the gap before the timeline */
    GPtrArray *state;       /* Pdu */
    GString *ephemeral;     /* events, separated by commas */
    GString *account_data;
    GString *summary;  /* members of the object, or empty */
    GPtrArray *heroes; /* char *: whom it names */
    guint notifications;
    guint highlights;
} SyncRoom;

SyncRoom *sync_room_new(const char *room_id);
void sync_room_free(SyncRoom *room);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SyncRoom, sync_room_free)
/* Who types, unless the filter does not want it. */
void sync_room_add_typing(const SyncCall *call, SyncRoom *room);
gboolean sync_room_is_empty(const SyncRoom *room);
/* Append "room_id":{…} of rooms.join or rooms.leave. */
gboolean sync_room_append(const SyncCall *call, const SyncRoom *room, gboolean joined, GString *out,
                          GError **error);
/* With lazy members: the member events (Pdu) of the timeline's senders under @root that are not yet
 * in room->state. */
gboolean sync_room_add_senders(const SyncCall *call, SyncRoom *room, GBytes *root, GError **error);
/* With lazy members: those of the summary's heroes under @root, that clients can name the room. */
gboolean sync_room_add_heroes(const SyncCall *call, SyncRoom *room, GBytes *root, GError **error);
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
