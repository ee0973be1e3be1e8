/* server/client/uia.h: the gate for requests that need a fresh proof beside the access token.
 * (Client-server API, "User-Interactive Authentication API".)
 *
 * A session from the browser is sent to the certificate page (m.login.sso); one from a signed
 * challenge signs another (UIA_STAGE_CHALLENGE).  The proof is good once, for the same method, path
 * and body. For handlers of CALLER_USER routes with a JSON body, first thing. */
#pragma once

#include "server/http/request.h"

/* TRUE: proved, go on.  FALSE: return *ret_answer (a 401 that says how), or NULL with @error set.
 */
gboolean uia_require(Request *request, Response **ret_answer, GError **error);
