#include "server/certificate/officer_act.h"

#include "identity/audit.h"
#include "identity/device_link.h"
#include "identity/proposal.h"
#include "identity/refusal.h"
#include "identity/session.h"
#include "server/server.h"

void
officer_act_free(OfficerAct *act)
{
    if (act == NULL)
        return;
    officer_clear(&act->officer);
    g_free(act->approves);
    g_clear_pointer(&act->statement, g_bytes_unref);
    g_clear_pointer(&act->signature, g_bytes_unref);
    g_clear_pointer(&act->certificate_der, g_ptr_array_unref);
    g_free(act);
}

typedef struct {
    Request *request;
    OfficerAct *act;
    ProposalOutcome outcome;
    const CertificateRule *rule;
} Run;

static void
run_free(Run *run)
{
    request_unref(run->request);
    officer_act_free(run->act);
    proposal_outcome_clear(&run->outcome);
    g_free(run);
}

static void
write_refusal(Server *server, const char *actor, const char *object, const CertificateRule *rule)
{
    AuditLine line = {.type = "officer",
                      .actor = actor,
                      .object = object,
                      .rule = rule != NULL ? rule->name : "refused"};
    audit_refusal(server->audit, &line);
}

static void
end_what_it_ends(LaneBatch *batch, const ProposalOutcome *outcome)
{
    if (outcome->removes_device != NULL)
        device_remove_in_batch(batch, outcome->ends_user_id, outcome->removes_device);
    else if (outcome->ends_user_id != NULL)
        sessions_end_in_batch(batch, outcome->ends_user_id, NULL,
                              outcome->soft ? SESSION_END_EXPIRED : SESSION_END_COMPROMISE);
}

/* Judged by what every act before it has done: two officers who remove each other are one too few,
 * and a re-instatement does not write over a revocation. */
static gboolean
run_apply(LaneBatch *batch, gpointer data, GError **error)
{
    Run *run = data;
    OfficerAct *act = run->act;
    Certificates *certificates = request_server(run->request)->certificates;
    g_autoptr(StoreWrites) writes = store_writes_new();
    StoreConnection *connection = lane_batch_first_connection(batch, error);
    proposal_outcome_clear(&run->outcome); /* it may run again after a rollback */
    if (connection == NULL)
        return FALSE;
    gboolean gathered =
        act->approves != NULL
            ? proposal_approve(certificates, connection, writes, &act->officer, act->approves,
                               act->signature, &run->outcome, &run->rule, error)
            : proposal_put(certificates, connection, writes, &act->officer, act->statement,
                           act->signature, act->certificate_der, &run->outcome, &run->rule, error);
    if (!gathered)
        return FALSE;
    store_writes_to_batch(writes, batch);
    end_what_it_ends(batch, &run->outcome);
    return TRUE;
}

/* On the lane thread. */
static void
run_done(gpointer data, gint64 position, const GError *error)
{
    Run *run = data;
    Server *server = request_server(run->request);
    Response *response = NULL;
    g_autoptr(GError) taken = NULL;
    if (error == NULL && run->outcome.soft && run->outcome.ends_user_id != NULL)
        sessions_forget(server->sessions, run->outcome.ends_user_id, NULL, SESSION_END_EXPIRED);
    if (error == NULL) {
        cJSON *body = cJSON_CreateObject();
        cJSON_AddStringToObject(body, "proposal", run->outcome.digest);
        cJSON_AddStringToObject(body, "kind", statement_kind_name(run->outcome.kind));
        cJSON_AddStringToObject(body, "state", run->outcome.done ? "done" : "proposed");
        response = response_value(200, body);
    } else if (error->domain == REFUSAL) {
        write_refusal(server, run->act->officer.certificate, run->act->approves, run->rule);
    } else if (g_error_matches(error, STORE_ERROR, STORE_ERROR_CONFLICT)) {
        /* A rule that the database keeps: another act came first in the same moment. */
        refusal_set(&taken, 409, "M_FORBIDDEN",
                    "Another act came first: this account, person, key, certificate or statement "
                    "is taken now.");
    }
    request_answer(run->request, response, taken != NULL ? taken : error);
    run_free(run);
}

Response *
officer_act_run(Request *request, OfficerAct *act, GError **error)
{
    Run *run = g_new0(Run, 1);
    run->request = request_ref(request);
    run->act = act;
    if (lane_submit(request_server(request)->lane, run_apply, run_done, run, error))
        return RESPONSE_LATER;
    run_free(run);
    return NULL;
}

/* SHA-256 of the certificate that the connection showed, hex. */
static char *
certificate_shown(const Request *request)
{
    GPtrArray *chain = request_certificate_chain(request);
    return chain != NULL && chain->len > 0
               ? g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, g_ptr_array_index(chain, 0))
               : g_strdup("");
}

gboolean
officer_of_request(Request *request, Officer *ret_officer, GError **error)
{
    Server *server = request_server(request);
    const CertificateRule *rule = NULL;
    g_autoptr(GError) refused = NULL;
    if (server->certificates == NULL) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "This server has no trust anchors for people, and so no officers.");
        return FALSE;
    }
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    if (connection == NULL)
        return FALSE;
    if (officer_from_tls(server->certificates, connection, request_certificate_chain(request),
                         ret_officer, &rule, &refused))
        return TRUE;
    if (refused->domain == REFUSAL) {
        g_autofree char *shown = certificate_shown(request);
        write_refusal(server, shown, request_target(request), rule);
    }
    g_propagate_error(error, g_steal_pointer(&refused));
    return FALSE;
}
