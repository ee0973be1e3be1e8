/* server/serve.h: the services of one process, made in the order of the floors, run, and ended in
 * reverse. For server/command/serve.c and tests/openserver. */
#pragma once

#include "server/config.h"
#include "server/http/front.h"
#include "server/server.h"

typedef struct {
    Config *config;                    /* borrowed */
    const Route *const *tables;        /* NULL: route_tables */
    const FrontEndSettings *front_end; /* NULL: by the configuration */
    /* Opens the listeners; NULL: those of the configuration. */
    gboolean (*listen)(FrontEnd *front, const Config *config, GError **error);
    const char *signing_key_file; /* NULL: signing.key in the state directory */
    const char
        *partner_ca_file; /* for partners without pins, whom the allow-list never has; or NULL */
    guint retry_first_ms; /* of deliveries to partners; 0: as it is built */
    guint retry_longest_ms;
} ServeOptions;

/* Starts, prints "chancery: ready" with the addresses, serves until SIGINT or SIGTERM, stops within
 * 10 s. The exit status. Call it before any thread is made: it blocks the signals it waits for. */
int serve_run(const ServeOptions *options);
