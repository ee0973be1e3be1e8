/* storage/migrate.h: the numbered schema changes, storage/migrations/NNNN_name.sql, built into the
 * program. For server/command/migrate.c, the start of the server, and tests. */
#pragma once

#include "storage/store.h"

typedef struct {
    unsigned number; /* rising by one from 1 */
    const char *name;
    const char *sql;
} StoreMigration;

extern const StoreMigration store_migrations[]; /* made from the SQL files at build time */
extern const unsigned store_migration_count;

/* Apply what is missing, each migration in a transaction of its own, all under one advisory lock.
 * STORE_ERROR_NEWER when the database knows a migration that this program does not. */
gboolean store_migrate(StorePool *pool, guint *ret_applied, GError **error);
