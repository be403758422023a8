/* control/report_metrics.c - /metrics in Prometheus's text format: see control/report.h.
 *
 * Names of databases and users come from the network where [databases] has "*", so there is a bound on how many series
 * there are: what is beyond it is added up as "(other)".  Nothing has a statement's text or an application's name as a
 * label; SHOW QUERIES and SHOW APPLICATIONS have those. */
#include "control/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "cluster/monitor.h"
#include "control/usage.h"

enum { POOLS_SHOWN_MAX = 300 };

struct metrics {
	struct buf *out; /* borrowed */
	bool ok;
};

static void put(struct metrics *m, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Fails stickily: asked once, at the end. */
static void put(struct metrics *m, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	m->ok = m->ok && n >= 0 && (size_t)n < sizeof line && buf_put(m->out, line, (size_t)n);
}

static void put_head(struct metrics *m, const char *name, const char *type, const char *help)
{
	put(m, "# HELP pgweir_%s %s\n# TYPE pgweir_%s %s\n", name, help, name, type);
}

/* A label's value: UTF-8 with backslash, quote and newline escaped; cut when it is absurdly long. */
static const char *label(const char *value, char out[256])
{
	size_t n = 0;
	while (*value && n < 248) {
		size_t len = str_utf8_length(value);
		if (*value == '\\' || *value == '"')
			out[n++] = '\\';
		if (*value == '\n') {
			memcpy(out + n, "\\n", 2);
			n += 2;
		} else if (len) {
			memcpy(out + n, value, len);
			n += len;
		} else {
			out[n++] = '?';
		}
		value += len ? len : 1;
	}
	out[n] = '\0';
	return out;
}

/* Times are counted in microseconds; Prometheus wants seconds. */
static void put_counter(struct metrics *m, const char *name, const char *help, const struct usage_table *t,
                        size_t offset)
{
	char text[256], metric[128];
	size_t n = strlen(name);
	bool is_time = n > 3 && strcmp(name + n - 3, "_us") == 0;
	snprintf(metric, sizeof metric, "%.*s%s_total", (int)(is_time ? n - 3 : n), name, is_time ? "_seconds" : "");
	put_head(m, metric, "counter", help);
	for (const struct usage *u = t->entries, *next; u;) {
		uint64_t sum = 0;
		const struct usage *first = u;
		for (; u && strcmp(u->database, first->database) == 0; u = next) {
			uint64_t value;
			next = u->hh.next;
			memcpy(&value, (const char *)&u->stats + offset, sizeof value);
			sum += value;
		}
		if (is_time)
			put(m, "pgweir_%s{database=\"%s\"} %.6f\n", metric, label(first->database, text),
			    (double)sum / 1e6);
		else
			put(m, "pgweir_%s{database=\"%s\"} %llu\n", metric, label(first->database, text),
			    (unsigned long long)sum);
	}
}

static void put_counters(struct metrics *m, const struct usage_table *t)
{
#define PUT_COUNTER(name, help) put_counter(m, #name, help, t, offsetof(struct stats_block, name));
	STATS_COUNTERS(PUT_COUNTER)
#undef PUT_COUNTER
}

/* Gauges of a (database, user): X(name, help, value of struct usage u) */
#define POOL_GAUGES(X)                                                                                                 \
	X("pool_clients", "clients logged in", u->clients)                                                             \
	X("pool_clients_waiting", "clients that wait for a server", u->waiting)                                        \
	X("pool_servers", "server connections", u->n_servers)                                                          \
	X("pool_servers_active", "server connections at work for a client", u->servers[SERVER_LINKED])                 \
	X("pool_servers_idle", "free server connections", u->servers[SERVER_IDLE])                                     \
	X("pool_servers_pinned", "server connections that one client keeps", u->pinned)                                \
	X("pool_size", "server connections allowed per server", u->pool_size)                                          \
	X("pool_paused", "1 while paused", u->paused)

static void put_pools(struct metrics *m, const struct usage_table *t)
{
	char d[256], n[256];
#define PUT_POOL(name, help, value)                                                                                    \
	put_head(m, name, "gauge", help);                                                                              \
	for (const struct usage *u = t->entries; u; u = u->hh.next)                                                    \
		put(m, "pgweir_" name "{database=\"%s\",user=\"%s\"} %u\n", label(u->database, d), label(u->user, n),  \
		    (unsigned)(value));
	POOL_GAUGES(PUT_POOL)
#undef PUT_POOL
	put_head(m, "pool_wait_seconds_max", "gauge", "how long the first in the queue has waited");
	for (const struct usage *u = t->entries; u; u = u->hh.next)
		put(m, "pgweir_pool_wait_seconds_max{database=\"%s\",user=\"%s\"} %.6f\n", label(u->database, d),
		    label(u->user, n), (double)u->max_wait_us / 1e6);
}

/* --- histograms --- */

/* From 64 us to 33 s by powers of two: finer buckets would be read by nobody and kept by Prometheus for ever. */
enum { LE_FIRST = 6, LE_LAST = 25 };

static void put_histogram(struct metrics *m, const char *name, const char *labels, const struct histogram *h,
                          uint64_t sum_us)
{
	uint64_t total = histogram_total(h);
	for (int e = LE_FIRST; e <= LE_LAST; e++)
		put(m, "pgweir_%s_bucket{%s,le=\"%.6f\"} %llu\n", name, labels, (double)(UINT64_C(1) << e) / 1e6,
		    (unsigned long long)histogram_below(h, UINT64_C(1) << e));
	put(m, "pgweir_%s_bucket{%s,le=\"+Inf\"} %llu\n", name, labels, (unsigned long long)total);
	put(m, "pgweir_%s_sum{%s} %.6f\n", name, labels, (double)sum_us / 1e6);
	put(m, "pgweir_%s_count{%s} %llu\n", name, labels, (unsigned long long)total);
}

/* Entries are sorted: those of one database come together.  Adds them up and returns the first of the next one. */
static const struct usage *sum_database(const struct usage *u, struct measures *sum)
{
	const char *database = u->database;
	*sum = (struct measures){ 0 };
	for (; u && strcmp(u->database, database) == 0; u = u->hh.next)
		measures_sum(sum, &u->measures);
	return u;
}

static void put_latencies(struct metrics *m, const struct usage_table *t)
{
	static const char *const routes[] = { "primary", "replica" };
	struct measures sum;
	char labels[320], text[256];
	put_head(m, "query_duration_seconds", "histogram",
	         "from the arrival of a request to its ReadyForQuery, waiting included, by where it ran");
	for (const struct usage *u = t->entries, *next; u; u = next) {
		next = sum_database(u, &sum);
		for (int role = 0; role < 2; role++) {
			snprintf(labels, sizeof labels, "database=\"%s\",route=\"%s\"", label(u->database, text),
			         routes[role]);
			put_histogram(m, "query_duration_seconds", labels, &sum.latency[role], sum.latency_us[role]);
		}
	}
	put_head(m, "query_wait_seconds", "histogram",
	         "the part of it before the request was sent: for a server, a primary, a replica to catch up");
	for (const struct usage *u = t->entries, *next; u; u = next) {
		next = sum_database(u, &sum);
		snprintf(labels, sizeof labels, "database=\"%s\"", label(u->database, text));
		put_histogram(m, "query_wait_seconds", labels, &sum.wait, sum.waiting_us);
	}
}

/* --- by reason --- */

/* Only what has happened: most classes never do. */
static void put_errors(struct metrics *m, const struct usage_table *t)
{
	struct measures sum;
	char text[256];
	put_head(m, "errors_by_class_total", "counter",
	         "errors shown to clients, by the first two letters of SQLSTATE");
	for (const struct usage *u = t->entries, *next; u; u = next) {
		next = sum_database(u, &sum);
		for (unsigned i = 0; i < ERROR_CLASS_COUNT; i++) {
			if (sum.errors[i])
				put(m, "pgweir_errors_by_class_total{database=\"%s\",class=\"%s\"} %u\n",
				    label(u->database, text), error_class_name(i), sum.errors[i]);
		}
	}
}

static void put_pins(struct metrics *m, const struct usage_table *t)
{
	struct measures sum = { 0 };
	for (const struct usage *u = t->entries; u; u = u->hh.next)
		measures_sum(&sum, &u->measures);
	put_head(m, "pins_total", "counter", "clients that were tied to their server connection, by reason");
	for (int i = 0; i < SQL_PIN_COUNT; i++)
		put(m, "pgweir_pins_total{reason=\"%s\"} %u\n", sql_pin_name((enum sql_pin_bit)i), sum.pins[i]);
	put_head(m, "pinned_clients", "gauge", "clients that are tied to their server connection now, by reason");
	for (int i = 0; i < SQL_PIN_COUNT; i++)
		put(m, "pgweir_pinned_clients{reason=\"%s\"} %u\n", sql_pin_name((enum sql_pin_bit)i), t->pinned[i]);
	put_head(m, "pin_age_seconds", "gauge", "for how long the longest of them has been, by reason");
	for (int i = 0; i < SQL_PIN_COUNT; i++)
		put(m, "pgweir_pin_age_seconds{reason=\"%s\"} %.3f\n", sql_pin_name((enum sql_pin_bit)i),
		    (double)t->pinned_for_us[i] / 1e6);
}

/* Each family must be in one piece, so each walks over the servers by itself. */
struct server_metric {
	struct metrics *m;
	const char *name;
	void (*put)(struct server_metric *s, const struct monitor_row *row, const char *labels);
};

static void put_up(struct server_metric *s, const struct monitor_row *row, const char *labels)
{
	put(s->m, "pgweir_%s{%s} %d\n", s->name, labels, row->role == HOST_PRIMARY || row->role == HOST_REPLICA);
}

/* One sample per role, so that a change is visible as two edges and can be counted. */
static void put_role(struct server_metric *s, const struct monitor_row *row, const char *labels)
{
	for (int role = 0; role < HOST_ROLE_COUNT; role++)
		put(s->m, "pgweir_%s{%s,role=\"%s\"} %d\n", s->name, labels, host_role_name((enum host_role)role),
		    (int)row->role == role);
}

/* Unknown lag is no sample, not 0: an alert on absence is the right one. */
static void put_lag(struct server_metric *s, const struct monitor_row *row, const char *labels)
{
	if (row->role == HOST_REPLICA && row->lag_us != HOST_LAG_UNKNOWN)
		put(s->m, "pgweir_%s{%s} %.6f\n", s->name, labels, (double)row->lag_us / 1e6);
}

static void put_timeline(struct server_metric *s, const struct monitor_row *row, const char *labels)
{
	put(s->m, "pgweir_%s{%s} %u\n", s->name, labels, row->timeline);
}

static void put_lsn(struct server_metric *s, const struct monitor_row *row, const char *labels)
{
	put(s->m, "pgweir_%s{%s} %llu\n", s->name, labels, (unsigned long long)row->lsn);
}

static void put_replay_age(struct server_metric *s, const struct monitor_row *row, const char *labels)
{
	if (row->role == HOST_REPLICA)
		put(s->m, "pgweir_%s{%s} %.6f\n", s->name, labels, (double)row->replay_age_us / 1e6);
}

/* 0: fresh as of the newest look at the primary. */
static void put_rounds_behind(struct server_metric *s, const struct monitor_row *row, const char *labels)
{
	if (row->role == HOST_REPLICA && row->fresh_round)
		put(s->m, "pgweir_%s{%s} %llu\n", s->name, labels,
		    (unsigned long long)(row->round > row->fresh_round ? row->round - row->fresh_round : 0));
}

static void on_server(const struct monitor_row *row, void *arg)
{
	struct server_metric *s = arg;
	char labels[600], host[256];
	snprintf(labels, sizeof labels, "host=\"%s\",port=\"%d\"", label(row->host->name, host), row->host->port);
	s->put(s, row, labels);
}

static void put_servers(struct metrics *m)
{
	static const struct {
		const char *name, *help;
		void (*put)(struct server_metric *s, const struct monitor_row *row, const char *labels);
	} families[] = {
		{ "server_up", "1 when it is a usable primary or replica", put_up },
		{ "server_role", "1 for the role that it has", put_role },
		{ "replica_lag_seconds", "upper bound of the age of what it shows", put_lag },
		{ "replica_replay_age_seconds", "age of the last transaction that it has replayed, by its own clock",
		  put_replay_age },
		{ "replica_rounds_behind", "sampling rounds since it was last proved fresh", put_rounds_behind },
		{ "server_timeline", "timeline", put_timeline },
		{ "server_lsn_bytes", "insert position of a primary, replay position of a replica", put_lsn },
	};
	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		struct server_metric s = { m, families[i].name, families[i].put };
		put_head(m, families[i].name, "gauge", families[i].help);
		monitor_status(on_server, &s);
	}
}

static void put_gauge(struct metrics *m, const char *name, const char *help, uint64_t value)
{
	put_head(m, name, "gauge", help);
	put(m, "pgweir_%s %llu\n", name, (unsigned long long)value);
}

bool report_metrics(struct buf *out, struct usage_table *t, const struct config *cfg)
{
	struct metrics m = { out, true };
	usage_bound(t, POOLS_SHOWN_MAX);
	put_head(&m, "info", "gauge", "version");
	put(&m, "pgweir_info{version=\"%s\"} 1\n", PGWEIR_VERSION);
	put_gauge(&m, "clients", "client connections, console and logins included", t->clients);
	put_gauge(&m, "clients_max", "max_client_conn", (uint64_t)cfg->max_client_conn);
	put_gauge(&m, "servers", "server connections", t->servers);
	put_gauge(&m, "servers_idle", "free server connections", t->idle_servers);
	put_gauge(&m, "statement_shapes", "statement shapes in the workers' caches", t->shapes);
	put_gauge(&m, "statement_shapes_bytes", "their memory", t->shape_bytes);
	put_head(&m, "statement_shape_hits_total", "counter", "statements whose shape was in the cache");
	put(&m, "pgweir_statement_shape_hits_total %llu\n", (unsigned long long)t->shape_hits);
	put_head(&m, "statement_shape_misses_total", "counter", "statements that had to be parsed");
	put(&m, "pgweir_statement_shape_misses_total %llu\n", (unsigned long long)t->shape_misses);
	put_head(&m, "cancels_total", "counter", "cancel requests of clients");
	put(&m, "pgweir_cancels_total %llu\n", (unsigned long long)t->cancels);
	put_counters(&m, t);
	put_latencies(&m, t);
	put_errors(&m, t);
	put_pins(&m, t);
	put_pools(&m, t);
	put_servers(&m);
	return m.ok;
}
