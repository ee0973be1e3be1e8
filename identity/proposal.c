#include "identity/proposal.h"

#include <sodium.h>
#include <string.h>

#include "identity/audit.h"
#include "identity/certificate_view.h"
#include "identity/clock.h"
#include "identity/refusal.h"
#include "storage/proposal_store.h"

#define TOLERANCE_MS ((gint64)60 * 1000)
#define PERSONS_MIN 2 /* with fewer officers nothing could ever be granted again */

/* One act on its way: what is known of it, and where its writes go. */
typedef struct {
    Certificates *certificates;
    StoreConnection *connection;
    StoreWrites *writes;
    const Officer *officer; /* who brings the newest signature */
    const Statement *statement;
    GPtrArray *certificate_der; /* of the person, or NULL */
    GBytes *first;              /* signatures; second NULL where one is enough */
    GBytes *second;
    gint64 now_ms;
    ProposalOutcome *outcome;
    const CertificateRule **ret_rule;
} Act;

void
proposal_outcome_clear(ProposalOutcome *outcome)
{
    g_clear_pointer(&outcome->digest, g_free);
    g_clear_pointer(&outcome->ends_user_id, g_free);
    g_clear_pointer(&outcome->removes_device, g_free);
}

static gboolean
refuse(GError **error, guint status, const char *errcode, const char *sentence)
{
    refusal_set(error, status, errcode, "%s", sentence);
    return FALSE;
}

/* ---- drafts ---- */

/* The certificate of the person under what the statement will say of it. */
static gboolean
draft_certificate(Certificates *certificates, const cJSON *request, GPtrArray *certificate_der,
                  Statement *draft, GError **error)
{
    CertificateQuery query = {.at_ms = clock_wall_ms()};
    g_autoptr(Certificate) certificate = NULL;
    gint64 not_after_ms = 0;
    const char *person = json_get_string(request, "person");

    if (certificate_der == NULL)
        return refuse(error, 400, "M_MISSING_PARAM",
                      "This kind of statement needs the person's certificate.");
    if (!certificates_check(certificates, certificate_der, &query, &certificate, NULL, error))
        return FALSE;
    const char *identifier = certificate_national_identifier(certificate);
    if (identifier[0] == '\0')
        identifier = person != NULL ? person : "";
    if (identifier[0] == '\0')
        return refuse(error, 400, "M_MISSING_PARAM",
                      "The certificate names no person (no serialNumber in its subject): say who "
                      "it is, with person.");
    if (person != NULL && strcmp(person, identifier) != 0)
        return refuse(error, 400, "M_INVALID_PARAM",
                      "The certificate is another person's: the serialNumber in its subject is "
                      "not the person that you named.");
    if (json_get_integer(request, "not_after", &not_after_ms) &&
        not_after_ms > certificate_not_after_ms(certificate))
        return refuse(error, 400, "M_INVALID_PARAM",
                      "not_after is later than the certificate's own end.");
    draft->person_ref = record_key_person_ref(certificates_record_key(certificates), identifier);
    draft->policy_oid = g_strdup(certificates_policy_of(certificates, certificate));
    draft->cert_sha256 = g_strdup(certificate_sha256(certificate));
    draft->spki_sha256 = g_strdup(certificate_spki_sha256(certificate));
    draft->issuers = g_new0(char *, 2);
    draft->issuers[0] = g_strdup(certificate_issuer_key(certificate));
    draft->not_after_ms = not_after_ms != 0 ? not_after_ms : certificate_not_after_ms(certificate);
    return TRUE;
}

/* revoke names the certificate that is bound now, unless the request names it. */
static gboolean
draft_revoke(StoreConnection *connection, Statement *draft, GError **error)
{
    g_autoptr(EnrolmentRow) row = NULL;
    if (draft->cert_sha256 != NULL)
        return TRUE;
    if (draft->user_id == NULL ||
        !enrolment_store_find_user(connection, draft->user_id, &row, error))
        return FALSE;
    if (row == NULL)
        return refuse(error, 404, "M_NOT_FOUND", "No such account, or nothing is bound to it.");
    char hex[2 * 32 + 1];
    sodium_bin2hex(hex, sizeof hex, g_bytes_get_data(row->certificate, NULL), 32);
    draft->cert_sha256 = g_strdup(hex);
    return TRUE;
}

Statement *
proposal_draft(Certificates *certificates, StoreConnection *connection, const cJSON *request,
               GPtrArray *certificate_der, GError **error)
{
    g_autoptr(Statement) draft = g_new0(Statement, 1);
    if (!statement_kind_from_name(json_get_string(request, "kind"), &draft->kind) ||
        draft->kind == STATEMENT_FOUNDING) {
        refuse(error, 400, "M_INVALID_PARAM", "There is no such kind of statement.");
        return NULL;
    }
    draft->server_name = g_strdup(certificates_server_name(certificates));
    draft->agency = g_strdup(certificates_agency(certificates));
    draft->user_id = g_strdup(json_get_string(request, "user_id"));
    draft->clearance = g_strdup(json_get_string(request, "clearance"));
    draft->ticket = g_strdup(json_get_string(request, "ticket"));
    draft->reason = g_strdup(json_get_string(request, "reason"));
    draft->device_id = g_strdup(json_get_string(request, "device_id"));
    draft->role = g_strdup("identity");
    draft->issued_ms = clock_wall_ms();
    if (draft->kind == STATEMENT_ENROL || draft->kind == STATEMENT_OFFICER) {
        if (!draft_certificate(certificates, request, certificate_der, draft, error))
            return NULL;
    } else {
        draft->cert_sha256 = g_strdup(json_get_string(request, "cert_sha256"));
        if (draft->kind == STATEMENT_REVOKE && !draft_revoke(connection, draft, error)) {
            if (error != NULL && *error == NULL)
                refuse(error, 400, "M_MISSING_PARAM", "Say which user_id.");
            return NULL;
        }
    }
    return statement_make(draft, error);
}

/* ---- what each kind wants, and does ---- */

static gboolean
check_certificate(const Act *act, Certificate **ret_certificate, GError **error)
{
    const Statement *statement = act->statement;
    CertificateQuery query = {.at_ms = act->now_ms,
                              .policy = statement->policy_oid,
                              .issuers = (const char *const *)statement->issuers};
    g_autoptr(Certificate) certificate = NULL;
    if (act->certificate_der == NULL)
        return refuse(error, 400, "M_MISSING_PARAM", "The person's certificate is missing.");
    if (!g_strv_contains(certificates_policies(act->certificates), statement->policy_oid))
        return certificate_refuse("explicit-policy", statement->policy_oid, act->ret_rule, error);
    if (!certificates_check(act->certificates, act->certificate_der, &query, &certificate,
                            act->ret_rule, error))
        return FALSE;
    if (strcmp(certificate_sha256(certificate), statement->cert_sha256) != 0 ||
        strcmp(certificate_spki_sha256(certificate), statement->spki_sha256) != 0 ||
        statement->not_after_ms > certificate_not_after_ms(certificate))
        return refuse(error, 400, "M_INVALID_PARAM",
                      "The statement does not say what the certificate says.");
    const char *identifier = certificate_national_identifier(certificate);
    g_autofree char *person =
        record_key_person_ref(certificates_record_key(act->certificates), identifier);
    if (identifier[0] != '\0' && strcmp(person, statement->person_ref) != 0)
        return refuse(error, 400, "M_INVALID_PARAM",
                      "The statement names another person than the certificate.");
    if (strcmp(act->officer->person_ref, statement->person_ref) == 0)
        return certificate_refuse("self", NULL, act->ret_rule, error);
    *ret_certificate = g_steal_pointer(&certificate);
    return TRUE;
}

static gboolean
find_account(const Act *act, EnrolmentRow **ret_row, GError **error)
{
    if (!enrolment_store_find_user(act->connection, act->statement->user_id, ret_row, error))
        return FALSE;
    if (*ret_row == NULL)
        return refuse(error, 404, "M_NOT_FOUND", "No such account, or nothing is bound to it.");
    if (!enrolment_state_holds(act->certificates, *ret_row))
        return certificate_refuse("statement", "its record was not made by this server",
                                  act->ret_rule, error);
    return TRUE;
}

static gboolean
do_enrol(const Act *act, gboolean final, GError **error)
{
    const Statement *statement = act->statement;
    g_autoptr(Certificate) certificate = NULL;
    g_autoptr(EnrolmentRow) before = NULL;
    g_autofree char *rival = NULL;

    if (strcmp(statement->agency, certificates_agency(act->certificates)) != 0)
        return refuse(error, 400, "M_INVALID_PARAM", "The statement is of another agency.");
    if (!check_certificate(act, &certificate, error) ||
        !enrolment_store_find_rival(act->connection, statement->user_id, statement->spki_sha256,
                                    statement->person_ref, &rival, error) ||
        !enrolment_store_find_user(act->connection, statement->user_id, &before, error))
        return FALSE;
    if (rival != NULL) {
        refusal_set(error, 409, "M_FORBIDDEN",
                    strcmp(rival, statement->user_id) == 0
                        ? "The account %s belongs to another person."
                        : "This person or this key already has the account %s: one account each.",
                    rival);
        return FALSE;
    }
    if (before != NULL && before->state == ENROLMENT_SUSPENDED)
        return refuse(error, 409, "M_FORBIDDEN", "This account is suspended: re-instate it first.");
    if (before != NULL && g_bytes_equal(before->certificate, certificate_sha256_bytes(certificate)))
        return refuse(error, 409, "M_FORBIDDEN",
                      "This account is bound to this certificate already.");
    if (!final)
        return TRUE;
    if (before != NULL) {
        enrolment_change(act->certificates, act->writes, before, ENROLMENT_REPLACED, act->now_ms);
        act->outcome->ends_user_id = g_strdup(statement->user_id);
        act->outcome->soft = TRUE;
    }
    account_store_put(act->writes, statement->user_id, act->now_ms);
    g_autoptr(GBytes) mac = enrolment_mac(act->certificates, statement->digest, statement->user_id,
                                          certificate_sha256_bytes(certificate), act->now_ms,
                                          ENROLMENT_ACTIVE, act->now_ms);
    EnrolmentRow row = {
        .user_id = statement->user_id,
        .digest = statement->digest,
        .statement = statement->bytes,
        .signature_first = act->first,
        .signature_second = act->second,
        .certificate = certificate_sha256_bytes(certificate),
        .spki = statement->spki_sha256,
        .person_ref = statement->person_ref,
        .issuer_key = (char *)certificate_issuer_key(certificate),
        .serial = (char *)certificate_serial(certificate),
        .not_after_ms = MIN(statement->not_after_ms, certificate_not_after_ms(certificate)),
        .approved_ms = act->now_ms,
        .state = ENROLMENT_ACTIVE,
        .changed_ms = act->now_ms,
        .mac = mac,
    };
    enrolment_store_insert(act->writes, &row);
    return TRUE;
}

static gboolean
do_officer(const Act *act, gboolean final, GError **error)
{
    g_autoptr(Certificate) certificate = NULL;
    g_autoptr(OfficerRow) before = NULL;
    if (!check_certificate(act, &certificate, error) ||
        !officer_store_find(act->connection, act->statement->cert_sha256, &before, error))
        return FALSE;
    if (before != NULL)
        return refuse(error, 409, "M_FORBIDDEN",
                      before->removed_ms == 0
                          ? "This certificate is an officer's already."
                          : "This certificate was an officer's and was removed: use a new one.");
    if (final) {
        g_autoptr(OfficerRow) row = officer_row_new(act->certificates, act->statement, certificate,
                                                    act->first, act->second, act->now_ms);
        officer_store_insert(act->writes, row);
    }
    return TRUE;
}

static gboolean
do_reinstate(const Act *act, gboolean final, GError **error)
{
    g_autoptr(EnrolmentRow) row = NULL;
    if (!find_account(act, &row, error))
        return FALSE;
    if (row->state != ENROLMENT_SUSPENDED)
        return refuse(error, 409, "M_FORBIDDEN", "This account is not suspended.");
    if (strcmp(act->officer->person_ref, row->person_ref) == 0)
        return certificate_refuse("self", NULL, act->ret_rule, error);
    if (final)
        enrolment_change(act->certificates, act->writes, row, ENROLMENT_ACTIVE, act->now_ms);
    return TRUE;
}

static gboolean
do_suspend(const Act *act, gboolean final, GError **error)
{
    g_autoptr(EnrolmentRow) row = NULL;
    if (!find_account(act, &row, error))
        return FALSE;
    if (row->state == ENROLMENT_SUSPENDED)
        return refuse(error, 409, "M_FORBIDDEN", "This account is suspended already.");
    enrolment_change(act->certificates, act->writes, row, ENROLMENT_SUSPENDED, act->now_ms);
    act->outcome->ends_user_id = g_strdup(row->user_id);
    return TRUE;
}

static gboolean
do_revoke(const Act *act, gboolean final, GError **error)
{
    g_autoptr(EnrolmentRow) row = NULL;
    if (!find_account(act, &row, error))
        return FALSE;
    char hex[2 * 32 + 1];
    sodium_bin2hex(hex, sizeof hex, g_bytes_get_data(row->certificate, NULL), 32);
    if (strcmp(hex, act->statement->cert_sha256) != 0)
        return refuse(error, 409, "M_FORBIDDEN",
                      "The account is not bound to that certificate (any more).");
    enrolment_change(act->certificates, act->writes, row, ENROLMENT_REVOKED, act->now_ms);
    act->outcome->ends_user_id = g_strdup(row->user_id);
    return TRUE;
}

static gboolean
do_officer_remove(const Act *act, gboolean final, GError **error)
{
    g_autoptr(OfficerRow) row = NULL;
    guint persons = 0;
    if (!officer_store_find(act->connection, act->statement->cert_sha256, &row, error) ||
        !officer_count_persons(act->certificates, act->connection, act->statement->cert_sha256,
                               &persons, error))
        return FALSE;
    if (row == NULL || row->removed_ms != 0)
        return refuse(error, 404, "M_NOT_FOUND", "No officer holds that certificate.");
    if (persons < PERSONS_MIN)
        return refuse(error, 409, "M_FORBIDDEN",
                      "Fewer than two officers would stay, and nothing could be granted again: "
                      "name another officer first.");
    row->removed_ms = act->now_ms;
    g_autoptr(GBytes) mac = officer_row_mac(act->certificates, row);
    officer_store_remove(act->writes, row->certificate, row->removed_ms, mac);
    return TRUE;
}

static gboolean
do_device_remove(const Act *act, gboolean final, GError **error)
{
    gboolean exists = FALSE;
    if (act->statement->device_id[0] == '\0')
        return refuse(error, 400, "M_MISSING_PARAM", "Say which device_id.");
    if (!account_store_exists(act->connection, act->statement->user_id, &exists, error))
        return FALSE;
    if (!exists)
        return refuse(error, 404, "M_NOT_FOUND", "No such account.");
    act->outcome->ends_user_id = g_strdup(act->statement->user_id);
    act->outcome->removes_device = g_strdup(act->statement->device_id);
    return TRUE;
}

/* @final: do it; otherwise only see whether it could be done.  Acts of one signature are always
 * final. */
static gboolean
run_kind(const Act *act, gboolean final, GError **error)
{
    switch (act->statement->kind) {
    case STATEMENT_ENROL:
        return do_enrol(act, final, error);
    case STATEMENT_OFFICER:
        return do_officer(act, final, error);
    case STATEMENT_REINSTATE:
        return do_reinstate(act, final, error);
    case STATEMENT_SUSPEND:
        return do_suspend(act, final, error);
    case STATEMENT_REVOKE:
        return do_revoke(act, final, error);
    case STATEMENT_OFFICER_REMOVE:
        return do_officer_remove(act, final, error);
    case STATEMENT_DEVICE_REMOVE:
        return do_device_remove(act, final, error);
    case STATEMENT_FOUNDING:
        break;
    }
    return refuse(error, 403, "M_FORBIDDEN", "A founding is made on the server alone.");
}

/* ---- signatures ---- */

static gboolean
statement_is_current(const Act *act, GError **error)
{
    const Statement *statement = act->statement;
    if (strcmp(statement->server_name, certificates_server_name(act->certificates)) != 0)
        return refuse(error, 400, "M_INVALID_PARAM", "The statement is for another server.");
    if (statement->issued_ms > act->now_ms + TOLERANCE_MS ||
        statement->issued_ms < act->now_ms - STATEMENT_LIFE_MS)
        return refuse(error, 403, "M_FORBIDDEN",
                      "The statement has expired: proposals live for 24 hours. Draft it again.");
    return TRUE;
}

/* The officer on the connection is the one who signed. */
static gboolean
signed_by_caller(const Act *act, GBytes *signature, GError **error)
{
    g_auto(Officer) signer = {0};
    if (!officer_from_signature(act->certificates, act->connection, act->statement->bytes,
                                signature, act->now_ms, FALSE, &signer, act->ret_rule, error))
        return FALSE;
    if (strcmp(signer.certificate, act->officer->certificate) != 0)
        return refuse(error, 403, "M_FORBIDDEN",
                      "The signature is not that of the officer who brings it.");
    return TRUE;
}

static void
write_audit(const Act *act, const char *decision)
{
    const Statement *statement = act->statement;
    g_autoptr(cJSON) refs = cJSON_CreateObject();
    if (statement->ticket[0] != '\0')
        cJSON_AddStringToObject(refs, "ticket", statement->ticket);
    if (statement->reason[0] != '\0')
        cJSON_AddStringToObject(refs, "reason", statement->reason);
    if (statement->cert_sha256[0] != '\0')
        cJSON_AddStringToObject(refs, "certificate", statement->cert_sha256);
    if (statement->device_id[0] != '\0')
        cJSON_AddStringToObject(refs, "device_id", statement->device_id);
    AuditLine line = {.type = statement_kind_name(statement->kind),
                      .actor = act->officer->certificate,
                      .subject = statement->user_id[0] != '\0' ? statement->user_id
                                                               : statement->cert_sha256,
                      .object = statement->digest_hex,
                      .decision = decision,
                      .refs = refs};
    audit_line(act->writes, &line);
}

gboolean
proposal_put(Certificates *certificates, StoreConnection *connection, StoreWrites *writes,
             const Officer *officer, GBytes *statement_bytes, GBytes *signature,
             GPtrArray *certificate_der, ProposalOutcome *ret_outcome,
             const CertificateRule **ret_rule, GError **error)
{
    g_autoptr(ProposalRow) before = NULL;
    g_autoptr(Statement) statement = statement_from_bytes(statement_bytes, error);
    gint64 open = 0;
    if (statement == NULL)
        return FALSE;
    Act act = {.certificates = certificates,
               .connection = connection,
               .writes = writes,
               .officer = officer,
               .statement = statement,
               .certificate_der = certificate_der,
               .first = signature,
               .now_ms = clock_wall_ms(),
               .outcome = ret_outcome,
               .ret_rule = ret_rule};
    gboolean final = statement_signatures(statement->kind) == 1;
    if (!statement_is_current(&act, error) || !signed_by_caller(&act, signature, error) ||
        !proposal_store_find(connection, statement->digest, &before, error) ||
        !proposal_store_count_open(connection, act.now_ms, &open, error))
        return FALSE;
    if (before != NULL)
        return refuse(error, 409, "M_FORBIDDEN",
                      "This statement was brought before: a statement counts once.");
    if (open >= PROPOSALS_OPEN_MAX)
        return refuse(error, 429, "M_LIMIT_EXCEEDED",
                      "Too many proposals wait for a second officer: approve some first.");
    /* The audit line first: it takes the lock that orders all acts. */
    write_audit(&act, final ? "done" : "proposed");
    if (!run_kind(&act, final, error))
        return FALSE;
    GBytes *der = certificate_der != NULL && certificate_der->len > 0
                      ? g_ptr_array_index(certificate_der, 0)
                      : NULL;
    g_autoptr(GBytes) certificate = der != NULL && !final ? g_bytes_ref(der) : g_bytes_new(NULL, 0);
    ProposalRow row = {.digest = statement->digest,
                       .kind = (char *)statement_kind_name(statement->kind),
                       .statement = statement->bytes,
                       .certificate = certificate,
                       .proposer = officer->certificate,
                       .signature = signature,
                       .created_ms = act.now_ms,
                       .expires_ms = statement->issued_ms + STATEMENT_LIFE_MS,
                       .state = final ? 2 : 1,
                       .done_ms = final ? act.now_ms : 0};
    /* An expired statement is refused by its own date, so its row is no longer needed. */
    proposal_store_purge(writes, act.now_ms - TOLERANCE_MS);
    proposal_store_insert(writes, &row);
    ret_outcome->done = final;
    ret_outcome->kind = statement->kind;
    ret_outcome->digest = g_strdup(statement->digest_hex);
    return TRUE;
}

/* The first signature still counts, and is another person's. */
static gboolean
first_signature_counts(const Act *act, const ProposalRow *row, GError **error)
{
    g_auto(Officer) first = {0};
    if (!officer_from_signature(act->certificates, act->connection, row->statement, row->signature,
                                act->now_ms, FALSE, &first, act->ret_rule, error))
        return FALSE;
    if (strcmp(first.person_ref, act->officer->person_ref) == 0)
        return certificate_refuse("two-persons", "you proposed this yourself", act->ret_rule,
                                  error);
    if (strcmp(first.person_ref, act->statement->person_ref) == 0)
        return certificate_refuse("self", NULL, act->ret_rule, error);
    return TRUE;
}

static gboolean
find_open(StoreConnection *connection, const char *digest_hex, gint64 now_ms, ProposalRow **ret_row,
          GError **error)
{
    guint8 digest[32];
    gsize length = 0;
    g_autoptr(ProposalRow) row = NULL;
    if (strlen(digest_hex) != 64 ||
        sodium_hex2bin(digest, sizeof digest, digest_hex, 64, NULL, &length, NULL) != 0)
        return refuse(error, 404, "M_NOT_FOUND", "No such proposal.");
    g_autoptr(GBytes) key = g_bytes_new(digest, sizeof digest);
    if (!proposal_store_find(connection, key, &row, error))
        return FALSE;
    if (row == NULL)
        return refuse(error, 404, "M_NOT_FOUND", "No such proposal.");
    if (row->state != 1)
        return refuse(error, 409, "M_FORBIDDEN", "This proposal is done: an approval counts once.");
    if (row->expires_ms <= now_ms)
        return refuse(error, 403, "M_FORBIDDEN",
                      "This proposal has expired: proposals live for 24 hours. Draft it again.");
    *ret_row = g_steal_pointer(&row);
    return TRUE;
}

gboolean
proposal_approve(Certificates *certificates, StoreConnection *connection, StoreWrites *writes,
                 const Officer *officer, const char *digest_hex, GBytes *signature,
                 ProposalOutcome *ret_outcome, const CertificateRule **ret_rule, GError **error)
{
    gint64 now_ms = clock_wall_ms();
    g_autoptr(ProposalRow) row = NULL;
    if (!find_open(connection, digest_hex, now_ms, &row, error))
        return FALSE;
    g_autoptr(Statement) statement = statement_from_bytes(row->statement, error);
    if (statement == NULL)
        return FALSE;
    g_autoptr(GPtrArray) chain = NULL;
    if (g_bytes_get_size(row->certificate) > 0) {
        chain = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
        g_ptr_array_add(chain, g_bytes_ref(row->certificate));
    }
    Act act = {.certificates = certificates,
               .connection = connection,
               .writes = writes,
               .officer = officer,
               .statement = statement,
               .certificate_der = chain,
               .first = row->signature,
               .second = signature,
               .now_ms = now_ms,
               .outcome = ret_outcome,
               .ret_rule = ret_rule};
    /* The row could have been changed by hand: its digest is of the bytes that are signed. */
    if (strcmp(statement->digest_hex, digest_hex) != 0)
        return refuse(error, 409, "M_FORBIDDEN",
                      "The proposal is not what its digest says: it was changed. Draft it again.");
    if (!statement_is_current(&act, error) || !signed_by_caller(&act, signature, error) ||
        !first_signature_counts(&act, row, error))
        return FALSE;
    write_audit(&act, "done");
    if (!run_kind(&act, TRUE, error))
        return FALSE;
    proposal_store_done(writes, statement->digest, now_ms);
    ret_outcome->done = TRUE;
    ret_outcome->kind = statement->kind;
    ret_outcome->digest = g_strdup(statement->digest_hex);
    return TRUE;
}
