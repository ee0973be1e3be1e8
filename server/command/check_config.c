/* chancery check-config: read a configuration file as the server would, and say what is wrong. */
#include <stdlib.h>

#include "server/command/command.h"

/* At once where the option is met: no configuration is needed for it. */
static gboolean
print_document(const char *option, const char *value, gpointer data, GError **error)
{
    g_autofree char *document = config_document();

    g_print("%s", document);
    exit(0);
}

int
command_check_config(int argc, char **argv)
{
    const GOptionEntry entries[] = {
        {"document", 0, G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK, print_document,
         "Print docs/configuration.md: every setting", NULL},
        {NULL},
    };
    g_autoptr(Config) config = command_config(&argc, &argv, entries);

    if (config == NULL)
        return 1;
    g_print("%s: good\n", config_file(config));
    return 0;
}
