#include "identity/server_key.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "identity/unpadded_base64.h"

#define FILE_BYTES_MAX 512
#define ID_LENGTH_MAX 64

struct ServerKey {
    char *key_id;
    char *public_base64;
    guint8 public_key[PUBLIC_KEY_BYTES];
    guint8 *secret; /* sodium_malloc: crypto_sign_SECRETKEYBYTES */
};

/* Seeds that ship with software or specifications: whoever can read can sign. */
static const char *const known_seeds[] = {
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", /* all zero */
    "//////////////////////////////////////////8", /* all ones */
    "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1", /* the specification's test vector */
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", /* 0, 1, 2 … 31 */
    "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusA64cr2A", /* RFC 8032, test 1 */
};

static gboolean
seed_is_known(const guint8 *seed)
{
    guint8 known[crypto_sign_SEEDBYTES];
    for (gsize i = 0; i < G_N_ELEMENTS(known_seeds); i++)
        if (unpadded_base64_decode_exact(known_seeds[i], BASE64_STANDARD, known, sizeof known) &&
            sodium_memcmp(known, seed, sizeof known) == 0)
            return TRUE;
    /* one byte repeated is nobody's random key either */
    return memcmp(seed, seed + 1, crypto_sign_SEEDBYTES - 1) == 0;
}

static ServerKey *
key_from_seed(const char *id, const guint8 *seed)
{
    ServerKey *key = g_new0(ServerKey, 1);
    if (sodium_init() < 0 || (key->secret = sodium_malloc(crypto_sign_SECRETKEYBYTES)) == NULL)
        g_error("libsodium has no protected memory for the signing key");
    key->key_id = g_strconcat("ed25519:", id, NULL);
    crypto_sign_seed_keypair(key->public_key, key->secret, seed);
    key->public_base64 = unpadded_base64_encode(key->public_key, PUBLIC_KEY_BYTES, BASE64_STANDARD);
    sodium_mprotect_readonly(key->secret);
    return key;
}

ServerKey *
server_key_new_for_tests(const char *id, const guint8 *seed)
{
    return key_from_seed(id, seed);
}

void
server_key_free(ServerKey *key)
{
    if (key == NULL)
        return;
    sodium_free(key->secret); /* wipes */
    g_free(key->key_id);
    g_free(key->public_base64);
    g_free(key);
}

static gboolean
id_is_valid(const char *id)
{
    gsize length = strlen(id);
    return length >= 1 && length <= ID_LENGTH_MAX &&
           strspn(id, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "_") == length;
}

/* @line is changed: it is cut at its blanks. */
static ServerKey *
key_from_line(char *line, const char *path, GError **error)
{
    guint8 seed[crypto_sign_SEEDBYTES];
    ServerKey *key = NULL;
    char *rest = NULL;
    const char *algorithm = strtok_r(line, " \n", &rest);
    const char *id = strtok_r(NULL, " \n", &rest);
    const char *text = strtok_r(NULL, " \n", &rest);

    if (algorithm == NULL || strcmp(algorithm, "ed25519") != 0 || id == NULL || !id_is_valid(id) ||
        text == NULL || strtok_r(NULL, " \n", &rest) != NULL ||
        !unpadded_base64_decode_exact(text, BASE64_STANDARD, seed, sizeof seed))
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s: one line 'ed25519 ID SEED' is expected, SEED 32 bytes in base64", path);
    else if (seed_is_known(seed))
        g_set_error(
            error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
            "%s: this signing key is publicly known; remove the file and a fresh key is made",
            path);
    else
        key = key_from_seed(id, seed);
    sodium_memzero(seed, sizeof seed);
    return key;
}

static gboolean
file_fail(const char *path, const char *what, GError **error)
{
    int number = errno;
    g_set_error(error, G_FILE_ERROR, (int)g_file_error_from_errno(number), "%s: %s: %s", path, what,
                g_strerror(number));
    return FALSE;
}

ServerKey *
server_key_load(const char *path, GError **error)
{
    char line[FILE_BYTES_MAX + 1];
    struct stat status;
    ServerKey *key = NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        file_fail(path, "cannot open the signing key", error);
        return NULL;
    }
    ssize_t length = -1;
    if (fstat(file, &status) != 0)
        file_fail(path, "cannot look at the signing key", error);
    else if (!S_ISREG(status.st_mode) || (status.st_mode & 077) != 0)
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PERM,
                    "%s: the signing key must be a file that only its owner may read: chmod 600",
                    path);
    else if ((length = read(file, line, FILE_BYTES_MAX)) < 0)
        file_fail(path, "cannot read the signing key", error);
    close(file);
    if (length >= 0) {
        line[length] = '\0';
        key = key_from_line(line, path, error);
    }
    sodium_memzero(line, sizeof line);
    return key;
}

/* The file appears whole or not at all: written beside, linked into place (which fails if another
 * came first). */
static gboolean
key_file_write(const char *path, const char *line, GError **error)
{
    g_autofree char *beside = g_strdup_printf("%s.new.%d", path, (int)getpid());
    gsize length = strlen(line);
    int file = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0)
        return file_fail(beside, "cannot write the signing key", error);
    gboolean good = write(file, line, length) == (ssize_t)length && fsync(file) == 0;
    good = close(file) == 0 && good;
    good = good && link(beside, path) == 0;
    if (!good)
        file_fail(path, "cannot write the signing key", error);
    unlink(beside);
    return good;
}

static gboolean
key_file_create(const char *path, GError **error)
{
    guint8 seed[crypto_sign_SEEDBYTES];
    char id[9];
    if (sodium_init() < 0)
        g_error("libsodium does not start: no source of random numbers");
    randombytes_buf(seed, sizeof seed);
    g_snprintf(id, sizeof id, "k%06x", (guint)randombytes_uniform(1 << 24));
    char *text = unpadded_base64_encode(seed, sizeof seed, BASE64_STANDARD);
    char *line = g_strdup_printf("ed25519 %s %s\n", id, text);
    gboolean good = key_file_write(path, line, error);
    sodium_memzero(line, strlen(line));
    sodium_memzero(text, strlen(text));
    sodium_memzero(seed, sizeof seed);
    g_free(line);
    g_free(text);
    return good;
}

ServerKey *
server_key_load_or_create(const char *path, GError **error)
{
    if (!g_file_test(path, G_FILE_TEST_EXISTS) && !key_file_create(path, error))
        return NULL;
    return server_key_load(path, error);
}

const char *
server_key_id(const ServerKey *key)
{
    return key->key_id;
}

const guint8 *
server_key_public(const ServerKey *key)
{
    return key->public_key;
}

const char *
server_key_public_base64(const ServerKey *key)
{
    return key->public_base64;
}

char *
server_key_sign(const ServerKey *key, const void *bytes, gsize length)
{
    guint8 signature[crypto_sign_BYTES];
    crypto_sign_detached(signature, NULL, bytes, length, key->secret);
    return unpadded_base64_encode(signature, sizeof signature, BASE64_STANDARD);
}

gboolean
server_key_sign_json(const ServerKey *key, const char *server_name, cJSON *object, GError **error)
{
    g_autoptr(GBytes) bytes = signed_json_bytes(object, error);
    if (bytes == NULL)
        return FALSE;
    g_autofree char *signature =
        server_key_sign(key, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    return signed_json_add_signature(object, server_name, key->key_id, signature, error);
}

GBytes *
server_key_document(const ServerKey *key, const char *server_name, gint64 valid_until_ts,
                    GError **error)
{
    g_autoptr(cJSON) document = cJSON_CreateObject();
    cJSON *keys = cJSON_CreateObject();
    cJSON *ours = cJSON_CreateObject();
    cJSON_AddItemToObject(document, "server_name", cJSON_CreateString(server_name));
    cJSON_AddItemToObject(document, "valid_until_ts", cJSON_CreateNumber((double)valid_until_ts));
    cJSON_AddItemToObject(document, "old_verify_keys", cJSON_CreateObject());
    cJSON_AddItemToObject(document, "verify_keys", keys);
    cJSON_AddItemToObject(keys, key->key_id, ours);
    cJSON_AddItemToObject(ours, "key", cJSON_CreateString(key->public_base64));
    if (!server_key_sign_json(key, server_name, document, error))
        return NULL;
    return json_canonical(document, error);
}
