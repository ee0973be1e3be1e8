/* chancery audit: prints the audit log, a line of JSON each; on the server, or wherever a role may
 * read the table. */
#include "identity/audit.h"
#include "identity/json.h"
#include "server/command/command.h"

#define PAGE_LINES 1000
#define FOLLOW_EVERY_MS 500

/* Each value as it is: refs is canonical JSON already. */
static gboolean
print_line(gint64 seq, gint64 time_ms, const AuditLine *line, const char *refs, gpointer data)
{
    g_autoptr(GString) text = g_string_new(NULL);
    const struct {
        const char *key;
        const char *value;
    } members[] = {{"type", line->type},         {"actor", line->actor},
                   {"subject", line->subject},   {"object", line->object},
                   {"decision", line->decision}, {"rule", line->rule}};
    g_string_append_printf(text, "{\"seq\":%" G_GINT64_FORMAT ",\"time\":%" G_GINT64_FORMAT, seq,
                           time_ms);
    for (gsize i = 0; i < G_N_ELEMENTS(members); i++) {
        g_string_append_printf(text, ",\"%s\":", members[i].key);
        json_append_string(text, members[i].value);
    }
    g_print("%s,\"refs\":%s}\n", text->str, refs);
    return TRUE;
}

static gboolean
print_after(StorePool *pool, gint64 *after, GError **error)
{
    gint64 before = -1;
    while (before != *after) {
        g_autoptr(StoreConnection) connection = store_borrow(pool, error);
        before = *after;
        if (connection == NULL ||
            !audit_read(connection, *after, PAGE_LINES, print_line, NULL, after, error))
            return FALSE;
    }
    return TRUE;
}

int
command_audit(int argc, char **argv)
{
    gint64 after = 0;
    gboolean follow = FALSE;
    const GOptionEntry entries[] = {
        {"after", 0, 0, G_OPTION_ARG_INT64, &after, "Lines after this number", "N"},
        {"follow", 'f', 0, G_OPTION_ARG_NONE, &follow, "Go on with lines as they come", NULL},
        {NULL},
    };
    g_autoptr(Config) config = command_config(&argc, &argv, entries);
    g_autoptr(GError) error = NULL;
    if (config == NULL)
        return 1;
    StorePool *pool = store_pool_new(config_text(config, "database", "conninfo"), 1);
    gboolean read_all = print_after(pool, &after, &error);
    while (read_all && follow) {
        g_usleep(FOLLOW_EVERY_MS * 1000);
        read_all = print_after(pool, &after, &error);
    }
    store_pool_free(pool);
    return read_all ? 0 : command_failed(error);
}
