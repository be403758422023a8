/* control/show.c - see control/show.h. */
#include "control/show.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/mem.h"
#include "base/mono.h"
#include "control/ask.h"
#include "control/show_tables.h"
#include "control/usage.h"
#include "proxy/worker.h"

uint32_t show_type_oid(enum show_type type)
{
	static const uint32_t oids[] = {
#define SHOW_TYPE_OID(id, oid) [SHOW_##id] = (oid),
		SHOW_TYPES(SHOW_TYPE_OID)
#undef SHOW_TYPE_OID
	};
	return oids[type];
}

/* --- rows --- */

void show_rows_init(struct show_rows *r, const struct show_column *columns, unsigned n_columns)
{
	CHECK(n_columns <= SHOW_COLUMNS_MAX);
	*r = (struct show_rows){ .columns = columns, .n_columns = n_columns };
}

void show_rows_free(struct show_rows *r)
{
	buf_deinit(&r->bytes);
	mem_free(r->cells);
	r->cells = NULL;
	r->n_cells = r->cap = 0;
}

/* Doubling: SHOW CLIENTS of ten thousand clients has a quarter of a million cells. */
static void add_cell(struct show_rows *r, size_t value)
{
	if (r->n_cells == r->cap) {
		r->cap = r->cap ? 2 * r->cap : 256;
		r->cells = mem_realloc(r->cells, r->cap * sizeof *r->cells);
	}
	r->cells[r->n_cells++] = value;
}

/* A row that does not fit into memory is a row of NULLs: the books stay whole. */
void show_text(struct show_rows *r, const char *value)
{
	size_t at = buf_len(&r->bytes);
	bool ok = value && buf_put(&r->bytes, value, strlen(value) + 1);
	add_cell(r, ok ? at + 1 : 0);
}

void show_u64(struct show_rows *r, uint64_t value) { show_printf(r, "%llu", (unsigned long long)value); }
void show_i64(struct show_rows *r, int64_t value) { show_printf(r, "%lld", (long long)value); }

void show_printf(struct show_rows *r, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	show_text(r, text);
}

/* Objects note monotonic times only, so the wall clock's time is worked out when somebody asks. */
void show_time(struct show_rows *r, uint64_t mono_us)
{
	char text[64];
	struct tm tm;
	if (!mono_us) {
		show_text(r, NULL);
		return;
	}
	time_t at = time(NULL) - (time_t)((mono_now_us() - mono_us) / MONO_SEC);
	gmtime_r(&at, &tm);
	strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm);
	show_text(r, text);
}

const char *show_cell(const struct show_rows *r, size_t row, unsigned column)
{
	size_t at = r->cells[row * r->n_columns + column];
	return at ? (const char *)buf_head(&r->bytes) + at - 1 : NULL;
}

/* --- tables --- */

static const struct show_table *const tables[] = {
	&show_pools,          &show_clients,   &show_servers,      &show_databases,
	&show_users,          &show_stats,     &show_stats_totals, &show_stats_averages,
	&show_totals,         &show_lists,     &show_config,       &show_replicas,
	&show_host_pools,     &show_pins,      &show_routes,       &show_workers,
	&show_state,          &show_mem,       &show_version,      &show_peers,
	&show_peer_pools,     &show_dns_hosts, &show_dns_zones,    &show_sockets,
	&show_active_sockets, &show_fds,       &show_queries,      &show_applications,
	&show_latencies,      &show_advice,
};

size_t show_count(void) { return ARRAY_LEN(tables); }
const struct show_table *show_at(size_t i) { return tables[i]; }

const struct show_table *show_find(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		if (str_ieq(name, str_of(tables[i]->name)))
			return tables[i];
	}
	return NULL;
}

/* The first worker's configuration stands for all: a reload under way would show a mixture otherwise. */
static void on_worker(struct worker *w, void *arg)
{
	struct show_query *q = arg;
	if (!q->config)
		q->config = config_ref(w->runtime->config);
	if (q->usage)
		usage_add_worker(q->usage, w);
	if (q->table->collect)
		q->table->collect(w, q);
}

static void on_done(void *arg)
{
	struct show_query *q = arg;
	if (q->usage)
		usage_sort(q->usage);
	if (q->table->finish)
		q->table->finish(q);
	/* A producer that forgets a cell would shift all rows after it. */
	CHECK(q->rows.n_cells % q->rows.n_columns == 0);
	q->done(q);
}

bool show_start(struct show_query *q, const struct show_table *table, struct loop *asker)
{
	q->table = table;
	show_rows_init(&q->rows, table->columns, table->n_columns);
	q->usage = table->flags & SHOW_USES_USAGE ? usage_new() : NULL;
	if (ask_workers(asker, on_worker, on_done, q))
		return true;
	show_query_free(q);
	return false;
}

void show_query_free(struct show_query *q)
{
	show_rows_free(&q->rows);
	usage_free(q->usage);
	config_unref(q->config);
	q->usage = NULL;
	q->config = NULL;
}
