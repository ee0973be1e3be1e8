#include "server/http/response_private.h"

#include <string.h>

#include "server/http/request.h"

#define JSON_TYPE "application/json"

static Response later;

Response *
response_later(void)
{
    return &later;
}

static Response *
response_new(guint status)
{
    Response *response = g_new0(Response, 1);
    response->status = status;
    response->headers = g_ptr_array_new_with_free_func(g_free);
    return response;
}

void
response_free(Response *response)
{
    if (response == NULL || response == &later)
        return;
    g_clear_pointer(&response->body, g_bytes_unref);
    g_clear_pointer(&response->error, cJSON_Delete);
    g_ptr_array_unref(response->headers);
    g_free(response);
}

void
response_header(Response *response, const char *name, const char *value)
{
    g_return_if_fail(strpbrk(name, "\r\n") == NULL && strpbrk(value, "\r\n") == NULL);
    g_ptr_array_add(response->headers, g_strdup(name));
    g_ptr_array_add(response->headers, g_strdup(value));
}

const char *
response_find_header(const Response *response, const char *name)
{
    for (guint i = 0; i + 1 < response->headers->len; i += 2)
        if (g_ascii_strcasecmp(response->headers->pdata[i], name) == 0)
            return response->headers->pdata[i + 1];
    return NULL;
}

Response *
response_bytes(guint status, const char *content_type, GBytes *body)
{
    Response *response = response_new(status);
    response->body = g_bytes_ref(body);
    response_header(response, "Content-Type", content_type);
    return response;
}

Response *
response_text(guint status, const char *content_type, const char *body)
{
    g_autoptr(GBytes) bytes = g_bytes_new(body, strlen(body));
    return response_bytes(status, content_type, bytes);
}

Response *
response_json(guint status, GString *body)
{
    g_autoptr(GBytes) bytes = g_string_free_to_bytes(body);
    return response_bytes(status, JSON_TYPE, bytes);
}

Response *
response_value(guint status, cJSON *value)
{
    g_autoptr(cJSON) owned = value;
    g_autofree char *text = owned != NULL ? cJSON_PrintUnformatted(owned) : NULL;

    if (text == NULL)
        return response_error(500, "M_UNKNOWN", "The answer could not be written");
    return response_text(status, JSON_TYPE, text);
}

Response *
response_empty_object(void)
{
    return response_text(200, JSON_TYPE, "{}");
}

Response *
response_error(guint status, const char *errcode, const char *sentence, ...)
{
    Response *response = response_new(status);
    va_list values;

    va_start(values, sentence);
    g_autofree char *text = g_strdup_vprintf(sentence, values);
    va_end(values);
    response_header(response, "Content-Type", JSON_TYPE);
    response->error = cJSON_CreateObject();
    cJSON_AddItemToObject(response->error, "errcode", cJSON_CreateString(errcode));
    cJSON_AddItemToObject(response->error, "error", cJSON_CreateString(text));
    return response;
}

void
response_error_set(Response *response, const char *key, cJSON *value)
{
    if (response->error != NULL)
        cJSON_AddItemToObject(response->error, key, value);
    else
        cJSON_Delete(value);
}

Response *
response_redirect(const char *location)
{
    Response *response = response_new(302);
    response_header(response, "Location", location);
    response_header(response, "Cache-Control", "no-store");
    return response;
}

GBytes *
response_body(Response *response)
{
    if (response->error != NULL) {
        g_autofree char *text = cJSON_PrintUnformatted(response->error);
        g_clear_pointer(&response->error, cJSON_Delete);
        g_clear_pointer(&response->body, g_bytes_unref);
        response->body = text != NULL ? g_bytes_new(text, strlen(text)) : NULL;
    }
    if (response->body == NULL)
        response->body = g_bytes_new_static("", 0);
    return response->body;
}
