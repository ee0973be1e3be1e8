/* chancery found: the first two officers.  Runs on the server, beside its database and its record
 * key. */
#include "identity/crl.h"
#include "identity/founding.h"
#include "server/command/command.h"
#include "server/identity_setup.h"
#include "storage/audit_store.h"
#include "storage/migrate.h"

typedef struct {
    StorePool *pool;
    RecordKey *record_key;
    Certificates *certificates;
} Ground;

static void
ground_clear(Ground *ground)
{
    g_clear_pointer(&ground->certificates, certificates_free);
    g_clear_pointer(&ground->record_key, record_key_free);
    g_clear_pointer(&ground->pool, store_pool_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Ground, ground_clear)

static gboolean
prepare(const Config *config, Ground *ground, GError **error)
{
    const char *folder = config_text(config, "server", "state_directory");
    const char *lists = config_text(config, "identity", "crl_directory");
    ground->pool = store_pool_new(config_text(config, "database", "conninfo"), 1);
    if (!store_migrate(ground->pool, NULL, error))
        return FALSE;
    if (g_mkdir_with_parents(folder, 0700) != 0) {
        config_set_error(config, error, "server", "state_directory", "cannot make %s", folder);
        return FALSE;
    }
    ground->record_key = record_key_from_config(config, TRUE, error);
    if (ground->record_key == NULL)
        return FALSE;
    ground->certificates = certificates_from_config(config, ground->record_key, error);
    if (ground->certificates == NULL) {
        if (*error == NULL)
            config_set_error(config, error, "identity", "anchors",
                             "is missing: without trust anchors there are no officers");
        return FALSE;
    }
    return lists == NULL || crls_from_directory(ground->certificates, lists, error);
}

static gboolean
found(Ground *ground, char **files, GError **error)
{
    g_autoptr(GPtrArray) chains = g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
    for (guint i = 0; i < 2; i++) {
        GPtrArray *chain = NULL;
        g_autoptr(Certificate) certificate = certificate_from_file(files[i], &chain, error);
        if (certificate == NULL)
            return FALSE;
        g_ptr_array_add(chains, chain);
    }
    g_autoptr(StoreWrites) writes = store_writes_new();
    g_autoptr(StoreConnection) connection = store_borrow(ground->pool, error);
    /* Lists that came in earlier count as well; those of the folder may be newer. */
    return connection != NULL && store_begin(connection, error) &&
           audit_store_lock(connection, error) &&
           founding_gather(ground->certificates, connection, writes, g_ptr_array_index(chains, 0),
                           g_ptr_array_index(chains, 1), error) &&
           store_writes_run(writes, connection, error) && store_commit(connection, error);
}

int
command_found(int argc, char **argv)
{
    g_auto(GStrv) officers = NULL;
    const GOptionEntry entries[] = {
        {"officer", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &officers,
         "Certificate of a first officer (PEM); twice, two different persons", "FILE"},
        {NULL},
    };
    g_autoptr(Config) config = command_config(&argc, &argv, entries);
    g_autoptr(GError) error = NULL;
    g_auto(Ground) ground = {NULL};

    if (config == NULL)
        return 1;
    if (officers == NULL || g_strv_length(officers) != 2 || argc > 1)
        return command_wrong_usage();
    if (!prepare(config, &ground, &error) || !found(&ground, officers, &error))
        return command_failed(error);
    g_print("founded: two officers; they name further ones (chancery officer add) and enrol "
            "people (chancery enrol propose)\n");
    return 0;
}
