#include "server/serve.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "federation/delivery.h"
#include "federation/outgoing.h"
#include "federation/partner.h"
#include "federation/partner_client.h"
#include "federation/rooms.h"
#include "federation/transaction.h"
#include "identity/audit.h"
#include "identity/certificate.h"
#include "identity/challenge.h"
#include "identity/clock_rule.h"
#include "identity/crl_directory.h"
#include "identity/device_link.h"
#include "identity/record_key.h"
#include "identity/revocation.h"
#include "identity/server_key.h"
#include "identity/session.h"
#include "server/certificate/crl_intake.h"
#include "server/client/device_lists.h"
#include "server/client/filter.h"
#include "server/client/room_transactions.h"
#include "server/client/sent_transactions.h"
#include "server/client/sync_hub.h"
#include "server/client/typing.h"
#include "server/client/unread.h"
#include "server/identity_setup.h"
#include "server/partner/authenticate.h"
#include "storage/lane.h"
#include "storage/log_ring.h"
#include "storage/migrate.h"
#include "storage/serving_role.h"

#define STOP_GRACE_MS (8 * 1000)
#define LANE_GRACE_MS (1500)
#define LANE_OPERATIONS_MAX 10000
#define AUDIT_REFUSALS_MAX 60

typedef struct {
    const ServeOptions *options;
    Server server;
    RecordKey *record_key;
    RevocationClock *revocation;
    CrlWatch *crl_watch;
    FrontEnd *front;
} House;

/* ---- who calls ---- */

static Session *
authenticate_user(Server *server, const char *token, GError **error)
{
    Session *session = NULL;

    return sessions_authenticate(server->sessions, token, &session, error) ? session : NULL;
}

static const Callers callers = {
    .user = authenticate_user,
    .user_id = session_user_id,
    .device_id = session_device_id,
    .user_free = session_unref,
    .user_is_live = session_is_live,
    .user_is_soft = session_refusal_is_soft,
    .partner = partner_caller,
    .partner_tls = partner_caller_tls,
    .partner_body = partner_caller_body,
    .partner_name = partner_name,
    .partner_free = partner_unref,
};

/* ---- listeners ---- */

static gboolean
is_loopback(const char *address)
{
    return g_str_has_prefix(address, "127.") || g_str_has_prefix(address, "[::1]:");
}

static gboolean
read_pem(const Config *config, const char *section, const char *key, char **ret_text,
         GError **error)
{
    const char *file = config_text(config, section, key);
    g_autoptr(GError) cause = NULL;

    if (file == NULL || g_file_get_contents(file, ret_text, NULL, &cause))
        return TRUE;
    config_set_error(config, error, section, key, "%s", cause->message);
    return FALSE;
}

static gboolean
listen_section(FrontEnd *front, const Config *config, const char *section, Listener serves,
               GError **error)
{
    const char *const *addresses = config_list(config, section, "listen");
    g_autofree char *certificate = NULL;
    g_autofree char *key = NULL;

    if (!read_pem(config, section, "certificate", &certificate, error) ||
        !read_pem(config, section, "key", &key, error))
        return FALSE;
    for (guint i = 0; addresses[i] != NULL; i++) {
        ListenerSettings settings = {
            .serves = serves,
            .address = addresses[i],
            .certificate = certificate,
            .key = key,
            .certificate_wanted = serves != LISTEN_CLIENT,
            .certificate_required = serves != LISTEN_CLIENT,
            .connection_life_ms = serves == LISTEN_CERTIFICATE ? 15 * 60 * 1000 : 0,
        };
        if (certificate == NULL && !(serves == LISTEN_CLIENT && is_loopback(addresses[i]))) {
            config_set_error(
                config, error, section, "certificate",
                "is needed to listen on %s: plain HTTP is for clients on loopback alone",
                addresses[i]);
            return FALSE;
        }
        if (!front_end_listen(front, &settings, error)) {
            g_prefix_error(error, "%s: [%s] listen: ", config_file(config), section);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
listen_by_config(FrontEnd *front, const Config *config, GError **error)
{
    return listen_section(front, config, "client", LISTEN_CLIENT, error) &&
           listen_section(front, config, "federation", LISTEN_PARTNER, error) &&
           listen_section(front, config, "certificate", LISTEN_CERTIFICATE, error);
}

static FrontEndSettings
front_end_settings(const ServeOptions *options)
{
    const Config *config = options->config;
    FrontEndSettings settings = front_end_settings_default;

    if (options->front_end != NULL)
        return *options->front_end;
    settings.workers = (guint)config_integer(config, "limits", "workers");
    settings.queue_max = (guint)config_integer(config, "limits", "queue");
    settings.connections_max = (guint)config_integer(config, "limits", "connections");
    settings.rate_limits = config_boolean(config, "limits", "rates");
    settings.access_log = config_boolean(config, "log", "access");
    return settings;
}

static void
cut_ended(gpointer data)
{
    front_end_cut_ended(data);
}

static gboolean
start_front_end(House *house, GError **error)
{
    const ServeOptions *options = house->options;
    FrontEndSettings settings = front_end_settings(options);

    house->front = front_end_new(&house->server, &settings, options->tables, &callers, error);
    if (house->front != NULL)
        sessions_add_bell(house->server.sessions, cut_ended, house->front);
    return house->front != NULL && (options->listen != NULL ? options->listen : listen_by_config)(
                                       house->front, options->config, error);
}

static void
stop_front_end(House *house)
{
    if (house->front != NULL)
        front_end_stop(house->front, STOP_GRACE_MS);
}

static void
free_front_end(House *house)
{
    g_clear_pointer(&house->front, front_end_free);
}

/* ---- the sequence ---- */

static gboolean
start_configuration(House *house, GError **error)
{
    house->server.config = house->options->config;
    house->server.name = config_text(house->options->config, "server", "name");
    return TRUE;
}

static char *
state_file(const House *house, const char *name)
{
    return g_build_filename(config_text(house->options->config, "server", "state_directory"), name,
                            NULL);
}

static gboolean
start_state_directory(House *house, GError **error)
{
    const char *folder = config_text(house->options->config, "server", "state_directory");

    if (g_mkdir_with_parents(folder, 0700) == 0)
        return TRUE;
    config_set_error(house->options->config, error, "server", "state_directory",
                     "cannot make %s: %s", folder, g_strerror(errno));
    return FALSE;
}

/* The audit log is worth more when this process could not change it. */
static gboolean
warn_of_broad_role(StorePool *pool, GError **error)
{
    gboolean narrow = FALSE;
    g_autoptr(StoreConnection) connection = store_borrow(pool, error);

    if (connection == NULL || !serving_role_is_narrow(connection, &narrow, error))
        return FALSE;
    if (!narrow)
        g_warning("the database role of this process may change the audit log (only a trigger "
                  "stops it): let an owner migrate, with chancery migrate --owner CONNINFO");
    return TRUE;
}

static gboolean
start_database(House *house, GError **error)
{
    const Config *config = house->options->config;
    guint applied = 0;

    house->server.pool = store_pool_new(config_text(config, "database", "conninfo"),
                                        (guint)config_integer(config, "database", "connections"));
    if (!store_migrate(house->server.pool, &applied, error))
        return FALSE;
    if (applied > 0)
        g_message("database: %u migrations applied", applied);
    return warn_of_broad_role(house->server.pool, error);
}

static void
free_database(House *house)
{
    g_clear_pointer(&house->server.pool, store_pool_free);
}

/* Before the lane takes the log over from whoever writes it now. */
static gboolean
start_clock(House *house, GError **error)
{
    g_autoptr(StoreConnection) connection = store_borrow(house->server.pool, error);
    return connection != NULL && clock_rule_check_start(connection, error);
}

static gboolean
start_log(House *house, GError **error)
{
    gsize bytes_max =
        (gsize)config_integer(house->options->config, "limits", "log_memory_mib") * 1024 * 1024;
    g_autoptr(StoreConnection) connection = store_borrow(house->server.pool, error);
    LogHead head;

    if (connection == NULL || !log_head_read(connection, &head, error))
        return FALSE;
    house->server.ring = log_ring_new(bytes_max, head);
    return TRUE;
}

static void
free_log(House *house)
{
    g_clear_pointer(&house->server.ring, log_ring_free);
}

static gboolean
start_lane(House *house, GError **error)
{
    house->server.lane =
        lane_new(house->server.pool, house->server.ring, LANE_OPERATIONS_MAX, error);
    return house->server.lane != NULL;
}

static void
stop_lane(House *house)
{
    if (house->server.lane != NULL)
        lane_stop(house->server.lane, LANE_GRACE_MS);
}

static void
free_lane(House *house)
{
    g_clear_pointer(&house->server.lane, lane_free);
}

static gboolean
start_server_key(House *house, GError **error)
{
    const char *given = house->options->signing_key_file;
    g_autofree char *file = given != NULL ? g_strdup(given) : state_file(house, "signing.key");

    house->server.key = server_key_load_or_create(file, error);
    return house->server.key != NULL;
}

static void
free_server_key(House *house)
{
    g_clear_pointer(&house->server.key, server_key_free);
}

/* Without authorities for people nobody can log in: a server that only keeps its rooms. */
static gboolean
start_certificates(House *house, GError **error)
{
    const Config *config = house->options->config;
    g_autoptr(GError) cause = NULL;
    g_autoptr(StoreConnection) connection = store_borrow(house->server.pool, error);

    if (connection == NULL)
        return FALSE;
    house->record_key = record_key_from_config(config, TRUE, error);
    if (house->record_key == NULL)
        return FALSE;
    house->server.certificates = certificates_from_config(config, house->record_key, &cause);
    if (house->server.certificates != NULL)
        return crl_load(house->server.certificates, connection, error);
    if (cause == NULL)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&cause));
    return FALSE;
}

static void
free_certificates(House *house)
{
    g_clear_pointer(&house->server.certificates, certificates_free);
    g_clear_pointer(&house->record_key, record_key_free);
}

static gboolean
start_audit(House *house, GError **error)
{
    house->server.audit = audit_new(house->server.lane, AUDIT_REFUSALS_MAX);
    return TRUE;
}

static void
stop_audit(House *house)
{
    g_clear_pointer(&house->server.audit, audit_free);
}

static gboolean
start_sessions(House *house, GError **error)
{
    const Config *config = house->options->config;
    SessionSettings settings = session_settings_default;
    Server *server = &house->server;

    settings.access_ms = config_integer(config, "identity", "access_token_minutes") * 60 * 1000;
    settings.working_day_ms = config_integer(config, "identity", "working_day_hours") * 3600 * 1000;
    settings.session_ms = config_integer(config, "identity", "session_days") * 24 * 3600 * 1000;
    server->sessions = sessions_new(server->pool, server->lane, server->ring, server->certificates,
                                    house->record_key, &settings);
    server->challenges = challenges_new(sessions_token_key(server->sessions));
    return TRUE;
}

static void
free_sessions(House *house)
{
    g_clear_pointer(&house->server.challenges, challenges_free);
    g_clear_pointer(&house->server.sessions, sessions_free);
}

static gboolean
start_revocation(House *house, GError **error)
{
    Server *server = &house->server;

    house->revocation =
        revocation_clock_new(server->sessions, server->pool, server->certificates, server->audit);
    return TRUE;
}

static void
stop_revocation(House *house)
{
    g_clear_pointer(&house->revocation, revocation_clock_free);
}

/* Before anything asks for a chain: without lists in force every check fails. */
static gboolean
start_revocation_lists(House *house, GError **error)
{
    const char *directory = config_text(house->options->config, "identity", "crl_directory");

    if (house->server.certificates != NULL && directory != NULL)
        house->crl_watch = crl_watch_new(&house->server, directory);
    return TRUE;
}

static void
stop_revocation_lists(House *house)
{
    g_clear_pointer(&house->crl_watch, crl_watch_free);
}

/* A list that no longer holds must not keep the server from its own people: it starts without
 * partners, and the watch tries again. */
static gboolean
import_allow_list(House *house, GError **error)
{
    const char *file = config_text(house->options->config, "federation", "allow_list");
    g_autoptr(GError) cause = NULL;
    g_autoptr(GBytes) list = NULL;
    g_autofree char *bytes = NULL;
    gsize length;

    if (!partners_reload(house->server.partners, &cause))
        g_warning("allow-list: %s", cause->message);
    g_clear_error(&cause);
    if (file == NULL)
        return TRUE;
    if (!g_file_get_contents(file, &bytes, &length, error))
        return FALSE;
    list = g_bytes_new_take(g_steal_pointer(&bytes), length);
    if (!partners_import(house->server.partners, list, &cause))
        g_warning("allow-list %s is not taken: %s", file, cause->message);
    return TRUE;
}

static gboolean
start_partners(House *house, GError **error)
{
    const Config *config = house->options->config;
    PartnerClientSettings settings = {
        .own_name = house->server.name,
        .certificate_file = config_text(config, "federation", "certificate"),
        .private_key_file = config_text(config, "federation", "key"),
        .ca_file = house->options->partner_ca_file,
    };
    Server *server = &house->server;

    server->partners = partners_new(server->name, server->pool, server->certificates,
                                    config_list(config, "federation", "allow_list_signers"));
    if (!import_allow_list(house, error))
        return FALSE;
    server->partner_client = partner_client_new(&settings, server->partners, server->key, error);
    return server->partner_client != NULL;
}

static void
stop_partners(House *house)
{
    if (house->server.partner_client != NULL)
        partner_client_stop(house->server.partner_client);
}

static void
free_partners(House *house)
{
    g_clear_pointer(&house->server.partner_client, partner_client_free);
    g_clear_pointer(&house->server.partners, partners_free);
}

static gboolean
start_rooms(House *house, GError **error)
{
    Server *server = &house->server;

    server->rooms = rooms_new(server->pool, server->lane, server->name, server->key);
    server->room_transactions = room_transactions_new();
    server->sent_transactions = sent_transactions_new(server->pool);
    rooms_set_key_finder(server->rooms, partners_find_event_key, server->partners);
    return TRUE;
}

static void
free_rooms(House *house)
{
    g_clear_pointer(&house->server.rooms, rooms_free);
    g_clear_pointer(&house->server.room_transactions, room_transactions_free);
    g_clear_pointer(&house->server.sent_transactions, sent_transactions_free);
}

/* The list in force has changed: cut what runs to those who are on it no more, drop what waits for
 * them. */
static void
partners_changed(gpointer data)
{
    Server *server = data;

    partner_client_recheck(server->partner_client);
    delivery_recheck(server->delivery);
}

static gboolean
start_delivery(House *house, GError **error)
{
    Server *server = &house->server;

    server->delivery = delivery_new(server->name, server->pool, server->ring, server->rooms,
                                    server->partners, server->partner_client, error);
    if (server->delivery == NULL)
        return FALSE;
    server->outgoing = outgoing_new(server->name, server->key, server->pool, server->rooms,
                                    server->partners, server->partner_client, server->delivery);
    server->transactions =
        transactions_new(server->pool, server->rooms, server->partners, server->partner_client);
    delivery_start(server->delivery);
    partners_watch(server->partners, partners_changed, server);
    return TRUE;
}

static void
stop_delivery(House *house)
{
    if (house->server.partners != NULL)
        partners_stop(house->server.partners);
    if (house->server.delivery != NULL)
        delivery_stop(house->server.delivery);
}

static void
free_delivery(House *house)
{
    g_clear_pointer(&house->server.transactions, transactions_free);
    g_clear_pointer(&house->server.outgoing, outgoing_free);
    g_clear_pointer(&house->server.delivery, delivery_free);
}

static void
wake_room(const char *room_id, gpointer data)
{
    sync_hub_wake_room(data, room_id);
}

static gboolean
start_sync(House *house, GError **error)
{
    Server *server = &house->server;

    server->filters = filters_new(server->pool);
    server->unread = unread_new(server);
    server->sync = sync_hub_new(server);
    server->typing = typing_new(wake_room, server->sync);
    device_link_on_removed(device_lists_removed, server);
    return TRUE;
}

static void
free_sync(House *house)
{
    device_link_on_removed(NULL, NULL);
    g_clear_pointer(&house->server.typing, typing_free);
    g_clear_pointer(&house->server.sync, sync_hub_free);
    g_clear_pointer(&house->server.unread, unread_free);
    g_clear_pointer(&house->server.filters, filters_free);
}

/* One service a row, lowest floor first.  Starting goes down the table.  Ending goes up it twice:
 * stop (take no more work, finish what was begun), then free.  Each of the three may be NULL; stop
 * and free must bear a service that was never started. */
typedef struct {
    const char *name;
    gboolean (*start)(House *house, GError **error);
    void (*stop)(House *house);
    void (*free)(House *house);
} Step;

static const Step steps[] = {
    {"configuration", start_configuration, NULL, NULL},
    {"state directory", start_state_directory, NULL, NULL},
    {"database", start_database, NULL, free_database},
    {"clock", start_clock, NULL, NULL},
    {"log", start_log, NULL, free_log},
    {"writer lane", start_lane, stop_lane, free_lane},
    {"signing key", start_server_key, NULL, free_server_key},
    {"certificates", start_certificates, NULL, free_certificates},
    {"audit", start_audit, stop_audit, NULL},
    {"sessions", start_sessions, NULL, free_sessions},
    {"revocation", start_revocation, stop_revocation, NULL},
    {"revocation lists", start_revocation_lists, stop_revocation_lists, NULL},
    {"partners", start_partners, stop_partners, free_partners},
    {"rooms", start_rooms, NULL, free_rooms},
    {"delivery", start_delivery, stop_delivery, free_delivery},
    {"sync", start_sync, NULL, free_sync},
    {"front end", start_front_end, stop_front_end, free_front_end},
};

static gboolean
start_all(House *house, guint *ret_started, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        *ret_started = i + 1;
        if (!steps[i].start(house, error)) {
            g_prefix_error(error, "%s: ", steps[i].name);
            return FALSE;
        }
    }
    return TRUE;
}

static void
end_all(House *house, guint started)
{
    for (guint i = started; i > 0; i--)
        if (steps[i - 1].stop != NULL)
            steps[i - 1].stop(house);
    for (guint i = started; i > 0; i--)
        if (steps[i - 1].free != NULL)
            steps[i - 1].free(house);
}

static void
say_ready(const House *house)
{
    static const struct {
        Listener serves;
        const char *name;
    } kinds[] = {{LISTEN_CLIENT, "client"},
                 {LISTEN_PARTNER, "federation"},
                 {LISTEN_CERTIFICATE, "certificate"}};

    printf("chancery: ready");
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const char *address = front_end_address(house->front, kinds[i].serves);
        if (address != NULL)
            printf(" %s=%s", kinds[i].name, address);
    }
    printf("\n");
    fflush(stdout);
}

/* Lines on standard error: time, level, text. */
static GLogWriterOutput
write_log(GLogLevelFlags level, const GLogField *fields, gsize count, gpointer data)
{
    g_autoptr(GDateTime) now = NULL;
    g_autofree char *time = NULL;
    const char *text = "";
    const char *word = (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL)) != 0 ? "failure"
                       : (level & G_LOG_LEVEL_WARNING) != 0                      ? "warning"
                                                                                 : "note";

    if ((level & (G_LOG_LEVEL_DEBUG | G_LOG_LEVEL_INFO)) != 0)
        return G_LOG_WRITER_HANDLED;
    for (gsize i = 0; i < count; i++)
        if (strcmp(fields[i].key, "MESSAGE") == 0)
            text = fields[i].value;
        else if (strcmp(fields[i].key, "GLIB_DOMAIN") == 0 &&
                 strcmp(fields[i].value, "access") == 0)
            word = "access";
    now = g_date_time_new_now_utc();
    time = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S");
    fprintf(stderr, "%s.%03dZ %s %s\n", time, g_date_time_get_microsecond(now) / 1000, word, text);
    return G_LOG_WRITER_HANDLED;
}

static void
raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Each batch of the lane would make its thread's heap grow and shrink again, page by page: a fault
 * and a system call each time.  A mebibyte a thread is kept for the next. */
static void
tune_memory(void)
{
    mallopt(M_TOP_PAD, 1024 * 1024);
    mallopt(M_TRIM_THRESHOLD, 2 * 1024 * 1024);
    mallopt(M_MMAP_THRESHOLD, 512 * 1024);
}

int
serve_run(const ServeOptions *options)
{
    House house = {.options = options};
    g_autoptr(GError) error = NULL;
    guint started = 0;
    sigset_t signals;
    int status = 0;
    int caught;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    g_log_set_writer_func(write_log, NULL, NULL);
    tune_memory();
    raise_descriptors();
    if (start_all(&house, &started, &error)) {
        say_ready(&house);
        do {
            sigwait(&signals, &caught);
        } while (caught == SIGHUP); /* nothing is reloaded by signal */
    } else {
        fprintf(stderr, "chancery: %s\n", error->message);
        status = 1;
    }
    end_all(&house, started);
    return status;
}
