#include "storage/statements.h"

#define STORE(name)                                                                                \
    extern const StoreStatement name##_statements[];                                               \
    extern const guint name##_statement_count;
#include "storage/statements.list"
#undef STORE

#define STORE(name) {#name, name##_statements, &name##_statement_count},
const StoreStatements store_statements[] = {
#include "storage/statements.list"
};
#undef STORE
const guint store_statements_count = G_N_ELEMENTS(store_statements);
