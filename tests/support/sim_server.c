#include "tests/support/sim_server.h"

#include <string.h>

#include "federation/room/identifier.h"
#include "federation/room/state_resolution.h"
#include "identity/json.h"
#include "identity/seeded_hash.h"

#define EVENTS_BUDGET 1000000

/* All servers of a simulation have one seed, so that their states can be compared by their roots.
 */
static const guint8 trie_seed[STATE_SEED_BYTES] = "one seed for all";

static guint
hash_node_id(gconstpointer id)
{
    guint hash;
    memcpy(&hash, id, sizeof hash);
    return hash;
}

static gboolean
equal_node_ids(gconstpointer a, gconstpointer b)
{
    return state_node_id_equal(a, b);
}

static void
stored_free(gpointer data)
{
    SimStored *stored = data;
    g_free(stored->event_id);
    g_bytes_unref(stored->bytes);
    g_free(stored);
}

static gboolean
load_nodes(gpointer data, const StateNodeId *ids, guint count, GBytes **ret_bodies, GError **error)
{
    const SimServer *server = data;
    for (guint i = 0; i < count; i++) {
        GBytes *body = g_hash_table_lookup(server->nodes, &ids[i]);
        if (body == NULL) {
            g_set_error(error, STATE_TRIE_ERROR, STATE_TRIE_ERROR_DAMAGED, "no such node");
            return FALSE;
        }
        ret_bodies[i] = g_bytes_ref(body);
    }
    return TRUE;
}

static void
write_nodes(SimServer *server)
{
    g_autoptr(GPtrArray) nodes = state_trie_take_new_nodes(server->trie);
    for (guint i = 0; i < nodes->len; i++) {
        const StateNode *node = g_ptr_array_index(nodes, i);
        g_hash_table_replace(server->nodes, g_memdup2(&node->id, sizeof node->id),
                             g_bytes_ref(node->body));
    }
}

const SimStored *
sim_server_find(const SimServer *server, const char *event_id)
{
    return g_hash_table_lookup(server->stored, event_id);
}

const Pdu *
sim_server_pdu(SimServer *server, const char *event_id)
{
    Pdu *pdu = g_hash_table_lookup(server->pdus, event_id);
    const SimStored *stored = pdu == NULL ? sim_server_find(server, event_id) : NULL;
    GError *error = NULL;

    if (stored == NULL)
        return pdu;
    pdu = pdu_from_trusted_bytes(server->version, event_id, stored->bytes, &error);
    g_assert_no_error(error);
    g_hash_table_replace(server->pdus, (gpointer)pdu->event_id, pdu);
    return pdu;
}

/* ---- state ---- */

static gboolean
load_events(gpointer data, const char *const *event_ids, guint count, Pdu **ret_pdus,
            GError **error)
{
    for (guint i = 0; i < count; i++) {
        const Pdu *pdu = sim_server_pdu(data, event_ids[i]);
        ret_pdus[i] = pdu != NULL ? pdu_ref(pdu) : NULL;
    }
    return TRUE;
}

static gboolean
is_rejected(gpointer data, const char *event_id)
{
    return sim_server_find(data, event_id)->status == SIM_REJECTED;
}

/* The state that the states after these events (NULL-terminated) resolve to. */
static StateNodeId
resolve_after(SimServer *server, const char *const *event_ids)
{
    StateEventSource source = {server, load_events, is_rejected, EVENTS_BUDGET};
    g_autoptr(GArray) roots = g_array_new(FALSE, TRUE, sizeof(StateNodeId));
    StateNodeId resolved = state_node_empty;
    GError *error = NULL;

    for (guint i = 0; event_ids[i] != NULL; i++)
        g_array_append_val(roots, sim_server_find(server, event_ids[i])->after);
    if (roots->len == 0)
        return resolved;
    state_resolve_roots(sim_server_pdu(server, server->create_id), server->trie,
                        (const StateNodeId *)(void *)roots->data, roots->len, &source, &resolved,
                        &error);
    g_assert_no_error(error);
    return resolved;
}

static void
resolve_current(SimServer *server)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    for (guint i = 0; i < server->extremities->len; i++)
        g_ptr_array_add(ids, server->extremities->pdata[i]);
    g_ptr_array_add(ids, NULL);
    server->current = resolve_after(server, (const char *const *)ids->pdata);
    write_nodes(server);
}

/* The events (Pdu *, borrowed) that @pdu's rules read, out of the state @root. */
static GPtrArray *
state_for(SimServer *server, const StateNodeId *root, const EventAuthKeys *keys)
{
    GPtrArray *pdus = g_ptr_array_new();
    char *ids[EVENT_AUTH_KEYS_MAX] = {NULL};
    GError *error = NULL;

    state_trie_find_many(server->trie, root, keys->keys, keys->count, ids, &error);
    g_assert_no_error(error);
    for (guint i = 0; i < keys->count; i++)
        if (ids[i] != NULL) {
            g_ptr_array_add(pdus, (gpointer)sim_server_pdu(server, ids[i]));
            g_free(ids[i]);
        }
    return pdus;
}

static AuthVerdict
judge_on(SimServer *server, const Pdu *pdu, const StateNodeId *root, const char **ret_reason)
{
    EventAuthKeys keys;
    event_auth_keys_of_pdu(pdu, &keys);
    g_autoptr(GPtrArray) state = state_for(server, root, &keys);
    const Pdu *create =
        server->create_id != NULL ? sim_server_pdu(server, server->create_id) : NULL;
    return event_auth_check(pdu, create, state, ret_reason);
}

const Pdu *
sim_server_state(SimServer *server, const char *type, const char *state_key)
{
    g_autofree char *event_id = NULL;
    GError *error = NULL;
    state_trie_find(server->trie, &server->current, type, state_key, &event_id, &error);
    g_assert_no_error(error);
    return event_id != NULL ? sim_server_pdu(server, event_id) : NULL;
}

/* ---- the receiving order: server-server API, "Checks performed on receipt of a PDU" ---- */

/* Checks 4 and 5: by its own auth events, and by the state before it. */
static gboolean
is_allowed(SimServer *server, const Pdu *pdu, const StateNodeId *before)
{
    g_autoptr(GPtrArray) auth_events = g_ptr_array_new();
    g_autoptr(GPtrArray) rejected = g_ptr_array_new();
    const Pdu *create =
        server->create_id != NULL ? sim_server_pdu(server, server->create_id) : NULL;
    const char *reason = NULL;

    for (guint i = 0; i < pdu->auth_event_count; i++) {
        g_ptr_array_add(auth_events, (gpointer)sim_server_pdu(server, pdu->auth_events[i]));
        if (is_rejected(server, pdu->auth_events[i]))
            g_ptr_array_add(rejected, (gpointer)pdu->auth_events[i]);
    }
    g_ptr_array_add(rejected, NULL);
    return event_auth_check_own(pdu, create, auth_events, (const char *const *)rejected->pdata,
                                &reason) == AUTH_ALLOW &&
           judge_on(server, pdu, before, &reason) == AUTH_ALLOW;
}

/* The ends that @pdu goes on from are ends no more: those it names, and those behind what it names
 * that is no end here because it was soft-failed or rejected.  @named: @pdu is the new event, so
 * that its prev_events are those it names. */
static void
remove_ends_before(SimServer *server, const Pdu *pdu, gboolean named, GHashTable *seen)
{
    for (guint i = 0; i < pdu->prev_event_count; i++) {
        const char *event_id = pdu->prev_events[i];
        if (!g_hash_table_add(seen, (gpointer)event_id))
            continue;
        for (guint j = 0; j < server->extremities->len; j++)
            if (strcmp(server->extremities->pdata[j], event_id) == 0) {
                g_ptr_array_remove_index(server->extremities, j);
                server->walked_back += !named;
                break;
            }
        if (sim_server_find(server, event_id)->status != SIM_ACCEPTED)
            remove_ends_before(server, sim_server_pdu(server, event_id), FALSE, seen);
    }
}

static void
commit(SimServer *server, const Pdu *pdu, SimStored *stored)
{
    if (stored->status == SIM_ACCEPTED) {
        if (server->create_id == NULL)
            server->create_id = g_strdup(pdu->event_id);
        g_autoptr(GHashTable) seen = g_hash_table_new(seeded_str_hash, g_str_equal);
        remove_ends_before(server, pdu, TRUE, seen);
        g_ptr_array_add(server->extremities, g_strdup(pdu->event_id));
    }
    g_hash_table_replace(server->stored, stored->event_id, stored);
    g_ptr_array_add(server->order, stored);
    g_hash_table_replace(server->pdus, (gpointer)pdu->event_id, pdu_ref(pdu));
    if (stored->status == SIM_ACCEPTED)
        resolve_current(server);
    if (server->on_stored != NULL)
        server->on_stored(server->data, stored);
}

/* FALSE if the server died of it: everything that waited is forgotten. */
static gboolean
judge(SimServer *server, const Pdu *pdu)
{
    StateNodeId before = resolve_after(server, pdu->prev_events);
    SimStored *stored = g_new0(SimStored, 1);
    const char *reason = NULL;
    GError *error = NULL;

    stored->event_id = g_strdup(pdu->event_id);
    stored->bytes = g_bytes_ref(pdu->bytes);
    stored->before = stored->after = before;
    if (!is_allowed(server, pdu, &before))
        stored->status = SIM_REJECTED;
    else if (judge_on(server, pdu, &server->current, &reason) != AUTH_ALLOW)
        stored->status = SIM_SOFT_FAILED;
    if (stored->status != SIM_REJECTED && pdu_is_state(pdu)) {
        StateChange change = {pdu->type, pdu->state_key, pdu->event_id};
        state_trie_change(server->trie, &before, &change, 1, &stored->after, &error);
        g_assert_no_error(error);
    }
    write_nodes(server);
    if (server->dies_in_commit) {
        stored_free(stored);
        server->deaths++;
        sim_server_restart(server);
        return FALSE;
    }
    commit(server, pdu, stored);
    return TRUE;
}

static gboolean
all_stored(const SimServer *server, const char *const *event_ids)
{
    for (guint i = 0; event_ids[i] != NULL; i++)
        if (sim_server_find(server, event_ids[i]) == NULL)
            return FALSE;
    return TRUE;
}

static void
judge_what_can_be(SimServer *server)
{
    for (guint i = 0; i < server->waiting->len;) {
        g_autoptr(Pdu) pdu = pdu_ref(server->waiting->pdata[i]);
        if (!all_stored(server, pdu->prev_events) || !all_stored(server, pdu->auth_events)) {
            i++;
            continue;
        }
        g_ptr_array_remove_index(server->waiting, i);
        if (!judge(server, pdu))
            return;
        i = 0; /* others may have waited for this one */
    }
}

static gboolean
is_well_signed(const SimServer *server, const Pdu *pdu)
{
    g_autoptr(GPtrArray) signers = pdu_required_signers(pdu);
    for (guint i = 0; i < signers->len; i++)
        if (!pdu_verify_signature(pdu, signers->pdata[i], server_key_id(server->key),
                                  server_key_public(server->key)))
            return FALSE;
    return TRUE;
}

gboolean
sim_server_receive(SimServer *server, const char *bytes, gsize length, GError **error)
{
    g_autoptr(Pdu) pdu = pdu_from_json(server->version, bytes, length, error);

    if (pdu == NULL)
        return FALSE;
    if (sim_server_find(server, pdu->event_id) != NULL)
        return TRUE;
    for (guint i = 0; i < server->waiting->len; i++)
        if (strcmp(((Pdu *)server->waiting->pdata[i])->event_id, pdu->event_id) == 0)
            return TRUE;
    if (!is_well_signed(server, pdu)) {
        g_set_error(error, PDU_ERROR, PDU_ERROR_FORMAT, "%s is not well signed", pdu->event_id);
        return FALSE;
    }
    if (!pdu_check_content_hash(pdu)) {
        Pdu *redacted = pdu_redacted(pdu, error);
        pdu_unref(pdu);
        pdu = redacted;
        server->redacted++;
    }
    g_ptr_array_add(server->waiting, pdu_ref(pdu));
    judge_what_can_be(server);
    return TRUE;
}

static void
add_missing(const SimServer *server, const char *const *event_ids, GPtrArray *missing)
{
    for (guint i = 0; event_ids[i] != NULL; i++) {
        gboolean known = sim_server_find(server, event_ids[i]) != NULL;
        for (guint j = 0; !known && j < server->waiting->len; j++)
            known = strcmp(((Pdu *)server->waiting->pdata[j])->event_id, event_ids[i]) == 0;
        if (!known && !g_ptr_array_find_with_equal_func(missing, event_ids[i], g_str_equal, NULL))
            g_ptr_array_add(missing, g_strdup(event_ids[i]));
    }
}

GPtrArray *
sim_server_missing(const SimServer *server)
{
    GPtrArray *missing = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < server->waiting->len; i++) {
        const Pdu *pdu = server->waiting->pdata[i];
        add_missing(server, pdu->prev_events, missing);
        add_missing(server, pdu->auth_events, missing);
    }
    return missing;
}

/* ---- events of our own ---- */

Pdu *
sim_server_forge(SimServer *server, const char *sender, const char *type, const char *state_key,
                 const cJSON *content, const char *redacts, const char *event_id,
                 const char *const *prev_events, const char *const *auth_events, gint64 depth,
                 gint64 now_ms)
{
    PduSigner signer = pdu_signer(identifier_server(sender), server->key);
    const Pdu *create =
        server->create_id != NULL ? sim_server_pdu(server, server->create_id) : NULL;
    PduTemplate template = {
        .room_id = create != NULL                            ? create->room_id
                   : server->version->room_id_is_create_hash ? NULL
                                                             : "!room:one.example",
        .type = type,
        .state_key = state_key,
        .sender = sender,
        .content = content,
        .redacts = redacts,
        .event_id = event_id,
        .prev_events = prev_events,
        .auth_events = auth_events,
        .depth = depth,
        .origin_server_ts = now_ms,
    };
    GError *error = NULL;
    Pdu *pdu = pdu_build(server->version, &template, &signer, &error);
    g_assert_no_error(error);
    return pdu;
}

Pdu *
sim_server_make(SimServer *server, const char *sender, const char *type, const char *state_key,
                const cJSON *content, const char *redacts, const char *event_id, gint64 now_ms,
                const char **ret_reason)
{
    g_autoptr(GPtrArray) prev_events = g_ptr_array_new();
    g_autoptr(GPtrArray) auth_events = g_ptr_array_new();
    EventAuthKeys keys;
    gint64 depth = 0;

    for (guint i = 0; i < server->extremities->len && i < SIM_EXTREMITIES_MAX; i++) {
        const Pdu *end = sim_server_pdu(server, server->extremities->pdata[i]);
        g_ptr_array_add(prev_events, (gpointer)end->event_id);
        depth = MAX(depth, end->depth);
    }
    g_ptr_array_add(prev_events, NULL);
    event_auth_keys(server->version, type, state_key, sender, content, &keys);
    g_autoptr(GPtrArray) state = state_for(server, &server->current, &keys);
    for (guint i = 0; i < state->len; i++)
        g_ptr_array_add(auth_events, (gpointer)((const Pdu *)state->pdata[i])->event_id);
    g_ptr_array_add(auth_events, NULL);

    g_autoptr(Pdu) pdu =
        sim_server_forge(server, sender, type, state_key, content, redacts, event_id,
                         (const char *const *)prev_events->pdata,
                         (const char *const *)auth_events->pdata, depth + 1, now_ms);
    if (judge_on(server, pdu, &server->current, ret_reason) != AUTH_ALLOW)
        return NULL;
    return g_steal_pointer(&pdu);
}

/* ---- life ---- */

static void
wake(SimServer *server)
{
    server->pdus =
        g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, (GDestroyNotify)pdu_unref);
    server->waiting = g_ptr_array_new_with_free_func((GDestroyNotify)pdu_unref);
    server->trie = state_trie_new(trie_seed, load_nodes, server);
    server->dies_in_commit = FALSE;
}

static void
fall_asleep(SimServer *server)
{
    g_hash_table_unref(server->pdus);
    g_ptr_array_unref(server->waiting);
    state_trie_free(server->trie);
}

SimServer *
sim_server_new(const char *name, const RoomVersion *version, const ServerKey *key)
{
    SimServer *server = g_new0(SimServer, 1);
    server->name = name;
    server->version = version;
    server->key = key;
    server->stored = g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, stored_free);
    server->order = g_ptr_array_new();
    server->nodes =
        g_hash_table_new_full(hash_node_id, equal_node_ids, g_free, (GDestroyNotify)g_bytes_unref);
    server->extremities = g_ptr_array_new_with_free_func(g_free);
    wake(server);
    return server;
}

void
sim_server_restart(SimServer *server)
{
    fall_asleep(server);
    wake(server);
    resolve_current(server);
}

void
sim_server_free(SimServer *server)
{
    if (server == NULL)
        return;
    fall_asleep(server);
    g_ptr_array_unref(server->order);
    g_hash_table_unref(server->stored);
    g_hash_table_unref(server->nodes);
    g_ptr_array_unref(server->extremities);
    g_free(server->create_id);
    g_free(server);
}
