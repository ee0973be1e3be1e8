/* chancery enrol: accounts are bound to certificates, by two officers. */
#include "server/command/command.h"
#include "server/command/officer_desk.h"

static gboolean
propose(OfficerCall *call, GError **error)
{
    g_autoptr(cJSON) request = cJSON_CreateObject();
    if (call->user_id == NULL || call->certificate == NULL) {
        g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                            "say --user @NAME:SERVER and --certificate FILE");
        return FALSE;
    }
    cJSON_AddStringToObject(request, "user_id", call->user_id);
    cJSON_AddStringToObject(request, "clearance", call->clearance != NULL ? call->clearance : "");
    cJSON_AddStringToObject(request, "ticket", call->ticket != NULL ? call->ticket : "");
    if (call->person != NULL)
        cJSON_AddStringToObject(request, "person", call->person);
    if (call->until != NULL) {
        g_autofree char *time = g_strdup_printf("%sT00:00:00Z", call->until);
        g_autoptr(GDateTime) end = g_date_time_new_from_iso8601(time, NULL);
        if (end == NULL) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s is no day: write YYYY-MM-DD",
                        call->until);
            return FALSE;
        }
        cJSON_AddNumberToObject(request, "not_after", (double)g_date_time_to_unix(end) * 1000);
    }
    return officer_act(call, "enrol", request, error);
}

static gboolean
list(OfficerCall *call, GError **error)
{
    g_autofree char *after = g_strdup("");
    while (after != NULL) {
        const cJSON *row = NULL;
        g_autofree char *escaped = g_uri_escape_string(after, NULL, FALSE);
        g_autofree char *path =
            g_strdup_printf("/_chancery/officer/v1/enrolments?after=%s", escaped);
        g_autoptr(cJSON) answer = desk_request(call->desk, "GET", path, NULL, NULL, error);
        if (answer == NULL)
            return FALSE;
        cJSON_ArrayForEach(row, json_get_array(answer, "enrolments"))
        {
            g_print("%s %s %s\n", json_get_string(row, "user_id"), json_get_string(row, "state"),
                    json_get_string(row, "certificate"));
        }
        g_free(after);
        after = g_strdup(json_get_string(answer, "next"));
    }
    return TRUE;
}

int
command_enrol(int argc, char **argv)
{
    static const OfficerVerb verbs[] = {
        {"propose",
         "--user @NAME:SERVER --certificate FILE [--person REF] [--clearance LABEL] [--ticket REF] "
         "[--until YYYY-MM-DD]",
         "propose an account, or a new certificate for one; prints \"proposed ID\"", 0, propose},
        {"approve", "ID", "sign another officer's proposal, and have it done", 1,
         officer_verb_approve},
        {"proposals", "", "what waits for a second officer", 0, officer_verb_proposals},
        {"list", "", "every account, its state and its certificate", 0, list},
        {NULL},
    };
    return officer_command(verbs, argc, argv);
}
