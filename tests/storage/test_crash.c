/* A process that writes through the lane, PostgreSQL, or both are killed (-9) under load, twenty
 * times, at moments that fall before, in and after commits.  Every acknowledged entry must be in
 * the log: once, at the position that was told, and in order. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/lane.h"
#include "storage/migrate.h"
#include "tests/support/database.h"

#define ROUNDS 20
#define WINDOW 16 /* operations under way at any time */
#define NUMBERS_OF_A_ROUND 1000000

/* What the writer tells of one operation: position 0 means "refused, or not known". */
typedef struct {
    gint64 number, position;
} Told;

/* --- the writer: this program again, with other arguments --- */

typedef struct {
    GMutex lock;
    GCond less;
    guint under_way;
    int descriptor;
} Writer;

typedef struct {
    Writer *writer;
    gint64 number;
} Numbered;

static gboolean
numbered_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Numbered *numbered = data;
    g_autofree char *ref = g_strdup_printf("%" G_GINT64_FORMAT, numbered->number);
    lane_batch_log(batch, log_entry_new(LOG_PROFILE, NULL, "@crash:example.org", ref));
    return TRUE;
}

static void
numbered_done(gpointer data, gint64 position, const GError *error)
{
    Numbered *numbered = data;
    Writer *writer = numbered->writer;
    Told told = {numbered->number, error == NULL ? position : 0};
    if (write(writer->descriptor, &told, sizeof told) != sizeof told)
        _exit(3); /* nobody listens any more */
    g_mutex_lock(&writer->lock);
    writer->under_way--;
    g_cond_signal(&writer->less);
    g_mutex_unlock(&writer->lock);
    g_free(numbered);
}

static int
writer_main(const char *conninfo, gint64 number, int descriptor)
{
    StorePool *pool = store_pool_new(conninfo, 2);
    LogRing *ring = log_ring_new(1 << 20, (LogHead){0, 0});
    Writer writer = {.descriptor = descriptor};
    Lane *lane = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    g_mutex_init(&writer.lock);
    g_cond_init(&writer.less);
    while ((lane = lane_new(pool, ring, 1000, NULL)) == NULL)
        g_usleep(10000); /* PostgreSQL may be coming up */
    for (;;) {
        Numbered *numbered = g_new(Numbered, 1);
        g_mutex_lock(&writer.lock);
        while (writer.under_way >= WINDOW)
            g_cond_wait(&writer.less, &writer.lock);
        writer.under_way++;
        g_mutex_unlock(&writer.lock);
        *numbered = (Numbered){&writer, number++};
        if (!lane_submit(lane, numbered_apply, numbered_done, numbered, NULL))
            return 2;
    }
}

/* --- the test --- */

typedef struct {
    GPid pid;
    int descriptor;
    GArray *told; /* of Told, all rounds */
    guint acknowledged, unknown;
} Listening;

static void
writer_start(Listening *listening, const char *conninfo, guint round)
{
    g_autofree char *number = g_strdup_printf("%u", (round + 1) * NUMBERS_OF_A_ROUND);
    int ends[2];
    g_assert_cmpint(pipe(ends), ==, 0);
    listening->pid = fork();
    g_assert_cmpint(listening->pid, >=, 0);
    if (listening->pid == 0) {
        dup2(ends[1], 3);
        execl("/proc/self/exe", "test_crash", "--writer", conninfo, number, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    listening->descriptor = ends[0];
}

/* FALSE at the end: the writer is gone. */
static gboolean
listen_once(Listening *listening)
{
    Told told;
    ssize_t length;
    do {
        length = read(listening->descriptor, &told, sizeof told);
    } while (length < 0 && errno == EINTR);
    if (length <= 0)
        return FALSE;
    g_assert_cmpint(length, ==, sizeof told); /* pipes keep small writes whole */
    g_array_append_val(listening->told, told);
    if (told.position > 0)
        listening->acknowledged++;
    else
        listening->unknown++;
    return TRUE;
}

static void
listen_for(Listening *listening, guint acknowledgements)
{
    guint until = listening->acknowledged + acknowledgements;
    while (listening->acknowledged < until) {
        if (!listen_once(listening))
            g_error("the writer ended by itself");
    }
}

static void
writer_kill(Listening *listening)
{
    kill(listening->pid, SIGKILL);
    while (listen_once(listening))
        ;
    close(listening->descriptor);
    g_assert_cmpint(waitpid(listening->pid, NULL, 0), ==, listening->pid);
}

static void
check_told(Listening *listening, StorePool *pool)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(pool, &error);
    g_autoptr(GPtrArray) entries = NULL;
    g_autoptr(GHashTable) positions =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    gint64 last = 0;
    g_assert_no_error(error);
    entries = log_read(connection, 0, G_MAXINT64, 10000000, &error);
    g_assert_no_error(error);
    for (guint i = 0; i < entries->len; i++) {
        const LogEntry *entry = g_ptr_array_index(entries, i);
        gint64 number = g_ascii_strtoll(entry->ref, NULL, 10), position = entry->position;
        g_assert_cmpint(position, ==, i + 1); /* no hole */
        g_assert_cmpint(number, >, last);     /* in order, and so each once */
        g_hash_table_insert(positions, g_memdup2(&number, sizeof number),
                            g_memdup2(&position, sizeof position));
        last = number;
    }
    for (guint i = 0; i < listening->told->len; i++) {
        const Told *told = &g_array_index(listening->told, Told, i);
        const gint64 *position = g_hash_table_lookup(positions, &told->number);
        if (told->position == 0)
            continue;
        if (position == NULL)
            g_error("acknowledged and lost: %" G_GINT64_FORMAT, told->number);
        g_assert_cmpint(*position, ==, told->position);
    }
    g_test_message("figure: %u acknowledged, %u answered as unavailable, %u in the log",
                   listening->acknowledged, listening->unknown, entries->len);
}

static void
test_what_is_acknowledged_survives_kills(void)
{
    g_autoptr(TestCluster) cluster = test_cluster_new();
    g_autoptr(GError) error = NULL;
    Listening listening = {.told = g_array_new(FALSE, FALSE, sizeof(Told))};
    StorePool *pool;
    if (cluster == NULL) {
        g_test_skip("no PostgreSQL binaries here");
        return;
    }
    pool = store_pool_new(test_cluster_conninfo(cluster), 1);
    g_assert_true(store_migrate(pool, NULL, &error));
    for (guint round = 0; round < ROUNDS; round++) {
        writer_start(&listening, test_cluster_conninfo(cluster), round);
        listen_for(&listening, (guint)g_test_rand_int_range(1, 200));
        if (round % 3 != 0) {
            test_cluster_kill(cluster);
            test_cluster_start(cluster);
        }
        if (round % 3 == 1) /* the same writer goes on after PostgreSQL is back */
            listen_for(&listening, (guint)g_test_rand_int_range(1, 100));
        writer_kill(&listening);
    }
    check_told(&listening, pool);
    store_pool_free(pool);
    g_array_unref(listening.told);
}

int
main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--writer") == 0)
        return writer_main(argv[2], g_ascii_strtoll(argv[3], NULL, 10), 3);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crash/lane", test_what_is_acknowledged_survives_kills);
    return g_test_run();
}
