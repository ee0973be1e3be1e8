/* tests/openserver/peers.h: where other servers are and what keys they have, for public test suites
 * alone. */
#pragma once

#include <glib.h>

/* @ca_file: whom outgoing HTTPS believes. */
void peers_open(const char *ca_file);
/* "name=host:port"; FALSE when it does not read so. */
gboolean peers_add(const char *line);

/* Numeric address of @server_name: by the table, or out of a host:port name.  Free *ret_host. */
gboolean peers_find(const char *server_name, char **ret_host, guint16 *ret_port);
/* The key by /_matrix/key/v2/server, remembered; waits for the network. */
gboolean peers_find_key(const char *server_name, const char *key_id, guint8 ret_key[32]);
