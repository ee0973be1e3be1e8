/* server/certificate/uia_fallback.c: the fallback page of m.login.sso on the client listener, which
 * only leads to the certificate listener.  (Client-server API, "Fallback".) */
#include <string.h>

#include "identity/uia.h"
#include "server/certificate/page.h"
#include "server/config.h"
#include "server/http/route.h"
#include "server/server.h"

static Response *
fallback_get(Request *request, GError **error)
{
    const char *base =
        config_text(request_server(request)->config, "certificate", "public_base_url");
    const char *id = request_query(request, "session");

    if (strcmp(request_path(request, "authType"), UIA_STAGE_SSO) != 0)
        return page_new(404, "No such page", "This server confirms with certificates alone.");
    if (base == NULL || id == NULL)
        return page_new(400, "Nothing to confirm", "Start again from your client.");
    g_autofree char *escaped = g_uri_escape_string(id, NULL, FALSE);
    g_autofree char *location =
        g_strdup_printf("%s/_chancery/v1/uia/sso?session=%s", base, escaped);
    return response_redirect(location);
}

extern const Route uia_fallback_routes[];
const Route uia_fallback_routes[] = {
    {"GET", "/_matrix/client/v3/auth/{authType}/fallback/web", LISTEN_CLIENT, CALLER_ANYONE,
     RATE_LOGIN, BODY_NONE, fallback_get},
    {0},
};
