/* storage/statements.h: every statement of every store, so that one test prepares and explains them
 * all. Gathered at build time by storage/statement_table.sh from each `const StoreStatement
 * NAME_statements[]`. */
#pragma once

#include "storage/store.h"

typedef struct {
    const char *store; /* the NAME in NAME_statements */
    const StoreStatement *statements;
    const guint *count;
} StoreStatements;

extern const StoreStatements store_statements[];
extern const guint store_statements_count;
