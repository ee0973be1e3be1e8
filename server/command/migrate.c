/* chancery migrate: bring the database's tables up to this program.
 *
 * With --owner, the owner of the tables does it, and the role that serves (the one of [database]
 * conninfo) is then given what it needs and no more: above all, no right to change the audit log.
 */
#include "storage/migrate.h"
#include "server/command/command.h"
#include "storage/serving_role.h"

static gboolean
migrate_as_owner(const Config *config, const char *owner, guint *ret_applied, GError **error)
{
    StorePool *owning = store_pool_new(owner, 1);
    StorePool *serving = store_pool_new(config_text(config, "database", "conninfo"), 1);
    g_autofree char *role = NULL;
    gboolean done = store_migrate(owning, ret_applied, error);

    if (done) {
        g_autoptr(StoreConnection) server = store_borrow(serving, error);
        done = server != NULL && serving_role_name(server, &role, error);
    }
    if (done) {
        g_autoptr(StoreConnection) connection = store_borrow(owning, error);
        done = connection != NULL && serving_role_grant(connection, role, error);
    }
    store_pool_free(serving);
    store_pool_free(owning);
    return done;
}

static gboolean
migrate_as_server(const Config *config, guint *ret_applied, GError **error)
{
    StorePool *pool = store_pool_new(config_text(config, "database", "conninfo"), 1);
    gboolean done = store_migrate(pool, ret_applied, error);
    store_pool_free(pool);
    return done;
}

int
command_migrate(int argc, char **argv)
{
    g_autofree char *owner = NULL;
    const GOptionEntry entries[] = {
        {"owner", 0, 0, G_OPTION_ARG_STRING, &owner,
         "How the owner of the tables connects; the serving role gets its rights from them",
         "CONNINFO"},
        {NULL},
    };
    g_autoptr(Config) config = command_config(&argc, &argv, entries);
    g_autoptr(GError) error = NULL;
    guint applied = 0;

    if (config == NULL)
        return 1;
    if (!(owner != NULL ? migrate_as_owner(config, owner, &applied, &error)
                        : migrate_as_server(config, &applied, &error)))
        return command_failed(error);
    g_print("%u migrations applied\n", applied);
    return 0;
}
