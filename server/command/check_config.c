/* chancery check-config: read a configuration file as the server would, and say what is wrong. */
#include <string.h>

#include "server/command/command.h"

int
command_check_config(int argc, char **argv)
{
    g_autoptr(Config) config = NULL;

    if (argc == 2 && strcmp(argv[1], "--document") == 0) {
        g_autofree char *document = config_document();
        g_print("%s", document);
        return 0;
    }
    config = command_config(&argc, &argv, NULL);
    if (config == NULL)
        return 1;
    g_print("%s: good\n", config_file(config));
    return 0;
}
