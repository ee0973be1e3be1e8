/* chancery serve: run the server. */
#include "server/serve.h"
#include "server/command/command.h"

int
command_serve(int argc, char **argv)
{
    g_autoptr(Config) config = command_config(&argc, &argv, NULL);

    return config != NULL ? serve_run(&(ServeOptions){.config = config}) : 1;
}
