#include "tests/support/house.h"

#include <curl/curl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

#include "federation/inbound.h"
#include "federation/room/pdu_build.h"
#include "federation/x_matrix.h"
#include "identity/clock.h"
#include "identity/cms.h"
#include "identity/crl_directory.h"
#include "identity/unpadded_base64.h"
#include "server/client/typing.h"
#include "server/partner/authenticate.h"
#include "storage/lane.h"
#include "storage/log_ring.h"

#define PATIENCE_MS 20000
#define DAY_MS ((gint64)24 * 3600 * 1000)
#define POLICY "2.999.1.1"
#define MAKE_PKI "tests/pki/make_pki"

struct Houses {
    char *folder;
    char *officer; /* SHA-256 of the federation officer's certificate */
    GPtrArray *all;
};

/* ---- waiting for one callback ---- */

typedef struct {
    GMutex lock;
    GCond bell;
    gboolean rung;
    GError *error;
    char *text;
    GBytes *bytes;
} Wait;

static void
wait_init(Wait *wait)
{
    memset(wait, 0, sizeof *wait);
    g_mutex_init(&wait->lock);
    g_cond_init(&wait->bell);
}

static void
wait_ring(Wait *wait, const GError *error)
{
    g_mutex_lock(&wait->lock);
    wait->error = error != NULL ? g_error_copy(error) : NULL;
    wait->rung = TRUE;
    g_cond_signal(&wait->bell);
    g_mutex_unlock(&wait->lock);
}

static gboolean
wait_end(Wait *wait, GError **error)
{
    gint64 until = g_get_monotonic_time() + (gint64)PATIENCE_MS * 1000;
    g_mutex_lock(&wait->lock);
    while (!wait->rung)
        if (!g_cond_wait_until(&wait->bell, &wait->lock, until))
            g_error("a callback does not come");
    g_mutex_unlock(&wait->lock);
    g_mutex_clear(&wait->lock);
    g_cond_clear(&wait->bell);
    if (wait->error == NULL)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&wait->error));
    return FALSE;
}

/* ---- the PKI ---- */

static void
run_make_pki(const Houses *houses, const char *const *arguments)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *complaint = NULL;
    int status = 0;
    g_ptr_array_add(argv, (gpointer)MAKE_PKI);
    g_ptr_array_add(argv, (gpointer) "--out");
    g_ptr_array_add(argv, houses->folder);
    for (; *arguments != NULL; arguments++)
        g_ptr_array_add(argv, (gpointer)*arguments);
    g_ptr_array_add(argv, NULL);
    if (!g_spawn_sync(NULL, (char **)argv->pdata, NULL, G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL,
                      NULL, &complaint, &status, &error) ||
        !g_spawn_check_wait_status(status, &error))
        g_error("%s: %s\n%s", MAKE_PKI, error->message, complaint != NULL ? complaint : "");
}

static char *
pki_path(const Houses *houses, const char *kind, const char *name, const char *ending)
{
    g_autofree char *file = g_strconcat(name, ending, NULL);
    return g_build_filename(houses->folder, kind, file, NULL);
}

static void
remove_folder(const char *path)
{
    g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
    const char *name;
    while (directory != NULL && (name = g_dir_read_name(directory)) != NULL) {
        g_autofree char *inside = g_build_filename(path, name, NULL);
        if (g_file_test(inside, G_FILE_TEST_IS_DIR) && !g_file_test(inside, G_FILE_TEST_IS_SYMLINK))
            remove_folder(inside);
        else
            g_remove(inside);
    }
    g_rmdir(path);
}

/* ---- one house ---- */

static const Callers callers = {
    .partner = partner_caller,
    .partner_tls = partner_caller_tls,
    .partner_body = partner_caller_body,
    .partner_name = partner_name,
    .partner_free = partner_unref,
};

extern const Route routes_partner_info[];
extern const Route routes_partner_transaction[];
extern const Route routes_partner_memberships[];
extern const Route routes_partner_events[];
extern const Route routes_partner_keys[];

static const Route *const tables[] = {
    routes_partner_info,   routes_partner_transaction, routes_partner_memberships,
    routes_partner_events, routes_partner_keys,        NULL,
};

void
house_return(House *house)
{
    g_autoptr(GError) error = NULL;
    FrontEndSettings settings = front_end_settings_default;
    g_autofree char *certificate = NULL;
    g_autofree char *key = NULL;
    g_autofree char *certificate_file =
        pki_path(house->houses, "servers", house->short_name, ".pem");
    g_autofree char *key_file = pki_path(house->houses, "servers", house->short_name, ".key");
    g_assert_true(g_file_get_contents(certificate_file, &certificate, NULL, NULL));
    g_assert_true(g_file_get_contents(key_file, &key, NULL, NULL));
    settings.workers = 2;
    settings.access_log = FALSE;
    settings.rate_limits = FALSE;
    house->front = front_end_new(&house->server, &settings, house->tables, &callers, &error);
    g_assert_no_error(error);
    ListenerSettings listener = {
        .serves = LISTEN_PARTNER,
        .address = house->address != NULL ? house->address : "127.0.0.1:0",
        .certificate = certificate,
        .key = key,
        .certificate_wanted = TRUE,
        .certificate_required = TRUE,
    };
    front_end_listen(house->front, &listener, &error);
    g_assert_no_error(error);
    if (house->address == NULL)
        house->address = g_strdup(front_end_address(house->front, LISTEN_PARTNER));
}

void
house_leave(House *house)
{
    front_end_stop(house->front, 5000);
    g_clear_pointer(&house->front, front_end_free);
}

void
house_serve(House *house, const Route *const *served)
{
    house_leave(house);
    house->tables = served;
    house_return(house);
}

static void
house_trust(House *house)
{
    static const char *const policies[] = {POLICY, NULL};
    Server *server = &house->server;
    g_autoptr(GError) error = NULL;
    g_autofree char *anchors = g_build_filename(house->houses->folder, "root.pem", NULL);
    g_autofree char *issuers = g_build_filename(house->houses->folder, "issuing.pem", NULL);
    g_autofree char *crls = g_build_filename(house->houses->folder, "crl", NULL);
    g_autofree char *record = pki_path(house->houses, "servers", house->short_name, ".record");
    CertificatesSettings settings = {
        .server_name = server->name,
        .agency = house->short_name,
        .anchors_file = anchors,
        .issuers_file = issuers,
        .policies = policies,
        .crl_login_age_ms = CERTIFICATES_CRL_LOGIN_AGE_MS,
        .crl_session_age_ms = CERTIFICATES_CRL_SESSION_AGE_MS,
    };
    house->record_key = record_key_open(record, TRUE, &error);
    g_assert_no_error(error);
    server->certificates = certificates_new(&settings, house->record_key, &error);
    g_assert_no_error(error);
    crl_directory_import(server->certificates, server->pool, crls, NULL, &error);
    g_assert_no_error(error);
}

static void
changed(gpointer data)
{
    House *house = data;
    partner_client_recheck(house->server.partner_client);
    delivery_recheck(house->server.delivery);
}

static void
nobody_waits(const char *room_id, gpointer data)
{
}

static void
house_open(House *house)
{
    Server *server = &house->server;
    g_autoptr(GError) error = NULL;
    LogHead head;
    guint8 seed[32];
    const char *const officers[] = {house->houses->officer, NULL};
    g_autofree char *certificate = pki_path(house->houses, "servers", house->short_name, ".pem");
    g_autofree char *key = pki_path(house->houses, "servers", house->short_name, ".key");

    for (guint i = 0; i < sizeof seed; i++)
        seed[i] = (guint8)g_random_int_range(0, 256);
    server->name = g_strdup_printf("%s.example", house->short_name);
    house->database = test_database_new(6);
    server->pool = house->database->pool;
    {
        g_autoptr(StoreConnection) connection = store_borrow(server->pool, &error);
        g_assert_no_error(error);
        g_assert_true(log_head_read(connection, &head, &error));
    }
    server->ring = log_ring_new(8 * 1024 * 1024, head);
    server->lane = lane_new(server->pool, server->ring, 10000, &error);
    g_assert_no_error(error);
    server->key = server_key_new_for_tests(house->short_name, seed);
    house_trust(house);
    server->partners = partners_new(server->name, server->pool, server->certificates, officers);
    PartnerClientSettings settings = {
        .own_name = server->name,
        .certificate_file = certificate,
        .private_key_file = key,
    };
    server->partner_client = partner_client_new(&settings, server->partners, server->key, &error);
    g_assert_no_error(error);
    server->rooms = rooms_new(server->pool, server->lane, server->name, server->key);
    rooms_set_key_finder(server->rooms, partners_find_event_key, server->partners);
    server->delivery = delivery_new(server->name, server->pool, server->ring, server->rooms,
                                    server->partners, server->partner_client, &error);
    g_assert_no_error(error);
    server->outgoing = outgoing_new(server->name, server->key, server->pool, server->rooms,
                                    server->partners, server->partner_client, server->delivery);
    server->transactions =
        transactions_new(server->pool, server->rooms, server->partners, server->partner_client);
    server->typing = typing_new(nobody_waits, NULL);
    delivery_start(server->delivery);
    partners_watch(server->partners, changed, house);
    house_return(house);
}

static void
house_close(gpointer data)
{
    House *house = data;
    Server *server = &house->server;
    if (house->front != NULL)
        house_leave(house);
    partners_stop(server->partners);
    delivery_stop(server->delivery);
    partner_client_stop(server->partner_client);
    lane_stop(server->lane, 5000);
    typing_free(server->typing);
    transactions_free(server->transactions);
    outgoing_free(server->outgoing);
    delivery_free(server->delivery);
    rooms_free(server->rooms);
    partner_client_free(server->partner_client);
    partners_free(server->partners);
    certificates_free(server->certificates);
    record_key_free(house->record_key);
    server_key_free(server->key);
    lane_free(server->lane);
    log_ring_free(server->ring);
    test_database_free(house->database);
    g_free((char *)server->name);
    g_free(house->short_name);
    g_free(house->address);
    g_free(house);
}

static char *pki_folder; /* one PKI for all tests of the program */

static void
remove_pki(void)
{
    remove_folder(pki_folder);
    g_free(pki_folder);
}

static void
make_pki(Houses *houses)
{
    g_autoptr(GError) error = NULL;
    if (pki_folder == NULL) {
        pki_folder = g_dir_make_tmp("chancery-houses-XXXXXX", &error);
        g_assert_no_error(error);
        atexit(remove_pki);
        houses->folder = pki_folder;
        run_make_pki(houses, (const char *const[]){"ca", NULL});
        run_make_pki(houses, (const char *const[]){"person", "officer", NULL});
        run_make_pki(houses, (const char *const[]){"person", "another", NULL});
        run_make_pki(houses, (const char *const[]){"crl", NULL});
    }
    houses->folder = pki_folder;
}

/* Notes of other threads would cut the test's own lines in two. */
static void
keep_quiet(const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
}

Houses *
houses_new(const char *const *names)
{
    static gboolean quiet;
    Houses *houses = g_new0(Houses, 1);
    g_autoptr(GError) error = NULL;
    houses->all = g_ptr_array_new_with_free_func(house_close);
    if (!quiet)
        g_log_set_handler(NULL, G_LOG_LEVEL_MESSAGE, keep_quiet, NULL);
    quiet = TRUE;
    make_pki(houses);
    g_autofree char *path = pki_path(houses, "people", "officer", ".pem");
    g_autoptr(Certificate) officer = certificate_from_file(path, NULL, &error);
    g_assert_no_error(error);
    houses->officer = g_strdup(certificate_sha256(officer));
    for (; *names != NULL; names++) {
        House *house = g_new0(House, 1);
        g_autofree char *host = g_strdup_printf("%s.example", *names);
        house->houses = houses;
        house->tables = tables;
        house->short_name = g_strdup(*names);
        run_make_pki(houses,
                     (const char *const[]){"server", *names, "--host", host, "--if-needed", NULL});
        g_ptr_array_add(houses->all, house);
        house_open(house);
    }
    return houses;
}

void
houses_free(Houses *houses)
{
    if (houses == NULL)
        return;
    g_ptr_array_unref(houses->all);
    g_free(houses->officer);
    g_free(houses);
}

House *
houses_get(Houses *houses, const char *short_name)
{
    for (guint i = 0; i < houses->all->len; i++) {
        House *house = houses->all->pdata[i];
        if (strcmp(house->short_name, short_name) == 0)
            return house;
    }
    g_error("there is no house %s", short_name);
}

/* ---- lists ---- */

cJSON *
house_entry(House *house)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = pki_path(house->houses, "servers", house->short_name, ".pem");
    g_autoptr(Certificate) certificate = certificate_from_file(path, NULL, &error);
    g_assert_no_error(error);
    guint8 sha256[32];
    gsize length = 0;
    const void *der = g_bytes_get_data(certificate_der(certificate), &length);
    g_assert_true(inbound_spki_sha256(der, length, sha256));
    g_autofree char *pin = unpadded_base64_encode(sha256, sizeof sha256, BASE64_STANDARD);
    gint64 now = clock_wall_ms();
    cJSON *entry = cJSON_CreateObject();
    cJSON_AddStringToObject(entry, "server_name", house->server.name);
    cJSON_AddNumberToObject(entry, "not_before", (double)(now - DAY_MS));
    cJSON_AddNumberToObject(entry, "not_after", (double)(now + 30 * DAY_MS));
    cJSON_AddStringToObject(entry, "direction", "both");
    cJSON_AddStringToObject(entry, "address", house->address);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(entry, "tls_pins"), cJSON_CreateString(pin));
    cJSON *key = cJSON_AddObjectToObject(cJSON_AddObjectToObject(entry, "signing_keys"),
                                         server_key_id(house->server.key));
    cJSON_AddStringToObject(key, "key", server_key_public_base64(house->server.key));
    cJSON_AddNumberToObject(key, "valid_until_ts", (double)(now + 30 * DAY_MS));
    return entry;
}

GBytes *
house_sign_list(House *house, gint64 serial, cJSON *entries, const char *signer, GError **error)
{
    gint64 now = clock_wall_ms();
    g_autoptr(cJSON) list = cJSON_CreateObject();
    g_autofree char *pem = pki_path(house->houses, "people", signer, ".pem");
    g_autofree char *key = pki_path(house->houses, "people", signer, ".key");
    cJSON_AddStringToObject(list, "list_id", "test");
    cJSON_AddNumberToObject(list, "serial", (double)serial);
    cJSON_AddNumberToObject(list, "issued", (double)now);
    cJSON_AddNumberToObject(list, "expires", (double)(now + 30 * DAY_MS));
    cJSON_AddItemToObject(list, "entries", entries);
    cJSON_AddArrayToObject(list, "revoked");
    g_autoptr(GBytes) content = json_canonical(list, error);
    g_autoptr(Credential) credential =
        content != NULL ? credential_load(pem, key, NULL, NULL, error) : NULL;
    g_autoptr(GBytes) signature = credential != NULL ? cms_sign(credential, content, error) : NULL;
    return signature != NULL ? allow_list_write(content, signature, error) : NULL;
}

gboolean
house_import(House *house, gint64 serial, cJSON *entries, const char *signer, GError **error)
{
    g_autoptr(GBytes) file = house_sign_list(house, serial, entries, signer, error);
    return file != NULL && partners_import(house->server.partners, file, error);
}

void
house_import_elsewhere(House *house, GBytes *file)
{
    g_autoptr(GError) error = NULL;
    const char *const officers[] = {house->houses->officer, NULL};
    g_autoptr(Partners) elsewhere =
        partners_new(house->server.name, house->server.pool, house->server.certificates, officers);
    partners_import(elsewhere, file, &error);
    g_assert_no_error(error);
}

void
house_list(House *house, House *const *partners)
{
    g_autoptr(GError) error = NULL;
    cJSON *entries = cJSON_CreateArray();
    for (; *partners != NULL; partners++)
        cJSON_AddItemToArray(entries, house_entry(*partners));
    house_import(house, 1, entries, "officer", &error);
    g_assert_no_error(error);
}

/* ---- acts ---- */

static void
room_made(const RoomsOutcome *outcome, const GError *error, gpointer data)
{
    Wait *wait = data;
    wait->text = outcome != NULL ? g_strdup(outcome->room_id) : NULL;
    wait_ring(wait, error);
}

static void
sent(const RoomsOutcome *outcome, const GError *error, gpointer data)
{
    Wait *wait = data;
    wait->text = outcome != NULL ? g_strdup(outcome->event_ids->pdata[0]) : NULL;
    wait_ring(wait, error);
}

static cJSON *
parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    cJSON *json = json_parse(text, strlen(text), &json_limits_request, &error);
    g_assert_no_error(error);
    return json;
}

char *
house_make_room(House *house, const char *user_id, const char *join_rule)
{
    Wait wait;
    g_autoptr(GError) error = NULL;
    g_autofree char *rule = g_strdup_printf("{\"join_rule\":\"%s\"}", join_rule);
    RoomsProposal *proposal = rooms_proposal_new(NULL, user_id);
    rooms_proposal_add(proposal, "m.room.create", "", parse("{\"room_version\":\"12\"}"));
    rooms_proposal_add(proposal, "m.room.member", user_id, parse("{\"membership\":\"join\"}"));
    rooms_proposal_add(proposal, "m.room.power_levels", "",
                       parse("{\"users\":{},\"events\":{\"m.room.topic\":0}}"));
    rooms_proposal_add(proposal, "m.room.join_rules", "", parse(rule));
    rooms_proposal_add(proposal, "m.room.history_visibility", "",
                       parse("{\"history_visibility\":\"shared\"}"));
    wait_init(&wait);
    rooms_propose(house->server.rooms, proposal, room_made, &wait);
    wait_end(&wait, &error);
    g_assert_no_error(error);
    return wait.text;
}

char *
house_send(House *house, const char *room_id, const char *user_id, const char *type,
           const char *state_key, const char *content, GError **error)
{
    Wait wait;
    RoomsProposal *proposal = rooms_proposal_new(room_id, user_id);
    rooms_proposal_add(proposal, type, state_key, parse(content));
    wait_init(&wait);
    rooms_propose(house->server.rooms, proposal, sent, &wait);
    if (!wait_end(&wait, error))
        g_clear_pointer(&wait.text, g_free);
    return wait.text;
}

void
house_act(House *house, const char *room_id, const char *user_id, const char *type,
          const char *state_key, const char *content)
{
    g_autoptr(GError) error = NULL;
    g_free(house_send(house, room_id, user_id, type, state_key, content, &error));
    g_assert_no_error(error);
}

static void
went_out(const char *room_id, gint64 position, const GError *error, gpointer data)
{
    wait_ring(data, error);
}

gboolean
house_join(House *house, const char *room_id, const char *user_id, const char *via, GError **error)
{
    Wait wait;
    const char *const servers[] = {via, NULL};
    wait_init(&wait);
    outgoing_join(house->server.outgoing, room_id, user_id, NULL, servers, went_out, &wait);
    return wait_end(&wait, error);
}

gboolean
house_leave_room(House *house, const char *room_id, const char *user_id, const char *via,
                 GError **error)
{
    Wait wait;
    const char *const servers[] = {via, NULL};
    wait_init(&wait);
    outgoing_leave(house->server.outgoing, room_id, user_id, NULL, servers, went_out, &wait);
    return wait_end(&wait, error);
}

gboolean
house_invite(House *house, const char *room_id, const char *sender, const char *target,
             GError **error)
{
    Wait wait;
    wait_init(&wait);
    outgoing_invite(house->server.outgoing, room_id, sender, target, NULL, went_out, &wait);
    return wait_end(&wait, error);
}

void
house_await_count(House *house, const char *sql, gint64 value)
{
    gint64 until = g_get_monotonic_time() + (gint64)PATIENCE_MS * 1000;
    gint64 now;
    while ((now = test_database_count(house->database, sql)) != value) {
        if (g_get_monotonic_time() > until)
            g_error("%s: %" G_GINT64_FORMAT " instead of %" G_GINT64_FORMAT " for \"%s\"",
                    house->short_name, now, value, sql);
        g_usleep(20 * 1000);
    }
}

static char *
count_sql(const char *event_id)
{
    return g_strdup_printf("SELECT count(*) FROM log WHERE kind = 1 AND ref = '%s'", event_id);
}

void
house_await_event(House *house, const char *event_id)
{
    g_autofree char *sql = count_sql(event_id);
    house_await_count(house, sql, 1);
}

gint64
house_count_event(House *house, const char *event_id)
{
    g_autofree char *sql = count_sql(event_id);
    return test_database_count(house->database, sql);
}

static void
answered(const PartnerAnswer *answer, gpointer data)
{
    Wait *wait = data;
    wait->bytes = answer->error == NULL ? g_bytes_ref(answer->body) : NULL;
    wait_ring(wait, answer->error);
}

gboolean
house_request(House *from, House *to, const char *method, const char *target, const char *content,
              GBytes **ret_body, GError **error)
{
    Wait wait;
    g_autoptr(cJSON) json = content != NULL ? parse(content) : NULL;
    g_autoptr(GBytes) bytes = json != NULL ? json_canonical(json, NULL) : NULL;
    wait_init(&wait);
    partner_client_send(from->server.partner_client, to->server.name, method, target, bytes,
                        PARTNER_LARGE, answered, &wait);
    gboolean good = wait_end(&wait, error);
    if (ret_body != NULL)
        *ret_body = wait.bytes;
    else
        g_clear_pointer(&wait.bytes, g_bytes_unref);
    return good;
}

/* ---- raw requests ---- */

static size_t
take_body(char *data, size_t size, size_t count, void *user)
{
    g_string_append_len(user, data, (gssize)(size * count));
    return size * count;
}

static char *
raw_authorization(House *to, const RawRequest *raw, const char *method, const char *target,
                  const char *content)
{
    const House *signs = raw->signs != NULL ? raw->signs : raw->as;
    const char *origin = raw->origin != NULL ? raw->origin : raw->as->server.name;
    const char *destination = raw->destination != NULL ? raw->destination : to->server.name;
    const char *body = raw->signed_content != NULL ? raw->signed_content : content;
    g_autoptr(cJSON) json = body != NULL ? parse(body) : NULL;
    g_autoptr(GBytes) bytes = json != NULL ? json_canonical(json, NULL) : NULL;
    g_autofree char *value =
        raw->authorization != NULL
            ? g_strdup(raw->authorization)
            : x_matrix_sign(signs->server.key, origin, destination, method,
                            raw->signed_target != NULL ? raw->signed_target : target, bytes);
    g_autoptr(GString) out = g_string_new(value);
    if (raw->key_id != NULL)
        g_string_replace(out, server_key_id(signs->server.key), raw->key_id, 1);
    return g_strconcat("Authorization: ", out->str, NULL);
}

guint
house_raw(House *to, const RawRequest *raw, const char *method, const char *target,
          const char *content, char **ret_body)
{
    g_autofree char *certificate = pki_path(to->houses, "servers", raw->as->short_name, ".pem");
    g_autofree char *key = pki_path(to->houses, "servers", raw->as->short_name, ".key");
    g_autofree char *authorization = raw_authorization(to, raw, method, target, content);
    g_autofree char *url = g_strconcat("https://", to->address, target, NULL);
    g_autoptr(GString) body = g_string_new(NULL);
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    long status = 0;
    if (raw->authorization == NULL || raw->authorization[0] != '\0')
        headers = curl_slist_append(headers, authorization);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    if (!raw->no_certificate) {
        curl_easy_setopt(curl, CURLOPT_SSLCERT, certificate);
        curl_easy_setopt(curl, CURLOPT_SSLKEY, key);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    if (content != NULL)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, content);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)PATIENCE_MS);
    if (curl_easy_perform(curl) == CURLE_OK)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    if (ret_body != NULL)
        *ret_body = g_strdup(body->str);
    return (guint)status;
}

void
house_assert_status(House *to, const RawRequest *raw, const char *method, const char *target,
                    const char *content, guint status)
{
    g_autofree char *body = NULL;
    guint got = house_raw(to, raw, method, target, content, &body);
    if (got != status)
        g_error("%s %s: %u instead of %u: %s", method, target, got, status, body);
}

/* ---- events that a server has prepared ---- */

static void
take_ids(const cJSON *array, const char **ids, guint count_max)
{
    guint count = 0;

    for (const cJSON *item = array->child; item != NULL; item = item->next) {
        g_assert_cmpuint(count, <, count_max);
        ids[count++] = item->valuestring;
    }
}

Pdu *
house_prepare(House *house, House *resident, const char *room_id, const char *user_id,
              const char *membership, const HouseEvent *instead)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) body = NULL;
    g_autofree char *path =
        g_strdup_printf("/_matrix/federation/v1/make_%s/%%s/%%s?ver=12", membership);
    g_autofree char *target = partner_client_target(path, room_id, user_id);
    const char *prev[PDU_PREV_EVENTS_MAX + 1] = {NULL};
    const char *auth[PDU_AUTH_EVENTS_MAX + 1] = {NULL};
    gint64 depth = 0;

    house_request(house, resident, "GET", target, NULL, &body, &error);
    g_assert_no_error(error);
    g_autoptr(cJSON) json = json_parse(g_bytes_get_data(body, NULL), g_bytes_get_size(body),
                                       &json_limits_response, &error);
    g_assert_no_error(error);
    const cJSON *event = json_get_object(json, "event");
    take_ids(json_get_array(event, "prev_events"), prev, PDU_PREV_EVENTS_MAX);
    take_ids(json_get_array(event, "auth_events"), auth, PDU_AUTH_EVENTS_MAX);
    g_assert_true(json_get_integer(event, "depth", &depth));
    PduSigner signer = pdu_signer(house->server.name, house->server.key);
    g_autoptr(cJSON) content =
        instead != NULL && instead->content != NULL ? parse(instead->content) : NULL;
    PduTemplate template = {
        .room_id = room_id,
        .type = "m.room.member",
        .state_key = user_id,
        .sender = user_id,
        .content = json_get_object(event, "content"),
        .prev_events = prev,
        .auth_events = auth,
        .depth = depth,
        .origin_server_ts = clock_wall_ms(),
    };
    if (instead != NULL) {
        template.type = instead->type != NULL ? instead->type : "m.room.message";
        template.state_key = instead->state_key;
        template.sender = instead->sender != NULL ? instead->sender : user_id;
        template.content = content != NULL ? content : template.content;
        template.room_id = instead->room_id != NULL ? instead->room_id : room_id;
        if (instead->prev_event != NULL) {
            prev[0] = instead->prev_event;
            prev[1] = NULL;
        }
    }
    Pdu *pdu = pdu_build(room_version_default(), &template, &signer, &error);
    g_assert_no_error(error);
    return pdu;
}

char *
house_pdu_text(const Pdu *pdu)
{
    return g_strndup(g_bytes_get_data(pdu->bytes, NULL), g_bytes_get_size(pdu->bytes));
}

char *
house_verdict(House *from, House *to, const Pdu *pdu)
{
    static guint sent_count;
    const RawRequest raw = {.as = from};
    g_autofree char *text = house_pdu_text(pdu);
    g_autofree char *body = g_strdup_printf("{\"pdus\":[%s]}", text);
    g_autofree char *target =
        g_strdup_printf("/_matrix/federation/v1/send/verdict%u", sent_count++);
    g_autofree char *answer = NULL;
    g_assert_cmpuint(house_raw(to, &raw, "PUT", target, body, &answer), ==, 200);
    g_autoptr(cJSON) json = json_parse(answer, strlen(answer), &json_limits_response, NULL);
    const cJSON *verdict = json_get_object(json_get_object(json, "pdus"), pdu->event_id);
    g_assert_nonnull(verdict);
    return g_strdup(json_get_string(verdict, "error"));
}
