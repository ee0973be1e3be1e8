/* storage/officer_store.h: identity officers.  For identity/officer.c. */
#pragma once

#include "storage/store.h"
#include "storage/writes.h"

typedef struct {
    char *certificate; /* SHA-256, hex */
    char *person_ref;
    char *name;
    GBytes *statement;
    GBytes *signature_first; /* empty for founders */
    GBytes *signature_second;
    char *issuer_key;
    char *serial;
    gint64 approved_ms;
    gint64 removed_ms; /* 0 while in office */
    GBytes *mac;
} OfficerRow;
void officer_row_free(OfficerRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OfficerRow, officer_row_free)

void officer_store_insert(StoreWrites *writes, const OfficerRow *row);
void
officer_store_remove(StoreWrites *writes, const char *certificate, gint64 removed_ms, GBytes *mac);
/* Absent: success with NULL. */
gboolean officer_store_find(StoreConnection *connection, const char *certificate,
                            OfficerRow **ret_row, GError **error);
/* Everybody who was ever an officer, by certificate. */
GPtrArray *officer_store_list(StoreConnection *connection, GError **error);

extern const StoreStatement officer_statements[];
extern const guint officer_statement_count;
