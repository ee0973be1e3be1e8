/* Fuzz target: filters and push rules of clients: whatever they say, judging an event by them ends,
 * and ends soon. */
#include "server/client/filter.h"
#include "server/client/push_rule_match.h"
#include "server/client/push_rules.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static gboolean
load(PushContext *context)
{
    context->member_count = 2;
    context->display_name = "A*l?ce";
    return TRUE;
}

static gboolean
may_notify(PushContext *context, const char *sender, const char *what)
{
    return TRUE;
}

/* The input is the rules for a fixed event, and the event for the default rules. */
static void
judge(const cJSON *input)
{
    static cJSON *standard;
    g_autoptr(cJSON) event = cJSON_CreateObject();
    PushContext context = {.user_id = "@alice:a", .load = load, .may_notify = may_notify};
    gboolean highlight;

    if (standard == NULL)
        standard = push_rules_standard("@alice:a");
    cJSON_AddStringToObject(event, "type", "m.room.message");
    cJSON_AddStringToObject(event, "sender", "@bob:b");
    cJSON_AddStringToObject(cJSON_AddObjectToObject(event, "content"), "body",
                            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa Alice, b_c");
    push_rules_notify(input, event, &context, &highlight);
    push_rules_notify(standard, input, &context, &highlight);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    g_autoptr(cJSON) json = json_parse((const char *)data, size, &json_limits_request, NULL);
    g_autoptr(Filter) filter = NULL;

    if (json == NULL)
        return 0;
    judge(json);
    filter = filter_from_json(json, NULL);
    if (filter == NULL)
        return 0;
    g_assert_cmpuint(filter->timeline_limit, >=, 1);
    filter_wants_room(filter, "!a");
    filter_events_want(filter->timeline, "!a", "m.room.message", "@a:b", json);
    filter_events_want(filter->state, "!a", "m.room.member", "@a:b", NULL);
    return 0;
}
