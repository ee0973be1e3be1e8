/* The certificate and partner listeners: TLS 1.3 alone, no tickets, the shown chain and the
 * exporter value. */
#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "server/http/front.h"

/* ---- a certificate signed by itself: whose chain is good is judged above this floor ---- */

typedef struct {
    char *certificate;
    char *key;
} Pem;

static char *
exported(int (*export)(gpointer object, gnutls_x509_crt_fmt_t, gnutls_datum_t *), gpointer object)
{
    gnutls_datum_t out;
    char *text;

    g_assert_cmpint(export(object, GNUTLS_X509_FMT_PEM, &out), ==, 0);
    text = g_strndup((const char *)out.data, out.size);
    gnutls_free(out.data);
    return text;
}

static int
export_certificate(gpointer object, gnutls_x509_crt_fmt_t format, gnutls_datum_t *out)
{
    return gnutls_x509_crt_export2(object, format, out);
}

static int
export_key(gpointer object, gnutls_x509_crt_fmt_t format, gnutls_datum_t *out)
{
    return gnutls_x509_privkey_export2(object, format, out);
}

static Pem
pem_new(const char *name)
{
    gnutls_x509_crt_t certificate;
    gnutls_x509_privkey_t key;
    Pem pem;

    gnutls_x509_privkey_init(&key);
    g_assert_cmpint(gnutls_x509_privkey_generate(
                        key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
                    ==, 0);
    gnutls_x509_crt_init(&certificate);
    gnutls_x509_crt_set_version(certificate, 3);
    gnutls_x509_crt_set_serial(certificate, "\1", 1);
    gnutls_x509_crt_set_dn(certificate, name, NULL);
    gnutls_x509_crt_set_activation_time(certificate, time(NULL) - 60);
    gnutls_x509_crt_set_expiration_time(certificate, time(NULL) + 3600);
    gnutls_x509_crt_set_key(certificate, key);
    g_assert_cmpint(gnutls_x509_crt_sign2(certificate, certificate, key, GNUTLS_DIG_SHA256, 0), ==,
                    0);
    pem = (Pem){exported(export_certificate, certificate), exported(export_key, key)};
    gnutls_x509_crt_deinit(certificate);
    gnutls_x509_privkey_deinit(key);
    return pem;
}

static void
pem_clear(Pem *pem)
{
    g_clear_pointer(&pem->certificate, g_free);
    g_clear_pointer(&pem->key, g_free);
}

/* ---- the house ---- */

typedef struct {
    FrontEnd *front;
    Pem server;
    Pem person;
} Fixture;

static Response *
show(Request *request, GError **error)
{
    GPtrArray *chain = request_certificate_chain(request);
    gsize length;
    const guchar *exporter = g_bytes_get_data(request_tls_exporter(request), &length);
    g_autoptr(GString) text = g_string_new(NULL);

    g_string_append_printf(text, "chain=%u ", chain->len);
    for (gsize i = 0; i < length; i++)
        g_string_append_printf(text, "%02x", exporter[i]);
    return response_text(200, "text/plain", text->str);
}

static const Route table[] = {
    {"GET", "/show", LISTEN_CERTIFICATE | LISTEN_PARTNER, CALLER_CERTIFICATE, RATE_NONE, BODY_NONE,
     show},
    {0},
};
static const Route *const tables[] = {table, NULL};
static const Callers callers = {0};

static void
set_up(Fixture *fixture, gconstpointer data)
{
    FrontEndSettings settings = front_end_settings_default;
    g_autoptr(GError) error = NULL;

    settings.workers = 1;
    settings.access_log = FALSE;
    fixture->server = pem_new("CN=localhost");
    fixture->person = pem_new("CN=alice");
    fixture->front = front_end_new(NULL, &settings, tables, &callers, &error);
    for (guint i = 0; i < 2; i++) {
        ListenerSettings listener = {.serves = i == 0 ? LISTEN_CERTIFICATE : LISTEN_PARTNER,
                                     .address = "127.0.0.1:0",
                                     .certificate = fixture->server.certificate,
                                     .key = fixture->server.key,
                                     .certificate_wanted = TRUE,
                                     .certificate_required = TRUE};
        front_end_listen(fixture->front, &listener, &error);
        g_assert_no_error(error);
    }
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    front_end_free(fixture->front);
    pem_clear(&fixture->server);
    pem_clear(&fixture->person);
}

/* ---- a client ---- */

typedef struct {
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    int fd;
} Client;

/* The hand-shake's result. */
static int
client_open(Client *client, const Fixture *fixture, Listener listener, const char *priorities,
            gboolean with_certificate)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *where = front_end_address(fixture->front, listener);
    int result;

    address.sin_port = htons((guint16)g_ascii_strtoull(strrchr(where, ':') + 1, NULL, 10));
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    g_assert_cmpint(connect(client->fd, (struct sockaddr *)&address, sizeof address), ==, 0);
    gnutls_certificate_allocate_credentials(&client->credentials);
    if (with_certificate) {
        gnutls_datum_t certificate = {(guchar *)fixture->person.certificate,
                                      (unsigned)strlen(fixture->person.certificate)};
        gnutls_datum_t key = {(guchar *)fixture->person.key, (unsigned)strlen(fixture->person.key)};
        g_assert_cmpint(gnutls_certificate_set_x509_key_mem(client->credentials, &certificate, &key,
                                                            GNUTLS_X509_FMT_PEM),
                        >=, 0);
    }
    gnutls_init(&client->session, GNUTLS_CLIENT);
    g_assert_cmpint(gnutls_priority_set_direct(client->session, priorities, NULL), ==, 0);
    gnutls_credentials_set(client->session, GNUTLS_CRD_CERTIFICATE, client->credentials);
    gnutls_transport_set_int(client->session, client->fd);
    do {
        result = gnutls_handshake(client->session);
    } while (result < 0 && !gnutls_error_is_fatal(result));
    return result;
}

static void
client_close(Client *client)
{
    gnutls_deinit(client->session);
    gnutls_certificate_free_credentials(client->credentials);
    close(client->fd);
}

static char *
client_get(Client *client, const char *path)
{
    g_autofree char *request =
        g_strdup_printf("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    GString *heard = g_string_new(NULL);
    char buffer[4096];
    ssize_t got;

    gnutls_record_send(client->session, request, strlen(request));
    while ((got = gnutls_record_recv(client->session, buffer, sizeof buffer)) > 0 ||
           got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED)
        if (got > 0)
            g_string_append_len(heard, buffer, got);
    return g_string_free(heard, FALSE);
}

static void
test_the_chain_and_the_exporter_reach_the_handler(Fixture *fixture, gconstpointer data)
{
    Client client;
    g_autofree char *heard = NULL;
    g_autoptr(GString) expected = g_string_new("chain=1 ");
    char exporter[32];

    g_assert_cmpint(client_open(&client, fixture, LISTEN_CERTIFICATE, "NORMAL", TRUE), ==, 0);
    g_assert_cmpint(gnutls_protocol_get_version(client.session), ==, GNUTLS_TLS1_3);
    heard = client_get(&client, "/show");
    gnutls_prf_rfc5705(client.session, strlen("EXPORTER-Channel-Binding"),
                       "EXPORTER-Channel-Binding", 0, NULL, sizeof exporter, exporter);
    for (guint i = 0; i < sizeof exporter; i++)
        g_string_append_printf(expected, "%02x", (guchar)exporter[i]);
    g_assert_true(g_str_has_suffix(heard, expected->str));
    /* No ticket came, so nobody can resume as this person without the card. */
    g_assert_false((gnutls_session_get_flags(client.session) & GNUTLS_SFLAGS_SESSION_TICKET) != 0);
    client_close(&client);
}

static void
test_without_a_certificate_every_url_helps(Fixture *fixture, gconstpointer data)
{
    static const char *const paths[] = {"/show", "/", "/none", "/_matrix/client/versions"};

    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        Client client;
        g_autofree char *heard = NULL;
        g_assert_cmpint(client_open(&client, fixture, LISTEN_CERTIFICATE, "NORMAL", FALSE), ==, 0);
        heard = client_get(&client, paths[i]);
        g_assert_true(g_str_has_prefix(heard, "HTTP/1.1 403 "));
        g_assert_nonnull(strstr(heard, "Content-Type: text/html"));
        g_assert_nonnull(strstr(heard, "remembers until then"));
        g_assert_nonnull(strstr(heard, "frame-ancestors 'none'"));
        client_close(&client);
    }
}

static void
test_a_stranger_to_partners_is_refused(Fixture *fixture, gconstpointer data)
{
    Client client;
    g_autofree char *heard = NULL;

    g_assert_cmpint(client_open(&client, fixture, LISTEN_PARTNER, "NORMAL", FALSE), ==, 0);
    heard = client_get(&client, "/show");
    g_assert_true(g_str_has_prefix(heard, "HTTP/1.1 403 "));
    g_assert_nonnull(strstr(heard, "M_FORBIDDEN"));
    client_close(&client);
}

static void
test_tls_1_2_is_refused(Fixture *fixture, gconstpointer data)
{
    for (guint i = 0; i < 2; i++) {
        Client client;
        g_assert_cmpint(client_open(&client, fixture, i == 0 ? LISTEN_CERTIFICATE : LISTEN_PARTNER,
                                    "NORMAL:-VERS-ALL:+VERS-TLS1.2", TRUE),
                        <, 0);
        client_close(&client);
    }
}

static void
test_bad_certificate_files_are_an_error(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    ListenerSettings listener = {.serves = LISTEN_CERTIFICATE,
                                 .address = "127.0.0.1:0",
                                 .certificate = fixture->server.certificate,
                                 .key = fixture->person.key};

    g_assert_false(front_end_listen(fixture->front, &listener, &error));
    g_assert_nonnull(strstr(error->message, "belong together"));
}

#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/tls/chain", test_the_chain_and_the_exporter_reach_the_handler);
    ADD("/tls/help", test_without_a_certificate_every_url_helps);
    ADD("/tls/stranger", test_a_stranger_to_partners_is_refused);
    ADD("/tls/version", test_tls_1_2_is_refused);
    ADD("/tls/files", test_bad_certificate_files_are_an_error);
    return g_test_run();
}
