/* server/http/route.h: a row of the one route table (server/routes.c).
 * The policy sits in the row; the dispatcher alone enforces it. */
#pragma once

#include "server/http/request.h"

typedef enum {
    CALLER_ANYONE,
    CALLER_USER,        /* a live access token */
    CALLER_PARTNER,     /* partner listener: X-Matrix of a listed partner, over its TLS pin */
    CALLER_HANDSHAKE,   /* partner listener: a listed partner's TLS, no X-Matrix (keys, version) */
    CALLER_CERTIFICATE, /* certificate listener: a client certificate was shown (its chain is the handler's to judge) */
} Caller;

typedef enum {
    RATE_NONE,
    RATE_LOGIN,   /* by address */
    RATE_MESSAGE, /* by user */
    RATE_INVITE,  /* by user */
    RATE_KEYS,    /* by user */
} RateClass;

typedef enum {
    BODY_NONE,
    BODY_JSON,          /* an object, within json_limits_request */
    BODY_JSON_OPTIONAL, /* absent reads as {} */
    BODY_JSON_KEYS,     /* within json_limits_keys */
    BODY_JSON_TRANSACTION, /* within json_limits_transaction */
    BODY_BYTES,         /* any content type, up to body_bytes_max: certificate files, CRLs */
} BodyKind;

typedef enum {
    LISTEN_CLIENT = 1 << 0,
    LISTEN_PARTNER = 1 << 1,
    LISTEN_CERTIFICATE = 1 << 2,
} Listener;

typedef struct {
    const char *method;
    const char *path; /* as the specification writes it, with {name}s */
    Listener listener;
    Caller caller;
    RateClass rate;
    BodyKind body;
    Handler handler;
} Route;

/* One table a module, gathered by server/routes.c; each ends with a row whose method is NULL. */
extern const Route routes_session[];     /* server/client/session_routes.c */
