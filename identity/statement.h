/* identity/statement.h: what officers sign.
 *
 * A statement is canonical JSON, made by the server as a draft, shown to an officer, and signed as
 * the very bytes. It names its kind, this server, a nonce and when it was issued, and then what its
 * kind needs and nothing more: an unknown or missing member, or bytes that are not canonical, make
 * no statement.
 *
 * For identity/, server/certificate and the officers' commands.  Immutable. */
#pragma once

#include "identity/json.h"

#define STATEMENT_BYTES_MAX (16 * 1024)
#define STATEMENT_LIFE_MS ((gint64)24 * 3600 * 1000) /* proposals expire */
#define STATEMENT_TEXT_MAX 255                       /* bytes of each free text */

typedef enum {
    STATEMENT_ENROL,          /* two persons: an account is bound to a certificate */
    STATEMENT_OFFICER,        /* two: a certificate is that of an identity officer */
    STATEMENT_REINSTATE,      /* two: a suspended account lives again */
    STATEMENT_SUSPEND,        /* one */
    STATEMENT_REVOKE,         /* one: the binding to that certificate is over */
    STATEMENT_OFFICER_REMOVE, /* one */
    STATEMENT_DEVICE_REMOVE,  /* one */
    STATEMENT_FOUNDING,       /* signed by nobody: made on the server, under the record key */
} StatementKind;

typedef struct {
    StatementKind kind;
    /* Text members; "" where the kind has no such member. */
    char *server_name;
    char *user_id;
    char *person_ref; /* identity/record_key.h */
    char *agency;
    char *clearance;
    char *policy_oid;
    char *cert_sha256; /* hex */
    char *spki_sha256; /* hex */
    char *ticket;      /* the paper that this rests on */
    char *reason;
    char *device_id;
    char *role;
    char *nonce;
    char **issuers; /* keys of the issuing CAs, hex; NULL where the kind has none */
    gint64 not_after_ms;
    gint64 issued_ms;
    GBytes *bytes;  /* canonical JSON */
    GBytes *digest; /* SHA-256 of them */
    char *digest_hex;
} Statement;

void statement_free(Statement *statement);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Statement, statement_free)

const char *statement_kind_name(StatementKind kind);
gboolean statement_kind_from_name(const char *name, StatementKind *ret_kind);
/* Signatures of different persons that it takes: 2 to give, 1 to take away, 0 for the founding. */
guint statement_signatures(StatementKind kind);

/* Strict.  NULL with a REFUSAL (400). */
Statement *statement_from_bytes(GBytes *bytes, GError **error);
/* Fills in bytes and digest from the members that @draft's kind has; takes nothing.  A fresh nonce
 * when it is empty. */
Statement *statement_make(const Statement *draft, GError **error);

/* May this be a user id of @server_name?  The grammar of new ids, client-server appendices 4.2.1.
 */
gboolean statement_user_id_is_valid(const char *user_id, const char *server_name);
