/* proxy/params.c - see proxy/params.h.
 *
 * Sets are small (a dozen settings) and change rarely, so a sorted array and a linear merge beat anything cleverer;
 * only the intern table is a hash. */
#include "proxy/params.h"

#include <ctype.h>
#include <strings.h>
#include <xxhash.h>
#include "base/mem.h"
#include "sql/facts.h"

/* Settings of GUC_REPORT whose canonical name is not lower case (PostgreSQL 14 to 18, guc_tables.c). */
static const char *const mixed_case_names[] = { "DateStyle", "IntervalStyle", "TimeZone" };

const char *params_display_name(const char *lower_name)
{
	for (size_t i = 0; i < ARRAY_LEN(mixed_case_names); i++) {
		if (strcasecmp(mixed_case_names[i], lower_name) == 0)
			return mixed_case_names[i];
	}
	return lower_name;
}

static struct params *new_set(const struct param *items, unsigned n)
{
	size_t bytes = 0;
	for (unsigned i = 0; i < n; i++)
		bytes += strlen(items[i].name) + strlen(items[i].value) + 2;
	struct params *p = mem_zalloc(sizeof *p + n * sizeof p->items[0]);
	p->key = mem_alloc(bytes);
	p->key_len = bytes;
	p->n = n;
	char *w = p->key;
	for (unsigned i = 0; i < n; i++) {
		size_t nn = strlen(items[i].name) + 1, nv = strlen(items[i].value) + 1;
		p->items[i] = (struct param){ memcpy(w, items[i].name, nn), memcpy(w + nn, items[i].value, nv) };
		w += nn + nv;
	}
	return p;
}

static void free_set(struct params *p)
{
	mem_free(p->key);
	mem_free(p);
}

static struct params *intern(struct params_table *t, const struct param *items, unsigned n)
{
	struct params *fresh = new_set(items, n), *found = NULL;
	HASH_FIND(hh, t->by_key, fresh->key, fresh->key_len, found);
	if (found) {
		free_set(fresh);
		return params_ref(found);
	}
	fresh->hash = XXH3_64bits(fresh->key, fresh->key_len);
	HASH_ADD_KEYPTR(hh, t->by_key, fresh->key, fresh->key_len, fresh);
	fresh->refs = 1;
	fresh->isolation = params_get(fresh, "default_transaction_isolation");
	const char *path = params_get(fresh, "search_path");
	fresh->odd_path = path && sql_path_is_odd(path);
	return fresh;
}

void params_table_init(struct params_table *t)
{
	t->by_key = NULL;
	t->empty = intern(t, NULL, 0);
}

void params_table_deinit(struct params_table *t)
{
	params_unref(t, t->empty);
	t->empty = NULL;
}

struct params *params_ref(struct params *p)
{
	p->refs++;
	return p;
}

void params_unref(struct params_table *t, struct params *p)
{
	if (!p)
		return;
	CHECK(p->refs > 0);
	if (--p->refs)
		return;
	HASH_DEL(t->by_key, p);
	free_set(p);
}

const char *params_get(const struct params *p, const char *name)
{
	for (unsigned i = 0; i < p->n; i++) {
		if (strcasecmp(p->items[i].name, name) == 0)
			return p->items[i].value;
	}
	return NULL;
}

/* One setting replaced, added (value) or taken away (value NULL); the result stays sorted. */
static struct params *derive(struct params_table *t, const struct params *base, const char *name, const char *value)
{
	struct param *items = mem_alloc((base->n + 1) * sizeof *items);
	unsigned n = 0;
	bool placed = value == NULL;
	for (unsigned i = 0; i < base->n; i++) {
		int order = strcmp(base->items[i].name, name);
		if (order >= 0 && !placed) {
			items[n++] = (struct param){ name, value };
			placed = true;
		}
		if (order != 0)
			items[n++] = base->items[i];
	}
	if (!placed)
		items[n++] = (struct param){ name, value };
	struct params *p = intern(t, items, n);
	mem_free(items);
	return p;
}

static char *lower_name(struct str name)
{
	char *s = mem_strndup(name.p, name.n);
	for (char *c = s; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return s;
}

struct params *params_with(struct params_table *t, const struct params *base, struct str name, struct str value)
{
	char *n = lower_name(name), *v = mem_strndup(value.p, value.n);
	struct params *p = derive(t, base, n, v);
	mem_free(n);
	mem_free(v);
	return p;
}

struct params *params_without(struct params_table *t, const struct params *base, struct str name)
{
	char *n = lower_name(name);
	struct params *p = derive(t, base, n, NULL);
	mem_free(n);
	return p;
}

struct params *params_union(struct params_table *t, struct params *base, const struct params *more)
{
	struct params *p = params_ref(base);
	for (unsigned i = 0; i < more->n; i++)
		params_set(t, &p, str_of(more->items[i].name), str_of(more->items[i].value));
	return p;
}

bool params_are_among(const struct params *part, const struct params *whole)
{
	for (unsigned i = 0; part != whole && i < part->n; i++) {
		if (!params_get(whole, part->items[i].name))
			return false;
	}
	return true;
}

static bool has_value(const struct params *p, struct str name, struct str value)
{
	for (unsigned i = 0; i < p->n; i++) {
		if (str_ieq(str_of(p->items[i].name), name))
			return str_eq(str_of(p->items[i].value), value);
	}
	return false;
}

void params_set(struct params_table *t, struct params **slot, struct str name, struct str value)
{
	if (has_value(*slot, name, value))
		return; /* as at nearly every login: equal sets are one object */
	struct params *p = params_with(t, *slot, name, value);
	params_unref(t, *slot);
	*slot = p;
}

struct params *params_from_key(struct params_table *t, const char *key, size_t key_len)
{
	struct params *p = params_ref(t->empty);
	for (size_t at = 0; at < key_len;) {
		struct str name = str_of(key + at), value = str_of(key + at + name.n + 1);
		params_set(t, &p, name, value);
		at += name.n + value.n + 2;
	}
	return p;
}
