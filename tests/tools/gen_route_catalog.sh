#!/bin/bash
# Writes tests/unit/data/route_catalog.txt: what the catalog queries say about tests/unit/data/route_schema.sql.
#   PGHOST=... PGPORT=... PGUSER=postgres tests/tools/gen_route_catalog.sh
# Needs a superuser on PostgreSQL 15 with its contrib modules; makes and drops the database "route_catalog".
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"; dropdb --if-exists --force route_catalog' EXIT
dropdb --if-exists --force route_catalog
createdb -T template0 route_catalog
psql -Xq -v ON_ERROR_STOP=1 -d route_catalog -f tests/unit/data/route_schema.sql

cat > "$work/queries.c" <<'C'
#include <stdio.h>
#include "sql/catalog.h"
int main(void)
{
	printf("\\set ON_ERROR_STOP 1\nBEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n%s;\n", catalog_prologue);
	for (unsigned i = 0; i < catalog_queries_count; i++)
		printf("\\echo Q %u\nCOPY (%s) TO STDOUT;\n", i, catalog_queries[i].sql);
	printf("COMMIT;\n");
}
C
${CC:-gcc} -std=gnu17 -D_GNU_SOURCE -Iinclude -Isrc/sql -o "$work/queries" "$work/queries.c" src/sql/catalog_queries.c
"$work/queries" > "$work/queries.sql"
psql -Xq -d route_catalog -f "$work/queries.sql" > "$work/out"
mv "$work/out" tests/unit/data/route_catalog.txt
