/* server/client/capabilities.c: what this server can do, and what it has none of.
 * Client-server API: "Capabilities negotiation", "Third-party Networks", "Voice over IP". */
#include "federation/room/room_version.h"
#include "server/http/route.h"

/* Every version that the specification has is stable there. */
static void
append_room_versions(GString *out)
{
    guint count = 0, given = 0;
    const RoomVersion *versions = room_version_table(&count);

    g_string_append_printf(out, "{\"default\":\"%s\",\"available\":{", room_version_default()->id);
    for (guint i = 0; i < count; i++)
        if (versions[i].supported)
            g_string_append_printf(out, "%s\"%s\":\"stable\"", given++ > 0 ? "," : "",
                                   versions[i].id);
    g_string_append(out, "}}");
}

static Response *
capabilities_get(Request *request, GError **error)
{
    GString *out = g_string_new("{\"capabilities\":{\"m.room_versions\":");

    append_room_versions(out);
    g_string_append(out, ",\"m.change_password\":{\"enabled\":false},"
                         "\"m.3pid_changes\":{\"enabled\":false},"
                         "\"m.get_login_token\":{\"enabled\":false},"
                         "\"m.set_displayname\":{\"enabled\":true},"
                         "\"m.set_avatar_url\":{\"enabled\":true}}}");
    return response_json(200, out);
}

/* No bridges, no relay: an empty object is the specification's way to say so. */
static Response *
nothing_get(Request *request, GError **error)
{
    return response_empty_object();
}

/* Clients take this 404 for "no OAuth here" and go on with GET /login. */
static Response *
auth_metadata_get(Request *request, GError **error)
{
    return response_error(404, "M_UNRECOGNIZED",
                          "This server does not speak OAuth 2.0; see GET /login");
}

static Response *
third_party_ids_get(Request *request, GError **error)
{
    return response_json(200, g_string_new("{\"threepids\":[]}"));
}

#define CLIENT "/_matrix/client/"
#define USER LISTEN_CLIENT, CALLER_USER, RATE_NONE, BODY_NONE
#define ANYONE LISTEN_CLIENT, CALLER_ANYONE, RATE_NONE, BODY_NONE

extern const Route capability_routes[];
const Route capability_routes[] = {
    {"GET", CLIENT "v3/capabilities", USER, capabilities_get},
    {"GET", CLIENT "v3/thirdparty/protocols", USER, nothing_get},
    {"GET", CLIENT "v3/voip/turnServer", USER, nothing_get},
    {"GET", CLIENT "v3/account/3pid", USER, third_party_ids_get},
    {"GET", CLIENT "v1/auth_metadata", ANYONE, auth_metadata_get},
    {"GET", CLIENT "unstable/org.matrix.msc2965/auth_metadata", ANYONE, auth_metadata_get},
    {0},
};
