/* identity/challenge.h: challenges that a card signs on the certificate listener, and what is
 * signed.
 *
 * A nonce is 32 bytes: 12 random, 4 of time, 16 of MAC over these and its purpose.  Giving one out
 * costs no memory; it is burnt when it first comes back, right or wrong.  What is signed carries
 * the TLS exporter value of the connection, so it is worth nothing on another one: a relay in the
 * middle fails.
 *
 * For server/certificate (issue, burn) and server/command/login.c (content).  Thread-safe. */
#pragma once

#include <glib.h>

#include "identity/token_key.h"

#define CHALLENGE_LIFE_MS ((gint64)60 * 1000)
#define CHALLENGE_BURNT_MAX 50000 /* burnt and not yet expired; beyond it 503 */
#define CHALLENGE_CONTENT_BYTES_MAX 4096
#define CHALLENGE_PURPOSE_LOGIN "login"
#define CHALLENGE_PURPOSE_UIA "uia"

typedef struct Challenges Challenges;
Challenges *challenges_new(const TokenKey *key); /* borrows */
void challenges_free(Challenges *challenges);

/* base64url, 43 characters. */
char *challenges_issue(Challenges *challenges, const char *purpose);
/* TRUE once, within CHALLENGE_LIFE_MS, for a nonce given out for @purpose.  FALSE with a REFUSAL.
 */
gboolean
challenges_burn(Challenges *challenges, const char *nonce, const char *purpose, GError **error);

/* What is signed: canonical JSON of these.  Members that are NULL are left out. */
typedef struct {
    const char *nonce;
    const char *server_name;
    const char *purpose;
    const char *user_id;
    const char *device_id;
    const char *ed25519;
    const char *curve25519;
    const char *uia_session; /* purpose "uia" */
    GBytes *tls_exporter;    /* 32 bytes; base64url in the JSON */
} ChallengeContent;

GBytes *challenge_content(const ChallengeContent *content);

/* A content that came back, strictly read; strings borrowed from *ret_json.  FALSE with a REFUSAL
 * (400). */
typedef struct cJSON cJSON;
gboolean challenge_content_read(GBytes *bytes, cJSON **ret_json, ChallengeContent *ret_content,
                                GError **error);
/* Burns the nonce, then compares: server, purpose, connection.  FALSE with a REFUSAL and *ret_rule.
 */
gboolean
challenges_judge(Challenges *challenges, const ChallengeContent *content, const char *server_name,
                 const char *purpose, GBytes *tls_exporter, const char **ret_rule, GError **error);
void challenge_content_clear(ChallengeContent *content); /* the exporter that read() made */
