/* server/client/keys.c: the routes of end-to-end keys and to-device messages. */
#include "server/client/cross_signing.h"
#include "server/client/key_changes.h"
#include "server/client/key_query.h"
#include "server/client/key_signatures.h"
#include "server/client/key_upload.h"
#include "server/client/to_device.h"
#include "server/http/route.h"

const Route routes_keys[] = {
    {"POST", "/_matrix/client/v3/keys/upload", LISTEN_CLIENT, CALLER_USER, RATE_KEYS,
     BODY_JSON_KEYS, keys_upload_post},
    {"POST", "/_matrix/client/v3/keys/query", LISTEN_CLIENT, CALLER_USER, RATE_KEYS, BODY_JSON_KEYS,
     keys_query_post},
    {"GET", "/_matrix/client/v3/keys/changes", LISTEN_CLIENT, CALLER_USER, RATE_KEYS, BODY_NONE,
     keys_changes_get},
    {"POST", "/_matrix/client/v3/keys/claim", LISTEN_CLIENT, CALLER_USER, RATE_KEYS, BODY_JSON_KEYS,
     keys_claim_post},
    {"POST", "/_matrix/client/v3/keys/signatures/upload", LISTEN_CLIENT, CALLER_USER, RATE_KEYS,
     BODY_JSON_KEYS, keys_signatures_upload_post},
    {"POST", "/_matrix/client/v3/keys/device_signing/upload", LISTEN_CLIENT, CALLER_USER, RATE_KEYS,
     BODY_JSON_KEYS, keys_device_signing_upload_post},
    /* The JavaScript SDK still calls this older name. */
    {"POST", "/_matrix/client/unstable/keys/device_signing/upload", LISTEN_CLIENT, CALLER_USER,
     RATE_KEYS, BODY_JSON_KEYS, keys_device_signing_upload_post},
    {"PUT", "/_matrix/client/v3/sendToDevice/{eventType}/{txnId}", LISTEN_CLIENT, CALLER_USER,
     RATE_MESSAGE, BODY_JSON_KEYS, send_to_device_put},
    {NULL},
};
