/* chancery login: log in from a terminal by a signed challenge, on one TLS connection.
 *
 * The challenge's answer names server, purpose, person, device, the device's keys and the
 * connection itself (identity/challenge.h), so what is signed here is worth nothing anywhere else.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <olm/olm.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "identity/challenge.h"
#include "identity/cms.h"
#include "identity/device_link.h"
#include "server/command/command.h"
#include "server/command/desk.h"

#define PICKLE_KEY_BYTES 32

typedef struct {
    DeskOptions desk;
    char *user_id;
    char *device_id;
    char *device_name;
    char *server;
    char *account_file;
    char *output;
    gboolean print;
    gboolean refresh;
} LoginOptions;

static void
login_options_clear(LoginOptions *options)
{
    desk_options_clear(&options->desk);
    g_free(options->user_id);
    g_free(options->device_id);
    g_free(options->device_name);
    g_free(options->server);
    g_free(options->account_file);
    g_free(options->output);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(LoginOptions, login_options_clear)

/* ---- the device's keys, by libolm ---- */

typedef struct {
    OlmAccount *account;
    char *ed25519;
    char *curve25519;
} DeviceKeys;

static void
device_keys_clear(DeviceKeys *keys)
{
    if (keys->account != NULL)
        olm_clear_account(keys->account);
    g_free(keys->account);
    g_free(keys->ed25519);
    g_free(keys->curve25519);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DeviceKeys, device_keys_clear)

static gboolean
olm_failed(OlmAccount *account, GError **error)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "libolm: %s",
                olm_account_last_error(account));
    return FALSE;
}

static gboolean
device_keys_make(DeviceKeys *keys, GError **error)
{
    keys->account = olm_account(g_malloc(olm_account_size()));
    gsize length = olm_create_account_random_length(keys->account);
    g_autofree guint8 *random = g_malloc(length);
    randombytes_buf(random, length);
    gsize result = olm_create_account(keys->account, random, length);
    sodium_memzero(random, length);
    if (result == olm_error())
        return olm_failed(keys->account, error);

    gsize identity_length = olm_account_identity_keys_length(keys->account);
    g_autofree char *identity = g_malloc0(identity_length);
    if (olm_account_identity_keys(keys->account, identity, identity_length) == olm_error())
        return olm_failed(keys->account, error);
    g_autoptr(cJSON) json = json_parse(identity, identity_length, &json_limits_event, error);
    if (json == NULL)
        return FALSE;
    keys->ed25519 = g_strdup(json_get_string(json, "ed25519"));
    keys->curve25519 = g_strdup(json_get_string(json, "curve25519"));
    return TRUE;
}

static char *
device_keys_sign(DeviceKeys *keys, const cJSON *object, GError **error)
{
    g_autoptr(GBytes) bytes = json_canonical(object, error);
    if (bytes == NULL)
        return NULL;
    gsize length = olm_account_signature_length(keys->account);
    g_autofree char *signature = g_malloc0(length + 1);
    if (olm_account_sign(keys->account, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes),
                         signature, length) == olm_error()) {
        olm_failed(keys->account, error);
        return NULL;
    }
    return g_steal_pointer(&signature);
}

/* The body of POST /keys/upload. */
static cJSON *
device_keys_upload(DeviceKeys *keys, const char *user_id, const char *device_id, GError **error)
{
    g_autoptr(cJSON) device = cJSON_CreateObject();
    g_autofree char *ed25519 = g_strdup_printf("ed25519:%s", device_id);
    g_autofree char *curve25519 = g_strdup_printf("curve25519:%s", device_id);

    cJSON *algorithms = cJSON_AddArrayToObject(device, "algorithms");
    cJSON_AddItemToArray(algorithms, cJSON_CreateString("m.olm.v1.curve25519-aes-sha2"));
    cJSON_AddItemToArray(algorithms, cJSON_CreateString("m.megolm.v1.aes-sha2"));
    cJSON_AddStringToObject(device, "user_id", user_id);
    cJSON_AddStringToObject(device, "device_id", device_id);
    cJSON *list = cJSON_AddObjectToObject(device, "keys");
    cJSON_AddStringToObject(list, ed25519, keys->ed25519);
    cJSON_AddStringToObject(list, curve25519, keys->curve25519);
    g_autofree char *signature = device_keys_sign(keys, device, error);
    if (signature == NULL)
        return NULL;
    cJSON *of_user =
        cJSON_AddObjectToObject(cJSON_AddObjectToObject(device, "signatures"), user_id);
    cJSON_AddStringToObject(of_user, ed25519, signature);
    cJSON *body = cJSON_CreateObject();
    cJSON_AddItemToObject(body, "device_keys", g_steal_pointer(&device));
    return body;
}

/* ---- files that hold secrets ---- */

/* Made anew with mode 0600: a file that is there is never written over. */
static gboolean
write_secret(const char *path, const char *text, GError **error)
{
    gsize length = strlen(text);
    int fd = g_open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    gboolean written = fd >= 0 && write(fd, text, length) == (ssize_t)length && fsync(fd) == 0;
    int number = errno;
    if (fd >= 0)
        written = close(fd) == 0 && written;
    if (!written)
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(number), "%s: %s", path,
                    g_strerror(number));
    return written;
}

/* The account, pickled by libolm, and the key of the pickle: for the client that goes on with it.
 */
static gboolean
save_account(const char *path, DeviceKeys *keys, const char *device_id, GError **error)
{
    guint8 secret[PICKLE_KEY_BYTES];
    char key[PICKLE_KEY_BYTES * 2 + 1];
    gsize length = olm_pickle_account_length(keys->account);
    g_autofree char *pickle = g_malloc0(length + 1);
    g_autoptr(cJSON) json = cJSON_CreateObject();

    randombytes_buf(secret, sizeof secret);
    sodium_bin2hex(key, sizeof key, secret, sizeof secret);
    if (olm_pickle_account(keys->account, key, strlen(key), pickle, length) == olm_error())
        return olm_failed(keys->account, error);
    cJSON_AddStringToObject(json, "device_id", device_id);
    cJSON_AddStringToObject(json, "olm_account", pickle);
    cJSON_AddStringToObject(json, "pickle_key", key);
    char *text = cJSON_Print(json);
    gboolean saved = write_secret(path, text, error);
    sodium_memzero(text, strlen(text));
    sodium_memzero(secret, sizeof secret);
    sodium_memzero(key, sizeof key);
    cJSON_free(text);
    return saved;
}

/* ---- the way in ---- */

/* What the officer's or official's eyes should see before the card signs. */
static gboolean
is_what_was_meant(const LoginOptions *options, const cJSON *challenge, GError **error)
{
    const char *server_name = json_get_string(challenge, "server_name");
    const char *user_id = json_get_string(challenge, "user_id");
    const char *purpose = json_get_string(challenge, "purpose");
    const char *colon = user_id != NULL ? strchr(user_id, ':') : NULL;

    if (json_get_string(challenge, "nonce") == NULL || server_name == NULL || colon == NULL ||
        g_strcmp0(purpose, CHALLENGE_PURPOSE_LOGIN) != 0 || strcmp(colon + 1, server_name) != 0) {
        g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                            "that is not a challenge of a log-in; nothing was signed");
        return FALSE;
    }
    if (options->user_id != NULL && strcmp(options->user_id, user_id) != 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "this certificate is of %s, not of %s; nothing was signed", user_id,
                    options->user_id);
        return FALSE;
    }
    return TRUE;
}

static cJSON *
sign_answer(Desk *desk, const LoginOptions *options, const cJSON *challenge, const DeviceKeys *keys,
            GError **error)
{
    ChallengeContent content = {
        .nonce = json_get_string(challenge, "nonce"),
        .server_name = json_get_string(challenge, "server_name"),
        .purpose = CHALLENGE_PURPOSE_LOGIN,
        .user_id = json_get_string(challenge, "user_id"),
        .device_id = options->device_id,
        .ed25519 = keys->ed25519,
        .curve25519 = keys->curve25519,
        .tls_exporter = desk_exporter(desk),
    };
    if (content.tls_exporter == NULL) {
        g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                            "the TLS connection gives no exporter value; nothing was signed");
        return NULL;
    }
    g_autoptr(GBytes) bytes = challenge_content(&content);
    g_autoptr(GBytes) signature = cms_sign(desk_credential(desk), bytes, error);
    if (signature == NULL)
        return NULL;
    gsize length;
    const void *data = g_bytes_get_data(signature, &length);
    g_autofree char *base64 = g_base64_encode(data, length);
    g_autofree char *text = g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "content", text);
    cJSON_AddStringToObject(body, "signature", base64);
    if (options->device_name != NULL)
        cJSON_AddStringToObject(body, "initial_device_display_name", options->device_name);
    if (options->refresh)
        cJSON_AddTrueToObject(body, "refresh_token");
    return body;
}

static cJSON *
log_in(Desk *desk, const LoginOptions *options, const DeviceKeys *keys, GError **error)
{
    g_autoptr(cJSON) wish = cJSON_CreateObject();
    cJSON_AddStringToObject(wish, "purpose", CHALLENGE_PURPOSE_LOGIN);
    g_autoptr(cJSON) challenge =
        desk_request(desk, "POST", "/_chancery/v1/challenge", wish, NULL, error);
    if (challenge == NULL || !is_what_was_meant(options, challenge, error))
        return NULL;
    fprintf(stderr, "Signing the log-in of %s at %s, device %s.\n",
            json_get_string(challenge, "user_id"), json_get_string(challenge, "server_name"),
            options->device_id);
    g_autoptr(cJSON) answer = sign_answer(desk, options, challenge, keys, error);
    cJSON *session = answer != NULL
                         ? desk_request(desk, "POST", "/_chancery/v1/login", answer, NULL, error)
                         : NULL;
    if (session == NULL && desk_was_reconnected(desk))
        g_prefix_error(error, "the connection was opened anew between challenge and answer; try "
                              "again: ");
    return session;
}

/* Keys are of use once other devices can ask for them. */
static gboolean
upload_keys(Desk *desk, const LoginOptions *options, const cJSON *session, DeviceKeys *keys,
            GError **error)
{
    const cJSON *homeserver =
        json_get_object(json_get_object(session, "well_known"), "m.homeserver");
    const char *base =
        options->server != NULL ? options->server : json_get_string(homeserver, "base_url");
    g_autoptr(cJSON) body = device_keys_upload(keys, json_get_string(session, "user_id"),
                                               json_get_string(session, "device_id"), error);
    if (body == NULL)
        return FALSE;
    g_autofree char *url = g_strdup_printf("%s/_matrix/client/v3/keys/upload", base);
    g_autoptr(cJSON) answer =
        desk_request(desk, "POST", url, body, json_get_string(session, "access_token"), error);
    if (answer == NULL)
        g_prefix_error(error, "logged in, but the device's keys were not taken: ");
    return answer != NULL;
}

static gboolean
hand_over(const LoginOptions *options, cJSON *session, GError **error)
{
    const cJSON *homeserver =
        json_get_object(json_get_object(session, "well_known"), "m.homeserver");
    const char *base = json_get_string(homeserver, "base_url");
    gboolean done = TRUE;

    cJSON_AddStringToObject(session, "base_url",
                            options->server != NULL ? options->server
                            : base != NULL          ? base
                                                    : "");
    char *text = cJSON_Print(session);
    if (options->output != NULL)
        done = write_secret(options->output, text, error);
    if (options->print)
        done = done && printf("%s\n", text) > 0 && fflush(stdout) == 0;
    sodium_memzero(text, strlen(text));
    cJSON_free(text);
    return done;
}

static gboolean
run(LoginOptions *options, GError **error)
{
    g_auto(DeviceKeys) keys = {0};

    if (options->output == NULL && !options->print) {
        g_set_error_literal(
            error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
            "say where the tokens go: --output FILE (made with mode 0600) or --print");
        return FALSE;
    }
    if (options->device_id == NULL)
        options->device_id = device_id_new();
    if (options->account_file != NULL && !device_keys_make(&keys, error))
        return FALSE;
    g_autoptr(Desk) desk = desk_new(&options->desk, error);
    g_autoptr(cJSON) session = desk != NULL ? log_in(desk, options, &keys, error) : NULL;
    if (session == NULL)
        return FALSE;
    /* The tokens first: whatever fails after this, the session can be used, or ended. */
    if (keys.account != NULL) {
        cJSON_AddStringToObject(session, "ed25519", keys.ed25519);
        cJSON_AddStringToObject(session, "curve25519", keys.curve25519);
    }
    return hand_over(options, session, error) &&
           (keys.account == NULL ||
            (save_account(options->account_file, &keys, options->device_id, error) &&
             upload_keys(desk, options, session, &keys, error)));
}

int
command_login(int argc, char **argv)
{
    g_auto(LoginOptions) options = {0};
    const GOptionEntry own[] = {
        {"user", 0, 0, G_OPTION_ARG_STRING, &options.user_id, "Refuse to sign for anybody else",
         "@NAME:SERVER"},
        {"device-id", 0, 0, G_OPTION_ARG_STRING, &options.device_id,
         "Continue this device; without it a new one is made", "ID"},
        {"device-name", 0, 0, G_OPTION_ARG_STRING, &options.device_name,
         "Shown in lists of devices", "TEXT"},
        {"server", 0, 0, G_OPTION_ARG_STRING, &options.server,
         "The client listener; without it the one that the log-in names", "URL"},
        {"account", 0, 0, G_OPTION_ARG_FILENAME, &options.account_file,
         "Make the device's keys with libolm, bind them to the log-in, upload them, and keep the "
         "account in this new file",
         "FILE"},
        {"output", 0, 0, G_OPTION_ARG_FILENAME, &options.output,
         "Write the tokens to this new file, mode 0600", "FILE"},
        {"print", 0, 0, G_OPTION_ARG_NONE, &options.print, "Print the tokens", NULL},
        {"refresh", 0, 0, G_OPTION_ARG_NONE, &options.refresh,
         "Ask for a short access token and a refresh token", NULL},
        {NULL},
    };
    g_autofree GOptionEntry *entries = desk_option_entries(&options.desk, own);
    g_autoptr(GError) error = NULL;

    if (!command_options(&argc, &argv, entries))
        return 2;
    if (!run(&options, &error))
        return command_failed(error);
    return 0;
}
