/* storage/serving_role.h: two roles of one database.
 *
 * The owner made the tables (`chancery migrate` with the owner's connection); the serving role
 * (`chancery serve`) may write everywhere but in the audit log, which it may only read and append
 * to.  With one role for both, a trigger still refuses change and removal of audit lines, but that
 * role could drop the trigger.
 *
 * For server/command/migrate.c, the start of the server, and tests. */
#pragma once

#include "storage/store.h"

/* Run by the owner after each store_migrate(): gives @role what serving needs and no more. */
gboolean serving_role_grant(StoreConnection *owner, const char *role, GError **error);
/* The role of this connection; free with g_free. */
gboolean serving_role_name(StoreConnection *connection, char **ret_name, GError **error);
/* *ret_narrow FALSE: the connection's role could change audit lines or owns the table (superusers
 * too). */
gboolean serving_role_is_narrow(StoreConnection *connection, gboolean *ret_narrow, GError **error);

extern const StoreStatement serving_role_statements[];
extern const guint serving_role_statement_count;
