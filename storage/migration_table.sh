#!/bin/sh
# Writes the C table of migrations (storage/migrate.h) from the SQL files named as arguments, NNNN_name.sql.
set -eu
echo '#include "storage/migrate.h"'
echo 'const StoreMigration store_migrations[] = {'
for file in "$@"; do
    base=$(basename "$file" .sql)
    number=$(expr "${base%%_*}" + 0)
    printf '    {%s, "%s",\n' "$number" "${base#*_}"
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/     "/' -e 's/$/\\n"/' "$file"
    echo '    },'
done
echo '};'
printf 'const unsigned store_migration_count = %s;\n' "$#"
