/* server/client/cross_signing.c: the user's cross-signing keys: /keys/device_signing/upload.
 *
 * The first upload needs a session whose certificate was proved a short while ago; later ones, or
 * any change of a key, need a fresh proof (UIA): who changes the master key becomes the person for
 * everybody else. Source: client-server API v1.19, "Cross-signing". */
#include "server/client/cross_signing.h"

#include <string.h>

#include "identity/clock.h"
#include "identity/device_keys.h"
#include "identity/refusal.h"
#include "identity/session.h"
#include "server/client/device_lists.h"
#include "server/client/key_answers.h"
#include "server/client/uia.h"
#include "server/server.h"
#include "storage/device_store.h"
#include "storage/key_store.h"

#define FIRST_UPLOAD_MS ((gint64)10 * 60 * 1000)

static const struct {
    const char *member; /* of the body */
    const char *usage;
    const char *map; /* of a /keys/query answer */
} kinds[] = {
    {"master_key", "master", "master_keys"},
    {"self_signing_key", "self_signing", "self_signing_keys"},
    {"user_signing_key", "user_signing", "user_signing_keys"},
};

typedef struct {
    Request *request;
    GBytes *keys[G_N_ELEMENTS(kinds)]; /* NULL: not uploaded */
    cJSON *stored;                     /* what is in force: the maps of a /keys/query answer */
    char *replaced_master;             /* its public key, or NULL */
} Upload;

static void
upload_free(gpointer data)
{
    Upload *upload = data;
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        g_clear_pointer(&upload->keys[i], g_bytes_unref);
    cJSON_Delete(upload->stored);
    g_free(upload->replaced_master);
    g_free(upload);
}

static const cJSON *
stored_key(const cJSON *stored, guint kind, const char *user_id)
{
    return json_get_object(json_get_object(stored, kinds[kind].map), user_id);
}

/* The key of a kind once the upload is in force. */
static const cJSON *
key_in_force(const Upload *upload, guint kind)
{
    const cJSON *uploaded = json_get_object(request_json(upload->request), kinds[kind].member);
    return uploaded != NULL ? uploaded
                            : stored_key(upload->stored, kind, request_user_id(upload->request));
}

static gboolean
upload_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Upload *upload = data;
    const char *user_id = request_user_id(upload->request);
    if (upload->replaced_master != NULL)
        key_store_drop_signatures(batch, user_id, upload->replaced_master);
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (upload->keys[i] != NULL)
            key_store_put_cross_signing_key(batch, user_id, kinds[i].usage, upload->keys[i]);
    return device_lists_signing_keys_changed(batch, request_server(upload->request), user_id,
                                             key_in_force(upload, 0), key_in_force(upload, 1),
                                             error);
}

static void
upload_done(gpointer data, gint64 position, const GError *error)
{
    Upload *upload = data;
    request_answer(upload->request, error == NULL ? response_empty_object() : NULL, error);
}

/* Each key uploaded is well formed and hangs on the master key, the uploaded one or the one in
 * force. */
static gboolean
check_keys(const cJSON *body, const cJSON *stored, const char *user_id, GError **error)
{
    const cJSON *master = json_get_object(body, "master_key");
    if (master == NULL)
        master = stored_key(stored, 0, user_id);
    const char *master_public = master != NULL ? device_keys_cross_signing_public(master) : NULL;
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const cJSON *key = NULL;
        if (!json_optional_object(body, kinds[i].member, &key, error) ||
            (key != NULL &&
             !device_keys_check_cross_signing(
                 key, user_id, kinds[i].usage,
                 i == 0 ? NULL : (master_public != NULL ? master_public : ""), error)))
            return FALSE;
    }
    return TRUE;
}

static gboolean
same_public(const cJSON *a, const cJSON *b)
{
    return a != NULL && b != NULL &&
           g_strcmp0(device_keys_cross_signing_public(a), device_keys_cross_signing_public(b)) == 0;
}

/* Key ids and device ids are names of one kind: a device that is named like a cross-signing key
 * could be taken for it. */
static gboolean
check_names(StoreConnection *connection, const cJSON *body, const char *user_id, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const cJSON *key = json_get_object(body, kinds[i].member);
        g_autoptr(DeviceRow) device = NULL;
        if (key == NULL)
            continue;
        if (!device_store_find(connection, user_id, device_keys_cross_signing_public(key), &device,
                               error))
            return FALSE;
        if (device == NULL)
            continue;
        refusal_set(error, 400, "M_INVALID_PARAM",
                    "A device of yours has this key as its name: log it out, or make other keys");
        return FALSE;
    }
    return TRUE;
}

/* TRUE when the upload changes no key that is in force. */
static gboolean
changes_nothing(const cJSON *body, const cJSON *stored, const char *user_id)
{
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const cJSON *key = json_get_object(body, kinds[i].member);
        if (key != NULL && !same_public(key, stored_key(stored, i, user_id)))
            return FALSE;
    }
    return TRUE;
}

/* Takes @stored. */
static Upload *
upload_new(Request *request, cJSON *stored, GError **error)
{
    const cJSON *old_master = stored_key(stored, 0, request_user_id(request));
    Upload *upload = g_new0(Upload, 1);
    upload->request = request;
    upload->stored = stored;
    request_keep(request, upload, upload_free);
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const cJSON *key = json_get_object(request_json(request), kinds[i].member);
        if (key == NULL)
            continue;
        upload->keys[i] = device_keys_bytes(key, DEVICE_KEYS_BYTES_MAX, error);
        if (upload->keys[i] == NULL)
            return NULL;
        if (i == 0 && old_master != NULL && !same_public(key, old_master))
            upload->replaced_master = g_strdup(device_keys_cross_signing_public(old_master));
    }
    return upload;
}

Response *
keys_device_signing_upload_post(Request *request, GError **error)
{
    const char *user_id = request_user_id(request);
    const cJSON *body = request_json(request);
    g_autoptr(cJSON) stored = cJSON_CreateObject();
    {
        g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
        if (connection == NULL ||
            !key_answers_add_user(connection, user_id, NULL, user_id, stored, error) ||
            !check_keys(body, stored, user_id, error) ||
            !check_names(connection, body, user_id, error))
            return NULL;
    }
    if (changes_nothing(body, stored, user_id))
        return response_empty_object();

    gboolean first = stored_key(stored, 0, user_id) == NULL;
    gint64 proof_age_ms = clock_wall_ms() - session_proof_ms(request_session(request));
    Response *challenge = NULL;
    if (!(first && proof_age_ms < FIRST_UPLOAD_MS) && !uia_require(request, &challenge, error))
        return challenge;
    Upload *upload = upload_new(request, g_steal_pointer(&stored), error);
    if (upload == NULL ||
        !lane_submit(request_server(request)->lane, upload_apply, upload_done, upload, error))
        return NULL;
    return RESPONSE_LATER;
}
