/* server/client/room_routes.h: the handlers of rooms, gathered in room_routes.c. */
#pragma once

#include "server/http/route.h"

extern const Route room_routes[];

Response *room_create_post(Request *request, GError **error);
Response *room_upgrade_post(Request *request, GError **error);

Response *room_message_put(Request *request, GError **error);
Response *room_redaction_put(Request *request, GError **error);
Response *room_state_put(Request *request, GError **error);
Response *room_state_put_without_key(Request *request, GError **error);

Response *room_join_post(Request *request, GError **error);
Response *room_join_by_alias_post(Request *request, GError **error);
Response *room_knock_post(Request *request, GError **error);
Response *room_leave_post(Request *request, GError **error);
Response *room_invite_post(Request *request, GError **error);
Response *room_kick_post(Request *request, GError **error);
Response *room_ban_post(Request *request, GError **error);
Response *room_unban_post(Request *request, GError **error);
Response *room_forget_post(Request *request, GError **error);
Response *room_joined_rooms_get(Request *request, GError **error);

Response *room_state_get(Request *request, GError **error);
Response *room_state_event_get(Request *request, GError **error);
Response *room_state_event_get_without_key(Request *request, GError **error);
Response *room_members_get(Request *request, GError **error);
Response *room_joined_members_get(Request *request, GError **error);
Response *room_event_get(Request *request, GError **error);
Response *room_context_get(Request *request, GError **error);
Response *room_messages_get(Request *request, GError **error);

Response *relations_get(Request *request, GError **error);
Response *relations_of_type_get(Request *request, GError **error);
Response *relations_of_event_type_get(Request *request, GError **error);
Response *threads_get(Request *request, GError **error);

Response *user_directory_post(Request *request, GError **error);
Response *room_summary_get(Request *request, GError **error);
Response *room_by_time_get(Request *request, GError **error);

Response *room_alias_get(Request *request, GError **error);
Response *room_alias_put(Request *request, GError **error);
Response *room_alias_delete(Request *request, GError **error);
Response *room_aliases_get(Request *request, GError **error);
Response *room_visibility_get(Request *request, GError **error);
Response *room_visibility_put(Request *request, GError **error);
Response *room_directory_get(Request *request, GError **error);
Response *room_directory_post(Request *request, GError **error);

Response *profile_get(Request *request, GError **error);
Response *profile_field_get(Request *request, GError **error);
Response *profile_field_put(Request *request, GError **error);
Response *profile_field_delete(Request *request, GError **error);
