/* storage/membership_store.h: who is where, flat: room -> users, user -> rooms, room -> servers;
 * and invites into rooms that this server is not in.  For federation/ (writers: the rooms engine)
 * and server/. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

typedef struct {
    char *room_id;
    char *user_id;
    char *membership; /* join, invite, leave, ban, knock */
    char *event_id;
    char *sender; /* of the membership event */
    gboolean local;
    gboolean forgotten;
} StoredMembership;

void stored_membership_free(StoredMembership *membership);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoredMembership, stored_membership_free)

/* Takes back "forgotten". */
void membership_store_set(LaneBatch *batch, const char *room_id, const char *user_id,
                          const char *membership, const char *event_id, const char *sender,
                          gboolean local);
void membership_store_remove(LaneBatch *batch, const char *room_id, const char *user_id);
void membership_store_forget(LaneBatch *batch, const char *room_id, const char *user_id);
/* @change: how many more (or fewer) users of @server are joined. */
void membership_store_change_server(LaneBatch *batch, const char *room_id, const char *server,
                                    gint64 change);

/* Absent is success with *ret_membership NULL. */
gboolean
membership_store_find(StoreConnection *connection, const char *room_id, const char *user_id,
                      StoredMembership **ret_membership, GError **error);
/* Members of a room in byte order, of one membership or any (NULL), after @after (NULL: from the
 * start), at most @members_max: GPtrArray of StoredMembership, owned. */
GPtrArray *
membership_store_members(StoreConnection *connection, const char *room_id, const char *membership,
                         const char *after, guint members_max, GError **error);
/* Joined users of this server in the room: GPtrArray of char *, owned. */
GPtrArray *
membership_store_local_joined(StoreConnection *connection, const char *room_id, GError **error);
/* A user's rooms, of one membership or any (NULL): GPtrArray of StoredMembership, owned. */
GPtrArray *membership_store_rooms(StoreConnection *connection, const char *user_id,
                                  const char *membership, GError **error);
gboolean membership_store_count(StoreConnection *connection, const char *room_id,
                                gint64 *ret_joined, gint64 *ret_invited, GError **error);
/* Servers with joined users: GPtrArray of char *, owned. */
GPtrArray *
membership_store_servers(StoreConnection *connection, const char *room_id, GError **error);
typedef struct {
    char *name;
    gint64 joined; /* its users in the room */
} StoredServer;
/* The same with numbers: GPtrArray of StoredServer, owned. */
GPtrArray *
membership_store_server_counts(StoreConnection *connection, const char *room_id, GError **error);
gboolean membership_store_server_joined(StoreConnection *connection, const char *room_id,
                                        const char *server, gboolean *ret_joined, GError **error);
/* Whether two users are joined to a common room. */
gboolean
membership_store_share_room(StoreConnection *connection, const char *user_id,
                            const char *other_user_id, gboolean *ret_share, GError **error);
/* Users joined to a room that @user_id is joined to (itself left out), @local_only or all; and the
 * servers of those rooms: who must learn of a changed device list.  GPtrArray of char *, owned. */
GPtrArray *membership_store_users_sharing(StoreConnection *connection, const char *user_id,
                                          gboolean local_only, guint users_max, GError **error);
GPtrArray *
membership_store_servers_sharing(StoreConnection *connection, const char *user_id, GError **error);

typedef struct {
    char *user_id;
    char *room_id;
    char *room_version;
    char *event_id;
    char *sender;
    GBytes *json;       /* the invite event */
    GBytes *room_state; /* JSON array, as it came */
} StoredInvite;

void stored_invite_free(StoredInvite *invite);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoredInvite, stored_invite_free)

/* Invites into rooms that we are not in.  Setting replaces. */
void membership_store_set_invite(LaneBatch *batch, const StoredInvite *invite);
void membership_store_remove_invite(LaneBatch *batch, const char *user_id, const char *room_id);
gboolean
membership_store_find_invite(StoreConnection *connection, const char *user_id, const char *room_id,
                             StoredInvite **ret_invite, GError **error);
GPtrArray *
membership_store_invites(StoreConnection *connection, const char *user_id, GError **error);
/* Those into other rooms than @room_id. */
gboolean
membership_store_count_other_invites(StoreConnection *connection, const char *user_id,
                                     const char *room_id, gint64 *ret_count, GError **error);
