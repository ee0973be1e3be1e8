/* tests/support/proxy.h: a line to PostgreSQL that a test can cut at a chosen point: a Unix socket
 * in a temporary directory, whose bytes one thread carries to and from the real one. */
#pragma once

#include <glib.h>

typedef enum {
    PROXY_CUT_NEVER,
    PROXY_CUT_BEFORE,         /* the COMMIT does not reach PostgreSQL */
    PROXY_CUT_AFTER,          /* PostgreSQL has answered it; the answer does not reach us */
    PROXY_CUT_AFTER_FOR_GOOD, /* and no new line is taken in, as with test_proxy_refuse */
} ProxyCut;

typedef struct TestProxy TestProxy;
/* @conninfo must name a Unix socket directory (host=/…). */
TestProxy *test_proxy_new(const char *conninfo);
void test_proxy_free(TestProxy *proxy); /* cuts all */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestProxy, test_proxy_free)
const char *test_proxy_conninfo(const TestProxy *proxy);

/* At the @nth execution of COMMIT by the lane from now on (1 is the next), once. */
void test_proxy_cut_at_commit(TestProxy *proxy, ProxyCut cut, guint nth);
/* From now on: cut every line and take no new one; or take them in again. */
void test_proxy_refuse(TestProxy *proxy, gboolean refuse);
guint test_proxy_cuts(TestProxy *proxy);
