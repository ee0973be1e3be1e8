/* server/server.h: the services of one process, made by server/serve.c in the order of the floors
 * and ended in the reverse.  Handlers reach them through request_server().  Each service has its
 * own header and its own lock; this struct never changes while requests run. */
#pragma once

#include <glib.h>

typedef struct Config Config;         /* server/config.h */
typedef struct StorePool StorePool;   /* storage/store.h */
typedef struct Lane Lane;             /* storage/lane.h */
typedef struct LogRing LogRing;       /* storage/log_ring.h */
typedef struct ServerKey ServerKey;   /* identity/server_key.h: our signing key */
typedef struct Sessions Sessions;     /* identity/session.h: access tokens, live */
typedef struct Challenges Challenges; /* identity/challenge.h: log-in challenges */
typedef struct Audit Audit;           /* identity/audit.h: every decision's line */
typedef struct Certificates
    Certificates;                 /* identity/certificate.h: trust anchors, CRLs, the chain check */
typedef struct Rooms Rooms;       /* federation/rooms.h: the rooms' memory, on the lane */
typedef struct Partners Partners; /* federation/partner.h: the allow-list in force */
typedef struct PartnerClient PartnerClient; /* federation/partner_client.h: outgoing requests */
typedef struct Delivery Delivery; /* federation/delivery.h: what partners are still to be told */
typedef struct Outgoing
    Outgoing; /* federation/outgoing.h: joins, invites, leaves over federation */
typedef struct Transactions Transactions; /* federation/transaction.h: what partners send us */
typedef struct SyncHub SyncHub;           /* server/client/sync_hub.h: who waits for what */
typedef struct Filters Filters;           /* server/client/filter.h */
typedef struct Unread Unread;             /* server/client/unread.h */
typedef struct Typing Typing;             /* server/client/typing.h */
typedef struct RoomTransactions RoomTransactions; /* server/client/room_transactions.h */
typedef struct SentTransactions SentTransactions; /* server/client/sent_transactions.h */

typedef struct Server {
    Config *config;
    const char *name; /* our server name */
    StorePool *pool;
    LogRing *ring;
    Lane *lane;
    ServerKey *key;
    Certificates *certificates;
    Audit *audit;
    Sessions *sessions;
    Challenges *challenges;
    Partners *partners;
    PartnerClient *partner_client;
    Rooms *rooms;
    Delivery *delivery;
    Outgoing *outgoing;
    Transactions *transactions;
    SyncHub *sync;
    Filters *filters;
    Unread *unread;
    Typing *typing;
    RoomTransactions *room_transactions;
    SentTransactions *sent_transactions;
} Server;
