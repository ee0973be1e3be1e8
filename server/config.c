#include "server/config.h"

#include <string.h>

G_DEFINE_QUARK(chancery - config, config_error)

const ConfigSetting config_settings[] = {
    {"server", "name", CONFIG_SERVER_NAME, NULL, "", TRUE, 0, 0,
     "The agency's Matrix server name: what stands after the colon in its people's user IDs. It "
     "can never be changed."},
    {"server", "public_base_url", CONFIG_URL, NULL, "", TRUE, 0, 0,
     "Where clients reach the client listener; told to them by /.well-known/matrix/client and at "
     "log-in."},
    {"server", "federation_address", CONFIG_TEXT, NULL, "", FALSE, 0, 0,
     "host:port that /.well-known/matrix/server names; absent: that file is not served. Partners "
     "listed with an address do not need it."},
    {"server", "agency", CONFIG_TEXT, NULL, "", FALSE, 0, 0,
     "The agency as enrolment statements name it; the server name unless given."},
    {"server", "state_directory", CONFIG_PATH, "state", "", FALSE, 0, 0,
     "Folder of the key files (signing key, token keys), made at first start with mode 0700. Back "
     "it up: without it no partner knows this server again."},
    {"client", "listen", CONFIG_ADDRESSES, "127.0.0.1:8008", "", FALSE, 0, 0,
     "Where clients are served. Plain HTTP is allowed on loopback addresses alone; elsewhere give "
     "certificate and key. Port 0 chooses a free one, printed at start."},
    {"client", "certificate", CONFIG_PATH, NULL, "", FALSE, 0, 0,
     "PEM file: the listener's TLS certificate with its intermediates. TLS 1.2 and 1.3 are "
     "offered."},
    {"client", "key", CONFIG_PATH, NULL, "", FALSE, 0, 0,
     "PEM file: the private key of that certificate."},
    {"federation", "listen", CONFIG_ADDRESSES, NULL, "", FALSE, 0, 0,
     "Where partners are served, by mutual TLS 1.3; absent: no federation listener."},
    {"federation", "certificate", CONFIG_PATH, NULL, "", FALSE, 0, 0,
     "PEM file: the TLS certificate shown to partners, both as server and as client."},
    {"federation", "key", CONFIG_PATH, NULL, "", FALSE, 0, 0,
     "PEM file: the private key of that certificate."},
    {"federation", "allow_list", CONFIG_PATH, NULL, "", FALSE, 0, 0,
     "The signed list of partners, taken at start when its serial is higher than that of the list "
     "in force; `chancery partner import` puts one in force at any time. Without any, nobody is a "
     "partner."},
    {"federation", "allow_list_signers", CONFIG_LIST, "", "", FALSE, 0, 0,
     "SHA-256 fingerprints (hexadecimal) of the certificates that may sign the list of partners; "
     "they are checked like those of all people, under [identity]."},
    {"certificate", "listen", CONFIG_ADDRESSES, NULL, "", FALSE, 0, 0,
     "Where people log in with their certificates and officers work: TLS 1.3, client certificate "
     "asked for; absent: nobody can log in."},
    {"certificate", "public_base_url", CONFIG_URL, NULL, "", FALSE, 0, 0,
     "Where browsers reach that listener. Its host name must differ from the client listener's, or "
     "its port."},
    {"certificate", "certificate", CONFIG_PATH, NULL, "", FALSE, 0, 0,
     "PEM file: the certificate listener's own TLS certificate; it must share no name with the "
     "client listener's when both use port 443."},
    {"certificate", "key", CONFIG_PATH, NULL, "", FALSE, 0, 0,
     "PEM file: the private key of that certificate."},
    {"identity", "anchors", CONFIG_PATH, NULL, "", FALSE, 0, 0,
     "PEM file: the national authorities under which people's certificates must stand. Never the "
     "system's store."},
    {"identity", "intermediates", CONFIG_PATH, NULL, "", FALSE, 0, 0,
     "PEM file: the authorities below the anchors that issue people's certificates. Only what they "
     "issued can be enrolled; a CA that bears the same name and is not in this file is not one of "
     "them."},
    {"identity", "crl_directory", CONFIG_PATH, NULL, "", FALSE, 0, 0,
     "Folder watched for certificate revocation lists (*.crl, DER or PEM) of those authorities."},
    {"identity", "policy_oids", CONFIG_LIST, "", "", FALSE, 0, 0,
     "Certificate policies of which a person's certificate must hold one; every certificate is "
     "refused while this is empty."},
    {"identity", "crl_login_hours", CONFIG_INTEGER, "24", "hours", FALSE, 1, 24 * 366,
     "An issuing authority's list older than this admits no new log-in."},
    {"identity", "crl_session_hours", CONFIG_INTEGER, "72", "hours", FALSE, 1, 24 * 366,
     "An issuing authority's list older than this ends the sessions of its people."},
    {"identity", "access_token_minutes", CONFIG_INTEGER, "5", "minutes", FALSE, 1, 60,
     "Life of an access token that can be refreshed."},
    {"identity", "working_day_hours", CONFIG_INTEGER, "12", "hours", FALSE, 1, 24,
     "Life of a session whose client cannot refresh."},
    {"identity", "session_days", CONFIG_INTEGER, "30", "days", FALSE, 1, 90,
     "Longest life of a session that is refreshed; the certificate's own end comes first."},
    {"identity", "redirect_urls", CONFIG_LIST, "", "", FALSE, 0, 0,
     "Pages to which the browser log-in may return, each exactly (https), or http://localhost and "
     "http://127.0.0.1 with any port."},
    {"database", "conninfo", CONFIG_TEXT, NULL, "", TRUE, 0, 0,
     "How libpq reaches PostgreSQL 15 or later, for example host=/run/postgresql dbname=chancery "
     "user=chancery."},
    {"database", "connections", CONFIG_INTEGER, "8", "connections", FALSE, 2, 200,
     "Connections that requests share; the writer has one more of its own."},
    {"limits", "workers", CONFIG_INTEGER, "8", "threads", FALSE, 1, 256,
     "Threads that run requests."},
    {"limits", "queue", CONFIG_INTEGER, "1000", "requests", FALSE, 1, 100000,
     "Requests that may wait for a worker; beyond it the answer is 503 with Retry-After."},
    {"limits", "connections", CONFIG_INTEGER, "20000", "connections", FALSE, 10, 1000000,
     "Open connections of one listener."},
    {"limits", "rates", CONFIG_BOOLEAN, "yes", "", FALSE, 0, 0,
     "Whether log-ins, messages, invites and key requests are limited per address or person (429 "
     "with Retry-After)."},
    {"limits", "log_memory_mib", CONFIG_INTEGER, "32", "MiB", FALSE, 1, 4096,
     "Newest log entries kept in memory, from which waiting syncs are answered without the "
     "database."},
    {"log", "access", CONFIG_BOOLEAN, "yes", "", FALSE, 0, 0,
     "One line a request on standard error: route, status, sizes, caller. Never tokens, query "
     "values or content."},
};
const guint config_setting_count = G_N_ELEMENTS(config_settings);

typedef struct {
    char *text; /* NULL: absent */
    char **list;
    gint64 integer;
} Value;

struct Config {
    char *file;
    char *folder;
    Value *values; /* in the order of config_settings */
};

/* ---- reading ---- */

static void G_GNUC_PRINTF(5, 6) set_error(GError **error, const char *file, const char *section,
                                          const char *key, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    g_autofree char *text = g_strdup_vprintf(format, values);
    va_end(values);
    g_set_error(error, CONFIG_ERROR, 0, "%s: [%s] %s: %s", file, section, key, text);
}

void
config_set_error(const Config *config, GError **error, const char *section, const char *key,
                 const char *sentence, ...)
{
    va_list values;
    va_start(values, sentence);
    g_autofree char *text = g_strdup_vprintf(sentence, values);
    va_end(values);
    set_error(error, config->file, section, key, "%s", text);
}

/* Edits from @a to @b; both are short: the names of keys. */
static guint
distance(const char *a, const char *b)
{
    gsize columns = strlen(b);
    g_autofree guint *row = g_new(guint, columns + 1);

    for (gsize j = 0; j <= columns; j++)
        row[j] = (guint)j;
    for (gsize i = 1; a[i - 1] != '\0'; i++) {
        guint diagonal = row[0];
        row[0] = (guint)i;
        for (gsize j = 1; j <= columns; j++) {
            guint changed = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = MIN(changed, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[columns];
}

static const ConfigSetting *
nearest(const char *section, const char *key)
{
    const ConfigSetting *best = NULL;
    guint least = 4;

    for (guint i = 0; i < config_setting_count; i++) {
        const ConfigSetting *setting = &config_settings[i];
        guint edits = distance(key, setting->key) + distance(section, setting->section);
        if (strcmp(key, setting->key) == 0)
            edits = 1; /* the right key under another section */
        if (edits < least) {
            least = edits;
            best = setting;
        }
    }
    return best;
}

static const ConfigSetting *
find_setting(const char *section, const char *key)
{
    for (guint i = 0; i < config_setting_count; i++)
        if (strcmp(config_settings[i].section, section) == 0 &&
            strcmp(config_settings[i].key, key) == 0)
            return &config_settings[i];
    return NULL;
}

static gboolean
refuse_unknown(const char *file, GKeyFile *keys, GError **error)
{
    g_auto(GStrv) sections = g_key_file_get_groups(keys, NULL);

    for (guint i = 0; sections[i] != NULL; i++) {
        g_auto(GStrv) names = g_key_file_get_keys(keys, sections[i], NULL, NULL);
        for (guint j = 0; names != NULL && names[j] != NULL; j++) {
            const ConfigSetting *meant;
            if (find_setting(sections[i], names[j]) != NULL)
                continue;
            meant = strlen(names[j]) < 64 && strlen(sections[i]) < 64
                        ? nearest(sections[i], names[j])
                        : NULL;
            if (meant != NULL)
                set_error(error, file, sections[i], names[j],
                          "there is no such setting; did you mean [%s] %s?", meant->section,
                          meant->key);
            else
                set_error(error, file, sections[i], names[j],
                          "there is no such setting; `chancery check-config --document` lists all");
            return FALSE;
        }
    }
    return TRUE;
}

/* Appendices, "Server Name": a DNS name or address, then perhaps a port; at most 255 bytes. */
static gboolean
is_server_name(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789.-:[]";

    return *text != '\0' && strlen(text) <= 255 && strspn(text, allowed) == strlen(text);
}

static gboolean
is_url(const char *text)
{
    g_autoptr(GUri) uri = g_uri_parse(text, G_URI_FLAGS_NONE, NULL);

    return uri != NULL &&
           (strcmp(g_uri_get_scheme(uri), "https") == 0 ||
            strcmp(g_uri_get_scheme(uri), "http") == 0) &&
           g_uri_get_host(uri) != NULL && *g_uri_get_host(uri) != '\0' &&
           g_uri_get_query(uri) == NULL && g_uri_get_fragment(uri) == NULL &&
           !g_str_has_suffix(text, "/");
}

static char **
split_list(const char *text)
{
    g_auto(GStrv) parts = g_strsplit_set(text, ", \t;", -1);
    GPtrArray *list = g_ptr_array_new();

    for (guint i = 0; parts[i] != NULL; i++)
        if (*parts[i] != '\0')
            g_ptr_array_add(list, g_strdup(parts[i]));
    g_ptr_array_add(list, NULL);
    return (char **)g_ptr_array_free(list, FALSE);
}

static const char *
judge_addresses(char **list)
{
    for (guint i = 0; list[i] != NULL; i++)
        if (strrchr(list[i], ':') == NULL)
            return list[i];
    return NULL;
}

static gboolean
read_value(const Config *config, const ConfigSetting *setting, const char *text, Value *ret_value,
           GError **error)
{
    const char *section = setting->section;
    const char *key = setting->key;
    const char *bad;

    switch (setting->type) {
    case CONFIG_TEXT:
        break;
    case CONFIG_SERVER_NAME:
        if (!is_server_name(text)) {
            config_set_error(
                config, error, section, key,
                "\"%s\" is no server name: write a host name in lower case, perhaps with :port",
                text);
            return FALSE;
        }
        break;
    case CONFIG_URL:
        if (!is_url(text)) {
            config_set_error(config, error, section, key,
                             "\"%s\" is no base URL: write https://host or https://host:port, "
                             "without a slash at its end",
                             text);
            return FALSE;
        }
        break;
    case CONFIG_LIST:
    case CONFIG_ADDRESSES:
        ret_value->list = split_list(text);
        bad = setting->type == CONFIG_ADDRESSES ? judge_addresses(ret_value->list) : NULL;
        if (bad != NULL) {
            config_set_error(config, error, section, key,
                             "\"%s\" is no address: write address:port, for example 127.0.0.1:8008 "
                             "or [::1]:8008",
                             bad);
            return FALSE;
        }
        break;
    case CONFIG_PATH:
        ret_value->text = g_path_is_absolute(text) ? g_strdup(text)
                                                   : g_build_filename(config->folder, text, NULL);
        return TRUE;
    case CONFIG_INTEGER:
        if (!g_ascii_string_to_signed(text, 10, setting->minimum, setting->maximum,
                                      &ret_value->integer, NULL)) {
            config_set_error(config, error, section, key,
                             "\"%s\" will not do: write a whole number of %s from %" G_GINT64_FORMAT
                             " to %" G_GINT64_FORMAT,
                             text, setting->unit, setting->minimum, setting->maximum);
            return FALSE;
        }
        break;
    case CONFIG_BOOLEAN:
        if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0) {
            config_set_error(config, error, section, key, "\"%s\" will not do: write yes or no",
                             text);
            return FALSE;
        }
        ret_value->integer = strcmp(text, "yes") == 0;
        break;
    }
    ret_value->text = g_strdup(text);
    return TRUE;
}

static gboolean
read_setting(Config *config, GKeyFile *keys, guint index, GError **error)
{
    const ConfigSetting *setting = &config_settings[index];
    g_autoptr(GError) unreadable = NULL;
    g_autofree char *given =
        g_key_file_get_string(keys, setting->section, setting->key, &unreadable);
    const char *text = given != NULL ? g_strstrip(given) : setting->standard;
    gboolean reads_empty = setting->type == CONFIG_LIST || setting->type == CONFIG_INTEGER ||
                           setting->type == CONFIG_BOOLEAN;

    /* Never in silence: what cannot be read must not become the standard value. */
    if (unreadable != NULL &&
        !g_error_matches(unreadable, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_KEY_NOT_FOUND) &&
        !g_error_matches(unreadable, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_GROUP_NOT_FOUND)) {
        config_set_error(config, error, setting->section, setting->key,
                         "cannot be read: write UTF-8, and a backslash as \\\\");
        return FALSE;
    }
    /* An empty list is a value; an empty number or yes-or-no is refused with the others that will
     * not do. */
    if (text == NULL || (*text == '\0' && !reads_empty)) {
        if (!setting->required)
            return TRUE;
        config_set_error(config, error, setting->section, setting->key,
                         "is required and missing. %s", setting->sentence);
        return FALSE;
    }
    return read_value(config, setting, text, &config->values[index], error);
}

Config *
config_parse(const char *file, const char *text, GError **error)
{
    g_autoptr(Config) config = g_new0(Config, 1);
    g_autoptr(GKeyFile) keys = g_key_file_new();

    config->file = g_strdup(file);
    config->folder = g_path_get_dirname(file);
    config->values = g_new0(Value, config_setting_count);
    if (!g_key_file_load_from_data(keys, text, strlen(text), G_KEY_FILE_NONE, error)) {
        g_prefix_error(error, "%s: ", file);
        return NULL;
    }
    if (!refuse_unknown(file, keys, error))
        return NULL;
    for (guint i = 0; i < config_setting_count; i++)
        if (!read_setting(config, keys, i, error))
            return NULL;
    return g_steal_pointer(&config);
}

Config *
config_load(const char *file, GError **error)
{
    g_autofree char *text = NULL;
    gsize length = 0;

    if (!g_file_get_contents(file, &text, &length, error))
        return NULL;
    if (strlen(text) != length) {
        g_set_error(error, CONFIG_ERROR, 0, "%s: holds a byte 0 where text is expected", file);
        return NULL;
    }
    return config_parse(file, text, error);
}

void
config_free(Config *config)
{
    if (config == NULL)
        return;
    for (guint i = 0; config->values != NULL && i < config_setting_count; i++) {
        g_free(config->values[i].text);
        g_strfreev(config->values[i].list);
    }
    g_free(config->values);
    g_free(config->folder);
    g_free(config->file);
    g_free(config);
}

/* ---- asking ---- */

static const Value *
find_value(const Config *config, const char *section, const char *key)
{
    const ConfigSetting *setting = find_setting(section, key);

    if (setting == NULL)
        g_error("no setting [%s] %s", section, key); /* our own mistake */
    return &config->values[setting - config_settings];
}

const char *
config_text(const Config *config, const char *section, const char *key)
{
    return find_value(config, section, key)->text;
}

const char *const *
config_list(const Config *config, const char *section, const char *key)
{
    static const char *const none[] = {NULL};
    char **list = find_value(config, section, key)->list;

    return list != NULL ? (const char *const *)list : none;
}

gint64
config_integer(const Config *config, const char *section, const char *key)
{
    return find_value(config, section, key)->integer;
}

gboolean
config_boolean(const Config *config, const char *section, const char *key)
{
    return find_value(config, section, key)->integer != 0;
}

const char *
config_file(const Config *config)
{
    return config->file;
}

/* ---- the document ---- */

static const char *
type_name(ConfigType type)
{
    static const char *const names[] = {
        [CONFIG_TEXT] = "text",
        [CONFIG_SERVER_NAME] = "server name",
        [CONFIG_URL] = "URL",
        [CONFIG_LIST] = "list",
        [CONFIG_ADDRESSES] = "list of address:port",
        [CONFIG_PATH] = "path",
        [CONFIG_INTEGER] = "whole number",
        [CONFIG_BOOLEAN] = "yes or no",
    };
    return names[type];
}

static void
document_setting(GString *out, const ConfigSetting *setting)
{
    g_string_append_printf(out, "- `%s`: %s", setting->key, type_name(setting->type));
    if (*setting->unit != '\0')
        g_string_append_printf(out, ", %s", setting->unit);
    if (setting->type == CONFIG_INTEGER)
        g_string_append_printf(out, ", %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT, setting->minimum,
                               setting->maximum);
    if (setting->required)
        g_string_append(out, "; required");
    else if (setting->standard == NULL || *setting->standard == '\0')
        g_string_append(out, "; absent unless given");
    else
        g_string_append_printf(out, "; `%s` unless given", setting->standard);
    g_string_append_printf(out, ".\n  %s\n", setting->sentence);
}

char *
config_document(void)
{
    GString *out =
        g_string_new("# Configuration\n\nOne file, read at start: `chancery serve --config FILE`. "
                     "Sections in brackets, one "
                     "`key = value` a line, `#` before a\ncomment. A key that is not listed here "
                     "is refused. `chancery "
                     "check-config --config FILE` reads a file and says what is wrong.\n\nThis "
                     "page is printed by `chancery "
                     "check-config --document` from the table that the program itself reads.\n");
    const char *section = "";

    for (guint i = 0; i < config_setting_count; i++) {
        if (strcmp(section, config_settings[i].section) != 0) {
            section = config_settings[i].section;
            g_string_append_printf(out, "\n## [%s]\n\n", section);
        }
        document_setting(out, &config_settings[i]);
    }
    return g_string_free(out, FALSE);
}
