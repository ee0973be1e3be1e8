/* tests/support/database.h: an empty database of its own for a test, dropped at its end.
 *
 * The cluster is named by CHANCERY_TEST_DATABASE (a libpq connection string of a role that may
 * create databases); a test that must stop and start PostgreSQL makes a TestCluster of its own. */
#pragma once

#include "storage/store.h"

typedef struct {
    char *name;
    char *conninfo; /* of the new database */
    StorePool *pool;
} TestDatabase;

/* A new database in the shared cluster, all migrations applied, with a pool of @connections_max.
 * Ends the test program with a message when there is no PostgreSQL. */
TestDatabase *test_database_new(guint connections_max);
/* The same without migrations. */
TestDatabase *test_database_new_empty(guint connections_max);
/* Frees the pool and drops the database, whoever is still connected to it. */
void test_database_free(TestDatabase *database);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestDatabase, test_database_free)

/* Plain SQL on a connection of its own; fails the test when it fails.  The first value of the first
 * row as text, NULL when there is none; free with g_free. */
char *test_database_query(TestDatabase *database, const char *sql);
gint64 test_database_count(TestDatabase *database, const char *sql);

/* A PostgreSQL cluster in a temporary directory, on a Unix socket alone, run by an account that is
 * not root.  NULL with a message printed when the tools for that are missing: skip the test. */
typedef struct TestCluster TestCluster;
TestCluster *test_cluster_new(void);
void test_cluster_free(TestCluster *cluster); /* stops it and removes its files */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestCluster, test_cluster_free)
void test_cluster_start(TestCluster *cluster); /* returns once it accepts connections */
void test_cluster_stop(TestCluster *cluster);  /* fast shutdown */
void test_cluster_kill(TestCluster *cluster);  /* kill -9 of the postmaster and its children */
const char *
test_cluster_conninfo(TestCluster *cluster); /* of its database "postgres", as superuser */
const char *test_cluster_socket_directory(TestCluster *cluster);
/* The path of one of PostgreSQL's programs; free with g_free. */
char *test_cluster_program(TestCluster *cluster, const char *name);
/* As test_database_query. */
char *test_cluster_query(TestCluster *cluster, const char *sql);
