#include "identity/crl_directory.h"

static gboolean
import_file(Certificates *certificates, StorePool *pool, const char *path, guint *taken,
            GError **error)
{
    g_autofree char *bytes = NULL;
    g_autoptr(GError) refusal = NULL;
    g_autoptr(Crl) crl = NULL;
    g_autoptr(StoreWrites) writes = store_writes_new();
    gsize length = 0;

    if (!g_file_get_contents(path, &bytes, &length, &refusal)) {
        g_warning("%s", refusal->message);
        return TRUE;
    }
    g_autoptr(GBytes) list = g_bytes_new(bytes, length);
    g_autoptr(StoreConnection) connection = store_borrow(pool, error);
    if (connection == NULL || !store_begin(connection, error))
        return FALSE;
    if (!crl_import(certificates, connection, writes, list, "directory", &crl, NULL, &refusal)) {
        if (refusal->domain == STORE_ERROR) {
            g_propagate_error(error, g_steal_pointer(&refusal));
            return FALSE;
        }
        g_warning("revocation list %s is not taken: %s", path, refusal->message);
        return TRUE;
    }
    if (crl == NULL)
        return TRUE; /* in force already */
    if (!store_writes_run(writes, connection, error) || !store_commit(connection, error))
        return FALSE;
    certificates_take_crl(certificates, crl);
    (*taken)++;
    return TRUE;
}

gboolean
crl_directory_import(Certificates *certificates, StorePool *pool, const char *folder,
                     guint *ret_taken, GError **error)
{
    g_autoptr(GDir) directory = g_dir_open(folder, 0, error);
    const char *name;
    guint taken = 0;

    if (directory == NULL)
        return FALSE;
    while ((name = g_dir_read_name(directory)) != NULL) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        if (g_str_has_suffix(name, ".crl") && !import_file(certificates, pool, path, &taken, error))
            return FALSE;
    }
    if (ret_taken != NULL)
        *ret_taken = taken;
    return TRUE;
}
