/* federation/room/pdu.h: one event of a room, as bytes that never change and a view into them.
 *
 * The canonical JSON in federation form is made once, checked once and kept; everything else here
 * borrows from it.  A Pdu is immutable and may be shared between threads.  It is made by
 * pdu_from_json() and pdu_from_value() out of what a partner sent, by pdu_build() (pdu_build.h)
 * for our own events, and by pdu_from_trusted_bytes() out of the database.
 *
 * To read a received event: pdu_from_json (format; failure: drop), signatures of
 * pdu_required_signers (pdu_sign.h; failure: drop), pdu_check_content_hash (failure: go on with
 * pdu_redacted), then event_auth.h.  "Rejected" and "soft-failed" are states that the rooms engine
 * keeps beside the event.
 *
 * The member "unsigned" of a received event is dropped: nobody vouches for it.
 * Pure; any thread.  Source: Matrix v1.19 server-server API, "PDUs"; rooms/v12.md. */
#pragma once

#include "federation/room/room_version.h"

#include <cjson/cJSON.h>
#include <glib.h>

#define PDU_BYTES_MAX 65536
#define PDU_FIELD_BYTES_MAX 255
#define PDU_PREV_EVENTS_MAX 20
#define PDU_AUTH_EVENTS_MAX 10

typedef struct {
    const RoomVersion *version;
    GBytes *bytes; /* canonical JSON, federation form, with signatures, without unsigned */
    const char *event_id;
    const char *room_id; /* always set: for a create event of version 12 it is derived */
    const char *type;
    const char *state_key; /* NULL: not a state event */
    const char *sender;
    gint64 origin_server_ts;
    gint64 depth;
    const char *const *prev_events; /* event ids, NULL-terminated */
    guint prev_event_count;
    const char *const *auth_events; /* event ids, NULL-terminated */
    guint auth_event_count;
    const cJSON *content;
    const char *membership; /* of m.room.member with a state key, if it is a string; else NULL */
    const char *redacts;    /* of m.room.redaction, wherever the version keeps it; NULL if absent */
    const cJSON *json;      /* the whole event; its objects have their keys in byte order */
} Pdu;

#define PDU_ERROR (pdu_error_quark())
GQuark pdu_error_quark(void);
typedef enum {
    PDU_ERROR_FORMAT,    /* not an event of this room version; the message says which member */
    PDU_ERROR_TOO_LARGE, /* more bytes than an event or one of its fields may have */
} PduError;

/* One event out of @length bytes from outside.  NULL with JSON_ERROR or PDU_ERROR on any doubt. */
Pdu *pdu_from_json(const RoomVersion *version, const char *bytes, gsize length, GError **error);

/* The same, of bytes that are in canonical form already and hold no "unsigned": what we built. */
Pdu *pdu_from_canonical(const RoomVersion *version, GBytes *bytes, GError **error);

/* The same, out of a tree that json_parse() made without floats: an entry of "pdus" in a
 * transaction.  Read with raw numbers, it may be of any version. */
Pdu *pdu_from_value(const RoomVersion *version, const cJSON *value, GError **error);

/* An event out of our own database: @bytes as Pdu.bytes had them, @event_id as it was.  Checks
 * nothing that pdu_from_json() has checked.  Fails only if the bytes are damaged. */
Pdu *pdu_from_trusted_bytes(const RoomVersion *version, const char *event_id, GBytes *bytes,
                            GError **error);

Pdu *pdu_ref(const Pdu *pdu); /* shared events are const; the count is not part of their value */
void pdu_unref(Pdu *pdu);     /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Pdu, pdu_unref)

gboolean pdu_is_state(const Pdu *pdu);
/* Has this type and state key; @state_key NULL asks for a message event. */
gboolean pdu_is(const Pdu *pdu, const char *type, const char *state_key);
/* "membership" of an m.room.member event; NULL for others. */
const char *pdu_membership(const Pdu *pdu);
/* About how many bytes of memory it holds: for bounded caches. */
gsize pdu_memory_size(const Pdu *pdu);

/* The event as its room version's redaction leaves it; the same event id.  Its signatures and
 * hashes stay.  NULL only if memory is damaged (with @error). */
Pdu *pdu_redacted(const Pdu *pdu, GError **error);

/* The SHA-256 reference hash in unpadded base64 (g_free): what versions 1 and 2 put beside the id
 * in prev_events and auth_events. */
char *pdu_reference_hash(const Pdu *pdu);

/* Is "hashes.sha256" the hash of the rest? If not, the event was redacted on its way (or
 * changed): go on with pdu_redacted(). */
gboolean pdu_check_content_hash(const Pdu *pdu);

/* What the client-server API splices into "unsigned". Zeroed: nothing. */
typedef struct {
    gboolean has_age;
    gint64 age_ms;
    const char *transaction_id;   /* only for the device that sent the event */
    const char *membership;       /* the reader's membership at the event (v1.11) */
    const cJSON *prev_content;    /* content of the state event that this one replaced */
    const char *prev_sender;      /* and who sent that one */
    const char *replaces_state;   /* and its event id */
    const char *redacted_because; /* bytes of the redaction event in client form */
    const char *relations;        /* bytes of the object "m.relations" */
} PduUnsigned;

/* Append @pdu in client form: content, event_id, origin_server_ts, redacts (both places), room_id
 * if @with_room_id (not in /sync), sender, state_key, type, unsigned.  @extra may be NULL. */
void pdu_client_json(const Pdu *pdu, gboolean with_room_id, const PduUnsigned *extra, GString *out);

/* Append @pdu as stripped state: content, sender, state_key, type. */
void pdu_stripped_json(const Pdu *pdu, GString *out);

/* Append the bytes of "content". */
void pdu_content_json(const Pdu *pdu, GString *out);
