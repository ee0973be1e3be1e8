#include "storage/serving_role.h"

enum {
    SERVING_ROLE_GRANT,
    SERVING_ROLE_NAME,
    SERVING_ROLE_IS_NARROW,
    N_STATEMENTS
};

const StoreStatement serving_role_statements[] = {
    [SERVING_ROLE_GRANT] = {"serving_role_grant", "SELECT grant_serving_role($1)::text"},
    [SERVING_ROLE_NAME] = {"serving_role_name", "SELECT current_user::text"},
    [SERVING_ROLE_IS_NARROW] =
        {"serving_role_is_narrow",
         "SELECT NOT (has_table_privilege(current_user, 'audit', 'UPDATE') OR "
         "has_table_privilege(current_user, 'audit', 'DELETE') OR "
         "has_table_privilege(current_user, 'audit', 'TRUNCATE'))"},
};
const guint serving_role_statement_count = N_STATEMENTS;

gboolean
serving_role_grant(StoreConnection *owner, const char *role, GError **error)
{
    return store_do(owner, &serving_role_statements[SERVING_ROLE_GRANT], store_arguments("t", role),
                    error);
}

gboolean
serving_role_is_narrow(StoreConnection *connection, gboolean *ret_narrow, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &serving_role_statements[SERVING_ROLE_IS_NARROW], NULL, error);
    if (rows == NULL)
        return FALSE;
    *ret_narrow = store_rows_boolean(rows, 0, 0);
    return TRUE;
}

gboolean
serving_role_name(StoreConnection *connection, char **ret_name, GError **error)
{
    g_autoptr(StoreRows) rows =
        store_run(connection, &serving_role_statements[SERVING_ROLE_NAME], NULL, error);
    if (rows == NULL)
        return FALSE;
    *ret_name = g_strdup(store_rows_text(rows, 0, 0));
    return TRUE;
}
