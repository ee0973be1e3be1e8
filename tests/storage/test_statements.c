/* Every statement of every store is prepared and explained with a generic plan; none may read a
 * whole table. */
#include "storage/statements.h"

#include <libpq-fe.h>
#include <string.h>

#include "tests/support/database.h"

/* Tables that a statement may read whole, each with the reason. */
static const struct {
    const char *statement; /* its name, or NULL: any */
    const char *table;
    const char *reason;
} whole_reads[] = {
    {NULL, "log_head", "has one row"},
    {NULL, "migration", "has one row a migration, and is read at start alone"},
    {NULL, "proposal_open",
     "the index holds the proposals that are open alone, of which there are few"},
    {"officer_list", "officer", "an agency has a handful of officers, and all are wanted"},
    {"crl_all", "crl", "all revocation lists are loaded at start"},
    {"profile_search", "account",
     "a search within names reads an agency's accounts, and people search seldom"},
    {"profile_search", "account_pkey", "as above"},
    {"profile_search", "profile", "as above"},
    {"profile_search", "profile_pkey", "as above"},
    {"delivery_queue_partners", "delivery_transaction_pkey",
     "has one row a partner with a transaction under way, and all are wanted at start"},
};

static PGconn *
connect_explaining(TestDatabase *database)
{
    PGconn *pg = PQconnectdb(database->conninfo);
    PGresult *result;
    g_assert_cmpint(PQstatus(pg), ==, CONNECTION_OK);
    result = PQexec(pg, "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off");
    g_assert_cmpint(PQresultStatus(result), ==, PGRES_COMMAND_OK);
    PQclear(result);
    return pg;
}

/* BEGIN and the like have no plan. */
static gboolean
has_plan(const StoreStatement *statement)
{
    static const char *const words[] = {"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"};
    for (gsize i = 0; i < G_N_ELEMENTS(words); i++) {
        if (g_str_has_prefix(statement->sql, words[i]))
            return TRUE;
    }
    return FALSE;
}

static guint
parameter_count(PGconn *pg, const StoreStatement *statement)
{
    PGresult *result = PQprepare(pg, statement->name, statement->sql, 0, NULL);
    int count;
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        g_error("%s: %s", statement->name, PQerrorMessage(pg));
    PQclear(result);
    result = PQdescribePrepared(pg, statement->name);
    g_assert_cmpint(PQresultStatus(result), ==, PGRES_COMMAND_OK);
    count = PQnparams(result);
    PQclear(result);
    return (guint)count;
}

static gboolean
whole_read_is_listed(const StoreStatement *statement, const char *table)
{
    for (gsize i = 0; i < G_N_ELEMENTS(whole_reads); i++) {
        if (strcmp(whole_reads[i].table, table) == 0 &&
            (whole_reads[i].statement == NULL ||
             strcmp(whole_reads[i].statement, statement->name) == 0))
            return TRUE;
    }
    return FALSE;
}

/* The table of a plan line "... Scan using index on table alias" (of a bitmap the index), or NULL
 * for other lines. */
static char *
scanned_table(const char *line, gboolean *ret_sequential)
{
    const char *on;
    *ret_sequential = strstr(line, "Seq Scan on ") != NULL;
    if (!*ret_sequential && strstr(line, "Index Scan using ") == NULL &&
        strstr(line, "Index Scan Backward using ") == NULL &&
        strstr(line, "Index Only Scan") == NULL && strstr(line, "Bitmap Index Scan on ") == NULL)
        return NULL;
    on = strstr(line, " on ") + strlen(" on ");
    return g_strndup(on, strcspn(on, " "));
}

static guint
indentation(const char *line)
{
    return (guint)strspn(line, " ");
}

/* The lines under a plan node that tell about it. */
static gboolean
node_says(const PGresult *plan, int line, const char *what)
{
    guint own = indentation(PQgetvalue(plan, line, 0));
    for (int i = line + 1; i < PQntuples(plan); i++) {
        const char *text = PQgetvalue(plan, i, 0);
        if (indentation(text) <= own || strstr(text, "->") != NULL)
            return FALSE;
        if (strstr(text, what) != NULL)
            return TRUE;
    }
    return FALSE;
}

/* An index that is read without a condition is a whole read as well, unless a LIMIT stands right
 * above. */
static gboolean
is_bounded(const PGresult *plan, int line)
{
    if (node_says(plan, line, "Index Cond:"))
        return TRUE;
    return line > 0 && g_str_has_suffix(PQgetvalue(plan, line - 1, 0), "Limit") &&
           !node_says(plan, line, "Filter:");
}

static guint
check_plan(PGconn *pg, const StoreStatement *statement)
{
    g_autoptr(GString) sql = g_string_new("EXPLAIN (COSTS OFF) EXECUTE ");
    guint count = parameter_count(pg, statement), offences = 0;
    PGresult *plan;
    g_string_append_printf(sql, "\"%s\"", statement->name);
    for (guint i = 0; i < count; i++)
        g_string_append(sql, i == 0 ? " (NULL" : ", NULL");
    if (count > 0)
        g_string_append_c(sql, ')');
    plan = PQexec(pg, sql->str);
    if (PQresultStatus(plan) != PGRES_TUPLES_OK)
        g_error("%s: %s", statement->name, PQerrorMessage(pg));
    for (int line = 0; line < PQntuples(plan); line++) {
        gboolean sequential = FALSE;
        g_autofree char *table = scanned_table(PQgetvalue(plan, line, 0), &sequential);
        if (table == NULL || (!sequential && is_bounded(plan, line)) ||
            whole_read_is_listed(statement, table))
            continue;
        g_test_message("%s reads the whole of %s: %s", statement->name, table, statement->sql);
        for (int i = 0; i < PQntuples(plan); i++)
            g_test_message("    %s", PQgetvalue(plan, i, 0));
        offences++;
    }
    PQclear(plan);
    return offences;
}

static void
test_no_statement_reads_a_whole_table(void)
{
    g_autoptr(TestDatabase) database = test_database_new(1);
    PGconn *pg = connect_explaining(database);
    guint offences = 0, checked = 0;
    for (guint store = 0; store < store_statements_count; store++) {
        for (guint i = 0; i < *store_statements[store].count; i++) {
            const StoreStatement *statement = &store_statements[store].statements[i];
            g_assert_nonnull(statement->name);
            if (!has_plan(statement))
                continue;
            offences += check_plan(pg, statement);
            checked++;
        }
    }
    PQfinish(pg);
    g_test_message("figure: %u statements of %u stores explained", checked, store_statements_count);
    g_assert_cmpuint(checked, >, 50);
    g_assert_cmpuint(offences, ==, 0);
}

static void
test_names_are_unique(void)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint store = 0; store < store_statements_count; store++) {
        for (guint i = 0; i < *store_statements[store].count; i++) {
            const char *name = store_statements[store].statements[i].name;
            if (!g_hash_table_add(names, (gpointer)name))
                g_error("two statements are called %s", name);
        }
    }
}

/* The check itself must see what it is there for. */
static void
test_whole_reads_are_seen(void)
{
    static const StoreStatement bad[] = {
        {"bad_filter", "SELECT event_id FROM event WHERE sender = $1"},
        {"bad_order", "SELECT position FROM log ORDER BY position"},
    };
    static const StoreStatement good = {"good", "SELECT kind FROM log WHERE position = $1"};
    g_autoptr(TestDatabase) database = test_database_new(1);
    PGconn *pg = connect_explaining(database);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_cmpuint(check_plan(pg, &bad[i]), ==, 1);
    g_assert_cmpuint(check_plan(pg, &good), ==, 0);
    PQfinish(pg);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/statements/plans", test_no_statement_reads_a_whole_table);
    g_test_add_func("/statements/names", test_names_are_unique);
    g_test_add_func("/statements/check", test_whole_reads_are_seen);
    return g_test_run();
}
