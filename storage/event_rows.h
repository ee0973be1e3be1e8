/* storage/event_rows.h: how a stored event is selected and read.  For the stores of storage/ only.
 */
#pragma once

#include "storage/event_store.h"

/* Of table event under the name e; read by event_rows_run(). */
#define EVENT_COLUMNS                                                                              \
    "e.room_id, e.event_id, e.type, e.state_key, e.sender, e.depth, e.origin_server_ts, e.status," \
    " e.local, e.state_before, e.state_after, e.reason, e.json,"                                   \
    " e.device_id, e.txn_id,"                                                                      \
    " (SELECT position FROM log WHERE log.kind = 1 AND log.ref = e.event_id"                       \
    " AND log.room_id = e.room_id LIMIT 1)"

/* Run a statement that selects EVENT_COLUMNS: GPtrArray of StoredEvent, owned. */
GPtrArray *event_rows_run(StoreConnection *connection, const StoreStatement *statement,
                          StoreArguments *arguments, GError **error);
