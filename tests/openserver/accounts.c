#include "tests/openserver/accounts.h"

#include <sodium.h>
#include <string.h>

#include "identity/certificate_proof_private.h"
#include "identity/clock.h"
#include "identity/refusal.h"

/* Cheap on purpose: suites log in thousands of times, and these passwords guard nothing. */
#define SALT_BYTES 16
#define HASH_BYTES 32
#define PROOF_LIFE_MS ((gint64)10 * 365 * 24 * 3600 * 1000)

enum {
    ACCOUNT_TABLE,
    ACCOUNT_INSERT,
    ACCOUNT_FIND,
};

static const StoreStatement statements[] = {
    [ACCOUNT_TABLE] =
        {"open_account_table",
         "CREATE TABLE IF NOT EXISTS open_account (user_id text COLLATE \"C\" PRIMARY KEY,"
         " salt bytea NOT NULL, hash bytea NOT NULL)"},
    [ACCOUNT_INSERT] = {"open_account_insert",
                        "WITH made AS (INSERT INTO account (user_id, created_ms) VALUES ($1, 0)"
                        " ON CONFLICT DO NOTHING)"
                        " INSERT INTO open_account (user_id, salt, hash) VALUES ($1, $2, $3)"
                        " ON CONFLICT (user_id) DO NOTHING"},
    [ACCOUNT_FIND] = {"open_account_find",
                      "SELECT salt, hash FROM open_account WHERE user_id = $1"},
};

static char *own_server_name;

gboolean
accounts_open(StorePool *pool, const char *server_name, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(pool, error);
    own_server_name = g_strdup(server_name);
    return connection != NULL && store_do(connection, &statements[ACCOUNT_TABLE], NULL, error);
}

static void
hash_password(const guint8 *salt, const char *password, guint8 hash[HASH_BYTES])
{
    crypto_generichash(hash, HASH_BYTES, (const guint8 *)password, strlen(password), salt,
                       SALT_BYTES);
}

static char *
user_id_of(const char *name, GError **error)
{
    g_autofree char *suffix = g_strconcat(":", own_server_name, NULL);
    g_autofree char *localpart = NULL;

    if (name != NULL && name[0] == '@' && g_str_has_suffix(name, suffix))
        localpart = g_strndup(name + 1, strlen(name) - 1 - strlen(suffix));
    else if (name != NULL && name[0] != '@')
        localpart = g_strdup(name);
    if (localpart == NULL || *localpart == '\0' || strlen(localpart) > 200 ||
        strspn(localpart, "abcdefghijklmnopqrstuvwxyz0123456789._=/+-") != strlen(localpart)) {
        refusal_set(error, 400, "M_INVALID_USERNAME", "That is no user name of this server");
        return NULL;
    }
    return g_strconcat("@", localpart, suffix, NULL);
}

/* The one place that makes a proof without a certificate; this program alone links it. */
static CertificateProof *
proof_new(const char *user_id)
{
    guint8 digest[32];
    CertificateProof *proof = g_new0(CertificateProof, 1);
    crypto_hash_sha256(digest, (const guint8 *)user_id, strlen(user_id));
    proof->references = 1;
    proof->user_id = g_strdup(user_id);
    proof->certificate = g_bytes_new(digest, sizeof digest);
    proof->issuer_key = g_strdup("");
    proof->clearance = g_strdup("");
    proof->made_ms = clock_wall_ms();
    proof->not_after_ms = proof->made_ms + PROOF_LIFE_MS;
    return proof;
}

CertificateProof *
accounts_register(StoreConnection *connection, const char *name, const char *password,
                  GError **error)
{
    guint8 salt[SALT_BYTES];
    guint8 hash[HASH_BYTES];
    g_autofree char *drawn = name == NULL ? g_uuid_string_random() : NULL;
    g_autofree char *user_id = user_id_of(name != NULL ? name : drawn, error);

    if (user_id == NULL)
        return NULL;
    randombytes_buf(salt, sizeof salt);
    hash_password(salt, password != NULL ? password : "", hash);
    StoreArguments *arguments = store_arguments_new();
    store_arguments_text(arguments, user_id);
    store_arguments_data(arguments, salt, sizeof salt);
    store_arguments_data(arguments, hash, sizeof hash);
    g_autoptr(StoreRows) rows =
        store_run(connection, &statements[ACCOUNT_INSERT], arguments, error);
    if (rows == NULL)
        return NULL;
    if (store_rows_affected(rows) == 0) {
        refusal_set(error, 400, "M_USER_IN_USE", "%s exists", user_id);
        return NULL;
    }
    return proof_new(user_id);
}

CertificateProof *
accounts_log_in(StoreConnection *connection, const char *name, const char *password, GError **error)
{
    guint8 hash[HASH_BYTES];
    gsize salt_length = 0;
    gsize hash_length = 0;
    g_autoptr(GError) no_name = NULL;
    g_autofree char *user_id = user_id_of(name, &no_name);
    g_autoptr(StoreRows) rows = user_id != NULL ? store_run(connection, &statements[ACCOUNT_FIND],
                                                            store_arguments("t", user_id), error)
                                                : NULL;
    if (user_id != NULL && rows == NULL)
        return NULL;
    if (rows != NULL && store_rows_count(rows) == 1) {
        const guint8 *salt = store_rows_data(rows, 0, 0, &salt_length);
        const guint8 *expected = store_rows_data(rows, 0, 1, &hash_length);
        hash_password(salt, password != NULL ? password : "", hash);
        if (hash_length == HASH_BYTES && sodium_memcmp(hash, expected, HASH_BYTES) == 0)
            return proof_new(user_id);
    }
    refusal_set(error, 403, "M_FORBIDDEN", "Wrong user name or password");
    return NULL;
}
