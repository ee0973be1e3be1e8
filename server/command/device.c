/* chancery device: the devices of an account, and the end of one. */
#include "server/command/command.h"
#include "server/command/officer_desk.h"

static gboolean
list(OfficerCall *call, GError **error)
{
    g_autofree char *escaped = g_uri_escape_string(call->words[1], NULL, FALSE);
    g_autofree char *path = g_strdup_printf("/_chancery/officer/v1/devices/%s", escaped);
    g_autoptr(cJSON) answer = desk_request(call->desk, "GET", path, NULL, NULL, error);
    const cJSON *device = NULL;
    if (answer == NULL)
        return FALSE;
    cJSON_ArrayForEach(device, json_get_array(answer, "devices"))
    {
        g_print("%s %s\n", json_get_string(device, "device_id"),
                json_get_string(device, "display_name"));
    }
    return TRUE;
}

static gboolean
remove_device(OfficerCall *call, GError **error)
{
    g_autoptr(cJSON) request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "user_id", call->words[1]);
    cJSON_AddStringToObject(request, "device_id", call->words[2]);
    cJSON_AddStringToObject(request, "reason", call->reason != NULL ? call->reason : "");
    return officer_act(call, "device-remove", request, error);
}

int
command_device(int argc, char **argv)
{
    static const OfficerVerb verbs[] = {
        {"list", "@NAME:SERVER", "the devices of an account", 1, list},
        {"remove", "@NAME:SERVER DEVICE [--reason TEXT]",
         "end a device: its session, its keys, what waits for it", 2, remove_device},
        {NULL},
    };
    return officer_command(verbs, argc, argv);
}
