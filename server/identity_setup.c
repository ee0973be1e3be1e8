#include "server/identity_setup.h"

#include "identity/crl.h"

RecordKey *
record_key_from_config(const Config *config, gboolean create, GError **error)
{
    g_autofree char *file =
        g_build_filename(config_text(config, "server", "state_directory"), "record.key", NULL);
    return record_key_open(file, create, error);
}

Certificates *
certificates_from_config(const Config *config, const RecordKey *record_key, GError **error)
{
    const char *agency = config_text(config, "server", "agency");
    CertificatesSettings settings = {
        .server_name = config_text(config, "server", "name"),
        .agency = agency != NULL ? agency : config_text(config, "server", "name"),
        .anchors_file = config_text(config, "identity", "anchors"),
        .issuers_file = config_text(config, "identity", "intermediates"),
        .policies = config_list(config, "identity", "policy_oids"),
        .crl_login_age_ms = config_integer(config, "identity", "crl_login_hours") * 3600 * 1000,
        .crl_session_age_ms = config_integer(config, "identity", "crl_session_hours") * 3600 * 1000,
    };
    g_autoptr(GError) cause = NULL;
    if (settings.anchors_file == NULL)
        return NULL;
    if (settings.issuers_file == NULL) {
        config_set_error(config, error, "identity", "intermediates",
                         "is needed beside anchors: the authorities that issue people's "
                         "certificates");
        return NULL;
    }
    Certificates *certificates = certificates_new(&settings, record_key, &cause);
    if (certificates == NULL)
        config_set_error(config, error, "identity", "anchors", "%s", cause->message);
    return certificates;
}

gboolean
crls_from_directory(Certificates *certificates, const char *directory, GError **error)
{
    g_autoptr(GDir) folder = g_dir_open(directory, 0, error);
    const char *name = NULL;
    if (folder == NULL)
        return FALSE;
    while ((name = g_dir_read_name(folder)) != NULL) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        g_autofree char *bytes = NULL;
        gsize length = 0;
        g_autoptr(GError) refused = NULL;
        if (name[0] == '.' || !g_str_has_suffix(name, ".crl"))
            continue;
        if (!g_file_get_contents(path, &bytes, &length, &refused)) {
            g_printerr("%s\n", refused->message);
            continue;
        }
        g_autoptr(GBytes) list = g_bytes_new_take(g_steal_pointer(&bytes), length);
        g_autoptr(Crl) crl = crl_judge(certificates, list, NULL, &refused);
        if (crl != NULL)
            certificates_take_crl(certificates, crl);
        else
            g_printerr("%s: %s\n", path, refused->message);
    }
    return TRUE;
}
