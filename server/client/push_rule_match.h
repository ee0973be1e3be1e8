/* server/client/push_rule_match.h: what a user's push rules say about an event.
 * Source: client-server API v1.19, "Push Rules".  Pure but for the context's loader. */
#pragma once

#include "identity/json.h"

#define PUSH_PATTERN_CHARACTERS_MAX 255 /* a longer pattern matches nothing */

typedef struct PushContext PushContext;
struct PushContext {
    const char *user_id;
    /* Filled in when a rule first asks; FALSE: could not be found out, the rule does not match. */
    gboolean (*load)(PushContext *context);
    /* May @sender notify all of @what ("room")?  NULL: nobody may. */
    gboolean (*may_notify)(PushContext *context, const char *sender, const char *what);
    gpointer data;
    gboolean loaded;
    gint64 member_count;
    const char *display_name; /* NULL: none */
};

/* @rules: {"global": …}; @event in client form (type, sender, state_key, content, room_id).  TRUE:
 * it notifies. */
gboolean push_rules_notify(const cJSON *rules, const cJSON *event, PushContext *context,
                           gboolean *ret_highlight);

/* The glob of event_match; @words: must match from one word boundary to another (content.body).
 * Time is linear in @text whatever the pattern. */
gboolean push_glob_matches(const char *pattern, const char *text, gboolean words);
