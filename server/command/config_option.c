#include "server/command/command.h"

#define STANDARD_FILE "/etc/chancery/chancery.conf"

Config *
command_config(int *argc, char ***argv, const GOptionEntry *entries)
{
    g_autofree char *file = NULL;
    const GOptionEntry own[] = {
        {"config", 'c', 0, G_OPTION_ARG_FILENAME, &file, "The configuration file", "FILE"},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    Config *config = NULL;

    g_option_context_add_main_entries(context, own, NULL);
    if (entries != NULL)
        g_option_context_add_main_entries(context, entries, NULL);
    if (g_option_context_parse(context, argc, argv, &error))
        config = config_load(file != NULL ? file : STANDARD_FILE, &error);
    if (config == NULL)
        g_printerr("chancery %s: %s\n", (*argv)[0], error->message);
    return config;
}
