#include "federation/room/pdu_members.h"

#include <string.h>

/* Behind the closing quote of the string that opens at @at; @length when there is none. */
static gsize
string_end(const char *bytes, gsize length, gsize at)
{
    for (at++; at < length; at++) {
        if (bytes[at] == '\\')
            at++;
        else if (bytes[at] == '"')
            return at + 1;
    }
    return length;
}

/* Behind the value at @at: where, outside strings and brackets, a comma or the closing brace
 * stands. */
static gsize
value_end(const char *bytes, gsize length, gsize at)
{
    gsize depth = 0;
    while (at < length) {
        char c = bytes[at];
        if (c == '"') {
            at = string_end(bytes, length, at);
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}'))
            return at;
        if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']')
            depth--;
        at++;
    }
    return length;
}

GArray *
pdu_members(const char *bytes, gsize length)
{
    g_autoptr(GArray) members = g_array_sized_new(FALSE, FALSE, sizeof(PduMember), 16);
    gsize at = 1;

    if (length < 2 || bytes[0] != '{' || bytes[length - 1] != '}')
        return NULL;
    if (length == 2)
        return g_steal_pointer(&members);
    while (at < length && bytes[at] == '"') {
        PduMember member = {.key = bytes + at + 1};
        gsize end = string_end(bytes, length, at);
        if (end >= length || bytes[end] != ':')
            return NULL;
        member.key_length = end - 1 - (at + 1);
        member.value = bytes + end + 1;
        at = value_end(bytes, length, end + 1);
        if (at >= length)
            return NULL;
        member.value_length = (gsize)(bytes + at - member.value);
        g_array_append_val(members, member);
        if (bytes[at] == '}')
            return at == length - 1 ? g_steal_pointer(&members) : NULL;
        at++;
    }
    return NULL;
}

gboolean
pdu_member_is(const PduMember *member, const char *key)
{
    return member->key_length == strlen(key) && memcmp(member->key, key, member->key_length) == 0;
}

const PduMember *
pdu_member_find(const GArray *members, const char *key)
{
    for (guint i = 0; i < members->len; i++) {
        const PduMember *member = &g_array_index(members, PduMember, i);
        if (pdu_member_is(member, key))
            return member;
    }
    return NULL;
}

static void
append_member(GString *out, const char *key, gsize key_length, const char *value,
              gsize value_length)
{
    if (out->len > 0 && out->str[out->len - 1] != '{')
        g_string_append_c(out, ',');
    g_string_append_c(out, '"');
    g_string_append_len(out, key, (gssize)key_length);
    g_string_append(out, "\":");
    g_string_append_len(out, value, (gssize)value_length);
}

static gboolean
named_in(const PduMember *member, const char *const *names)
{
    for (guint i = 0; names[i] != NULL; i++)
        if (pdu_member_is(member, names[i]))
            return TRUE;
    return FALSE;
}

void
pdu_members_append_without(GString *out, const GArray *members, const char *const *without)
{
    g_string_append_c(out, '{');
    for (guint i = 0; i < members->len; i++) {
        const PduMember *member = &g_array_index(members, PduMember, i);
        if (!named_in(member, without))
            append_member(out, member->key, member->key_length, member->value,
                          member->value_length);
    }
    g_string_append_c(out, '}');
}

/* They stand beside one another in the text that they were read from. */
static gsize
members_length(const GArray *members)
{
    const PduMember *all = (const PduMember *)members->data;

    return members->len == 0 ? 0
                             : (gsize)(all[members->len - 1].value - all[0].key) +
                                   all[members->len - 1].value_length;
}

GBytes *
pdu_members_with(const GArray *members, const char *key, const char *value_json)
{
    GString *out = g_string_sized_new(members_length(members) + strlen(value_json) + 64);
    gsize key_length = strlen(key);
    gboolean placed = FALSE;

    g_string_append_c(out, '{');
    for (guint i = 0; i < members->len; i++) {
        const PduMember *member = &g_array_index(members, PduMember, i);
        int order = memcmp(key, member->key, MIN(key_length, member->key_length));
        if (order == 0)
            order = key_length < member->key_length ? -1 : key_length > member->key_length;
        if (order <= 0 && !placed) {
            append_member(out, key, key_length, value_json, strlen(value_json));
            placed = TRUE;
        }
        if (order != 0)
            append_member(out, member->key, member->key_length, member->value,
                          member->value_length);
    }
    if (!placed)
        append_member(out, key, key_length, value_json, strlen(value_json));
    g_string_append_c(out, '}');
    return g_string_free_to_bytes(out);
}
