/* The configuration: what is refused says where and how to cure it; the document is the table. */
#include <glib/gstdio.h>
#include <string.h>

#include "server/config.h"

#define GOOD                                                                                       \
    "[server]\nname = alpha.example\npublic_base_url = "                                           \
    "https://alpha.example\n[database]\nconninfo = dbname=x\n"

typedef struct {
    const char *text;
    const char *complaint; /* NULL: good */
} Case;

static const Case cases[] = {
    {GOOD, NULL},
    {GOOD "[limits]\nworkers = 1\n", NULL},
    {GOOD "[limits]\nworkers = 256\n", NULL},
    {GOOD "[limits]\nworkers = 0\n",
     "[limits] workers: \"0\" will not do: write a whole number of threads from 1 to 256"},
    {GOOD "[limits]\nworkers = 257\n", "from 1 to 256"},
    {GOOD "[limits]\nworkers = many\n", "from 1 to 256"},
    {GOOD "[limits]\nrates = true\n", "write yes or no"},
    {GOOD "[limits]\nworker = 3\n", "there is no such setting; did you mean [limits] workers?"},
    {GOOD "[identity]\nallow_list = x\n", "did you mean [federation] allow_list?"},
    {GOOD "[nonsense]\nzzzzzzzzzzzz = 3\n",
     "[nonsense] zzzzzzzzzzzz: there is no such setting; `chancery"},
    {GOOD "[client]\nlisten = 127.0.0.1\n", "write address:port"},
    {"[server]\nname = alpha.example\npublic_base_url = https://a\n",
     "[database] conninfo: is required and missing"},
    {"[server]\nname = Alpha Example\npublic_base_url = https://a\n[database]\nconninfo=x\n",
     "is no server name"},
    {"[server]\nname = a\npublic_base_url = https://a/\n[database]\nconninfo=x\n",
     "is no base URL"},
    {"[server]\nname = a\npublic_base_url = ftp://a\n[database]\nconninfo=x\n", "is no base URL"},
    /* An emptied setting is not 0, nor no. */
    {GOOD "[limits]\nworkers =\n", "[limits] workers: \"\" will not do"},
    {GOOD "[limits]\nrates =\n", "[limits] rates: \"\" will not do: write yes or no"},
    {GOOD "[identity]\npolicy_oids =\n", NULL},
    /* What cannot be read does not become the standard value. */
    {GOOD "[limits]\nrates = no\xff\n", "[limits] rates: cannot be read"},
    {GOOD "[identity]\nsession_days = 3\\q\n", "[identity] session_days: cannot be read"},
    {"name = a\n", "/etc/x/y.conf: "},
    {"[server\n", "/etc/x/y.conf: "},
};

static void
test_each_mistake_is_named_with_its_cure(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Config) config = config_parse("/etc/x/y.conf", cases[i].text, &error);
        g_test_message("%s", cases[i].text);
        if (cases[i].complaint == NULL) {
            g_assert_no_error(error);
            g_assert_nonnull(config);
            continue;
        }
        g_assert_null(config);
        g_assert_nonnull(error);
        g_assert_true(g_str_has_prefix(error->message, "/etc/x/y.conf: "));
        g_assert_nonnull(strstr(error->message, cases[i].complaint));
    }
}

/* What stands behind a byte 0 would be passed over. */
static void
test_a_file_with_a_byte_0_is_refused(void)
{
    static const char text[] = GOOD "[limits]\n#\0\nrates = no\n";
    g_autoptr(GError) error = NULL;
    g_autofree char *folder = g_dir_make_tmp("chancery-config-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(folder, "y.conf", NULL);

    g_assert_true(g_file_set_contents(file, text, sizeof text - 1, NULL));
    g_assert_null(config_load(file, &error));
    g_assert_nonnull(strstr(error->message, "byte 0"));
    g_remove(file);
    g_rmdir(folder);
}

static void
test_values_are_read_as_their_kind(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = config_parse(
        "/etc/x/y.conf", GOOD "[client]\nlisten = 127.0.0.1:1, [::1]:2\ncertificate = tls/c.pem\n",
        &error);

    g_assert_no_error(error);
    g_assert_cmpstr(config_list(config, "client", "listen")[0], ==, "127.0.0.1:1");
    g_assert_cmpstr(config_list(config, "client", "listen")[1], ==, "[::1]:2");
    g_assert_null(config_list(config, "client", "listen")[2]);
    g_assert_cmpstr(config_text(config, "client", "certificate"), ==, "/etc/x/tls/c.pem");
    g_assert_null(config_text(config, "client", "key"));
    g_assert_cmpint(config_integer(config, "limits", "workers"), ==, 8);
    g_assert_true(config_boolean(config, "limits", "rates"));
}

static void
test_the_document_is_the_table(void)
{
    g_autofree char *document = config_document();
    g_autofree char *kept = NULL;
    g_autoptr(GError) error = NULL;

    g_file_get_contents("docs/configuration.md", &kept, NULL, &error);
    g_assert_no_error(error);
    if (strcmp(kept, document) != 0)
        g_test_message("print it again: chancery check-config --document > docs/configuration.md");
    g_assert_cmpstr(kept, ==, document);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/config/mistakes", test_each_mistake_is_named_with_its_cure);
    g_test_add_func("/config/byte-0", test_a_file_with_a_byte_0_is_refused);
    g_test_add_func("/config/values", test_values_are_read_as_their_kind);
    g_test_add_func("/config/document", test_the_document_is_the_table);
    return g_test_run();
}
