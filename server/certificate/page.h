/* server/certificate/page.h: the few pages that people see in a browser: every value escaped,
 * nothing loaded, framed or remembered.  For server/certificate/. */
#pragma once

#include "server/http/response.h"

/* A page with a title and one paragraph. */
Response *page_new(guint status, const char *title, const char *text);
/* The same with a button that posts back to this very address. */
Response *page_ask(const char *title, const char *text, const char *button);
/* The last page of the interactive fallback: tells the client's window that it may go on. */
Response *page_done(const char *title, const char *text);
