/* Who comes in: joins and knocks, by the room's id or an alias, here or at another server. */
#include "server/client/room_alias.h"
#include "server/client/room_outside.h"
#include "server/client/room_routes.h"

typedef struct {
    const char *membership;
    RoomOutsideAsk outside;
    /* Into a room that this server is in. */
    Response *(*here)(Request *request, const char *room_id, GError **error);
} Entry;

static void
answer_room_id(const char *room_id, gint64 position, const GError *error, gpointer data)
{
    request_answer(data, error == NULL ? room_id_response(room_id) : NULL, error);
}

static Response *
enter_from_outside(Request *request, const Entry *entry, const char *room_id,
                   const char *const *known_by, GError **error)
{
    gboolean asked = FALSE;

    if (!room_outside_ask(request, room_id, entry->membership, known_by, entry->outside,
                          answer_room_id, &asked, error))
        return NULL;
    return asked ? RESPONSE_LATER
                 : response_error(404, "M_NOT_FOUND",
                                  "This server does not know that room, and the request names no "
                                  "server (via) that might");
}

static Response *
enter(Request *request, const Entry *entry, const char *room_id, const char *const *known_by,
      GError **error)
{
    Server *server = request_server(request);
    gboolean here = FALSE;

    if (!identifier_room_id_valid(room_id))
        return response_error(400, "M_INVALID_PARAM", "That is no room ID");
    if (!rooms_server_in_room(server->rooms, room_id, server->name, &here, error))
        return NULL;
    return here ? entry->here(request, room_id, error)
                : enter_from_outside(request, entry, room_id, known_by, error);
}

/* ---- by alias ---- */

typedef struct {
    const Entry *entry;
    Request *request;
    char *room_id;
    char **servers; /* that know it */
} AliasEntry;

static void
alias_entry_free(gpointer data)
{
    AliasEntry *alias = data;

    g_free(alias->room_id);
    g_strfreev(alias->servers);
    g_free(alias);
}

static Response *
enter_found(Request *request, gpointer data, GError **error)
{
    const AliasEntry *alias = data;

    return enter(request, alias->entry, alias->room_id, (const char *const *)alias->servers, error);
}

static void
alias_found(const char *room_id, const char *const *servers, const GError *error, gpointer data)
{
    AliasEntry *alias = data;

    if (error != NULL) {
        request_answer(alias->request, NULL, error);
        alias_entry_free(alias);
        return;
    }
    alias->room_id = g_strdup(room_id);
    alias->servers = g_strdupv((char **)servers);
    request_continue(alias->request, enter_found, alias, alias_entry_free);
}

static Response *
enter_by_alias(Request *request, const Entry *entry, GError **error)
{
    const char *room = request_path(request, "roomIdOrAlias");
    AliasEntry *alias;

    if (room[0] != '#')
        return enter(request, entry, room, NULL, error);
    alias = g_new0(AliasEntry, 1);
    alias->entry = entry;
    alias->request = request;
    room_alias_resolve(request_server(request), room, alias_found, alias);
    return RESPONSE_LATER;
}

/* ---- join ---- */

static Response *join_here(Request *request, const char *room_id, GError **error);
static const Entry entry_join = {"join", outgoing_join, join_here};

/* Nobody here can let the user into a room of members: another server of the room may. */
static gboolean
is_for_others_to_say(const GError *error)
{
    const char *sentence = NULL;
    g_autofree char *errcode = error->domain == REFUSAL ? refusal_errcode(error, &sentence) : NULL;

    return g_strcmp0(errcode, "M_UNABLE_TO_AUTHORISE_JOIN") == 0 ||
           g_strcmp0(errcode, "M_UNABLE_TO_GRANT_JOIN") == 0;
}

static Response *
join_by_others(Request *request, const char *room_id, const GError *cause, GError **error)
{
    Server *server = request_server(request);
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    g_autoptr(GPtrArray) servers =
        connection != NULL ? membership_store_servers(connection, room_id, error) : NULL;

    if (servers == NULL)
        return NULL;
    g_clear_pointer(&connection, store_return);
    if (servers->len < 2) {
        g_propagate_error(error, g_error_copy(cause));
        return NULL;
    }
    g_ptr_array_add(servers, NULL);
    return enter_from_outside(request, &entry_join, room_id, (const char *const *)servers->pdata,
                              error);
}

static Response *
join_here(Request *request, const char *room_id, GError **error)
{
    Server *server = request_server(request);
    const char *user_id = request_user_id(request);
    g_autofree char *membership = NULL;
    g_autofree char *authoriser = NULL;
    g_autoptr(GError) cause = NULL;
    RoomsProposal *proposal;
    cJSON *content;

    if (!room_membership(server, room_id, user_id, &membership, error))
        return NULL;
    if (g_strcmp0(membership, "join") == 0)
        return room_id_response(room_id);
    if (!rooms_authoriser(server->rooms, room_id, user_id, &authoriser, &cause)) {
        if (is_for_others_to_say(cause) && server->outgoing != NULL)
            return join_by_others(request, room_id, cause, error);
        g_propagate_error(error, g_steal_pointer(&cause));
        return NULL;
    }
    content = member_content(server, user_id, "join", body_reason(request_json(request)), error);
    if (content == NULL)
        return NULL;
    if (authoriser != NULL)
        cJSON_AddItemToObject(content, "join_authorised_via_users_server",
                              cJSON_CreateString(authoriser));
    proposal = rooms_proposal_new(room_id, user_id);
    rooms_proposal_add(proposal, "m.room.member", user_id, content);
    return room_call(request, proposal, room_answer_room_id);
}

Response *
room_join_post(Request *request, GError **error)
{
    return enter(request, &entry_join, request_path(request, "roomId"), NULL, error);
}

Response *
room_join_by_alias_post(Request *request, GError **error)
{
    return enter_by_alias(request, &entry_join, error);
}

/* ---- knock ---- */

static Response *
knock_here(Request *request, const char *room_id, GError **error)
{
    const char *user_id = request_user_id(request);
    RoomsProposal *proposal;
    cJSON *content = member_content(request_server(request), user_id, "knock",
                                    body_reason(request_json(request)), error);

    if (content == NULL)
        return NULL;
    proposal = rooms_proposal_new(room_id, user_id);
    rooms_proposal_add(proposal, "m.room.member", user_id, content);
    rooms_proposal_set_idempotent(proposal);
    return room_call(request, proposal, room_answer_room_id);
}

static const Entry entry_knock = {"knock", outgoing_knock, knock_here};

Response *
room_knock_post(Request *request, GError **error)
{
    return enter_by_alias(request, &entry_knock, error);
}
