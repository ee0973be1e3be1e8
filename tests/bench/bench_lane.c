/* The writer lane alone: acknowledged operations per second with 1 to 32 outstanding, beside
 * pgbench's one-row commits of as many bytes, in the same cluster and run.  `bench_lane [SECONDS]`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/event_store.h"
#include "storage/lane.h"
#include "storage/migrate.h"
#include "tests/support/database.h"

#define EVENT_BYTES 800

typedef struct {
    Lane *lane;
    GBytes *json;
    gint64 end_us;
    GMutex lock;
    GCond idle;
    guint under_way;
    guint64 serial, acknowledged;
    GArray *waits_us; /* of gint64, one an acknowledgement */
} Bench;

typedef struct {
    Bench *bench;
    guint64 number;
    gint64 began_us;
} Operation;

static void operation_submit(Bench *bench, Operation *operation);

/* What one message of a room writes: its row and its log entry. */
static gboolean
operation_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Operation *operation = data;
    char event_id[48];
    NewEvent event = {
        .room_id = "!bench",
        .event_id = event_id,
        .type = "m.room.message",
        .sender = "@bench:example.org",
        .depth = (gint64)operation->number,
        .status = STORED_EVENT_ACCEPTED,
        .local = TRUE,
        .json = operation->bench->json,
    };
    g_snprintf(event_id, sizeof event_id, "$%043" G_GUINT64_FORMAT, operation->number);
    event_store_insert(batch, &event);
    lane_batch_log(batch, log_entry_new(LOG_EVENT, "!bench", NULL, event_id));
    return TRUE;
}

static void
operation_done(gpointer data, gint64 position, const GError *error)
{
    Operation *operation = data;
    Bench *bench = operation->bench;
    gint64 now_us = g_get_monotonic_time(), wait_us = now_us - operation->began_us;
    if (error != NULL)
        g_error("%s", error->message);
    bench->acknowledged++;
    g_array_append_val(bench->waits_us, wait_us);
    if (now_us < bench->end_us) {
        operation_submit(bench, operation);
        return;
    }
    g_free(operation);
    g_mutex_lock(&bench->lock);
    bench->under_way--;
    g_cond_signal(&bench->idle);
    g_mutex_unlock(&bench->lock);
}

static void
operation_submit(Bench *bench, Operation *operation)
{
    g_autoptr(GError) error = NULL;
    operation->number = __atomic_add_fetch(&bench->serial, 1, __ATOMIC_RELAXED);
    operation->began_us = g_get_monotonic_time();
    if (!lane_submit(bench->lane, operation_apply, operation_done, operation, &error))
        g_error("%s", error->message);
}

static int
compare_waits(gconstpointer a, gconstpointer b)
{
    gint64 left = *(const gint64 *)a, right = *(const gint64 *)b;
    return left < right ? -1 : left > right;
}

static void
bench_run(Bench *bench, guint outstanding, double seconds)
{
    gint64 began_us = g_get_monotonic_time();
    double took;
    bench->end_us = began_us + (gint64)(seconds * G_USEC_PER_SEC);
    bench->acknowledged = 0;
    g_array_set_size(bench->waits_us, 0);
    bench->under_way = outstanding;
    for (guint i = 0; i < outstanding; i++) {
        Operation *operation = g_new0(Operation, 1);
        operation->bench = bench;
        operation_submit(bench, operation);
    }
    g_mutex_lock(&bench->lock);
    while (bench->under_way > 0)
        g_cond_wait(&bench->idle, &bench->lock);
    g_mutex_unlock(&bench->lock);
    took = (double)(g_get_monotonic_time() - began_us) / G_USEC_PER_SEC;
    g_array_sort(bench->waits_us, compare_waits);
    printf("lane     %3u outstanding: %7.0f/s  p50 %.2f ms  p99 %.2f ms\n", outstanding,
           (double)bench->acknowledged / took,
           (double)g_array_index(bench->waits_us, gint64, bench->waits_us->len / 2) / 1000,
           (double)g_array_index(bench->waits_us, gint64, bench->waits_us->len * 99 / 100) / 1000);
    fflush(stdout);
}

static void
pgbench_run(TestCluster *cluster, guint clients, double seconds)
{
    g_autofree char *script = NULL, *sql = NULL, *clients_text = g_strdup_printf("%u", clients);
    g_autofree char *seconds_text = g_strdup_printf("%.0f", MAX(seconds, 1.0)), *output = NULL;
    g_autofree char *program = test_cluster_program(cluster, "pgbench");
    g_autoptr(GError) error = NULL;
    const char *tps;
    int descriptor = g_file_open_tmp("bench-XXXXXX.sql", &script, NULL);
    const char *const argv[] = {program,    "-n",
                                "-M",       "prepared",
                                "-c",       clients_text,
                                "-j",       "2",
                                "-T",       seconds_text,
                                "-f",       script,
                                "-h",       test_cluster_socket_directory(cluster),
                                "-U",       "postgres",
                                "postgres", NULL};
    g_assert_cmpint(descriptor, >=, 0);
    close(descriptor);
    sql = g_strdup_printf("INSERT INTO line (bytes) VALUES (decode(repeat('61', %u), 'hex'));\n",
                          EVENT_BYTES);
    g_file_set_contents(script, sql, -1, NULL);
    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &output,
                      NULL, NULL, &error))
        g_error("pgbench: %s", error->message);
    unlink(script);
    tps = strstr(output, "tps = ");
    printf("pgbench  %3u clients:     %7.0f/s  one-row commits of %u bytes\n", clients,
           tps != NULL ? g_ascii_strtod(tps + 6, NULL) : 0, EVENT_BYTES);
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    static const guint outstanding[] = {1, 2, 4, 8, 16, 32};
    static const guint clients[] = {1, 8, 32};
    double seconds = argc > 1 ? g_ascii_strtod(argv[1], NULL) : 3;
    g_autoptr(GError) error = NULL;
    TestCluster *cluster = test_cluster_new();
    StorePool *pool;
    LogRing *ring;
    Bench bench = {0};

    if (cluster == NULL)
        return 1;
    pool = store_pool_new(test_cluster_conninfo(cluster), 2);
    ring = log_ring_new(16 << 20, (LogHead){0, 0});
    if (!store_migrate(pool, NULL, &error) ||
        (bench.lane = lane_new(pool, ring, 1000, &error)) == NULL)
        g_error("%s", error->message);
    g_free(
        test_cluster_query(cluster, "CREATE TABLE line (id bigserial PRIMARY KEY, bytes bytea)"));
    bench.json = g_bytes_new_take(g_malloc0(EVENT_BYTES), EVENT_BYTES);
    bench.waits_us = g_array_new(FALSE, FALSE, sizeof(gint64));
    g_mutex_init(&bench.lock);
    g_cond_init(&bench.idle);
    for (gsize i = 0; i < G_N_ELEMENTS(outstanding); i++)
        bench_run(&bench, outstanding[i], seconds);
    for (gsize i = 0; i < G_N_ELEMENTS(clients); i++)
        pgbench_run(cluster, clients[i], seconds);
    lane_free(bench.lane);
    log_ring_free(ring);
    store_pool_free(pool);
    g_bytes_unref(bench.json);
    g_array_unref(bench.waits_us);
    test_cluster_free(cluster);
    return 0;
}
