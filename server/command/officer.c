/* chancery officer: who the identity officers are. */
#include "server/command/command.h"
#include "server/command/officer_desk.h"

static gboolean
list(OfficerCall *call, GError **error)
{
    g_autoptr(cJSON) answer =
        desk_request(call->desk, "GET", "/_chancery/officer/v1/officers", NULL, NULL, error);
    const cJSON *officer = NULL;
    if (answer == NULL)
        return FALSE;
    cJSON_ArrayForEach(officer, json_get_array(answer, "officers"))
    {
        g_print("%s %s%s %s\n", json_get_string(officer, "certificate"),
                json_get_string(officer, "state"),
                json_get_boolean(officer, "founder", FALSE) ? " founder" : "",
                json_get_string(officer, "name"));
    }
    return TRUE;
}

static gboolean
add(OfficerCall *call, GError **error)
{
    g_autoptr(cJSON) request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "ticket", call->ticket != NULL ? call->ticket : "");
    if (call->person != NULL)
        cJSON_AddStringToObject(request, "person", call->person);
    return officer_act(call, "officer", request, error);
}

static gboolean
remove_officer(OfficerCall *call, GError **error)
{
    g_autoptr(cJSON) request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "cert_sha256", call->words[1]);
    cJSON_AddStringToObject(request, "ticket", call->ticket != NULL ? call->ticket : "");
    cJSON_AddStringToObject(request, "reason", call->reason != NULL ? call->reason : "");
    return officer_act(call, "officer-remove", request, error);
}

int
command_officer(int argc, char **argv)
{
    static const OfficerVerb verbs[] = {
        {"list", "", "everybody who is or was an officer", 0, list},
        {"add", "--certificate FILE [--ticket REF]", "propose another officer", 0, add},
        {"remove", "SHA256 [--reason TEXT]", "end an office at once", 1, remove_officer},
        {"proposals", "", "what waits for a second officer", 0, officer_verb_proposals},
        {"approve", "ID", "sign a proposal of another officer, and have it done", 1,
         officer_verb_approve},
        {"crl", "FILE", "bring a revocation list", 1, officer_verb_crl},
        {NULL},
    };
    return officer_command(verbs, argc, argv);
}
