/* identity/session.h: log-in sessions: who an access token speaks for, and how that ends.
 *
 * A session has OAuth's shape: one device, one client, one scope, a rotating pair of tokens.  It
 * comes to be only by session_link(), the one function that makes a device, and that takes a
 * CertificateProof.  Token rows hold a hash and a MAC under a key outside the database, so rows
 * written by hand open nothing.
 *
 * Live sessions are kept in a bounded memory, so an authenticated request costs no query in the
 * common case; every kill empties it at once.  Whoever holds a Session beyond one request (a parked
 * sync) keeps a reference and learns of the end by the bell.
 *
 * For server/ (the dispatcher, log-in handlers, the park) and for identity/.  Thread-safe. */
#pragma once

#include <glib.h>

#include "storage/lane.h"
#include "storage/log_ring.h"
#include "storage/store.h"

typedef struct Certificates Certificates;         /* identity/certificate.h */
typedef struct CertificateProof CertificateProof; /* identity/certificate_proof.h */
typedef struct RecordKey RecordKey;               /* identity/record_key.h */
typedef struct TokenKey TokenKey;                 /* identity/token_key.h */
typedef struct Sessions Sessions;
typedef struct Session Session;

/* How a session came to be: it decides which user-interactive stage it is asked for. */
typedef enum {
    LOGIN_BROWSER = 1,   /* m.login.sso, then m.login.token */
    LOGIN_CHALLENGE = 2, /* a signed challenge on the certificate listener */
    LOGIN_OPEN = 3,      /* only ever made by test suites' admission */
} LoginKind;

/* ---- one session: immutable but for its end ---- */
const char *session_id(const Session *session);
const char *session_user_id(const Session *session);
const char *session_device_id(const Session *session);
LoginKind session_kind(const Session *session);
gint64 session_proof_ms(const Session *session);   /* wall clock of the proof */
gint64 session_expires_ms(const Session *session); /* wall clock; the end whatever is refreshed */

/* FALSE as soon as the session was ended; then sets @error (when not NULL) to the 401 to answer.
 * Costs an atomic read: parked requests ask it each time they are woken. */
gboolean session_is_live(const Session *session, GError **error);

/* Takes const so that handlers, which borrow const, can keep one. */
Session *session_ref(const Session *session);
void session_unref(Session *session);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Session, session_unref)

/* ---- all of them ---- */
typedef struct {
    gint64 access_ms;      /* life of an access token that comes with a refresh token: 5 min */
    gint64 working_day_ms; /* life of an access token that comes without: one working day */
    gint64
        session_ms;  /* the longest that a session lives on refreshes; notAfter may end it sooner */
    guint cache_max; /* access tokens kept in memory */
} SessionSettings;

extern const SessionSettings session_settings_default;

/* Borrows all.  Registers a bell at @ring: a LOG_SESSION_END written by any process ends the
 * sessions here.
 * @lane and @ring may be NULL in tests that only authenticate. */
Sessions *sessions_new(StorePool *pool, Lane *lane, LogRing *ring, Certificates *certificates,
                       const RecordKey *record_key, const SessionSettings *settings);
/* After the lane and the ring have stopped. */
void sessions_free(Sessions *sessions);
const TokenKey *sessions_token_key(const Sessions *sessions);

/* Whom @token (as it came in Authorization: Bearer; NULL when there was none) speaks for.
 * FALSE with a REFUSAL: 401 M_MISSING_TOKEN, 401 M_UNKNOWN_TOKEN; or a STORE_ERROR. */
gboolean
sessions_authenticate(Sessions *sessions, const char *token, Session **ret_session, GError **error);

/* TRUE when the body of this 401 must say soft_logout: true (the client keeps its keys and logs in
 * again). Every other M_UNKNOWN_TOKEN answer says soft_logout: false. */
gboolean session_refusal_is_soft(const GError *error);

/* ---- ends ---- */
typedef enum {
    SESSION_END_LOGOUT,     /* the user's own wish */
    SESSION_END_COMPROMISE, /* suspended, revoked, stolen refresh token: soft_logout false */
    SESSION_END_EXPIRED,    /* notAfter, or the session's own end: soft_logout true */
} SessionEnd;

/* Runs right after sessions were ended, on the thread that ended them and outside all locks: walk
 * what you parked, ask session_is_live(), and cut what is dead.  Register before serving. */
typedef void (*SessionBell)(gpointer data);
void sessions_add_bell(Sessions *sessions, SessionBell bell, gpointer data);

/* End sessions: token and session rows, in the apply function of a lane operation, beside the
 * statements of the act that ends them; logs LOG_SESSION_END, and memory follows when that is
 * committed.  @device_id NULL: all of the user's.  A compromise removes the devices too
 * (device_remove_in_batch): the clients discard their keys. After SESSION_END_EXPIRED, which is not
 * logged because every process keeps the same time, call sessions_forget(). */
void
sessions_end_in_batch(LaneBatch *batch, const char *user_id, const char *device_id, SessionEnd end);

/* Memory alone, at once, from any thread. */
void
sessions_forget(Sessions *sessions, const char *user_id, const char *device_id, SessionEnd end);

/* The same as an act of its own with its audit line (@rule: why).  At once in memory: from the
 * moment of the call none of the tokens opens anything.  The rows follow through the lane, without
 * waiting; should that fail, the revocation clock comes back to it.  Any thread. */
void
sessions_kill_for_user(Sessions *sessions, const char *user_id, SessionEnd end, const char *rule);
void sessions_kill_for_device(Sessions *sessions, const char *user_id, const char *device_id,
                              SessionEnd end, const char *rule);
/* Looks up whose it is: borrows a connection. */
gboolean sessions_kill_for_certificate(Sessions *sessions, GBytes *certificate_sha256,
                                       SessionEnd end, const char *rule, GError **error);

/* ---- for the revocation clock (identity/revocation.c) ---- */
/* Submit again the kills whose rows could not be written. */
void sessions_finish_kills(Sessions *sessions);
/* End in memory what has reached its own end. */
void sessions_expire(Sessions *sessions, gint64 now_ms);
/* End in memory what has no row any more, whoever removed it. */
gboolean sessions_compare_rows(Sessions *sessions, StoreConnection *connection, GError **error);
/* Write when devices were last seen. */
gboolean sessions_write_seen(Sessions *sessions, StoreConnection *connection, GError **error);

/* ---- beginnings ---- */
typedef struct {
    const char *device_id;    /* wished for: continues a device of this user, or NULL: a new id */
    const char *display_name; /* initial_device_display_name, or NULL */
    const char *client;       /* a name for lists and audit, or NULL */
    const char *scope;        /* NULL: the whole client API */
    gboolean refresh;         /* the client can refresh: short access token and a refresh token */
    const char *ed25519;      /* device keys bound by a signed challenge, or NULL */
    const char *curve25519;
} SessionWish;

typedef struct {
    char *user_id;
    char *device_id;
    char *access_token;
    char *refresh_token; /* NULL without refresh */
    gint64 expires_in_ms;
} SessionTokens;
void session_tokens_free(SessionTokens *tokens); /* wipes */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SessionTokens, session_tokens_free)

/* On the lane thread once the device and its session are durable, or @tokens NULL with @error.
 * Takes @tokens. */
typedef void (*SessionLinked)(gpointer data, SessionTokens *tokens, const GError *error);

/* The one function that makes a device and a session: for the person that @proof proves, who proved
 * it just now. The act's audit line is in the same transaction.  FALSE with a REFUSAL when the wish
 * is not acceptable, a STORE_ERROR when the lane is full; then @linked is not called. */
gboolean session_link(Sessions *sessions, const CertificateProof *proof, LoginKind kind,
                      const SessionWish *wish, SessionLinked linked, gpointer data, GError **error);

/* A new pair for a refresh token, if what made the session still holds (admission_still_holds); the
 * old one stays good until the new pair is first used, after that its reuse ends the whole session
 * (a stolen token).  Waits for its own small commit. */
SessionTokens *sessions_refresh(Sessions *sessions, const char *refresh_token, GError **error);
