#include "server/client/stream_token.h"

#include <string.h>

/* One number of a token; *text moves behind it. */
static gboolean
take_number(const char **text, gint64 *ret_number)
{
    char *end = NULL;
    const char *start = **text == '-' ? *text + 1 : *text;
    if (!g_ascii_isdigit(*start))
        return FALSE;
    *ret_number = g_ascii_strtoll(*text, &end, 10);
    if (*ret_number == G_MAXINT64 || *ret_number == G_MININT64)
        return FALSE;
    *text = end;
    return TRUE;
}

static gboolean
take_separator(const char **text)
{
    if (**text != '_')
        return FALSE;
    (*text)++;
    return TRUE;
}

char *
sync_token_format(const SyncToken *token)
{
    return g_strdup_printf("s%" G_GINT64_FORMAT "_%" G_GINT64_FORMAT "_%" G_GINT64_FORMAT
                           "_%" G_GINT64_FORMAT "%s",
                           token->epoch, token->position, token->typing, token->to_device,
                           token->unacknowledged ? "a" : "");
}

gboolean
sync_token_parse(const char *text, SyncToken *ret_token)
{
    SyncToken token = {0};
    if (text == NULL || *text++ != 's' || !take_number(&text, &token.epoch) ||
        !take_separator(&text) || !take_number(&text, &token.position) || !take_separator(&text) ||
        !take_number(&text, &token.typing) || !take_separator(&text) ||
        !take_number(&text, &token.to_device) || token.position < 0)
        return FALSE;
    token.unacknowledged = *text == 'a';
    if (text[token.unacknowledged ? 1 : 0] != '\0')
        return FALSE;
    *ret_token = token;
    return TRUE;
}

char *
room_token_format(gint64 position)
{
    return g_strdup_printf("t%" G_GINT64_FORMAT, position);
}

gboolean
room_token_parse(const char *text, gint64 *ret_position)
{
    SyncToken sync;
    if (sync_token_parse(text, &sync)) {
        *ret_position = sync.position;
        return TRUE;
    }
    gint64 position = 0;
    if (text == NULL || *text++ != 't' || !take_number(&text, &position) || *text != '\0')
        return FALSE;
    *ret_position = position;
    return TRUE;
}
