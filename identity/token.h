/* identity/token.h: the form of access, refresh and log-in tokens.
 *
 * A token is a prefix that names its kind and the base64url of: 16 bytes of session, 4 of
 * generation, 12 random, 16 of MAC.  The MAC lets a forged or garbled token be refused without a
 * query, and lets a refresh token from a past generation be known for a stolen one without a row
 * for each that was ever spent.  Nothing is decided by a token alone: its row, found by hash, must
 * stand.
 *
 * For identity/.  Pure. */
#pragma once

#include "identity/token_key.h"

#define TOKEN_SESSION_BYTES 16
#define TOKEN_TEXT_MAX 80
#define TOKEN_ALPHABET "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

typedef enum {
    TOKEN_ACCESS = 1,
    TOKEN_REFRESH = 2,
    TOKEN_LOGIN = 3, /* the loginToken of m.login.token; its "session" is only its own name */
} TokenKind;

typedef struct {
    TokenKind kind;
    guint8 session[TOKEN_SESSION_BYTES];
    guint32 generation;
} Token;

/* A fresh token's text; wipe and free with token_text_free(). */
char *token_make(const TokenKey *key, const Token *token);
void token_text_free(char *text);
/* FALSE: not a token that this key ever made. */
gboolean token_read(const TokenKey *key, const char *text, Token *ret_token);
/* What the database keeps instead of the token: SHA-256. */
GBytes *token_hash(const char *text);

/* Session ids as text: 22 characters of base64url. */
char *token_session_text(const guint8 session[TOKEN_SESSION_BYTES]);
void token_session_random(guint8 ret_session[TOKEN_SESSION_BYTES]);
