/* federation/room/pdu_sign.h: signatures of events: whose are needed, which are there, are they
 * good. Pure: keys are handed in.  Source: Matrix v1.19 server-server API, "Signing Events". */
#pragma once

#include "federation/room/pdu.h"
#include "identity/server_key.h"

/* How to sign as a server. */
typedef struct {
    const char *server_name;
    const char *key_id; /* "ed25519:abc" */
    /* The Ed25519 signature of these bytes in unpadded base64; freed with g_free. */
    char *(*sign)(gpointer data, const void *bytes, gsize length);
    gpointer data;
} PduSigner;

/* A signer over our key, which is borrowed. */
PduSigner pdu_signer(const char *server_name, const ServerKey *key);

/* The servers (char *) whose signature @pdu must bear: the sender's; that of the event id in
 * versions 1 and 2; that of join_authorised_via_users_server for a restricted join.  Empty for an
 * invite through a third party, which the auth rules check by the third party's own signature.
 * An event that lacks a good signature of any of them is dropped. */
GPtrArray *pdu_required_signers(const Pdu *pdu);

/* The key ids (const char *, borrowed from @pdu) of @server_name's signatures on @pdu; at most
 * PDU_SIGNATURE_KEYS_MAX Ed25519 ones, others are left out.  Empty if it did not sign. */
#define PDU_SIGNATURE_KEYS_MAX 8
GPtrArray *pdu_signature_key_ids(const Pdu *pdu, const char *server_name);

/* Is there a signature by that key, and is it good? */
gboolean pdu_verify_signature(const Pdu *pdu, const char *server_name, const char *key_id,
                              const guint8 public_key[PUBLIC_KEY_BYTES]);

/* @pdu with one more signature (an invite that we accept, a restricted join that we authorise).
 * NULL with PDU_ERROR_TOO_LARGE when it no longer fits. */
Pdu *pdu_add_signature(const Pdu *pdu, const PduSigner *signer, GError **error);
