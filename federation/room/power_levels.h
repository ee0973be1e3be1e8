/* federation/room/power_levels.h: who may do what, out of m.room.create and m.room.power_levels.
 * Pure; any thread.  Source: client-server API, "m.room.power_levels"; rooms/v12.md. */
#pragma once

#include "federation/room/pdu.h"

/* A user's power.  A creator's in version 12 is above every number, so it is no number. */
typedef struct {
    gboolean infinite;
    gint64 level; /* 0 when infinite */
} Power;

int power_compare(Power a, Power b); /* -1, 0, 1 */
gboolean power_at_least(Power power, gint64 level);

typedef enum {
    POWER_ACTION_INVITE,
    POWER_ACTION_KICK,
    POWER_ACTION_BAN,
    POWER_ACTION_REDACT,
} PowerAction;

/* A view that borrows both events: they must outlive it. */
typedef struct {
    const Pdu *create;       /* never NULL */
    const Pdu *power_levels; /* NULL: the room has none */
} PowerLevels;

Power power_of_user(const PowerLevels *levels, const char *user_id);
gint64 power_level_to_send(const PowerLevels *levels, const char *type, gboolean is_state);
gint64 power_level_for(const PowerLevels *levels, PowerAction action);
/* To notify the whole room: @what is "room". */
gint64 power_level_to_notify(const PowerLevels *levels, const char *what);

/* May @redaction be carried out on @redacted (rooms/v3: "Handling redactions")?  The power to
 * redact, or the same server as the one that sent the event; in versions 1 and 2 as the one that
 * its event id names (the auth rules have said so already). */
gboolean power_may_redact(const PowerLevels *levels, const Pdu *redaction, const Pdu *redacted);
