/* server/http/route.h: a row of the one route table (server/routes.c).
 * The policy sits in the row; the dispatcher alone enforces it. */
#pragma once

#include "server/http/request.h"

typedef enum {
    CALLER_ANYONE,
    CALLER_USER,        /* a live access token */
    CALLER_PARTNER,     /* partner listener: X-Matrix of a listed partner, over its TLS pin */
    CALLER_HANDSHAKE,   /* partner listener: a listed partner's TLS, no X-Matrix (keys, version) */
    CALLER_CERTIFICATE, /* certificate listener: a client certificate was shown (its chain is the
                           handler's to judge) */
} Caller;

typedef enum {
    RATE_NONE,
    RATE_LOGIN,   /* by address */
    RATE_MESSAGE, /* by user */
    RATE_INVITE,  /* by user */
    RATE_KEYS,    /* by user */
} RateClass;

typedef enum {
    BODY_NONE,             /* a body is read within 64 KiB and ignored */
    BODY_JSON,             /* an object, within json_limits_request */
    BODY_JSON_OPTIONAL,    /* absent reads as {} */
    BODY_JSON_CONTENT,     /* the content of an event: no fractions, no exponents */
    BODY_JSON_KEYS,        /* within json_limits_keys */
    BODY_JSON_MEMBER,      /* a partner's member event, within json_limits_member */
    BODY_JSON_TRANSACTION, /* within json_limits_transaction */
    BODY_BYTES,            /* any content type, up to 4 MiB: certificate files, CRLs */
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

/* One table a module, each ending with a row whose method is NULL; server/routes.c gathers them in
 * a list that ends with NULL.  Two rows may share a path with different methods; a path segment
 * that the specification writes as {name} matches any one segment, also an empty one (an empty
 * state key). */
extern const Route *const route_tables[]; /* server/routes.c */
