/* The officers' API on the certificate listener: statements drafted, signed and approved,
 * revocation lists, lists to look at.  Every request is an officer's, by the certificate of the
 * connection; what changes anything is a signed statement besides. */
#include <sodium.h>
#include <string.h>

#include "identity/clock.h"
#include "identity/crl.h"
#include "identity/proposal.h"
#include "identity/refusal.h"
#include "identity/unpadded_base64.h"
#include "server/certificate/crl_intake.h"
#include "server/certificate/officer_act.h"
#include "server/http/route.h"
#include "server/server.h"
#include "storage/device_store.h"
#include "storage/proposal_store.h"

#define ROWS_MAX 1000

static GBytes *
require_base64(const cJSON *json, const char *key, GError **error)
{
    const char *text = json_require_string(json, key, error);
    if (text == NULL)
        return NULL;
    GBytes *bytes = unpadded_base64_decode(text, BASE64_STANDARD);
    if (bytes == NULL)
        refusal_set(error, 400, "M_INVALID_PARAM", "%s is not base64.", key);
    return bytes;
}

/* The certificate of the person that a statement is about; *ret_chain NULL when there is none. */
static gboolean
read_certificate(const cJSON *json, GPtrArray **ret_chain, GError **error)
{
    g_autoptr(GPtrArray) chain = NULL;
    *ret_chain = NULL;
    if (json_object_get(json, "certificate") == NULL)
        return TRUE;
    GBytes *der = require_base64(json, "certificate", error);
    if (der == NULL)
        return FALSE;
    chain = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_ptr_array_add(chain, der);
    *ret_chain = g_steal_pointer(&chain);
    return TRUE;
}

static Response *
drafts_post(Request *request, GError **error)
{
    Server *server = request_server(request);
    g_auto(Officer) officer = {0};
    g_autoptr(GPtrArray) chain = NULL;
    if (!officer_of_request(request, &officer, error) ||
        !read_certificate(request_json(request), &chain, error))
        return NULL;
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    g_autoptr(Statement) statement =
        connection != NULL
            ? proposal_draft(server->certificates, connection, request_json(request), chain, error)
            : NULL;
    if (statement == NULL)
        return NULL;
    gsize length = 0;
    const char *bytes = g_bytes_get_data(statement->bytes, &length);
    g_autofree char *text = g_strndup(bytes, length);
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "statement", text);
    cJSON_AddStringToObject(body, "digest", statement->digest_hex);
    return response_value(200, body);
}

static Response *
proposals_post(Request *request, GError **error)
{
    const cJSON *json = request_json(request);
    g_autoptr(OfficerAct) act = g_new0(OfficerAct, 1);
    if (!officer_of_request(request, &act->officer, error))
        return NULL;
    const char *statement = json_require_string(json, "statement", error);
    if (statement == NULL)
        return NULL;
    act->statement = g_bytes_new(statement, strlen(statement));
    act->signature = require_base64(json, "signature", error);
    if (act->signature == NULL || !read_certificate(json, &act->certificate_der, error))
        return NULL;
    return officer_act_run(request, g_steal_pointer(&act), error);
}

static Response *
approval_post(Request *request, GError **error)
{
    g_autoptr(OfficerAct) act = g_new0(OfficerAct, 1);
    if (!officer_of_request(request, &act->officer, error))
        return NULL;
    act->approves = g_strdup(request_path(request, "digest"));
    act->signature = require_base64(request_json(request), "signature", error);
    if (act->signature == NULL)
        return NULL;
    return officer_act_run(request, g_steal_pointer(&act), error);
}

static cJSON *
proposal_json(const ProposalRow *row)
{
    char hex[2 * 32 + 1];
    gsize length = 0;
    const char *bytes = g_bytes_get_data(row->statement, &length);
    g_autofree char *text = g_strndup(bytes, length);
    cJSON *json = cJSON_CreateObject();
    sodium_bin2hex(hex, sizeof hex, g_bytes_get_data(row->digest, NULL), 32);
    cJSON_AddStringToObject(json, "digest", hex);
    cJSON_AddStringToObject(json, "kind", row->kind);
    cJSON_AddStringToObject(json, "proposer", row->proposer);
    cJSON_AddStringToObject(json, "statement", text);
    cJSON_AddNumberToObject(json, "created", (double)row->created_ms);
    cJSON_AddNumberToObject(json, "expires", (double)row->expires_ms);
    return json;
}

static Response *
proposals_get(Request *request, GError **error)
{
    g_auto(Officer) officer = {0};
    if (!officer_of_request(request, &officer, error))
        return NULL;
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
    g_autoptr(GPtrArray) rows =
        connection != NULL ? proposal_store_open(connection, clock_wall_ms(), error) : NULL;
    if (rows == NULL)
        return NULL;
    cJSON *body = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(body, "proposals");
    for (guint i = 0; i < rows->len; i++)
        cJSON_AddItemToArray(list, proposal_json(g_ptr_array_index(rows, i)));
    return response_value(200, body);
}

static Response *
officers_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    g_auto(Officer) officer = {0};
    if (!officer_of_request(request, &officer, error))
        return NULL;
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    g_autoptr(GPtrArray) rows = connection != NULL ? officer_store_list(connection, error) : NULL;
    if (rows == NULL)
        return NULL;
    cJSON *body = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(body, "officers");
    for (guint i = 0; i < rows->len; i++) {
        const OfficerRow *row = g_ptr_array_index(rows, i);
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "certificate", row->certificate);
        cJSON_AddStringToObject(json, "name", row->name);
        cJSON_AddStringToObject(json, "state",
                                !officer_row_holds(server->certificates, row) ? "forged"
                                : row->removed_ms != 0                        ? "removed"
                                                                              : "in office");
        cJSON_AddBoolToObject(json, "founder", g_bytes_get_size(row->signature_first) == 0);
        cJSON_AddNumberToObject(json, "since", (double)row->approved_ms);
        cJSON_AddItemToArray(list, json);
    }
    return response_value(200, body);
}

/* What a log-in would find, as far as the row tells. */
static const char *
enrolment_state_shown(Certificates *certificates, const EnrolmentRow *row)
{
    if (!enrolment_state_holds(certificates, row))
        return "forged";
    if (row->state == ENROLMENT_ACTIVE &&
        certificates_is_revoked(certificates, row->issuer_key, row->serial))
        return "certificate-revoked";
    if (row->state == ENROLMENT_ACTIVE && row->not_after_ms < clock_wall_ms())
        return "expired";
    return enrolment_state_name(row->state);
}

static cJSON *
enrolment_json(Certificates *certificates, const EnrolmentRow *row)
{
    char hex[2 * 32 + 1];
    cJSON *json = cJSON_CreateObject();
    sodium_bin2hex(hex, sizeof hex, g_bytes_get_data(row->certificate, NULL), 32);
    cJSON_AddStringToObject(json, "user_id", row->user_id);
    cJSON_AddStringToObject(json, "certificate", hex);
    cJSON_AddStringToObject(json, "state", enrolment_state_shown(certificates, row));
    cJSON_AddNumberToObject(json, "not_after", (double)row->not_after_ms);
    cJSON_AddNumberToObject(json, "approved", (double)row->approved_ms);
    return json;
}

static Response *
enrolments_get(Request *request, GError **error)
{
    Server *server = request_server(request);
    g_auto(Officer) officer = {0};
    const char *after = request_query(request, "after");
    if (!officer_of_request(request, &officer, error))
        return NULL;
    g_autoptr(StoreConnection) connection = store_borrow(server->pool, error);
    g_autoptr(GPtrArray) rows =
        connection != NULL
            ? enrolment_store_list(connection, after != NULL ? after : "", ROWS_MAX, error)
            : NULL;
    if (rows == NULL)
        return NULL;
    /* A full page ends with the last account that is whole in it. */
    guint shown = rows->len;
    const EnrolmentRow *last = shown > 0 ? g_ptr_array_index(rows, shown - 1) : NULL;
    if (rows->len == ROWS_MAX)
        while (shown > 0 && strcmp(((EnrolmentRow *)g_ptr_array_index(rows, shown - 1))->user_id,
                                   last->user_id) == 0)
            shown--;
    if (shown == 0)
        shown = rows->len;
    cJSON *body = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(body, "enrolments");
    for (guint i = 0; i < shown; i++)
        cJSON_AddItemToArray(list,
                             enrolment_json(server->certificates, g_ptr_array_index(rows, i)));
    if (rows->len == ROWS_MAX) {
        const EnrolmentRow *end = g_ptr_array_index(rows, shown - 1);
        cJSON_AddStringToObject(body, "next", end->user_id);
    }
    return response_value(200, body);
}

static Response *
devices_get(Request *request, GError **error)
{
    g_auto(Officer) officer = {0};
    if (!officer_of_request(request, &officer, error))
        return NULL;
    g_autoptr(StoreConnection) connection = store_borrow(request_server(request)->pool, error);
    g_autoptr(GPtrArray) rows =
        connection != NULL ? device_store_list(connection, request_path(request, "userId"), error)
                           : NULL;
    if (rows == NULL)
        return NULL;
    cJSON *body = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(body, "devices");
    for (guint i = 0; i < rows->len; i++) {
        const DeviceRow *row = g_ptr_array_index(rows, i);
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "device_id", row->device_id);
        cJSON_AddStringToObject(json, "display_name", row->display_name);
        cJSON_AddNumberToObject(json, "created", (double)row->created_ms);
        cJSON_AddNumberToObject(json, "last_seen", (double)row->last_seen_ms);
        cJSON_AddItemToArray(list, json);
    }
    return response_value(200, body);
}

/* On the lane thread. */
static void
crl_taken(gpointer data, const CrlTaken *taken, const GError *error)
{
    g_autoptr(Request) request = data;
    Response *response = NULL;
    if (taken != NULL) {
        cJSON *body = cJSON_CreateObject();
        cJSON_AddStringToObject(body, "state", taken->issuer != NULL ? "done" : "in force already");
        cJSON_AddStringToObject(body, "issuer", taken->issuer != NULL ? taken->issuer : "");
        cJSON_AddNumberToObject(body, "ended", taken->ended);
        cJSON_AddNumberToObject(body, "next_update", (double)taken->next_update_ms);
        response = response_value(200, body);
    }
    request_answer(request, response, error);
}

static Response *
crls_post(Request *request, GError **error)
{
    g_auto(Officer) officer = {0};
    if (!officer_of_request(request, &officer, error))
        return NULL;
    Request *held = request_ref(request);
    if (crl_intake_submit(request_server(request), request_body(request), officer.certificate,
                          crl_taken, held, error))
        return RESPONSE_LATER;
    request_unref(held);
    return NULL;
}

#define BASE "/_chancery/officer/v1"

const Route officer_routes[] = {
    {"POST", BASE "/drafts", LISTEN_CERTIFICATE, CALLER_CERTIFICATE, RATE_NONE, BODY_JSON,
     drafts_post},
    {"POST", BASE "/proposals", LISTEN_CERTIFICATE, CALLER_CERTIFICATE, RATE_NONE, BODY_JSON,
     proposals_post},
    {"GET", BASE "/proposals", LISTEN_CERTIFICATE, CALLER_CERTIFICATE, RATE_NONE, BODY_NONE,
     proposals_get},
    {"POST", BASE "/proposals/{digest}/approval", LISTEN_CERTIFICATE, CALLER_CERTIFICATE, RATE_NONE,
     BODY_JSON, approval_post},
    {"GET", BASE "/officers", LISTEN_CERTIFICATE, CALLER_CERTIFICATE, RATE_NONE, BODY_NONE,
     officers_get},
    {"GET", BASE "/enrolments", LISTEN_CERTIFICATE, CALLER_CERTIFICATE, RATE_NONE, BODY_NONE,
     enrolments_get},
    {"GET", BASE "/devices/{userId}", LISTEN_CERTIFICATE, CALLER_CERTIFICATE, RATE_NONE, BODY_NONE,
     devices_get},
    {"POST", BASE "/crls", LISTEN_CERTIFICATE, CALLER_CERTIFICATE, RATE_NONE, BODY_BYTES,
     crls_post},
    {NULL},
};
