#include <string.h>

#include "server/command/command.h"

#define STANDARD_FILE "/etc/chancery/chancery.conf"

/* The row of the command that runs: a process runs one. */
static const Command *running;

static gboolean
asks_for_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

static void
print_table(const Command *commands, guint count)
{
    if (running == NULL)
        g_print("chancery: a Matrix homeserver for governments\n\n");
    else
        g_print("%s: %s\n\n", g_get_prgname(), running->help);
    g_print("usage: %s COMMAND [ARGUMENT …]\n\n", g_get_prgname());
    for (guint i = 0; i < count; i++)
        g_print("  %s %s\n      %s\n", commands[i].name, commands[i].arguments, commands[i].help);
}

int
command_run(const Command *commands, guint count, int argc, char **argv)
{
    if (argc >= 2 && asks_for_help(argv[1])) {
        print_table(commands, count);
        return 0;
    }
    for (guint i = 0; argc >= 2 && i < count; i++)
        if (strcmp(argv[1], commands[i].name) == 0) {
            g_autofree char *name = g_strconcat(g_get_prgname(), " ", argv[1], NULL);

            g_set_prgname(name);
            running = &commands[i];
            return commands[i].run(argc - 1, argv + 1);
        }
    if (argc >= 2)
        g_printerr("%s: there is no command \"%s\"; %s --help lists them\n", g_get_prgname(),
                   argv[1], g_get_prgname());
    else
        print_table(commands, count);
    return 2;
}

int
command_wrong_usage(void)
{
    g_printerr("usage: %s %s\n", g_get_prgname(), running->arguments);
    return 2;
}

int
command_failed(const GError *error)
{
    g_printerr("%s: %s\n", g_get_prgname(), error->message);
    return 1;
}

gboolean
command_options(int *argc, char ***argv, const GOptionEntry *entries)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autofree char *summary =
        g_strdup_printf("%s %s\n    %s", g_get_prgname(), running->arguments, running->help);
    g_autoptr(GError) error = NULL;

    g_option_context_set_summary(context, summary);
    g_option_context_add_main_entries(context, entries, NULL);
    if (g_option_context_parse(context, argc, argv, &error))
        return TRUE;
    command_failed(error);
    return FALSE;
}

Config *
command_config(int *argc, char ***argv, const GOptionEntry *entries)
{
    g_autofree char *file = NULL;
    const GOptionEntry own = {"config", 'c',
                              0,        G_OPTION_ARG_FILENAME,
                              &file,    "The configuration file; without it " STANDARD_FILE,
                              "FILE"};
    g_autoptr(GArray) all = g_array_new(TRUE, FALSE, sizeof(GOptionEntry));
    g_autoptr(GError) error = NULL;
    Config *config;

    g_array_append_val(all, own);
    for (guint i = 0; entries != NULL && entries[i].long_name != NULL; i++)
        g_array_append_val(all, entries[i]);
    if (!command_options(argc, argv, (const GOptionEntry *)all->data))
        return NULL;
    config = config_load(file != NULL ? file : STANDARD_FILE, &error);
    if (config == NULL)
        command_failed(error);
    return config;
}
