/* Fuzz target: a configuration file is read, every setting as its type says, or refused by a
 * sentence that names the file. */
#include <string.h>

#include "server/config.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static void
check_setting(const Config *config, const ConfigSetting *setting)
{
    const char *const *list;
    switch (setting->type) {
    case CONFIG_INTEGER:
        g_assert_cmpint(config_integer(config, setting->section, setting->key), >=,
                        setting->minimum);
        g_assert_cmpint(config_integer(config, setting->section, setting->key), <=,
                        setting->maximum);
        break;
    case CONFIG_BOOLEAN:
        config_boolean(config, setting->section, setting->key);
        break;
    case CONFIG_LIST:
    case CONFIG_ADDRESSES:
        list = config_list(config, setting->section, setting->key);
        for (guint i = 0; list[i] != NULL; i++)
            g_assert_null(strpbrk(list[i], ", \t;"));
        break;
    default:
        g_assert_true(!setting->required ||
                      config_text(config, setting->section, setting->key) != NULL);
    }
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = config_parse("/etc/a.conf", text, &error);
    if (config == NULL) {
        g_assert_true(g_str_has_prefix(error->message, "/etc/a.conf"));
        return 0;
    }
    g_assert_no_error(error);
    for (guint i = 0; i < config_setting_count; i++)
        check_setting(config, &config_settings[i]);
    return 0;
}
