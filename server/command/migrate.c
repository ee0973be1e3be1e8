/* chancery migrate: bring the database's tables up to this program. */
#include "storage/migrate.h"
#include "server/command/command.h"

int
command_migrate(int argc, char **argv)
{
    g_autoptr(Config) config = command_config(&argc, &argv, NULL);
    g_autoptr(GError) error = NULL;
    StorePool *pool;
    guint applied = 0;
    gboolean done;

    if (config == NULL)
        return 1;
    pool = store_pool_new(config_text(config, "database", "conninfo"), 1);
    done = store_migrate(pool, &applied, &error);
    store_pool_free(pool);
    if (!done) {
        g_printerr("chancery migrate: %s\n", error->message);
        return 1;
    }
    g_print("%u migrations applied\n", applied);
    return 0;
}
