/* server/http/response.h: an answer: status, headers, bytes.
 *
 * JSON answers are spliced from bytes: events are stored as canonical JSON and go out as they are.
 * For every handler.  A Response is made once, given to the dispatcher, and freed by it. */
#pragma once

#include <glib.h>

#include "identity/json.h"

typedef struct Response Response;
void response_free(Response *response);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Response, response_free)

/* @body is a whole JSON text and is consumed. */
Response *response_json(guint status, GString *body);
/* @value is consumed; 500 if it has no JSON form. */
Response *response_value(guint status, cJSON *value);
Response *response_empty_object(void); /* 200 {} */
/* The specification's error body.  @sentence says what is wrong and what to do. */
Response *
response_error(guint status, const char *errcode, const char *sentence, ...) G_GNUC_PRINTF(3, 4);
Response *response_bytes(guint status, const char *content_type, GBytes *body);
Response *response_text(guint status, const char *content_type, const char *body);
Response *response_redirect(const char *location);
/* Add a member to a JSON error body (soft_logout, retry_after_ms, flows …); @value consumed. */
void response_error_set(Response *response, const char *key, cJSON *value);
/* @name and @value are ours or checked: no line breaks. */
void response_header(Response *response, const char *name, const char *value);
