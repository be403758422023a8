/* facts.c - see sql/facts.h.
 *
 * While a text is walked, names go into growing lists of a draft.  facts_finish() sorts them, drops what is said twice
 * (a large INSERT says now() a thousand times), settles what needs the whole text (which relation names are those of a
 * WITH, whether the result is fixed), and lays everything into one block:
 *
 *   | struct sql_facts | sql_stmt ... | sql_ref ... of each list | strings |
 *
 * One block is one allocation, one free, and a size that the cache can count. */
#include "sql/facts.h"
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/rules.h"
#include "builtins_priv.h"
#include "facts_priv.h"

static const char *const verb_names[] = {
#define VERB_NAME(id, doc) #id,
	SQL_VERBS(VERB_NAME)
#undef VERB_NAME
};
static const char *const flag_names[] = {
#define FLAG_NAME(id, doc) #id,
	SQL_FLAGS(FLAG_NAME)
#undef FLAG_NAME
};
static const char *const pin_names[] = {
#define PIN_NAME(id, doc) #id,
	SQL_PINS(PIN_NAME)
#undef PIN_NAME
};
static const char *const unparsed_names[] = {
#define UNPARSED_NAME(id, doc) #id,
	SQL_UNPARSED_REASONS(UNPARSED_NAME)
#undef UNPARSED_NAME
};
_Static_assert(ARRAY_LEN(flag_names) <= 32 && ARRAY_LEN(pin_names) <= 32, "flags and pins are bits of a uint32_t");

const char *sql_verb_name(enum sql_verb verb) { return verb_names[verb]; }
const char *sql_flag_name(enum sql_flag_bit bit) { return flag_names[bit]; }
const char *sql_pin_name(enum sql_pin_bit bit) { return pin_names[bit]; }
const char *sql_unparsed_name(enum sql_unparsed why) { return unparsed_names[why]; }

struct sql_facts *sql_facts_ref(struct sql_facts *f)
{
	CHECK(f->refs > 0);
	f->refs++;
	return f;
}

void sql_facts_unref(struct sql_facts *f)
{
	if (!f)
		return;
	CHECK(f->refs > 0);
	if (--f->refs == 0)
		mem_free(f);
}

/* --- the draft --- */

void facts_start(struct facts_draft *d) { *d = (struct facts_draft){ .unparsed = SQL_UNPARSED_NONE }; }

static void *grow(void *v, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return v;
	*cap = *cap ? *cap * 2 : 8;
	return mem_realloc(v, *cap * size);
}

uint32_t facts_string(struct facts_draft *d, const char *s, size_t n)
{
	uint32_t at = (uint32_t)d->pool_n;
	if (d->pool_n + n + 1 > d->pool_cap) {
		d->pool_cap = (d->pool_n + n + 1) * 2;
		d->pool = mem_realloc(d->pool, d->pool_cap);
	}
	memcpy(d->pool + at, s, n);
	d->pool[at + n] = 0;
	d->pool_n += n + 1;
	return at + 1;
}

void facts_set_name(struct facts_draft *d, uint32_t *field, const char *s)
{
	*field = s && *s ? facts_string(d, s, strlen(s)) : 0;
}

struct draft_ref *facts_ref(struct facts_draft *d, struct draft_refs *list, const char *schema, const char *name)
{
	list->v = grow(list->v, list->n, &list->cap, sizeof(*list->v));
	struct draft_ref *r = &list->v[list->n++];
	*r = (struct draft_ref){ 0 };
	facts_set_name(d, &r->schema, schema);
	facts_set_name(d, &r->name, name);
	return r;
}

struct draft_stmt *facts_stmt(struct facts_draft *d, enum sql_verb verb)
{
	d->stmts = grow(d->stmts, d->n_stmts, &d->cap_stmts, sizeof(*d->stmts));
	struct draft_stmt *s = &d->stmts[d->n_stmts++];
	*s = (struct draft_stmt){ .s = { .verb = verb } };
	return s;
}

/* --- from draft to facts --- */

static const char *draft_text(const struct facts_draft *d, uint32_t at) { return at ? d->pool + at - 1 : NULL; }

static int compare_texts(const char *a, const char *b)
{
	if (!a || !b)
		return (a != NULL) - (b != NULL);
	return strcmp(a, b);
}

static int compare_refs(const void *left, const void *right, void *draft)
{
	const struct draft_ref *a = left, *b = right;
	const struct facts_draft *d = draft;
	int by_name = compare_texts(draft_text(d, a->name), draft_text(d, b->name));
	int by_schema = by_name ? by_name : compare_texts(draft_text(d, a->schema), draft_text(d, b->schema));
	return by_schema ? by_schema : a->arg - b->arg;
}

/* Long texts name the same things again and again. */
static void sort_unique(struct facts_draft *d, struct draft_refs *list)
{
	size_t kept = 0;
	if (list->n < 2)
		return;
	qsort_r(list->v, list->n, sizeof(*list->v), compare_refs, d);
	for (size_t i = 1; i < list->n; i++)
		if (compare_refs(&list->v[kept], &list->v[i], d) != 0)
			list->v[++kept] = list->v[i];
	list->n = kept + 1;
}

/* The lists that these two search are short: WITHs, aliases. */
static bool has_name(const struct facts_draft *d, const struct draft_refs *list, const char *name)
{
	for (size_t i = 0; name && i < list->n; i++)
		if (compare_texts(draft_text(d, list->v[i].name), name) == 0)
			return true;
	return false;
}

static bool has_qualifier(const struct facts_draft *d, const struct draft_refs *list, const char *name)
{
	for (size_t i = 0; i < list->n; i++)
		if (compare_texts(draft_text(d, list->v[i].schema), name) == 0)
			return true;
	return false;
}

/* Scopes are not tracked: a WITH anywhere makes every unqualified relation of that name suspect of being it.  Both
 * readings are then allowed for: the relation must be harmless where there is one, and need not be known. */
static void mark_ctes(struct facts_draft *d)
{
	struct draft_refs *r = &d->refs[REFS_relations], *a = &d->refs[REFS_aliases];
	for (size_t i = 0; i < r->n; i++)
		r->v[i].cte = !r->v[i].schema && has_name(d, &d->ctes, draft_text(d, r->v[i].name));
	for (size_t i = 0; i < a->n; i++)
		if (has_name(d, &d->ctes, draft_text(d, a->v[i].name)))
			a->v[i].name = 0;
}

/* What a function's name alone says; whether it really is PostgreSQL's own is for the catalog to say. */
static bool note_builtins(struct facts_draft *d)
{
	static const char *const sequence[] = { "nextval", "setval", "currval", "lastval" };
	const struct draft_refs *list = &d->refs[REFS_functions];
	bool all_plain = true;
	for (size_t i = 0; i < list->n; i++) {
		struct builtin b;
		const char *name = draft_text(d, list->v[i].name);
		if (!builtin_schema(draft_text(d, list->v[i].schema)) || !builtin_find(name, &b)) {
			all_plain = false;
			continue;
		}
		d->pins |= b.pins & ~(uint32_t)SQL_PIN_SETTING;
		d->flags |= b.shows_time ? SQL_F_SHOWS_TIME : 0;
		if (b.class == BUILTIN_SNAPSHOT && !RULE_BROKEN(C6))
			d->flags |= SQL_F_SNAPSHOT | SQL_F_DUMP;
		d->flags |= b.class == BUILTIN_SETTING ? SQL_F_READS_SETTING : 0;
		for (size_t k = 0; k < ARRAY_LEN(sequence); k++)
			d->flags |= strcmp(name, sequence[k]) == 0 ? SQL_F_USES_SEQUENCE : 0;
	}
	d->pins |= d->sets_setting ? SQL_PIN_SETTING : 0;
	return all_plain;
}

/* D3: outside DDL on what it names, the columns of its result are what they are. */
static bool result_is_fixed(const struct facts_draft *d, bool plain_functions)
{
	if (d->unparsed || d->n_stmts != 1 || d->star || !plain_functions)
		return false;
	enum sql_verb verb = d->stmts[0].s.verb;
	if (verb != SQL_SELECT && verb != SQL_INSERT && verb != SQL_UPDATE && verb != SQL_DELETE)
		return false;
	for (size_t i = 0; i < d->plain.n; i++)
		if (has_qualifier(d, &d->refs[REFS_aliases], draft_text(d, d->plain.v[i].name)))
			return false;
	return true;
}

static size_t block_size(const struct facts_draft *d)
{
	size_t n = sizeof(struct sql_facts) + d->n_stmts * sizeof(struct sql_stmt) + d->pool_n;
	for (size_t i = 0; i < REFS_COUNT; i++)
		n += d->refs[i].n * sizeof(struct sql_ref);
	return n;
}

static char *copy_stmts(const struct facts_draft *d, struct sql_facts *f, char *at, const char *pool)
{
	struct sql_stmt *stmts = (struct sql_stmt *)(void *)at;
	for (size_t i = 0; i < d->n_stmts; i++) {
		stmts[i] = d->stmts[i].s;
		stmts[i].name = d->stmts[i].name ? pool + d->stmts[i].name - 1 : NULL;
		stmts[i].value = d->stmts[i].value ? pool + d->stmts[i].value - 1 : NULL;
		stmts[i].runs = d->stmts[i].runs ? pool + d->stmts[i].runs - 1 : NULL;
	}
	f->stmts = stmts;
	f->n_stmts = (unsigned)d->n_stmts;
	return at + d->n_stmts * sizeof(*stmts);
}

static char *copy_refs(const struct draft_refs *from, struct sql_refs *to, char *at, const char *pool)
{
	struct sql_ref *v = (struct sql_ref *)(void *)at;
	for (size_t i = 0; i < from->n; i++) {
		const struct draft_ref *r = &from->v[i];
		v[i] = (struct sql_ref){ .schema = r->schema ? pool + r->schema - 1 : NULL,
			                 .name = r->name ? pool + r->name - 1 : NULL,
			                 .arg = r->arg,
			                 .cte = r->cte };
	}
	*to = (struct sql_refs){ v, (unsigned)from->n };
	return at + from->n * sizeof(*v);
}

bool sql_path_is_odd(const char *search_path)
{
	const char *found = strstr(search_path, "pg_catalog");
	return (found && strspn(search_path, " \"'\t\n") < (size_t)(found - search_path)) ||
	       strstr(search_path, "pg_temp") || strchr(search_path, '\\');
}

void facts_setting(struct facts_draft *d, const char *name)
{
	d->flags |= SQL_F_SETS;
	if (!strchr(name, '.'))
		return;
	(void)facts_ref(d, &d->refs[REFS_settings], NULL, name);
	d->flags |= SQL_F_CUSTOM_SETTING;
}

static void draft_free(struct facts_draft *d)
{
	for (size_t i = 0; i < REFS_COUNT; i++)
		mem_free(d->refs[i].v);
	mem_free(d->ctes.v);
	mem_free(d->plain.v);
	mem_free(d->stmts);
	mem_free(d->pool);
}

static bool has_ref(const struct facts_draft *d, const struct draft_refs *refs, const char *name)
{
	for (size_t i = 0; i < refs->n; i++) {
		if (refs->v[i].name && strcmp(d->pool + refs->v[i].name - 1, name) == 0)
			return true;
	}
	return false;
}

static bool shows_settings(const struct facts_draft *d)
{
	return has_ref(d, &d->refs[REFS_relations], "pg_settings") ||
	       has_ref(d, &d->refs[REFS_functions], "pg_show_all_settings");
}

struct sql_facts *facts_finish(struct facts_draft *d)
{
	if (d->n_stmts == 0)
		(void)facts_stmt(d, SQL_EMPTY);
	for (size_t i = 0; i < REFS_COUNT; i++)
		sort_unique(d, &d->refs[i]);
	sort_unique(d, &d->ctes);
	sort_unique(d, &d->plain);
	mark_ctes(d);
	bool plain_functions = note_builtins(d);
	d->flags |= result_is_fixed(d, plain_functions) ? SQL_F_FIXED_RESULT : 0;
	d->flags |= plain_functions ? 0 : SQL_F_USER_CODE;
	d->flags |= shows_settings(d) ? SQL_F_SHOWS_SETTINGS : 0;

	struct sql_facts *f = mem_zalloc(block_size(d));
	char *at = (char *)(f + 1), *pool = (char *)f + block_size(d) - d->pool_n;
	if (d->pool_n)
		memcpy(pool, d->pool, d->pool_n);
	f->refs = 1;
	f->unparsed = d->unparsed;
	f->multi = d->n_stmts > 1 || d->multi;
	f->flags = d->flags;
	f->pins = d->pins;
	f->n_binds = d->n_binds;
	f->bytes = block_size(d);
	at = copy_stmts(d, f, at, pool);
#define COPY_REFS(field) at = copy_refs(&d->refs[REFS_##field], &f->field, at, pool);
	FACT_REFS(COPY_REFS)
#undef COPY_REFS
	CHECK(at == pool);
	draft_free(d);
	return f;
}
