/* server/client/typing.h: who is typing where.  Volatile: in memory, each for its time, never in
 * the log; losing it is harmless.  For server/client (sync, the route) and server/partner (m.typing
 * of partners).  Thread-safe. */
#pragma once

#include <glib.h>

typedef struct Typing Typing;

#define TYPING_MS_MAX (120 * 1000)
#define TYPING_PARTNER_MS (30 * 1000) /* an m.typing of a partner names no time */
#define TYPING_ROOM_USERS_MAX 200

/* Runs after each change, outside all locks, with the room that changed: sync_hub_wake_room. */
typedef void (*TypingBell)(const char *room_id, gpointer data);

Typing *typing_new(TypingBell bell, gpointer data);
void typing_free(Typing *typing);

/* Who may type there is judged by the caller. @timeout_ms 0: has stopped. */
void typing_set(Typing *typing, const char *room_id, const char *user_id, guint timeout_ms);

/* Rises with each change; starts at a random number with each process, so an old token's is known
 * to be old: a token whose version is not among this process's counts as 0, "tell all". */
gint64 typing_version(Typing *typing);
/* TRUE when the room's list changed after version @since. */
gboolean typing_changed(Typing *typing, const char *room_id, gint64 since);
/* Of a set of rooms (keys are char *), those: char *, owned. */
GPtrArray *typing_changed_among(Typing *typing, GHashTable *room_ids, gint64 since);
/* Append the m.typing event of the room as it is now. */
void typing_append(Typing *typing, const char *room_id, GString *out);
