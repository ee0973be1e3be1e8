/* federation/delivery.h: everything that partners are still to be told.
 *
 * Each partner has a durable queue: rows written in the batch of the event itself, so nothing
 * committed is ever forgotten.  A transaction (at most 50 PDUs, 100 EDUs) is made from the head of
 * the queue and stored with its id before it is sent; a retry is byte for byte the same; the answer
 * 200 removes both in one step. Back-off is exponential, up to an hour, and ends when the partner
 * calls us.  Names that are not on the allow-list get no rows; what waits for a dropped partner is
 * removed.  For federation/ and server/. */
#pragma once

#include "federation/partner_client.h"
#include "federation/rooms.h"
#include "storage/lane.h"

#define DELIVERY_PDUS_MAX 50
#define DELIVERY_EDUS_MAX 100

typedef struct Delivery Delivery;

/* All borrowed. Registers itself as the rooms' delivery and with @ring.  Nothing is sent before
 * delivery_start. */
Delivery *delivery_new(const char *own_name, StorePool *pool, LogRing *ring, Rooms *rooms,
                       Partners *partners, PartnerClient *client, GError **error);
/* For programs with shorter patience (tests/openserver): first and longest pause between tries. */
void delivery_set_back_off(Delivery *delivery, guint first_ms, guint longest_ms);
void delivery_start(Delivery *delivery);
/* Before the partner client and the lane end. */
void delivery_stop(Delivery *delivery);
/* After partner_client_free(), whose callbacks it gets, and lane_stop(). */
void delivery_free(Delivery *delivery);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Delivery, delivery_free)

/* Durable EDUs (to-device, device lists), inside a lane operation.  @edu: JSON {"edu_type",
 * "content"}. */
void delivery_queue_edu(LaneBatch *batch, Delivery *delivery, const char *server_name, GBytes *edu);
/* Volatile EDUs (typing, receipts): in memory, dropped with the process or when a partner stays
 * away.
 * @replaces (may be NULL): a newer EDU with the same word takes the older one's place.  Any thread.
 */
void delivery_send_edu(Delivery *delivery, const char *const *servers, GBytes *edu,
                       const char *replaces);
/* The partner lives: it has just called us.  Any thread, cheap. */
void delivery_wake(Delivery *delivery, const char *server_name);

/* Calls @done once @server_name has been told what of @room_id waits for it now: at once when that
 * is nothing, and when an attempt to tell it fails.  For who asks that partner to let a user back
 * into a room: its answer must stand on what happened here before (outgoing.c).  @done comes once,
 * on the calling thread or the partner client's.  Any thread. */
typedef void (*DeliveryTold)(gpointer data);
void delivery_when_told(Delivery *delivery, const char *server_name, const char *room_id,
                        DeliveryTold done, gpointer data);

/* The list has changed (PartnersChanged): drop what waits for names that are on it no more, try the
 * others. */
void delivery_recheck(Delivery *delivery);
