/* sql/sqlparse.h - SQL text to facts, by PostgreSQL's own parser (libpg_query).
 *
 * Costs microseconds: callers go through the cache of shapes.h.  The parser keeps state per thread, which it frees when
 * the thread ends; only the main thread has to call sqlparse_exit().  Parsing needs up to 4 MB of stack. */
#ifndef SQL_SQLPARSE_H
#define SQL_SQLPARSE_H

#include "base/str.h"
#include "sql/facts.h"

struct sqlparse_options {
	bool std_strings;  /* standard_conforming_strings */
	bool ascii_unsafe; /* client_encoding is one whose characters may hold ASCII bytes (SJIS, BIG5, GBK, …) */
};

/* Never NULL; the caller owns one reference.  What cannot be parsed has facts too: unparsed says why, and a scan of
 * its tokens gives verb, function names and pins where it is sure of them. */
struct sql_facts *sqlparse(struct str sql, struct sqlparse_options options) MUSTCHECK;
/* An expression such as a policy's or a domain's check, as the server prints it. */
struct sql_facts *sqlparse_expression(struct str expr) MUSTCHECK;
/* A PL/pgSQL body, by its tokens: every identifier is a reference to a function, type and relation.  flags hold
 * UNKNOWN_NODE when it has EXECUTE, EXCEPTION, a write, or session commands (A6). */
struct sql_facts *sqlparse_plpgsql(struct str body) MUSTCHECK;
/* May be called anywhere; does something in the main thread only. */
void sqlparse_exit(void);

#endif
