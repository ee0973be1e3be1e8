/* federation/room/power_value.h: one level as JSON has it.  For power_levels.c and event_auth.c. */
#pragma once

#include "federation/room/room_version.h"

#include <cjson/cJSON.h>

/* FALSE if @value (NULL too) is no level in this version; *ret_level is then untouched. */
gboolean power_value(const RoomVersion *version, const cJSON *value, gint64 *ret_level);
