/* The directory of rooms that this server publishes, and of a partner that is asked for. */
#include "federation/outgoing.h"
#include "server/client/room_alias.h"
#include "server/client/room_routes.h"
#include "storage/alias_store.h"
#include "storage/state_store.h"

#define ROOMS_MAX 5000
#define PAGE_ROOMS_STANDARD 50
#define PAGE_ROOMS_MAX 200

typedef struct {
    char *room_id;
    cJSON *value;
    gint64 joined;
} Listing;

static void
listing_free(gpointer data)
{
    Listing *listing = data;

    g_free(listing->room_id);
    cJSON_Delete(listing->value);
    g_free(listing);
}

static const struct {
    const char *type;
    const char *member; /* of its content */
    const char *name;   /* in the listing */
} shown[] = {
    {"m.room.name", "name", "name"},
    {"m.room.topic", "topic", "topic"},
    {"m.room.avatar", "url", "avatar_url"},
    {"m.room.canonical_alias", "alias", "canonical_alias"},
    {"m.room.join_rules", "join_rule", "join_rule"},
    {"m.room.create", "type", "room_type"},
    {"m.room.history_visibility", "history_visibility", NULL},
    {"m.room.guest_access", "guest_access", NULL},
};

static void
add_shown(cJSON *listing, const StoredEvent *event, const cJSON *content)
{
    for (guint i = 0; i < G_N_ELEMENTS(shown); i++) {
        const char *value = json_get_string(content, shown[i].member);

        if (g_str_equal(shown[i].type, event->type) && shown[i].name != NULL && value != NULL &&
            value[0] != '\0')
            cJSON_AddItemToObject(listing, shown[i].name, cJSON_CreateString(value));
    }
    if (g_str_equal(event->type, "m.room.history_visibility"))
        cJSON_ReplaceItemInObjectCaseSensitive(
            listing, "world_readable",
            cJSON_CreateBool(
                g_strcmp0(json_get_string(content, "history_visibility"), "world_readable") == 0));
    if (g_str_equal(event->type, "m.room.guest_access"))
        cJSON_ReplaceItemInObjectCaseSensitive(
            listing, "guest_can_join",
            cJSON_CreateBool(g_strcmp0(json_get_string(content, "guest_access"), "can_join") == 0));
}

static Listing *
listing_new(StoreConnection *connection, const char *room_id, GError **error)
{
    const char *types[G_N_ELEMENTS(shown)];
    const char *keys[G_N_ELEMENTS(shown)];
    g_autoptr(GPtrArray) events = NULL;
    gint64 joined = 0;
    gint64 invited = 0;
    Listing *listing;

    for (guint i = 0; i < G_N_ELEMENTS(shown); i++) {
        types[i] = shown[i].type;
        keys[i] = "";
    }
    events = state_store_events_of(connection, room_id, types, keys, G_N_ELEMENTS(shown), error);
    if (events == NULL || !membership_store_count(connection, room_id, &joined, &invited, error))
        return NULL;
    listing = g_new0(Listing, 1);
    listing->room_id = g_strdup(room_id);
    listing->joined = joined;
    listing->value = cJSON_CreateObject();
    cJSON_AddItemToObject(listing->value, "room_id", cJSON_CreateString(room_id));
    cJSON_AddItemToObject(listing->value, "num_joined_members", cJSON_CreateNumber((double)joined));
    cJSON_AddItemToObject(listing->value, "world_readable", cJSON_CreateFalse());
    cJSON_AddItemToObject(listing->value, "guest_can_join", cJSON_CreateFalse());
    for (guint i = 0; i < events->len; i++) {
        const StoredEvent *event = g_ptr_array_index(events, i);
        gsize length = 0;
        const char *text = g_bytes_get_data(event->json, &length);
        g_autoptr(cJSON) json = json_parse(text, length, &json_limits_event_lax, NULL);

        add_shown(listing->value, event, json_get_object(json, "content"));
    }
    return listing;
}

static int
compare_listings(gconstpointer a, gconstpointer b)
{
    const Listing *one = *(Listing *const *)a;
    const Listing *two = *(Listing *const *)b;

    if (one->joined != two->joined)
        return one->joined < two->joined ? 1 : -1;
    return strcmp(one->room_id, two->room_id);
}

static gboolean
matches(const Listing *listing, const char *term)
{
    static const char *const members[] = {"name", "topic", "canonical_alias"};
    g_autofree char *wanted = NULL;

    if (term == NULL || term[0] == '\0')
        return TRUE;
    wanted = g_utf8_casefold(term, -1);
    for (guint i = 0; i < G_N_ELEMENTS(members); i++) {
        const char *text = json_get_string(listing->value, members[i]);
        g_autofree char *folded = text != NULL ? g_utf8_casefold(text, -1) : NULL;

        if (folded != NULL && strstr(folded, wanted) != NULL)
            return TRUE;
    }
    return FALSE;
}

static GPtrArray *
all_listings(Server *server, const char *term, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    g_autoptr(GPtrArray) listings = g_ptr_array_new_with_free_func(listing_free);
    g_autoptr(GPtrArray) ids = NULL;

    ids = connection != NULL ? alias_store_published(connection, ROOMS_MAX, error) : NULL;
    if (ids == NULL)
        return NULL;
    for (guint i = 0; i < ids->len; i++) {
        Listing *listing = listing_new(connection, g_ptr_array_index(ids, i), error);

        if (listing == NULL)
            return NULL;
        if (listing->joined > 0 && matches(listing, term))
            g_ptr_array_add(listings, listing);
        else
            listing_free(listing);
    }
    g_ptr_array_sort(listings, compare_listings);
    return g_steal_pointer(&listings);
}

static Response *
room_directory_page(Server *server, gint64 limit, const char *since, const char *term,
                    GError **error)
{
    g_autoptr(GPtrArray) listings = NULL;
    guint64 from = 0;
    guint64 until;
    cJSON *answer, *chunk;

    if (since != NULL && since[0] != '\0' &&
        !g_ascii_string_to_unsigned(since, 10, 0, ROOMS_MAX, &from, NULL)) {
        refusal_set(error, 400, "M_INVALID_PARAM", "since is no token of this server");
        return NULL;
    }
    listings = all_listings(server, term, error);
    if (listings == NULL)
        return NULL;
    until = MIN(from + (guint64)CLAMP(limit, 1, PAGE_ROOMS_MAX), listings->len);
    answer = cJSON_CreateObject();
    chunk = cJSON_CreateArray();
    for (guint64 i = from; i < until; i++) {
        Listing *listing = g_ptr_array_index(listings, i);

        cJSON_AddItemToArray(chunk, g_steal_pointer(&listing->value));
    }
    cJSON_AddItemToObject(answer, "chunk", chunk);
    cJSON_AddItemToObject(answer, "total_room_count_estimate",
                          cJSON_CreateNumber((double)listings->len));
    if (until < listings->len) {
        g_autofree char *next = g_strdup_printf("%" G_GUINT64_FORMAT, until);

        cJSON_AddItemToObject(answer, "next_batch", cJSON_CreateString(next));
    }
    return response_value(200, answer);
}

static void
partner_answered(const cJSON *answer, const GError *error, gpointer data)
{
    request_answer(data, error == NULL ? response_value(200, cJSON_Duplicate(answer, TRUE)) : NULL,
                   error);
}

/* Another server's directory, by the partner whose name `server` gives. */
static Response *
ask_partner(Request *request, const char *name, const cJSON *body)
{
    Server *server = request_server(request);
    g_autoptr(cJSON) empty = cJSON_CreateObject();

    if (server->outgoing == NULL)
        return response_error(404, "M_NOT_FOUND", "This server does not federate");
    outgoing_query(server->outgoing, name, "POST", "/_matrix/federation/v1/publicRooms",
                   body != NULL ? body : empty, partner_answered, request);
    return RESPONSE_LATER;
}

Response *
room_directory_get(Request *request, GError **error)
{
    const char *name = request_query(request, "server");
    gint64 limit = 0;

    if (!request_query_integer(request, "limit", 0, G_MAXINT32, PAGE_ROOMS_STANDARD, &limit, error))
        return NULL;
    if (name != NULL && !g_str_equal(name, request_server(request)->name))
        return ask_partner(request, name, NULL);
    return room_directory_page(request_server(request), limit, request_query(request, "since"),
                               NULL, error);
}

Response *
room_directory_post(Request *request, GError **error)
{
    const char *name = request_query(request, "server");
    const cJSON *body = request_json(request);
    gint64 limit = PAGE_ROOMS_STANDARD;

    json_get_integer(body, "limit", &limit);
    if (name != NULL && !g_str_equal(name, request_server(request)->name))
        return ask_partner(request, name, body);
    return room_directory_page(
        request_server(request), limit, json_get_string(body, "since"),
        json_get_string(json_get_object(body, "filter"), "generic_search_term"), error);
}

/* ---- one room ---- */

typedef struct {
    char *room_id;
} Summary;

static void
summary_free(gpointer data)
{
    Summary *summary = data;

    g_free(summary->room_id);
    g_free(summary);
}

/* Who is in it or invited; anybody where anybody may come in, knock or read. */
static gboolean
may_summarise(const cJSON *listing, const char *membership)
{
    const char *join_rule = json_get_string(listing, "join_rule");

    return g_strcmp0(membership, "join") == 0 || g_strcmp0(membership, "invite") == 0 ||
           g_strcmp0(join_rule, "public") == 0 || g_strcmp0(join_rule, "knock") == 0 ||
           g_strcmp0(join_rule, "knock_restricted") == 0 ||
           json_get_boolean(listing, "world_readable", FALSE);
}

static gboolean
add_encryption(Server *server, const char *room_id, cJSON *listing, GError **error)
{
    g_autoptr(GBytes) root = NULL;
    g_autoptr(Pdu) encryption = NULL;
    const char *algorithm;

    if (!rooms_current_root(server->rooms, room_id, &root, error) ||
        !rooms_state_find(server->rooms, room_id, root, "m.room.encryption", "", &encryption,
                          error))
        return FALSE;
    algorithm = encryption != NULL ? json_get_string(encryption->content, "algorithm") : NULL;
    if (algorithm != NULL)
        cJSON_AddItemToObject(listing, "encryption", cJSON_CreateString(algorithm));
    return TRUE;
}

static Response *
summary_answer(Request *request, gpointer data, GError **error)
{
    Server *server = request_server(request);
    const char *room_id = ((Summary *)data)->room_id;
    const RoomVersion *version = NULL;
    g_autofree char *membership = NULL;
    Listing *listing = NULL;
    g_autoptr(cJSON) value = NULL;

    if (!rooms_version(server->rooms, room_id, &version, error) ||
        !room_membership(server, room_id, request_user_id(request), &membership, error))
        return NULL;
    if (version != NULL) {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);

        listing = connection != NULL ? listing_new(connection, room_id, error) : NULL;
        if (listing == NULL)
            return NULL;
        value = g_steal_pointer(&listing->value);
        listing_free(listing);
    }
    if (value == NULL || !may_summarise(value, membership))
        return response_error(404, "M_NOT_FOUND", "There is no such room, or it is not for you");
    if (!add_encryption(server, room_id, value, error))
        return NULL;
    cJSON_AddItemToObject(value, "room_version", cJSON_CreateString(version->id));
    if (membership != NULL)
        cJSON_AddItemToObject(value, "membership", cJSON_CreateString(membership));
    return response_value(200, g_steal_pointer(&value));
}

static void
summary_found(const char *room_id, const char *const *servers, const GError *error, gpointer data)
{
    Summary *summary;

    if (error != NULL) {
        request_answer(data, NULL, error);
        return;
    }
    summary = g_new(Summary, 1);
    summary->room_id = g_strdup(room_id);
    request_continue(data, summary_answer, summary, summary_free);
}

Response *
room_summary_get(Request *request, GError **error)
{
    const char *room = request_path(request, "roomIdOrAlias");
    Summary summary = {(char *)room};

    if (room[0] != '#')
        return summary_answer(request, &summary, error);
    room_alias_resolve(request_server(request), room, summary_found, request);
    return RESPONSE_LATER;
}

/* ---- what partners ask ---- */

static Response *
partner_alias_get(Request *request, GError **error)
{
    return room_alias_local(request_server(request), request_query(request, "room_alias"), error);
}

extern const Route room_partner_routes[];
const Route room_partner_routes[] = {
    {"GET", "/_matrix/federation/v1/query/directory", LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE,
     BODY_NONE, partner_alias_get},
    {"GET", "/_matrix/federation/v1/publicRooms", LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE,
     BODY_NONE, room_directory_get},
    {"POST", "/_matrix/federation/v1/publicRooms", LISTEN_PARTNER, CALLER_PARTNER, RATE_NONE,
     BODY_JSON, room_directory_post},
    {0},
};
