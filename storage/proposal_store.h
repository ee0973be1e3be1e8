/* storage/proposal_store.h: acts that one officer has proposed and signed, and that wait for
 * another. Rows and bytes: who may write what is decided in identity/proposal.c, the only caller of
 * what writes.  An absent row is success with NULL. */
#pragma once

#include "storage/store.h"
#include "storage/writes.h"

typedef struct {
    GBytes *digest;
    char *kind;
    GBytes *statement;
    GBytes *certificate; /* DER; empty for acts that name none */
    char *proposer;
    GBytes *signature;
    gint64 created_ms;
    gint64 expires_ms;
    gint64 state; /* 1 open, 2 done */
    gint64 done_ms;
} ProposalRow;
void proposal_row_free(ProposalRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ProposalRow, proposal_row_free)

void proposal_store_insert(StoreWrites *writes, const ProposalRow *row);
/* Open -> done; the certificate's bytes go. */
void proposal_store_done(StoreWrites *writes, GBytes *digest, gint64 done_ms);
/* Those that expired before @now_ms go, and the certificates in them. */
void proposal_store_purge(StoreWrites *writes, gint64 now_ms);
gboolean proposal_store_find(StoreConnection *connection, GBytes *digest, ProposalRow **ret_row,
                             GError **error);
GPtrArray *proposal_store_open(StoreConnection *connection, gint64 now_ms, GError **error);
gboolean proposal_store_count_open(StoreConnection *connection, gint64 now_ms, gint64 *ret_count,
                                   GError **error);

extern const StoreStatement proposal_statements[];
extern const guint proposal_statement_count;
