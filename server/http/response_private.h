/* server/http/response_private.h: what an answer is made of.  For server/http/ alone. */
#pragma once

#include "server/http/response.h"

struct Response {
    guint status;
    GBytes *body;
    cJSON *error;       /* an error body that is still open for response_error_set(), or NULL */
    GPtrArray *headers; /* name, value, name, value … */
    gboolean close;     /* end the connection after this answer */
};

/* The body, closed for changes. */
GBytes *response_body(Response *response);
const char *response_find_header(const Response *response, const char *name);
