/* control/show_queries.c - SHOW QUERIES, APPLICATIONS and LATENCIES: what has cost how much (proxy/measure.h), over all
 * workers.
 *
 * Of each worker the dearest shapes only are looked at, so that an answer stays short.  A shape that has left the
 * cache takes its figures with it. */
#include "control/show_tables.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "base/mem.h"
#include "control/usage.h"
#include "proxy/measure.h"
#include "proxy/worker.h"

enum { SHAPES_SHOWN_MAX = 200 };

/* One row: a shape by its key, an application by its name. */
struct cost {
	UT_hash_handle hh;
	struct shape_use use;
	unsigned clients;
	uint64_t logins, errors;
	char *text; /* owned */
	size_t key_len;
	char key[];
};

static struct cost *cost_of(struct show_query *q, const void *key, size_t key_len, const char *text)
{
	struct cost *all = q->data, *c;
	HASH_FIND(hh, all, key, key_len, c);
	if (c)
		return c;
	c = mem_zalloc(sizeof *c + key_len);
	memcpy(c->key, key, key_len);
	c->key_len = key_len;
	c->text = mem_strdup(text);
	HASH_ADD(hh, all, key, key_len, c);
	q->data = all;
	return c;
}

static int dearer_first(struct cost *a, struct cost *b) { return (a->use.us < b->use.us) - (a->use.us > b->use.us); }

static uint64_t mean(uint64_t sum, uint64_t n) { return n ? sum / n : 0; }

static void put_times(struct show_rows *r, const struct shape_use *u)
{
	show_u64(r, u->us);
	show_u64(r, mean(u->us, u->calls));
	show_u64(r, histogram_quantile_us(&u->latency, 0.50));
	show_u64(r, histogram_quantile_us(&u->latency, 0.95));
	show_u64(r, histogram_quantile_us(&u->latency, 0.99));
	show_u64(r, u->max_us);
	show_u64(r, u->wait_us);
	show_u64(r, u->rows);
	show_u64(r, u->bytes);
	show_u64(r, u->calls ? u->to_replica * 100 / u->calls : 0);
}

#define TIME_COLUMNS                                                                                                   \
	{ "total_us", SHOW_BIGINT }, { "mean_us", SHOW_BIGINT }, { "p50_us", SHOW_BIGINT }, { "p95_us", SHOW_BIGINT }, \
	    { "p99_us", SHOW_BIGINT }, { "max_us", SHOW_BIGINT }, { "wait_us", SHOW_BIGINT }, { "rows", SHOW_BIGINT }, \
	    { "bytes", SHOW_BIGINT },                                                                                  \
	{                                                                                                              \
		"replica_percent", SHOW_INT                                                                            \
	}

static void free_costs(struct show_query *q)
{
	struct cost *all = q->data, *c, *next;
	HASH_ITER(hh, all, c, next)
	{
		HASH_DEL(all, c);
		mem_free(c->text);
		mem_free(c);
	}
	q->data = NULL;
}

/* --- QUERIES --- */

static const struct show_column queries_columns[] = {
	{ "query", SHOW_TEXT }, { "calls", SHOW_BIGINT }, { "errors", SHOW_BIGINT }, TIME_COLUMNS
};

struct seen {
	uint8_t key[SHAPE_KEY_BYTES];
	const char *text;            /* borrowed from the worker */
	const struct shape_use *use; /* the same */
};

struct seen_list {
	struct seen *items; /* owned */
	size_t n, cap;
};

static void note_shape(const uint8_t key[SHAPE_KEY_BYTES], const char *text, const struct shape_use *use, void *arg)
{
	struct seen_list *l = arg;
	if (l->n == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 256;
		l->items = mem_realloc(l->items, l->cap * sizeof *l->items);
	}
	struct seen *s = &l->items[l->n++];
	*s = (struct seen){ .text = text, .use = use };
	memcpy(s->key, key, SHAPE_KEY_BYTES);
}

static int seen_dearer_first(const void *a, const void *b)
{
	uint64_t x = ((const struct seen *)a)->use->us, y = ((const struct seen *)b)->use->us;
	return (x < y) - (x > y);
}

static void queries_collect(struct worker *w, struct show_query *q)
{
	static const uint8_t other[SHAPE_KEY_BYTES] = { 0 };
	struct seen_list l = { 0 };
	shapes_each_used(w->shapes, note_shape, &l);
	if (l.n)
		qsort(l.items, l.n, sizeof *l.items, seen_dearer_first);
	for (size_t i = 0; i < l.n && i < SHAPES_SHOWN_MAX; i++)
		shape_use_sum(&cost_of(q, l.items[i].key, SHAPE_KEY_BYTES, l.items[i].text)->use, l.items[i].use);
	if (w->other_use.calls)
		shape_use_sum(&cost_of(q, other, sizeof other, "(several statements, or too large to be read)")->use,
		              &w->other_use);
	mem_free(l.items);
}

static void queries_finish(struct show_query *q)
{
	struct cost *all = q->data;
	HASH_SORT(all, dearer_first);
	q->data = all;
	for (const struct cost *c = all; c; c = c->hh.next) {
		show_text(&q->rows, c->text);
		show_u64(&q->rows, c->use.calls);
		show_u64(&q->rows, c->use.errors);
		put_times(&q->rows, &c->use);
	}
	free_costs(q);
}

const struct show_table show_queries = { "QUERIES",
	                                 "statement shapes and what they have cost, dearest first",
	                                 queries_columns,
	                                 ARRAY_LEN(queries_columns),
	                                 queries_collect,
	                                 queries_finish,
	                                 0 };

/* --- APPLICATIONS --- */

static const struct show_column applications_columns[] = { { "application_name", SHOW_TEXT }, { "clients", SHOW_INT },
	                                                   { "logins", SHOW_BIGINT },         { "calls", SHOW_BIGINT },
	                                                   { "errors", SHOW_BIGINT },         TIME_COLUMNS };

static void applications_collect(struct worker *w, struct show_query *q)
{
	for (const struct application *a = w->applications; a; a = a->hh.next) {
		struct cost *c = cost_of(q, a->name, strlen(a->name) + 1, a->name);
		shape_use_sum(&c->use, &a->use);
		c->clients += a->clients;
		c->logins += a->logins;
		c->errors += a->errors;
	}
}

static void applications_finish(struct show_query *q)
{
	struct cost *all = q->data;
	HASH_SORT(all, dearer_first);
	q->data = all;
	for (const struct cost *c = all; c; c = c->hh.next) {
		show_text(&q->rows, c->text);
		show_u64(&q->rows, c->clients);
		show_u64(&q->rows, c->logins);
		show_u64(&q->rows, c->use.calls);
		show_u64(&q->rows, c->errors);
		put_times(&q->rows, &c->use);
	}
	free_costs(q);
}

const struct show_table show_applications = { "APPLICATIONS",
	                                      "application_names and what they have cost, dearest first",
	                                      applications_columns,
	                                      ARRAY_LEN(applications_columns),
	                                      applications_collect,
	                                      applications_finish,
	                                      0 };

/* --- LATENCIES --- */

static const struct show_column latencies_columns[] = { { "what", SHOW_TEXT },
	                                                { "below_us", SHOW_BIGINT },
	                                                { "requests", SHOW_BIGINT } };

/* A bucket holds what took less than below_us and not less than the bucket before; empty ones are left out. */
static void put_buckets(struct show_rows *r, const char *what, const struct histogram *h)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (!h->count[i])
			continue;
		show_text(r, what);
		show_u64(r, histogram_end_us(i));
		show_u64(r, h->count[i]);
	}
}

static void latencies_finish(struct show_query *q)
{
	struct measures sum = { 0 };
	for (const struct usage *u = q->usage->entries; u; u = u->hh.next)
		measures_sum(&sum, &u->measures);
	put_buckets(&q->rows, "primary", &sum.latency[0]);
	put_buckets(&q->rows, "replica", &sum.latency[1]);
	put_buckets(&q->rows, "wait", &sum.wait);
}

const struct show_table show_latencies = {
	"LATENCIES",
	"requests by how long they took, by where they ran, and by how long they waited",
	latencies_columns,
	ARRAY_LEN(latencies_columns),
	NULL,
	latencies_finish,
	SHOW_USES_USAGE
};
