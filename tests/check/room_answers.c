/* tests/check/room_answers.c: the room protocol asked over standard input, for `make check-room`
 * (tests/check/check_room.py), which asks another implementation the same and compares.
 *
 * One JSON object a line, one answer a line:
 *   {"op":"room","version":"11","events":["{…}",…]}    forget what was, read these events
 *      -> {"events":[{"id":…,"redacted":"{…}","hash":true} or {"error":…},…]}
 *   {"op":"judge","questions":[{"event":id,"state":[id,…]},…],"rejected":[id,…]}
 *      -> {"answers":[{"own":…,"state":…},…]}, each {"allow":true} or {"allow":false,"reason":…}:
 *         may it stand on its own auth events; on this state?
 *   {"op":"resolve","questions":[[[id,…],…],…],"rejected":[id,…]}
 *      -> {"answers":[{"state":[id,…]},…]}, sorted */
#include <stdio.h>
#include <string.h>

#include "federation/room/event_auth.h"
#include "federation/room/state_resolution.h"
#include "identity/json.h"
#include "identity/seeded_hash.h"

#define EVENTS_BUDGET 100000

static const JsonLimits line_limits = {64 * 1024 * 1024, 20, 10000000, FALSE};

typedef struct {
    const RoomVersion *version;
    GHashTable *events;   /* event id -> Pdu */
    GHashTable *rejected; /* event ids */
    const Pdu *create;    /* the first event */
} Room;

static Room room;

static void
say(cJSON *answer)
{
    g_autoptr(GBytes) bytes = json_canonical(answer, NULL);
    gsize length = 0;
    const char *text = g_bytes_get_data(bytes, &length);
    fwrite(text, 1, length, stdout);
    putchar('\n');
    fflush(stdout);
    cJSON_Delete(answer);
}

static cJSON *
read_event(const char *text)
{
    cJSON *answer = cJSON_CreateObject();
    g_autoptr(GError) error = NULL;
    Pdu *pdu = pdu_from_json(room.version, text, strlen(text), &error);
    g_autoptr(Pdu) redacted = pdu != NULL ? pdu_redacted(pdu, &error) : NULL;

    if (redacted == NULL) {
        cJSON_AddStringToObject(answer, "error", error->message);
        pdu_unref(pdu);
        return answer;
    }
    gsize length = 0;
    const char *bytes = g_bytes_get_data(redacted->bytes, &length);
    g_autofree char *form = g_strndup(bytes, length);
    cJSON_AddStringToObject(answer, "id", pdu->event_id);
    cJSON_AddStringToObject(answer, "redacted", form);
    cJSON_AddBoolToObject(answer, "hash", pdu_check_content_hash(pdu));
    if (room.create == NULL)
        room.create = pdu;
    g_hash_table_replace(room.events, (gpointer)pdu->event_id, pdu);
    return answer;
}

static void
take_room(const cJSON *ask)
{
    cJSON *answer = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(answer, "events");
    g_hash_table_remove_all(room.events);
    room.create = NULL;
    room.version = room_version_find(json_get_string(ask, "version"));
    for (const cJSON *item = json_get_array(ask, "events")->child; item != NULL; item = item->next)
        cJSON_AddItemToArray(list, read_event(cJSON_GetStringValue(item)));
    say(answer);
}

/* The Pdus that the strings of @list name; borrowed. Unknown ones are left out. */
static GPtrArray *
pdus_of(const cJSON *list)
{
    GPtrArray *pdus = g_ptr_array_new();
    for (const cJSON *item = list != NULL ? list->child : NULL; item != NULL; item = item->next) {
        Pdu *pdu = g_hash_table_lookup(room.events, cJSON_GetStringValue(item));
        if (pdu != NULL)
            g_ptr_array_add(pdus, pdu);
    }
    return pdus;
}

static cJSON *
verdict_of(AuthVerdict verdict, const char *reason)
{
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddBoolToObject(answer, "allow", verdict == AUTH_ALLOW);
    if (verdict != AUTH_ALLOW)
        cJSON_AddStringToObject(answer, "reason", reason);
    return answer;
}

static cJSON *
judge_on_state(const Pdu *pdu, const cJSON *ids)
{
    const char *reason = NULL;
    g_autoptr(GPtrArray) state = pdus_of(ids);
    AuthVerdict verdict = event_auth_check(pdu, room.create, state, &reason);
    return verdict_of(verdict, reason);
}

static cJSON *
judge_on_own(const Pdu *pdu, const char *const *rejected)
{
    const char *reason = NULL;
    g_autoptr(GPtrArray) auth_events = g_ptr_array_new();
    for (guint i = 0; i < pdu->auth_event_count; i++) {
        Pdu *auth_event = g_hash_table_lookup(room.events, pdu->auth_events[i]);
        if (auth_event != NULL)
            g_ptr_array_add(auth_events, auth_event);
    }
    AuthVerdict verdict = event_auth_check_own(pdu, room.create, auth_events, rejected, &reason);
    return verdict_of(verdict, reason);
}

static void
judge(const cJSON *ask)
{
    g_autoptr(GPtrArray) rejected = g_ptr_array_new();
    cJSON *answer = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(answer, "answers");
    const cJSON *item;

    cJSON_ArrayForEach(item, json_get_array(ask, "rejected"))
        g_ptr_array_add(rejected, item->valuestring);
    g_ptr_array_add(rejected, NULL);
    cJSON_ArrayForEach(item, json_get_array(ask, "questions"))
    {
        const Pdu *pdu = g_hash_table_lookup(room.events, json_get_string(item, "event"));
        cJSON *verdicts = cJSON_CreateObject();
        cJSON_AddItemToObject(verdicts, "own",
                              judge_on_own(pdu, (const char *const *)rejected->pdata));
        cJSON_AddItemToObject(verdicts, "state",
                              judge_on_state(pdu, json_get_array(item, "state")));
        cJSON_AddItemToArray(list, verdicts);
    }
    say(answer);
}

static gboolean
load(gpointer data, const char *const *event_ids, guint count, Pdu **ret_pdus, GError **error)
{
    for (guint i = 0; i < count; i++) {
        Pdu *pdu = g_hash_table_lookup(room.events, event_ids[i]);
        ret_pdus[i] = pdu != NULL ? pdu_ref(pdu) : NULL;
    }
    return TRUE;
}

static gboolean
is_rejected(gpointer data, const char *event_id)
{
    return g_hash_table_contains(room.rejected, event_id);
}

static gboolean
collect(const char *type, const char *state_key, const char *event_id, gpointer data)
{
    g_ptr_array_add(data, g_strdup(event_id));
    return TRUE;
}

static gint
compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static cJSON *
resolve_states(const cJSON *states)
{
    static const guint8 seed[STATE_SEED_BYTES];
    g_autoptr(StateTrie) trie = state_trie_new(seed, NULL, NULL);
    g_autoptr(GArray) roots = g_array_new(FALSE, TRUE, sizeof(StateNodeId));
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    StateEventSource source = {NULL, load, is_rejected, EVENTS_BUDGET};
    StateNodeId resolved;
    cJSON *answer = cJSON_CreateObject();
    const cJSON *item;

    cJSON_ArrayForEach(item, states)
    {
        g_autoptr(GPtrArray) pdus = pdus_of(item);
        StateNodeId root = state_node_empty;
        for (guint i = 0; i < pdus->len; i++) {
            const Pdu *pdu = g_ptr_array_index(pdus, i);
            StateChange change = {pdu->type, pdu->state_key, pdu->event_id};
            g_assert_true(state_trie_change(trie, &root, &change, 1, &root, NULL));
        }
        g_array_append_val(roots, root);
    }
    if (!state_resolve_roots(room.create, trie, (const StateNodeId *)(void *)roots->data,
                             roots->len, &source, &resolved, &error) ||
        !state_trie_foreach(trie, &resolved, collect, ids, &error)) {
        cJSON_AddStringToObject(answer, "error", error->message);
        return answer;
    }
    g_ptr_array_sort(ids, compare_texts);
    cJSON *list = cJSON_AddArrayToObject(answer, "state");
    for (guint i = 0; i < ids->len; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(g_ptr_array_index(ids, i)));
    return answer;
}

static void
resolve(const cJSON *ask)
{
    cJSON *answer = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(answer, "answers");
    const cJSON *item;

    g_hash_table_remove_all(room.rejected);
    cJSON_ArrayForEach(item, json_get_array(ask, "rejected"))
        g_hash_table_add(room.rejected, item->valuestring);
    cJSON_ArrayForEach(item, json_get_array(ask, "questions"))
        cJSON_AddItemToArray(list, resolve_states(item));
    g_hash_table_remove_all(room.rejected);
    say(answer);
}

int
main(void)
{
    char *line = NULL;
    size_t room_for_line = 0;
    ssize_t length;

    room.events =
        g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, (GDestroyNotify)pdu_unref);
    room.rejected = g_hash_table_new(seeded_str_hash, g_str_equal);
    while ((length = getline(&line, &room_for_line, stdin)) > 0) {
        g_autoptr(GError) error = NULL;
        g_autoptr(cJSON) ask = json_parse(line, (gsize)length, &line_limits, &error);
        const char *op = ask != NULL ? json_get_string(ask, "op") : NULL;
        if (g_strcmp0(op, "room") == 0)
            take_room(ask);
        else if (g_strcmp0(op, "judge") == 0)
            judge(ask);
        else if (g_strcmp0(op, "resolve") == 0)
            resolve(ask);
        else {
            fprintf(stderr, "room_answers: what is asked? %s\n",
                    error != NULL ? error->message : "");
            return 1;
        }
    }
    g_hash_table_unref(room.events);
    g_hash_table_unref(room.rejected);
    free(line);
    return 0;
}
