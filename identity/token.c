#include "identity/token.h"
#include "identity/sha256.h"

#include <sodium.h>
#include <string.h>

enum {
    RANDOM_BYTES = 12,
    BODY_BYTES = TOKEN_SESSION_BYTES + 4 + RANDOM_BYTES,
    CHECK_BYTES = 16,
    ALL_BYTES =
        BODY_BYTES + CHECK_BYTES, /* 48: base64 without padding, and so with one spelling only */
    PREFIX_CHARACTERS = 4,
    TEXT_CHARACTERS = PREFIX_CHARACTERS + ALL_BYTES / 3 * 4,
};

static const char *const prefixes[] = {
    [TOKEN_ACCESS] = "cha_",
    [TOKEN_REFRESH] = "chr_",
    [TOKEN_LOGIN] = "chl_",
};

static void
token_check(const TokenKey *key, TokenKind kind, const guint8 body[BODY_BYTES],
            guint8 ret_check[CHECK_BYTES])
{
    guint8 mac[TOKEN_MAC_BYTES];
    g_autoptr(GBytes) bytes = g_bytes_new_static(body, BODY_BYTES);
    token_key_mac(key, mac, "token-text", "iy", (gint64)kind, bytes);
    memcpy(ret_check, mac, CHECK_BYTES);
    sodium_memzero(mac, sizeof mac);
}

char *
token_make(const TokenKey *key, const Token *token)
{
    guint8 all[ALL_BYTES];
    guint32 generation = GUINT32_TO_BE(token->generation);

    memcpy(all, token->session, TOKEN_SESSION_BYTES);
    memcpy(all + TOKEN_SESSION_BYTES, &generation, sizeof generation);
    randombytes_buf(all + TOKEN_SESSION_BYTES + sizeof generation, RANDOM_BYTES);
    token_check(key, token->kind, all, all + BODY_BYTES);

    char *text = g_malloc(TEXT_CHARACTERS + 1);
    memcpy(text, prefixes[token->kind], PREFIX_CHARACTERS);
    sodium_bin2base64(text + PREFIX_CHARACTERS, TEXT_CHARACTERS + 1 - PREFIX_CHARACTERS, all,
                      sizeof all, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(all, sizeof all);
    return text;
}

void
token_text_free(char *text)
{
    if (text == NULL)
        return;
    sodium_memzero(text, strlen(text));
    g_free(text);
}

static gboolean
kind_of_prefix(const char *text, TokenKind *ret_kind)
{
    for (TokenKind kind = TOKEN_ACCESS; kind <= TOKEN_LOGIN; kind++)
        if (memcmp(text, prefixes[kind], PREFIX_CHARACTERS) == 0) {
            *ret_kind = kind;
            return TRUE;
        }
    return FALSE;
}

gboolean
token_read(const TokenKey *key, const char *text, Token *ret_token)
{
    guint8 all[ALL_BYTES], check[CHECK_BYTES];
    guint32 generation;
    gsize length = 0;
    TokenKind kind;

    /* libsodium takes bytes above 0x7F for digits: the alphabet is looked at first. */
    if (strnlen(text, TEXT_CHARACTERS + 1) != TEXT_CHARACTERS || !kind_of_prefix(text, &kind) ||
        text[PREFIX_CHARACTERS + strspn(text + PREFIX_CHARACTERS, TOKEN_ALPHABET)] != '\0')
        return FALSE;
    if (sodium_base642bin(all, sizeof all, text + PREFIX_CHARACTERS,
                          TEXT_CHARACTERS - PREFIX_CHARACTERS, NULL, &length, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        length != ALL_BYTES)
        return FALSE;
    token_check(key, kind, all, check);
    if (sodium_memcmp(check, all + BODY_BYTES, CHECK_BYTES) != 0)
        return FALSE;
    ret_token->kind = kind;
    memcpy(ret_token->session, all, TOKEN_SESSION_BYTES);
    memcpy(&generation, all + TOKEN_SESSION_BYTES, sizeof generation);
    ret_token->generation = GUINT32_FROM_BE(generation);
    return TRUE;
}

GBytes *
token_hash(const char *text)
{
    guint8 hash[SHA256_BYTES];
    sha256(text, strlen(text), hash);
    return g_bytes_new(hash, sizeof hash);
}

char *
token_session_text(const guint8 session[TOKEN_SESSION_BYTES])
{
    gsize size =
        sodium_base64_ENCODED_LEN(TOKEN_SESSION_BYTES, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    char *text = g_malloc(size);
    return sodium_bin2base64(text, size, session, TOKEN_SESSION_BYTES,
                             sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

void
token_session_random(guint8 ret_session[TOKEN_SESSION_BYTES])
{
    randombytes_buf(ret_session, TOKEN_SESSION_BYTES);
}
