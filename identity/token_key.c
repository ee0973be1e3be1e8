#include "identity/token_key.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct TokenKey {
    guint8 *bytes; /* sodium_malloc: guarded, locked, read-only */
};

static TokenKey *
token_key_allocate(void)
{
    TokenKey *key = g_new0(TokenKey, 1);
    key->bytes = sodium_malloc(TOKEN_KEY_BYTES);
    if (key->bytes == NULL)
        g_error("no memory for a key");
    return key;
}

static void
set_error_of(GError **error, const char *path, const char *what)
{
    int number = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(number), "token key %s: %s: %s", path, what,
                g_strerror(number));
}

/* Written beside, synced, then linked into place: a crash leaves either no key or a whole one. */
static gboolean
token_key_create(const char *path, GError **error)
{
    guint8 bytes[TOKEN_KEY_BYTES];
    g_autofree char *fresh = g_strdup_printf("%s.new.%ld", path, (long)getpid());
    int fd = g_open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        set_error_of(error, path, "cannot be made");
        return FALSE;
    }
    randombytes_buf(bytes, sizeof bytes);
    gboolean whole = write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes && fsync(fd) == 0;
    sodium_memzero(bytes, sizeof bytes);
    whole = close(fd) == 0 && whole;
    /* link() fails when the file exists by now: another process was first, and its key counts. */
    if (whole && link(fresh, path) < 0 && errno != EEXIST)
        whole = FALSE;
    if (!whole)
        set_error_of(error, path, "cannot be written");
    unlink(fresh);
    return whole;
}

static TokenKey *
token_key_read(int fd, const char *path, GError **error)
{
    struct stat about;
    if (fstat(fd, &about) < 0) {
        set_error_of(error, path, "cannot be read");
        return NULL;
    }
    if (!S_ISREG(about.st_mode) || (about.st_mode & 077) != 0 ||
        (about.st_uid != geteuid() && about.st_uid != 0)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PERM,
                    "token key %s: it must be a regular file of this account with mode 0600", path);
        return NULL;
    }
    if (about.st_size != TOKEN_KEY_BYTES) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "token key %s: it must hold %d bytes, not %ld",
                    path, TOKEN_KEY_BYTES, (long)about.st_size);
        return NULL;
    }
    TokenKey *key = token_key_allocate();
    if (read(fd, key->bytes, TOKEN_KEY_BYTES) != TOKEN_KEY_BYTES) {
        set_error_of(error, path, "cannot be read");
        token_key_free(key);
        return NULL;
    }
    sodium_mprotect_readonly(key->bytes);
    return key;
}

TokenKey *
token_key_open(const char *path, gboolean create, GError **error)
{
    if (create && g_access(path, F_OK) < 0 && errno == ENOENT && !token_key_create(path, error))
        return NULL;
    int fd = g_open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0) {
        set_error_of(error, path, "cannot be opened");
        return NULL;
    }
    TokenKey *key = token_key_read(fd, path, error);
    close(fd);
    return key;
}

TokenKey *
token_key_new_random(void)
{
    TokenKey *key = token_key_allocate();
    randombytes_buf(key->bytes, TOKEN_KEY_BYTES);
    return key;
}

void
token_key_free(TokenKey *key)
{
    if (key == NULL)
        return;
    sodium_free(key->bytes);
    g_free(key);
}

static void
mac_value(crypto_generichash_state *state, char kind, const void *bytes, gsize length)
{
    guint64 frame = GUINT64_TO_LE((guint64)length);
    crypto_generichash_update(state, (const guint8 *)&kind, 1);
    crypto_generichash_update(state, (const guint8 *)&frame, sizeof frame);
    crypto_generichash_update(state, bytes, length);
}

void
token_key_mac(const TokenKey *key, guint8 ret_mac[TOKEN_MAC_BYTES], const char *table, const char *types, ...)
{
    crypto_generichash_state state;
    va_list values;

    crypto_generichash_init(&state, key->bytes, TOKEN_KEY_BYTES, TOKEN_MAC_BYTES);
    mac_value(&state, 'T', table, strlen(table));
    va_start(values, types);
    for (const char *type = types; *type != '\0'; type++) {
        if (*type == 't') {
            const char *text = va_arg(values, const char *);
            mac_value(&state, text != NULL ? 't' : '0', text != NULL ? text : "",
                      text != NULL ? strlen(text) : 0);
        } else if (*type == 'i') {
            gint64 number = GINT64_TO_LE(va_arg(values, gint64));
            mac_value(&state, 'i', &number, sizeof number);
        } else if (*type == 'b') {
            guint8 truth = va_arg(values, gboolean) ? 1 : 0;
            mac_value(&state, 'b', &truth, sizeof truth);
        } else {
            GBytes *bytes = va_arg(values, GBytes *);
            gsize length = 0;
            const void *data = bytes != NULL ? g_bytes_get_data(bytes, &length) : NULL;
            mac_value(&state, bytes != NULL ? 'y' : '0', data != NULL ? data : "", length);
        }
    }
    va_end(values);
    crypto_generichash_final(&state, ret_mac, TOKEN_MAC_BYTES);
    sodium_memzero(&state, sizeof state);
}

gboolean
token_key_mac_equal(const guint8 a[TOKEN_MAC_BYTES], GBytes *b)
{
    gsize length = 0;
    const void *data = b != NULL ? g_bytes_get_data(b, &length) : NULL;
    return length == TOKEN_MAC_BYTES && sodium_memcmp(a, data, TOKEN_MAC_BYTES) == 0;
}
