/* sql/prepared.h - the statement inside of a PREPARE. */
#ifndef SQL_PREPARED_H
#define SQL_PREPARED_H

#include <stdbool.h>
#include "base/str.h"

/* What stands behind AS in "PREPARE name (types) AS statement"; empty when there is no AS.  Borrowed from sql. */
struct str sql_prepared_statement(struct str sql, bool std_strings);
/* How many parameters such a statement has: those whose types are given, or up to the last $n. */
unsigned sql_prepared_params(struct str sql, bool std_strings);

#endif
