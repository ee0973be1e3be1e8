/* storage/statements.h: every statement of every store, so that one test prepares and explains them
 * all. */
#pragma once

#include "storage/store.h"

typedef struct {
    const char *store; /* the file's name without ending */
    const StoreStatement *statements;
    const guint *count;
} StoreStatements;

extern const StoreStatements store_statements[];
extern const guint store_statements_count;
