#include "federation/room/event_auth.h"

#include <string.h>

#include "federation/room/identifier.h"
#include "federation/room/power_value.h"
#include "identity/seeded_hash.h"
#include "identity/signed_json.h"
#include "identity/unpadded_base64.h"

/* Signatures tried for one invite through a third party: honest ones need one or two. */
#define THIRD_PARTY_VERIFICATIONS_MAX 256

/* What the rules look at, gathered once. */
typedef struct {
    const RoomVersion *version;
    const Pdu *pdu;
    const Pdu *create;
    const GPtrArray *state;
    PowerLevels levels;
    const char **reason;
} Auth;

static AuthVerdict
reject(const Auth *auth, const char *reason)
{
    *auth->reason = reason;
    return AUTH_REJECT;
}

static const Pdu *
find_state(const GPtrArray *state, const char *type, const char *state_key)
{
    for (guint i = 0; state != NULL && i < state->len; i++)
        if (pdu_is(state->pdata[i], type, state_key))
            return state->pdata[i];
    return NULL;
}

static const char *
membership_of(const Auth *auth, const char *user_id)
{
    const Pdu *member = find_state(auth->state, "m.room.member", user_id);
    const char *membership = member != NULL ? pdu_membership(member) : NULL;
    return membership != NULL ? membership : "leave";
}

static gboolean
is_one_of(const char *text, const char *a, const char *b, const char *c)
{
    return strcmp(text, a) == 0 || (b != NULL && strcmp(text, b) == 0) ||
           (c != NULL && strcmp(text, c) == 0);
}

static const char *
join_rule_of(const Auth *auth)
{
    const Pdu *rules = find_state(auth->state, "m.room.join_rules", "");
    const cJSON *rule = rules != NULL ? json_object_get(rules->content, "join_rule") : NULL;
    if (rule == NULL)
        return "invite";
    /* Of another type: a rule that nobody meets. */
    return cJSON_IsString(rule) ? cJSON_GetStringValue(rule) : "";
}

static gboolean
may(const Auth *auth, const char *user_id, PowerAction action)
{
    return power_at_least(power_of_user(&auth->levels, user_id),
                          power_level_for(&auth->levels, action));
}

/* ---- rule 1: m.room.create ---- */

static AuthVerdict
check_create(const Auth *auth)
{
    const Pdu *pdu = auth->pdu;
    const cJSON *room_version = json_object_get(pdu->content, "room_version");
    const cJSON *additional = json_object_get(pdu->content, "additional_creators"), *creator;
    const char *version_id = room_version == NULL ? "1" : room_version->valuestring;

    if (pdu->prev_event_count > 0)
        return reject(auth, "rule 1.1: a create event has no prev_events");
    if (!auth->version->room_id_is_create_hash &&
        !identifier_same_server(pdu->room_id, pdu->sender))
        return reject(auth, "rule 1.2: the room id is not of the sender's server");
    if (room_version_find(version_id) == NULL)
        return reject(auth, "rule 1.3: unknown room version");
    if (strcmp(version_id, auth->version->id) != 0)
        return reject(auth, "rule 1.3: the create event is of another room version");
    if (!auth->version->creator_is_sender && json_object_get(pdu->content, "creator") == NULL)
        return reject(auth, "rule 1.4: a create event names its creator");
    if (!auth->version->additional_creators || additional == NULL)
        return AUTH_ALLOW;
    if (!cJSON_IsArray(additional))
        return reject(auth, "rule 1.4: additional_creators is not a list of user ids");
    cJSON_ArrayForEach(creator, additional)
    {
        if (!cJSON_IsString(creator) || !identifier_user_id_valid(creator->valuestring))
            return reject(auth, "rule 1.4: additional_creators is not a list of user ids");
    }
    return AUTH_ALLOW;
}

/* ---- rule 5: m.room.member ---- */

static gboolean
follows_create_alone(const Auth *auth)
{
    return auth->pdu->prev_event_count == 1 &&
           strcmp(auth->pdu->prev_events[0], auth->create->event_id) == 0;
}

static const char *
creator_of(const Auth *auth)
{
    return auth->version->creator_is_sender ? auth->create->sender
                                            : json_get_string(auth->create->content, "creator");
}

static AuthVerdict
check_restricted_join(const Auth *auth)
{
    const char *user = json_get_string(auth->pdu->content, "join_authorised_via_users_server");
    if (is_one_of(membership_of(auth, auth->pdu->state_key), "join", "invite", NULL))
        return AUTH_ALLOW;
    if (user == NULL)
        return reject(auth, "rule 5.3.5.2: a restricted join that nobody authorised");
    if (strcmp(membership_of(auth, user), "join") != 0)
        return reject(auth, "rule 5.3.5.2: who authorised the join is not in the room");
    if (!may(auth, user, POWER_ACTION_INVITE))
        return reject(auth, "rule 5.3.5.2: who authorised the join may not invite");
    return AUTH_ALLOW;
}

static AuthVerdict
check_join(const Auth *auth)
{
    const Pdu *pdu = auth->pdu;
    const RoomVersion *version = auth->version;
    const char *rule = join_rule_of(auth);
    const char *membership = membership_of(auth, pdu->state_key);

    if (follows_create_alone(auth) && g_strcmp0(creator_of(auth), pdu->state_key) == 0)
        return AUTH_ALLOW;
    if (strcmp(pdu->sender, pdu->state_key) != 0)
        return reject(auth, "rule 5.3.2: nobody joins for another");
    if (strcmp(membership, "ban") == 0)
        return reject(auth, "rule 5.3.3: the sender is banned");
    if (strcmp(rule, "invite") == 0 || (version->knock && strcmp(rule, "knock") == 0))
        return is_one_of(membership, "invite", "join", NULL)
                   ? AUTH_ALLOW
                   : reject(auth, "rule 5.3.4: the room is by invitation and the sender has none");
    if ((version->restricted && strcmp(rule, "restricted") == 0) ||
        (version->knock_restricted && strcmp(rule, "knock_restricted") == 0))
        return check_restricted_join(auth);
    if (strcmp(rule, "public") == 0)
        return AUTH_ALLOW;
    return reject(auth, "rule 5.3.7: the join rule lets nobody in");
}

/* Does any Ed25519 signature in @proof verify under @key?  *tries counts down over all keys. */
static gboolean
proof_signed_by(const cJSON *proof, GBytes *message, const char *key, guint *tries)
{
    guint8 public_key[PUBLIC_KEY_BYTES];
    const cJSON *server, *signature;

    if (key == NULL ||
        (!unpadded_base64_decode_exact(key, BASE64_STANDARD, public_key, sizeof public_key) &&
         !unpadded_base64_decode_exact(key, BASE64_URL_SAFE, public_key, sizeof public_key)))
        return FALSE;
    cJSON_ArrayForEach(server, json_get_object(proof, "signatures"))
    {
        if (!cJSON_IsObject(server))
            continue;
        cJSON_ArrayForEach(signature, server)
        {
            if (!cJSON_IsString(signature) || !g_str_has_prefix(signature->string, "ed25519:"))
                continue;
            if ((*tries)-- == 0) {
                *tries = 0;
                return FALSE;
            }
            if (ed25519_verify(public_key, g_bytes_get_data(message, NULL),
                               g_bytes_get_size(message), signature->valuestring))
                return TRUE;
        }
    }
    return FALSE;
}

static gboolean
proof_is_good(const cJSON *proof, const Pdu *invite)
{
    guint tries = THIRD_PARTY_VERIFICATIONS_MAX;
    const cJSON *entry;
    g_autoptr(GBytes) message = signed_json_bytes(proof, NULL);

    if (message == NULL)
        return FALSE;
    if (proof_signed_by(proof, message, json_get_string(invite->content, "public_key"), &tries))
        return TRUE;
    cJSON_ArrayForEach(entry, json_get_array(invite->content, "public_keys"))
    {
        if (tries == 0)
            return FALSE;
        if (proof_signed_by(proof, message, json_get_string(entry, "public_key"), &tries))
            return TRUE;
    }
    return FALSE;
}

static AuthVerdict
check_third_party_invite(const Auth *auth, const cJSON *third_party)
{
    const Pdu *pdu = auth->pdu;
    const cJSON *proof = json_get_object(third_party, "signed");
    const char *mxid = json_get_string(proof, "mxid");
    const char *token = json_get_string(proof, "token");

    if (strcmp(membership_of(auth, pdu->state_key), "ban") == 0)
        return reject(auth, "rule 5.4.1.1: who is invited is banned");
    if (proof == NULL)
        return reject(auth, "rule 5.4.1.2: third_party_invite has no 'signed'");
    if (mxid == NULL || token == NULL)
        return reject(auth, "rule 5.4.1.3: 'signed' lacks mxid or token");
    if (strcmp(mxid, pdu->state_key) != 0)
        return reject(auth, "rule 5.4.1.4: 'signed' is for another user");
    const Pdu *invite = find_state(auth->state, "m.room.third_party_invite", token);
    if (invite == NULL)
        return reject(auth, "rule 5.4.1.5: no third party invite with that token");
    if (strcmp(invite->sender, pdu->sender) != 0)
        return reject(auth, "rule 5.4.1.6: another user made the third party invite");
    if (!proof_is_good(proof, invite))
        return reject(auth, "rule 5.4.1.8: no key of the third party invite signed this");
    return AUTH_ALLOW;
}

static AuthVerdict
check_invite(const Auth *auth)
{
    const Pdu *pdu = auth->pdu;
    const cJSON *third_party = json_object_get(pdu->content, "third_party_invite");

    if (third_party != NULL)
        return check_third_party_invite(auth, third_party);
    if (strcmp(membership_of(auth, pdu->sender), "join") != 0)
        return reject(auth, "rule 5.4.2: the sender is not in the room");
    if (is_one_of(membership_of(auth, pdu->state_key), "join", "ban", NULL))
        return reject(auth, "rule 5.4.3: who is invited is in the room already, or banned");
    if (!may(auth, pdu->sender, POWER_ACTION_INVITE))
        return reject(auth, "rule 5.4.5: the sender may not invite");
    return AUTH_ALLOW;
}

static gboolean
stands_above_target(const Auth *auth)
{
    return power_compare(power_of_user(&auth->levels, auth->pdu->sender),
                         power_of_user(&auth->levels, auth->pdu->state_key)) > 0;
}

static AuthVerdict
check_leave(const Auth *auth)
{
    const Pdu *pdu = auth->pdu;
    if (strcmp(pdu->sender, pdu->state_key) == 0)
        return is_one_of(membership_of(auth, pdu->sender), "invite", "join",
                         auth->version->knock ? "knock" : NULL)
                   ? AUTH_ALLOW
                   : reject(auth, "rule 5.5.1: the sender is not in the room, nor invited");
    if (strcmp(membership_of(auth, pdu->sender), "join") != 0)
        return reject(auth, "rule 5.5.2: the sender is not in the room");
    if (strcmp(membership_of(auth, pdu->state_key), "ban") == 0 &&
        !may(auth, pdu->sender, POWER_ACTION_BAN))
        return reject(auth, "rule 5.5.3: the sender may not lift a ban");
    if (!may(auth, pdu->sender, POWER_ACTION_KICK))
        return reject(auth, "rule 5.5.5: the sender may not kick");
    if (!stands_above_target(auth))
        return reject(auth, "rule 5.5.5: the sender does not stand above who is kicked");
    return AUTH_ALLOW;
}

static AuthVerdict
check_ban(const Auth *auth)
{
    const Pdu *pdu = auth->pdu;
    if (strcmp(membership_of(auth, pdu->sender), "join") != 0)
        return reject(auth, "rule 5.6.1: the sender is not in the room");
    if (!may(auth, pdu->sender, POWER_ACTION_BAN))
        return reject(auth, "rule 5.6.3: the sender may not ban");
    if (!stands_above_target(auth))
        return reject(auth, "rule 5.6.3: the sender does not stand above who is banned");
    return AUTH_ALLOW;
}

static AuthVerdict
check_knock(const Auth *auth)
{
    const Pdu *pdu = auth->pdu;
    const char *rule = join_rule_of(auth);
    if (strcmp(rule, "knock") != 0 &&
        !(auth->version->knock_restricted && strcmp(rule, "knock_restricted") == 0))
        return reject(auth, "rule 5.7.1: the room takes no knocks");
    if (strcmp(pdu->sender, pdu->state_key) != 0)
        return reject(auth, "rule 5.7.2: nobody knocks for another");
    if (is_one_of(membership_of(auth, pdu->sender), "ban", "invite", "join"))
        return reject(auth, "rule 5.7.4: the sender is banned, invited or in the room already");
    return AUTH_ALLOW;
}

/* The signature itself is verified with the event's others; here it must be there at all. */
static gboolean
is_signed_by_server_of(const Pdu *pdu, const char *user_id)
{
    const char *server = identifier_server(user_id);
    const cJSON *signatures = json_get_object(pdu->json, "signatures");
    const cJSON *of_server = server != NULL ? json_get_object(signatures, server) : NULL;
    return of_server != NULL && of_server->child != NULL;
}

static AuthVerdict
check_member(const Auth *auth)
{
    static const struct {
        const char *membership;
        AuthVerdict (*check)(const Auth *);
    } memberships[] = {
        {"join", check_join}, {"invite", check_invite}, {"leave", check_leave},
        {"ban", check_ban},   {"knock", check_knock},
    };
    const Pdu *pdu = auth->pdu;
    const char *membership = json_get_string(pdu->content, "membership");
    const cJSON *authoriser = json_object_get(pdu->content, "join_authorised_via_users_server");

    if (pdu->state_key == NULL)
        return reject(auth, "rule 5.1: a member event has a state_key");
    if (membership == NULL)
        return reject(auth, "rule 5.1: a member event has a membership");
    if (auth->version->restricted && authoriser != NULL &&
        !(cJSON_IsString(authoriser) && is_signed_by_server_of(pdu, authoriser->valuestring)))
        return reject(auth, "rule 5.2: the authorising user's server has not signed");
    if (strcmp(membership, "knock") == 0 && !auth->version->knock)
        return reject(auth, "rule 5.8: unknown membership");
    for (guint i = 0; i < G_N_ELEMENTS(memberships); i++)
        if (strcmp(memberships[i].membership, membership) == 0)
            return memberships[i].check(auth);
    return reject(auth, "rule 5.8: unknown membership");
}

/* ---- rule 10: m.room.power_levels ---- */

static gboolean
above(Power power, gint64 level)
{
    return power.infinite || power.level > level;
}

static gboolean
all_levels(const RoomVersion *version, const cJSON *group)
{
    gint64 level;
    const cJSON *entry;
    if (!cJSON_IsObject(group))
        return FALSE;
    cJSON_ArrayForEach(entry, group) if (!power_value(version, entry, &level)) return FALSE;
    return TRUE;
}

static const char *const single_levels[] = {
    "users_default", "events_default", "state_default", "ban", "redact", "kick", "invite", NULL};

/* Rules 10.1 to 10.3: the shape. */
static AuthVerdict
check_levels_shape(const Auth *auth)
{
    static const char *const groups[] = {"events", "notifications", NULL};
    const cJSON *content = auth->pdu->content;
    const cJSON *users = json_object_get(content, "users"), *user;
    gint64 level;

    for (guint i = 0; auth->version->power_levels_integer && single_levels[i] != NULL; i++) {
        const cJSON *value = json_object_get(content, single_levels[i]);
        if (value != NULL && !power_value(auth->version, value, &level))
            return reject(auth, "rule 10.1: a level is not an integer");
    }
    for (guint i = 0; auth->version->power_levels_integer && groups[i] != NULL; i++) {
        const cJSON *group = json_object_get(content, groups[i]);
        if (group != NULL && !all_levels(auth->version, group))
            return reject(auth, "rule 10.2: events or notifications is not a map to integers");
    }
    if (users == NULL)
        return AUTH_ALLOW;
    if (!all_levels(auth->version, users))
        return reject(auth, "rule 10.3: users is not a map of user ids to integers");
    cJSON_ArrayForEach(user, users)
    {
        if (!identifier_user_id_valid(user->string))
            return reject(auth, "rule 10.3: users is not a map of user ids to integers");
    }
    return AUTH_ALLOW;
}

/* Rule 10.4.  Both lists may be long, so one becomes a table. */
static AuthVerdict
check_creators_unlisted(const Auth *auth)
{
    const cJSON *creator, *user;
    if (!auth->version->creators_infinite)
        return AUTH_ALLOW;
    g_autoptr(GHashTable) creators = g_hash_table_new(seeded_str_hash, g_str_equal);
    g_hash_table_add(creators, (gpointer)auth->create->sender);
    cJSON_ArrayForEach(creator, json_get_array(auth->create->content, "additional_creators"))
    {
        if (cJSON_IsString(creator))
            g_hash_table_add(creators, creator->valuestring);
    }
    cJSON_ArrayForEach(user, json_get_object(auth->pdu->content, "users"))
    {
        if (g_hash_table_contains(creators, user->string))
            return reject(auth, "rule 10.4: users lists a creator of the room");
    }
    return AUTH_ALLOW;
}

/* One entry before and after; NULL: not there. */
typedef struct {
    const char *key;
    const cJSON *before;
    const cJSON *after;
} Entry;

/* Step through two objects whose keys are in byte order as through one.  FALSE at the end. */
static gboolean
next_entry(const cJSON **before, const cJSON **after, Entry *ret_entry)
{
    int order;
    if (*before == NULL && *after == NULL)
        return FALSE;
    if (*before == NULL)
        order = 1;
    else if (*after == NULL)
        order = -1;
    else
        order = strcmp((*before)->string, (*after)->string);
    *ret_entry = (Entry){
        .key = order <= 0 ? (*before)->string : (*after)->string,
        .before = order <= 0 ? *before : NULL,
        .after = order >= 0 ? *after : NULL,
    };
    if (order <= 0)
        *before = (*before)->next;
    if (order >= 0)
        *after = (*after)->next;
    return TRUE;
}

/* TRUE if the level changes, comes or goes; then whether there is one before and after. */
static gboolean
entry_changes(const RoomVersion *version, const Entry *entry, gboolean *ret_had, gint64 *ret_before,
              gboolean *ret_has, gint64 *ret_after)
{
    *ret_before = *ret_after = 0;
    *ret_had = power_value(version, entry->before, ret_before);
    *ret_has = power_value(version, entry->after, ret_after);
    return *ret_had != *ret_has || (*ret_had && *ret_before != *ret_after);
}

/* Neither the level that was nor the one that comes is above the sender's. */
static AuthVerdict
check_entry(const Auth *auth, const Entry *entry, Power power, const char *changed, const char *set)
{
    gboolean had, has;
    gint64 old_level, new_level;
    if (!entry_changes(auth->version, entry, &had, &old_level, &has, &new_level))
        return AUTH_ALLOW;
    if (had && !power_at_least(power, old_level))
        return reject(auth, changed);
    if (has && !power_at_least(power, new_level))
        return reject(auth, set);
    return AUTH_ALLOW;
}

/* Rule 10.6. */
static AuthVerdict
check_single_levels(const Auth *auth, const cJSON *before, Power power)
{
    for (guint i = 0; single_levels[i] != NULL; i++) {
        Entry entry = {single_levels[i], json_object_get(before, single_levels[i]),
                       json_object_get(auth->pdu->content, single_levels[i])};
        AuthVerdict verdict =
            check_entry(auth, &entry, power, "rule 10.6.1: a level above the sender's was changed",
                        "rule 10.6.2: a level was set above the sender's");
        if (verdict != AUTH_ALLOW)
            return verdict;
    }
    return AUTH_ALLOW;
}

/* Rules 10.7 and 10.8, for "events" or "notifications". */
static AuthVerdict
check_group(const Auth *auth, const cJSON *before, const char *group, Power power)
{
    const cJSON *old_group = json_get_object(before, group);
    const cJSON *new_group = json_get_object(auth->pdu->content, group);
    const cJSON *old_entry = old_group != NULL ? old_group->child : NULL;
    const cJSON *new_entry = new_group != NULL ? new_group->child : NULL;
    Entry entry;

    while (next_entry(&old_entry, &new_entry, &entry)) {
        AuthVerdict verdict = check_entry(
            auth, &entry, power, "rule 10.7: an entry above the sender's level was changed",
            "rule 10.8: an entry was set above the sender's level");
        if (verdict != AUTH_ALLOW)
            return verdict;
    }
    return AUTH_ALLOW;
}

/* Rules 10.9 and 10.10. */
static AuthVerdict
check_users(const Auth *auth, const cJSON *before, Power power)
{
    const cJSON *old_group = json_get_object(before, "users");
    const cJSON *new_group = json_get_object(auth->pdu->content, "users");
    const cJSON *old_entry = old_group != NULL ? old_group->child : NULL;
    const cJSON *new_entry = new_group != NULL ? new_group->child : NULL;
    Entry entry;

    while (next_entry(&old_entry, &new_entry, &entry)) {
        gboolean had, has;
        gint64 old_level, new_level;
        if (!entry_changes(auth->version, &entry, &had, &old_level, &has, &new_level))
            continue;
        if (had && strcmp(entry.key, auth->pdu->sender) != 0 && !above(power, old_level))
            return reject(auth, "rule 10.9: a user at or above the sender's level was changed");
        if (has && !power_at_least(power, new_level))
            return reject(auth, "rule 10.10: a user was set above the sender's level");
    }
    return AUTH_ALLOW;
}

static AuthVerdict
check_power_levels(const Auth *auth)
{
    Power power = power_of_user(&auth->levels, auth->pdu->sender);

    if (check_levels_shape(auth) == AUTH_REJECT || check_creators_unlisted(auth) == AUTH_REJECT)
        return AUTH_REJECT;
    if (auth->levels.power_levels == NULL)
        return AUTH_ALLOW; /* rule 10.5 */
    const cJSON *before = auth->levels.power_levels->content;
    if (check_single_levels(auth, before, power) == AUTH_REJECT ||
        check_group(auth, before, "events", power) == AUTH_REJECT ||
        (auth->version->power_levels_notifications &&
         check_group(auth, before, "notifications", power) == AUTH_REJECT))
        return AUTH_REJECT;
    return check_users(auth, before, power);
}

/* ---- what old versions ask besides ---- */

/* Versions 1 and 2, rule 11: later versions let it pass and ask when it is carried out. */
static AuthVerdict
check_redaction(const Auth *auth)
{
    const Pdu *pdu = auth->pdu;
    return may(auth, pdu->sender, POWER_ACTION_REDACT) ||
                   identifier_same_server(pdu->event_id, pdu->redacts)
               ? AUTH_ALLOW
               : reject(auth, "rule 11 of versions 1 and 2: the sender may not redact, and the "
                              "redacted event is of another server");
}

/* Versions 1 to 5, rule 4. */

static AuthVerdict
check_aliases(const Auth *auth)
{
    if (auth->pdu->state_key == NULL ||
        g_strcmp0(identifier_server(auth->pdu->sender), auth->pdu->state_key) != 0)
        return reject(auth, "rule 4 of versions 1 to 5: aliases are set for the sender's own "
                            "server alone");
    return AUTH_ALLOW;
}

/* ---- all rules ---- */

/* Rules 6 to 11: everything but create and member events. */
static AuthVerdict
check_other(const Auth *auth)
{
    const Pdu *pdu = auth->pdu;
    Power power = power_of_user(&auth->levels, pdu->sender);

    if (strcmp(membership_of(auth, pdu->sender), "join") != 0)
        return reject(auth, "rule 6: the sender is not in the room");
    if (strcmp(pdu->type, "m.room.third_party_invite") == 0)
        return may(auth, pdu->sender, POWER_ACTION_INVITE)
                   ? AUTH_ALLOW
                   : reject(auth, "rule 7: the sender may not invite");
    if (!power_at_least(power, power_level_to_send(&auth->levels, pdu->type, pdu_is_state(pdu))))
        return reject(auth, "rule 8: the sender's power does not suffice for this type of event");
    if (pdu->state_key != NULL && pdu->state_key[0] == '@' &&
        strcmp(pdu->state_key, pdu->sender) != 0)
        return reject(auth, "rule 9: the state_key is another user's id");
    if (strcmp(pdu->type, "m.room.power_levels") == 0)
        return check_power_levels(auth);
    if (auth->version->redaction_rule && strcmp(pdu->type, "m.room.redaction") == 0)
        return check_redaction(auth);
    return AUTH_ALLOW;
}

AuthVerdict
event_auth_check(const Pdu *pdu, const Pdu *create, const GPtrArray *state, const char **ret_reason)
{
    const char *unwanted = NULL;
    gboolean is_create = strcmp(pdu->type, "m.room.create") == 0;
    /* Before version 12 a room may be given a second create event: the state's own counts. */
    const Pdu *of_state = find_state(state, "m.room.create", "");
    Auth auth = {
        .version = pdu->version,
        .pdu = pdu,
        .create = of_state != NULL ? of_state : create,
        .state = state,
        .reason = ret_reason != NULL ? ret_reason : &unwanted,
    };

    if (is_create)
        return check_create(&auth);
    if (auth.create == NULL || strcmp(auth.create->room_id, pdu->room_id) != 0)
        return reject(&auth, "rule 2: the room_id is not that of an accepted create event");
    auth.levels = (PowerLevels){auth.create, find_state(state, "m.room.power_levels", "")};

    if (!json_get_boolean(auth.create->content, "m.federate", TRUE) &&
        !identifier_same_server(pdu->sender, auth.create->sender))
        return reject(&auth,
                      "rule 4: the room is not federated and the sender is of another server");
    if (auth.version->aliases_rule && strcmp(pdu->type, "m.room.aliases") == 0)
        return check_aliases(&auth);
    if (strcmp(pdu->type, "m.room.member") == 0)
        return check_member(&auth);
    return check_other(&auth);
}

/* Rule 3. */
static AuthVerdict
check_selection(const Auth *auth, const GPtrArray *auth_events,
                const char *const *rejected_event_ids)
{
    EventAuthKeys keys;
    gboolean taken[EVENT_AUTH_KEYS_MAX] = {FALSE};
    event_auth_keys_of_pdu(auth->pdu, &keys);

    for (guint i = 0; i < auth_events->len; i++) {
        const Pdu *event = auth_events->pdata[i];
        guint at = 0;
        while (at < keys.count && !pdu_is(event, keys.keys[at].type, keys.keys[at].state_key))
            at++;
        if (at == keys.count || event->state_key == NULL)
            return reject(auth, "rule 3.2: an auth event that does not bear on this event");
        if (taken[at])
            return reject(auth, "rule 3.1: two auth events of one type and state_key");
        taken[at] = TRUE;
        if (rejected_event_ids != NULL && g_strv_contains(rejected_event_ids, event->event_id))
            return reject(auth, "rule 3.3: an auth event that was rejected");
        if (strcmp(event->room_id, auth->pdu->room_id) != 0)
            return reject(auth, "rule 3.5: an auth event of another room");
    }
    /* Where it is selected at all, the create event is the first of the keys. */
    if (!auth->version->room_id_is_create_hash && !taken[0])
        return reject(auth, "rule 3.4: no create event among the auth events");
    return AUTH_ALLOW;
}

AuthVerdict
event_auth_check_own(const Pdu *pdu, const Pdu *create, const GPtrArray *auth_events,
                     const char *const *rejected_event_ids, const char **ret_reason)
{
    const char *unwanted = NULL;
    Auth auth = {
        .version = pdu->version,
        .pdu = pdu,
        .reason = ret_reason != NULL ? ret_reason : &unwanted,
    };
    if (strcmp(pdu->type, "m.room.create") != 0 &&
        check_selection(&auth, auth_events, rejected_event_ids) == AUTH_REJECT)
        return AUTH_REJECT;
    return event_auth_check(pdu, create, auth_events, ret_reason);
}

/* ---- the choice of auth events ---- */

static void
add_key(EventAuthKeys *keys, const char *type, const char *state_key)
{
    for (guint i = 0; i < keys->count; i++)
        if (strcmp(keys->keys[i].type, type) == 0 &&
            strcmp(keys->keys[i].state_key, state_key) == 0)
            return;
    keys->keys[keys->count++] = (StateKey){type, state_key};
}

static void
add_member_keys(const RoomVersion *version, const char *state_key, const cJSON *content,
                EventAuthKeys *keys)
{
    const char *membership = json_get_string(content, "membership");
    const char *token = json_get_string(
        json_get_object(json_get_object(content, "third_party_invite"), "signed"), "token");
    const char *authoriser = json_get_string(content, "join_authorised_via_users_server");

    add_key(keys, "m.room.member", state_key);
    if (membership == NULL)
        return;
    if (is_one_of(membership, "join", "invite", version->knock ? "knock" : NULL))
        add_key(keys, "m.room.join_rules", "");
    if (strcmp(membership, "invite") == 0 && token != NULL)
        add_key(keys, "m.room.third_party_invite", token);
    if (strcmp(membership, "join") == 0 && version->restricted && authoriser != NULL)
        add_key(keys, "m.room.member", authoriser);
}

void
event_auth_keys(const RoomVersion *version, const char *type, const char *state_key,
                const char *sender, const cJSON *content, EventAuthKeys *ret_keys)
{
    ret_keys->count = 0;
    if (strcmp(type, "m.room.create") == 0)
        return;
    if (!version->room_id_is_create_hash)
        add_key(ret_keys, "m.room.create", "");
    add_key(ret_keys, "m.room.power_levels", "");
    add_key(ret_keys, "m.room.member", sender);
    if (state_key != NULL && strcmp(type, "m.room.member") == 0)
        add_member_keys(version, state_key, content, ret_keys);
}

void
event_auth_keys_of_pdu(const Pdu *pdu, EventAuthKeys *ret_keys)
{
    event_auth_keys(pdu->version, pdu->type, pdu->state_key, pdu->sender, pdu->content, ret_keys);
}
