/* POST /createRoom: one request, one proposal: all events of the new room, or none. */
#include "server/client/room_alias.h"
#include "server/client/room_call.h"
#include "server/client/room_invite.h"
#include "server/client/room_routes.h"
#include "storage/alias_store.h"

#define INVITES_MAX 200
#define INITIAL_STATE_MAX 500

typedef struct {
    const char *name;
    const char *join_rule;
    const char *guest_access;
    gboolean trusted; /* who is invited stands as high as the creator */
} Preset;

static const Preset presets[] = {
    {"private_chat", "invite", "can_join", FALSE},
    {"trusted_private_chat", "invite", "can_join", TRUE},
    {"public_chat", "public", "forbidden", FALSE},
};

static const Preset *
find_preset(const cJSON *body, GError **error)
{
    const char *name = json_get_string(body, "preset");

    if (name == NULL)
        name = g_strcmp0(json_get_string(body, "visibility"), "public") == 0 ? "public_chat"
                                                                             : "private_chat";
    for (guint i = 0; i < G_N_ELEMENTS(presets); i++)
        if (g_str_equal(presets[i].name, name))
            return &presets[i];
    refusal_set(error, 400, "M_INVALID_PARAM",
                "preset must be private_chat, trusted_private_chat or public_chat");
    return NULL;
}

/* ---- what the body asks for, checked ---- */

static gboolean
check_member(const cJSON *body, const char *key, gboolean (*is)(const cJSON *item),
             const char *what, GError **error)
{
    const cJSON *item = json_object_get(body, key);

    if (item == NULL || is(item))
        return TRUE;
    refusal_set(error, 400, "M_BAD_JSON", "%s must be %s", key, what);
    return FALSE;
}

static gboolean
is_string(const cJSON *item)
{
    return cJSON_IsString(item);
}
static gboolean
is_object(const cJSON *item)
{
    return cJSON_IsObject(item);
}
static gboolean
is_array(const cJSON *item)
{
    return cJSON_IsArray(item);
}
static gboolean
is_bool(const cJSON *item)
{
    return cJSON_IsBool(item);
}

static gboolean
check_body(const cJSON *body, GError **error)
{
    const cJSON *third_party = json_get_array(body, "invite_3pid");

    if (!check_member(body, "name", is_string, "a string", error) ||
        !check_member(body, "topic", is_string, "a string", error) ||
        !check_member(body, "preset", is_string, "a string", error) ||
        !check_member(body, "visibility", is_string, "a string", error) ||
        !check_member(body, "room_version", is_string, "a string", error) ||
        !check_member(body, "room_alias_name", is_string, "a string", error) ||
        !check_member(body, "is_direct", is_bool, "true or false", error) ||
        !check_member(body, "invite", is_array, "an array of user IDs", error) ||
        !check_member(body, "initial_state", is_array, "an array of state events", error) ||
        !check_member(body, "creation_content", is_object, "an object", error) ||
        !check_member(body, "power_level_content_override", is_object, "an object", error))
        return FALSE;
    if (third_party != NULL && cJSON_GetArraySize(third_party) > 0) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "This server invites by user ID only; it uses no identity server");
        return FALSE;
    }
    return TRUE;
}

static gboolean
check_invites(const Request *request, const cJSON *invites, GError **error)
{
    const cJSON *item;

    if (cJSON_GetArraySize(invites) > INVITES_MAX) {
        refusal_set(error, 400, "M_INVALID_PARAM", "At most %d users can be invited at once",
                    INVITES_MAX);
        return FALSE;
    }
    cJSON_ArrayForEach(item, invites)
    {
        if (!cJSON_IsString(item) || !identifier_user_id_valid(item->valuestring)) {
            refusal_set(error, 400, "M_INVALID_PARAM",
                        "invite must hold whole user IDs like @name:server");
            return FALSE;
        }
        if (g_str_equal(item->valuestring, request_user_id(request))) {
            refusal_set(error, 400, "M_INVALID_PARAM", "You cannot invite yourself");
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
check_initial_state(const cJSON *initial_state, GError **error)
{
    const cJSON *item;

    if (cJSON_GetArraySize(initial_state) > INITIAL_STATE_MAX) {
        refusal_set(error, 400, "M_INVALID_PARAM", "initial_state holds more than %d events",
                    INITIAL_STATE_MAX);
        return FALSE;
    }
    cJSON_ArrayForEach(item, initial_state)
    {
        const char *type = json_get_string(item, "type");
        const cJSON *state_key = json_object_get(item, "state_key");

        if (type == NULL || json_get_object(item, "content") == NULL ||
            (state_key != NULL && !cJSON_IsString(state_key))) {
            refusal_set(error, 400, "M_BAD_JSON",
                        "Each event of initial_state needs a type and a content");
            return FALSE;
        }
        if (g_str_equal(type, "m.room.create") || g_str_equal(type, "m.room.member")) {
            refusal_set(error, 400, "M_INVALID_PARAM", "initial_state cannot hold %s", type);
            return FALSE;
        }
    }
    return TRUE;
}

/* The whole alias that the body's local part makes, if nobody has it; *ret_alias NULL when none is
 * asked for. */
static gboolean
free_alias(Server *server, const cJSON *body, char **ret_alias, GError **error)
{
    const char *name = json_get_string(body, "room_alias_name");
    g_autoptr(StoreConnection) connection = NULL;
    g_autoptr(StoredAlias) taken = NULL;
    g_autofree char *alias = NULL;

    *ret_alias = NULL;
    if (name == NULL)
        return TRUE;
    alias = g_strdup_printf("#%s:%s", name, server->name);
    if (strchr(name, ':') != NULL || !require_alias(alias, NULL)) {
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "room_alias_name must be the part between # and : alone");
        return FALSE;
    }
    connection = store_borrow(server->pool, error);
    if (connection == NULL || !alias_store_find(connection, alias, &taken, error))
        return FALSE;
    if (taken != NULL) {
        refusal_set(error, 400, "M_ROOM_IN_USE", "A room has the name %s already", alias);
        return FALSE;
    }
    *ret_alias = g_steal_pointer(&alias);
    return TRUE;
}

/* ---- the events ---- */

static cJSON *
object_with(const char *key, const char *value)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddItemToObject(object, key, cJSON_CreateString(value));
    return object;
}

static gboolean
array_has(const cJSON *array, const char *text)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, array)
    {
        if (cJSON_IsString(item) && g_str_equal(item->valuestring, text))
            return TRUE;
    }
    return FALSE;
}

static cJSON *
create_content(const cJSON *body, const Preset *preset, const RoomVersion *version,
               const char *creator)
{
    const cJSON *asked = json_get_object(body, "creation_content");
    cJSON *content = asked != NULL ? cJSON_Duplicate(asked, TRUE) : cJSON_CreateObject();
    const cJSON *item;

    cJSON_DeleteItemFromObjectCaseSensitive(content, "creator");
    cJSON_DeleteItemFromObjectCaseSensitive(content, "room_version");
    cJSON_AddItemToObject(content, "room_version", cJSON_CreateString(version->id));
    if (!version->creator_is_sender)
        cJSON_AddItemToObject(content, "creator", cJSON_CreateString(creator));
    if (version->additional_creators && preset->trusted && json_get_array(body, "invite") != NULL) {
        const cJSON *given = json_get_array(content, "additional_creators");
        cJSON *creators = given != NULL ? cJSON_Duplicate(given, TRUE) : cJSON_CreateArray();

        cJSON_ArrayForEach(item, json_get_array(body, "invite"))
        {
            if (!array_has(creators, item->valuestring))
                cJSON_AddItemToArray(creators, cJSON_CreateString(item->valuestring));
        }
        cJSON_DeleteItemFromObjectCaseSensitive(content, "additional_creators");
        if (cJSON_GetArraySize(creators) > 0)
            cJSON_AddItemToObject(content, "additional_creators", creators);
        else
            cJSON_Delete(creators);
    }
    return content;
}

/* Since version 12 the specification wants the tombstone's level written down, above state_default,
 * whatever was overridden. */
static void
ensure_tombstone(const RoomVersion *version, cJSON *content)
{
    cJSON *events = (cJSON *)json_get_object(content, "events");
    gint64 state_default = 50;

    json_get_integer(content, "state_default", &state_default);
    if (version->creators_infinite && events != NULL &&
        json_object_get(events, "m.room.tombstone") == NULL)
        cJSON_AddItemToObject(events, "m.room.tombstone",
                              cJSON_CreateNumber((double)MAX(150, state_default + 1)));
}

/* Clients of older room versions list the creator: whose power is above every number needs none. */
static void
drop_creators(cJSON *content, const char *creator, const cJSON *creators)
{
    cJSON *users = (cJSON *)json_get_object(content, "users");
    const cJSON *item;

    if (users == NULL)
        return;
    cJSON_DeleteItemFromObjectCaseSensitive(users, creator);
    cJSON_ArrayForEach(item, creators)
    {
        if (cJSON_IsString(item))
            cJSON_DeleteItemFromObjectCaseSensitive(users, item->valuestring);
    }
}

/* Up to version 11 the creator has 100 by being listed, and with "trusted_private_chat" so have
 * those who are invited.  Since version 12 creators stand above every level and are not listed. */
static void
list_creators(cJSON *users, const cJSON *body, const Preset *preset, const char *creator)
{
    const cJSON *invited = preset->trusted ? json_get_array(body, "invite") : NULL;
    const cJSON *item;

    cJSON_AddItemToObject(users, creator, cJSON_CreateNumber(100));
    cJSON_ArrayForEach(item, invited)
    {
        if (json_object_get(users, item->valuestring) == NULL)
            cJSON_AddItemToObject(users, item->valuestring, cJSON_CreateNumber(100));
    }
}

/* Since version 12 the tombstone stands above state_default. */
static cJSON *
power_levels_content(const cJSON *body, const Preset *preset, const RoomVersion *version,
                     const char *creator, const cJSON *creators)
{
    static const struct {
        const char *key;
        int level;
    } levels[] =
        {
            {"ban", 50},    {"events_default", 0}, {"invite", 0},        {"kick", 50},
            {"redact", 50}, {"state_default", 50}, {"users_default", 0},
        },
      events[] = {
          {"m.room.avatar", 50},      {"m.room.canonical_alias", 50},
          {"m.room.encryption", 100}, {"m.room.history_visibility", 100},
          {"m.room.name", 50},        {"m.room.power_levels", 100},
          {"m.room.server_acl", 100}, {"m.room.tombstone", 100},
      };
    const cJSON *override = json_get_object(body, "power_level_content_override");
    cJSON *content = cJSON_CreateObject();
    cJSON *by_type = cJSON_CreateObject();
    cJSON *users = cJSON_CreateObject();
    const cJSON *item;

    for (guint i = 0; i < G_N_ELEMENTS(levels); i++)
        cJSON_AddItemToObject(content, levels[i].key, cJSON_CreateNumber(levels[i].level));
    for (guint i = 0; i < G_N_ELEMENTS(events); i++)
        cJSON_AddItemToObject(by_type, events[i].key, cJSON_CreateNumber(events[i].level));
    if (version->creators_infinite)
        cJSON_ReplaceItemInObjectCaseSensitive(by_type, "m.room.tombstone",
                                               cJSON_CreateNumber(150));
    cJSON_AddItemToObject(content, "events", by_type);
    if (!version->creators_infinite)
        list_creators(users, body, preset, creator);
    cJSON_AddItemToObject(content, "users", users);
    cJSON_ArrayForEach(item, override)
    {
        cJSON_DeleteItemFromObjectCaseSensitive(content, item->string);
        cJSON_AddItemToObject(content, item->string, cJSON_Duplicate(item, TRUE));
    }
    ensure_tombstone(version, content);
    if (version->creators_infinite)
        drop_creators(content, creator, creators);
    return content;
}

static gboolean
initial_state_sets(const cJSON *body, const char *type)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, json_get_array(body, "initial_state"))
    {
        const char *state_key = json_get_string(item, "state_key");

        if (g_str_equal(json_get_string(item, "type"), type) &&
            (state_key == NULL || state_key[0] == '\0'))
            return TRUE;
    }
    return FALSE;
}

static void
add_preset(RoomsProposal *proposal, const cJSON *body, const Preset *preset)
{
    if (!initial_state_sets(body, "m.room.join_rules"))
        rooms_proposal_add(proposal, "m.room.join_rules", "",
                           object_with("join_rule", preset->join_rule));
    if (!initial_state_sets(body, "m.room.history_visibility"))
        rooms_proposal_add(proposal, "m.room.history_visibility", "",
                           object_with("history_visibility", "shared"));
    if (!initial_state_sets(body, "m.room.guest_access"))
        rooms_proposal_add(proposal, "m.room.guest_access", "",
                           object_with("guest_access", preset->guest_access));
}

static void
add_initial_state(RoomsProposal *proposal, const cJSON *body)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, json_get_array(body, "initial_state"))
    {
        const char *type = json_get_string(item, "type");
        const char *state_key = json_get_string(item, "state_key");

        if ((g_str_equal(type, "m.room.name") && json_get_string(body, "name") != NULL) ||
            (g_str_equal(type, "m.room.topic") && json_get_string(body, "topic") != NULL))
            continue;
        rooms_proposal_add(proposal, type, state_key != NULL ? state_key : "",
                           cJSON_Duplicate(json_get_object(item, "content"), TRUE));
    }
}

static cJSON *
topic_content(const char *topic)
{
    cJSON *content = object_with("topic", topic);
    cJSON *rich = cJSON_CreateObject();
    cJSON *texts = cJSON_CreateArray();
    cJSON *text = object_with("body", topic);

    cJSON_AddItemToObject(text, "mimetype", cJSON_CreateString("text/plain"));
    cJSON_AddItemToArray(texts, text);
    cJSON_AddItemToObject(rich, "m.text", texts);
    cJSON_AddItemToObject(content, "m.topic", rich);
    return content;
}

static gboolean
add_local_invites(Request *request, RoomsProposal *proposal, const cJSON *body, GError **error)
{
    Server *server = request_server(request);
    const cJSON *item;

    cJSON_ArrayForEach(item, json_get_array(body, "invite"))
    {
        cJSON *content;

        if (!is_local_user(server, item->valuestring))
            continue;
        content = invite_content(server, item->valuestring, NULL,
                                 json_get_boolean(body, "is_direct", FALSE), error);
        if (content == NULL)
            return FALSE;
        rooms_proposal_add(proposal, "m.room.member", item->valuestring, content);
    }
    return TRUE;
}

static RoomsProposal *
make_proposal(Request *request, const cJSON *body, const Preset *preset, const RoomVersion *version,
              const char *alias, GError **error)
{
    const char *user_id = request_user_id(request);
    g_autoptr(RoomsProposal) proposal = rooms_proposal_new(NULL, user_id);
    cJSON *join = member_content(request_server(request), user_id, "join", NULL, error);

    cJSON *create;

    if (join == NULL)
        return NULL;
    create = create_content(body, preset, version, user_id);
    rooms_proposal_add(proposal, "m.room.create", "", create);
    rooms_proposal_add(proposal, "m.room.member", user_id, join);
    if (!initial_state_sets(body, "m.room.power_levels"))
        rooms_proposal_add(proposal, "m.room.power_levels", "",
                           power_levels_content(body, preset, version, user_id,
                                                json_get_array(create, "additional_creators")));
    if (alias != NULL)
        rooms_proposal_add(proposal, "m.room.canonical_alias", "", object_with("alias", alias));
    rooms_proposal_set_names(proposal, alias,
                             g_strcmp0(json_get_string(body, "visibility"), "public") == 0);
    add_preset(proposal, body, preset);
    add_initial_state(proposal, body);
    if (json_get_string(body, "name") != NULL)
        rooms_proposal_add(proposal, "m.room.name", "",
                           object_with("name", json_get_string(body, "name")));
    if (json_get_string(body, "topic") != NULL)
        rooms_proposal_add(proposal, "m.room.topic", "",
                           topic_content(json_get_string(body, "topic")));
    if (!add_local_invites(request, proposal, body, error))
        return NULL;
    return g_steal_pointer(&proposal);
}

/* ---- the request ---- */

typedef struct {
    Request *request;
    char *room_id;
    GPtrArray *remote; /* char *: users of other servers, invited once the room is there */
    gboolean is_direct;
    gint pending; /* invites under way, and one for who sends them off */
} Creation;

static void
creation_free(gpointer data)
{
    Creation *creation = data;

    g_free(creation->room_id);
    g_ptr_array_unref(creation->remote);
    g_free(creation);
}

static void
one_done(Creation *creation)
{
    if (g_atomic_int_dec_and_test(&creation->pending))
        request_answer(creation->request, room_id_response(creation->room_id), NULL);
}

/* An invite that its server does not take does not undo the room: the client sees who is in it. */
static void
invite_done(const char *room_id, gint64 position, const GError *error, gpointer data)
{
    Creation *creation = data;

    if (error != NULL)
        g_debug("an invite into the new room %s failed: %s", creation->room_id, error->message);
    one_done(creation);
}

/* All at once, so that a partner that does not answer holds nobody else up. */
static Response *
invite_all(Request *request, gpointer data, GError **error)
{
    Creation *creation = data;

    creation->pending = 1;
    for (guint i = 0; i < creation->remote->len; i++) {
        g_autoptr(GError) cause = NULL;

        g_atomic_int_inc(&creation->pending);
        if (!invite_remote(request, creation->room_id, g_ptr_array_index(creation->remote, i), NULL,
                           creation->is_direct, invite_done, creation, &cause))
            invite_done(creation->room_id, 0, cause, creation);
    }
    one_done(creation);
    return RESPONSE_LATER;
}

static void
created(const RoomsOutcome *outcome, const GError *error, gpointer data)
{
    Creation *creation = data;

    if (error != NULL) {
        request_answer(creation->request, NULL, error);
    } else if (creation->remote->len == 0) {
        request_answer(creation->request, room_answer_room_id(outcome), NULL);
    } else {
        creation->room_id = g_strdup(outcome->room_id);
        request_continue(creation->request, invite_all, creation, NULL);
    }
}

Response *
room_create_post(Request *request, GError **error)
{
    Server *server = request_server(request);
    const cJSON *body = request_json(request);
    const char *asked = json_get_string(body, "room_version");
    const RoomVersion *version =
        asked != NULL ? room_version_find_supported(asked) : room_version_default();
    const Preset *preset;
    g_autoptr(RoomsProposal) proposal = NULL;
    g_autofree char *alias = NULL;
    Creation *creation;
    const cJSON *item;

    if (!check_body(body, error) ||
        !check_invites(request, json_get_array(body, "invite"), error) ||
        !check_initial_state(json_get_array(body, "initial_state"), error))
        return NULL;
    if (version == NULL)
        return response_error(400, "M_UNSUPPORTED_ROOM_VERSION",
                              "This server makes no rooms of version '%.32s'", asked);
    preset = find_preset(body, error);
    if (preset == NULL || !free_alias(server, body, &alias, error))
        return NULL;
    proposal = make_proposal(request, body, preset, version, alias, error);
    if (proposal == NULL)
        return NULL;
    creation = g_new0(Creation, 1);
    creation->request = request;
    creation->remote = g_ptr_array_new_with_free_func(g_free);
    creation->is_direct = json_get_boolean(body, "is_direct", FALSE);
    request_keep(request, creation, creation_free);
    cJSON_ArrayForEach(item, json_get_array(body, "invite"))
    {
        if (!is_local_user(server, item->valuestring))
            g_ptr_array_add(creation->remote, g_strdup(item->valuestring));
    }
    rooms_propose(server->rooms, g_steal_pointer(&proposal), created, creation);
    return RESPONSE_LATER;
}
