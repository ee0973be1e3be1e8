#include "server/client/filter.h"

#include <string.h>

#include "identity/refusal.h"
#include "identity/seeded_hash.h"
#include "server/http/route.h"
#include "server/server.h"
#include "storage/filter_store.h"

#define KEPT_MAX                                                                                   \
    5000 /* filters in memory; all leave when it is full: reading one again is one query */

struct Filters {
    StorePool *pool;
    GMutex lock;
    GHashTable *kept; /* "user_id filter_id" -> Filter */
};

Filters *
filters_new(StorePool *pool)
{
    Filters *filters = g_new0(Filters, 1);

    g_mutex_init(&filters->lock);
    filters->pool = pool;
    filters->kept =
        g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, (GDestroyNotify)filter_unref);
    return filters;
}

void
filters_free(Filters *filters)
{
    if (filters == NULL)
        return;
    g_hash_table_unref(filters->kept);
    g_mutex_clear(&filters->lock);
    g_free(filters);
}

/* ---- reading ---- */

static gboolean
refuse(GError **error, const char *key, const char *what)
{
    refusal_set(error, 400, "M_BAD_JSON", "In the filter, %s %s", key, what);
    return FALSE;
}

/* An absent list leaves *ret_list NULL. */
static gboolean
read_list(const cJSON *object, const char *key, char ***ret_list, GError **error)
{
    const cJSON *value = json_object_get(object, key);
    const cJSON *item;
    GPtrArray *list;

    if (value == NULL || cJSON_IsNull(value))
        return TRUE;
    if (!cJSON_IsArray(value) || cJSON_GetArraySize(value) > FILTER_LIST_MAX)
        return refuse(error, key, "must be a list of strings");
    list = g_ptr_array_new_with_free_func(g_free);
    cJSON_ArrayForEach(item, value)
    {
        if (!cJSON_IsString(item) || strlen(item->valuestring) > FILTER_NAME_BYTES_MAX) {
            g_ptr_array_unref(list);
            return refuse(error, key, "must be a list of strings of at most 255 bytes");
        }
        g_ptr_array_add(list, g_strdup(item->valuestring));
    }
    g_ptr_array_add(list, NULL);
    g_ptr_array_set_free_func(list, NULL);
    *ret_list = (char **)g_ptr_array_free(list, FALSE);
    return TRUE;
}

static gboolean
read_boolean(const cJSON *object, const char *key, gboolean *ret_value, GError **error)
{
    const cJSON *value = json_object_get(object, key);

    if (value == NULL || cJSON_IsNull(value))
        return TRUE;
    if (!cJSON_IsBool(value))
        return refuse(error, key, "must be true or false");
    *ret_value = cJSON_IsTrue(value);
    return TRUE;
}

static gboolean
read_object(const cJSON *object, const char *key, const cJSON **ret_object, GError **error)
{
    const cJSON *value = json_object_get(object, key);

    *ret_object = NULL;
    if (value == NULL || cJSON_IsNull(value))
        return TRUE;
    if (!cJSON_IsObject(value))
        return refuse(error, key, "must be an object");
    *ret_object = value;
    return TRUE;
}

void
filter_events_free(FilterEvents *events)
{
    if (events == NULL)
        return;
    g_strfreev(events->types);
    g_strfreev(events->not_types);
    g_strfreev(events->senders);
    g_strfreev(events->not_senders);
    g_strfreev(events->rooms);
    g_strfreev(events->not_rooms);
    g_free(events);
}

FilterEvents *
filter_events_from_json(const cJSON *json, GError **error)
{
    g_autoptr(FilterEvents) events = g_new0(FilterEvents, 1);
    gboolean contains_url = -1;

    if (json != NULL && !cJSON_IsObject(json)) {
        refusal_set(error, 400, "M_BAD_JSON", "A filter must be an object");
        return NULL;
    }
    if (!read_list(json, "types", &events->types, error) ||
        !read_list(json, "not_types", &events->not_types, error) ||
        !read_list(json, "senders", &events->senders, error) ||
        !read_list(json, "not_senders", &events->not_senders, error) ||
        !read_list(json, "rooms", &events->rooms, error) ||
        !read_list(json, "not_rooms", &events->not_rooms, error) ||
        !read_boolean(json, "contains_url", &contains_url, error))
        return NULL;
    events->contains_url = contains_url;
    return g_steal_pointer(&events);
}

static gboolean
read_events(const cJSON *object, const char *key, FilterEvents **ret_events, GError **error)
{
    const cJSON *json;

    if (!read_object(object, key, &json, error))
        return FALSE;
    *ret_events = filter_events_from_json(json, error);
    return *ret_events != NULL;
}

static gboolean
read_limit(const cJSON *timeline, guint *ret_limit, GError **error)
{
    gint64 limit = FILTER_TIMELINE_STANDARD;

    if (json_object_get(timeline, "limit") != NULL && !json_get_integer(timeline, "limit", &limit))
        return refuse(error, "limit", "must be a whole number");
    *ret_limit = (guint)CLAMP(limit, 1, 1000);
    return TRUE;
}

static gboolean
read_room_part(Filter *filter, const cJSON *room, GError **error)
{
    const cJSON *timeline;
    const cJSON *state;

    return read_object(room, "timeline", &timeline, error) &&
           read_object(room, "state", &state, error) &&
           read_events(room, "timeline", &filter->timeline, error) &&
           read_events(room, "state", &filter->state, error) &&
           read_events(room, "ephemeral", &filter->ephemeral, error) &&
           read_events(room, "account_data", &filter->room_account_data, error) &&
           read_list(room, "rooms", &filter->rooms, error) &&
           read_list(room, "not_rooms", &filter->not_rooms, error) &&
           read_boolean(room, "include_leave", &filter->include_leave, error) &&
           read_boolean(state, "lazy_load_members", &filter->lazy_members, error) &&
           read_boolean(state, "include_redundant_members", &filter->redundant_members, error) &&
           read_limit(timeline, &filter->timeline_limit, error);
}

Filter *
filter_from_json(const cJSON *json, GError **error)
{
    g_autoptr(Filter) filter = g_new0(Filter, 1);
    const cJSON *room;

    filter->references = 1;
    if (json != NULL && !cJSON_IsObject(json)) {
        refusal_set(error, 400, "M_BAD_JSON", "A filter must be an object");
        return NULL;
    }
    if (!read_object(json, "room", &room, error) || !read_room_part(filter, room, error) ||
        !read_events(json, "account_data", &filter->account_data, error))
        return NULL;
    return g_steal_pointer(&filter);
}

void
filter_unref(Filter *filter)
{
    if (filter == NULL || !g_atomic_int_dec_and_test(&filter->references))
        return;
    filter_events_free(filter->timeline);
    filter_events_free(filter->state);
    filter_events_free(filter->ephemeral);
    filter_events_free(filter->room_account_data);
    filter_events_free(filter->account_data);
    g_strfreev(filter->rooms);
    g_strfreev(filter->not_rooms);
    g_free(filter);
}

static Filter *
filter_ref(Filter *filter)
{
    g_atomic_int_inc(&filter->references);
    return filter;
}

/* ---- finding ---- */

static Filter *
filter_from_text(const char *text, gsize length, GError **error)
{
    g_autoptr(cJSON) json = NULL;

    if (length > FILTER_BYTES_MAX) {
        refusal_set(error, 400, "M_INVALID_PARAM", "The filter is too long");
        return NULL;
    }
    json = json_parse(text, length, &json_limits_request, error);
    return json != NULL ? filter_from_json(json, error) : NULL;
}

static Filter *
filters_find(Filters *filters, const char *name)
{
    Filter *filter;

    g_mutex_lock(&filters->lock);
    filter = g_hash_table_lookup(filters->kept, name);
    if (filter != NULL)
        filter_ref(filter);
    g_mutex_unlock(&filters->lock);
    return filter;
}

static void
filters_keep(Filters *filters, const char *name, Filter *filter)
{
    g_mutex_lock(&filters->lock);
    if (g_hash_table_size(filters->kept) >= KEPT_MAX)
        g_hash_table_remove_all(filters->kept);
    g_hash_table_insert(filters->kept, g_strdup(name), filter_ref(filter));
    g_mutex_unlock(&filters->lock);
}

static gboolean
find_stored(StorePool *pool, const char *user_id, const char *filter_id, GBytes **ret_json,
            GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(pool, error);

    if (connection == NULL || !filter_store_find(connection, user_id, filter_id, ret_json, error))
        return FALSE;
    if (*ret_json == NULL) {
        refusal_set(error, 404, "M_NOT_FOUND", "You have no filter of that id: upload it again");
        return FALSE;
    }
    return TRUE;
}

Filter *
filter_load(Filters *filters, const char *user_id, const char *query, GError **error)
{
    g_autofree char *name = NULL;
    g_autoptr(GBytes) stored = NULL;
    Filter *filter;
    gsize length;

    if (query == NULL || *query == '\0')
        return filter_from_json(NULL, error);
    if (*query == '{')
        return filter_from_text(query, strlen(query), error);
    name = g_strconcat(user_id, " ", query, NULL);
    filter = filters_find(filters, name);
    if (filter != NULL)
        return filter;
    if (!find_stored(filters->pool, user_id, query, &stored, error))
        return NULL;
    const char *text = g_bytes_get_data(stored, &length);
    filter = filter_from_text(text, length, error);
    if (filter != NULL)
        filters_keep(filters, name, filter);
    return filter;
}

/* ---- asking ---- */

static gboolean
list_has(char **list, const char *value)
{
    return list != NULL && value != NULL && g_strv_contains((const char *const *)list, value);
}

/* A * stands for any number of characters; linear: each star takes the earliest place. */
static gboolean
type_matches(const char *pattern, const char *type)
{
    const char *star = NULL;
    const char *retry = NULL;

    while (*type != '\0') {
        if (*pattern == '*') {
            star = pattern++;
            retry = type;
        } else if (*pattern == *type) {
            pattern++;
            type++;
        } else if (star != NULL) {
            pattern = star + 1;
            type = ++retry;
        } else {
            return FALSE;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

static gboolean
types_have(char **patterns, const char *type)
{
    for (guint i = 0; patterns != NULL && patterns[i] != NULL; i++)
        if (type_matches(patterns[i], type))
            return TRUE;
    return FALSE;
}

gboolean
filter_wants_room(const Filter *filter, const char *room_id)
{
    return (filter->rooms == NULL || list_has(filter->rooms, room_id)) &&
           !list_has(filter->not_rooms, room_id);
}

gboolean
filter_events_want(const FilterEvents *events, const char *room_id, const char *type,
                   const char *sender, const cJSON *content)
{
    if (types_have(events->not_types, type) ||
        (events->types != NULL && !types_have(events->types, type)))
        return FALSE;
    if (sender != NULL && (list_has(events->not_senders, sender) ||
                           (events->senders != NULL && !list_has(events->senders, sender))))
        return FALSE;
    if (room_id != NULL && (list_has(events->not_rooms, room_id) ||
                            (events->rooms != NULL && !list_has(events->rooms, room_id))))
        return FALSE;
    return events->contains_url < 0 || content == NULL ||
           (json_get_string(content, "url") != NULL) == (events->contains_url == 1);
}

/* ---- the routes ---- */

static gboolean
require_own(Request *request, GError **error)
{
    if (strcmp(request_path(request, "userId"), request_user_id(request)) == 0)
        return TRUE;
    refusal_set(error, 403, "M_FORBIDDEN", "Filters are seen by their own user alone");
    return FALSE;
}

static Response *
filter_post(Request *request, GError **error)
{
    g_autoptr(Filter) filter = NULL;
    g_autoptr(GBytes) json = NULL;
    g_autoptr(StoreConnection) connection = NULL;
    g_autofree char *hash = NULL;
    gboolean stored = FALSE;

    if (!require_own(request, error))
        return NULL;
    filter = filter_from_json(request_json(request), error);
    json = filter != NULL ? json_canonical(request_json(request), error) : NULL;
    if (json == NULL)
        return NULL;
    if (g_bytes_get_size(json) > FILTER_BYTES_MAX)
        return response_error(413, "M_TOO_LARGE", "The filter is too long");
    hash = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, json);
    hash[20] = '\0';
    connection = store_borrow(request_server(request)->pool, error);
    if (connection == NULL ||
        !filter_store_put(connection, request_user_id(request), hash, json, &stored, error))
        return NULL;
    if (!stored)
        return response_error(400, "M_LIMIT_EXCEEDED", "You have %d filters already",
                              FILTER_STORE_FILTERS_MAX);
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddStringToObject(answer, "filter_id", hash);
    return response_value(200, answer);
}

static Response *
filter_get(Request *request, GError **error)
{
    g_autoptr(GBytes) stored = NULL;

    if (!require_own(request, error) ||
        !find_stored(request_server(request)->pool, request_user_id(request),
                     request_path(request, "filterId"), &stored, error))
        return NULL;
    return response_bytes(200, "application/json", stored);
}

extern const Route filter_routes[];
const Route filter_routes[] = {
    {"POST", "/_matrix/client/v3/user/{userId}/filter", LISTEN_CLIENT, CALLER_USER, RATE_NONE,
     BODY_JSON, filter_post},
    {"GET", "/_matrix/client/v3/user/{userId}/filter/{filterId}", LISTEN_CLIENT, CALLER_USER,
     RATE_NONE, BODY_NONE, filter_get},
    {0},
};
