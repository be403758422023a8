/* catalog.c - names to effects; catalog_build.c makes what this reads.
 *
 * The same walk serves both: while a catalog is built it turns the names of a body or a view into edges, afterwards it
 * adds up what a client's statement may reach.  So a name can never mean one thing inside a function and another
 * outside.
 *
 *   facts.functions --+                                     +-- builtin table: reason, pins
 *   facts.operators --+--> name table --> nodes, per kind --+
 *   facts.types ------+    (all schemas)                    +-- node's effect: that of its whole closure
 *   facts.relations --+
 *
 * What a name is not known to mean is as bad as its kind allows: the facts may be older than the object. */
#include "sql/catalog.h"
#include <string.h>
#include "base/mem.h"
#include "base/rules.h"
#include "builtins_priv.h"
#include "catalog_priv.h"

static const struct catalog_effect harmless = { .reason = REASON_READ };

struct catalog *catalog_ref(struct catalog *c)
{
	CHECK(atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed) > 0);
	return c;
}

void catalog_free(struct catalog *c)
{
	struct name *name, *next_name;
	struct column *column, *next_column;
	HASH_ITER(hh, c->names, name, next_name)
	{
		HASH_DEL(c->names, name);
		mem_free(name);
	}
	HASH_ITER(hh, c->columns, column, next_column)
	{
		HASH_DEL(c->columns, column);
		mem_free(column);
	}
	mem_free(c->nodes);
	mem_free(c);
}

void catalog_unref(struct catalog *c)
{
	if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
		catalog_free(c);
}

bool catalog_reads_sequences(const struct catalog *c) { return c->reads_sequences; }
uint64_t catalog_id(const struct catalog *c) { return c->id; }
uint64_t catalog_digest(const struct catalog *c) { return c->digest; }
size_t catalog_bytes(const struct catalog *c) { return c->bytes; }

struct catalog_effect catalog_worse(struct catalog_effect a, struct catalog_effect b)
{
	return (struct catalog_effect){ .reason = a.reason > b.reason ? a.reason : b.reason,
		                        .pins = a.pins | b.pins,
		                        .shows_time = a.shows_time || b.shows_time,
		                        .types = a.types | b.types,
		                        .overloads = a.overloads | b.overloads };
}

struct name *catalog_find_name(const struct catalog *c, const char *text)
{
	struct name *n;
	HASH_FIND_STR(c->names, text, n);
	return n;
}

/* --- from names to nodes --- */

static bool in_schema(const struct node *n, const char *schema) { return !schema || strcmp(n->schema, schema) == 0; }

static struct catalog_effect overload_of(const struct node *n)
{
	return (struct catalog_effect){ .reason = REASON_READ, .overloads = n->needs };
}

/* Each node of that name: which one the server takes depends on search_path, role and types, so all of them count. */
static bool each_node(struct catalog_walk *w, enum node_kind kind, const char *schema, const char *name)
{
	const struct name *n = catalog_find_name(w->c, name);
	bool found = false;
	for (int i = n ? n->head[kind] : NO_NODE; i != NO_NODE; i = w->c->nodes[i].next_same_name) {
		if (!in_schema(&w->c->nodes[i], schema))
			continue;
		found = true;
		/* A qualified name has no builtin to compete with, so that it may be meant with any arguments. */
		if (w->c->nodes[i].needs && !schema)
			w->on_effect(w, overload_of(&w->c->nodes[i]), name);
		else
			w->on_node(w, i, name);
		if (RULE_BROKEN(F4))
			break;
	}
	return found;
}

static bool exists(const struct catalog *c, enum node_kind kind, const char *schema, const char *name)
{
	const struct name *n = catalog_find_name(c, name);
	for (int i = n ? n->head[kind] : NO_NODE; i != NO_NODE; i = c->nodes[i].next_same_name)
		if (in_schema(&c->nodes[i], schema))
			return true;
	return false;
}

static void effect(struct catalog_walk *w, enum route_reason reason, uint32_t pins, const char *name)
{
	w->on_effect(w, (struct catalog_effect){ .reason = reason, .pins = pins }, name);
}

static bool is_temp_schema(const char *schema) { return schema && strncmp(schema, "pg_temp", 7) == 0; }

/* The branches are for the mutants of the rules' tests; b->reason is the answer. */
static enum route_reason reason_of_builtin(const struct builtin *b)
{
	if ((RULE_BROKEN(F3) && b->class == BUILTIN_STATE) || (RULE_BROKEN(F2) && b->class == BUILTIN_SIDE) ||
	    (RULE_BROKEN(C6) && b->class == BUILTIN_SNAPSHOT))
		return REASON_READ;
	return b->reason;
}

static bool walk_builtin(struct catalog_walk *w, const char *schema, const char *name)
{
	struct builtin b;
	if (!builtin_schema(schema) || !builtin_find(name, &b))
		return false;
	/* set_config() pins by its arguments, which the facts have looked at. */
	uint32_t pins = b.pins & ~(uint32_t)SQL_PIN_SETTING;
	struct catalog_effect e = { .reason = reason_of_builtin(&b), .pins = pins, .shows_time = b.shows_time };
	w->on_effect(w, e, name);
	if (b.class == BUILTIN_TEXT_SEARCH)
		w->on_node(w, w->c->text_search, name);
	return true;
}

static void walk_function(struct catalog_walk *w, const struct sql_ref *r)
{
	if (is_temp_schema(r->schema)) {
		effect(w, REASON_TEMPORARY, SQL_PIN_UNKNOWN, r->name);
		return;
	}
	bool user = each_node(w, NODE_FUNCTION, r->schema, r->name);
	bool builtin = walk_builtin(w, r->schema, r->name);
	/* f(x) is also a cast to the type f, and the column f of a row x. */
	bool one = r->arg == 1 || r->arg == SQL_REF_ARGS_MANY;
	bool type = one && each_node(w, NODE_TYPE_MAKE, r->schema, r->name);
	if (!user && !builtin && !type)
		effect(w, REASON_UNKNOWN_FUNCTION, SQL_PIN_UNKNOWN, r->name);
}

static void walk_operator(struct catalog_walk *w, const struct sql_ref *r)
{
	if (!each_node(w, NODE_OPERATOR, r->schema, r->name))
		effect(w, REASON_UNKNOWN_OPERATOR, 0, r->name);
}

static void walk_type(struct catalog_walk *w, const struct sql_ref *r)
{
	if (is_temp_schema(r->schema))
		effect(w, REASON_TEMPORARY, 0, r->name);
	else if (!each_node(w, NODE_TYPE_MAKE, r->schema, r->name))
		effect(w, REASON_UNKNOWN_TYPE, 0, r->name);
}

/* A WITH's name that no relation has needs no proof; one that a relation has may be out of the WITH's scope. */
static void walk_relation(struct catalog_walk *w, const struct sql_ref *r)
{
	if (is_temp_schema(r->schema))
		effect(w, REASON_TEMPORARY, 0, r->name);
	else if (r->arg == SQL_REF_WRITTEN)
		(void)each_node(w, NODE_WRITE, r->schema, r->name);
	else if (!each_node(w, NODE_READ, r->schema, r->name) && !r->cte)
		effect(w, REASON_UNKNOWN_RELATION, 0, r->name);
}

/* --- F4: a.f may be a column of a, or f(a) --- */

/* Only columns that share their name with a function are in the table, which is all that is ever asked for. */
static bool has_column(const struct catalog *c, const char *relation, const char *column)
{
	struct column_key key = { 0 };
	struct column *found;
	const struct name *n = catalog_find_name(c, relation);
	if (!n || n->head[NODE_READ] == NO_NODE)
		return false;
	if (!str_copy(key.name, sizeof(key.name), str_of(column)))
		return false;
	for (int i = n->head[NODE_READ]; i != NO_NODE; i = c->nodes[i].next_same_name) {
		key.relation = c->nodes[i].oid;
		HASH_FIND(hh, c->columns, &key, sizeof(key), found);
		if (!found)
			return false;
	}
	return true;
}

enum qualifier {
	QUALIFIER_SCALAR, /* may be a scalar: any function of one argument may be meant */
	QUALIFIER_ROW,    /* a row: only functions that take rows, none of them harmful among PostgreSQL's own */
	QUALIFIER_COLUMN  /* a relation that has the column */
};

/* The scope of an alias is not tracked: all of that name in the statement must agree, or the worst counts. */
static enum qualifier qualifier_of(const struct catalog *c, const struct sql_facts *f, const struct sql_ref *column)
{
	enum qualifier q = QUALIFIER_COLUMN;
	bool found = false;
	for (unsigned i = 0; column->schema && i < f->aliases.n; i++) {
		const struct sql_ref *a = &f->aliases.v[i];
		if (strcmp(a->schema, column->schema) != 0)
			continue;
		found = true;
		if (a->arg == SQL_REF_FUNCTION)
			return QUALIFIER_SCALAR;
		if (!a->name || !has_column(c, a->name, column->name))
			q = QUALIFIER_ROW;
	}
	return found ? q : QUALIFIER_SCALAR;
}

static void walk_column(struct catalog_walk *w, const struct sql_facts *f, const struct sql_ref *r)
{
	struct builtin b;
	bool user = exists(w->c, NODE_FUNCTION, NULL, r->name);
	bool builtin = builtin_find(r->name, &b) && b.one && (b.reason != REASON_READ || b.shows_time);
	if (RULE_BROKEN(F4) || (!user && !builtin))
		return;
	enum qualifier q = qualifier_of(w->c, f, r);
	if (q == QUALIFIER_COLUMN)
		return;
	if (user)
		(void)each_node(w, NODE_FUNCTION, NULL, r->name);
	if (builtin && q == QUALIFIER_SCALAR)
		(void)walk_builtin(w, NULL, r->name);
}

/* An identifier of a PL/pgSQL body may be anything of that name. */
static void walk_word(struct catalog_walk *w, const struct sql_facts *f, const char *name)
{
	(void)each_node(w, NODE_FUNCTION, NULL, name);
	(void)each_node(w, NODE_TYPE_MAKE, NULL, name);
	(void)each_node(w, NODE_READ, NULL, name);
	if (f->flags & SQL_F_WRITES)
		(void)each_node(w, NODE_WRITE, NULL, name);
}

void catalog_walk(struct catalog_walk *w, const struct sql_facts *f)
{
	w->on_node(w, w->c->ambient, NULL);
	for (unsigned i = 0; i < f->functions.n; i++)
		walk_function(w, &f->functions.v[i]);
	for (unsigned i = 0; i < f->operators.n; i++)
		walk_operator(w, &f->operators.v[i]);
	for (unsigned i = 0; i < f->types.n; i++)
		walk_type(w, &f->types.v[i]);
	for (unsigned i = 0; i < f->relations.n; i++)
		walk_relation(w, &f->relations.v[i]);
	for (unsigned i = 0; i < f->columns.n; i++)
		walk_column(w, f, &f->columns.v[i]);
	for (unsigned i = 0; i < f->words.n; i++)
		walk_word(w, f, f->words.v[i].name);
}

/* --- what a statement may reach --- */

struct reach {
	struct catalog_effect effect;
	const char *what;
};

static void reach_effect(struct catalog_walk *w, struct catalog_effect e, const char *name)
{
	struct reach *r = w->arg;
	if (e.reason > r->effect.reason)
		r->what = name;
	r->effect = catalog_worse(r->effect, e);
}

static void reach_node(struct catalog_walk *w, int node, const char *name)
{
	struct catalog_effect e = w->c->nodes[node].effect;
	if (w->c->nodes[node].kind == NODE_WRITE)
		e.reason = REASON_READ;
	reach_effect(w, e, name);
}

struct catalog_effect catalog_reach(const struct catalog *c, const struct sql_facts *f, const char **what)
{
	struct reach r = { .effect = harmless };
	struct catalog_walk w = { .c = c, .on_node = reach_node, .on_effect = reach_effect, .arg = &r };
	catalog_walk(&w, f);
	/* What an overload does may bring new types to hand; each bit is taken once. */
	uint64_t seen = 0, now;
	while ((now = r.effect.types & r.effect.overloads & ~seen) != 0) {
		seen |= now;
		for (unsigned bit = 0; bit < 64; bit++)
			if (now & (1ull << bit))
				reach_effect(&w, c->overloads[bit], NULL);
	}
	if (what)
		*what = r.what;
	return r.effect;
}
