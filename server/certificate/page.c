#include "server/certificate/page.h"
#include "identity/sha256.h"

#include <string.h>

/* Client-server API, "Fallback": how the client's window is told. */
static const char done_script[] =
    "if(window.onAuthDone){window.onAuthDone();}"
    "else "
    "if(window.opener&&window.opener.postMessage){window.opener.postMessage(\"authDone\",\"*\");}";

static const char style[] =
    "body{font:1.1em/1.5 sans-serif;max-width:36em;margin:4em auto;padding:0 1em}"
    "button{font:inherit;padding:.5em 1.5em}";

/* 'sha256-…' of a fixed text, as a content security policy names it. */
static char *
policy_hash(const char *text)
{
    guint8 hash[SHA256_BYTES];
    sha256(text, strlen(text), hash);
    g_autofree char *base64 = g_base64_encode(hash, sizeof hash);
    return g_strdup_printf("'sha256-%s'", base64);
}

static Response *
page_build(guint status, const char *title, const char *text, const char *more_html,
           const char *script)
{
    g_autofree char *title_html = g_markup_escape_text(title, -1);
    g_autofree char *text_html = g_markup_escape_text(text, -1);
    g_autofree char *style_hash = policy_hash(style);
    g_autofree char *script_hash = script != NULL ? policy_hash(script) : g_strdup("'none'");
    g_autofree char *policy =
        g_strdup_printf("default-src 'none'; style-src %s; script-src %s; form-action 'self'; "
                        "base-uri 'none'; frame-ancestors 'none'",
                        style_hash, script_hash);
    g_autofree char *html = g_strdup_printf(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
        "<meta name=\"viewport\" content=\"width=device-width\"><title>%s</title>"
        "<style>%s</style></head><body><h1>%s</h1><p>%s</p>%s%s%s%s</body></html>\n",
        title_html, style, title_html, text_html, more_html, script != NULL ? "<script>" : "",
        script != NULL ? script : "", script != NULL ? "</script>" : "");
    Response *response = response_text(status, "text/html; charset=utf-8", html);
    response_header(response, "Content-Security-Policy", policy);
    response_header(response, "X-Frame-Options", "DENY");
    response_header(response, "X-Content-Type-Options", "nosniff");
    response_header(response, "Referrer-Policy", "no-referrer");
    response_header(response, "Cache-Control", "no-store");
    return response;
}

Response *
page_new(guint status, const char *title, const char *text)
{
    return page_build(status, title, text, "", NULL);
}

Response *
page_ask(const char *title, const char *text, const char *button)
{
    g_autofree char *button_html = g_markup_escape_text(button, -1);
    g_autofree char *form = g_strdup_printf(
        "<form method=\"post\"><button type=\"submit\">%s</button></form>", button_html);
    return page_build(200, title, text, form, NULL);
}

Response *
page_done(const char *title, const char *text)
{
    return page_build(200, title, text, "", done_script);
}
