/* proxy/params.h - interned sets of settings (name -> value), compared by pointer.
 *
 * A client's start-up settings, what it has been told by ParameterStatus, and what a backend has been set to are all
 * such sets.  They are immutable and hash-consed per worker: two equal sets are one object, so that "does this backend
 * have this client's settings?" is one comparison on the path of a query.
 *
 * Names are compared without case (guc.c guc_name_compare) and kept in lower case, except for the reported spelling of
 * ParameterStatus ("TimeZone"), which params_display_name() restores.  Owner: worker; not thread-safe. */
#ifndef PROXY_PARAMS_H
#define PROXY_PARAMS_H

#include <stdbool.h>
#include <uthash.h>
#include "base/str.h"

struct param {
	const char *name;  /* lower case; owned by the set */
	const char *value; /* owned by the set */
};

struct params {
	UT_hash_handle hh; /* in params_table.by_key */
	unsigned refs;
	unsigned n;
	uint64_t hash; /* of key: tells sets apart beyond the life of one */
	char *key;     /* owned: name\0value\0... sorted by name; the strings that items point to */
	size_t key_len;
	const char
	    *isolation; /* value of default_transaction_isolation, which is asked for at each statement, or NULL */
	bool odd_path;  /* its search_path lets names hide PostgreSQL's own (E5) */
	struct param items[];
};

struct params_table {
	struct params *by_key;
	struct params *empty; /* always there */
};

void params_table_init(struct params_table *t);
void params_table_deinit(struct params_table *t);

/* Each returns a new reference; `base` is borrowed. */
struct params *params_ref(struct params *p);
void params_unref(struct params_table *t, struct params *p); /* NULL is fine */
struct params *params_with(struct params_table *t, const struct params *base, struct str name, struct str value);
struct params *params_without(struct params_table *t, const struct params *base, struct str name);

struct params *params_from_key(struct params_table *t, const char *key, size_t key_len); /* of another worker's set */

/* Both sets' names, with the values of `more` where both have one; a new reference. */
struct params *params_union(struct params_table *t, struct params *base, const struct params *more);
/* Every name of `part` is one of `whole`. */
bool params_are_among(const struct params *part, const struct params *whole);
const char *params_get(const struct params *p, const char *name); /* NULL when absent; borrowed */

/* Replaces *slot (a reference that the caller owns) by the set with one value changed. */
void params_set(struct params_table *t, struct params **slot, struct str name, struct str value);

/* The spelling in which PostgreSQL reports this setting (guc.c), or the name itself. */
const char *params_display_name(const char *lower_name);

#endif
