/* The route tables against the specification: every table is gathered, paths are written as the
 * specification writes them, and what is not served is named. */
#include <string.h>

#include "server/http/router.h"

/* The routes of our own that no specification knows. */
static gboolean
is_our_own(const char *path)
{
    return !g_str_has_prefix(path, "/_matrix/") || strstr(path, "/unstable/") != NULL;
}

static gboolean
is_served(const char *method, const char *path)
{
    for (guint i = 0; route_tables[i] != NULL; i++)
        for (const Route *route = route_tables[i]; route->method != NULL; route++)
            if (strcmp(route->method, method) == 0 && strcmp(route->path, path) == 0)
                return TRUE;
    return FALSE;
}

/* Making the router fails the program on two routes for one method and path. */
static void
test_no_route_comes_twice(void)
{
    g_autoptr(Router) router = router_new(route_tables);

    g_assert_nonnull(router);
}

/* A table that nobody gathered would answer 404 in silence. */
static void
test_every_table_is_gathered(void)
{
    static const char *const folders[] = {"server/client", "server/partner", "server/certificate"};
    g_autoptr(GRegex) table =
        g_regex_new("^const Route (\\w+)\\[\\] = \\{", G_REGEX_MULTILINE, 0, NULL);
    g_autofree char *gathered = NULL;

    g_assert_true(g_file_get_contents("server/routes.c", &gathered, NULL, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autoptr(GDir) folder = g_dir_open(folders[i], 0, NULL);
        const char *name;
        g_assert_nonnull(folder);
        while ((name = g_dir_read_name(folder)) != NULL) {
            g_autofree char *path = g_build_filename(folders[i], name, NULL);
            g_autofree char *text = NULL;
            g_autoptr(GMatchInfo) match = NULL;
            if (!g_str_has_suffix(name, ".c") || !g_file_get_contents(path, &text, NULL, NULL))
                continue;
            for (g_regex_match(table, text, 0, &match); g_match_info_matches(match);
                 g_match_info_next(match, NULL)) {
                g_autofree char *found = g_match_info_fetch(match, 1);
                g_autofree char *row = g_strdup_printf("\n    %s,", found);
                g_test_message("%s: %s", path, found);
                g_assert_nonnull(strstr(gathered, row));
            }
        }
    }
}

/* The rows of endpoints.tsv: api, method, path, …; NULL where the specification's data is not at
 * hand. */
static char **
read_endpoints(void)
{
    const char *folder = g_getenv("CHANCERY_SPEC");
    g_autofree char *path =
        g_build_filename(folder != NULL ? folder : "../shared/spec", "endpoints.tsv", NULL);
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    return g_strsplit(text, "\n", -1);
}

static void
test_the_specification_is_named_where_it_is_not_served(void)
{
    g_auto(GStrv) rows = read_endpoints();
    guint served = 0;
    guint absent = 0;

    if (rows == NULL) {
        g_test_skip("the specification's endpoints.tsv is not here (CHANCERY_SPEC)");
        return;
    }
    for (guint i = 1; rows[i] != NULL; i++) {
        g_auto(GStrv) columns = g_strsplit(rows[i], "\t", 4);
        if (g_strv_length(columns) < 3 ||
            (strcmp(columns[0], "client") != 0 && strcmp(columns[0], "federation") != 0))
            continue;
        if (is_served(columns[1], columns[2])) {
            served++;
            continue;
        }
        absent++;
        g_test_message("not served: %s %s", columns[1], columns[2]);
    }
    g_test_message("figure: %u operations served, %u not", served, absent);
    g_assert_cmpuint(served, >, 80);
}

/* What we serve under /_matrix/ is written as the specification writes it, or under unstable. */
static void
test_no_path_is_misspelt(void)
{
    g_auto(GStrv) rows = read_endpoints();
    g_autofree char *all = NULL;

    if (rows == NULL) {
        g_test_skip("the specification's endpoints.tsv is not here (CHANCERY_SPEC)");
        return;
    }
    all = g_strjoinv("\n", rows);
    for (guint i = 0; route_tables[i] != NULL; i++)
        for (const Route *route = route_tables[i]; route->method != NULL; route++) {
            g_autofree char *row = g_strdup_printf("\t%s\t%s\t", route->method, route->path);
            if (!is_our_own(route->path) && strstr(all, row) == NULL)
                g_test_message("not in the specification: %s %s", route->method, route->path);
        }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/routes/once", test_no_route_comes_twice);
    g_test_add_func("/routes/gathered", test_every_table_is_gathered);
    g_test_add_func("/routes/served", test_the_specification_is_named_where_it_is_not_served);
    g_test_add_func("/routes/spelling", test_no_path_is_misspelt);
    return g_test_run();
}
