/* federation/partner_client.h: requests to partners: mutual TLS 1.3, pinned, to the address on the
 * list, signed.
 *
 * One thread drives all transfers (libcurl multi); answers are parsed, and callbacks run, on a
 * small pool of its own, so a callback may compute and use the database, but must not wait for
 * other answers. No redirect, no proxy, no name look-up.  A partner that is dropped from the list
 * is cut within 5 s, its waiting requests end with a REFUSAL.  For federation/ and server/. */
#pragma once

#include "federation/partner.h"
#include "identity/server_key.h"

typedef struct PartnerClient PartnerClient;

typedef struct {
    const char *own_name;
    const char *
        certificate_file; /* PEM: our server certificate, shown as client certificate; NULL: none */
    const char *private_key_file; /* PEM */
    const char *ca_file;          /* for programs whose partners have no pins; NULL in chancery */
    guint connections_max;        /* 0: 64 */
    guint per_partner_max;        /* 0: 4 */
} PartnerClientSettings;

/* Copies @settings; borrows the others. */
PartnerClient *partner_client_new(const PartnerClientSettings *settings, Partners *partners,
                                  const ServerKey *key, GError **error);
/* Ends every request (callbacks run with an error), then the threads. A request made after that
 * fails at once, its callback running on the thread that made it. */
void partner_client_stop(PartnerClient *client);
/* Stops if need be. */
void partner_client_free(PartnerClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PartnerClient, partner_client_free)

typedef enum {
    PARTNER_QUICK, /* 30 s, 4 MiB: queries, invites, events */
    PARTNER_SEND,  /* 60 s, 1 MiB: a transaction */
    PARTNER_LARGE, /* 180 s, 64 MiB: send_join, state, backfill */
} PartnerEffort;

/* What came back.  @error set: a REFUSAL (not a partner; or their refusal: their sentence, and of
 * status and errcode what may reach a client of ours, 502 M_UNKNOWN else) or PARTNER_CLIENT_ERROR
 * (no connection, time out, not JSON, too large).
 * @error NULL: status 2xx, @json is their object and @body its bytes.  All borrowed for the call.
 */
typedef struct {
    guint status; /* 0: no HTTP answer */
    const cJSON *json;
    GBytes *body;
    const GError *error;
} PartnerAnswer;
typedef void (*PartnerDone)(const PartnerAnswer *answer, gpointer data);

#define PARTNER_CLIENT_ERROR (partner_client_error_quark())
GQuark partner_client_error_quark(void);
typedef enum {
    PARTNER_CLIENT_ERROR_UNREACHABLE,
    PARTNER_CLIENT_ERROR_ANSWER, /* what came back is no answer */
    PARTNER_CLIENT_ERROR_STOPPED,
} PartnerClientError;

/* @target: path and query, already percent-encoded.  @content: canonical JSON, or NULL for none.
 * @done is called exactly once, never before this returns. */
void partner_client_send(PartnerClient *client, const char *server_name, const char *method,
                         const char *target, GBytes *content, PartnerEffort effort,
                         PartnerDone done, gpointer data);
/* "/_matrix/federation/v1/…": @format with its %s replaced by percent-encoded segments. Free with
 * g_free. */
char *partner_client_target(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* For tests: TLS connections begun since the start. */
guint64 partner_client_connections(PartnerClient *client);
/* Cut transfers to names that are no partners any more (PartnersChanged calls it). */
void partner_client_recheck(PartnerClient *client);
