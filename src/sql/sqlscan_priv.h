/* sqlscan_priv.h - facts from tokens alone, where there is no tree. */
#ifndef SQL_SQLSCAN_PRIV_H
#define SQL_SQLSCAN_PRIV_H

#include <stdbool.h>
#include "base/str.h"
#include "facts_priv.h"

/* Bounds the depth of the tree that the parser would build, in units of about 2 KB of stack (see sqlscan.c). */
enum { SQLSCAN_DEPTH_MAX = 1500 };
/* A worker has other clients: of texts beyond this only the beginning is looked at (a few ms). */
enum { SQLSCAN_BYTES_MAX = 1024 * 1024 };
struct sqlscan_look {
	unsigned depth; /* SQLSCAN_DEPTH_MAX + 1: too deep */
	bool now_literal, backslash, high_bytes;
};
void sqlscan_look(struct str sql, bool std_strings, struct sqlscan_look *out);

/* What can be said of a string that was not parsed: its verb, the functions it calls, whether it may leave something
 * in the session. */
void sqlscan_unparsed(struct facts_draft *d, struct str sql, bool std_strings);
/* A PL/pgSQL body: see sqlparse_plpgsql(). Adds no statement. */
void sqlscan_plpgsql(struct facts_draft *d, struct str body);

#endif
