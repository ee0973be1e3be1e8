/* server/client/link.h: the last step of every log-in: from a proof to the answer of POST /login.
 * For server/client/login.c and server/certificate/. */
#pragma once

#include "identity/certificate_proof.h"
#include "identity/session.h"
#include "server/http/request.h"

/* Makes device and session and answers the request once they are durable.  Borrows all;
 * RESPONSE_LATER, or NULL with @error. */
Response *login_link(Request *request, const CertificateProof *proof, LoginKind kind,
                     const SessionWish *wish, GError **error);

/* The members of a log-in request that say which device is wished for; strings borrowed from @body
 * and the request. */
SessionWish login_wish(const Request *request, const cJSON *body);

/* FALSE with a REFUSAL when no authorities for people are configured: nobody can log in. */
gboolean login_is_possible(const Server *server, GError **error);

/* A refused log-in leaves a line, aggregated above a rate.  @user_id: whom it claimed to be, or
 * NULL.  A failure of our own (@error no REFUSAL) leaves none. */
void login_refused(Request *request, const char *user_id, const char *rule, const GError *error);
