/* tests/openserver/open_routes.h: the server's routes, older names for them, and what only suites
 * call. */
#pragma once

#include "server/http/route.h"

/* NULL-terminated tables, made once; @shared_secret (may be NULL) is copied. */
const Route *const *open_routes(const char *shared_secret);
