/* sqlwalk_priv.h - parse tree to facts; the only files that see pg_query.h are sqlparse.c, sqlwalk.c, sqlstmt.c
 * and sqlbinds.c. */
#ifndef SQL_SQLWALK_PRIV_H
#define SQL_SQLWALK_PRIV_H

#include <pg_query/pg_query.pb-c.h>
#include <stdbool.h>
#include "facts_priv.h"

/* Collects names and flags of a tree.  `lenient`: nodes that no rule covers are no news (DDL). */
struct sqlwalk {
	struct facts_draft *d;
	bool lenient;
};
void sqlwalk(struct sqlwalk *w, const ProtobufCMessage *m); /* NULL is fine */
void sqlwalk_node(struct sqlwalk *w, const PgQuery__Node *node);
/* Only looks for temporary objects. */
bool sqlwalk_finds_temp(const ProtobufCMessage *m);
/* The name of currval() or lastval() anywhere in it. */
bool sqlwalk_finds_sequence(const ProtobufCMessage *m);

/* NULL unless it is a String. */
const char *sqlwalk_string(const PgQuery__Node *node);

/* Parameters that stand where a literal means the same (sql/binds.h). */
unsigned sqlwalk_count_binds(const PgQuery__SelectStmt *q);

/* One top-level statement: adds a draft_stmt, flags and names. */
void sqlstmt(struct facts_draft *d, const PgQuery__Node *stmt);

#endif
