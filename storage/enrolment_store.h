/* storage/enrolment_store.h: accounts, and the signed statements that bind them.
 * Rows and bytes: who may write what is decided in identity/enrolment.c and identity/proposal.c,
 * the only callers of what inserts. */
#pragma once

#include "storage/store.h"
#include "storage/writes.h"

typedef struct {
    char *user_id;
    GBytes *digest;
    GBytes *statement;
    GBytes *signature_first;
    GBytes *signature_second;
    GBytes *certificate; /* SHA-256 */
    char *spki;
    char *person_ref;
    char *issuer_key;
    char *serial;
    gint64 not_after_ms;
    gint64 approved_ms;
    gint64 state;
    gint64 changed_ms;
    GBytes *mac;
} EnrolmentRow;
void enrolment_row_free(EnrolmentRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EnrolmentRow, enrolment_row_free)

/* Inserts the account unless it is there. */
void account_store_put(StoreWrites *writes, const char *user_id, gint64 created_ms);
gboolean account_store_exists(StoreConnection *connection, const char *user_id,
                              gboolean *ret_exists, GError **error);

void enrolment_store_insert(StoreWrites *writes, const EnrolmentRow *row);
void enrolment_store_set_state(StoreWrites *writes, GBytes *digest, gint64 state, gint64 changed_ms,
                               GBytes *mac);
/* The one row in state 1 or 2; absent: success with NULL. */
gboolean enrolment_store_find_user(StoreConnection *connection, const char *user_id,
                                   EnrolmentRow **ret_row, GError **error);
gboolean enrolment_store_find_certificate(StoreConnection *connection, GBytes *certificate,
                                          EnrolmentRow **ret_row, GError **error);
/* A user, other than @user_id, who ever had this key or is this person, or this user as another
 * person; NULL when none.  Any state. */
gboolean
enrolment_store_find_rival(StoreConnection *connection, const char *user_id, const char *spki,
                           const char *person_ref, char **ret_rival_user_id, GError **error);
/* EnrolmentRow of every account after @after, by user id; and those of one issuer's key (state 1 or
 * 2). */
GPtrArray *enrolment_store_list(StoreConnection *connection, const char *after, gint64 rows_max,
                                GError **error);
GPtrArray *
enrolment_store_of_issuer(StoreConnection *connection, const char *issuer_key, GError **error);

extern const StoreStatement enrolment_statements[];
extern const guint enrolment_statement_count;
