/* server/client/push_rules.h: a user's push rules: the specification's, until the user changes one;
 * then all are kept as account data m.push_rules, where sync finds them.
 * Source: client-server API v1.19, "Push Rules", "Predefined Rules".
 * For server/client: push_rule_routes.c, account_data.c, unread.c. */
#pragma once

#include "identity/json.h"
#include "storage/store.h"

/* The predefined rules of @user_id: {"global": …}. */
cJSON *push_rules_standard(const char *user_id);
/* The rules in force: those of the user, or the predefined ones.  NULL with @error. */
cJSON *push_rules_load(StoreConnection *connection, const char *user_id, GError **error);
