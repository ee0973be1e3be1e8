/* server/client/lane_call.h: a request that writes something through the lane and answers when it
 * is durable. For server/client. */
#pragma once

#include "server/http/request.h"
#include "storage/lane.h"

/* Runs @apply on the lane (maybe again after a rollback) with @data, which lives as long as the
 * request; answers {} after the commit, or the error.  Returns what the handler returns. */
Response *lane_call(Request *request, LaneApply apply, gpointer data, RequestFree free_function,
                    GError **error);
