#include "identity/challenge.h"

#include <sodium.h>
#include <string.h>

#include "identity/clock.h"
#include "identity/json.h"
#include "identity/refusal.h"
#include "identity/token.h"

enum {
    RANDOM_BYTES = 12,
    HEAD_BYTES = RANDOM_BYTES + 4, /* then seconds of CLOCK_BOOTTIME at which it ends */
    CHECK_BYTES = 16,
    NONCE_BYTES = HEAD_BYTES + CHECK_BYTES,
    NONCE_CHARACTERS = 43,
    EXPORTER_BYTES = 32,
};

typedef struct {
    guint8 nonce[NONCE_BYTES];
    gint64 ends_ms;
} Burnt;

struct Challenges {
    const TokenKey *key;
    guint8 process[16]; /* a nonce of another process, or of before a restart, is unknown */
    GMutex lock;
    GHashTable *burnt; /* Burnt by nonce */
    GQueue order;      /* of Burnt, the oldest first */
};

/* Genuine nonces alone get in: nobody else chooses their bytes. */
static guint
burnt_hash(gconstpointer key)
{
    guint hash;
    memcpy(&hash, ((const Burnt *)key)->nonce, sizeof hash);
    return hash;
}

static gboolean
burnt_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(((const Burnt *)a)->nonce, ((const Burnt *)b)->nonce, NONCE_BYTES) == 0;
}

Challenges *
challenges_new(const TokenKey *key)
{
    Challenges *challenges = g_new0(Challenges, 1);
    challenges->key = key;
    randombytes_buf(challenges->process, sizeof challenges->process);
    g_mutex_init(&challenges->lock);
    challenges->burnt = g_hash_table_new_full(burnt_hash, burnt_equal, g_free, NULL);
    g_queue_init(&challenges->order);
    return challenges;
}

void
challenges_free(Challenges *challenges)
{
    if (challenges == NULL)
        return;
    g_queue_clear(&challenges->order);
    g_hash_table_unref(challenges->burnt);
    g_mutex_clear(&challenges->lock);
    g_free(challenges);
}

static void
nonce_check(const Challenges *challenges, const guint8 nonce[NONCE_BYTES], const char *purpose,
            guint8 ret_check[CHECK_BYTES])
{
    guint8 mac[TOKEN_MAC_BYTES];
    g_autoptr(GBytes) head = g_bytes_new_static(nonce, HEAD_BYTES);
    g_autoptr(GBytes) process = g_bytes_new_static(challenges->process, sizeof challenges->process);
    token_key_mac(challenges->key, mac, "challenge", "yyt", process, head, purpose);
    memcpy(ret_check, mac, CHECK_BYTES);
}

char *
challenges_issue(Challenges *challenges, const char *purpose)
{
    guint8 nonce[NONCE_BYTES];
    guint32 ends = GUINT32_TO_BE((guint32)((clock_interval_ms() + CHALLENGE_LIFE_MS + 999) / 1000));
    char *text = g_malloc(NONCE_CHARACTERS + 1);

    randombytes_buf(nonce, RANDOM_BYTES);
    memcpy(nonce + RANDOM_BYTES, &ends, sizeof ends);
    nonce_check(challenges, nonce, purpose, nonce + HEAD_BYTES);
    return sodium_bin2base64(text, NONCE_CHARACTERS + 1, nonce, sizeof nonce,
                             sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

static gboolean
base64url_read(const char *text, guint8 *bytes, gsize length)
{
    gsize read = 0;
    /* libsodium takes bytes above 0x7F for digits. */
    return text[strspn(text, TOKEN_ALPHABET)] == '\0' &&
           sodium_base642bin(bytes, length, text, strlen(text), NULL, &read, NULL,
                             sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0 &&
           read == length;
}

/* 0: burnt now; otherwise the status of the refusal. */
static guint
burn_locked(Challenges *challenges, const guint8 nonce[NONCE_BYTES], gint64 ends_ms, gint64 now_ms)
{
    Burnt *oldest;
    while ((oldest = g_queue_peek_head(&challenges->order)) != NULL && oldest->ends_ms <= now_ms) {
        g_queue_pop_head(&challenges->order);
        g_hash_table_remove(challenges->burnt, oldest);
    }
    Burnt *burnt = g_new0(Burnt, 1);
    memcpy(burnt->nonce, nonce, NONCE_BYTES);
    burnt->ends_ms = ends_ms;
    if (g_hash_table_contains(challenges->burnt, burnt)) {
        g_free(burnt);
        return 403;
    }
    if (challenges->order.length >= CHALLENGE_BURNT_MAX) {
        g_free(burnt);
        return 503;
    }
    g_hash_table_add(challenges->burnt, burnt);
    g_queue_push_tail(&challenges->order, burnt);
    return 0;
}

gboolean
challenges_burn(Challenges *challenges, const char *nonce, const char *purpose, GError **error)
{
    guint8 bytes[NONCE_BYTES], check[CHECK_BYTES];
    guint32 ends;
    guint status = 403;
    gint64 now_ms = clock_interval_ms();

    if (strnlen(nonce, NONCE_CHARACTERS + 1) == NONCE_CHARACTERS &&
        base64url_read(nonce, bytes, sizeof bytes)) {
        nonce_check(challenges, bytes, purpose, check);
        memcpy(&ends, bytes + RANDOM_BYTES, sizeof ends);
        gint64 ends_ms = (gint64)GUINT32_FROM_BE(ends) * 1000;
        if (sodium_memcmp(check, bytes + HEAD_BYTES, CHECK_BYTES) == 0 && ends_ms > now_ms) {
            g_mutex_lock(&challenges->lock);
            status = burn_locked(challenges, bytes, ends_ms, now_ms);
            g_mutex_unlock(&challenges->lock);
        }
    }
    if (status == 0)
        return TRUE;
    if (status == 503)
        refusal_set(error, 503, "M_LIMIT_EXCEEDED", "Too many log-ins just now; try again");
    else
        refusal_set(error, 403, "M_FORBIDDEN",
                    "This challenge is not known, was answered before, or is older than %d s; ask "
                    "for a new one",
                    (int)(CHALLENGE_LIFE_MS / 1000));
    return FALSE;
}

/* ---- what is signed ---- */

static void
add_text(cJSON *object, const char *name, const char *value)
{
    if (value != NULL)
        cJSON_AddStringToObject(object, name, value);
}

GBytes *
challenge_content(const ChallengeContent *content)
{
    g_autoptr(cJSON) object = cJSON_CreateObject();
    gsize length;
    const guint8 *exporter = g_bytes_get_data(content->tls_exporter, &length);
    gsize size = sodium_base64_encoded_len(length, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    g_autofree char *text = g_malloc(size);

    sodium_bin2base64(text, size, exporter, length, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    add_text(object, "nonce", content->nonce);
    add_text(object, "server_name", content->server_name);
    add_text(object, "purpose", content->purpose);
    add_text(object, "user_id", content->user_id);
    add_text(object, "device_id", content->device_id);
    add_text(object, "ed25519", content->ed25519);
    add_text(object, "curve25519", content->curve25519);
    add_text(object, "uia_session", content->uia_session);
    add_text(object, "tls_exporter", text);
    return json_canonical(object, NULL);
}

gboolean
challenge_content_read(GBytes *bytes, cJSON **ret_json, ChallengeContent *ret_content,
                       GError **error)
{
    static const JsonLimits limits = {
        .bytes_max = CHALLENGE_CONTENT_BYTES_MAX, .depth_max = 1, .values_max = 32};
    gsize length;
    const char *text = g_bytes_get_data(bytes, &length);
    g_autoptr(cJSON) json = json_parse(text, length, &limits, NULL);
    guint8 exporter[EXPORTER_BYTES];
    const char *binding = json_get_string(json, "tls_exporter");

    ChallengeContent content = {
        .nonce = json_get_string(json, "nonce"),
        .server_name = json_get_string(json, "server_name"),
        .purpose = json_get_string(json, "purpose"),
        .user_id = json_get_string(json, "user_id"),
        .device_id = json_get_string(json, "device_id"),
        .ed25519 = json_get_string(json, "ed25519"),
        .curve25519 = json_get_string(json, "curve25519"),
        .uia_session = json_get_string(json, "uia_session"),
    };
    if (content.nonce == NULL || content.server_name == NULL || content.purpose == NULL ||
        content.user_id == NULL || binding == NULL ||
        !base64url_read(binding, exporter, sizeof exporter)) {
        refusal_set(error, 400, "M_BAD_JSON",
                    "What was signed must be a JSON object with nonce, server_name, purpose, "
                    "user_id and tls_exporter (32 bytes, base64url)");
        return FALSE;
    }
    content.tls_exporter = g_bytes_new(exporter, sizeof exporter);
    *ret_content = content;
    *ret_json = g_steal_pointer(&json);
    return TRUE;
}

void
challenge_content_clear(ChallengeContent *content)
{
    g_clear_pointer(&content->tls_exporter, g_bytes_unref);
}

gboolean
challenges_judge(Challenges *challenges, const ChallengeContent *content, const char *server_name,
                 const char *purpose, GBytes *tls_exporter, const char **ret_rule, GError **error)
{
    *ret_rule = "challenge-unknown";
    if (!challenges_burn(challenges, content->nonce, purpose, error))
        return FALSE;
    if (strcmp(content->server_name, server_name) != 0) {
        *ret_rule = "challenge-server";
        refusal_set(error, 403, "M_FORBIDDEN", "What was signed is for another server than %s",
                    server_name);
        return FALSE;
    }
    if (strcmp(content->purpose, purpose) != 0) {
        *ret_rule = "challenge-purpose";
        refusal_set(error, 403, "M_FORBIDDEN", "What was signed is for another purpose than \"%s\"",
                    purpose);
        return FALSE;
    }
    if (tls_exporter == NULL || g_bytes_get_size(tls_exporter) != EXPORTER_BYTES ||
        sodium_memcmp(g_bytes_get_data(tls_exporter, NULL),
                      g_bytes_get_data(content->tls_exporter, NULL), EXPORTER_BYTES) != 0) {
        *ret_rule = "challenge-connection";
        refusal_set(error, 403, "M_FORBIDDEN",
                    "What was signed belongs to another TLS connection: something stands between "
                    "you and this server, or the connection was opened anew");
        return FALSE;
    }
    *ret_rule = NULL;
    return TRUE;
}
