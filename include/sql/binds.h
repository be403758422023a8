/* sql/binds.h - the literals of a statement as parameters: which may be, and how the text reads then.
 *
 * sql_binds() puts parameters in place of all literals of a text.  Of the facts of what comes out, n_binds is how many
 * of them stand where a literal means the same: compared with a column in WHERE or ON, or as the number of LIMIT or
 * OFFSET of a SELECT.  Only if these are all, the one may be run for the other. */
#ifndef SQL_BINDS_H
#define SQL_BINDS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"

enum { SQL_BINDS_MAX = 8 };

struct sql_bind {
	struct str value; /* borrowed from the text, without its quotes; quotes inside are still doubled */
	bool string;      /* of no type yet; else an int4 */
};

struct sql_binds {
	char *text; /* borrowed: gets the statement with $1, $2, ... for its literals, and a NUL; NULL: not wanted */
	size_t text_size, text_n;
	unsigned n;
	struct sql_bind v[SQL_BINDS_MAX];
};

/* standard_conforming_strings is on.  False: there are too many, or others than integers of four bytes and plain
 * strings, or the text is too long. */
bool sql_binds(struct str sql, struct sql_binds *b);

#endif
