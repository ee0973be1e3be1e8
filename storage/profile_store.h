/* storage/profile_store.h: rows of local users' profiles.  For server/client and federation/. */
#pragma once

#include "storage/lane.h"
#include "storage/store.h"

extern const StoreStatement profile_statements[];
extern const guint profile_statement_count;

typedef struct {
    char *displayname; /* or NULL */
    char *avatar_url;  /* or NULL */
} ProfileRow;

void profile_row_free(ProfileRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ProfileRow, profile_row_free)

/* *ret_row NULL: this user never set anything. */
gboolean profile_store_find(StoreConnection *connection, const char *user_id, ProfileRow **ret_row,
                            GError **error);
typedef struct {
    char *user_id;
    char *displayname; /* or NULL */
    char *avatar_url;  /* or NULL */
} FoundPerson;

/* Accounts of this server whose id or name holds @term (in lower case), in byte order of their ids:
 * GPtrArray of FoundPerson, owned. */
GPtrArray *
profile_store_search(StoreConnection *connection, const char *term, guint rows_max, GError **error);
/* Sets the whole row; NULL clears a member. */
void profile_store_set(LaneBatch *batch, const char *user_id, const char *displayname,
                       const char *avatar_url);
