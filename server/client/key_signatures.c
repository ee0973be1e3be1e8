/* server/client/key_signatures.c: /keys/signatures/upload: one key vouches for another.
 *
 * Three relations count, all others are refused (client-server API, "Cross-signing"): the user's
 * self-signing key signs one of the user's devices; one of the user's devices signs the user's
 * master key; the user's user-signing key signs another user's master key.  Each signature is
 * verified. */
#include "server/client/key_signatures.h"

#include <string.h>

#include "identity/device_keys.h"
#include "identity/refusal.h"
#include "server/client/device_lists.h"
#include "server/client/key_answers.h"
#include "server/server.h"
#include "storage/key_store.h"

typedef struct {
    char *user_id; /* whose key is signed */
    char *target;  /* device id or public key */
    char *key_id;  /* the signer's */
    char *signature;
} NewSignature;

typedef struct {
    Request *request;
    GPtrArray *signatures; /* NewSignature */
    cJSON *failures;
    cJSON *own; /* the uploader's own keys as they are stored: the maps of /keys/query */
} Upload;

static void
new_signature_free(gpointer data)
{
    NewSignature *signature = data;
    g_free(signature->user_id);
    g_free(signature->target);
    g_free(signature->key_id);
    g_free(signature->signature);
    g_free(signature);
}

static void
upload_free(gpointer data)
{
    Upload *upload = data;
    g_ptr_array_unref(upload->signatures);
    cJSON_Delete(upload->failures);
    cJSON_Delete(upload->own);
    g_free(upload);
}

static void
fail(Upload *upload, const char *user_id, const char *target, const char *errcode,
     const char *sentence)
{
    cJSON *failure = cJSON_CreateObject();
    cJSON_AddStringToObject(failure, "errcode", errcode);
    cJSON_AddStringToObject(failure, "error", sentence);
    cJSON_AddItemToObject(key_answers_object(upload->failures, user_id), target, failure);
}

/* The same key but for signatures and unsigned. */
static gboolean
same_key(const cJSON *a, const cJSON *b)
{
    g_autoptr(cJSON) left = cJSON_Duplicate(a, TRUE);
    g_autoptr(cJSON) right = cJSON_Duplicate(b, TRUE);
    const char *const loose[] = {"signatures", "unsigned"};
    for (guint i = 0; i < G_N_ELEMENTS(loose); i++) {
        cJSON_DeleteItemFromObjectCaseSensitive(left, loose[i]);
        cJSON_DeleteItemFromObjectCaseSensitive(right, loose[i]);
    }
    return cJSON_Compare(left, right, TRUE);
}

static const cJSON *
own_cross_signing(const Upload *upload, const char *map)
{
    return json_get_object(json_get_object(upload->own, map), request_user_id(upload->request));
}

/* The stored form of what is said to be signed; NULL when this server holds no such key. */
static const cJSON *
signed_key(const Upload *upload, const char *target)
{
    const char *user_id = request_user_id(upload->request);
    const cJSON *device = json_get_object(
        json_get_object(json_get_object(upload->own, "device_keys"), user_id), target);
    if (device != NULL)
        return device;
    const cJSON *master = own_cross_signing(upload, "master_keys");
    const char *master_public = master != NULL ? device_keys_cross_signing_public(master) : NULL;
    return g_strcmp0(master_public, target) == 0 ? master : NULL;
}

/* The public key behind @key_id, if the relation counts; NULL otherwise. */
static const char *
signer_key(const Upload *upload, const char *owner, const cJSON *object, const char *key_id)
{
    const char *user_id = request_user_id(upload->request);
    const char *map = strcmp(owner, user_id) != 0                    ? "user_signing_keys"
                      : json_get_string(object, "device_id") != NULL ? "self_signing_keys"
                                                                     : NULL;
    if (!g_str_has_prefix(key_id, "ed25519:"))
        return NULL;
    if (map == NULL) { /* the master key: by one of the user's own devices */
        const char *device_id = key_id + strlen("ed25519:");
        const cJSON *devices =
            json_get_object(json_get_object(upload->own, "device_keys"), user_id);
        return device_keys_ed25519(json_get_object(devices, device_id), device_id);
    }
    const cJSON *key = own_cross_signing(upload, map);
    const char *public_key = key != NULL ? device_keys_cross_signing_public(key) : NULL;
    return g_strcmp0(public_key, key_id + strlen("ed25519:")) == 0 ? public_key : NULL;
}

static void
take_object(Upload *upload, const char *owner, const cJSON *object)
{
    const char *user_id = request_user_id(upload->request);
    const char *target = object->string;

    if (!cJSON_IsObject(object) || g_strcmp0(json_get_string(object, "user_id"), owner) != 0) {
        fail(upload, owner, target, "M_INVALID_PARAM", "The signed key must name its user");
        return;
    }
    if (strcmp(owner, user_id) == 0) {
        const cJSON *stored = signed_key(upload, target);
        if (stored == NULL || !same_key(stored, object)) {
            fail(upload, owner, target, "M_NOT_FOUND",
                 "You have no such device or master key, or it reads differently here");
            return;
        }
    } else if (!device_keys_check_cross_signing(object, owner, "master", NULL, NULL) ||
               g_strcmp0(device_keys_cross_signing_public(object), target) != 0) {
        fail(upload, owner, target, "M_INVALID_PARAM",
             "Of another user, only a master key is signed");
        return;
    }

    const cJSON *mine = json_get_object(json_get_object(object, "signatures"), user_id);
    guint taken = 0;
    for (const cJSON *item = mine != NULL ? mine->child : NULL; item != NULL; item = item->next) {
        const char *public_key = signer_key(upload, owner, object, item->string);
        if (public_key == NULL) /* e.g. the device's own signature, which came with its keys */
            continue;
        if (!device_keys_signature_valid(object, user_id, item->string, public_key)) {
            fail(upload, owner, target, "M_INVALID_SIGNATURE", "The signature does not verify");
            return;
        }
        NewSignature *signature = g_new0(NewSignature, 1);
        signature->user_id = g_strdup(owner);
        signature->target = g_strdup(target);
        signature->key_id = g_strdup(item->string);
        signature->signature = g_strdup(cJSON_GetStringValue(item));
        g_ptr_array_add(upload->signatures, signature);
        taken++;
    }
    if (taken == 0)
        fail(upload, owner, target, "M_INVALID_SIGNATURE",
             "No signature by a key of yours that may sign this key");
}

/* Partners learn of signatures on the user's own devices and master key; one on another user's
 * master key is for the signer alone. */
static gboolean
tell(LaneBatch *batch, const Upload *upload, const NewSignature *signature, GError **error)
{
    const char *user_id = request_user_id(upload->request);
    Server *server = request_server(upload->request);
    const cJSON *master = own_cross_signing(upload, "master_keys");

    if (strcmp(signature->user_id, user_id) != 0)
        return device_lists_tell(batch, user_id, error);
    if (master != NULL &&
        g_strcmp0(device_keys_cross_signing_public(master), signature->target) == 0)
        return device_lists_signing_keys_changed(
            batch, server, user_id, master, own_cross_signing(upload, "self_signing_keys"), error);
    return device_lists_changed(batch, server, user_id, signature->target, error);
}

static gboolean
upload_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Upload *upload = data;
    const char *user_id = request_user_id(upload->request);

    for (guint i = 0; i < upload->signatures->len; i++) {
        const NewSignature *signature = g_ptr_array_index(upload->signatures, i);
        key_store_put_signature(batch, signature->user_id, signature->target, user_id,
                                signature->key_id, signature->signature);
        if (!tell(batch, upload, signature, error))
            return FALSE;
    }
    return TRUE;
}

static Response *
upload_answer(Upload *upload)
{
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddItemToObject(answer, "failures", g_steal_pointer(&upload->failures));
    return response_value(200, answer);
}

static void
upload_done(gpointer data, gint64 position, const GError *error)
{
    Upload *upload = data;
    Request *request = upload->request;
    request_answer(request, error == NULL ? upload_answer(upload) : NULL, error);
}

Response *
keys_signatures_upload_post(Request *request, GError **error)
{
    const cJSON *body = request_json(request);
    guint count = 0;
    Upload *upload = g_new0(Upload, 1);
    upload->request = request;
    upload->signatures = g_ptr_array_new_with_free_func(new_signature_free);
    upload->failures = cJSON_CreateObject();
    upload->own = cJSON_CreateObject();
    request_keep(request, upload, upload_free);

    {
        g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
        if (connection == NULL ||
            !key_answers_add_user(connection, request_user_id(request), NULL,
                                  request_user_id(request), upload->own, error))
            return NULL;
    }
    for (const cJSON *user = body->child; user != NULL; user = user->next)
        for (const cJSON *object = user->child; object != NULL && cJSON_IsObject(user);
             object = object->next) {
            if (++count > DEVICE_KEYS_SIGNATURES_MAX)
                return response_error(400, "M_INVALID_PARAM",
                                      "Upload at most %u signed keys at a time",
                                      DEVICE_KEYS_SIGNATURES_MAX);
            take_object(upload, user->string, object);
        }
    if (upload->signatures->len == 0)
        return upload_answer(upload);
    if (!lane_submit(request_server(request)->lane, upload_apply, upload_done, upload, error))
        return NULL;
    return RESPONSE_LATER;
}
