/* catalog_build.c - rows to graph, graph to effects.
 *
 * Function bodies, view definitions, policies and domain checks are parsed, and their names resolved, when all rows are
 * there (which is nearly all of the cost, and saved when the digest is the old one); then what is bad flows along the
 * edges until nothing changes.  The effects only grow, so it ends, and recursion needs no care.
 *
 *   view v_over_write --R--> view v_write --F--> f_write: INSERT                  effect: WRITE_FUNCTION
 *   table secrets ------R--> (its policy's text) --F--> f_write
 *   5::rechecked -------M--> domain rechecked --M--> domain checked --(CHECK's text)--F--> f_write
 *
 * Two sources feed the edges.  Texts, as the server prints them, show what calls PostgreSQL's own functions, which
 * pg_depend leaves out (they are pinned); pg_depend shows what is called without being printed: implicit casts,
 * operators behind CASE and IN, support functions.
 *
 * Rejected: asking the server about each statement (a query on the data path), and trusting provolatile (F3, A6). */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "base/mem.h"
#include "base/rules.h"
#include "builtins_priv.h"
#include "catalog_priv.h"
#include "route_priv.h"
#include "sql/lexer.h"
#include "sql/sqlparse.h"

struct node_key {
	uint32_t kind, oid;
};
struct node_index {
	UT_hash_handle hh;
	struct node_key key;
	int node;
};

/* The types that overloads need. */
struct type_bit {
	UT_hash_handle hh;
	uint32_t oid;
	uint64_t mask;
};

struct edge {
	int from, to;
	bool inner; /* of a body or a query: the types used there do not come out */
};

enum text_kind { TEXT_SQL, TEXT_PLPGSQL, TEXT_ATOMIC, TEXT_EXPRESSION };

/* A text that is still to be parsed and resolved. */
struct pending {
	int node;
	enum text_kind kind;
	char *text; /* owned */
};

struct catalog_builder {
	struct catalog *c;        /* owned */
	struct node_index *index; /* owned */
	int cap_nodes;
	struct edge *edges; /* owned */
	size_t n_edges, cap_edges;
	struct pending *pending; /* owned */
	size_t n_pending, cap_pending;
	char *read_only, *write; /* owned; the options' lists */
	XXH3_state_t *digest;    /* owned */
	int resolving;           /* node whose text is being resolved */
	struct type_bit *bits;   /* owned */
	unsigned n_bits;
};

static const char kind_letters[] = {
#define NODE_LETTER(id, letter, doc) letter,
	NODE_KINDS(NODE_LETTER)
#undef NODE_LETTER
};

/* --- nodes, names, edges --- */

static struct name *intern(struct catalog_builder *b, const char *text)
{
	struct name *n = catalog_find_name(b->c, text);
	if (n)
		return n;
	size_t len = strlen(text);
	n = mem_zalloc(sizeof(*n) + len + 1);
	memcpy(n->text, text, len + 1);
	for (int k = 0; k < NODE_KIND_COUNT; k++)
		n->head[k] = NO_NODE;
	HASH_ADD_KEYPTR(hh, b->c->names, n->text, len, n);
	b->c->bytes += sizeof(*n) + len + 1;
	return n;
}

static int find_node(const struct catalog_builder *b, enum node_kind kind, uint32_t oid)
{
	struct node_key key = { kind, oid };
	struct node_index *found;
	HASH_FIND(hh, b->index, &key, sizeof(key), found);
	return found ? found->node : NO_NODE;
}

static int add_node(struct catalog_builder *b, enum node_kind kind, uint32_t oid, const char *schema, const char *name)
{
	struct catalog *c = b->c;
	if (c->n_nodes == b->cap_nodes) {
		b->cap_nodes = b->cap_nodes ? b->cap_nodes * 2 : 1024;
		c->nodes = mem_realloc(c->nodes, (size_t)b->cap_nodes * sizeof(*c->nodes));
	}
	struct name *n = intern(b, name);
	struct node_index *at = mem_zalloc(sizeof(*at));
	int i = c->n_nodes++;
	c->nodes[i] = (struct node){ .kind = kind,
		                     .oid = oid,
		                     .next_same_name = n->head[kind],
		                     .schema = intern(b, schema)->text,
		                     .effect = { .reason = REASON_READ } };
	n->head[kind] = i;
	at->key = (struct node_key){ kind, oid };
	at->node = i;
	HASH_ADD(hh, b->index, key, sizeof(at->key), at);
	c->bytes += sizeof(*c->nodes);
	return i;
}

static void add_edge(struct catalog_builder *b, int from, int to, bool inner)
{
	if (b->n_edges == b->cap_edges) {
		b->cap_edges = b->cap_edges ? b->cap_edges * 2 : 1024;
		b->edges = mem_realloc(b->edges, b->cap_edges * sizeof(*b->edges));
	}
	b->edges[b->n_edges++] = (struct edge){ from, to, inner };
}

static void worsen(struct catalog_builder *b, int node, enum route_reason reason, uint32_t pins)
{
	struct catalog_effect e = { .reason = reason, .pins = pins };
	b->c->nodes[node].effect = catalog_worse(b->c->nodes[node].effect, e);
}

/* --- overloads --- */

/* Each type its own bit, as long as there are any. */
static uint64_t type_mask(struct catalog_builder *b, uint32_t oid)
{
	struct type_bit *t;
	HASH_FIND(hh, b->bits, &oid, sizeof(oid), t);
	if (!t) {
		t = mem_zalloc(sizeof(*t));
		t->oid = oid;
		t->mask = 1ull << (b->n_bits++ % 64);
		HASH_ADD(hh, b->bits, oid, sizeof(t->oid), t);
	}
	return t->mask;
}

/* OIDs of types, separated by blanks. */
static uint64_t needs_mask(struct catalog_builder *b, const char *list)
{
	uint64_t mask = 0;
	for (const char *p = list; p && *p;) {
		char *end;
		unsigned long oid = strtoul(p, &end, 10);
		if (end == p)
			break;
		mask |= type_mask(b, (uint32_t)oid);
		p = end + strspn(end, " ");
	}
	return mask;
}

static void mark_type(struct catalog_builder *b, enum node_kind kind, uint32_t oid, uint64_t mask)
{
	int node = find_node(b, kind, oid);
	if (node != NO_NODE)
		b->c->nodes[node].effect.types |= mask;
}

/* Values of the types come from relations and expressions that have them. */
static void mark_types(struct catalog_builder *b)
{
	struct type_bit *t, *next;
	HASH_ITER(hh, b->bits, t, next)
	mark_type(b, NODE_TYPE_READ, t->oid, t->mask);
}

static void collect_overloads(struct catalog *c)
{
	for (int i = 0; i < c->n_nodes; i++)
		for (unsigned bit = 0; c->nodes[i].needs && bit < 64; bit++)
			if (c->nodes[i].needs & (1ull << bit))
				c->overloads[bit] = catalog_worse(c->overloads[bit], c->nodes[i].effect);
}

/* --- texts --- */

static void add_text(struct catalog_builder *b, int node, enum text_kind kind, const char *text)
{
	if (b->n_pending == b->cap_pending) {
		b->cap_pending = b->cap_pending ? b->cap_pending * 2 : 64;
		b->pending = mem_realloc(b->pending, b->cap_pending * sizeof(*b->pending));
	}
	b->pending[b->n_pending++] = (struct pending){ node, kind, mem_strdup(text) };
}

/* A body is read anew in each session, by that session's standard_conforming_strings: a plain literal with a backslash
 * has two meanings. */
static bool means_the_same(struct str body)
{
	struct sql_lexer lx;
	struct sql_token t;
	lexer_init(&lx, body, false);
	do
		lexer_next(&lx, &t);
	while (t.kind != TOKEN_END);
	return !lx.backslash;
}

/* BEGIN ATOMIC …; END, or RETURN x, as pg_get_function_sqlbody() prints it. */
static struct sql_facts *parse_atomic(const char *body)
{
	struct str s = str_trim(str_of(body));
	struct str begin = STR("BEGIN ATOMIC"), end = STR("END"), give = STR("RETURN ");
	if (str_has_prefix(s, begin) && s.n > begin.n + end.n && memcmp(s.p + s.n - end.n, end.p, end.n) == 0) {
		s = (struct str){ s.p + begin.n, s.n - begin.n - end.n };
		return sqlparse(s, (struct sqlparse_options){ .std_strings = true });
	}
	if (str_has_prefix(s, give))
		return sqlparse_expression((struct str){ s.p + give.n, s.n - give.n });
	return sqlparse(STR("("), (struct sqlparse_options){ .std_strings = true });
}

static struct sql_facts *parse_text(const struct pending *p)
{
	switch (p->kind) {
	case TEXT_PLPGSQL:
		return sqlparse_plpgsql(str_of(p->text));
	case TEXT_ATOMIC:
		return parse_atomic(p->text);
	case TEXT_EXPRESSION:
		return sqlparse_expression(str_of(p->text));
	case TEXT_SQL:
		break;
	}
	return sqlparse(str_of(p->text), (struct sqlparse_options){ .std_strings = true });
}

/* --- functions --- */

/* A name of an option's list: f or schema.f, separated by commas or white space. */
static bool is_listed(const char *list, const char *schema, const char *name)
{
	const char *p = list;
	while (*p) {
		size_t n = strcspn(p, ", \t\r\n");
		const char *dot = memchr(p, '.', n);
		struct str item = { dot ? dot + 1 : p, dot ? n - (size_t)(dot + 1 - p) : n };
		struct str in = { p, dot ? (size_t)(dot - p) : 0 };
		if (n && str_eq(item, str_of(name)) && (!dot || str_eq(in, str_of(schema))))
			return true;
		p += n + (p[n] != 0);
	}
	return false;
}

/* A6: C code cannot be looked into.  Of these extensions it has been: immutable and stable functions read and compute,
 * and where `all` is set the volatile ones (random numbers, salts, keys) do no more. */
static const struct trusted {
	const char *extension;
	bool all;
} trusted[] = {
	{ "citext", false },
	{ "hstore", false },
	{ "ltree", false },
	{ "pg_trgm", false },
	{ "uuid-ossp", true },
	{ "pgcrypto", true },
	{ "intarray", false },
	{ "cube", false },
	{ "earthdistance", false },
	{ "seg", false },
	{ "isn", false },
	{ "fuzzystrmatch", false },
	{ "unaccent", false },
	{ "btree_gin", false },
	{ "btree_gist", false },
	{ "bloom", false },
	{ "dict_int", false },
	{ "dict_xsyn", false },
	{ "tsm_system_rows", true },
	{ "tsm_system_time", true },
	{ "postgis", false },
	{ "vector", false },
};

/* A7: what these do is done on a standby too, or twice. */
static const char *const never[] = {
	"dblink",      "adminpack",  "file_fdw",    "postgres_fdw",       "pg_background",  "pg_cron",       "lo",
	"pageinspect", "pg_prewarm", "pgstattuple", "pg_stat_statements", "pg_buffercache", "pg_visibility", "amcheck",
	"pg_surgery"
};

/* What CREATE TYPE … AS RANGE makes: PostgreSQL's own code under the type's name. */
static bool makes_range(const char *language, const char *symbol)
{
	static const char *const symbols[] = { "range_constructor2", "range_constructor3", "multirange_constructor0",
		                               "multirange_constructor1", "multirange_constructor2" };
	for (size_t i = 0; i < ARRAY_LEN(symbols) && symbol && strcmp(language, "internal") == 0; i++)
		if (strcmp(symbols[i], symbol) == 0)
			return true;
	return false;
}

static enum route_reason c_function(const char *extension, char volatility)
{
	for (size_t i = 0; extension && i < ARRAY_LEN(trusted); i++)
		if (strcmp(trusted[i].extension, extension) == 0 && (volatility != 'v' || trusted[i].all))
			return REASON_READ;
	for (size_t i = 0; extension && i < ARRAY_LEN(never); i++)
		if (strcmp(never[i], extension) == 0)
			return RULE_BROKEN(A7) ? REASON_READ : REASON_SIDE_EFFECT;
	return volatility == 'v' ? REASON_VOLATILE_FUNCTION : REASON_UNPROVED_FUNCTION;
}

/* dblink and adminpack copied into a schema by hand keep their names. */
static bool is_never_by_name(const char *name)
{
	return strncmp(name, "dblink", 6) == 0 || strncmp(name, "pg_file_", 8) == 0;
}

enum function_column {
	F_OID,
	F_SCHEMA,
	F_NAME,
	F_KIND,
	F_VOLATILITY,
	F_LANGUAGE,
	F_TRUSTED,
	F_EXTENSION,
	F_CONFIG,
	F_BODY,
	F_ATOMIC,
	F_DEFAULTS,
	F_NEEDS
};

static void add_body(struct catalog_builder *b, int node, const char *const *v)
{
	const char *body = v[F_BODY] ? v[F_BODY] : "";
	if (v[F_ATOMIC]) {
		add_text(b, node, TEXT_ATOMIC, v[F_ATOMIC]);
		return;
	}
	add_text(b, node, strcmp(v[F_LANGUAGE], "plpgsql") == 0 ? TEXT_PLPGSQL : TEXT_SQL, body);
	if (!means_the_same(str_of(body)))
		worsen(b, node, REASON_UNPROVED_FUNCTION, 0);
}

/* What is declared counts as well as what is proved: VOLATILE keeps a function on the primary, whatever its body. */
static void judge_language(struct catalog_builder *b, int node, const char *const *v)
{
	const char *language = v[F_LANGUAGE];
	char volatility = v[F_VOLATILITY][0];
	/* C marked immutable or stable is believed not to touch the session; its effects are another matter. */
	uint32_t pins = volatility == 'v' ? SQL_PIN_UNKNOWN : 0;
	if (strcmp(language, "sql") == 0 || strcmp(language, "plpgsql") == 0) {
		add_body(b, node, v);
		if (volatility == 'v')
			worsen(b, node, REASON_VOLATILE_FUNCTION, 0);
	} else if (strcmp(language, "c") == 0 || strcmp(language, "internal") == 0) {
		enum route_reason reason = c_function(v[F_EXTENSION], volatility);
		if (makes_range(language, v[F_BODY]))
			reason = REASON_READ;
		if (is_never_by_name(v[F_NAME]) && !RULE_BROKEN(A7))
			reason = REASON_SIDE_EFFECT;
		worsen(b, node, reason, reason == REASON_READ ? 0 : pins);
	} else {
		bool is_trusted = v[F_TRUSTED][0] == 't';
		worsen(b, node, is_trusted ? REASON_UNPROVED_FUNCTION : REASON_UNTRUSTED_LANGUAGE,
		       SQL_PIN_UNKNOWN | SQL_PIN_RESETS);
	}
}

/* SET app.x in a function's definition leaves the name behind (E1).  name=value, one a line. */
static bool defines_name(const char *config)
{
	while (config && *config) {
		if (memchr(config, '.', strcspn(config, "=\n")))
			return true;
		config += strcspn(config, "\n");
		config += *config == '\n';
	}
	return false;
}

static void add_function(struct catalog_builder *b, const char *const *v, uint32_t oid)
{
	int node = add_node(b, NODE_FUNCTION, oid, v[F_SCHEMA], v[F_NAME]);
	b->c->nodes[node].needs = needs_mask(b, v[F_NEEDS]);
	if (is_listed(b->read_only, v[F_SCHEMA], v[F_NAME]))
		b->c->nodes[node].fixed = true;
	else if (is_listed(b->write, v[F_SCHEMA], v[F_NAME]))
		worsen(b, node, REASON_WRITE_FUNCTION, 0);
	/* An aggregate has no body; its parts are edges. */
	if (v[F_KIND][0] == 'a' && !RULE_BROKEN(F4))
		return;
	judge_language(b, node, v);
	if (defines_name(v[F_CONFIG]))
		worsen(b, node, REASON_UNPROVED_FUNCTION, SQL_PIN_CUSTOM);
	if (v[F_DEFAULTS])
		add_text(b, node, TEXT_EXPRESSION, v[F_DEFAULTS]);
}

/* --- relations, types, texts --- */

enum relation_column { R_OID, R_SCHEMA, R_NAME, R_KIND, R_PERSISTENCE, R_METHOD, R_SECURITY, R_VIEW, R_TYPE };

/* F3: views of a server's own state.  Most would be found out by their functions; the rule names them all. */
static bool is_state_view(const char *const *v)
{
	static const char *const prefixes[] = { "pg_stat",       "pg_settings",     "pg_locks",     "pg_cursors",
		                                "pg_prepared_",  "pg_replication_", "pg_sequences", "pg_file_settings",
		                                "pg_hba_",       "pg_ident_",       "pg_shmem_",    "pg_backend_",
		                                "pg_available_", "pg_config",       "pg_timezone_", "pg_aios",
		                                "pg_wait_events" };
	if (v[R_KIND][0] != 'v' || strcmp(v[R_SCHEMA], "pg_catalog") != 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
		if (strncmp(v[R_NAME], prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static enum route_reason relation_reason(const char *const *v)
{
	char kind = v[R_KIND][0];
	bool stores = kind == 'r' || kind == 'm';
	if (kind == 'f')
		return RULE_BROKEN(A7) ? REASON_READ : REASON_FOREIGN_TABLE;
	if (v[R_PERSISTENCE][0] == 'u')
		return REASON_UNLOGGED;
	if (v[R_PERSISTENCE][0] == 't')
		return REASON_TEMPORARY;
	if (kind == 'S')
		return RULE_BROKEN(F3) ? REASON_READ : REASON_SEQUENCE;
	if (is_state_view(v))
		return RULE_BROKEN(F3) ? REASON_READ : REASON_SERVER_STATE;
	return stores && (!v[R_METHOD] || strcmp(v[R_METHOD], "heap") != 0) ? REASON_TABLE_STORAGE : REASON_READ;
}

static void add_row_type(struct catalog_builder *b, int relation, const char *type)
{
	int64_t oid;
	int to = str_to_i64(str_of(type), &oid) ? find_node(b, NODE_TYPE_READ, (uint32_t)oid) : NO_NODE;
	if (to != NO_NODE)
		add_edge(b, relation, to, false);
}

static void add_relation(struct catalog_builder *b, const char *const *v, uint32_t oid)
{
	int node = add_node(b, NODE_READ, oid, v[R_SCHEMA], v[R_NAME]);
	worsen(b, node, relation_reason(v), 0);
	(void)add_node(b, NODE_WRITE, oid, v[R_SCHEMA], v[R_NAME]);
	/* A whole row is a value of the relation's type. */
	if (v[R_TYPE] && strcmp(v[R_TYPE], "0") != 0)
		add_row_type(b, node, v[R_TYPE]);
	if (v[R_VIEW])
		add_text(b, node, TEXT_SQL, v[R_VIEW]);
}

static void add_operator(struct catalog_builder *b, const char *const *v, uint32_t oid)
{
	int node = add_node(b, NODE_OPERATOR, oid, v[1], v[2]);
	b->c->nodes[node].needs = needs_mask(b, v[3]);
}

static void add_type(struct catalog_builder *b, const char *const *v, uint32_t oid)
{
	int make = add_node(b, NODE_TYPE_MAKE, oid, v[1], v[2]);
	add_edge(b, make, add_node(b, NODE_TYPE_READ, oid, v[1], v[2]), false);
}

/* A domain's check runs when values are made, a default when the relation is written, all else when it is read. */
static void add_expression(struct catalog_builder *b, const char *const *v, uint32_t oid)
{
	enum node_kind kind = v[0][0] == 'D' ? NODE_TYPE_MAKE : v[0][0] == 'W' ? NODE_WRITE : NODE_READ;
	int node = find_node(b, kind, oid);
	if (node != NO_NODE && v[2] && !RULE_BROKEN(F4))
		add_text(b, node, TEXT_EXPRESSION, v[2]);
}

static void add_column(struct catalog_builder *b, const char *const *v, uint32_t oid)
{
	struct column *c = mem_zalloc(sizeof(*c)), *old;
	c->key.relation = oid;
	if (str_copy(c->key.name, sizeof(c->key.name), str_of(v[1])))
		HASH_FIND(hh, b->c->columns, &c->key, sizeof(c->key), old);
	else
		old = c;
	if (old) {
		mem_free(c);
		return;
	}
	HASH_ADD(hh, b->c->columns, key, sizeof(c->key), c);
	b->c->bytes += sizeof(*c);
}

/* --- edges --- */

static enum node_kind kind_of(const char *letter)
{
	for (int k = 0; k < NODE_KIND_COUNT; k++)
		if (letter && letter[0] == kind_letters[k])
			return (enum node_kind)k;
	return NODE_KIND_COUNT;
}

static void edge_to_builtin(struct catalog_builder *b, int from, const char *schema, const char *name)
{
	struct builtin f;
	if (builtin_schema(schema) && builtin_find(name, &f)) {
		struct catalog_effect e = { .reason = f.reason, .pins = f.pins, .shows_time = f.shows_time };
		b->c->nodes[from].effect = catalog_worse(b->c->nodes[from].effect, e);
	} else {
		worsen(b, from, REASON_UNKNOWN_FUNCTION, 0);
	}
}

/* from kind, from OID, to kind, to OID, and the name of a function that may be PostgreSQL's own. */
static bool add_edge_row(struct catalog_builder *b, const char *const *v)
{
	int64_t from_oid, to_oid;
	if (!v[0] || !v[1] || !v[2] || !v[3] || !str_to_i64(str_of(v[1]), &from_oid) ||
	    !str_to_i64(str_of(v[3]), &to_oid))
		return false;
	enum node_kind from_kind = kind_of(v[0]), to_kind = kind_of(v[2]);
	if (from_kind == NODE_KIND_COUNT || to_kind == NODE_KIND_COUNT)
		return false;
	int from = find_node(b, from_kind, (uint32_t)from_oid), to = find_node(b, to_kind, (uint32_t)to_oid);
	/* Temporary children, indexes, row types of indexes: nobody can reach those. */
	if (from == NO_NODE)
		return true;
	/* A function's types are its arguments' and result's, a relation's those of its columns. */
	bool outer = to_kind == NODE_TYPE_READ || to_kind == NODE_TYPE_MAKE;
	if (to != NO_NODE)
		add_edge(b, from, to, !outer);
	else if (to_kind == NODE_FUNCTION && v[5])
		edge_to_builtin(b, from, v[4], v[5]);
	return true;
}

/* --- the builder --- */

struct catalog_builder *catalog_build_start(const struct catalog_options *options)
{
	struct catalog_builder *b = mem_zalloc(sizeof(*b));
	b->c = mem_zalloc(sizeof(*b->c));
	atomic_init(&b->c->refs, 1);
	b->c->bytes = sizeof(*b->c);
	b->read_only = mem_strdup(options && options->read_only_functions ? options->read_only_functions : "");
	b->write = mem_strdup(options && options->write_functions ? options->write_functions : "");
	b->digest = XXH3_createState();
	CHECK(b->digest && XXH3_64bits_reset(b->digest) == XXH_OK);
	(void)XXH3_64bits_update(b->digest, b->read_only, strlen(b->read_only) + 1);
	(void)XXH3_64bits_update(b->digest, b->write, strlen(b->write) + 1);
	b->c->text_search = add_node(b, NODE_TEXT_SEARCH, 0, "", "");
	b->c->ambient = add_node(b, NODE_AMBIENT, 0, "", "");
	return b;
}

/* NULL and "" differ, and so do ("a", "bc") and ("ab", "c"). */
static void digest_row(struct catalog_builder *b, unsigned query, int n, const char *const *v)
{
	(void)XXH3_64bits_update(b->digest, &query, sizeof(query));
	for (int i = 0; i < n; i++) {
		char tag = v[i] ? 1 : 2;
		(void)XXH3_64bits_update(b->digest, &tag, 1);
		if (v[i])
			(void)XXH3_64bits_update(b->digest, v[i], strlen(v[i]) + 1);
	}
}

/* Columns that the code above takes for granted, by query. */
static bool has_values(unsigned query, const char *const *v)
{
	static const int needed[] = { [CATALOG_FUNCTIONS] = F_TRUSTED + 1,
		                      [CATALOG_OPERATORS] = 3,
		                      [CATALOG_TYPES] = 3,
		                      [CATALOG_RELATIONS] = R_PERSISTENCE + 1,
		                      [CATALOG_COLUMNS] = 2,
		                      [CATALOG_TEXTS] = 2,
		                      [CATALOG_FUNCTION_EDGES] = 4,
		                      [CATALOG_TYPE_EDGES] = 4,
		                      [CATALOG_CAST_EDGES] = 4,
		                      [CATALOG_RELATION_EDGES] = 4 };
	for (int i = 0; i < needed[query]; i++)
		if (!v[i])
			return false;
	return true;
}

bool catalog_build_add_row(struct catalog_builder *b, unsigned query, int n, const char *const *v)
{
	int64_t oid = 0;
	if (query >= catalog_queries_count || n != catalog_queries[query].columns || !has_values(query, v))
		return false;
	digest_row(b, query, n, v);
	const char *number = query == CATALOG_TEXTS ? v[1] : v[0];
	if (query < CATALOG_FUNCTION_EDGES && (!str_to_i64(str_of(number), &oid) || oid < 0 || oid > UINT32_MAX))
		return false;
	switch ((enum catalog_query_id)query) {
	case CATALOG_FUNCTIONS:
		add_function(b, v, (uint32_t)oid);
		return true;
	case CATALOG_OPERATORS:
		add_operator(b, v, (uint32_t)oid);
		return true;
	case CATALOG_TYPES:
		add_type(b, v, (uint32_t)oid);
		return true;
	case CATALOG_RELATIONS:
		add_relation(b, v, (uint32_t)oid);
		return true;
	case CATALOG_COLUMNS:
		add_column(b, v, (uint32_t)oid);
		return true;
	case CATALOG_TEXTS:
		add_expression(b, v, (uint32_t)oid);
		return true;
	case CATALOG_FUNCTION_EDGES:
	case CATALOG_TYPE_EDGES:
	case CATALOG_CAST_EDGES:
	case CATALOG_RELATION_EDGES:
		return add_edge_row(b, v);
	}
	return false;
}

static void resolve_node(struct catalog_walk *w, int node, const char *name)
{
	struct catalog_builder *b = w->arg;
	(void)name;
	add_edge(b, b->resolving, node, true);
}

static void resolve_effect(struct catalog_walk *w, struct catalog_effect e, const char *name)
{
	struct catalog_builder *b = w->arg;
	/* information_schema only asks whether a table is the session's own temporary one; a client that has such is
	 * pinned to its backend (E5), for all others the answer is no everywhere. */
	bool standard = strcmp(b->c->nodes[b->resolving].schema, "information_schema") == 0;
	if (standard && strcmp(name, "pg_my_temp_schema") == 0)
		return;
	b->c->nodes[b->resolving].effect = catalog_worse(b->c->nodes[b->resolving].effect, e);
}

static void resolve_text(struct catalog_walk *w, const struct pending *p)
{
	struct catalog_builder *b = w->arg;
	struct sql_facts *f = parse_text(p);
	struct catalog_effect own = { .reason = RULE_BROKEN(A6) ? REASON_READ : route_body_reason(f),
		                      .pins = f->pins,
		                      .shows_time = f->flags & SQL_F_SHOWS_TIME };
	own.pins |= f->settings.n ? SQL_PIN_CUSTOM : 0;
	own.pins |= f->flags & SQL_F_MAY_TOUCH_SESSION ? SQL_PIN_UNKNOWN : 0;
	own.pins |= f->flags & (SQL_F_RESETS_SETTINGS | SQL_F_DYNAMIC) ? SQL_PIN_RESETS : 0;
	b->c->nodes[p->node].effect = catalog_worse(b->c->nodes[p->node].effect, own);
	b->resolving = p->node;
	if (!RULE_BROKEN(F4))
		catalog_walk(w, f);
	sql_facts_unref(f);
}

static void resolve_texts(struct catalog_builder *b)
{
	struct catalog_walk w = { .c = b->c, .on_node = resolve_node, .on_effect = resolve_effect, .arg = b };
	for (size_t i = 0; i < b->n_pending; i++)
		resolve_text(&w, &b->pending[i]);
}

static bool same_effect(const struct catalog_effect *a, const struct catalog_effect *b)
{
	return a->reason == b->reason && a->pins == b->pins && a->shows_time == b->shows_time && a->types == b->types &&
	       a->overloads == b->overloads;
}

static bool spread(struct catalog *c, const struct edge *e)
{
	struct node *from = &c->nodes[e->from];
	struct catalog_effect gained = c->nodes[e->to].effect, old = from->effect;
	uint64_t inner = from->inner_types;
	if (e->inner) {
		from->inner_types |= gained.types;
		gained.types = 0;
	}
	from->effect = catalog_worse(old, gained);
	return inner != from->inner_types || !same_effect(&old, &from->effect);
}

/* An overload that is called where a value of its type is at hand. */
static bool take_overloads(struct catalog *c, struct node *n)
{
	uint64_t meant = (n->effect.types | n->inner_types) & n->effect.overloads;
	struct catalog_effect old = n->effect;
	for (unsigned bit = 0; meant && bit < 64; bit++)
		if (meant & (1ull << bit))
			n->effect = catalog_worse(n->effect, c->overloads[bit]);
	return !same_effect(&old, &n->effect);
}

static bool spread_once(struct catalog_builder *b)
{
	struct catalog *c = b->c;
	bool changed = false;
	for (size_t i = 0; i < b->n_edges; i++)
		if (!c->nodes[b->edges[i].from].fixed)
			changed = spread(c, &b->edges[i]) || changed;
	collect_overloads(c);
	for (int i = 0; i < c->n_nodes; i++)
		if (!c->nodes[i].fixed)
			changed = take_overloads(c, &c->nodes[i]) || changed;
	return changed;
}

static void spread_effects(struct catalog_builder *b)
{
	for (int i = 0; i < b->c->n_nodes; i++)
		if (b->c->nodes[i].fixed)
			b->c->nodes[i].effect = (struct catalog_effect){ .reason = REASON_READ };
	while (spread_once(b))
		;
}

static void builder_free(struct catalog_builder *b)
{
	struct node_index *at, *next;
	HASH_ITER(hh, b->index, at, next)
	{
		HASH_DEL(b->index, at);
		mem_free(at);
	}
	struct type_bit *bit, *next_bit;
	HASH_ITER(hh, b->bits, bit, next_bit)
	{
		HASH_DEL(b->bits, bit);
		mem_free(bit);
	}
	for (size_t i = 0; i < b->n_pending; i++)
		mem_free(b->pending[i].text);
	mem_free(b->pending);
	mem_free(b->edges);
	mem_free(b->read_only);
	mem_free(b->write);
	XXH3_freeState(b->digest);
	mem_free(b);
}

uint64_t catalog_build_digest(const struct catalog_builder *b) { return XXH3_64bits_digest(b->digest); }

struct catalog *catalog_build_finish(struct catalog_builder *b)
{
	static _Atomic uint64_t ids = 2; /* 0 and 1 mean "none" to shapes */
	struct catalog *c = b->c;
	mark_types(b);
	resolve_texts(b);
	spread_effects(b);
	for (int i = 0; i < c->n_nodes; i++)
		c->reads_sequences |= (c->nodes[i].effect.pins & SQL_PIN_SEQUENCE) != 0;
	c->id = atomic_fetch_add(&ids, 1);
	c->digest = XXH3_64bits_digest(b->digest);
	builder_free(b);
	return c;
}

void catalog_build_abort(struct catalog_builder *b)
{
	if (!b)
		return;
	catalog_free(b->c);
	builder_free(b);
}
