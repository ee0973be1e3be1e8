/* chancery partner: the allow-list, from a partner's own description to the list in force. */
#include <locale.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

#include "federation/inbound.h"
#include "federation/partner.h"
#include "identity/clock.h"
#include "identity/cms.h"
#include "identity/crl_directory.h"
#include "identity/server_key.h"
#include "identity/unpadded_base64.h"
#include "server/command/command.h"
#include "server/command/desk.h"
#include "storage/partner_store.h"

#define DAY_MS ((gint64)24 * 3600 * 1000)

static const JsonLimits list_limits = {ALLOW_LIST_BYTES_MAX, 12, 256 * 1024, FALSE};

static void
print_bytes(GBytes *bytes)
{
    gsize length = 0;
    const char *data = g_bytes_get_data(bytes, &length);
    fwrite(data, 1, length, stdout);
    putchar('\n');
}

static cJSON *
read_json_file(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize length = 0;
    if (!g_file_get_contents(path, &text, &length, error))
        return NULL;
    cJSON *json = json_parse(text, length, &list_limits, error);
    if (json == NULL)
        g_prefix_error(error, "%s: ", path);
    return json;
}

/* ---- describe ---- */

static gboolean
certificate_pin(const char *path, char **ret_pin, GError **error)
{
    guint8 sha256[32];
    g_autoptr(Certificate) certificate = certificate_from_file(path, NULL, error);
    if (certificate == NULL)
        return FALSE;
    gsize length = 0;
    const void *der = g_bytes_get_data(certificate_der(certificate), &length);
    if (!inbound_spki_sha256(der, length, sha256)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: no usable public key", path);
        return FALSE;
    }
    *ret_pin = unpadded_base64_encode(sha256, sizeof sha256, BASE64_STANDARD);
    return TRUE;
}

static cJSON *
entry_of(const Config *config, const ServerKey *key, const char *address, const char *direction,
         const char *pin, gint64 days)
{
    gint64 now = clock_wall_ms();
    cJSON *entry = cJSON_CreateObject();
    cJSON *ours = cJSON_CreateObject();
    cJSON_AddItemToObject(entry, "server_name",
                          cJSON_CreateString(config_text(config, "server", "name")));
    cJSON_AddItemToObject(entry, "not_before", cJSON_CreateNumber((double)(now - DAY_MS)));
    cJSON_AddItemToObject(entry, "not_after", cJSON_CreateNumber((double)(now + days * DAY_MS)));
    cJSON_AddItemToObject(entry, "direction", cJSON_CreateString(direction));
    cJSON_AddItemToObject(entry, "address", cJSON_CreateString(address));
    cJSON_AddItemToArray(cJSON_AddArrayToObject(entry, "tls_pins"), cJSON_CreateString(pin));
    cJSON_AddItemToObject(cJSON_AddObjectToObject(entry, "signing_keys"), server_key_id(key), ours);
    cJSON_AddItemToObject(ours, "key", cJSON_CreateString(server_key_public_base64(key)));
    cJSON_AddItemToObject(ours, "valid_until_ts",
                          cJSON_CreateNumber((double)(now + days * DAY_MS)));
    return entry;
}

static int
partner_describe(int argc, char **argv)
{
    g_autofree char *address = NULL;
    g_autofree char *direction = NULL;
    gint64 days = 365;
    const GOptionEntry entries[] = {
        {"address", 0, 0, G_OPTION_ARG_STRING, &address, "Where partners reach this server",
         "HOST:PORT"},
        {"direction", 0, 0, G_OPTION_ARG_STRING, &direction,
         "In, out or both (from the partner's side)", "WORD"},
        {"days", 0, 0, G_OPTION_ARG_INT64, &days, "How long the entry holds", "N"},
        {NULL},
    };
    g_autoptr(Config) config = command_config(&argc, &argv, entries);
    g_autoptr(GError) error = NULL;
    g_autofree char *pin = NULL;

    if (config == NULL)
        return 1;
    if (address == NULL || argc != 1 || days < 1 || days > 3650)
        return command_wrong_usage();
    const char *certificate = config_text(config, "federation", "certificate");
    g_autofree char *key_file =
        g_build_filename(config_text(config, "server", "state_directory"), "signing.key", NULL);
    g_mkdir_with_parents(config_text(config, "server", "state_directory"), 0700);
    g_autoptr(ServerKey) key = server_key_load_or_create(key_file, &error);
    if (key == NULL)
        return command_failed(error);
    if (certificate == NULL) {
        config_set_error(config, &error, "federation", "certificate",
                         "is needed to describe this server");
        return command_failed(error);
    }
    if (!certificate_pin(certificate, &pin, &error))
        return command_failed(error);
    g_autoptr(cJSON) entry =
        entry_of(config, key, address, direction != NULL ? direction : "both", pin, days);
    g_autoptr(GBytes) bytes = json_canonical(entry, &error);
    if (bytes == NULL)
        return command_failed(error);
    print_bytes(bytes);
    return 0;
}

/* ---- make ---- */

static int
partner_make(int argc, char **argv)
{
    g_autofree char *list_id = NULL;
    g_auto(GStrv) revoked = NULL;
    g_autoptr(GError) error = NULL;
    gint64 serial = 0, days = 90;
    const GOptionEntry entries[] = {
        {"list-id", 0, 0, G_OPTION_ARG_STRING, &list_id, "The list's name, always the same", "ID"},
        {"serial", 0, 0, G_OPTION_ARG_INT64, &serial, "Higher than that of the list before", "N"},
        {"days", 0, 0, G_OPTION_ARG_INT64, &days, "How long the list holds", "N"},
        {"revoke", 0, 0, G_OPTION_ARG_STRING_ARRAY, &revoked,
         "A server that is no partner any more", "NAME"},
        {NULL},
    };
    if (!command_options(&argc, &argv, entries))
        return 2;
    if (list_id == NULL || serial < 1 || days < 1 || days > 3650)
        return command_wrong_usage();

    gint64 now = clock_wall_ms();
    g_autoptr(cJSON) json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "list_id", cJSON_CreateString(list_id));
    cJSON_AddItemToObject(json, "serial", cJSON_CreateNumber((double)serial));
    cJSON_AddItemToObject(json, "issued", cJSON_CreateNumber((double)now));
    cJSON_AddItemToObject(json, "expires", cJSON_CreateNumber((double)(now + days * DAY_MS)));
    cJSON *list = cJSON_AddArrayToObject(json, "entries");
    cJSON *names = cJSON_AddArrayToObject(json, "revoked");
    for (guint i = 0; revoked != NULL && revoked[i] != NULL; i++)
        cJSON_AddItemToArray(names, cJSON_CreateString(revoked[i]));
    for (int i = 1; i < argc; i++) {
        cJSON *entry = read_json_file(argv[i], &error);
        if (entry == NULL)
            return command_failed(error);
        cJSON_AddItemToArray(list, entry);
    }
    g_autoptr(AllowList) checked = allow_list_from_json(json, &error);
    g_autoptr(GBytes) bytes = checked != NULL ? json_canonical(json, &error) : NULL;
    if (bytes == NULL)
        return command_failed(error);
    print_bytes(bytes);
    return 0;
}

/* ---- sign ---- */

static int
partner_sign(int argc, char **argv)
{
    g_auto(DeskOptions) desk = {0};
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;
    const GOptionEntry entries[] = {
        {"p12", 0, 0, G_OPTION_ARG_FILENAME, &desk.p12, "Your certificate and key: PKCS#12, or PEM",
         "FILE"},
        {"key", 0, 0, G_OPTION_ARG_FILENAME, &desk.key, "The key, when in a file of its own",
         "FILE"},
        {"passphrase-file", 0, 0, G_OPTION_ARG_FILENAME, &desk.passphrase_file,
         "Its first line opens the key; without it you are asked", "FILE"},
        {"output", 0, 0, G_OPTION_ARG_FILENAME, &output, "The signed list", "FILE"},
        {NULL},
    };
    if (!command_options(&argc, &argv, entries))
        return 2;
    if (desk.p12 == NULL || output == NULL || argc != 2)
        return command_wrong_usage();
    g_autoptr(cJSON) json = read_json_file(argv[1], &error);
    g_autoptr(AllowList) list = json != NULL ? allow_list_from_json(json, &error) : NULL;
    g_autoptr(GBytes) content = list != NULL ? json_canonical(json, &error) : NULL;
    if (content == NULL)
        return command_failed(error);
    g_autoptr(Credential) credential =
        credential_load(desk.p12, desk.key, desk_passphrase, &desk, &error);
    g_autoptr(GBytes) signature = credential != NULL ? cms_sign(credential, content, &error) : NULL;
    g_autoptr(GBytes) file =
        signature != NULL ? allow_list_write(content, signature, &error) : NULL;
    if (file == NULL)
        return command_failed(error);
    gsize length = 0;
    const char *bytes = g_bytes_get_data(file, &length);
    if (!g_file_set_contents(output, bytes, (gssize)length, &error))
        return command_failed(error);
    g_print("signed: list %s, serial %" G_GINT64_FORMAT ", %u entries, by certificate %s\n",
            list->list_id, list->serial, list->entries->len,
            certificate_sha256(credential_certificate(credential)));
    return 0;
}

/* ---- import and show ---- */

/* What is needed to judge a list as the server does. */
typedef struct {
    StorePool *pool;
    RecordKey *record_key;
    Certificates *certificates;
    Partners *partners;
} Bench;

static void
bench_clear(Bench *bench)
{
    g_clear_pointer(&bench->partners, partners_free);
    g_clear_pointer(&bench->certificates, certificates_free);
    g_clear_pointer(&bench->record_key, record_key_free);
    g_clear_pointer(&bench->pool, store_pool_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Bench, bench_clear)

static gboolean
load_revocations(Bench *bench, const Config *config, GError **error)
{
    const char *folder = config_text(config, "identity", "crl_directory");
    {
        g_autoptr(StoreConnection) connection = store_borrow(bench->pool, error);
        if (connection == NULL || !crl_load(bench->certificates, connection, error))
            return FALSE;
    }
    return folder == NULL ||
           crl_directory_import(bench->certificates, bench->pool, folder, NULL, error);
}

static gboolean
bench_set_up(Bench *bench, const Config *config, GError **error)
{
    const char *name = config_text(config, "server", "name");
    const char *agency = config_text(config, "server", "agency");
    g_autofree char *key_file =
        g_build_filename(config_text(config, "server", "state_directory"), "record.key", NULL);
    CertificatesSettings settings = {
        .server_name = name,
        .agency = agency != NULL ? agency : name,
        .anchors_file = config_text(config, "identity", "anchors"),
        .issuers_file = config_text(config, "identity", "intermediates"),
        .policies = config_list(config, "identity", "policy_oids"),
        .crl_login_age_ms = CERTIFICATES_CRL_LOGIN_AGE_MS,
        .crl_session_age_ms = CERTIFICATES_CRL_SESSION_AGE_MS,
    };
    if (settings.anchors_file == NULL) {
        config_set_error(config, error, "identity", "anchors",
                         "is needed to judge who signed an allow-list");
        return FALSE;
    }
    bench->pool = store_pool_new(config_text(config, "database", "conninfo"), 2);
    bench->record_key = record_key_open(key_file, TRUE, error);
    if (bench->record_key == NULL)
        return FALSE;
    bench->certificates = certificates_new(&settings, bench->record_key, error);
    if (bench->certificates == NULL || !load_revocations(bench, config, error))
        return FALSE;
    bench->partners = partners_new(name, bench->pool, bench->certificates,
                                   config_list(config, "federation", "allow_list_signers"));
    return TRUE;
}

static int
partner_import(int argc, char **argv)
{
    g_autoptr(Config) config = command_config(&argc, &argv, NULL);
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    g_auto(Bench) bench = {0};
    gsize length = 0;
    if (config == NULL)
        return 1;
    if (argc != 2)
        return command_wrong_usage();
    if (!g_file_get_contents(argv[1], &text, &length, &error) ||
        !bench_set_up(&bench, config, &error))
        return command_failed(error);
    g_autoptr(GBytes) file = g_bytes_new(text, length);
    if (!partners_import(bench.partners, file, &error))
        return command_failed(error);
    g_print("in force: serial %" G_GINT64_FORMAT "\n", partners_serial(bench.partners));
    return 0;
}

static int
partner_show(int argc, char **argv)
{
    g_autoptr(Config) config = command_config(&argc, &argv, NULL);
    g_autoptr(GError) error = NULL;
    g_auto(Bench) bench = {0};
    if (config == NULL)
        return 1;
    if (argc != 1)
        return command_wrong_usage();
    if (!bench_set_up(&bench, config, &error) || !partners_reload(bench.partners, &error))
        return command_failed(error);
    if (partners_serial(bench.partners) == 0) {
        g_print("no list is in force: nobody is a partner\n");
        return 0;
    }
    g_autoptr(StoreConnection) connection = store_borrow(bench.pool, &error);
    g_autoptr(GPtrArray) lists =
        connection != NULL ? partner_store_lists(connection, 1, &error) : NULL;
    if (lists == NULL)
        return command_failed(error);
    print_bytes(((const StoredPartnerList *)lists->pdata[0])->content);
    return 0;
}

int
command_partner(int argc, char **argv)
{
    static const Command verbs[] = {
        {"describe", "[--config FILE] --address HOST:PORT [--direction in|out|both] [--days N]",
         "print this server's entry for a partner's list (on the server)", partner_describe},
        {"make", "--list-id ID --serial N [--days N] [--revoke NAME]… [ENTRY-FILE]…",
         "put entries together into an unsigned list (a federation officer's desk)", partner_make},
        {"sign", "--p12 FILE [--key FILE] [--passphrase-file FILE] --output FILE LIST-FILE",
         "sign a list with the officer's certificate (the same desk)", partner_sign},
        {"import", "[--config FILE] SIGNED-LIST-FILE",
         "check a signed list and put it in force; a running server has it within 5 s",
         partner_import},
        {"show", "[--config FILE]", "print the list in force", partner_show},
    };

    return command_run(verbs, G_N_ELEMENTS(verbs), argc, argv);
}
