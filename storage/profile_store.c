#include "storage/profile_store.h"

enum {
    PROFILE_FIND,
    PROFILE_SET,
    N_STATEMENTS,
};

const StoreStatement profile_statements[] = {
    [PROFILE_FIND] = {"profile_find",
                      "SELECT displayname, avatar_url FROM profile WHERE user_id = $1"},
    [PROFILE_SET] = {"profile_set",
                     "INSERT INTO profile (user_id, displayname, avatar_url) VALUES ($1, $2, $3)"
                     " ON CONFLICT (user_id) DO UPDATE SET displayname = EXCLUDED.displayname,"
                     " avatar_url = EXCLUDED.avatar_url"},
};
const guint profile_statement_count = N_STATEMENTS;

void
profile_row_free(ProfileRow *row)
{
    if (row == NULL)
        return;
    g_free(row->displayname);
    g_free(row->avatar_url);
    g_free(row);
}

gboolean
profile_store_find(StoreConnection *connection, const char *user_id, ProfileRow **ret_row,
                   GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &profile_statements[PROFILE_FIND],
                                          store_arguments("t", user_id), error);
    ProfileRow *row = NULL;

    if (rows == NULL)
        return FALSE;
    if (store_rows_count(rows) > 0) {
        row = g_new0(ProfileRow, 1);
        row->displayname = g_strdup(store_rows_text(rows, 0, 0));
        row->avatar_url = g_strdup(store_rows_text(rows, 0, 1));
    }
    *ret_row = row;
    return TRUE;
}

void
profile_store_set(LaneBatch *batch, const char *user_id, const char *displayname,
                  const char *avatar_url)
{
    lane_batch_add(batch, &profile_statements[PROFILE_SET],
                   store_arguments("ttt", user_id, displayname, avatar_url));
}
