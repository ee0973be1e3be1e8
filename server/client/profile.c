/* What a user shows to others: name and picture, and the member events that carry them. */
#include "federation/outgoing.h"
#include "server/client/room_call.h"
#include "server/client/room_routes.h"
#include "storage/profile_store.h"

#define DISPLAYNAME_BYTES_MAX 256
#define AVATAR_URL_BYTES_MAX 1000

/* ---- reading ---- */

static cJSON *
profile_value(const ProfileRow *row, const char *field)
{
    cJSON *profile = cJSON_CreateObject();

    if (row != NULL && row->displayname != NULL &&
        (field == NULL || g_str_equal(field, "displayname")))
        cJSON_AddItemToObject(profile, "displayname", cJSON_CreateString(row->displayname));
    if (row != NULL && row->avatar_url != NULL &&
        (field == NULL || g_str_equal(field, "avatar_url")))
        cJSON_AddItemToObject(profile, "avatar_url", cJSON_CreateString(row->avatar_url));
    return profile;
}

static void
remote_profile(const cJSON *profile, const GError *error, gpointer data)
{
    request_answer(data, error == NULL ? response_value(200, cJSON_Duplicate(profile, TRUE)) : NULL,
                   error);
}

static Response *
read_profile(Request *request, const char *field, GError **error)
{
    Server *server = request_server(request);
    const char *user_id = request_path(request, "userId");
    g_autoptr(StoreConnection) connection = NULL;
    g_autoptr(ProfileRow) row = NULL;
    cJSON *profile;

    if (!identifier_user_id_valid(user_id))
        return response_error(400, "M_INVALID_PARAM", "That is no whole user ID");
    if (!is_local_user(server, user_id)) {
        if (server->outgoing == NULL)
            return response_error(404, "M_NOT_FOUND", "That user's server is not a partner");
        outgoing_profile(server->outgoing, user_id, field, remote_profile, request);
        return RESPONSE_LATER;
    }
    connection = store_borrow(server->pool, error);
    if (connection == NULL || !profile_store_find(connection, user_id, &row, error))
        return NULL;
    profile = profile_value(row, field);
    if (field != NULL && profile->child == NULL) {
        cJSON_Delete(profile);
        return response_error(404, "M_NOT_FOUND", "That user has not set this");
    }
    return response_value(200, profile);
}

Response *
profile_get(Request *request, GError **error)
{
    return read_profile(request, NULL, error);
}

Response *
profile_field_get(Request *request, GError **error)
{
    return read_profile(request, request_path(request, "keyName"), error);
}

/* ---- writing ---- */

typedef struct {
    Request *request;
    char *user_id;
    char *displayname;
    char *avatar_url;
} ProfileChange;

static void
change_free(ProfileChange *change)
{
    g_free(change->user_id);
    g_free(change->displayname);
    g_free(change->avatar_url);
    g_free(change);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ProfileChange, change_free)

static gboolean
change_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const ProfileChange *change = data;

    profile_store_set(batch, change->user_id, change->displayname, change->avatar_url);
    lane_batch_log(batch, log_entry_new(LOG_PROFILE, NULL, change->user_id, NULL));
    return TRUE;
}

static void
member_changed(const RoomsOutcome *outcome, const GError *error, gpointer data)
{
    if (error != NULL)
        g_debug("a changed profile did not reach a room: %s", error->message);
}

static Response *
tell_rooms(Request *request, gpointer data, GError **error)
{
    Server *server = request_server(request);
    const char *user_id = request_user_id(request);
    g_autoptr(GPtrArray) rooms = NULL;

    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);

        rooms =
            connection != NULL ? membership_store_rooms(connection, user_id, "join", error) : NULL;
    }
    if (rooms == NULL)
        return NULL;
    for (guint i = 0; i < rooms->len; i++) {
        const StoredMembership *row = g_ptr_array_index(rooms, i);
        RoomsProposal *proposal;
        cJSON *content = member_content(server, user_id, "join", NULL, error);

        if (content == NULL)
            return NULL;
        proposal = rooms_proposal_new(row->room_id, user_id);
        rooms_proposal_add(proposal, "m.room.member", user_id, content);
        rooms_proposal_set_idempotent(proposal);
        rooms_propose(server->rooms, proposal, member_changed, NULL);
    }
    return response_empty_object();
}

static void
change_done(gpointer data, gint64 position, const GError *error)
{
    ProfileChange *change = data;

    if (error != NULL)
        request_answer(change->request, NULL, error);
    else
        request_continue(change->request, tell_rooms, NULL, NULL);
    change_free(change);
}

static gboolean
check_value(const char *field, const char *value, GError **error)
{
    gboolean is_name = g_str_equal(field, "displayname");
    gsize bytes_max = is_name ? DISPLAYNAME_BYTES_MAX : AVATAR_URL_BYTES_MAX;

    if (value != NULL && strlen(value) > bytes_max) {
        refusal_set(error, 400, "M_BAD_JSON", "%s may have at most %zu bytes", field, bytes_max);
        return FALSE;
    }
    if (!is_name && value != NULL && value[0] != '\0' && !g_str_has_prefix(value, "mxc://")) {
        refusal_set(error, 400, "M_BAD_JSON", "avatar_url must be an mxc:// URI");
        return FALSE;
    }
    return TRUE;
}

/* @value NULL: it is taken away. */
static Response *
write_profile(Request *request, const char *value, GError **error)
{
    Server *server = request_server(request);
    const char *field = request_path(request, "keyName");
    const char *user_id = request_path(request, "userId");
    g_autoptr(ProfileChange) change = g_new0(ProfileChange, 1);
    g_autoptr(ProfileRow) row = NULL;
    char **slot;

    if (!g_str_equal(user_id, request_user_id(request)))
        return response_error(403, "M_FORBIDDEN", "You can change your own profile only");
    if (!g_str_equal(field, "displayname") && !g_str_equal(field, "avatar_url"))
        return response_error(400, "M_INVALID_PARAM",
                              "This server keeps displayname and avatar_url only");
    if (!check_value(field, value, error))
        return NULL;
    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);

        if (connection == NULL || !profile_store_find(connection, user_id, &row, error))
            return NULL;
    }
    change->request = request;
    change->user_id = g_strdup(user_id);
    change->displayname = row != NULL ? g_strdup(row->displayname) : NULL;
    change->avatar_url = row != NULL ? g_strdup(row->avatar_url) : NULL;
    slot = g_str_equal(field, "displayname") ? &change->displayname : &change->avatar_url;
    g_free(*slot);
    *slot = value != NULL && value[0] != '\0' ? g_strdup(value) : NULL;
    if (!lane_submit(server->lane, change_apply, change_done, change, error))
        return NULL;
    g_steal_pointer(&change);
    return RESPONSE_LATER;
}

Response *
profile_field_put(Request *request, GError **error)
{
    const cJSON *value = json_object_get(request_json(request), request_path(request, "keyName"));

    if (value == NULL || (!cJSON_IsString(value) && !cJSON_IsNull(value)))
        return response_error(400, "M_BAD_JSON", "%s must be there, as a string",
                              request_path(request, "keyName"));
    return write_profile(request, cJSON_IsString(value) ? value->valuestring : NULL, error);
}

Response *
profile_field_delete(Request *request, GError **error)
{
    return write_profile(request, NULL, error);
}

/* ---- finding people ---- */

#define SEARCH_STANDARD 10
#define SEARCH_MAX 50
#define SEARCH_TERM_BYTES_MAX 255

static cJSON *
person_value(const FoundPerson *person)
{
    cJSON *value = cJSON_CreateObject();

    cJSON_AddItemToObject(value, "user_id", cJSON_CreateString(person->user_id));
    if (person->displayname != NULL)
        cJSON_AddItemToObject(value, "display_name", cJSON_CreateString(person->displayname));
    if (person->avatar_url != NULL)
        cJSON_AddItemToObject(value, "avatar_url", cJSON_CreateString(person->avatar_url));
    return value;
}

/* People of this agency know each other's names; of partners' people a whole user ID is needed. */
Response *
user_directory_post(Request *request, GError **error)
{
    const cJSON *body = request_json(request);
    const char *term = json_require_string(body, "search_term", error);
    g_autofree char *lower = term != NULL ? g_utf8_strdown(term, -1) : NULL;
    g_autoptr(StoreConnection) connection = NULL;
    g_autoptr(GPtrArray) people = NULL;
    gint64 limit = SEARCH_STANDARD;
    cJSON *answer, *results;

    if (term == NULL)
        return NULL;
    if (strlen(term) > SEARCH_TERM_BYTES_MAX)
        return response_error(400, "M_INVALID_PARAM", "search_term may have at most %d bytes",
                              SEARCH_TERM_BYTES_MAX);
    json_get_integer(body, "limit", &limit);
    limit = CLAMP(limit, 1, SEARCH_MAX);
    connection = store_borrow(request_server(request)->pool, error);
    people = connection != NULL ? profile_store_search(connection, lower, (guint)limit + 1, error)
                                : NULL;
    if (people == NULL)
        return NULL;
    answer = cJSON_CreateObject();
    results = cJSON_CreateArray();
    for (guint i = 0; i < people->len && i < (guint)limit; i++)
        cJSON_AddItemToArray(results, person_value(g_ptr_array_index(people, i)));
    cJSON_AddItemToObject(answer, "results", results);
    cJSON_AddItemToObject(answer, "limited", cJSON_CreateBool(people->len > (guint)limit));
    return response_value(200, answer);
}
