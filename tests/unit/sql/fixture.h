/* fixture.h - a catalog from tests/unit/data/route_catalog.txt, as tests/tools/gen_route_catalog.sh recorded it. */
#ifndef TESTS_UNIT_SQL_FIXTURE_H
#define TESTS_UNIT_SQL_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sql/catalog.h"

#define FIXTURE_CATALOG "tests/unit/data/route_catalog.txt"
enum { FIXTURE_COLUMNS = 16 };

/* Undoes the escapes of COPY's text format, in place. */
static inline void fixture_unescape(char *s)
{
	static const char from[] = "bfnrtv\\", to[] = "\b\f\n\r\t\v\\";
	char *out = s;
	for (; *s; s++) {
		const char *at = *s == '\\' && s[1] ? strchr(from, s[1]) : NULL;
		*out++ = at ? to[at - from] : *s;
		s += at != NULL;
	}
	*out = 0;
}

/* Splits at tabs; \N is NULL. */
static inline int fixture_split(char *line, char **v)
{
	int n = 0;
	char *field;
	line[strcspn(line, "\n")] = 0;
	while (n < FIXTURE_COLUMNS && (field = strsep(&line, "\t")) != NULL) {
		v[n] = strcmp(field, "\\N") == 0 ? NULL : field;
		if (v[n])
			fixture_unescape(v[n]);
		n++;
	}
	return n;
}

/* Rows of queries in `skip` (a bit each) are left out. */
static inline struct catalog *fixture_catalog(const struct catalog_options *options, unsigned skip)
{
	struct catalog_builder *b = catalog_build_start(options);
	FILE *f = fopen(FIXTURE_CATALOG, "r");
	char *line = NULL, *v[FIXTURE_COLUMNS];
	size_t cap = 0;
	unsigned query = 0;
	if (!f) {
		perror(FIXTURE_CATALOG);
		abort();
	}
	while (getline(&line, &cap, f) > 0) {
		if (sscanf(line, "Q %u", &query) == 1)
			continue;
		int n = fixture_split(line, v);
		if (!(skip & (1u << query)) && !catalog_build_add_row(b, query, n, (const char *const *)v)) {
			fprintf(stderr, "row of query %u refused: %s\n", query, v[0]);
			abort();
		}
	}
	free(line);
	fclose(f);
	return catalog_build_finish(b);
}

#endif
