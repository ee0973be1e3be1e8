/* server/partner/authenticate.h: the front end's questions about partners (Callers of
 * server/http/front.h), answered by federation/inbound.h.  For server/serve.c and programs that
 * build a server. */
#pragma once

#include "server/http/request.h"

gboolean partner_caller_tls(Server *server, Request *request, GError **error);
Partner *partner_caller(Server *server, Request *request, gboolean signed_request, GError **error);
gboolean
partner_caller_body(Server *server, Request *request, const cJSON *content, GError **error);
