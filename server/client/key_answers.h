/* server/client/key_answers.h: what this server answers about its own users' keys.
 * One place for both the client API (/keys/query, /keys/claim) and the server-server API
 * (/user/keys/query, /user/keys/claim, /user/devices).  Each call runs on the borrowed connection.
 */
#pragma once

#include "identity/json.h"
#include "server/client/sync_hub.h"
#include "storage/store.h"

/* Add @user_id's keys to the maps of @answer (device_keys, master_keys, self_signing_keys and, for
 * the user alone, user_signing_keys).  @devices is an array of device ids; empty or NULL: all.
 * @requester: the user who asks, or NULL for a partner: others' signatures are shown to nobody
 * else. */
gboolean
key_answers_add_user(StoreConnection *connection, const char *user_id, const cJSON *devices,
                     const char *requester, cJSON *answer, GError **error);

/* Onto the master keys of others in @answer, the signatures that @requester made: partners' answers
 * do not hold them, for whom one has verified is one's own knowledge. */
gboolean key_answers_add_own_signatures(StoreConnection *connection, const char *requester,
                                        cJSON *answer, GError **error);

/* How many of these may be asked for at a time, by a client or a partner: users of a query, devices
 * of a claim. */
#define KEY_ANSWERS_MAX 5000u
/* TRUE: @users (user id -> what is wanted of them) are not more; otherwise 400 M_TOO_LARGE. */
gboolean key_answers_may_ask(const cJSON *users, gboolean claim, GError **error);

/* Claim one key of each wanted device (@wanted: device id -> algorithm) into @one_time_keys; @hub
 * learns that fewer are left. */
gboolean key_answers_claim(SyncHub *hub, StoreConnection *connection, const char *user_id,
                           const cJSON *wanted, cJSON *one_time_keys, GError **error);

/* {"signed_curve25519": n, …}: signed_curve25519 is always counted, 0 too; and
 * ["signed_curve25519", …]. */
cJSON *key_answers_one_time_counts(StoreConnection *connection, const char *user_id,
                                   const char *device_id, GError **error);
cJSON *key_answers_unused_fallback(StoreConnection *connection, const char *user_id,
                                   const char *device_id, GError **error);

/* The object @name of @parent, made when it is not there. */
cJSON *key_answers_object(cJSON *parent, const char *name);
