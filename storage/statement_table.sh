#!/bin/sh
# Writes the C table of all statements (storage/statements.h) from the sources named as arguments: each
# "const StoreStatement NAME_statements[]" in them, with its NAME_statement_count.
set -eu
names=$(sed -n 's/^const StoreStatement \([a-z_]*\)_statements\[\] = .*/\1/p' "$@")
echo '#include "storage/statements.h"'
for name in $names; do
    echo "extern const StoreStatement ${name}_statements[];"
    echo "extern const guint ${name}_statement_count;"
done
echo 'const StoreStatements store_statements[] = {'
for name in $names; do
    printf '    {"%s", %s_statements, &%s_statement_count},\n' "$name" "$name" "$name"
done
echo '};'
echo 'const guint store_statements_count = G_N_ELEMENTS(store_statements);'
