#include "identity/record_key.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct RecordKey {
    guint8 *secret; /* sodium_malloc: RECORD_KEY_BYTES */
};

static RecordKey *
key_allocate(void)
{
    RecordKey *key = g_new0(RecordKey, 1);
    if (sodium_init() < 0 || (key->secret = sodium_malloc(RECORD_KEY_BYTES)) == NULL)
        g_error("libsodium has no protected memory for the record key");
    return key;
}

RecordKey *
record_key_new_for_tests(void)
{
    RecordKey *key = key_allocate();
    memset(key->secret, 7, RECORD_KEY_BYTES);
    sodium_mprotect_readonly(key->secret);
    return key;
}

void
record_key_free(RecordKey *key)
{
    if (key == NULL)
        return;
    sodium_free(key->secret); /* wipes */
    g_free(key);
}

static gboolean
set_file_error(GError **error, const char *path, const char *what)
{
    g_set_error(error, G_FILE_ERROR, (int)g_file_error_from_errno(errno), "record key %s: %s: %s",
                path, what, g_strerror(errno));
    return FALSE;
}

/* The name appears only once the bytes are durable, so a crash leaves no half key. */
static gboolean
key_file_create(const char *path, GError **error)
{
    g_autofree char *fresh = g_strconcat(path, ".new", NULL);
    guint8 bytes[RECORD_KEY_BYTES];
    (void)unlink(fresh);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return set_file_error(error, path, "cannot make it");
    randombytes_buf(bytes, sizeof bytes);
    gboolean written = write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes && fsync(fd) == 0;
    sodium_memzero(bytes, sizeof bytes);
    if (close(fd) != 0 || !written || link(fresh, path) != 0) {
        set_file_error(error, path, "cannot make it");
        (void)unlink(fresh);
        return FALSE;
    }
    (void)unlink(fresh);
    return TRUE;
}

static gboolean
key_file_read(int fd, const char *path, guint8 *out, GError **error)
{
    struct stat facts;
    guint8 bytes[RECORD_KEY_BYTES + 1];
    if (fstat(fd, &facts) != 0)
        return set_file_error(error, path, "cannot look at it");
    if (!S_ISREG(facts.st_mode) || (facts.st_mode & 077) != 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PERM,
                    "record key %s: others may read it; chmod 600 it, or found the agency anew if "
                    "they did",
                    path);
        return FALSE;
    }
    ssize_t count = read(fd, bytes, sizeof bytes);
    if (count == RECORD_KEY_BYTES)
        memcpy(out, bytes, RECORD_KEY_BYTES);
    sodium_memzero(bytes, sizeof bytes);
    if (count != RECORD_KEY_BYTES) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "record key %s: not a file of exactly %d bytes", path, RECORD_KEY_BYTES);
        return FALSE;
    }
    return TRUE;
}

RecordKey *
record_key_open(const char *path, gboolean create, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT && create) {
        if (!key_file_create(path, error))
            return NULL;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    }
    if (fd < 0) {
        set_file_error(error, path, "cannot open it");
        return NULL;
    }
    g_autoptr(RecordKey) key = key_allocate();
    gboolean read_whole = key_file_read(fd, path, key->secret, error);
    (void)close(fd);
    if (!read_whole)
        return NULL;
    sodium_mprotect_readonly(key->secret);
    return g_steal_pointer(&key);
}

static void
mac_part(crypto_generichash_state *state, const void *data, gsize length)
{
    guint64 prefix = GUINT64_TO_BE((guint64)length);
    crypto_generichash_update(state, (const guint8 *)&prefix, sizeof prefix);
    if (length > 0)
        crypto_generichash_update(state, data, length);
}

static void
mac_start(const RecordKey *key, const char *context, crypto_generichash_state *state)
{
    crypto_generichash_init(state, key->secret, RECORD_KEY_BYTES, RECORD_MAC_BYTES);
    mac_part(state, context, strlen(context));
}

static GBytes *
mac_end(crypto_generichash_state *state)
{
    guint8 mac[RECORD_MAC_BYTES];
    crypto_generichash_final(state, mac, sizeof mac);
    sodium_memzero(state, sizeof *state);
    return g_bytes_new(mac, sizeof mac);
}

GBytes *
record_key_mac(const RecordKey *key, const char *context, GBytes *const *parts, guint count)
{
    crypto_generichash_state state;
    mac_start(key, context, &state);
    for (guint i = 0; i < count; i++) {
        gsize length = 0;
        const void *data = g_bytes_get_data(parts[i], &length);
        mac_part(&state, data, length);
    }
    return mac_end(&state);
}

gboolean
record_mac_equal(GBytes *expected, GBytes *mac)
{
    return expected != NULL && mac != NULL && g_bytes_get_size(expected) == RECORD_MAC_BYTES &&
           g_bytes_get_size(mac) == RECORD_MAC_BYTES &&
           sodium_memcmp(g_bytes_get_data(mac, NULL), g_bytes_get_data(expected, NULL),
                         RECORD_MAC_BYTES) == 0;
}

GBytes *
record_key_mac_text(const RecordKey *key, const char *context, ...)
{
    crypto_generichash_state state;
    const char *part = NULL;
    va_list parts;
    mac_start(key, context, &state);
    va_start(parts, context);
    while ((part = va_arg(parts, const char *)) != NULL)
        mac_part(&state, part, strlen(part));
    va_end(parts);
    return mac_end(&state);
}

gboolean
record_key_check(const RecordKey *key, const char *context, GBytes *const *parts, guint count,
                 GBytes *mac)
{
    g_autoptr(GBytes) expected = record_key_mac(key, context, parts, count);
    return record_mac_equal(expected, mac);
}

char *
record_key_person_ref(const RecordKey *key, const char *national_identifier)
{
    char hex[2 * RECORD_MAC_BYTES + 1];
    crypto_generichash_state state;
    mac_start(key, "person", &state);
    mac_part(&state, national_identifier, strlen(national_identifier));
    g_autoptr(GBytes) mac = mac_end(&state);
    sodium_bin2hex(hex, sizeof hex, g_bytes_get_data(mac, NULL), RECORD_MAC_BYTES);
    return g_strdup(hex);
}
