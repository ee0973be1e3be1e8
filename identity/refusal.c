#include "identity/refusal.h"

#include <string.h>

G_DEFINE_QUARK(chancery - refusal, refusal)

void
refusal_set(GError **error, guint status, const char *errcode, const char *sentence, ...)
{
    va_list values;
    va_start(values, sentence);
    g_autofree char *text = g_strdup_vprintf(sentence, values);
    va_end(values);
    g_set_error(error, REFUSAL, (int)status, "%s: %s", errcode, text);
}

char *
refusal_errcode(const GError *error, const char **ret_sentence)
{
    const char *colon = strstr(error->message, ": ");
    *ret_sentence = colon != NULL ? colon + 2 : error->message;
    return colon != NULL ? g_strndup(error->message, (gsize)(colon - error->message))
                         : g_strdup("M_UNKNOWN");
}
