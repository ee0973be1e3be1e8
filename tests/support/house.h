/* tests/support/house.h: servers of a federation inside one test process: each with a database of
 * its own, a partner listener, and everything between; what is above (clients, log-in) is left out.
 *
 * The lists that they are under are signed by a real federation officer of a small PKI
 * (tests/pki/make_pki). */
#pragma once

#include "server/http/front.h"
#include "server/server.h"
#include "tests/support/database.h"

#include "federation/delivery.h"
#include "federation/outgoing.h"
#include "federation/partner.h"
#include "federation/partner_client.h"
#include "federation/rooms.h"
#include "federation/transaction.h"
#include "identity/record_key.h"
#include "identity/server_key.h"

typedef struct Houses Houses;

typedef struct {
    Houses *houses;
    Server server; /* for calls into it */
    char *short_name;
    char *address; /* of the partner listener, once it listens */
    TestDatabase *database;
    RecordKey *record_key;
    FrontEnd *front; /* NULL while it is away */
    const Route *const *tables;
} House;

/* One PKI and @names ("alpha", "beta" …: servers alpha.example …), ended by NULL; all serve, none
 * has a list. Ends the program with a message where openssl is missing. */
Houses *houses_new(const char *const *names);
void houses_free(Houses *houses);
House *houses_get(Houses *houses, const char *short_name);

/* The entry of @house as a partner's list has it; the test may spoil it. */
cJSON *house_entry(House *house);
/* Sign a list of @entries (an array, consumed) with @serial by person @signer ("officer"; another
 * one must be refused) and import it into @house. */
gboolean
house_import(House *house, gint64 serial, cJSON *entries, const char *signer, GError **error);
/* The same in two steps, for what happens to a file on its way. */
GBytes *
house_sign_list(House *house, gint64 serial, cJSON *entries, const char *signer, GError **error);
/* Import through the database alone, as another process would: the house must find out by itself.
 */
void house_import_elsewhere(House *house, GBytes *file);
/* @house's first list names @partners (ended by NULL); serial 1. */
void house_list(House *house, House *const *partners);

/* The partner listener goes away, and comes back at the same address. */
void house_leave(House *house);
void house_return(House *house);
/* It comes back with @tables (ended by NULL, borrowed) in the place of what it serves. */
void house_serve(House *house, const Route *const *tables);

/* ---- acts, awaited ---- */
/* A public room of @user with its first five events; its id. */
char *house_make_room(House *house, const char *user_id, const char *join_rule);
/* One event; its id.  @state_key NULL: a message. @content JSON text. NULL with @error when
 * refused. */
char *house_send(House *house, const char *room_id, const char *user_id, const char *type,
                 const char *state_key, const char *content, GError **error);
/* The same, one that must not be refused and whose id does not matter. */
void house_act(House *house, const char *room_id, const char *user_id, const char *type,
               const char *state_key, const char *content);
gboolean
house_join(House *house, const char *room_id, const char *user_id, const char *via, GError **error);
gboolean house_invite(House *house, const char *room_id, const char *sender, const char *target,
                      GError **error);
gboolean house_leave_room(House *house, const char *room_id, const char *user_id, const char *via,
                          GError **error);
/* Waits until the log of @house has @event_id; fails the test after 20 s. */
void house_await_event(House *house, const char *event_id);
/* How often the log of @house has it. */
gint64 house_count_event(House *house, const char *event_id);
/* Waits until @sql (one integer) gives @value; fails the test after 20 s. */
void house_await_count(House *house, const char *sql, gint64 value);

/* A request from @from to @to by @from's own client, awaited. @content JSON text or NULL. The
 * answer's body is *ret_body (may be NULL). FALSE with @error as the client gives it. */
gboolean house_request(House *from, House *to, const char *method, const char *target,
                       const char *content, GBytes **ret_body, GError **error);

/* The same with everything chosen by the test, over a TLS connection of its own: the status, 0 when
 * the connection is refused.  NULL members: as an honest request from @as has them. */
typedef struct {
    House *as;               /* whose certificate and key */
    House *signs;            /* whose signing key; default: as */
    const char *origin;      /* default: as */
    const char *destination; /* default: to */
    const char *key_id;
    const char *authorization; /* the whole header; "" : none */
    const char *signed_target; /* what is signed, if not the target */
    const char *signed_content;
    gboolean no_certificate;
} RawRequest;
guint house_raw(House *to, const RawRequest *raw, const char *method, const char *target,
                const char *content, char **ret_body);
void house_assert_status(House *to, const RawRequest *raw, const char *method, const char *target,
                         const char *content, guint status);

/* ---- events that a server has prepared and sent to nobody yet ---- */

/* What stands in another event's place: members left NULL are those of a plain message by the user
 * who was asked for. */
typedef struct {
    const char *type, *sender, *content; /* JSON text */
    const char *state_key;
    const char *prev_event; /* in the place of all */
    const char *room_id;
} HouseEvent;

/* The membership event that @resident's make_join, make_knock or make_leave gives for @user_id now,
 * or @instead on the same auth events, signed by @house. */
Pdu *house_prepare(House *house, House *resident, const char *room_id, const char *user_id,
                   const char *membership, const HouseEvent *instead);
/* Its JSON; free with g_free. */
char *house_pdu_text(const Pdu *pdu);
/* What @to says of it in a transaction of @from's: an error's text, or NULL when it was taken. */
char *house_verdict(House *from, House *to, const Pdu *pdu);
