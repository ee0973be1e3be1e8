/* server/http/dispatcher.c: every check that comes before a handler, once, in one place:
 * framing, forbidden headers, route, method, sizes and types at the headers (on the HTTP thread);
 * then the rate, who calls, and the body (on a worker).  And the one place where an error becomes
 * an answer. */
#include <string.h>

#include "identity/clock.h"
#include "identity/refusal.h"
#include "server/http/front_private.h"
#include "storage/store.h"

#define TARGET_BYTES_MAX 8192
#define HEADERS_MAX 100
#define IGNORED_BODY_BYTES_MAX (64 * 1024)
#define BYTES_BODY_MAX (4 * 1024 * 1024)

/* ---- framing: a request that two readers could cut differently is refused ---- */

static gboolean
is_header_name(const char *name)
{
    static const char others[] = "!#$%&'*+-.^_`|~";

    if (*name == '\0')
        return FALSE;
    for (; *name != '\0'; name++)
        if (!g_ascii_isalnum(*name) && strchr(others, *name) == NULL)
            return FALSE;
    return TRUE;
}

static gboolean
is_header_value(const char *value)
{
    for (; *value != '\0'; value++)
        if ((guchar)*value < 0x20 && *value != '\t')
            return FALSE;
    return TRUE;
}

/* A certificate comes by the TLS hand-shake alone: forged header forms keep recurring elsewhere. */
static gboolean
names_a_certificate(const char *name)
{
    g_autofree char *lower = g_ascii_strdown(name, -1);

    for (char *at = lower; *at != '\0'; at++)
        if (*at == '_')
            *at = '-';
    return g_str_has_prefix(lower, "client-cert") || g_str_has_prefix(lower, "x-client-cert") ||
           g_str_has_prefix(lower, "x-ssl") || g_str_has_prefix(lower, "ssl-client") ||
           (g_str_has_prefix(lower, "x-forwarded-") && strstr(lower, "cert") != NULL);
}

static const char *const framing_names[] = {"Content-Length", "Transfer-Encoding"};

/* libmicrohttpd joins a folded line to what stands before it, to the name where the value began
 * with the fold: "Transfer-Encoding:\r\n chunked" comes as a header "Transfer-Encodingchunked".  A
 * proxy before us may have read it otherwise. */
static gboolean
hides_framing(const char *name, const char *value)
{
    for (guint i = 0; i < G_N_ELEMENTS(framing_names); i++) {
        gsize length = strlen(framing_names[i]);
        const char *inside = strcasestr(value, framing_names[i]);

        if (g_ascii_strncasecmp(name, framing_names[i], length) == 0 && name[length] != '\0')
            return TRUE;
        if (inside != NULL && inside[length + strspn(inside + length, " \t")] == ':')
            return TRUE;
    }
    return FALSE;
}

typedef struct {
    guint hosts;
    guint lengths;
    guint encodings;
    const char *length;
    const char *encoding;
} Framing;

static const char *
judge_header(Framing *framing, const char *name, const char *value)
{
    if (!is_header_name(name))
        return "A header's name holds a character that is not allowed there";
    if (!is_header_value(value))
        return "A header's value holds a control character";
    if (hides_framing(name, value))
        return "A header is folded around Content-Length or Transfer-Encoding";
    if (g_ascii_strcasecmp(name, "Host") == 0) {
        framing->hosts++;
    } else if (g_ascii_strcasecmp(name, "Content-Length") == 0) {
        framing->lengths++;
        framing->length = value;
    } else if (g_ascii_strcasecmp(name, "Transfer-Encoding") == 0) {
        framing->encodings++;
        framing->encoding = value;
    }
    return NULL;
}

static gboolean
is_decimal(const char *text)
{
    gsize length = strlen(text);

    /* No zeros before others: "0\r\n 44" comes as "044". */
    return length > 0 && length <= 18 && strspn(text, "0123456789") == length &&
           (length == 1 || text[0] != '0');
}

static const char *
judge_framing(const Framing *framing)
{
    if (framing->hosts > 1)
        return "More than one Host header";
    if (framing->lengths > 1)
        return "More than one Content-Length header";
    if (framing->encodings > 1)
        return "More than one Transfer-Encoding header";
    if (framing->lengths > 0 && framing->encodings > 0)
        return "Content-Length together with Transfer-Encoding";
    if (framing->length != NULL && !is_decimal(framing->length))
        return "Content-Length is not a decimal number";
    if (framing->encoding != NULL && g_ascii_strcasecmp(framing->encoding, "chunked") != 0)
        return "A Transfer-Encoding other than chunked";
    return NULL;
}

static Response *
refuse_and_close(guint status, const char *errcode, const char *sentence)
{
    Response *response = response_error(status, errcode, "%s", sentence);

    response->close = TRUE;
    return response;
}

static Response *
judge_all_headers(const Request *request, Framing *framing)
{
    for (guint i = 0; i + 1 < request->headers->len; i += 2) {
        const char *name = request->headers->pdata[i];
        const char *offence = judge_header(framing, name, request->headers->pdata[i + 1]);
        if (offence != NULL)
            return refuse_and_close(400, "M_UNKNOWN", offence);
        if (names_a_certificate(name)) {
            g_autofree char *escaped = g_strescape(name, NULL);
            g_warning("refused: header %s from %s: certificates come by TLS alone", escaped,
                      request->peer_address);
            return refuse_and_close(
                400, "M_FORBIDDEN",
                "Certificates are taken from the TLS connection, never from a header");
        }
    }
    return NULL;
}

/* ---- route, sizes, types ---- */

static gsize
body_bytes_max(BodyKind kind)
{
    switch (kind) {
    case BODY_JSON:
    case BODY_JSON_OPTIONAL:
    case BODY_JSON_CONTENT:
        return json_limits_request.bytes_max;
    case BODY_JSON_KEYS:
        return json_limits_keys.bytes_max;
    case BODY_JSON_MEMBER:
        return json_limits_member.bytes_max;
    case BODY_JSON_TRANSACTION:
        return json_limits_transaction.bytes_max;
    case BODY_BYTES:
        return BYTES_BODY_MAX;
    case BODY_NONE:
        break;
    }
    return IGNORED_BODY_BYTES_MAX;
}

static gboolean
is_json_kind(BodyKind kind)
{
    return kind != BODY_NONE && kind != BODY_BYTES;
}

/* JSON, or what stock HTTP tools put on JSON when they are not told better. */
static gboolean
may_hold_json(const char *content_type)
{
    static const char *const taken[] = {"application/json", "text/json", "text/plain",
                                        "application/x-www-form-urlencoded",
                                        "application/octet-stream"};
    gsize length = strcspn(content_type, "; \t");

    for (guint i = 0; i < G_N_ELEMENTS(taken); i++)
        if (length == strlen(taken[i]) && g_ascii_strncasecmp(content_type, taken[i], length) == 0)
            return TRUE;
    return length > 5 && g_ascii_strncasecmp(content_type + length - 5, "+json", 5) == 0;
}

static Response *
judge_body_headers(Request *request, const Framing *framing)
{
    const char *type = request_header(request, "Content-Type");
    const char *coding = request_header(request, "Content-Encoding");
    gboolean has_body =
        framing->encoding != NULL || (framing->length != NULL && strcmp(framing->length, "0") != 0);

    request->upload_max = body_bytes_max(request->route->body);
    if (!has_body)
        return NULL;
    if (coding != NULL && g_ascii_strcasecmp(coding, "identity") != 0)
        return refuse_and_close(415, "M_UNKNOWN",
                                "A body with a Content-Encoding is not taken: send it plain");
    if (type != NULL && *type != '\0' && is_json_kind(request->route->body) && !may_hold_json(type))
        return refuse_and_close(415, "M_NOT_JSON",
                                "The body must be JSON: send Content-Type: application/json");
    if (framing->length != NULL &&
        g_ascii_strtoull(framing->length, NULL, 10) > request->upload_max)
        return refuse_and_close(413, "M_TOO_LARGE",
                                "The body is larger than this request may have");
    return NULL;
}

static Response *
answer_options(void)
{
    return response_text(200, "application/json", "{}");
}

static Response *
find_route(Request *request)
{
    gsize length = strcspn(request->target, "?");
    g_autofree char *path = g_strndup(request->target, length);
    g_autofree char *allowed = NULL;
    Response *response = NULL;

    switch (router_find(request->front->router, request->listener->serves, request->method, path,
                        &request->route, &request->path_values, &allowed)) {
    case ROUTE_FOUND:
        return NULL;
    case ROUTE_BAD_PATH:
        return response_error(400, "M_INVALID_PARAM",
                              "The path holds a broken escape, U+0000 or bytes that are not UTF-8");
    case ROUTE_UNKNOWN_METHOD:
        response = response_error(
            405, "M_UNRECOGNIZED", "This path is not served for %s; it is for %s",
            strlen(request->method) <= 16 ? request->method : "that method", allowed);
        response_header(response, "Allow", allowed);
        return response;
    case ROUTE_UNKNOWN_PATH:
        break;
    }
    return response_error(404, "M_UNRECOGNIZED", "This server does not serve that path");
}

/* What every URL of the certificate listener says to a browser that showed no certificate. */
static const char help_page[] = "<!DOCTYPE html><html lang=\"en\"><head><meta "
                                "charset=\"utf-8\"><title>Your certificate is needed</title></head>"
                                "<body><h1>Your certificate is needed</h1><p>This address serves "
                                "only people who show their personal "
                                "certificate, and your browser showed none.</p><ol><li>Put your "
                                "card into the reader, or import your "
                                "certificate (.p12) into the browser.</li><li>Close <em>all</em> "
                                "windows of the browser and start it again: "
                                "a browser remembers until then that no certificate, or a wrong "
                                "one, was chosen.</li><li>Open the page again, "
                                "choose your authentication certificate (not the one for "
                                "signatures), and give its PIN.</li></ol>"
                                "<p>If no choice appears, the reader or its driver is not seen by "
                                "the browser: ask your help desk.</p>"
                                "</body></html>";

static Response *
judge_certificate(const Request *request)
{
    Response *response;

    if (!request->listener->certificate_required || request->chain != NULL)
        return NULL;
    if ((request->listener->serves & LISTEN_CERTIFICATE) == 0)
        return refuse_and_close(403, "M_FORBIDDEN",
                                "Only partners are served here, by their TLS certificate");
    response = response_text(403, "text/html; charset=utf-8", help_page);
    response_header(response, "Content-Security-Policy",
                    "default-src 'none'; frame-ancestors 'none'");
    response->close = TRUE; /* the next hand-shake may bring one */
    return response;
}

static Response *
judge_token_present(const Request *request)
{
    const char *authorization = request_header(request, "Authorization");

    if (request->route->caller != CALLER_USER ||
        (authorization != NULL && g_ascii_strncasecmp(authorization, "Bearer ", 7) == 0))
        return NULL;
    return response_error(
        401, "M_MISSING_TOKEN",
        "Send the access token as Authorization: Bearer; a token in the URL is not read");
}

/* A stranger at the partner listener goes no further, whatever it asks for. */
static Response *
judge_partner_tls(Request *request)
{
    const Callers *callers = request->front->callers;
    g_autoptr(GError) error = NULL;
    const char *sentence;

    if (request->listener->serves != LISTEN_PARTNER || callers->partner_tls == NULL ||
        callers->partner_tls(request->server, request, &error))
        return NULL;
    g_autofree char *errcode = refusal_errcode(error, &sentence);
    return refuse_and_close((guint)error->code, errcode, sentence);
}

Response *
dispatcher_judge_headers(Request *request)
{
    Framing framing = {0};
    Response *response;

    if (strlen(request->target) > TARGET_BYTES_MAX)
        return refuse_and_close(414, "M_TOO_LARGE", "The request's target is too long");
    if (request->headers->len > 2 * HEADERS_MAX)
        return refuse_and_close(431, "M_TOO_LARGE", "Too many headers");
    response = judge_all_headers(request, &framing);
    if (response == NULL) {
        const char *offence = judge_framing(&framing);
        if (offence != NULL)
            response = refuse_and_close(400, "M_UNKNOWN", offence);
    }
    if (response == NULL)
        response = judge_certificate(request);
    if (response == NULL)
        response = judge_partner_tls(request);
    if (response == NULL && strcmp(request->method, "OPTIONS") == 0 &&
        (request->listener->serves & LISTEN_CLIENT) != 0)
        response = answer_options();
    if (response == NULL)
        response = find_route(request);
    if (response == NULL)
        response = judge_body_headers(request, &framing);
    if (response == NULL)
        response = judge_token_present(request);
    /* A small body is read first, so that the connection can live on; a large one is not. */
    if (response != NULL && framing.length != NULL &&
        g_ascii_strtoull(framing.length, NULL, 10) > IGNORED_BODY_BYTES_MAX)
        response->close = TRUE;
    if (response != NULL)
        request->upload_max = IGNORED_BODY_BYTES_MAX;
    return response;
}

/* ---- on a worker ---- */

static Response *
answer_to_refusal(const Request *request, const GError *error)
{
    const char *sentence;
    g_autofree char *errcode = refusal_errcode(error, &sentence);
    Response *response = response_error((guint)error->code, errcode, "%s", sentence);

    if (error->code == 401 && strcmp(errcode, "M_UNKNOWN_TOKEN") == 0)
        response_error_set(response, "soft_logout",
                           cJSON_CreateBool(request->front->callers->user_is_soft(error)));
    if (error->code == 429 || error->code == 503)
        response_header(response, "Retry-After", "1");
    return response;
}

static Response *
answer_to_json_error(const GError *error)
{
    switch ((JsonError)error->code) {
    case JSON_ERROR_SYNTAX:
        return response_error(400, "M_NOT_JSON", "%s", error->message);
    case JSON_ERROR_TOO_LARGE:
        return response_error(413, "M_TOO_LARGE", "%s", error->message);
    default:
        return response_error(400, "M_BAD_JSON", "%s", error->message);
    }
}

static Response *
answer_unavailable(void)
{
    Response *response =
        response_error(503, "M_UNKNOWN", "The server cannot do this just now: try again shortly");

    response_header(response, "Retry-After", "1");
    return response;
}

Response *
dispatcher_answer_to_error(Request *request, const GError *error)
{
    const char *route = request->route != NULL ? request->route->path : "-";

    if (error == NULL) {
        g_critical("%s %s: a handler failed without saying why", request->method, route);
        return response_error(500, "M_UNKNOWN", "The server failed at this");
    }
    if (error->domain == REFUSAL)
        return answer_to_refusal(request, error);
    if (error->domain == JSON_ERROR)
        return answer_to_json_error(error);
    g_warning("%s %s: %s", request->method, route, error->message);
    if (error->domain == STORE_ERROR &&
        (error->code == STORE_ERROR_UNAVAILABLE || error->code == STORE_ERROR_BUSY))
        return answer_unavailable();
    return response_error(500, "M_UNKNOWN", "The server failed at this; its log says why");
}

static Response *
judge_rate(const Request *request, const char *caller)
{
    gint64 retry_ms = 0;
    Response *response;

    if (!request->front->settings.rate_limits ||
        rate_limits_take(request->front->rates, request->route->rate, caller, clock_interval_ms(),
                         &retry_ms))
        return NULL;
    response =
        response_error(429, "M_LIMIT_EXCEEDED",
                       "Too many requests of this kind: wait %" G_GINT64_FORMAT " ms", retry_ms);
    response_error_set(response, "retry_after_ms", cJSON_CreateNumber((double)retry_ms));
    g_autofree char *seconds = g_strdup_printf("%" G_GINT64_FORMAT, (retry_ms + 999) / 1000);
    response_header(response, "Retry-After", seconds);
    return response;
}

static gboolean
authenticate(Request *request, GError **error)
{
    const Callers *callers = request->front->callers;
    Caller caller = request->route->caller;

    switch (caller) {
    case CALLER_USER:
        /* The header is there: judge_token_present(). */
        request->session = callers->user(
            request->server, request_header(request, "Authorization") + strlen("Bearer "), error);
        return request->session != NULL;
    case CALLER_PARTNER:
    case CALLER_HANDSHAKE:
        request->partner =
            callers->partner(request->server, request, caller == CALLER_PARTNER, error);
        return request->partner != NULL;
    case CALLER_ANYONE:
    case CALLER_CERTIFICATE:
        break;
    }
    return TRUE;
}

static const JsonLimits *
json_limits(BodyKind kind)
{
    switch (kind) {
    case BODY_JSON_CONTENT:
        return &json_limits_content;
    case BODY_JSON_KEYS:
        return &json_limits_keys;
    case BODY_JSON_MEMBER:
        return &json_limits_member;
    case BODY_JSON_TRANSACTION:
        return &json_limits_transaction;
    default:
        return &json_limits_request;
    }
}

static gboolean
read_json(Request *request, GError **error)
{
    gsize length;
    const char *bytes = g_bytes_get_data(request->body, &length);
    BodyKind kind = request->route->body;

    if (!is_json_kind(kind))
        return TRUE;
    if (length == 0) {
        request->json = cJSON_CreateObject();
        return TRUE;
    }
    request->json = json_parse(bytes, length, json_limits(kind), error);
    if (request->json == NULL)
        return FALSE;
    if (!cJSON_IsObject(request->json)) {
        refusal_set(error, 400, "M_BAD_JSON", "The body must be a JSON object");
        return FALSE;
    }
    return TRUE;
}

static Response *
run_handler(Request *request, GError **error)
{
    const char *rate_key;
    Response *limited;

    /* What the caller's name is not needed for is limited by address, before any work. */
    if (request->route->caller != CALLER_USER) {
        limited = judge_rate(request, request->peer_address);
        if (limited != NULL)
            return limited;
    }
    if (!authenticate(request, error))
        return NULL;
    rate_key = request_user_id(request);
    limited = rate_key != NULL ? judge_rate(request, rate_key) : NULL;
    if (limited != NULL)
        return limited;
    if (!read_json(request, error))
        return NULL;
    if (request->route->caller == CALLER_PARTNER &&
        !request->front->callers->partner_body(
            request->server, request, g_bytes_get_size(request->body) > 0 ? request->json : NULL,
            error))
        return NULL;
    return request->route->handler(request, error);
}

void
dispatcher_run(gpointer data)
{
    Request *request = data;
    g_autoptr(GError) error = NULL;
    Response *response = run_handler(request, &error);

    if (response == response_later())
        return; /* whoever goes on holds our reference now */
    if (response == NULL)
        response = dispatcher_answer_to_error(request, error);
    request_finish(request, response);
    request_unref(request);
}
