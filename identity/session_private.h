/* identity/session_private.h: what session.c (memory), session_rows.c (rows and MACs),
 * session_end.c and session_link.c share; nobody else includes it. */
#pragma once

#include "identity/session.h"
#include "identity/token.h"
#include "storage/session_store.h"

struct Session {
    gint references;    /* atomic; the last one goes under the owner's lock */
    gint end;           /* atomic: 0 while live, then 1 + SessionEnd */
    gint64 used;        /* under the lock: newest generation of tokens that was used */
    gint64 seen_ms;     /* atomic: last authenticated */
    gint64 seen_row_ms; /* as last written; the revocation clock's thread alone */
    Sessions *owner;
    char *id;
    char *user_id;
    char *device_id;
    char *client;
    char *scope;
    LoginKind kind;
    GBytes *certificate;
    gint64 proof_ms;
    gint64 expires_ms;
};

struct Sessions {
    StorePool *pool;
    Lane *lane;
    Certificates *certificates;
    TokenKey *key;
    SessionSettings settings;

    GMutex lock;          /* guards everything below */
    GArray *bells;        /* of Bell */
    GHashTable *registry; /* session id -> Session, every one that somebody holds; not owned */
    GHashTable *cache;    /* CachedToken by hash, owned */
    GQueue recent;
    GHashTable *doomed; /* "user\ndevice", "user\n" -> count: killed here, rows still to go */
    GQueue unfinished;  /* of KillAct: rows that could not be written yet */
    guint64 kills;      /* goes up with every kill: a row read before it may be stale */
};

/* ---- session.c: memory ---- */
/* Who is meant; @device_id NULL: all of the user's; @but_id: a session that stays, or NULL. */
typedef struct {
    const char *user_id;
    const char *device_id;
    const char *but_id;
} SessionWhose;
gboolean session_is_whose(const Session *session, gconstpointer whose);

typedef gboolean (*SessionChoice)(const Session *session, gconstpointer data);
/* End what @choice picks; the locked form says whether there was any, and its caller rings. */
void sessions_forget_chosen(Sessions *sessions, SessionChoice choice, gconstpointer data,
                            SessionEnd end);
gboolean sessions_forget_locked(Sessions *sessions, SessionChoice choice, gconstpointer data,
                                SessionEnd end);
void sessions_ring(Sessions *sessions); /* outside the lock */
/* What was killed in memory while its rows are still to go. */
void
sessions_doom_locked(Sessions *sessions, const char *user_id, const char *device_id, gint step);
gboolean sessions_is_doomed_locked(Sessions *sessions, const char *user_id, const char *device_id);

/* ---- session_rows.c ---- */
void session_refuse_unknown(GError **error);
void session_refuse_ended(GError **error);
void session_refuse_expired(GError **error);
void session_row_seal(const TokenKey *key, SessionRow *row);
gboolean session_row_is_ours(const TokenKey *key, const SessionRow *row);
/* A token of @session's newest generation: its text, and the row to write. */
char *session_token_issue(const TokenKey *key, const SessionRow *session,
                          const guint8 raw[TOKEN_SESSION_BYTES], TokenKind kind, gint64 expires_ms,
                          TokenRow *ret_row);
/* The rows under @token: both ours, neither over.  FALSE with the refusal. */
gboolean session_rows_stand(const TokenKey *key, const Token *token, const SessionRow *session,
                            const TokenRow *row, gint64 now_ms, GError **error);

/* ---- session_end.c ---- */
void sessions_kill(Sessions *sessions, const char *user_id, const char *device_id, SessionEnd end,
                   const char *rule);
void sessions_unfinished_clear(Sessions *sessions);
