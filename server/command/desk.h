/* server/command/desk.h: a desk's way to the certificate listener: one TLS connection with a
 * person's own certificate, JSON back and forth.
 *
 * No redirects, no proxy from the environment, TLS 1.3, the server's certificate checked against
 * the authority that was given (or the system's).  For server/command/ alone: the officers'
 * commands and `chancery login`. */
#pragma once

#include "identity/credential.h"
#include "identity/json.h"

typedef struct Desk Desk;

/* The options that every such command takes, and the credential and connection made of them. */
typedef struct {
    char *listener;        /* --certificate-listener URL */
    char *p12;             /* --p12 FILE (PKCS#12, or PEM) */
    char *key;             /* --key FILE, when apart */
    char *passphrase_file; /* --passphrase-file FILE; without it the terminal is asked */
    char *authority;       /* --authority FILE: PEM of the server's CA; without it the system's */
} DeskOptions;
void desk_options_clear(DeskOptions *options);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DeskOptions, desk_options_clear)

/* The rows for a GOptionContext, @own (ended by NULL) before those that fill @options, ended; free
 * with g_free. */
GOptionEntry *desk_option_entries(DeskOptions *options, const GOptionEntry *own);

/* CredentialPassphrase: from --passphrase-file, or asked at the terminal. @data: DeskOptions. */
char *desk_passphrase(const char *path, gpointer data, GError **error);

/* Opens no connection yet. */
Desk *desk_new(const DeskOptions *options, GError **error);
void desk_free(Desk *desk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Desk, desk_free)

const Credential *desk_credential(const Desk *desk);

/* One request to @url_or_path: a path goes to the listener.  @body may be NULL (no body); @token
 * NULL: none. NULL with @error, the server's own sentence in it, unless the status is 200.  The
 * same connection is used as long as the server keeps it. */
cJSON *desk_request(Desk *desk, const char *method, const char *url_or_path, const cJSON *body,
                    const char *token, GError **error);
/* The same with a body of bytes. */
cJSON *desk_request_bytes(Desk *desk, const char *method, const char *url_or_path, GBytes *body,
                          const char *content_type, GError **error);

/* EXPORTER-Channel-Binding of the connection of the last request (RFC 9266); NULL when there was
 * none. Borrowed. */
GBytes *desk_exporter(const Desk *desk);
/* Did the last request open a connection of its own? */
gboolean desk_was_reconnected(const Desk *desk);
