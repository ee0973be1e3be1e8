/* server/certificate/crl_intake.h: revocation lists come in, and what they revoke ends.
 *
 * A list that is taken becomes the one in force, and the sessions of everybody whose certificate
 * (or whose issuing CA) is on it end, all in one operation of the lane.  For the officers' API and
 * the watcher of the configured folder. */
#pragma once

#include <glib.h>

typedef struct Server Server; /* server/server.h */

/* What became of one list. */
typedef struct {
    char *issuer; /* the CA's name; "" when the list was in force already */
    char *number; /* hex */
    gint64 next_update_ms;
    guint ended; /* accounts whose sessions ended */
} CrlTaken;

/* @taken or @error (borrowed); on the lane thread. */
typedef void (*CrlTakenFunction)(gpointer data, const CrlTaken *taken, const GError *error);

/* Submit @bytes, brought by @actor (an officer's certificate, or "server").  FALSE when the lane
 * takes no more; then
 * @done is not called. */
gboolean crl_intake_submit(Server *server, GBytes *bytes, const char *actor, CrlTakenFunction done,
                           gpointer data, GError **error);

/* Reads the folder of [identity] crl_directory at once and then every 5 s, and takes every list
 * that is new; keeps time for nothing else.  Lists that are refused are warned of once. */
typedef struct CrlWatch CrlWatch;
CrlWatch *crl_watch_new(Server *server, const char *directory);
void crl_watch_free(CrlWatch *watch); /* ends the thread; before the lane stops */
