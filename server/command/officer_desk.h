/* server/command/officer_desk.h: what the officers' four commands share: verbs, options, statements
 * shown and signed. For server/command/{officer,enrol,revoke,device}.c. */
#pragma once

#include "server/command/desk.h"

/* Everything that a verb may be given beside its words. */
typedef struct {
    char *user_id;
    char *certificate; /* file */
    char *person;
    char *clearance;
    char *ticket;
    char *reason;
    char *crl;   /* file */
    char *until; /* day */
    gboolean yes;
    char **words; /* what was no option, the verb first */
    guint count;
    Desk *desk;
} OfficerCall;

typedef struct {
    const char *name;
    const char *arguments; /* as the help shows them */
    const char *help;
    guint words; /* how many follow the verb, at least */
    gboolean (*run)(OfficerCall *call, GError **error);
} OfficerVerb;

/* The whole command: options, verb, desk, errors on standard error.  @verbs end with a NULL name.
 * Returns the exit status. */
int officer_command(const OfficerVerb *verbs, int argc, char **argv);

/* Have a statement drafted, look whether it says what was asked, show it, sign it and bring it.
 * Prints "done ID" or "proposed ID". */
gboolean officer_act(OfficerCall *call, const char *kind, const cJSON *request, GError **error);
/* The verbs that several commands have. */
gboolean
officer_verb_approve(OfficerCall *call, GError **error); /* ID (or its first 8 digits and more) */
gboolean officer_verb_proposals(OfficerCall *call, GError **error); /* what waits */
gboolean officer_verb_crl(OfficerCall *call, GError **error);       /* FILE, or --crl FILE */
