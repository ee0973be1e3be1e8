#include "server/access_log.h"

#include <string.h>

static gboolean
is_method(const char *method)
{
    return strlen(method) <= 16 && strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(method);
}

char *
access_log_format(const AccessLine *line)
{
    /* A caller's name was checked by whoever authenticated it; escaped all the same. */
    g_autofree char *caller = line->caller != NULL ? g_strescape(line->caller, NULL) : NULL;

    return g_strdup_printf("%s %s %s %u %" G_GSIZE_FORMAT " bytes %" G_GINT64_FORMAT ".%03d ms %s",
                           line->listener, is_method(line->method) ? line->method : "?",
                           line->route != NULL ? line->route : "(no such route)", line->status,
                           line->body_bytes, line->took_us / 1000, (int)(line->took_us % 1000),
                           caller != NULL ? caller : "-");
}

void
access_log_write(const AccessLine *line)
{
    g_autofree char *text = access_log_format(line);

    g_log("access", G_LOG_LEVEL_MESSAGE, "%s", text);
}
