/* federation/room/pdu_members.h: the members of a canonical JSON object as byte ranges, so that
 * events are hashed, redacted and answered by splicing.  For federation/room/ alone; bytes from
 * outside go through json_parse() and json_canonical() first.  Pure. */
#pragma once

#include <glib.h>

typedef struct {
    const char *key; /* between the quotes, as written */
    gsize key_length;
    const char *value;
    gsize value_length;
} PduMember;

/* PduMember entries in the order of the bytes, borrowing from them.  NULL if @bytes is not one
 * whole canonical object. */
GArray *pdu_members(const char *bytes, gsize length);

gboolean pdu_member_is(const PduMember *member, const char *key);
const PduMember *pdu_member_find(const GArray *members, const char *key);

/* Append the object with the members that are in none of @without (NULL-terminated). */
void pdu_members_append_without(GString *out, const GArray *members, const char *const *without);

/* The object with "@key":@value_json put in its place, in place of another of that name if there is
 * one. */
GBytes *pdu_members_with(const GArray *members, const char *key, const char *value_json);
