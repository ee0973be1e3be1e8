/* Matrix v1.19, rooms/v1.md, "State resolution": conflicts of power levels first, then of join
 * rules, then of members, each list from the least depth upwards as far as the rules let it; of the
 * rest the deepest event that the rules allow.
 *
 * Where the text is silent it is settled as Synapse does, so that servers agree: a key that only
 * some of the states have, and with one event, is no conflict; rejected and unknown events do not
 * take part; where the rules allow none of the rest, the one of least depth stands. */
#include "federation/room/state_resolution_v1.h"

#include <string.h>

#include "federation/room/event_auth.h"
#include "identity/seeded_hash.h"

typedef struct {
    Pdu *pdu;
    char *sha1; /* of the event id, in hex */
} Candidate;

/* A key with more than one event. */
typedef struct {
    StateKey key;          /* borrowed from the conflict */
    GPtrArray *event_ids;  /* borrowed, distinct */
    GPtrArray *candidates; /* Candidate, deepest first; those that could be read */
} Contest;

typedef struct {
    const Pdu *create;
    const StateUnconflicted *unconflicted;
    const StateEventSource *source;
    guint loaded;
    GPtrArray *contests;
    GHashTable *contested; /* StateKey of a contest, borrowed: a set */
    GHashTable *events;    /* event id -> Pdu or NULL where there is none to use; owned */
    GHashTable *auth; /* StateKey -> Pdu, both borrowed: the state that the rules are asked by */
    GPtrArray *keys;  /* StateKey, owned: of auth */
    GHashTable *resolved;
} ResolutionV1;

static void
candidate_free(gpointer data)
{
    Candidate *candidate = data;
    g_free(candidate->sha1);
    g_free(candidate);
}

static void
contest_free(gpointer data)
{
    Contest *contest = data;
    g_ptr_array_unref(contest->event_ids);
    g_ptr_array_unref(contest->candidates);
    g_free(contest);
}

static void
unref_pdu(gpointer pdu)
{
    pdu_unref(pdu); /* accepts NULL */
}

/* ---- reading ---- */

static gboolean
load_batch(ResolutionV1 *resolution, const char *const *event_ids, guint count, GError **error)
{
    g_autofree Pdu **pdus = g_new0(Pdu *, count);
    if (count > resolution->source->events_max - resolution->loaded) {
        g_set_error(error, STATE_RESOLUTION_ERROR, STATE_RESOLUTION_ERROR_BUDGET,
                    "state resolution needs more than %u events", resolution->source->events_max);
        return FALSE;
    }
    resolution->loaded += count;
    gboolean good =
        resolution->source->load(resolution->source->data, event_ids, count, pdus, error);
    for (guint i = 0; i < count; i++) {
        if (pdus[i] != NULL && resolution->source->is_rejected != NULL &&
            resolution->source->is_rejected(resolution->source->data, event_ids[i]))
            g_clear_pointer(&pdus[i], pdu_unref);
        if (pdus[i] != NULL &&
            (!pdu_is_state(pdus[i]) || strcmp(pdus[i]->room_id, resolution->create->room_id) != 0))
            g_clear_pointer(&pdus[i], pdu_unref);
        if (good)
            g_hash_table_insert(resolution->events, g_strdup(event_ids[i]), pdus[i]);
        else
            pdu_unref(pdus[i]);
    }
    return good;
}

/* @event_ids are distinct. */
static gboolean
load(ResolutionV1 *resolution, const GPtrArray *event_ids, GError **error)
{
    for (guint from = 0; from < event_ids->len; from += STATE_LOAD_MAX)
        if (!load_batch(resolution, (const char *const *)event_ids->pdata + from,
                        MIN(STATE_LOAD_MAX, event_ids->len - from), error))
            return FALSE;
    return TRUE;
}

/* ---- the contests ---- */

static void
add_distinct(GPtrArray *event_ids, const char *event_id)
{
    for (guint i = 0; i < event_ids->len; i++)
        if (strcmp(event_ids->pdata[i], event_id) == 0)
            return;
    g_ptr_array_add(event_ids, (gpointer)event_id);
}

static void
find_contests(ResolutionV1 *resolution, guint state_count, const GPtrArray *conflicts)
{
    for (guint i = 0; i < conflicts->len; i++) {
        const StateConflict *conflict = conflicts->pdata[i];
        Contest *contest = g_new0(Contest, 1);
        contest->key = (StateKey){conflict->type, conflict->state_key};
        contest->event_ids = g_ptr_array_new();
        contest->candidates = g_ptr_array_new_with_free_func(candidate_free);
        for (guint j = 0; j < state_count; j++)
            if (conflict->event_ids[j] != NULL)
                add_distinct(contest->event_ids, conflict->event_ids[j]);
        if (contest->event_ids->len == 1)
            state_map_set(resolution->resolved, conflict->type, conflict->state_key,
                          contest->event_ids->pdata[0]);
        if (contest->event_ids->len <= 1) {
            contest_free(contest);
            continue;
        }
        g_ptr_array_add(resolution->contests, contest);
        g_hash_table_add(resolution->contested, &contest->key);
    }
}

/* Deepest first; of one depth the smallest SHA-1 first. */
static int
compare_candidates(gconstpointer a, gconstpointer b)
{
    const Candidate *left = *(Candidate *const *)a, *right = *(Candidate *const *)b;
    if (left->pdu->depth != right->pdu->depth)
        return left->pdu->depth > right->pdu->depth ? -1 : 1;
    return strcmp(left->sha1, right->sha1);
}

static gboolean
load_contests(ResolutionV1 *resolution, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(seeded_str_hash, g_str_equal);
    g_autoptr(GPtrArray) event_ids = g_ptr_array_new();
    for (guint i = 0; i < resolution->contests->len; i++) {
        const Contest *contest = resolution->contests->pdata[i];
        for (guint j = 0; j < contest->event_ids->len; j++)
            if (g_hash_table_add(seen, contest->event_ids->pdata[j]))
                g_ptr_array_add(event_ids, contest->event_ids->pdata[j]);
    }
    if (!load(resolution, event_ids, error))
        return FALSE;
    for (guint i = 0; i < resolution->contests->len; i++) {
        Contest *contest = resolution->contests->pdata[i];
        for (guint j = 0; j < contest->event_ids->len; j++) {
            Pdu *pdu = g_hash_table_lookup(resolution->events, contest->event_ids->pdata[j]);
            if (pdu == NULL || !pdu_is(pdu, contest->key.type, contest->key.state_key))
                continue;
            Candidate *candidate = g_new0(Candidate, 1);
            candidate->pdu = pdu;
            candidate->sha1 = g_compute_checksum_for_string(G_CHECKSUM_SHA1, pdu->event_id, -1);
            g_ptr_array_add(contest->candidates, candidate);
        }
        g_ptr_array_sort(contest->candidates, compare_candidates);
    }
    return TRUE;
}

/* ---- the state that the rules are asked by ---- */

static void
set_auth(ResolutionV1 *resolution, const char *type, const char *state_key, const Pdu *pdu)
{
    StateKey key = {type, state_key};
    if (g_hash_table_contains(resolution->auth, &key)) {
        g_hash_table_insert(resolution->auth, &key,
                            (gpointer)pdu); /* the key that is there stays */
        return;
    }
    StateKey *own = state_key_new(type, state_key);
    g_ptr_array_add(resolution->keys, own);
    g_hash_table_insert(resolution->auth, own, (gpointer)pdu);
}

/* What nobody contests under a key: an entry of all states, or the one event that some have. */
static gboolean
find_uncontested(ResolutionV1 *resolution, const StateKey *key, char **ret_event_id, GError **error)
{
    const char *single = state_map_get(resolution->resolved, key->type, key->state_key);
    *ret_event_id = NULL;
    if (g_hash_table_contains(resolution->contested, key))
        return TRUE;
    if (single != NULL) {
        *ret_event_id = g_strdup(single);
        return TRUE;
    }
    return resolution->unconflicted->find(resolution->unconflicted->data, key->type, key->state_key,
                                          ret_event_id, error);
}

/* Read what the rules need of it for all candidates. */
static gboolean
load_auth(ResolutionV1 *resolution, GError **error)
{
    g_autoptr(GHashTable) asked = state_map_new();
    g_autoptr(GPtrArray) event_ids = g_ptr_array_new();
    GHashTableIter iter;
    gpointer key, value;

    for (guint i = 0; i < resolution->contests->len; i++) {
        const Contest *contest = resolution->contests->pdata[i];
        for (guint j = 0; j < contest->candidates->len; j++) {
            EventAuthKeys keys;
            event_auth_keys_of_pdu(((Candidate *)contest->candidates->pdata[j])->pdu, &keys);
            for (guint k = 0; k < keys.count; k++) {
                g_autofree char *event_id = NULL;
                if (g_hash_table_contains(asked, &keys.keys[k]))
                    continue;
                if (!find_uncontested(resolution, &keys.keys[k], &event_id, error))
                    return FALSE;
                state_map_set(asked, keys.keys[k].type, keys.keys[k].state_key,
                              event_id != NULL ? event_id : "");
            }
        }
    }
    g_autoptr(GHashTable) seen = g_hash_table_new(seeded_str_hash, g_str_equal);
    g_hash_table_iter_init(&iter, asked);
    while (g_hash_table_iter_next(&iter, &key, &value))
        if (*(const char *)value != '\0' && !g_hash_table_contains(resolution->events, value) &&
            g_hash_table_add(seen, value))
            g_ptr_array_add(event_ids, value);
    if (!load(resolution, event_ids, error))
        return FALSE;
    g_hash_table_iter_init(&iter, asked);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const StateKey *entry = key;
        const Pdu *pdu = g_hash_table_lookup(resolution->events, value);
        if (pdu != NULL && pdu_is(pdu, entry->type, entry->state_key))
            set_auth(resolution, entry->type, entry->state_key, pdu);
    }
    return TRUE;
}

/* @standing is taken for the entry of its own key; NULL: none. */
static gboolean
is_allowed(const ResolutionV1 *resolution, const Pdu *pdu, const Pdu *standing)
{
    g_autoptr(GPtrArray) state = g_ptr_array_new();
    EventAuthKeys keys;
    /* While it is contested which event made the room, nothing is allowed by either. */
    static const StateKey create_key = {"m.room.create", ""};
    const Pdu *create =
        g_hash_table_contains(resolution->contested, &create_key) ? NULL : resolution->create;
    if (standing != NULL)
        g_ptr_array_add(state, (gpointer)standing); /* of two with one key the first counts */
    event_auth_keys_of_pdu(pdu, &keys);
    for (guint i = 0; i < keys.count; i++) {
        gpointer entry = g_hash_table_lookup(resolution->auth, &keys.keys[i]);
        if (entry != NULL)
            g_ptr_array_add(state, entry);
    }
    return event_auth_check(pdu, create, state, NULL) == AUTH_ALLOW;
}

/* ---- the passes ---- */

/* From the least deep one upwards, as far as each lets the next. */
static const Pdu *
climb(const ResolutionV1 *resolution, const GPtrArray *candidates)
{
    const Pdu *standing = ((Candidate *)candidates->pdata[candidates->len - 1])->pdu;
    for (guint i = candidates->len - 1; i > 0; i--) {
        const Pdu *next = ((Candidate *)candidates->pdata[i - 1])->pdu;
        if (!is_allowed(resolution, next, standing))
            break;
        standing = next;
    }
    return standing;
}

static const Pdu *
first_allowed(const ResolutionV1 *resolution, const GPtrArray *candidates)
{
    for (guint i = 0; i < candidates->len; i++) {
        const Pdu *pdu = ((Candidate *)candidates->pdata[i])->pdu;
        if (is_allowed(resolution, pdu, NULL))
            return pdu;
    }
    return ((Candidate *)candidates->pdata[candidates->len - 1])->pdu;
}

typedef enum {
    PASS_POWER_LEVELS,
    PASS_JOIN_RULES,
    PASS_MEMBERS,
    PASS_REST,
} Pass;

static Pass
pass_of(const StateKey *key)
{
    if (strcmp(key->type, "m.room.power_levels") == 0 && key->state_key[0] == '\0')
        return PASS_POWER_LEVELS;
    if (strcmp(key->type, "m.room.join_rules") == 0)
        return PASS_JOIN_RULES;
    return strcmp(key->type, "m.room.member") == 0 ? PASS_MEMBERS : PASS_REST;
}

/* What a pass resolves counts for the passes after it, not within it. */
static void
run_pass(ResolutionV1 *resolution, Pass pass)
{
    g_autoptr(GPtrArray) stands = g_ptr_array_new();
    for (guint i = 0; i < resolution->contests->len; i++) {
        const Contest *contest = resolution->contests->pdata[i];
        const Pdu *pdu;
        if (contest->candidates->len == 0 || pass_of(&contest->key) != pass)
            continue;
        if (contest->candidates->len == 1)
            pdu = ((Candidate *)contest->candidates->pdata[0])->pdu;
        else if (pass == PASS_REST)
            pdu = first_allowed(resolution, contest->candidates);
        else
            pdu = climb(resolution, contest->candidates);
        state_map_set(resolution->resolved, pdu->type, pdu->state_key, pdu->event_id);
        if (contest->candidates->len > 1)
            g_ptr_array_add(stands, (gpointer)pdu);
    }
    for (guint i = 0; i < stands->len; i++) {
        const Pdu *pdu = stands->pdata[i];
        set_auth(resolution, pdu->type, pdu->state_key, pdu);
    }
}

gboolean
state_resolve_v1(const Pdu *create, guint state_count, const GPtrArray *conflicts,
                 const StateUnconflicted *unconflicted, const StateEventSource *source,
                 GHashTable **ret_resolved, GError **error)
{
    g_autoptr(GPtrArray) contests = g_ptr_array_new_with_free_func(contest_free);
    g_autoptr(GHashTable) contested = g_hash_table_new(state_key_hash, state_key_equal);
    g_autoptr(GHashTable) events =
        g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, unref_pdu);
    g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) auth = g_hash_table_new(state_key_hash, state_key_equal);
    g_autoptr(GHashTable) resolved = state_map_new();
    ResolutionV1 resolution = {
        .create = create,
        .unconflicted = unconflicted,
        .source = source,
        .contests = contests,
        .contested = contested,
        .events = events,
        .auth = auth,
        .keys = keys,
        .resolved = resolved,
    };

    find_contests(&resolution, state_count, conflicts);
    if (!load_contests(&resolution, error) || !load_auth(&resolution, error))
        return FALSE;
    for (Pass pass = PASS_POWER_LEVELS; pass <= PASS_REST; pass++)
        run_pass(&resolution, pass);
    *ret_resolved = g_steal_pointer(&resolved);
    return TRUE;
}
