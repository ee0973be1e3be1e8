/* POST /rooms/{roomId}/upgrade: a room goes on in another, of another version.  The new room is
 * made whole first, by one proposal; then the old one gets its tombstone, and is closed where the
 * caller's power reaches.  Source: client-server API, "Room Upgrades". */
#include "federation/room/power_levels.h"
#include "identity/clock.h"
#include "server/client/room_call.h"
#include "server/client/room_routes.h"
#include "storage/alias_store.h"

#define ADDITIONAL_CREATORS_MAX 100

/* What goes along, as the specification recommends; power levels go last, so that until then the
 * creator may write everything, whatever power the old room gave. */
static const char *const carried_types[] = {
    "m.room.server_acl", "m.room.encryption",   "m.room.name",          "m.room.avatar",
    "m.room.topic",      "m.room.guest_access", "m.room.pinned_events", "m.room.history_visibility",
    "m.room.join_rules",
};

typedef struct {
    Request *request;
    char *room_id;
    char *replacement;
    const RoomVersion *version; /* of the new room */
    Pdu *create;                /* of the old room */
    Pdu *power_levels;          /* or NULL */
    GPtrArray *carried;         /* Pdu */
    GPtrArray *aliases;         /* char *, of this server */
    gboolean published;
} Upgrade;

static void
upgrade_free(gpointer data)
{
    Upgrade *upgrade = data;

    g_free(upgrade->room_id);
    g_free(upgrade->replacement);
    pdu_unref(upgrade->create);
    pdu_unref(upgrade->power_levels);
    g_ptr_array_unref(upgrade->carried);
    g_clear_pointer(&upgrade->aliases, g_ptr_array_unref);
    g_free(upgrade);
}

/* ---- what is asked ---- */

static const RoomVersion *
asked_version(const cJSON *body, GError **error)
{
    const char *id = json_require_string(body, "new_version", error);
    const RoomVersion *version = id != NULL ? room_version_find_supported(id) : NULL;

    if (id != NULL && version == NULL)
        refusal_set(error, 400, "M_UNSUPPORTED_ROOM_VERSION",
                    "This server makes no rooms of version '%.32s'", id);
    return version;
}

static gboolean
check_creators(const cJSON *body, const RoomVersion *version, GError **error)
{
    const cJSON *creators = json_object_get(body, "additional_creators");
    const cJSON *item;

    if (creators == NULL || !version->additional_creators)
        return TRUE;
    if (!cJSON_IsArray(creators) || cJSON_GetArraySize(creators) > ADDITIONAL_CREATORS_MAX) {
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "additional_creators must be a list of at most %d user IDs",
                    ADDITIONAL_CREATORS_MAX);
        return FALSE;
    }
    cJSON_ArrayForEach(item, creators)
    {
        if (cJSON_IsString(item) && identifier_user_id_valid(item->valuestring))
            continue;
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "additional_creators must hold whole user IDs like @name:server");
        return FALSE;
    }
    return TRUE;
}

static PowerLevels
levels_of(const Upgrade *upgrade)
{
    return (PowerLevels){.create = upgrade->create, .power_levels = upgrade->power_levels};
}

/* The level that an event of @type needs as state. */
static gboolean
may_send_state(const Upgrade *upgrade, const char *user_id, const char *type)
{
    const PowerLevels levels = levels_of(upgrade);

    return power_at_least(power_of_user(&levels, user_id),
                          power_level_to_send(&levels, type, TRUE));
}

/* The old room as it is; the caller is in it and may end it. */
static gboolean
read_room(Request *request, Upgrade *upgrade, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = upgrade->room_id;
    g_auto(RoomAccess) access = {0};
    g_autoptr(StoreConnection) connection = NULL;

    if (!room_access(request, room_id, &access, error))
        return FALSE;
    if (!access.joined) {
        refusal_set(error, 403, "M_FORBIDDEN", "You are not in that room");
        return FALSE;
    }
    if (!rooms_state_find(server->rooms, room_id, access.root, "m.room.create", "",
                          &upgrade->create, error) ||
        !rooms_state_find(server->rooms, room_id, access.root, "m.room.power_levels", "",
                          &upgrade->power_levels, error))
        return FALSE;
    if (!may_send_state(upgrade, request_user_id(request), "m.room.tombstone")) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "Your power in the room does not let you end it (m.room.tombstone)");
        return FALSE;
    }
    for (guint i = 0; i < G_N_ELEMENTS(carried_types); i++) {
        Pdu *pdu = NULL;

        if (!rooms_state_find(server->rooms, room_id, access.root, carried_types[i], "", &pdu,
                              error))
            return FALSE;
        if (pdu != NULL)
            g_ptr_array_add(upgrade->carried, pdu);
    }
    connection = store_borrow(server->pool, error);
    upgrade->aliases = connection != NULL ? alias_store_of_room(connection, room_id, error) : NULL;
    return upgrade->aliases != NULL &&
           alias_store_is_published(connection, room_id, &upgrade->published, error);
}

/* ---- the new room's events ---- */

static cJSON *
create_content(const Upgrade *upgrade, const char *creator, const cJSON *additional_creators)
{
    cJSON *content = cJSON_CreateObject();
    cJSON *predecessor = cJSON_CreateObject();
    const cJSON *federate = json_object_get(upgrade->create->content, "m.federate");
    const char *type = json_get_string(upgrade->create->content, "type");

    if (!upgrade->version->creator_is_sender)
        cJSON_AddItemToObject(content, "creator", cJSON_CreateString(creator));
    cJSON_AddItemToObject(content, "room_version", cJSON_CreateString(upgrade->version->id));
    if (type != NULL)
        cJSON_AddItemToObject(content, "type", cJSON_CreateString(type));
    if (cJSON_IsBool(federate))
        cJSON_AddItemToObject(content, "m.federate", cJSON_Duplicate(federate, TRUE));
    if (upgrade->version->additional_creators && cJSON_GetArraySize(additional_creators) > 0)
        cJSON_AddItemToObject(content, "additional_creators",
                              cJSON_Duplicate(additional_creators, TRUE));
    cJSON_AddItemToObject(predecessor, "room_id", cJSON_CreateString(upgrade->room_id));
    cJSON_AddItemToObject(content, "predecessor", predecessor);
    return content;
}

/* Rooms up to version 9 may write a level as text; later ones may not. */
static void
make_integers(cJSON *object)
{
    cJSON *item;
    cJSON *next;

    for (item = object != NULL ? object->child : NULL; item != NULL; item = next) {
        gint64 level = 0;

        next = item->next;
        if (cJSON_IsObject(item))
            make_integers(item);
        else if (cJSON_IsString(item) &&
                 g_ascii_string_to_signed(g_strstrip(item->valuestring), 10, -JSON_INTEGER_MAX,
                                          JSON_INTEGER_MAX, &level, NULL))
            cJSON_ReplaceItemViaPointer(object, item, cJSON_CreateNumber((double)level));
    }
}

static void
list_creator(cJSON *users, const char *user_id, gint64 level)
{
    cJSON_DeleteItemFromObjectCaseSensitive(users, user_id);
    cJSON_AddItemToObject(users, user_id, cJSON_CreateNumber((double)level));
}

/* Creators of a room where they stood above every number, going to one where they do not. */
static void
list_old_creators(const Upgrade *upgrade, cJSON *users, gint64 level)
{
    const cJSON *item;

    if (!upgrade->create->version->creators_infinite)
        return;
    list_creator(users, upgrade->create->sender, level);
    cJSON_ArrayForEach(item, json_get_array(upgrade->create->content, "additional_creators"))
    {
        if (cJSON_IsString(item))
            list_creator(users, item->valuestring, level);
    }
}

static cJSON *
object_in(cJSON *content, const char *key)
{
    cJSON *object = (cJSON *)json_get_object(content, key);

    if (object != NULL)
        return object;
    cJSON_DeleteItemFromObjectCaseSensitive(content, key);
    object = cJSON_CreateObject();
    cJSON_AddItemToObject(content, key, object);
    return object;
}

/* The same powers, as the new version writes them. */
static cJSON *
power_levels_content(const Upgrade *upgrade, const char *creator, const cJSON *additional_creators)
{
    cJSON *content = upgrade->power_levels != NULL
                         ? cJSON_Duplicate(upgrade->power_levels->content, TRUE)
                         : cJSON_CreateObject();
    cJSON *users = object_in(content, "users");
    cJSON *events = object_in(content, "events");
    gint64 state_default = 50;
    gint64 tombstone = 0;
    const cJSON *item;

    if (upgrade->version->power_levels_integer)
        make_integers(content);
    json_get_integer(content, "state_default", &state_default);
    if (!json_get_integer(events, "m.room.tombstone", &tombstone))
        tombstone = state_default;
    if (!upgrade->version->creators_infinite) {
        list_old_creators(upgrade, users, MAX(100, tombstone));
        if (upgrade->power_levels == NULL)
            list_creator(users, creator, 100);
        return content;
    }
    /* Creators may not be listed; who was not one may not end the room that it now is. */
    cJSON_DeleteItemFromObjectCaseSensitive(users, creator);
    cJSON_ArrayForEach(item, additional_creators)
        cJSON_DeleteItemFromObjectCaseSensitive(users, item->valuestring);
    if (!upgrade->create->version->creators_infinite) {
        cJSON_DeleteItemFromObjectCaseSensitive(events, "m.room.tombstone");
        cJSON_AddItemToObject(
            events, "m.room.tombstone",
            cJSON_CreateNumber(
                (double)MAX(MAX(150, tombstone), MIN(state_default, JSON_INTEGER_MAX - 1) + 1)));
    }
    return content;
}

/* A join rule that the new version does not know lets nobody in but by invite: said as that. */
static cJSON *
carried_content(const Upgrade *upgrade, const Pdu *pdu)
{
    cJSON *content = cJSON_Duplicate(pdu->content, TRUE);
    const char *rule = json_get_string(content, "join_rule");
    const RoomVersion *version = upgrade->version;
    gboolean known = (g_strcmp0(rule, "knock") != 0 || version->knock) &&
                     (g_strcmp0(rule, "restricted") != 0 || version->restricted) &&
                     (g_strcmp0(rule, "knock_restricted") != 0 || version->knock_restricted);

    if (!pdu_is(pdu, "m.room.join_rules", "") || known)
        return content;
    cJSON_Delete(content);
    content = cJSON_CreateObject();
    cJSON_AddItemToObject(
        content, "join_rule",
        cJSON_CreateString(g_str_equal(rule, "knock_restricted") && version->restricted
                               ? "restricted"
                               : "invite"));
    if (g_str_equal(rule, "knock_restricted") && version->restricted &&
        json_get_array(pdu->content, "allow") != NULL)
        cJSON_AddItemToObject(content, "allow",
                              cJSON_Duplicate(json_get_array(pdu->content, "allow"), TRUE));
    return content;
}

static RoomsProposal *
propose_replacement(const Upgrade *upgrade, GError **error)
{
    const char *user_id = request_user_id(upgrade->request);
    const cJSON *creators =
        upgrade->version->additional_creators
            ? json_get_array(request_json(upgrade->request), "additional_creators")
            : NULL;
    cJSON *join = member_content(request_server(upgrade->request), user_id, "join", NULL, error);
    RoomsProposal *proposal;

    if (join == NULL)
        return NULL;
    proposal = rooms_proposal_new(NULL, user_id);
    rooms_proposal_add(proposal, "m.room.create", "", create_content(upgrade, user_id, creators));
    rooms_proposal_add(proposal, "m.room.member", user_id, join);
    for (guint i = 0; i < upgrade->carried->len; i++) {
        const Pdu *pdu = g_ptr_array_index(upgrade->carried, i);

        rooms_proposal_add(proposal, pdu->type, "", carried_content(upgrade, pdu));
    }
    rooms_proposal_add(proposal, "m.room.power_levels", "",
                       power_levels_content(upgrade, user_id, creators));
    return proposal;
}

/* ---- the old room ---- */

/* Nobody writes there any more, and nobody is invited: events_default and invite at the greater of
 * 50 and users_default + 1. */
static cJSON *
closed_levels(const Upgrade *upgrade)
{
    cJSON *content = cJSON_Duplicate(upgrade->power_levels->content, TRUE);
    gint64 users_default = 0;
    static const char *const keys[] = {"events_default", "invite"};

    json_get_integer(content, "users_default", &users_default);
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        gint64 level = 0;
        const gint64 closed = MAX(50, MIN(users_default, JSON_INTEGER_MAX - 1) + 1);

        if (json_get_integer(content, keys[i], &level) && level >= closed)
            continue;
        cJSON_DeleteItemFromObjectCaseSensitive(content, keys[i]);
        cJSON_AddItemToObject(content, keys[i], cJSON_CreateNumber((double)closed));
    }
    return content;
}

static Response *
answer(const Upgrade *upgrade)
{
    GString *body = g_string_new("{\"replacement_room\":");

    json_append_string(body, upgrade->replacement);
    g_string_append_c(body, '}');
    return response_json(200, body);
}

static void
closed(const RoomsOutcome *outcome, const GError *error, gpointer data)
{
    const Upgrade *upgrade = data;

    if (error != NULL)
        g_debug("%s was replaced, and is still open: %s", upgrade->room_id, error->message);
    request_answer(upgrade->request, answer(upgrade), NULL);
}

static Response *
close_old(Request *request, gpointer data, GError **error)
{
    Upgrade *upgrade = data;
    const char *user_id = request_user_id(request);
    RoomsProposal *proposal;

    if (upgrade->power_levels == NULL || !may_send_state(upgrade, user_id, "m.room.power_levels"))
        return answer(upgrade);
    proposal = rooms_proposal_new(upgrade->room_id, user_id);
    rooms_proposal_add(proposal, "m.room.power_levels", "", closed_levels(upgrade));
    rooms_propose(request_server(request)->rooms, proposal, closed, upgrade);
    return RESPONSE_LATER;
}

static void
names_moved(gpointer data, gint64 position, const GError *error)
{
    Upgrade *upgrade = data;

    if (error != NULL)
        request_answer(upgrade->request, NULL, error);
    else
        request_continue(upgrade->request, close_old, upgrade, NULL);
}

static gboolean
move_names(LaneBatch *batch, gpointer data, GError **error)
{
    const Upgrade *upgrade = data;

    for (guint i = 0; i < upgrade->aliases->len; i++)
        alias_store_move(batch, g_ptr_array_index(upgrade->aliases, i), upgrade->room_id,
                         upgrade->replacement);
    if (upgrade->published) {
        alias_store_unpublish(batch, upgrade->room_id);
        alias_store_publish(batch, upgrade->replacement, clock_wall_ms());
    }
    return TRUE;
}

static void
ended(const RoomsOutcome *outcome, const GError *error, gpointer data)
{
    Upgrade *upgrade = data;
    g_autoptr(GError) busy = NULL;

    if (error != NULL)
        request_answer(upgrade->request, NULL, error);
    else if (upgrade->aliases->len == 0 && !upgrade->published)
        request_continue(upgrade->request, close_old, upgrade, NULL);
    else if (!lane_submit(request_server(upgrade->request)->lane, move_names, names_moved, upgrade,
                          &busy))
        request_answer(upgrade->request, NULL, busy);
}

static Response *
end_old(Request *request, gpointer data, GError **error)
{
    Upgrade *upgrade = data;
    RoomsProposal *proposal = rooms_proposal_new(upgrade->room_id, request_user_id(request));
    cJSON *content = cJSON_CreateObject();

    cJSON_AddItemToObject(content, "body", cJSON_CreateString("This room has been replaced"));
    cJSON_AddItemToObject(content, "replacement_room", cJSON_CreateString(upgrade->replacement));
    rooms_proposal_add(proposal, "m.room.tombstone", "", content);
    rooms_propose(request_server(request)->rooms, proposal, ended, upgrade);
    return RESPONSE_LATER;
}

static void
replaced(const RoomsOutcome *outcome, const GError *error, gpointer data)
{
    Upgrade *upgrade = data;

    if (error != NULL) {
        request_answer(upgrade->request, NULL, error);
        return;
    }
    upgrade->replacement = g_strdup(outcome->room_id);
    request_continue(upgrade->request, end_old, upgrade, NULL);
}

Response *
room_upgrade_post(Request *request, GError **error)
{
    const cJSON *body = request_json(request);
    const RoomVersion *version = asked_version(body, error);
    RoomsProposal *proposal;
    Upgrade *upgrade;

    if (version == NULL || !check_creators(body, version, error))
        return NULL;
    upgrade = g_new0(Upgrade, 1);
    upgrade->request = request;
    upgrade->room_id = g_strdup(request_path(request, "roomId"));
    upgrade->version = version;
    upgrade->carried = g_ptr_array_new_with_free_func((GDestroyNotify)pdu_unref);
    request_keep(request, upgrade, upgrade_free);
    if (!read_room(request, upgrade, error))
        return NULL;
    proposal = propose_replacement(upgrade, error);
    if (proposal == NULL)
        return NULL;
    rooms_propose(request_server(request)->rooms, proposal, replaced, upgrade);
    return RESPONSE_LATER;
}
