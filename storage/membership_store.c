#include "storage/membership_store.h"

enum {
    MEMBERSHIP_SET,
    MEMBERSHIP_REMOVE,
    MEMBERSHIP_FORGET,
    MEMBERSHIP_FIND,
    MEMBERSHIP_MEMBERS,
    MEMBERSHIP_LOCAL_JOINED,
    MEMBERSHIP_ROOMS,
    MEMBERSHIP_COUNT,
    MEMBERSHIP_SHARE_ROOM,
    MEMBERSHIP_USERS_SHARING,
    MEMBERSHIP_SERVERS_SHARING,
    SERVER_CHANGE,
    SERVER_LIST,
    SERVER_COUNTS,
    SERVER_JOINED,
    INVITE_SET,
    INVITE_REMOVE,
    INVITE_FIND,
    INVITE_LIST,
    INVITE_COUNT_OTHERS,
};

#define MEMBERSHIP_COLUMNS "room_id, user_id, membership, event_id, sender, local, forgotten"
#define INVITE_COLUMNS "user_id, room_id, room_version, event_id, sender, json, room_state"

const StoreStatement membership_statements[] = {
    [MEMBERSHIP_SET] =
        {"membership_set",
         "INSERT INTO membership (room_id, user_id, membership, event_id, sender, local)"
         " VALUES ($1, $2, $3, $4, $5, $6)"
         " ON CONFLICT (room_id, user_id) DO UPDATE SET membership = excluded.membership,"
         " event_id = excluded.event_id, sender = excluded.sender, forgotten = false"},
    [MEMBERSHIP_REMOVE] = {"membership_remove",
                           "DELETE FROM membership WHERE room_id = $1 AND user_id = $2"},
    [MEMBERSHIP_FORGET] = {"membership_forget", "UPDATE membership SET forgotten = true"
                                                " WHERE room_id = $1 AND user_id = $2"},
    [MEMBERSHIP_FIND] = {"membership_find", "SELECT " MEMBERSHIP_COLUMNS
                                            " FROM membership WHERE room_id = $1 AND user_id = $2"},
    [MEMBERSHIP_MEMBERS] = {"membership_members",
                            "SELECT " MEMBERSHIP_COLUMNS
                            " FROM membership WHERE room_id = $1 AND user_id > $3"
                            " AND ($2::text IS NULL OR membership = $2) ORDER BY user_id LIMIT $4"},
    [MEMBERSHIP_LOCAL_JOINED] = {"membership_local_joined",
                                 "SELECT user_id FROM membership WHERE room_id = $1 AND local"
                                 " AND membership = 'join' ORDER BY user_id"},
    [MEMBERSHIP_ROOMS] = {"membership_rooms",
                          "SELECT " MEMBERSHIP_COLUMNS " FROM membership WHERE user_id = $1"
                          " AND ($2::text IS NULL OR membership = $2) ORDER BY room_id"},
    [MEMBERSHIP_COUNT] = {"membership_count", "SELECT count(*) FILTER (WHERE membership = 'join'),"
                                              " count(*) FILTER (WHERE membership = 'invite')"
                                              " FROM membership WHERE room_id = $1"},
    [MEMBERSHIP_SHARE_ROOM] =
        {"membership_share_room",
         "SELECT EXISTS (SELECT FROM membership mine JOIN membership theirs"
         " ON theirs.room_id = mine.room_id WHERE mine.user_id = $1 AND mine.membership = 'join'"
         " AND theirs.user_id = $2 AND theirs.membership = 'join')"},
    [MEMBERSHIP_USERS_SHARING] =
        {"membership_users_sharing",
         "SELECT DISTINCT theirs.user_id FROM membership mine JOIN membership theirs"
         " ON theirs.room_id = mine.room_id AND theirs.membership = 'join'"
         " WHERE mine.user_id = $1 AND mine.membership = 'join' AND theirs.user_id <> $1"
         " AND (theirs.local OR NOT $2::boolean) ORDER BY theirs.user_id LIMIT $3"},
    [MEMBERSHIP_SERVERS_SHARING] =
        {"membership_servers_sharing",
         "SELECT DISTINCT s.server FROM membership mine JOIN room_server s"
         " ON s.room_id = mine.room_id AND s.joined > 0"
         " WHERE mine.user_id = $1 AND mine.membership = 'join' ORDER BY s.server"},
    [SERVER_CHANGE] = {"room_server_change",
                       "INSERT INTO room_server (room_id, server, joined) VALUES ($1, $2, $3)"
                       " ON CONFLICT (room_id, server) DO UPDATE"
                       " SET joined = room_server.joined + excluded.joined"},
    [SERVER_COUNTS] = {"room_server_counts", "SELECT server, joined FROM room_server"
                                             " WHERE room_id = $1 AND joined > 0"},
    [SERVER_LIST] = {"room_server_list", "SELECT server FROM room_server"
                                         " WHERE room_id = $1 AND joined > 0 ORDER BY server"},
    [SERVER_JOINED] = {"room_server_joined", "SELECT joined > 0 FROM room_server"
                                             " WHERE room_id = $1 AND server = $2"},
    [INVITE_SET] =
        {"invite_set",
         "INSERT INTO invite (" INVITE_COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7)"
         " ON CONFLICT (user_id, room_id) DO UPDATE SET room_version = excluded.room_version,"
         " event_id = excluded.event_id, sender = excluded.sender, json = excluded.json,"
         " room_state = excluded.room_state"},
    [INVITE_REMOVE] = {"invite_remove", "DELETE FROM invite WHERE user_id = $1 AND room_id = $2"},
    [INVITE_FIND] = {"invite_find",
                     "SELECT " INVITE_COLUMNS " FROM invite WHERE user_id = $1 AND room_id = $2"},
    [INVITE_LIST] = {"invite_list",
                     "SELECT " INVITE_COLUMNS " FROM invite WHERE user_id = $1 ORDER BY room_id"},
    [INVITE_COUNT_OTHERS] = {"invite_count_others",
                             "SELECT count(*) FROM invite WHERE user_id = $1 AND room_id <> $2"},
};
const guint membership_statement_count = G_N_ELEMENTS(membership_statements);

void
stored_membership_free(StoredMembership *membership)
{
    if (membership == NULL)
        return;
    g_free(membership->room_id);
    g_free(membership->user_id);
    g_free(membership->membership);
    g_free(membership->event_id);
    g_free(membership->sender);
    g_free(membership);
}

static StoredMembership *
membership_from_row(const StoreRows *rows, guint row)
{
    StoredMembership *membership = g_new0(StoredMembership, 1);
    membership->room_id = g_strdup(store_rows_text(rows, row, 0));
    membership->user_id = g_strdup(store_rows_text(rows, row, 1));
    membership->membership = g_strdup(store_rows_text(rows, row, 2));
    membership->event_id = g_strdup(store_rows_text(rows, row, 3));
    membership->sender = g_strdup(store_rows_text(rows, row, 4));
    membership->local = store_rows_boolean(rows, row, 5);
    membership->forgotten = store_rows_boolean(rows, row, 6);
    return membership;
}

static GPtrArray *
memberships_run(StoreConnection *connection, guint statement, StoreArguments *arguments,
                GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &membership_statements[statement], arguments, error);
    GPtrArray *memberships;
    if (rows == NULL)
        return NULL;
    memberships =
        g_ptr_array_new_full(store_rows_count(rows), (GDestroyNotify)stored_membership_free);
    for (guint row = 0; row < store_rows_count(rows); row++)
        g_ptr_array_add(memberships, membership_from_row(rows, row));
    return memberships;
}

static GPtrArray *
texts_run(StoreConnection *connection, guint statement, StoreArguments *arguments, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &membership_statements[statement], arguments, error);
    return rows != NULL ? store_rows_text_column(rows, 0) : NULL;
}

/* The first value of the first row; FALSE when there is no row. */
static gboolean
boolean_run(StoreConnection *connection, guint statement, StoreArguments *arguments,
            gboolean *ret_value, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &membership_statements[statement], arguments, error);
    if (rows == NULL)
        return FALSE;
    *ret_value = store_rows_count(rows) > 0 && store_rows_boolean(rows, 0, 0);
    return TRUE;
}

void
membership_store_set(LaneBatch *batch, const char *room_id, const char *user_id,
                     const char *membership, const char *event_id, const char *sender,
                     gboolean local)
{
    lane_batch_add(
        batch, &membership_statements[MEMBERSHIP_SET],
        store_arguments("tttttb", room_id, user_id, membership, event_id, sender, local));
}

void
membership_store_remove(LaneBatch *batch, const char *room_id, const char *user_id)
{
    lane_batch_add(batch, &membership_statements[MEMBERSHIP_REMOVE],
                   store_arguments("tt", room_id, user_id));
}

void
membership_store_forget(LaneBatch *batch, const char *room_id, const char *user_id)
{
    lane_batch_add(batch, &membership_statements[MEMBERSHIP_FORGET],
                   store_arguments("tt", room_id, user_id));
}

void
membership_store_change_server(LaneBatch *batch, const char *room_id, const char *server,
                               gint64 change)
{
    if (change != 0)
        lane_batch_add(batch, &membership_statements[SERVER_CHANGE],
                       store_arguments("tti", room_id, server, change));
}

gboolean
membership_store_find(StoreConnection *connection, const char *room_id, const char *user_id,
                      StoredMembership **ret_membership, GError **error)
{
    g_autoptr(GPtrArray) found = memberships_run(connection, MEMBERSHIP_FIND,
                                                 store_arguments("tt", room_id, user_id), error);
    if (found == NULL)
        return FALSE;
    *ret_membership = found->len > 0 ? g_ptr_array_steal_index(found, 0) : NULL;
    return TRUE;
}

GPtrArray *
membership_store_members(StoreConnection *connection, const char *room_id, const char *membership,
                         const char *after, guint members_max, GError **error)
{
    return memberships_run(connection, MEMBERSHIP_MEMBERS,
                           store_arguments("ttti", room_id, membership, after != NULL ? after : "",
                                           (gint64)members_max),
                           error);
}

GPtrArray *
membership_store_local_joined(StoreConnection *connection, const char *room_id, GError **error)
{
    return texts_run(connection, MEMBERSHIP_LOCAL_JOINED, store_arguments("t", room_id), error);
}

GPtrArray *
membership_store_rooms(StoreConnection *connection, const char *user_id, const char *membership,
                       GError **error)
{
    return memberships_run(connection, MEMBERSHIP_ROOMS, store_arguments("tt", user_id, membership),
                           error);
}

gboolean
membership_store_count(StoreConnection *connection, const char *room_id, gint64 *ret_joined,
                       gint64 *ret_invited, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &membership_statements[MEMBERSHIP_COUNT],
                                          store_arguments("t", room_id), error);
    if (rows == NULL)
        return FALSE;
    *ret_joined = store_rows_integer(rows, 0, 0);
    *ret_invited = store_rows_integer(rows, 0, 1);
    return TRUE;
}

GPtrArray *
membership_store_servers(StoreConnection *connection, const char *room_id, GError **error)
{
    return texts_run(connection, SERVER_LIST, store_arguments("t", room_id), error);
}

gboolean
membership_store_server_joined(StoreConnection *connection, const char *room_id, const char *server,
                               gboolean *ret_joined, GError **error)
{
    return boolean_run(connection, SERVER_JOINED, store_arguments("tt", room_id, server),
                       ret_joined, error);
}

gboolean
membership_store_share_room(StoreConnection *connection, const char *user_id,
                            const char *other_user_id, gboolean *ret_share, GError **error)
{
    return boolean_run(connection, MEMBERSHIP_SHARE_ROOM,
                       store_arguments("tt", user_id, other_user_id), ret_share, error);
}

GPtrArray *
membership_store_users_sharing(StoreConnection *connection, const char *user_id,
                               gboolean local_only, guint users_max, GError **error)
{
    return texts_run(connection, MEMBERSHIP_USERS_SHARING,
                     store_arguments("tbi", user_id, local_only, (gint64)users_max), error);
}

GPtrArray *
membership_store_servers_sharing(StoreConnection *connection, const char *user_id, GError **error)
{
    return texts_run(connection, MEMBERSHIP_SERVERS_SHARING, store_arguments("t", user_id), error);
}

void
stored_invite_free(StoredInvite *invite)
{
    if (invite == NULL)
        return;
    g_free(invite->user_id);
    g_free(invite->room_id);
    g_free(invite->room_version);
    g_free(invite->event_id);
    g_free(invite->sender);
    g_clear_pointer(&invite->json, g_bytes_unref);
    g_clear_pointer(&invite->room_state, g_bytes_unref);
    g_free(invite);
}

static GPtrArray *
invites_run(StoreConnection *connection, guint statement, StoreArguments *arguments, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &membership_statements[statement], arguments, error);
    GPtrArray *invites;
    if (rows == NULL)
        return NULL;
    invites = g_ptr_array_new_full(store_rows_count(rows), (GDestroyNotify)stored_invite_free);
    for (guint row = 0; row < store_rows_count(rows); row++) {
        StoredInvite *invite = g_new0(StoredInvite, 1);
        invite->user_id = g_strdup(store_rows_text(rows, row, 0));
        invite->room_id = g_strdup(store_rows_text(rows, row, 1));
        invite->room_version = g_strdup(store_rows_text(rows, row, 2));
        invite->event_id = g_strdup(store_rows_text(rows, row, 3));
        invite->sender = g_strdup(store_rows_text(rows, row, 4));
        invite->json = store_rows_bytes(rows, row, 5);
        invite->room_state = store_rows_bytes(rows, row, 6);
        g_ptr_array_add(invites, invite);
    }
    return invites;
}

void
membership_store_set_invite(LaneBatch *batch, const StoredInvite *invite)
{
    lane_batch_add(batch, &membership_statements[INVITE_SET],
                   store_arguments("tttttyy", invite->user_id, invite->room_id,
                                   invite->room_version, invite->event_id, invite->sender,
                                   invite->json, invite->room_state));
}

void
membership_store_remove_invite(LaneBatch *batch, const char *user_id, const char *room_id)
{
    lane_batch_add(batch, &membership_statements[INVITE_REMOVE],
                   store_arguments("tt", user_id, room_id));
}

gboolean
membership_store_find_invite(StoreConnection *connection, const char *user_id, const char *room_id,
                             StoredInvite **ret_invite, GError **error)
{
    g_autoptr(GPtrArray) found =
        invites_run(connection, INVITE_FIND, store_arguments("tt", user_id, room_id), error);
    if (found == NULL)
        return FALSE;
    *ret_invite = found->len > 0 ? g_ptr_array_steal_index(found, 0) : NULL;
    return TRUE;
}

GPtrArray *
membership_store_invites(StoreConnection *connection, const char *user_id, GError **error)
{
    return invites_run(connection, INVITE_LIST, store_arguments("t", user_id), error);
}

gboolean
membership_store_count_other_invites(StoreConnection *connection, const char *user_id,
                                     const char *room_id, gint64 *ret_count, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &membership_statements[INVITE_COUNT_OTHERS],
                                          store_arguments("tt", user_id, room_id), error);

    if (rows == NULL)
        return FALSE;
    *ret_count = store_rows_integer(rows, 0, 0);
    return TRUE;
}

static void
stored_server_free(gpointer data)
{
    StoredServer *server = data;

    g_free(server->name);
    g_free(server);
}

GPtrArray *
membership_store_server_counts(StoreConnection *connection, const char *room_id, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &membership_statements[SERVER_COUNTS],
                                          store_arguments("t", room_id), error);
    GPtrArray *servers;

    if (rows == NULL)
        return NULL;
    servers = g_ptr_array_new_with_free_func(stored_server_free);
    for (guint i = 0; i < store_rows_count(rows); i++) {
        StoredServer *server = g_new(StoredServer, 1);

        server->name = g_strdup(store_rows_text(rows, i, 0));
        server->joined = store_rows_integer(rows, i, 1);
        g_ptr_array_add(servers, server);
    }
    return servers;
}
