/* identity/proposal.h: officers' acts: drafted, signed, approved, done.
 *
 * What gives somebody something (an account, an office, re-instatement) takes two officers who are
 * two different persons; what takes away takes one.  Either way the act is a signed statement, its
 * digest is used up by it, and the writes of the act and its audit line are gathered into one
 * transaction.  A proposal that waits for its second signature expires after 24 hours.
 *
 * The functions read on @connection, decide, and gather into @writes; when they return FALSE
 * nothing of @writes may be run.  For server/certificate (on the lane) and tests (in a transaction
 * of their own). */
#pragma once

#include "identity/enrolment.h"
#include "identity/officer.h"
#include "storage/writes.h"

#define PROPOSALS_OPEN_MAX 1000

/* What a done act means for sessions and devices: the caller adds it to the same batch. */
typedef struct {
    gboolean done; /* FALSE: it waits for a second signature */
    char *digest;  /* hex, of the statement */
    StatementKind kind;
    char *ends_user_id;   /* all sessions of this user end, or NULL */
    gboolean soft;        /* they end because the binding was renewed, not for cause */
    char *removes_device; /* of ends_user_id: this device alone goes; or NULL */
} ProposalOutcome;
void proposal_outcome_clear(ProposalOutcome *outcome);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ProposalOutcome, proposal_outcome_clear)

/* A statement for an officer to look at and sign, from a request {kind, user_id, person, clearance,
 * ticket, reason, device_id, cert_sha256, not_after} as its kind needs; @certificate_der: of the
 * person to be enrolled or named officer, else NULL.
 * @person: the national identifier when the certificate holds none; it is kept only as a keyed
 * hash. */
Statement *proposal_draft(Certificates *certificates, StoreConnection *connection,
                          const cJSON *request, GPtrArray *certificate_der, GError **error);

/* @statement with its first signature, by @officer, who is connected. */
gboolean proposal_put(Certificates *certificates, StoreConnection *connection, StoreWrites *writes,
                      const Officer *officer, GBytes *statement, GBytes *signature,
                      GPtrArray *certificate_der, ProposalOutcome *ret_outcome,
                      const CertificateRule **ret_rule, GError **error);

/* The second signature for the proposal with that digest. */
gboolean
proposal_approve(Certificates *certificates, StoreConnection *connection, StoreWrites *writes,
                 const Officer *officer, const char *digest_hex, GBytes *signature,
                 ProposalOutcome *ret_outcome, const CertificateRule **ret_rule, GError **error);
