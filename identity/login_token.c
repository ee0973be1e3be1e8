#include "identity/login_token.h"

#include <string.h>

#include "identity/clock.h"
#include "identity/refusal.h"
#include "identity/token.h"
#include "storage/login_token_store.h"

enum {
    REDIRECT_BYTES_MAX = 2048
};

/* ---- redirect addresses ---- */

/* The part of @url after "http://HOST", for the two loopback names that may stand with any port;
 * *ret_host is the length up to there.  NULL for any other address. */
static const char *
loopback_rest(const char *url, gsize *ret_host)
{
    static const char *const hosts[] = {"http://127.0.0.1", "http://localhost", "http://[::1]"};
    for (guint i = 0; i < G_N_ELEMENTS(hosts); i++) {
        gsize length = strlen(hosts[i]);
        if (strncmp(url, hosts[i], length) == 0 &&
            (url[length] == ':' || url[length] == '/' || url[length] == '\0')) {
            *ret_host = length;
            return url + length;
        }
    }
    return NULL;
}

/* Past ":12345"; NULL when what stands there is no port. */
static const char *
skip_port(const char *rest)
{
    if (*rest != ':')
        return rest;
    gsize digits = strspn(rest + 1, "0123456789");
    rest += 1 + digits;
    return digits >= 1 && digits <= 5 && (*rest == '/' || *rest == '\0') ? rest : NULL;
}

static gboolean
same_but_for_port(const char *allowed, const char *url)
{
    gsize allowed_host, url_host;
    const char *allowed_rest = loopback_rest(allowed, &allowed_host);
    const char *url_rest = loopback_rest(url, &url_host);
    if (allowed_rest == NULL || url_rest == NULL || allowed_host != url_host ||
        strncmp(allowed, url, url_host) != 0)
        return FALSE;
    allowed_rest = skip_port(allowed_rest);
    url_rest = skip_port(url_rest);
    if (allowed_rest == NULL || url_rest == NULL)
        return FALSE;
    /* "http://127.0.0.1" in the list stands for its root, as browsers write it. */
    return strcmp(*allowed_rest != '\0' ? allowed_rest : "/", *url_rest != '\0' ? url_rest : "/") ==
           0;
}

gboolean
redirect_url_is_allowed(const char *const *allowed, const char *url)
{
    if (strnlen(url, REDIRECT_BYTES_MAX + 1) > REDIRECT_BYTES_MAX)
        return FALSE;
    for (const char *c = url; *c != '\0'; c++)
        if (!g_ascii_isgraph(*c) || *c == '\\' || *c == '"' || *c == '<' || *c == '>')
            return FALSE;
    /* What stands after # never leaves the browser: clients keep the place there to which they
     * return. */
    g_autofree char *page = g_strndup(url, strcspn(url, "#"));
    for (; allowed != NULL && *allowed != NULL; allowed++)
        if ((g_str_has_prefix(page, "https://") && strcmp(*allowed, page) == 0) ||
            same_but_for_port(*allowed, page))
            return TRUE;
    return FALSE;
}

char *
redirect_url_origin(const char *url)
{
    const char *authority = strstr(url, "://");
    if (authority == NULL)
        return NULL;
    authority += 3;
    return g_strndup(url, (gsize)(authority - url) + strcspn(authority, "/?#"));
}

/* ---- rows ---- */

static void
login_token_mac(const TokenKey *key, const LoginTokenRow *row, guint8 ret_mac[TOKEN_MAC_BYTES])
{
    token_key_mac(key, ret_mac, "login_token", "ytyii", row->token_hash, row->redirect_url,
                  row->chain, row->proof_ms, row->expires_ms);
}

/* Each certificate after four bytes of its length. */
static GBytes *
chain_pack(GPtrArray *chain_der)
{
    GByteArray *packed = g_byte_array_new();
    for (guint i = 0; i < chain_der->len; i++) {
        gsize length;
        const guint8 *der = g_bytes_get_data(g_ptr_array_index(chain_der, i), &length);
        guint32 frame = GUINT32_TO_BE((guint32)length);
        g_byte_array_append(packed, (const guint8 *)&frame, sizeof frame);
        g_byte_array_append(packed, der, (guint)length);
    }
    return g_byte_array_free_to_bytes(packed);
}

/* The bytes stand under our MAC, yet nothing is read beyond them. */
static GPtrArray *
chain_unpack(GBytes *packed)
{
    gsize left;
    const guint8 *at = g_bytes_get_data(packed, &left);
    GPtrArray *chain = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    guint32 frame;
    while (left >= sizeof frame) {
        memcpy(&frame, at, sizeof frame);
        frame = GUINT32_FROM_BE(frame);
        if (frame > left - sizeof frame)
            break;
        g_ptr_array_add(chain, g_bytes_new(at + sizeof frame, frame));
        at += sizeof frame + frame;
        left -= sizeof frame + frame;
    }
    return chain;
}

char *
login_token_issue(Sessions *sessions, StoreConnection *connection, const CertificateProof *proof,
                  GPtrArray *chain_der, const char *redirect_url, GError **error)
{
    g_auto(LoginTokenRow) row = {0};
    const TokenKey *key = sessions_token_key(sessions);
    guint8 mac[TOKEN_MAC_BYTES];
    Token token = {.kind = TOKEN_LOGIN};

    token_session_random(token.session);
    char *text = token_make(key, &token);
    row.token_hash = token_hash(text);
    row.redirect_url = g_strdup(redirect_url);
    row.chain = chain_pack(chain_der);
    row.proof_ms = certificate_proof_made_ms(proof);
    row.expires_ms = clock_wall_ms() + LOGIN_TOKEN_LIFE_MS;
    login_token_mac(key, &row, mac);
    row.mac = g_bytes_new(mac, sizeof mac);
    if (!login_token_store_insert(connection, &row, error))
        g_clear_pointer(&text, token_text_free);
    return text;
}

static gboolean
login_token_stands(const TokenKey *key, const LoginTokenRow *row, const char *origin,
                   const char **ret_rule)
{
    guint8 mac[TOKEN_MAC_BYTES];
    if (row->token_hash == NULL) {
        *ret_rule = "login-token-unknown";
        return FALSE;
    }
    login_token_mac(key, row, mac);
    if (!token_key_mac_equal(mac, row->mac)) {
        *ret_rule = "login-token-row";
        return FALSE;
    }
    if (row->expires_ms <= clock_wall_ms()) {
        *ret_rule = "login-token-expired";
        return FALSE;
    }
    g_autofree char *bound = redirect_url_origin(row->redirect_url);
    if (origin != NULL && g_strcmp0(origin, bound) != 0) {
        *ret_rule = "login-token-origin";
        return FALSE;
    }
    return TRUE;
}

CertificateProof *
login_token_redeem(Sessions *sessions, Certificates *certificates, StoreConnection *connection,
                   const char *token, const char *origin, const char **ret_rule, GError **error)
{
    g_auto(LoginTokenRow) row = {0};
    const TokenKey *key = sessions_token_key(sessions);
    const CertificateRule *rule = NULL;
    Token read;

    *ret_rule = "login-token-form";
    if (!token_read(key, token, &read) || read.kind != TOKEN_LOGIN) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "This is not a login token of this server; start again at /login/sso/redirect");
        return NULL;
    }
    g_autoptr(GBytes) hash = token_hash(token);
    if (!login_token_store_take(connection, hash, &row, error))
        return NULL;
    if (!login_token_stands(key, &row, origin, ret_rule)) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "This login token has expired, was used before, or was not made for this page; "
                    "start again at /login/sso/redirect");
        return NULL;
    }
    g_autoptr(GPtrArray) chain = chain_unpack(row.chain);
    *ret_rule = NULL;
    CertificateProof *proof =
        certificate_proof_from_tls(certificates, connection, chain, &rule, error);
    if (proof == NULL && rule != NULL)
        *ret_rule = rule->name;
    return proof;
}
