#include "tests/support/database.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/migrate.h"

static const char *
cluster_conninfo(void)
{
    const char *conninfo = g_getenv("CHANCERY_TEST_DATABASE");

    if (conninfo == NULL || *conninfo == '\0')
        g_error(
            "CHANCERY_TEST_DATABASE names no PostgreSQL: `make test` starts one and says which");
    return conninfo;
}

/* libpq would write notices to the error output. */
static void
quiet_notice(void *data, const char *message)
{
    (void)data;
    (void)message;
}

static char *
query_on(const char *conninfo, const char *sql)
{
    PGconn *pg = PQconnectdb(conninfo);
    PGresult *result;
    char *value = NULL;
    if (PQstatus(pg) != CONNECTION_OK)
        g_error("no PostgreSQL for the tests (CHANCERY_TEST_DATABASE): %s", PQerrorMessage(pg));
    PQsetNoticeProcessor(pg, quiet_notice, NULL);
    result = PQexec(pg, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        g_error("%s: %s", sql, PQerrorMessage(pg));
    if (PQntuples(result) > 0 && !PQgetisnull(result, 0, 0))
        value = g_strdup(PQgetvalue(result, 0, 0));
    PQclear(result);
    PQfinish(pg);
    return value;
}

TestDatabase *
test_database_new_empty(guint connections_max)
{
    static gint serial;
    TestDatabase *database = g_new0(TestDatabase, 1);
    g_autofree char *sql = NULL;
    database->name = g_strdup_printf("chancery_test_%d_%d_%08x", (int)getpid(),
                                     g_atomic_int_add(&serial, 1), g_random_int());
    sql = g_strdup_printf("CREATE DATABASE %s ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
                          " TEMPLATE template0",
                          database->name);
    g_free(query_on(cluster_conninfo(), sql));
    database->conninfo = g_strdup_printf("%s dbname=%s", cluster_conninfo(), database->name);
    database->pool = store_pool_new(database->conninfo, connections_max);
    return database;
}

TestDatabase *
test_database_new(guint connections_max)
{
    g_autoptr(GError) error = NULL;
    TestDatabase *database = test_database_new_empty(connections_max);
    if (!store_migrate(database->pool, NULL, &error))
        g_error("migrations: %s", error->message);
    return database;
}

void
test_database_free(TestDatabase *database)
{
    g_autofree char *sql = NULL;
    if (database == NULL)
        return;
    store_pool_free(database->pool);
    sql = g_strdup_printf("DROP DATABASE IF EXISTS %s WITH (FORCE)", database->name);
    g_free(query_on(cluster_conninfo(), sql));
    g_free(database->name);
    g_free(database->conninfo);
    g_free(database);
}

char *
test_database_query(TestDatabase *database, const char *sql)
{
    return query_on(database->conninfo, sql);
}

gint64
test_database_count(TestDatabase *database, const char *sql)
{
    g_autofree char *value = query_on(database->conninfo, sql);
    return value != NULL ? g_ascii_strtoll(value, NULL, 10) : 0;
}

/* --- a cluster of its own --- */

struct TestCluster {
    char *directory;
    char *binaries; /* directory of initdb and postgres */
    char *conninfo;
    struct passwd account; /* who runs it; pw_name NULL: ourselves */
    GPid postmaster;       /* 0 when it does not run */
};

/* Debian's own folder first: what lies in the search path may be a wrapper for one program alone.
 */
static char *
find_binaries(void)
{
    g_autofree char *initdb = NULL;
    g_autoptr(GDir) versions = g_dir_open("/usr/lib/postgresql", 0, NULL);
    const char *version;
    while (versions != NULL && (version = g_dir_read_name(versions)) != NULL) {
        g_autofree char *path =
            g_build_filename("/usr/lib/postgresql", version, "bin", "initdb", NULL);
        if (atoi(version) >= 15 && g_file_test(path, G_FILE_TEST_IS_EXECUTABLE))
            return g_path_get_dirname(path);
    }
    initdb = g_find_program_in_path("initdb");
    return initdb != NULL ? g_path_get_dirname(initdb) : NULL;
}

/* In the child, before exec: PostgreSQL refuses to run as root. */
static void
child_become_account(gpointer data)
{
    TestCluster *cluster = data;
    setpgid(0, 0); /* Ctrl-C is for the test program, which then stops it in order */
    if (cluster->account.pw_name == NULL)
        return;
    if (setgid(cluster->account.pw_gid) != 0 || setuid(cluster->account.pw_uid) != 0)
        _exit(126);
}

static GPid
cluster_spawn(TestCluster *cluster, const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *log = g_build_filename(cluster->directory, "log", NULL);
    GPid pid = 0;
    FILE *out = fopen(log, "ae");
    g_assert_nonnull(out);
    if (!g_spawn_async_with_fds(cluster->directory, (char **)argv, NULL,
                                G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
                                child_become_account, cluster, &pid, -1, -1, fileno(out), &error))
        g_error("%s: %s", argv[0], error->message);
    fclose(out);
    return pid;
}

static void
cluster_wait_exit(GPid pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

TestCluster *
test_cluster_new(void)
{
    g_autoptr(GError) error = NULL;
    TestCluster *cluster = g_new0(TestCluster, 1);
    g_autofree char *initdb = NULL, *data = NULL;
    int status;
    cluster->binaries = find_binaries();
    if (getuid() == 0) {
        const struct passwd *account = getpwnam("postgres");
        if (account == NULL)
            account = getpwnam("nobody");
        if (account != NULL) {
            cluster->account.pw_name = g_strdup(account->pw_name);
            cluster->account.pw_uid = account->pw_uid;
            cluster->account.pw_gid = account->pw_gid;
        }
    }
    if (cluster->binaries == NULL || (getuid() == 0 && cluster->account.pw_name == NULL)) {
        g_print("# no initdb, or no account to run PostgreSQL with\n");
        g_free(cluster->binaries);
        g_free(cluster->account.pw_name);
        g_free(cluster);
        return NULL;
    }
    cluster->directory = g_dir_make_tmp("chancery-pg-XXXXXX", &error);
    g_assert_no_error(error);
    if (cluster->account.pw_name != NULL &&
        chown(cluster->directory, cluster->account.pw_uid, cluster->account.pw_gid) != 0)
        g_error("chown %s: %s", cluster->directory, g_strerror(errno));
    initdb = g_build_filename(cluster->binaries, "initdb", NULL);
    data = g_build_filename(cluster->directory, "data", NULL);
    {
        const char *const argv[] = {initdb,  "-D", data,   "-U",         "postgres",  "-A",
                                    "trust", "-E", "UTF8", "--locale=C", "--no-sync", NULL};
        GPid pid = cluster_spawn(cluster, argv);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            g_error("initdb failed; see %s/log", cluster->directory);
    }
    cluster->conninfo =
        g_strdup_printf("host=%s user=postgres dbname=postgres", cluster->directory);
    test_cluster_start(cluster);
    return cluster;
}

void
test_cluster_start(TestCluster *cluster)
{
    g_autofree char *postgres = g_build_filename(cluster->binaries, "postgres", NULL);
    g_autofree char *data = g_build_filename(cluster->directory, "data", NULL);
    const char *const argv[] = {postgres,
                                "-D",
                                data,
                                "-k",
                                cluster->directory,
                                "-c",
                                "listen_addresses=",
                                "-c",
                                "shared_buffers=32MB",
                                "-c",
                                "max_connections=60",
                                NULL};
    gint64 deadline_us = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    g_assert_cmpint(cluster->postmaster, ==, 0);
    cluster->postmaster = cluster_spawn(cluster, argv);
    for (;
         ;) { /* polling is PostgreSQL's own way (pg_ctl -w); the deadline only ends a broken run */
        PGPing ping = PQping(cluster->conninfo);
        if (ping == PQPING_OK)
            return;
        if (waitpid(cluster->postmaster, NULL, WNOHANG) == cluster->postmaster ||
            g_get_monotonic_time() > deadline_us)
            g_error("PostgreSQL did not start; see %s/log", cluster->directory);
        g_usleep(20000);
    }
}

void
test_cluster_stop(TestCluster *cluster)
{
    if (cluster->postmaster == 0)
        return;
    kill(cluster->postmaster, SIGINT);
    cluster_wait_exit(cluster->postmaster);
    cluster->postmaster = 0;
}

/* Children of @parent, from /proc: PostgreSQL's processes leave the process group. */
static GArray *
children_of(GPid parent)
{
    GArray *children = g_array_new(FALSE, FALSE, sizeof(GPid));
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/children", parent, parent);
    g_autofree char *text = NULL;
    if (g_file_get_contents(path, &text, NULL, NULL)) {
        g_auto(GStrv) words = g_strsplit(g_strstrip(text), " ", -1);
        for (char **word = words; *word != NULL; word++) {
            GPid pid = (GPid)atoi(*word);
            if (pid > 0)
                g_array_append_val(children, pid);
        }
    }
    return children;
}

/* Not there, or dead and not yet reaped by whoever is its parent now. */
static gboolean
process_lives(GPid pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
    g_autofree char *text = NULL;
    const char *after_name;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return FALSE;
    after_name = strrchr(text, ')');
    return after_name == NULL || after_name[1] == '\0' || after_name[2] != 'Z';
}

void
test_cluster_kill(TestCluster *cluster)
{
    GArray *children;
    if (cluster->postmaster == 0)
        return;
    kill(cluster->postmaster, SIGSTOP); /* no new child, and none reaped, while we look */
    children = children_of(cluster->postmaster);
    for (guint i = 0; i < children->len; i++)
        kill(g_array_index(children, GPid, i), SIGKILL);
    kill(cluster->postmaster, SIGKILL);
    cluster_wait_exit(cluster->postmaster);
    /* A new postmaster refuses to start while an old child still holds the shared memory. */
    for (guint i = 0; i < children->len; i++) {
        while (process_lives(g_array_index(children, GPid, i)))
            g_usleep(1000);
    }
    g_array_unref(children);
    cluster->postmaster = 0;
}

static void
remove_tree(const char *path)
{
    if (!g_file_test(path, G_FILE_TEST_IS_SYMLINK) && g_file_test(path, G_FILE_TEST_IS_DIR)) {
        g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
        const char *name;
        while (directory != NULL && (name = g_dir_read_name(directory)) != NULL) {
            g_autofree char *child = g_build_filename(path, name, NULL);
            remove_tree(child);
        }
    }
    g_remove(path);
}

void
test_cluster_free(TestCluster *cluster)
{
    if (cluster == NULL)
        return;
    test_cluster_stop(cluster);
    remove_tree(cluster->directory);
    g_free(cluster->directory);
    g_free(cluster->binaries);
    g_free(cluster->conninfo);
    g_free(cluster->account.pw_name);
    g_free(cluster);
}

const char *
test_cluster_conninfo(TestCluster *cluster)
{
    return cluster->conninfo;
}

const char *
test_cluster_socket_directory(TestCluster *cluster)
{
    return cluster->directory;
}

char *
test_cluster_program(TestCluster *cluster, const char *name)
{
    return g_build_filename(cluster->binaries, name, NULL);
}

char *
test_cluster_query(TestCluster *cluster, const char *sql)
{
    return query_on(cluster->conninfo, sql);
}
