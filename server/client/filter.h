/* server/client/filter.h: what of the news a client wants to see.
 * Source: client-server API v1.19, "Filtering".
 *
 * A filter is immutable and shared.  An uploaded one is named by its content, so its id never means
 * anything else and may be kept in memory.  For server/client: sync, messages, context. */
#pragma once

#include "identity/json.h"
#include "storage/store.h"

typedef struct Filters Filters; /* server->filters: those in use, bounded */

/* NULL lists want all; an empty list of wanted things wants nothing. */
typedef struct {
    char **types; /* with * as a wildcard */
    char **not_types;
    char **senders;
    char **not_senders;
    char **rooms;
    char **not_rooms;
    gint contains_url; /* -1: whatever, 0: without, 1: with */
} FilterEvents;

typedef struct {
    gint references;
    FilterEvents *timeline; /* never NULL, as all below */
    FilterEvents *state;
    FilterEvents *ephemeral;
    FilterEvents *room_account_data;
    FilterEvents *account_data;
    char **rooms; /* NULL: all */
    char **not_rooms;
    guint timeline_limit; /* at least 1 */
    gboolean lazy_members;
    gboolean redundant_members;
    gboolean include_leave;
} Filter;

#define FILTER_BYTES_MAX (64 * 1024)
#define FILTER_LIST_MAX 1000
#define FILTER_NAME_BYTES_MAX 255
#define FILTER_TIMELINE_STANDARD 20u

Filters *filters_new(StorePool *pool);
void filters_free(Filters *filters);

/* @query: the parameter `filter` of a request: NULL, an id of @user_id's, or JSON.  NULL with a
 * REFUSAL (400 M_INVALID_PARAM, M_BAD_JSON; 404 M_NOT_FOUND) or a STORE_ERROR.  Takes a connection
 * only for an id not yet in memory; caller unrefs. */
Filter *filter_load(Filters *filters, const char *user_id, const char *query, GError **error);
Filter *filter_from_json(const cJSON *json, GError **error);
void filter_unref(Filter *filter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Filter, filter_unref)

gboolean filter_wants_room(const Filter *filter, const char *room_id);
/* @room_id, @sender and @content may be NULL where there is none. */
gboolean filter_events_want(const FilterEvents *events, const char *room_id, const char *type,
                            const char *sender, const cJSON *content);
/* One RoomEventFilter alone: the parameter `filter` of /messages and /context.  Free with
 * filter_events_free.
 * @json NULL: wants all. */
FilterEvents *filter_events_from_json(const cJSON *json, GError **error);
void filter_events_free(FilterEvents *events);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FilterEvents, filter_events_free)
