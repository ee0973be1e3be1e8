/* identity/refusal.h: "no", as a value with the specification's error code.
 *
 * Rules far below a handler (a banned user, an unlisted partner, a wrong certificate) say no with a
 * sentence that helps; the dispatcher alone turns it into the HTTP answer.  A refusal is not a
 * failure: it is not logged as an error.  For identity/, federation/ and server/. */
#pragma once

#include <glib.h>

#define REFUSAL (refusal_quark())
GQuark refusal_quark(void);

/* error->code is the HTTP status; the message reads "M_FORBIDDEN: You are not in that room". */
void refusal_set(GError **error, guint status, const char *errcode, const char *sentence, ...)
    G_GNUC_PRINTF(4, 5);
/* The two halves of such a message: a copy of the errcode, and the sentence within @error. */
char *refusal_errcode(const GError *error, const char **ret_sentence);
