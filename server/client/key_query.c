/* server/client/key_query.c: /keys/query and /keys/claim: our users' keys from the database, other
 * users' from their own servers, all partners asked at once.  The request is parked meanwhile.
 * Source: client-server API v1.19, "Key management API". */
#include "server/client/key_query.h"

#include <string.h>

#include "federation/outgoing.h"
#include "identity/refusal.h"
#include "server/client/key_answers.h"
#include "server/client/user_map.h"
#include "server/server.h"

#define KEY_QUERY_SERVERS_MAX 100u

typedef struct {
    Request *request;
    gboolean claim;
    GMutex lock;
    cJSON *answer; /* under lock */
    guint pending; /* under lock: partners that have not answered, and one for the start */
} Gather;

typedef struct {
    Gather *gather;
    char *server_name;
    cJSON *users; /* what was asked: only these are taken from the answer */
} Question;

static void
gather_free(gpointer data)
{
    Gather *gather = data;
    cJSON_Delete(gather->answer);
    g_mutex_clear(&gather->lock);
    g_free(gather);
}

static void
question_free(gpointer data)
{
    Question *question = data;
    g_free(question->server_name);
    cJSON_Delete(question->users);
    g_free(question);
}

static const char *
request_member(const Gather *gather)
{
    return gather->claim ? "one_time_keys" : "device_keys";
}

static Response *
gather_finish(Request *request, gpointer data, GError **error)
{
    Gather *gather = data;
    return response_value(200, g_steal_pointer(&gather->answer));
}

/* All partners have answered, or failed to. */
static Response *
gather_finish_remote(Request *request, gpointer data, GError **error)
{
    Gather *gather = data;
    if (!gather->claim) {
        g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
        if (connection == NULL || !key_answers_add_own_signatures(
                                      connection, request_user_id(request), gather->answer, error))
            return NULL;
    }
    return gather_finish(request, gather, error);
}

static void
gather_settle(Gather *gather)
{
    g_mutex_lock(&gather->lock);
    gboolean last = --gather->pending == 0;
    g_mutex_unlock(&gather->lock);
    if (last)
        request_continue(gather->request, gather_finish_remote, gather, NULL);
}

/* Of @answer's map @name, the users that were asked about. */
static void
merge_map(Gather *gather, const Question *question, const cJSON *answer, const char *name)
{
    const cJSON *from = json_get_object(answer, name);
    for (const cJSON *user = question->users->child; user != NULL; user = user->next) {
        const cJSON *keys = json_get_object(from, user->string);
        if (keys == NULL)
            continue;
        cJSON *into = key_answers_object(gather->answer, name);
        cJSON_DeleteItemFromObjectCaseSensitive(into, user->string);
        cJSON_AddItemToObject(into, user->string, cJSON_Duplicate(keys, TRUE));
    }
}

static void
partner_answered(const cJSON *json, const GError *error, gpointer data)
{
    Question *question = data;
    Gather *gather = question->gather;

    g_mutex_lock(&gather->lock);
    if (error != NULL) {
        cJSON *failure = cJSON_CreateObject();
        g_autofree char *errcode = NULL;
        const char *sentence = error->message;
        if (error->domain == REFUSAL)
            errcode = refusal_errcode(error, &sentence);
        cJSON_AddStringToObject(failure, "errcode", errcode != NULL ? errcode : "M_UNKNOWN");
        cJSON_AddStringToObject(failure, "error", sentence);
        cJSON_AddItemToObject(key_answers_object(gather->answer, "failures"), question->server_name,
                              failure);
    } else if (gather->claim) {
        merge_map(gather, question, json, "one_time_keys");
    } else {
        merge_map(gather, question, json, "device_keys");
        merge_map(gather, question, json, "master_keys");
        merge_map(gather, question, json, "self_signing_keys");
    }
    g_mutex_unlock(&gather->lock);
    question_free(question);
    gather_settle(gather);
}

static gboolean
answer_local(Gather *gather, StoreConnection *connection, const cJSON *user, GError **error)
{
    if (gather->claim)
        return key_answers_claim(request_server(gather->request)->sync, connection, user->string,
                                 user, key_answers_object(gather->answer, "one_time_keys"), error);
    return key_answers_add_user(connection, user->string, user, request_user_id(gather->request),
                                gather->answer, error);
}

static gboolean
check_users(const Gather *gather, const cJSON *users, GError **error)
{
    if (!key_answers_may_ask(users, gather->claim, error))
        return FALSE;
    for (const cJSON *user = users->child; user != NULL; user = user->next) {
        gboolean shape_fits =
            gather->claim ? cJSON_IsObject(user) : cJSON_IsArray(user) || cJSON_IsNull(user);
        if (user_map_server(user->string) != NULL && shape_fits)
            continue;
        refusal_set(error, 400, "M_INVALID_PARAM", "%s maps user ids to %s", request_member(gather),
                    gather->claim ? "objects of device id: algorithm" : "arrays of device ids");
        return FALSE;
    }
    return TRUE;
}

/* The users of other servers, by server name: name -> users object. */
static gboolean
sort_remote(const Gather *gather, const cJSON *users, GHashTable *remote, GError **error)
{
    for (const cJSON *user = users->child; user != NULL; user = user->next) {
        const char *name = user_map_server(user->string);
        if (strcmp(name, request_server(gather->request)->name) == 0)
            continue;
        user_map_add(remote, name, user);
    }
    if (g_hash_table_size(remote) <= KEY_QUERY_SERVERS_MAX)
        return TRUE;
    refusal_set(error, 400, "M_TOO_LARGE", "Ask about users of at most %u servers",
                KEY_QUERY_SERVERS_MAX);
    return FALSE;
}

/* Once nothing is wrong with the request any more: a claim takes keys for good. */
static gboolean
answer_own(Gather *gather, const cJSON *users, GError **error)
{
    Server *server = request_server(gather->request);
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);

    if (connection == NULL)
        return FALSE;
    for (const cJSON *user = users->child; user != NULL; user = user->next)
        if (strcmp(user_map_server(user->string), server->name) == 0 &&
            !answer_local(gather, connection, user, error))
            return FALSE;
    return TRUE;
}

static void
ask_partner(Gather *gather, const char *server_name, cJSON *users)
{
    g_autoptr(cJSON) content = cJSON_CreateObject();
    Question *question = g_new0(Question, 1);
    question->gather = gather;
    question->server_name = g_strdup(server_name);
    question->users = cJSON_Duplicate(users, TRUE);
    cJSON_AddItemToObject(content, request_member(gather), cJSON_Duplicate(users, TRUE));
    g_mutex_lock(&gather->lock);
    gather->pending++;
    g_mutex_unlock(&gather->lock);
    outgoing_query(request_server(gather->request)->outgoing, server_name, "POST",
                   gather->claim ? "/_matrix/federation/v1/user/keys/claim"
                                 : "/_matrix/federation/v1/user/keys/query",
                   content, partner_answered, question);
}

static Response *
gather_start(Request *request, gboolean claim, GError **error)
{
    Gather *gather = g_new0(Gather, 1);
    gather->request = request;
    gather->claim = claim;
    gather->pending = 1;
    gather->answer = cJSON_CreateObject();
    g_mutex_init(&gather->lock);
    request_keep(request, gather, gather_free);
    key_answers_object(gather->answer, request_member(gather));
    key_answers_object(gather->answer, "failures");

    const cJSON *users = json_require_object(request_json(request), request_member(gather), error);
    g_autoptr(GHashTable) remote = user_map_new();
    if (users == NULL || !check_users(gather, users, error) ||
        !sort_remote(gather, users, remote, error) || !answer_own(gather, users, error))
        return NULL;
    if (g_hash_table_size(remote) == 0)
        return gather_finish(request, gather, error);

    GHashTableIter iterator;
    gpointer name = NULL;
    gpointer of_server = NULL;
    g_hash_table_iter_init(&iterator, remote);
    while (g_hash_table_iter_next(&iterator, &name, &of_server))
        ask_partner(gather, name, of_server);
    gather_settle(gather);
    return RESPONSE_LATER;
}

Response *
keys_query_post(Request *request, GError **error)
{
    return gather_start(request, FALSE, error);
}

Response *
keys_claim_post(Request *request, GError **error)
{
    return gather_start(request, TRUE, error);
}
