#include "server/client/room_routes.h"

#define ROUTE(method, path, rate, body, handler)                                                   \
    {                                                                                              \
        method, "/_matrix/client/v3" path, LISTEN_CLIENT, CALLER_USER, rate, body, handler         \
    }

#define ROUTE_V1(method, path, handler)                                                            \
    {                                                                                              \
        method, "/_matrix/client/v1" path, LISTEN_CLIENT, CALLER_USER, RATE_NONE, BODY_NONE,       \
            handler                                                                                \
    }

const Route room_routes[] = {
    ROUTE("POST", "/createRoom", RATE_INVITE, BODY_JSON_OPTIONAL, room_create_post),
    ROUTE("POST", "/rooms/{roomId}/upgrade", RATE_INVITE, BODY_JSON, room_upgrade_post),
    ROUTE("PUT", "/rooms/{roomId}/send/{eventType}/{txnId}", RATE_MESSAGE, BODY_JSON_CONTENT,
          room_message_put),
    ROUTE("PUT", "/rooms/{roomId}/redact/{eventId}/{txnId}", RATE_MESSAGE, BODY_JSON_OPTIONAL,
          room_redaction_put),
    ROUTE("PUT", "/rooms/{roomId}/state/{eventType}/{stateKey}", RATE_MESSAGE, BODY_JSON_CONTENT,
          room_state_put),
    ROUTE("PUT", "/rooms/{roomId}/state/{eventType}", RATE_MESSAGE, BODY_JSON_CONTENT,
          room_state_put_without_key),
    ROUTE("GET", "/rooms/{roomId}/state", RATE_NONE, BODY_NONE, room_state_get),
    ROUTE("GET", "/rooms/{roomId}/state/{eventType}/{stateKey}", RATE_NONE, BODY_NONE,
          room_state_event_get),
    ROUTE("GET", "/rooms/{roomId}/state/{eventType}", RATE_NONE, BODY_NONE,
          room_state_event_get_without_key),
    ROUTE("POST", "/join/{roomIdOrAlias}", RATE_INVITE, BODY_JSON_OPTIONAL,
          room_join_by_alias_post),
    ROUTE("POST", "/knock/{roomIdOrAlias}", RATE_INVITE, BODY_JSON_OPTIONAL, room_knock_post),
    ROUTE("POST", "/rooms/{roomId}/join", RATE_INVITE, BODY_JSON_OPTIONAL, room_join_post),
    ROUTE("POST", "/rooms/{roomId}/leave", RATE_NONE, BODY_JSON_OPTIONAL, room_leave_post),
    ROUTE("POST", "/rooms/{roomId}/invite", RATE_INVITE, BODY_JSON, room_invite_post),
    ROUTE("POST", "/rooms/{roomId}/kick", RATE_MESSAGE, BODY_JSON, room_kick_post),
    ROUTE("POST", "/rooms/{roomId}/ban", RATE_MESSAGE, BODY_JSON, room_ban_post),
    ROUTE("POST", "/rooms/{roomId}/unban", RATE_MESSAGE, BODY_JSON, room_unban_post),
    ROUTE("POST", "/rooms/{roomId}/forget", RATE_NONE, BODY_JSON_OPTIONAL, room_forget_post),
    ROUTE("GET", "/joined_rooms", RATE_NONE, BODY_NONE, room_joined_rooms_get),
    ROUTE("GET", "/rooms/{roomId}/members", RATE_NONE, BODY_NONE, room_members_get),
    ROUTE("GET", "/rooms/{roomId}/joined_members", RATE_NONE, BODY_NONE, room_joined_members_get),
    ROUTE("GET", "/rooms/{roomId}/event/{eventId}", RATE_NONE, BODY_NONE, room_event_get),
    ROUTE("GET", "/rooms/{roomId}/context/{eventId}", RATE_NONE, BODY_NONE, room_context_get),
    ROUTE("GET", "/rooms/{roomId}/messages", RATE_NONE, BODY_NONE, room_messages_get),
    ROUTE("GET", "/directory/room/{roomAlias}", RATE_NONE, BODY_NONE, room_alias_get),
    ROUTE("PUT", "/directory/room/{roomAlias}", RATE_MESSAGE, BODY_JSON, room_alias_put),
    ROUTE("DELETE", "/directory/room/{roomAlias}", RATE_MESSAGE, BODY_NONE, room_alias_delete),
    ROUTE("GET", "/rooms/{roomId}/aliases", RATE_NONE, BODY_NONE, room_aliases_get),
    ROUTE("GET", "/directory/list/room/{roomId}", RATE_NONE, BODY_NONE, room_visibility_get),
    ROUTE("PUT", "/directory/list/room/{roomId}", RATE_MESSAGE, BODY_JSON_OPTIONAL,
          room_visibility_put),
    ROUTE("GET", "/publicRooms", RATE_NONE, BODY_NONE, room_directory_get),
    ROUTE("POST", "/publicRooms", RATE_NONE, BODY_JSON_OPTIONAL, room_directory_post),
    ROUTE("GET", "/profile/{userId}", RATE_NONE, BODY_NONE, profile_get),
    ROUTE("GET", "/profile/{userId}/{keyName}", RATE_NONE, BODY_NONE, profile_field_get),
    ROUTE("PUT", "/profile/{userId}/{keyName}", RATE_MESSAGE, BODY_JSON, profile_field_put),
    ROUTE("DELETE", "/profile/{userId}/{keyName}", RATE_MESSAGE, BODY_NONE, profile_field_delete),
    ROUTE_V1("GET", "/rooms/{roomId}/relations/{eventId}", relations_get),
    ROUTE_V1("GET", "/rooms/{roomId}/relations/{eventId}/{relType}", relations_of_type_get),
    ROUTE_V1("GET", "/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}",
             relations_of_event_type_get),
    ROUTE_V1("GET", "/rooms/{roomId}/threads", threads_get),
    ROUTE_V1("GET", "/rooms/{roomId}/timestamp_to_event", room_by_time_get),
    ROUTE_V1("GET", "/room_summary/{roomIdOrAlias}", room_summary_get),
    /* The names under which matrix-js-sdk asks for a summary. */
    {"GET", "/_matrix/client/unstable/im.nheko.summary/summary/{roomIdOrAlias}", LISTEN_CLIENT,
     CALLER_USER, RATE_NONE, BODY_NONE, room_summary_get},
    {"GET", "/_matrix/client/unstable/im.nheko.summary/rooms/{roomIdOrAlias}/summary",
     LISTEN_CLIENT, CALLER_USER, RATE_NONE, BODY_NONE, room_summary_get},
    ROUTE("POST", "/user_directory/search", RATE_MESSAGE, BODY_JSON, user_directory_post),
    {0},
};
