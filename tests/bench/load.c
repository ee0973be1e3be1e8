/* tests/bench/load.c: the load of `make bench`.
 *
 * It shares the cores with what it measures, so its clients are no more than they need to be: one
 * thread for all of them, and a request is one write and, as a rule, one read.
 *
 *   load send URL TOKEN SENDERS SECONDS ROOM...
 *       acknowledged PUT /send, each sender one at a time
 *   load fanout URL TOKEN ROUNDS ROOM SYNC_TOKEN...
 *       one message to many parked syncs, time to the last
 *   load park URL COUNT SECONDS SYNC_TOKEN...
 *       COUNT parked syncs, held for SECONDS
 *
 * Prints one line of JSON.  The CA file of the server is in CHANCERY_CA. */
#include <glib.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY                                                                                       \
    "{\"msgtype\":\"m.text\",\"body\":\"The delegation arrives at nine; papers follow by "         \
    "courier.\"}"

static _Noreturn void
fail(const char *what)
{
    fprintf(stderr, "load: %s failed\n", what);
    exit(1);
}

/* One client's connection, kept alive; its address and token are in the head of each request. */
typedef struct {
    BIO *bio; /* TLS over TCP, or TCP alone */
    char *head;
    GString *request, *answer;
    gsize body; /* of the answer: where it begins */
} Client;

static SSL_CTX *tls; /* NULL: plain HTTP */

static void
tls_begin(const char *url)
{
    const char *authority = g_getenv("CHANCERY_CA");

    if (!g_str_has_prefix(url, "https://"))
        return;
    tls = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
    if (authority == NULL || SSL_CTX_load_verify_file(tls, authority) != 1)
        fail("reading CHANCERY_CA");
}

static Client *
client_new(const char *url, const char *token)
{
    Client *client = g_new0(Client, 1);
    const char *address = strstr(url, "://");
    int yes = 1;

    if (address == NULL)
        fail("reading the URL");
    address += strlen("://");
    client->bio = tls != NULL ? BIO_new_ssl_connect(tls) : BIO_new(BIO_s_connect());
    BIO_set_conn_hostname(client->bio, address);
    if (BIO_do_connect(client->bio) != 1)
        fail("connecting");
    (void)setsockopt((int)BIO_get_fd(client->bio, NULL), IPPROTO_TCP, TCP_NODELAY, &yes,
                     sizeof yes);
    client->head = g_strdup_printf("HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"
                                   "Content-Type: application/json\r\n",
                                   address, token);
    client->request = g_string_new(NULL);
    client->answer = g_string_new(NULL);
    return client;
}

static void
client_write(Client *client)
{
    gsize at = 0, written;

    while (at < client->request->len) {
        if (BIO_write_ex(client->bio, client->request->str + at, client->request->len - at,
                         &written) != 1)
            fail("writing");
        at += written;
    }
}

/* The bytes of the whole answer, as far as its headers have come; 0 before that. */
static gsize
answer_length(Client *client)
{
    const char *end = strstr(client->answer->str, "\r\n\r\n");
    const char *length = strcasestr(client->answer->str, "\r\nContent-Length:");

    if (end == NULL)
        return 0;
    if (length == NULL || length > end)
        fail("reading an answer without Content-Length");
    client->body = (gsize)(end + 4 - client->answer->str);
    return client->body + strtoul(length + strlen("\r\nContent-Length:"), NULL, 10);
}

static void
client_read(Client *client)
{
    gsize length = 0, have = 0;

    g_string_truncate(client->answer, 0);
    while (length == 0 || have < length) {
        gsize taken;
        g_string_set_size(client->answer, have + 16 * 1024);
        if (BIO_read_ex(client->bio, client->answer->str + have, 16 * 1024, &taken) != 1)
            fail("reading");
        have += taken;
        g_string_set_size(client->answer, have);
        if (length == 0)
            length = answer_length(client);
    }
}

static void
ask_begin(Client *client, const char *method, const char *target, const char *body)
{
    g_string_printf(client->request, "%s %s %s", method, target, client->head);
    if (body != NULL)
        g_string_append_printf(client->request, "Content-Length: %zu\r\n", strlen(body));
    g_string_append(client->request, "\r\n");
    g_string_append(client->request, body != NULL ? body : "");
    client_write(client);
}

/* What the answer says is client_body(). */
static void
ask(Client *client, const char *method, const char *target, const char *body)
{
    ask_begin(client, method, target, body);
    client_read(client);
}

static int
client_status(const Client *client)
{
    return client->answer->len > 12 ? atoi(client->answer->str + strlen("HTTP/1.1 ")) : 0;
}

static const char *
client_body(const Client *client)
{
    return client->answer->str + client->body;
}

static char *
send_target(const char *room, int number, guint64 count)
{
    g_autofree char *escaped = g_uri_escape_string(room, NULL, FALSE);

    return g_strdup_printf(
        "/_matrix/client/v3/rooms/%s/send/m.room.message/bench-%d-%" G_GUINT64_FORMAT
        "-%" G_GINT64_FORMAT,
        escaped, number, count, g_get_monotonic_time());
}

static int
compare(gconstpointer a, gconstpointer b)
{
    gint64 left = *(const gint64 *)a, right = *(const gint64 *)b;

    return left < right ? -1 : left > right;
}

static double
percentile_ms(GArray *sorted, double share)
{
    if (sorted->len == 0)
        return 0;
    return g_array_index(sorted, gint64, (guint)((sorted->len - 1) * share)) / 1000.0;
}

typedef struct {
    Client *client;
    guint64 count;
    gint64 began;
} Sender;

static void
sender_begin(Sender *sender, int number, char **rooms, int room_count)
{
    const char *room = rooms[((guint64)number + sender->count) % (guint64)room_count];
    g_autofree char *target = send_target(room, number, sender->count++);

    sender->began = g_get_monotonic_time();
    ask_begin(sender->client, "PUT", target, BODY);
}

static int
send_main(int argc, char **argv)
{
    int count = atoi(argv[2]), left = count, refused = 0;
    g_autofree Sender *senders = g_new0(Sender, count);
    g_autofree struct pollfd *sockets = g_new0(struct pollfd, count);
    g_autoptr(GArray) latencies = g_array_new(FALSE, FALSE, sizeof(gint64));
    gint64 began, until;
    double took;

    for (int i = 0; i < count; i++)
        senders[i].client = client_new(argv[0], argv[1]);
    began = g_get_monotonic_time();
    until = began + (gint64)(g_ascii_strtod(argv[3], NULL) * G_USEC_PER_SEC);
    for (int i = 0; i < count; i++) {
        sockets[i] = (struct pollfd){(int)BIO_get_fd(senders[i].client->bio, NULL), POLLIN, 0};
        sender_begin(&senders[i], i, argv + 4, argc - 4);
    }
    while (left > 0) {
        if (poll(sockets, (nfds_t)count, -1) < 0)
            fail("poll");
        for (int i = 0; i < count; i++) {
            gint64 waited;
            if (sockets[i].revents == 0)
                continue;
            client_read(senders[i].client);
            waited = g_get_monotonic_time() - senders[i].began;
            if (client_status(senders[i].client) == 200)
                g_array_append_val(latencies, waited);
            else if (refused++ == 0)
                fprintf(stderr, "load: %s\n", client_body(senders[i].client));
            if (senders[i].began + waited < until) {
                sender_begin(&senders[i], i, argv + 4, argc - 4);
            } else {
                sockets[i].fd = -1;
                left--;
            }
        }
    }
    took = (g_get_monotonic_time() - began) / (double)G_USEC_PER_SEC;
    g_array_sort(latencies, compare);
    printf("{\"acknowledged\": %u, \"refused\": %d, \"per_second\": %.0f, \"p50_ms\": %.2f, "
           "\"p99_ms\": %.2f}\n",
           latencies->len, refused, latencies->len / took, percentile_ms(latencies, 0.5),
           percentile_ms(latencies, 0.99));
    return 0;
}

/* ---- parked syncs ---- */

static char *
next_batch(const Client *client)
{
    const char *at = strstr(client_body(client), "\"next_batch\":\"");
    const char *end = at != NULL ? strchr(at + 14, '"') : NULL;

    if (end == NULL) {
        fprintf(stderr, "load: sync: %s\n", client_body(client));
        exit(1);
    }
    return g_strndup(at + 14, end - at - 14);
}

/* Asks for what follows the answer that @client has read. */
static void
wait_for_next(Client *client)
{
    g_autofree char *since = next_batch(client);
    g_autofree char *target =
        g_strdup_printf("/_matrix/client/v3/sync?timeout=30000&since=%s", since);

    ask_begin(client, "GET", target, NULL);
}

static struct pollfd *
waiters_start(const char *url, char **tokens, int distinct, int count, Client **ret_clients)
{
    struct pollfd *sockets = g_new0(struct pollfd, count + 1);

    for (int i = 0; i < count; i++) {
        Client *client = client_new(url, tokens[i % distinct]);
        ask(client, "GET", "/_matrix/client/v3/sync?timeout=0", NULL);
        wait_for_next(client);
        ret_clients[i] = client;
        sockets[i] = (struct pollfd){(int)BIO_get_fd(client->bio, NULL), POLLIN, 0};
    }
    return sockets;
}

/* One message; returns how long it was until the last waiter had it, in microseconds. */
static gint64
fanout_round(Client **clients, struct pollfd *sockets, int count, const char *room, int round)
{
    Client *sender = clients[count];
    g_autofree char *mark =
        g_strdup_printf("fanout-%d-%" G_GINT64_FORMAT, round, g_get_monotonic_time());
    g_autofree char *body = g_strdup_printf("{\"msgtype\":\"m.text\",\"body\":\"%s\"}", mark);
    g_autofree char *target = send_target(room, 0, round);
    gint64 began = g_get_monotonic_time(), last = 0;
    int left = count, sent = 0;

    ask_begin(sender, "PUT", target, body);
    while (left > 0 || !sent) {
        if (poll(sockets, (nfds_t)count + 1, -1) < 0)
            fail("poll");
        for (int i = 0; i <= count; i++) {
            if (sockets[i].revents == 0)
                continue;
            client_read(clients[i]);
            if (i == count) {
                sent = 1;
                continue;
            }
            if (strstr(client_body(clients[i]), mark) != NULL) {
                last = g_get_monotonic_time();
                left--;
            }
            wait_for_next(clients[i]);
        }
    }
    if (strstr(client_body(sender), "event_id") == NULL) {
        fprintf(stderr, "load: %s\n", client_body(sender));
        exit(1);
    }
    return last - began;
}

static int
fanout_main(int argc, char **argv)
{
    int rounds = atoi(argv[2]), count = argc - 4;
    g_autofree Client **clients = g_new0(Client *, count + 1);
    g_autofree struct pollfd *sockets = waiters_start(argv[0], argv + 4, count, count, clients);
    g_autoptr(GArray) lasts = g_array_new(FALSE, FALSE, sizeof(gint64));

    clients[count] = client_new(argv[0], argv[1]);
    sockets[count] = (struct pollfd){(int)BIO_get_fd(clients[count]->bio, NULL), POLLIN, 0};
    for (int round = 0; round < rounds; round++) {
        gint64 took;
        g_usleep(300 * 1000); /* the server has parked all */
        took = fanout_round(clients, sockets, count, argv[3], round);
        g_array_append_val(lasts, took);
    }
    g_array_sort(lasts, compare);
    printf("{\"waiting\": %d, \"rounds\": %d, \"last_p50_ms\": %.2f, \"last_worst_ms\": %.2f}\n",
           count, rounds, percentile_ms(lasts, 0.5), percentile_ms(lasts, 1));
    exit(0); /* the waiters are still parked */
}

static int
park_main(int argc, char **argv)
{
    int count = atoi(argv[1]);
    g_autofree Client **clients = g_new0(Client *, count);

    g_free(waiters_start(argv[0], argv + 3, argc - 3, count, clients));
    g_usleep(G_USEC_PER_SEC / 2);
    printf("{\"parked\": %d}\n", count);
    fflush(stdout);
    g_usleep((gulong)(g_ascii_strtod(argv[2], NULL) * G_USEC_PER_SEC));
    exit(0);
}

int
main(int argc, char **argv)
{
    if (argc > 2)
        tls_begin(argv[2]);
    if (argc >= 7 && strcmp(argv[1], "send") == 0)
        return send_main(argc - 2, argv + 2);
    if (argc >= 7 && strcmp(argv[1], "fanout") == 0)
        return fanout_main(argc - 2, argv + 2);
    if (argc >= 6 && strcmp(argv[1], "park") == 0)
        return park_main(argc - 2, argv + 2);
    fprintf(stderr, "usage: see the head of tests/bench/load.c\n");
    return 2;
}
