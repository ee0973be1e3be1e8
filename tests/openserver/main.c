/* tests/openserver/main.c: this server for public conformance suites and load tools, with what
 * chancery must never have: open registration, passwords, and federation with anybody.  See
 * `openserver --help`. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "server/serve.h"
#include "storage/migrate.h"
#include "tests/openserver/accounts.h"
#include "tests/openserver/open_routes.h"
#include "tests/openserver/peers.h"

#define NOT_GIVEN (-1)
#define DEFAULT_PORT 8008

static struct {
    char *file;
    char *server_name;
    char *database;
    char *state_directory;
    char *signing_key;
    char *certificate;
    char *key;
    char *ca;
    char *shared_secret;
    char *address;
    int port;
    int federation_port;
    gboolean plain_client;
    char **peers;
} flags = {.port = NOT_GIVEN, .federation_port = NOT_GIVEN};

static const GOptionEntry entries[] = {
    {"config", 'c', 0, G_OPTION_ARG_FILENAME, &flags.file,
     "Read the settings below from the section [openserver] of this file; flags win", "FILE"},
    {"server-name", 0, 0, G_OPTION_ARG_STRING, &flags.server_name, "Our server name", "NAME"},
    {"database", 0, 0, G_OPTION_ARG_STRING, &flags.database, "PostgreSQL, as libpq reads it",
     "CONNINFO"},
    {"state-directory", 0, 0, G_OPTION_ARG_FILENAME, &flags.state_directory,
     "Where the server's own keys are kept (state)", "DIR"},
    {"signing-key", 0, 0, G_OPTION_ARG_FILENAME, &flags.signing_key,
     "File of the signing key, `ed25519 ID base64seed`, made when absent (DIR/signing.key)",
     "FILE"},
    {"certificate", 0, 0, G_OPTION_ARG_FILENAME, &flags.certificate, "TLS certificate, PEM",
     "FILE"},
    {"key", 0, 0, G_OPTION_ARG_FILENAME, &flags.key, "Its private key, PEM", "FILE"},
    {"ca", 0, 0, G_OPTION_ARG_FILENAME, &flags.ca, "Whom outgoing HTTPS believes, PEM", "FILE"},
    {"address", 0, 0, G_OPTION_ARG_STRING, &flags.address, "Listen there (127.0.0.1)", "ADDRESS"},
    {"port", 0, 0, G_OPTION_ARG_INT, &flags.port,
     "Port of the client API, and of the server API too unless it has its own (8008)", "PORT"},
    {"federation-port", 0, 0, G_OPTION_ARG_INT, &flags.federation_port,
     "Port of the server API alone", "PORT"},
    {"plain-client", 0, 0, G_OPTION_ARG_NONE, &flags.plain_client,
     "The client API over plain HTTP; the server API then needs a port of its own", NULL},
    {"shared-secret", 0, 0, G_OPTION_ARG_STRING, &flags.shared_secret,
     "Secret of /_synapse/admin/v1/register", "SECRET"},
    {"peer", 0, 0, G_OPTION_ARG_STRING_ARRAY, &flags.peers,
     "Where a server is; may be given many times", "NAME=HOST:PORT"},
    {NULL},
};

/* What the file says and no flag said. */
static gboolean
read_file(GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    struct {
        const char *key;
        char **text;
    } texts[] = {
        {"server-name", &flags.server_name},
        {"database", &flags.database},
        {"state-directory", &flags.state_directory},
        {"signing-key", &flags.signing_key},
        {"certificate", &flags.certificate},
        {"key", &flags.key},
        {"ca", &flags.ca},
        {"address", &flags.address},
        {"shared-secret", &flags.shared_secret},
    };
    struct {
        const char *key;
        int *port;
    } ports[] = {{"port", &flags.port}, {"federation-port", &flags.federation_port}};
    if (flags.file == NULL)
        return TRUE;
    if (!g_key_file_load_from_file(file, flags.file, G_KEY_FILE_NONE, error))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        if (*texts[i].text == NULL)
            *texts[i].text = g_key_file_get_string(file, "openserver", texts[i].key, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(ports); i++) {
        g_autoptr(GError) no_port = NULL;
        if (*ports[i].port != NOT_GIVEN ||
            !g_key_file_has_key(file, "openserver", ports[i].key, NULL))
            continue;
        *ports[i].port = g_key_file_get_integer(file, "openserver", ports[i].key, &no_port);
        if (no_port != NULL) {
            g_propagate_error(error, g_steal_pointer(&no_port));
            return FALSE;
        }
    }
    flags.plain_client |= g_key_file_get_boolean(file, "openserver", "plain-client", NULL);
    if (flags.peers == NULL)
        flags.peers = g_key_file_get_string_list(file, "openserver", "peers", NULL, NULL);
    return TRUE;
}

static gboolean
listen_on(FrontEnd *front, int port, int serves, gboolean tls, GError **error)
{
    g_autofree char *certificate = NULL;
    g_autofree char *key = NULL;
    g_autofree char *address =
        g_strdup_printf("%s:%d", flags.address != NULL ? flags.address : "127.0.0.1", port);
    if (tls && (!g_file_get_contents(flags.certificate, &certificate, NULL, error) ||
                !g_file_get_contents(flags.key, &key, NULL, error)))
        return FALSE;
    ListenerSettings settings = {
        .serves = (Listener)serves,
        .address = address,
        .certificate = certificate,
        .key = key,
    };
    return front_end_listen(front, &settings, error);
}

static gboolean
listen_by_flags(FrontEnd *front, const Config *config, GError **error)
{
    gboolean one_port = flags.federation_port == 0 && !flags.plain_client;
    gboolean federates = flags.federation_port != 0 || flags.plain_client;
    if (!listen_on(front, flags.port, one_port ? LISTEN_CLIENT | LISTEN_PARTNER : LISTEN_CLIENT,
                   !flags.plain_client, error))
        return FALSE;
    return !federates || flags.certificate == NULL ||
           listen_on(front, flags.federation_port, LISTEN_PARTNER, TRUE, error);
}

static Config *
make_config(GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *url =
        g_strdup_printf("%s://%s:%d", flags.plain_client ? "http" : "https",
                        flags.address != NULL ? flags.address : "127.0.0.1", flags.port);
    g_key_file_set_string(file, "server", "name", flags.server_name);
    g_key_file_set_string(file, "server", "public_base_url", url);
    g_key_file_set_string(file, "server", "state_directory",
                          flags.state_directory != NULL ? flags.state_directory : "state");
    g_key_file_set_string(file, "database", "conninfo", flags.database);
    g_key_file_set_string(file, "database", "connections", "16");
    if (flags.certificate != NULL) {
        g_key_file_set_string(file, "federation", "certificate", flags.certificate);
        g_key_file_set_string(file, "federation", "key", flags.key);
    }
    g_key_file_set_string(file, "limits", "rates", "no");
    g_key_file_set_string(file, "log", "access", "no");
    g_autofree char *text = g_key_file_to_data(file, NULL, NULL);
    return config_parse("openserver", text, error);
}

static gboolean
open_accounts(GError **error)
{
    StorePool *pool = store_pool_new(flags.database, 2);
    guint applied = 0;
    gboolean opened =
        store_migrate(pool, &applied, error) && accounts_open(pool, flags.server_name, error);
    store_pool_free(pool);
    return opened;
}

/* What neither said, and whether all is there that is needed. */
static gboolean
complete_flags(GError **error)
{
    if (flags.port == NOT_GIVEN)
        flags.port = DEFAULT_PORT;
    if (flags.federation_port == NOT_GIVEN)
        flags.federation_port = 0;
    if (flags.server_name == NULL || flags.database == NULL)
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "--server-name and --database are needed");
    else if (!flags.plain_client && (flags.certificate == NULL || flags.key == NULL))
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "--certificate and --key are needed, or --plain-client");
    else
        return TRUE;
    return FALSE;
}

int
main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new("- a homeserver for test suites");
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = NULL;

    if (sodium_init() < 0)
        return 1;
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || !read_file(&error) ||
        !complete_flags(&error) || (config = make_config(&error)) == NULL ||
        !open_accounts(&error)) {
        fprintf(stderr, "openserver: %s\n", error->message);
        return 1;
    }
    peers_open(flags.ca);
    for (guint i = 0; flags.peers != NULL && flags.peers[i] != NULL; i++)
        if (!peers_add(flags.peers[i])) {
            fprintf(stderr, "openserver: --peer %s does not read NAME=HOST:PORT\n", flags.peers[i]);
            return 1;
        }
    FrontEndSettings front_end = front_end_settings_default;
    front_end.rate_limits = FALSE;
    front_end.access_log = FALSE;
    ServeOptions options = {
        .config = config,
        .tables = open_routes(flags.shared_secret),
        .front_end = &front_end,
        .listen = listen_by_flags,
        .signing_key_file = flags.signing_key,
        .partner_ca_file = flags.ca,
        .retry_first_ms = 500,
        .retry_longest_ms = 5000,
    };
    return serve_run(&options);
}
