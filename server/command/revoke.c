/* chancery revoke: taking away, by one officer, at once; and giving back, by two. */
#include "server/command/command.h"
#include "server/command/officer_desk.h"

static gboolean
act_on_user(OfficerCall *call, const char *kind, GError **error)
{
    g_autoptr(cJSON) request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "user_id", call->words[1]);
    cJSON_AddStringToObject(request, "reason", call->reason != NULL ? call->reason : "");
    cJSON_AddStringToObject(request, "ticket", call->ticket != NULL ? call->ticket : "");
    return officer_act(call, kind, request, error);
}

static gboolean
suspend(OfficerCall *call, GError **error)
{
    return act_on_user(call, "suspend", error);
}

static gboolean
reinstate(OfficerCall *call, GError **error)
{
    return act_on_user(call, "reinstate", error);
}

static gboolean
certificate(OfficerCall *call, GError **error)
{
    return act_on_user(call, "revoke", error);
}

int
command_revoke(int argc, char **argv)
{
    static const OfficerVerb verbs[] = {
        {"suspend", "@NAME:SERVER [--reason TEXT]",
         "shut an account: every session ends in seconds", 1, suspend},
        {"certificate", "@NAME:SERVER [--reason TEXT]",
         "end the binding of an account to its certificate for good", 1, certificate},
        {"reinstate", "@NAME:SERVER [--reason TEXT]",
         "propose that a suspended account lives again; prints \"proposed ID\"", 1, reinstate},
        {"approve", "ID", "sign another officer's proposal, and have it done", 1,
         officer_verb_approve},
        {"crl", "FILE", "bring a revocation list (also: chancery revoke --crl FILE)", 1,
         officer_verb_crl},
        {NULL},
    };
    return officer_command(verbs, argc, argv);
}
