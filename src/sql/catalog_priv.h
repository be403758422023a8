/* catalog_priv.h - the rows of catalog_queries[], and the graph that is made of them.
 *
 * A node is an object under one aspect; an edge says "using this may use that".  Names lead to all nodes of that name
 * over all schemas.  After the build each node's effect is that of its whole closure. */
#ifndef SQL_CATALOG_PRIV_H
#define SQL_CATALOG_PRIV_H

#include <stdatomic.h>
#include <uthash.h>
#include "sql/catalog.h"
#include "sql/facts.h"

enum catalog_query_id {
	CATALOG_FUNCTIONS,
	CATALOG_OPERATORS,
	CATALOG_TYPES,
	CATALOG_RELATIONS,
	CATALOG_COLUMNS,
	CATALOG_TEXTS,
	CATALOG_FUNCTION_EDGES,
	CATALOG_TYPE_EDGES,
	CATALOG_CAST_EDGES,
	CATALOG_RELATION_EDGES
};

/* The letter is that of the edge queries. */
#define NODE_KINDS(X)                                                                                                  \
	X(FUNCTION, 'F', "calling it")                                                                                 \
	X(OPERATOR, 'O', "applying it")                                                                                \
	X(TYPE_READ, 'I', "reading, comparing and showing its values")                                                 \
	X(TYPE_MAKE, 'M', "making its values: casts, domain checks")                                                   \
	X(READ, 'R', "reading the relation")                                                                           \
	X(WRITE, 'W', "writing it: triggers, defaults, checks; counts for pins only")                                  \
	X(TEXT_SEARCH, 'X', "any text search function; one node")                                                      \
	X(AMBIENT, 'A', "anything at all: implicit casts between builtin types; one node")
enum node_kind {
#define NODE_KIND_ENUM(id, letter, doc) NODE_##id,
	NODE_KINDS(NODE_KIND_ENUM)
#undef NODE_KIND_ENUM
	    NODE_KIND_COUNT
};

enum { NO_NODE = -1 };

struct node {
	enum node_kind kind;
	bool fixed; /* its effect is given, not found: read_only_functions */
	uint32_t oid;
	int next_same_name;   /* of the same kind, or NO_NODE */
	const char *schema;   /* in the catalog's name table */
	uint64_t inner_types; /* bits of effect.types: at hand within it (a body, a view's query), not for its users */
	uint64_t needs;       /* bits of effect.types; not 0: an overload that needs one of these types */
	struct catalog_effect effect;
};

struct name {
	UT_hash_handle hh;
	int head[NODE_KIND_COUNT]; /* first node of each kind, or NO_NODE */
	char text[];
};

/* A column that shares its name with a function. */
struct column {
	UT_hash_handle hh;
	struct column_key {
		uint32_t relation;
		char name[64];
	} key;
};

struct catalog {
	atomic_uint refs;
	uint64_t id, digest;
	size_t bytes;
	struct name *names;     /* owned */
	struct column *columns; /* owned */
	struct node *nodes;     /* owned */
	int n_nodes;
	bool reads_sequences;                /* something in it calls currval() or lastval() (E3) */
	int text_search, ambient;            /* node indexes */
	struct catalog_effect overloads[64]; /* by bit of types: what the overloads for them may do */
};

struct name *catalog_find_name(const struct catalog *c, const char *text); /* NULL: none */
void catalog_free(struct catalog *c);

/* Walks what facts refer to by name. */
struct catalog_walk {
	const struct catalog *c;
	/* A node that may be used; `name` is how the facts call it. */
	void (*on_node)(struct catalog_walk *w, int node, const char *name);
	/* What needs no node: a builtin, or an unknown name. */
	void (*on_effect)(struct catalog_walk *w, struct catalog_effect effect, const char *name);
	void *arg;
};
void catalog_walk(struct catalog_walk *w, const struct sql_facts *f);

struct catalog_effect catalog_worse(struct catalog_effect a, struct catalog_effect b);

#endif
