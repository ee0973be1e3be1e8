/* server/certificate/officer_act.h: one act of an officer, through the lane, with what it ends.
 * For server/certificate/officer_routes.c. */
#pragma once

#include "identity/officer.h"
#include "server/http/request.h"

/* A signed statement, or the approval of one. */
typedef struct {
    Officer officer; /* taken */
    char *approves;  /* hex digest of the proposal, or NULL: a new one */
    GBytes *statement;
    GBytes *signature;
    GPtrArray *certificate_der; /* or NULL */
} OfficerAct;
void officer_act_free(OfficerAct *act);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OfficerAct, officer_act_free)

/* Takes @act; the request is answered when the act is durable or refused. */
Response *officer_act_run(Request *request, OfficerAct *act, GError **error);

/* The officer who calls; a refusal is a line in the audit log. */
gboolean officer_of_request(Request *request, Officer *ret_officer, GError **error);
