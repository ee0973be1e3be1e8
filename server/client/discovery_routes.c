/* server/client/discovery_routes.c: what a client asks before it knows anything, and whether we are
 * well. */
#include "server/config.h"
#include "server/http/route.h"
#include "server/server.h"
#include "storage/log.h"

/* Client-server API, "API Versions".  Clients refuse a server that names none of v1.1 to v1.13. */
static Response *
versions_get(Request *request, GError **error)
{
    static const char answer[] = "{\"versions\":[\"v1.1\",\"v1.2\",\"v1.3\",\"v1.4\",\"v1.5\",\"v1."
                                 "6\",\"v1.7\",\"v1.8\",\"v1.9\","
                                 "\"v1.10\",\"v1.11\",\"v1.12\",\"v1.13\"],"
                                 "\"unstable_features\":{\"org.matrix.msc4222\":true}}";

    return response_text(200, "application/json", answer);
}

static Response *
well_known_client_get(Request *request, GError **error)
{
    const Config *config = request_server(request)->config;
    cJSON *answer = cJSON_CreateObject();
    cJSON *homeserver = cJSON_AddObjectToObject(answer, "m.homeserver");

    cJSON_AddStringToObject(homeserver, "base_url",
                            config_text(config, "server", "public_base_url"));
    return response_value(200, answer);
}

/* Server-server API, "Resolving server names". */
static Response *
well_known_server_get(Request *request, GError **error)
{
    const char *address =
        config_text(request_server(request)->config, "server", "federation_address");
    cJSON *answer;

    if (address == NULL)
        return response_error(404, "M_NOT_FOUND",
                              "This server's partners know its address from their lists");
    answer = cJSON_CreateObject();
    cJSON_AddStringToObject(answer, "m.server", address);
    return response_value(200, answer);
}

/* The process answers. */
static Response *
health_get(Request *request, GError **error)
{
    return response_text(200, "text/plain; charset=utf-8", "healthy\n");
}

/* The process can serve: the database answers. */
static Response *
ready_get(Request *request, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
    LogHead head;

    if (connection == NULL || !log_head_read(connection, &head, error))
        return NULL;
    return response_text(200, "text/plain; charset=utf-8", "ready\n");
}

extern const Route discovery_routes[];
const Route discovery_routes[] = {
    {"GET", "/_matrix/client/versions", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE,
     versions_get},
    {"GET", "/.well-known/matrix/client", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE,
     well_known_client_get},
    {"GET", "/.well-known/matrix/server", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE,
     well_known_server_get},
    {"GET", "/health", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, health_get},
    {"GET", "/ready", LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE, ready_get},
    {0},
};
