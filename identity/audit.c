#include "identity/audit.h"

#include <string.h>

#include "identity/clock.h"
#include "identity/json.h"
#include "identity/seeded_hash.h"
#include "storage/audit_store.h"

#define MINUTE_MS ((gint64)60 * 1000)
/* Kinds of refusal that are counted apart; types and rules are this program's own words. */
#define BUCKETS_MAX 256

#define TEXT_BYTES_MAX 512

/* Some members come from outside (a target, a name in a certificate): what the database could not
 * take, or what is too long for a line, must not stop the act that the line tells of. */
static char *
fit(const char *text)
{
    char *fitting = g_utf8_make_valid(text != NULL ? text : "", -1);
    if (strlen(fitting) > TEXT_BYTES_MAX) {
        char *end = g_utf8_find_prev_char(fitting, fitting + TEXT_BYTES_MAX + 1);
        *end = '\0';
    }
    return fitting;
}

static StoreArguments *
arguments_of_line(const AuditLine *line)
{
    g_autoptr(GBytes) canonical = line->refs != NULL ? json_canonical(line->refs, NULL) : NULL;
    gsize length = 0;
    const char *bytes = canonical != NULL ? g_bytes_get_data(canonical, &length) : "{}";
    g_autofree char *refs = g_strndup(bytes, canonical != NULL ? length : 2);
    g_autofree char *type = fit(line->type);
    g_autofree char *actor = fit(line->actor);
    g_autofree char *subject = fit(line->subject);
    g_autofree char *object = fit(line->object);
    g_autofree char *decision = fit(line->decision);
    g_autofree char *rule = fit(line->rule);
    StoredAudit row = {
        .time_ms = clock_wall_ms(),
        .type = type,
        .actor = actor,
        .subject = subject,
        .object = object,
        .decision = decision,
        .rule = rule,
        .refs = refs,
    };
    return audit_store_arguments(&row);
}

void
audit_line(StoreWrites *writes, const AuditLine *line)
{
    store_writes_add(writes, audit_store_append(), arguments_of_line(line));
}

void
audit_line_to_batch(LaneBatch *batch, const AuditLine *line)
{
    lane_batch_add(batch, audit_store_append(), arguments_of_line(line));
}

/* ---- lines that are an act of their own ---- */

/* One line, owned, on its way through the lane. */
typedef struct {
    char *text[6]; /* type, actor, subject, object, decision, rule */
    cJSON *refs;
} PendingLine;

static void
pending_free(PendingLine *pending)
{
    for (gsize i = 0; i < G_N_ELEMENTS(pending->text); i++)
        g_free(pending->text[i]);
    cJSON_Delete(pending->refs);
    g_free(pending);
}

static PendingLine *
pending_new(const AuditLine *line)
{
    PendingLine *pending = g_new0(PendingLine, 1);
    const char *const text[] = {line->type,   line->actor,    line->subject,
                                line->object, line->decision, line->rule};
    for (gsize i = 0; i < G_N_ELEMENTS(text); i++)
        pending->text[i] = g_strdup(text[i]);
    pending->refs = line->refs != NULL ? cJSON_Duplicate(line->refs, TRUE) : NULL;
    return pending;
}

static gboolean
pending_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const PendingLine *pending = data;
    AuditLine line = {pending->text[0], pending->text[1], pending->text[2], pending->text[3],
                      pending->text[4], pending->text[5], pending->refs};
    audit_line_to_batch(batch, &line);
    return TRUE;
}

static void
pending_done(gpointer data, gint64 position, const GError *error)
{
    PendingLine *pending = data;
    if (error != NULL)
        g_warning("audit line %s (%s) was not written: %s", pending->text[0], pending->text[5],
                  error->message);
    pending_free(pending);
}

/* Refusals of one (type, rule) in the running minute. */
typedef struct {
    char *type;
    char *rule;
    gint64 started_ms; /* interval clock */
    guint written;
    guint64 counted; /* beyond those written */
} Bucket;

struct Audit {
    Lane *lane;
    guint refusals_max;
    GMutex lock;         /* guards buckets */
    GHashTable *buckets; /* "type\nrule" -> Bucket */
};

static void
bucket_free(gpointer data)
{
    Bucket *bucket = data;
    g_free(bucket->type);
    g_free(bucket->rule);
    g_free(bucket);
}

Audit *
audit_new(Lane *lane, guint refusals_max)
{
    Audit *audit = g_new0(Audit, 1);
    audit->lane = lane;
    audit->refusals_max = refusals_max;
    g_mutex_init(&audit->lock);
    audit->buckets = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, bucket_free);
    return audit;
}

static gboolean
audit_append(Audit *audit, const AuditLine *line, GError **error)
{
    PendingLine *pending = pending_new(line);
    if (lane_submit(audit->lane, pending_apply, pending_done, pending, error))
        return TRUE;
    pending_free(pending);
    return FALSE;
}

/* The count of a minute that is over, as one line. */
static void
bucket_write(Audit *audit, const Bucket *bucket)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(cJSON) refs = cJSON_CreateObject();
    cJSON_AddNumberToObject(refs, "more", (double)bucket->counted);
    AuditLine line = {.type = bucket->type,
                      .actor = "server",
                      .decision = "refused",
                      .rule = bucket->rule,
                      .refs = refs};
    if (!audit_append(audit, &line, &error))
        g_warning("%" G_GUINT64_FORMAT " refusals (%s, %s) were not written to the audit log: %s",
                  bucket->counted, bucket->type, bucket->rule, error->message);
}

/* Takes out what is older than a minute (or everything); the caller writes it without the lock. */
static GPtrArray *
take_old_buckets(Audit *audit, gboolean all)
{
    GPtrArray *old = g_ptr_array_new_with_free_func(bucket_free);
    gint64 now_ms = clock_interval_ms();
    GHashTableIter iter;
    gpointer key = NULL;
    gpointer value = NULL;
    g_mutex_lock(&audit->lock);
    g_hash_table_iter_init(&iter, audit->buckets);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        Bucket *bucket = value;
        if (!all && now_ms - bucket->started_ms < MINUTE_MS)
            continue;
        g_hash_table_iter_steal(&iter);
        g_free(key);
        g_ptr_array_add(old, bucket);
    }
    g_mutex_unlock(&audit->lock);
    return old;
}

static void
write_old_buckets(Audit *audit, gboolean all)
{
    g_autoptr(GPtrArray) old = take_old_buckets(audit, all);
    for (guint i = 0; i < old->len; i++) {
        const Bucket *bucket = g_ptr_array_index(old, i);
        if (bucket->counted > 0)
            bucket_write(audit, bucket);
    }
}

void
audit_tick(Audit *audit)
{
    write_old_buckets(audit, FALSE);
}

/* TRUE: this refusal gets a line of its own. */
static gboolean
count_refusal(Audit *audit, const AuditLine *line)
{
    const char *type = line->type != NULL ? line->type : "";
    const char *rule = line->rule != NULL ? line->rule : "";
    g_autofree char *key = g_strconcat(type, "\n", rule, NULL);
    gboolean own_line = FALSE;
    g_mutex_lock(&audit->lock);
    Bucket *bucket = g_hash_table_lookup(audit->buckets, key);
    if (bucket == NULL && g_hash_table_size(audit->buckets) < BUCKETS_MAX) {
        bucket = g_new0(Bucket, 1);
        bucket->type = g_strdup(type);
        bucket->rule = g_strdup(rule);
        bucket->started_ms = clock_interval_ms();
        g_hash_table_insert(audit->buckets, g_steal_pointer(&key), bucket);
    }
    if (bucket != NULL) {
        own_line = bucket->written < audit->refusals_max;
        if (own_line)
            bucket->written++;
        else
            bucket->counted++;
    }
    g_mutex_unlock(&audit->lock);
    return own_line;
}

void
audit_refusal(Audit *audit, const AuditLine *line)
{
    g_autoptr(GError) error = NULL;
    AuditLine refused = *line;
    refused.decision = "refused";
    write_old_buckets(audit, FALSE);
    if (count_refusal(audit, line) && !audit_append(audit, &refused, &error))
        g_warning("a refusal (%s, %s) was not written to the audit log: %s", line->type, line->rule,
                  error->message);
}

void
audit_free(Audit *audit)
{
    if (audit == NULL)
        return;
    write_old_buckets(audit, TRUE);
    g_hash_table_unref(audit->buckets);
    g_mutex_clear(&audit->lock);
    g_free(audit);
}

/* ---- reading ---- */

gboolean
audit_read(StoreConnection *connection, gint64 after, guint lines_max, AuditReader reader,
           gpointer data, gint64 *ret_last, GError **error)
{
    g_autoptr(StoreRows) rows = audit_store_read(connection, after, lines_max, error);
    if (rows == NULL)
        return FALSE;
    for (guint i = 0; i < store_rows_count(rows); i++) {
        AuditLine line = {.type = store_rows_text(rows, i, 2),
                          .actor = store_rows_text(rows, i, 3),
                          .subject = store_rows_text(rows, i, 4),
                          .object = store_rows_text(rows, i, 5),
                          .decision = store_rows_text(rows, i, 6),
                          .rule = store_rows_text(rows, i, 7)};
        *ret_last = store_rows_integer(rows, i, 0);
        if (!reader(*ret_last, store_rows_integer(rows, i, 1), &line, store_rows_text(rows, i, 8),
                    data))
            break;
    }
    return TRUE;
}
