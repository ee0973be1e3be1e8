#include "storage/profile_store.h"

enum {
    PROFILE_FIND,
    PROFILE_SET,
    PROFILE_SEARCH,
    N_STATEMENTS,
};

const StoreStatement profile_statements[] = {
    [PROFILE_FIND] = {"profile_find",
                      "SELECT displayname, avatar_url FROM profile WHERE user_id = $1"},
    [PROFILE_SET] = {"profile_set",
                     "INSERT INTO profile (user_id, displayname, avatar_url) VALUES ($1, $2, $3)"
                     " ON CONFLICT (user_id) DO UPDATE SET displayname = EXCLUDED.displayname,"
                     " avatar_url = EXCLUDED.avatar_url"},
    [PROFILE_SEARCH] = {"profile_search",
                        "SELECT a.user_id, p.displayname, p.avatar_url"
                        " FROM account a LEFT JOIN profile p ON p.user_id = a.user_id"
                        " WHERE strpos(lower(a.user_id), $1) > 0"
                        " OR strpos(lower(p.displayname), $1) > 0"
                        " ORDER BY a.user_id LIMIT $2"},
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

static void
found_person_free(gpointer data)
{
    FoundPerson *person = data;

    g_free(person->user_id);
    g_free(person->displayname);
    g_free(person->avatar_url);
    g_free(person);
}

GPtrArray *
profile_store_search(StoreConnection *connection, const char *term, guint rows_max, GError **error)
{
    g_autoptr(StoreRows) rows = store_run(connection, &profile_statements[PROFILE_SEARCH],
                                          store_arguments("ti", term, (gint64)rows_max), error);
    GPtrArray *people;

    if (rows == NULL)
        return NULL;
    people = g_ptr_array_new_with_free_func(found_person_free);
    for (guint i = 0; i < store_rows_count(rows); i++) {
        FoundPerson *person = g_new0(FoundPerson, 1);

        person->user_id = g_strdup(store_rows_text(rows, i, 0));
        person->displayname = g_strdup(store_rows_text(rows, i, 1));
        person->avatar_url = g_strdup(store_rows_text(rows, i, 2));
        g_ptr_array_add(people, person);
    }
    return people;
}
