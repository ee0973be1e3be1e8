/* tests/support/sim_life.h: what happens in a simulated world: its users act, its servers die,
 * forge, part and come together, as chance has it. */
#pragma once

#include "tests/support/sim_world.h"

/* Some dozens of such acts, and the time between them. */
void sim_live(SimWorld *world);

/* "leave" where @server knows no member event. */
const char *sim_membership(SimServer *server, const char *user_id);
/* @sender's event, by @place's server.  TRUE if the rules let it out. */
gboolean sim_send_as(SimWorld *world, SimPlace *place, const char *sender, const char *type,
                     const char *state_key, const cJSON *content, const char *redacts);
void sim_set_member(SimWorld *world, SimPlace *place, const char *sender, const char *target,
                    const char *membership);
