/* tests/support/sim_world.h: five servers (sim_server.h) of one room and the network between them,
 * which loses, delays, doubles, reorders and spoils.  The clock and all chance are the world's: one
 * seed is one story.  For tests/simulation/ and sim_life.h.
 *
 * The first thing that goes wrong is kept in `failure`; from then on nothing more happens. */
#pragma once

#include "tests/support/sim_server.h"

#define SIM_SERVERS 5
#define SIM_USERS_OF_SERVER 3 /* the first is resident: an administrator who never leaves */
#define SIM_LEAVER 4          /* but on this server, whose users may all leave, and come back */
#define SIM_USERS (SIM_SERVERS * SIM_USERS_OF_SERVER)
#define SIM_CLOCKS_APART_MS_MAX 3000

typedef struct {
    guint events, accepted, soft_failed, rejected, refused, redacted;
    guint messages, lost, doubled, partitions, restarts, deaths, ends_most, walked_back;
    guint bans, unbans, kicks, leaves, rejoins, across; /* accepted; across a partition */
    guint departures, returns, untold;                  /* of a whole server */
} SimFigures;

typedef struct SimWorld SimWorld;
typedef struct {
    SimWorld *world;
    guint index;
    SimServer *server;
    gint64 skew_ms;
    /* Durable: what this server sent, and who (bits) has it. */
    GPtrArray *own;
    GHashTable *got;
} SimPlace;

struct SimWorld {
    const RoomVersion *version;
    ServerKey *key;
    GRand *chance;
    gint64 now_ms;
    gboolean whole; /* the network is healed */
    guint group[SIM_SERVERS];
    SimPlace places[SIM_SERVERS];
    GSequence *network; /* Message */
    guint64 numbers;
    guint own_ids;
    GHashTable *origins; /* event id -> index + 1 of the place that sends it around */
    guint founding;      /* how many events all servers had from the start */
    SimFigures *figures;
    gboolean wordy;
    char *failure; /* NULL while all is well */
};

extern const char *const sim_user_ids[SIM_USERS]; /* [server * SIM_USERS_OF_SERVER + n] */
extern const char *const sim_server_names[SIM_SERVERS];

/* The servers with a room that all of them are in.  @figures is borrowed, and added to. */
SimWorld *sim_world_new(const RoomVersion *version, guint32 seed, SimFigures *figures);
void sim_world_free(SimWorld *world);

guint sim_pick(SimWorld *world, guint count); /* 0 to @count - 1 */
gboolean sim_happens(SimWorld *world, guint percent);
void sim_tell(SimWorld *world, const char *format, ...) G_GNUC_PRINTF(2, 3);
void sim_fail(SimWorld *world, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* An event of @from's on its way to @to, if the network lets it. */
void sim_world_send(SimWorld *world, guint from, guint to, const SimStored *stored);
/* Let time go by until @until_ms, or until nothing is on its way. */
void sim_pass_time(SimWorld *world, gint64 until_ms);
/* The network is whole, and all that was lost is sent again. */
void sim_world_heal(SimWorld *world);
