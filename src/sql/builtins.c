/* builtins.c - see builtins_priv.h; the table is generated. */
#include "builtins_priv.h"
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "sql/facts.h"

static const struct {
	enum route_reason reason;
	bool shows_time;
} classes[] = {
#define CLASS_ROW(id, why, time) [BUILTIN_##id] = { REASON_##why, time },
	BUILTIN_CLASSES(CLASS_ROW)
#undef CLASS_ROW
};

static const struct builtin_row {
	const char *name;
	uint8_t class;
	bool one;
	uint16_t pins;
} rows[] = {
#define BUILTIN(name, class, one, pins) { #name, BUILTIN_##class, one, pins },
#include "builtins.inc"
#undef BUILTIN
};

static int compare(const void *key, const void *row) { return strcmp(key, ((const struct builtin_row *)row)->name); }

bool builtin_find(const char *name, struct builtin *out)
{
	const struct builtin_row *row = bsearch(name, rows, ARRAY_LEN(rows), sizeof(rows[0]), compare);
	if (!row)
		return false;
	*out = (struct builtin){ row->name,
		                 (enum builtin_class)row->class,
		                 classes[row->class].reason,
		                 classes[row->class].shows_time,
		                 row->one,
		                 row->pins };
	return true;
}

bool builtin_schema(const char *schema)
{
	return !schema || strcmp(schema, "pg_catalog") == 0 || strcmp(schema, "information_schema") == 0;
}
