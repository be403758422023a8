/* facts_priv.h - collects what a walk over a tree, or over tokens, finds; facts_finish() makes it immutable. */
#ifndef SQL_FACTS_PRIV_H
#define SQL_FACTS_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "sql/facts.h"

#define FACT_REFS(X) X(relations) X(functions) X(operators) X(types) X(columns) X(aliases) X(settings) X(words)
enum fact_refs {
#define FACT_REFS_ENUM(field) REFS_##field,
	FACT_REFS(FACT_REFS_ENUM)
#undef FACT_REFS_ENUM
	    REFS_COUNT
};

/* Strings are offsets into the pool plus 1, 0 is NULL: the pool moves while it grows. */
struct draft_ref {
	uint32_t schema, name;
	uint8_t arg;
	bool cte;
};
struct draft_refs {
	struct draft_ref *v; /* owned */
	size_t n, cap;
};
struct draft_stmt {
	struct sql_stmt s; /* name, value and runs stand in the three below */
	uint32_t name, value, runs;
};

struct facts_draft {
	enum sql_unparsed unparsed;
	uint32_t flags, pins;
	struct draft_stmt *stmts; /* owned */
	size_t n_stmts, cap_stmts;
	struct draft_refs refs[REFS_COUNT];
	struct draft_refs ctes;  /* name only */
	struct draft_refs plain; /* columns without a qualifier: perhaps whole rows */
	char *pool;              /* owned */
	size_t pool_n, pool_cap;
	bool star;         /* a * in a result */
	bool sets_setting; /* set_config() whose third argument is not the word true */
	bool multi;
	unsigned n_binds;
};

void facts_start(struct facts_draft *d);
uint32_t facts_string(struct facts_draft *d, const char *s, size_t n);
/* schema and name may be NULL; "" is NULL. */
struct draft_ref *facts_ref(struct facts_draft *d, struct draft_refs *list, const char *schema, const char *name);
/* A new statement; valid until the next one. */
struct draft_stmt *facts_stmt(struct facts_draft *d, enum sql_verb verb);
/* A setting is set, or may be, by that name. */
void facts_setting(struct facts_draft *d, const char *name);
void facts_set_name(struct facts_draft *d, uint32_t *field, const char *s);
/* Frees the draft; one reference. */
struct sql_facts *facts_finish(struct facts_draft *d);

#endif
