/* server/config.h: the one table of settings, and a configuration file read by it.
 *
 * The file is of the INI kind that GLib's GKeyFile reads.  A key that is not in the table is
 * refused with a suggestion; each error names file, section, key and the cure.
 * docs/configuration.md is printed from the table (`chancery check-config --document`).  To add a
 * setting: one row in server/config.c.
 *
 * For server/.  Immutable once read; any thread. */
#pragma once

#include <glib.h>

typedef struct Config Config;

#define CONFIG_ERROR (config_error_quark())
GQuark config_error_quark(void);

typedef enum {
    CONFIG_TEXT,
    CONFIG_SERVER_NAME, /* as Matrix writes one */
    CONFIG_URL,         /* http:// or https://, no query, no trailing slash */
    CONFIG_LIST,        /* values separated by commas or blanks */
    CONFIG_ADDRESSES,   /* a list of address:port */
    CONFIG_PATH,        /* relative to the configuration file's folder */
    CONFIG_INTEGER,
    CONFIG_BOOLEAN, /* yes or no */
} ConfigType;

typedef struct {
    const char *section;
    const char *key;
    ConfigType type;
    const char *standard; /* as it would be written; NULL: absent unless given */
    const char *unit;     /* "" when none */
    gboolean required;
    gint64 minimum; /* CONFIG_INTEGER */
    gint64 maximum;
    const char *sentence;
} ConfigSetting;

extern const ConfigSetting config_settings[];
extern const guint config_setting_count;

Config *config_load(const char *file, GError **error);
/* The same from memory; @file names it in errors, relative paths start at its folder. */
Config *config_parse(const char *file, const char *text, GError **error);
void config_free(Config *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Config, config_free)

/* Values, borrowed.  Asking for what the table does not have, or as another type, is our own
 * mistake. */
const char *
config_text(const Config *config, const char *section, const char *key); /* NULL: absent */
const char *const *
config_list(const Config *config, const char *section, const char *key); /* maybe empty */
gint64 config_integer(const Config *config, const char *section, const char *key);
gboolean config_boolean(const Config *config, const char *section, const char *key);
const char *config_file(const Config *config);

/* Tell about one setting that was read well but cannot be used: names file, section and key. */
void config_set_error(const Config *config, GError **error, const char *section, const char *key,
                      const char *sentence, ...) G_GNUC_PRINTF(5, 6);

/* docs/configuration.md. */
char *config_document(void);
