/* server/access_log.h: one line a request: who, which route, what came of it.
 * Never a token, a query value, a body, or a path that no route knows.  For server/http/. */
#pragma once

#include <glib.h>

typedef struct {
    const char *listener;
    const char *method;
    const char *route;  /* the path as the specification writes it, or NULL */
    const char *caller; /* user, partner or NULL */
    guint status;
    gsize body_bytes;
    gint64 took_us;
} AccessLine;

/* The line without its time and line end. */
char *access_log_format(const AccessLine *line);
void access_log_write(const AccessLine *line);
