#include "server/command/desk.h"

#include <curl/curl.h>
#include <openssl/ssl.h>
#include <sodium.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum {
    ANSWER_BYTES_MAX = 4 * 1024 * 1024,
    PASSPHRASE_BYTES_MAX = 1024,
    CONNECT_MS = 10 * 1000,
    REQUEST_MS = 60 * 1000,
    EXPORTER_BYTES = 32,
    TRIES_MAX = 5,
    RETRY_WAIT_MAX_MS = 5000,
};

struct Desk {
    char *listener;
    Credential *credential;
    CURL *curl;
    char *pem; /* certificate, chain and key; wiped */
    gsize pem_length;
    GByteArray *answer;
    GBytes *exporter;
    gboolean reconnected;
};

/* ---- options ---- */

void
desk_options_clear(DeskOptions *options)
{
    g_clear_pointer(&options->listener, g_free);
    g_clear_pointer(&options->p12, g_free);
    g_clear_pointer(&options->key, g_free);
    g_clear_pointer(&options->passphrase_file, g_free);
    g_clear_pointer(&options->authority, g_free);
}

GOptionEntry *
desk_option_entries(DeskOptions *options, const GOptionEntry *own)
{
    const GOptionEntry entries[] = {
        {"certificate-listener", 0, 0, G_OPTION_ARG_STRING, &options->listener,
         "Where certificates are shown, for example https://login.agency.example:8443", "URL"},
        {"p12", 0, 0, G_OPTION_ARG_FILENAME, &options->p12,
         "Your certificate and key: PKCS#12, or PEM", "FILE"},
        {"key", 0, 0, G_OPTION_ARG_FILENAME, &options->key, "The key, when in a file of its own",
         "FILE"},
        {"passphrase-file", 0, 0, G_OPTION_ARG_FILENAME, &options->passphrase_file,
         "Its first line opens the key (else $CHANCERY_PASSPHRASE; else you are asked)", "FILE"},
        {"authority", 0, 0, G_OPTION_ARG_FILENAME, &options->authority,
         "PEM file of the authority of the server's certificate; without it the system's", "FILE"},
    };
    GArray *all = g_array_new(TRUE, FALSE, sizeof(GOptionEntry));

    for (; own->long_name != NULL; own++)
        g_array_append_val(all, *own);
    g_array_append_vals(all, entries, G_N_ELEMENTS(entries));
    return (GOptionEntry *)(void *)g_array_free(all, FALSE);
}

/* ---- the pass phrase ---- */

static char *
first_line(const char *path, GError **error)
{
    char *text = NULL;
    gsize length = 0;

    if (!g_file_get_contents(path, &text, &length, error))
        return NULL;
    text[strcspn(text, "\r\n")] = '\0';
    return text;
}

static char *
ask_terminal(const char *path, GError **error)
{
    struct termios before, silent;
    char *line = g_malloc0(PASSPHRASE_BYTES_MAX);
    gboolean terminal = tcgetattr(STDIN_FILENO, &before) == 0;

    fprintf(stderr, "Pass phrase of %s: ", path);
    fflush(stderr);
    if (terminal) {
        silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    }
    gboolean read = fgets(line, PASSPHRASE_BYTES_MAX, stdin) != NULL;
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    if (!read) {
        g_free(line);
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "no pass phrase for %s: give --passphrase-file", path);
        return NULL;
    }
    line[strcspn(line, "\r\n")] = '\0';
    return line;
}

char *
desk_passphrase(const char *path, gpointer data, GError **error)
{
    const DeskOptions *options = data;
    const char *given = g_getenv("CHANCERY_PASSPHRASE");
    if (options->passphrase_file != NULL)
        return first_line(options->passphrase_file, error);
    return given != NULL ? g_strdup(given) : ask_terminal(path, error);
}

/* ---- the connection ---- */

static void
take_exporter(Desk *desk)
{
    struct curl_tlssessioninfo *session = NULL;
    guint8 value[EXPORTER_BYTES];
    static const char label[] = "EXPORTER-Channel-Binding";

    if (curl_easy_getinfo(desk->curl, CURLINFO_TLS_SSL_PTR, &session) != CURLE_OK ||
        session == NULL || session->backend != CURLSSLBACKEND_OPENSSL || session->internals == NULL)
        return;
    if (SSL_export_keying_material(session->internals, value, sizeof value, label, strlen(label),
                                   NULL, 0, 0) == 1) {
        g_clear_pointer(&desk->exporter, g_bytes_unref);
        desk->exporter = g_bytes_new(value, sizeof value);
    }
}

/* While an answer comes in its connection is there to be asked. */
static size_t
take_header(char *bytes, size_t size, size_t count, void *data)
{
    Desk *desk = data;
    if (desk->exporter == NULL)
        take_exporter(desk);
    return size * count;
}

static size_t
take_body(char *bytes, size_t size, size_t count, void *data)
{
    Desk *desk = data;
    if (size * count > ANSWER_BYTES_MAX - desk->answer->len)
        return 0;
    g_byte_array_append(desk->answer, (const guint8 *)bytes, (guint)(size * count));
    return size * count;
}

static void
set_error(GError **error, const char *sentence)
{
    g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, sentence);
}

static gboolean
configure(Desk *desk, const DeskOptions *options)
{
    CURL *curl = desk->curl;
    struct curl_blob blob = {desk->pem, desk->pem_length, CURL_BLOB_COPY};

    return curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https") == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_3) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_SSL_SESSIONID_CACHE, 0L) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_SSLCERT_BLOB, &blob) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_SSLKEY_BLOB, &blob) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)REQUEST_MS) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_HEADERDATA, desk) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_WRITEDATA, desk) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_USERAGENT, "chancery") == CURLE_OK &&
           (options->authority == NULL ||
            curl_easy_setopt(curl, CURLOPT_CAINFO, options->authority) == CURLE_OK);
}

Desk *
desk_new(const DeskOptions *options, GError **error)
{
    if (options->listener == NULL || options->p12 == NULL) {
        set_error(error, "give --certificate-listener URL and --p12 FILE");
        return NULL;
    }
    if (!g_str_has_prefix(options->listener, "https://")) {
        set_error(error, "--certificate-listener must be an https:// address");
        return NULL;
    }
    /* The exporter value is asked of OpenSSL: another backend of libcurl would not do. */
    if (curl_global_sslset(CURLSSLBACKEND_OPENSSL, NULL, NULL) != CURLSSLSET_OK ||
        curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        set_error(error, "this program's libcurl has no OpenSSL backend");
        return NULL;
    }
    g_autoptr(Desk) desk = g_new0(Desk, 1);
    desk->credential =
        credential_load(options->p12, options->key, desk_passphrase, (gpointer)options, error);
    if (desk->credential == NULL)
        return NULL;
    desk->listener = g_strdup(options->listener);
    while (g_str_has_suffix(desk->listener, "/"))
        desk->listener[strlen(desk->listener) - 1] = '\0';
    desk->pem = credential_pem(desk->credential, &desk->pem_length);
    desk->answer = g_byte_array_new();
    desk->curl = curl_easy_init();
    if (desk->curl == NULL || !configure(desk, options)) {
        set_error(error, "libcurl lacks what is needed here");
        return NULL;
    }
    return g_steal_pointer(&desk);
}

void
desk_free(Desk *desk)
{
    if (desk == NULL)
        return;
    if (desk->curl != NULL)
        curl_easy_cleanup(desk->curl);
    if (desk->pem != NULL)
        credential_pem_free(desk->pem, desk->pem_length);
    if (desk->answer != NULL) {
        sodium_memzero(desk->answer->data, desk->answer->len); /* it may have held tokens */
        g_byte_array_unref(desk->answer);
    }
    g_clear_pointer(&desk->exporter, g_bytes_unref);
    credential_free(desk->credential);
    g_free(desk->listener);
    g_free(desk);
}

const Credential *
desk_credential(const Desk *desk)
{
    return desk->credential;
}

GBytes *
desk_exporter(const Desk *desk)
{
    return desk->exporter;
}

gboolean
desk_was_reconnected(const Desk *desk)
{
    return desk->reconnected;
}

/* ---- requests ---- */

static struct curl_slist *
headers_of(const char *content_type, const char *token)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    if (content_type != NULL) {
        g_autofree char *line = g_strdup_printf("Content-Type: %s", content_type);
        headers = curl_slist_append(headers, line);
    }
    if (token != NULL) {
        char *line = g_strdup_printf("Authorization: Bearer %s", token);
        headers = curl_slist_append(headers, line);
        sodium_memzero(line, strlen(line));
        g_free(line);
    }
    return headers;
}

/* The server's sentence, or what there is. */
static cJSON *
judge_answer(Desk *desk, long status, GError **error)
{
    g_autoptr(cJSON) answer = json_parse((const char *)desk->answer->data, desk->answer->len,
                                         &json_limits_response, NULL);
    const char *sentence = json_get_string(answer, "error");

    if (status == 200 && answer != NULL)
        return g_steal_pointer(&answer);
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "the server says %ld%s%s", status,
                sentence != NULL ? ": " : "", sentence != NULL ? sentence : "");
    return NULL;
}

/* FALSE with @error when there was no answer at all. */
static gboolean
perform(Desk *desk, const char *method, const char *url, GBytes *body, struct curl_slist *headers,
        long *ret_status, GError **error)
{
    char reason[CURL_ERROR_SIZE] = "";
    CURL *curl = desk->curl;
    long connects = 0;

    g_byte_array_set_size(desk->answer, 0);
    g_clear_pointer(&desk->exporter, g_bytes_unref);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)g_bytes_get_size(body));
        curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, (const char *)g_bytes_get_data(body, NULL));
    } else {
        curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, ret_status);
    curl_easy_getinfo(curl, CURLINFO_NUM_CONNECTS, &connects);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, NULL);
    desk->reconnected = connects > 0;
    if (code != CURLE_OK)
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s: %s", url,
                    reason[0] != '\0' ? reason : curl_easy_strerror(code));
    return code == CURLE_OK;
}

/* 429: as long as the server asks for, within reason. */
static void
wait_as_asked(Desk *desk)
{
    g_autoptr(cJSON) answer =
        json_parse((const char *)desk->answer->data, desk->answer->len, &json_limits_request, NULL);
    gint64 wait_ms = 1000;

    json_get_integer(answer, "retry_after_ms", &wait_ms);
    g_usleep((gulong)CLAMP(wait_ms, 100, RETRY_WAIT_MAX_MS) * 1000);
}

static cJSON *
request(Desk *desk, const char *method, const char *url_or_path, GBytes *body,
        const char *content_type, const char *token, GError **error)
{
    long status = 0;
    gboolean answered;
    g_autofree char *url = url_or_path[0] == '/' ? g_strconcat(desk->listener, url_or_path, NULL)
                                                 : g_strdup(url_or_path);
    struct curl_slist *headers = headers_of(content_type, token);

    for (guint tries = 1;; tries++) {
        answered = perform(desk, method, url, body, headers, &status, error);
        if (!answered || status != 429 || tries == TRIES_MAX)
            break;
        wait_as_asked(desk);
    }
    curl_slist_free_all(headers);
    return answered ? judge_answer(desk, status, error) : NULL;
}

cJSON *
desk_request(Desk *desk, const char *method, const char *url_or_path, const cJSON *body,
             const char *token, GError **error)
{
    g_autoptr(GBytes) bytes = NULL;
    if (body != NULL && (bytes = json_canonical(body, error)) == NULL)
        return NULL;
    return request(desk, method, url_or_path, bytes, body != NULL ? "application/json" : NULL,
                   token, error);
}

cJSON *
desk_request_bytes(Desk *desk, const char *method, const char *url_or_path, GBytes *body,
                   const char *content_type, GError **error)
{
    return request(desk, method, url_or_path, body, content_type, NULL, error);
}
