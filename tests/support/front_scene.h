/* tests/support/front_scene.h: a front end on loopback with the routes of one test program, and raw
 * sockets to speak to it byte by byte. */
#pragma once

#include "server/http/front.h"

typedef struct {
    FrontEnd *front;
    guint16 port; /* of its one listener, for clients */
} FrontScene;

/* First in main(): the program's tests meet the routes of @table (borrowed), no users, and what is
 * logged is kept quiet. */
void front_begin(int *argc, char ***argv, const Route *table);
/* How many warnings were logged since. */
guint front_warnings(void);

/* Few workers, no access log. */
FrontEndSettings front_settings(void);
void front_open(FrontScene *scene, const FrontEndSettings *settings);
/* Whose connections end after so long (0: never). */
void
front_open_with_life(FrontScene *scene, const FrontEndSettings *settings, guint connection_life_ms);
void front_close(FrontScene *scene);
/* For g_test_add(): open with front_settings(), and close. */
void front_set_up(FrontScene *scene, gconstpointer data);
void front_tear_down(FrontScene *scene, gconstpointer data);

/* A handler: "method|target|name|bytes of the body". */
Response *front_echo(Request *request, GError **error);

/* ---- raw sockets ---- */

#define END "Connection: close\r\n\r\n"
#define HOST "Host: a\r\n"

int front_dial(const FrontScene *scene);
void front_say(int fd, const char *text, gsize length);
/* Until the server closes, or @until is in what came (NULL: only the close).  Free it. */
char *front_hear(int fd, const char *until, gboolean *ret_closed);
/* One request on a connection of its own, heard to the close.  Free it. */
char *front_converse(const FrontScene *scene, const char *text, gboolean *ret_closed);
