/* sql/catalog.h - one database's facts: what its functions, views, types and tables are, and what hides behind them.
 *
 * The cluster layer runs catalog_queries[] in one REPEATABLE READ READ ONLY transaction on the primary, feeds the rows
 * to a builder, and publishes the result.  Immutable afterwards; references are counted atomically.
 *
 * Names resolve to their worst member over all schemas (F4), so that a verdict does not depend on search_path or role;
 * a qualified name resolves within its schema.  An object is as bad as the worst that it may reach (closure over
 * function bodies, views, policies, operators, casts, domains, aggregates' parts, partitions). */
#ifndef SQL_CATALOG_H
#define SQL_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/check.h"
#include "base/str.h"
#include "sql/route_reason.h"

struct sql_facts;
struct catalog;
struct catalog_builder;

struct catalog_query {
	const char *name;
	const char *sql; /* PostgreSQL 14 to 18; everything qualified */
	int columns;
};
extern const struct catalog_query catalog_queries[];
extern const unsigned catalog_queries_count;
/* To be run before the queries, in their transaction: pins what their texts depend on. */
extern const char catalog_prologue[];

struct catalog_options {
	const char *read_only_functions; /* names, separated by commas or white space; NULL is none.  schema.f or f */
	const char *write_functions;
};

struct catalog_builder *catalog_build_start(const struct catalog_options *options) MUSTCHECK;
/* A row of catalog_queries[query]; a NULL value is SQL's NULL.  False: not what the query asks for. */
bool catalog_build_add_row(struct catalog_builder *b, unsigned query, int n, const char *const *values) MUSTCHECK;
/* catalog_digest() of what the rows so far would give; cheap.  When it is that of the catalog in use, abort. */
uint64_t catalog_build_digest(const struct catalog_builder *b);
/* Consumes the builder; the caller owns one reference.  Parses: some ms per hundred views and functions. */
struct catalog *catalog_build_finish(struct catalog_builder *b) MUSTCHECK;
void catalog_build_abort(struct catalog_builder *b); /* NULL is fine */

struct catalog *catalog_ref(struct catalog *c);
void catalog_unref(struct catalog *c); /* NULL is fine; any thread */
/* Unique in the process; never 0. */
uint64_t catalog_id(const struct catalog *c);
bool catalog_reads_sequences(const struct catalog *c); /* something in it calls currval() or lastval() (E3) */
/* Equal for equal rows and options: a reload that finds nothing new can keep the old catalog, and the classes cached
 * for it. */
uint64_t catalog_digest(const struct catalog *c);
size_t catalog_bytes(const struct catalog *c);

/* What running something may do; grows along the closure. */
struct catalog_effect {
	enum route_reason reason; /* REASON_READ when it is harmless; else the worst */
	uint32_t pins;            /* enum sql_pin */
	bool shows_time;          /* C1 */
	/* Sets of user types by bit (two types may share one): those of which a value may be at hand, and those that a
	 * function or operator called here was overloaded for.  Where both have a bit, the overload may be meant. */
	uint64_t types, overloads;
};
/* All that the facts' names may reach, and the functions that run without a name.  `what` (may be NULL) gets the name
 * at fault, borrowed from the facts, or NULL. Does not judge the statement itself. */
struct catalog_effect catalog_reach(const struct catalog *c, const struct sql_facts *f, const char **what);

#endif
