#include "server/client/link.h"

#include "identity/audit.h"
#include "identity/refusal.h"
#include "server/config.h"
#include "server/server.h"

enum {
    CLIENT_BYTES_MAX = 200
};

static Response *
answer_to(const Server *server, const SessionTokens *tokens)
{
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "user_id", tokens->user_id);
    cJSON_AddStringToObject(body, "device_id", tokens->device_id);
    cJSON_AddStringToObject(body, "access_token", tokens->access_token);
    cJSON_AddNumberToObject(body, "expires_in_ms", (double)tokens->expires_in_ms);
    if (tokens->refresh_token != NULL)
        cJSON_AddStringToObject(body, "refresh_token", tokens->refresh_token);
    cJSON *well_known = cJSON_AddObjectToObject(body, "well_known");
    cJSON *homeserver = cJSON_AddObjectToObject(well_known, "m.homeserver");
    cJSON_AddStringToObject(homeserver, "base_url",
                            config_text(server->config, "server", "public_base_url"));
    Response *response = response_value(200, body);
    response_header(response, "Cache-Control", "no-store");
    return response;
}

/* On the lane thread. */
static void
linked(gpointer data, SessionTokens *given, const GError *error)
{
    g_autoptr(Request) request = data;
    g_autoptr(SessionTokens) tokens = given;
    request_answer(request, tokens != NULL ? answer_to(request_server(request), tokens) : NULL,
                   error);
}

Response *
login_link(Request *request, const CertificateProof *proof, LoginKind kind, const SessionWish *wish,
           GError **error)
{
    Server *server = request_server(request);
    if (session_link(server->sessions, proof, kind, wish, linked, request_ref(request), error))
        return RESPONSE_LATER;
    request_unref(request);
    return NULL;
}

/* The client's own name for itself, for lists and audit lines: visible text, cut. */
static char *
client_name(const Request *request)
{
    const char *agent = request_header(request, "User-Agent");
    char *name = g_strndup(agent != NULL ? agent : "", CLIENT_BYTES_MAX);
    for (char *c = name; *c != '\0'; c++)
        if (!g_ascii_isprint(*c))
            *c = '?';
    return name;
}

SessionWish
login_wish(const Request *request, const cJSON *body)
{
    char *client = client_name(request);
    request_keep((Request *)request, client, g_free);
    return (SessionWish){
        .device_id = json_get_string(body, "device_id"),
        .display_name = json_get_string(body, "initial_device_display_name"),
        .client = client,
        .refresh = json_get_boolean(body, "refresh_token", FALSE),
    };
}

void
login_refused(Request *request, const char *user_id, const char *rule, const GError *error)
{
    if (error == NULL || error->domain != REFUSAL)
        return;
    AuditLine line = {
        .type = "login",
        .actor = "",
        .subject = user_id,
        .decision = "refused",
        .rule = rule != NULL ? rule : "login",
    };
    audit_refusal(request_server(request)->audit, &line);
}

gboolean
login_is_possible(const Server *server, GError **error)
{
    if (server->certificates != NULL)
        return TRUE;
    refusal_set(error, 403, "M_FORBIDDEN",
                "Nobody can log in here yet: the administrator names the authorities of people's "
                "certificates in [identity] anchors");
    return FALSE;
}
