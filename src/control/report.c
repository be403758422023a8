/* control/report.c - see control/report.h. */
#include "control/report.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/mem.h"
#include "base/mono.h"
#include "cluster/monitor.h"
#include "control/lifecycle.h"
#include "control/usage.h"

/* --- JSON --- */

/* Takes the reference to root. */
static bool put_json(struct buf *out, json_t *root)
{
	char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	bool ok = text && buf_put(out, text, strlen(text)) && buf_put(out, "\n", 1);
	free(text); /* allocated by jansson */
	json_decref(root);
	return ok;
}

/* Names may hold any bytes; JSON must be UTF-8. */
static json_t *json_text(const char *s)
{
	if (!s)
		return json_null();
	json_t *text = json_string(s);
	if (text)
		return text;
	char *clean = mem_strdup(s);
	for (char *p = clean; *p; p++)
		*p = (unsigned char)*p < 0x80 ? *p : '?';
	text = json_string(clean);
	mem_free(clean);
	return text;
}

/* What does not fit JSON's integers stays text: a wrong number would be worse. */
static json_t *json_cell(const char *value, enum show_type type)
{
	int64_t n;
	if (!value || type == SHOW_TEXT || !str_to_i64(str_of(value), &n))
		return json_text(value);
	return json_integer((json_int_t)n);
}

bool report_table(struct buf *out, const struct show_rows *rows)
{
	json_t *array = json_array();
	for (size_t i = 0; i < show_rows_count(rows); i++) {
		json_t *row = json_object();
		for (unsigned c = 0; c < rows->n_columns; c++)
			json_object_set_new(row, rows->columns[c].name,
			                    json_cell(show_cell(rows, i, c), rows->columns[c].type));
		json_array_append_new(array, row);
	}
	return put_json(out, array);
}

static void now_text(char out[40])
{
	struct timespec ts;
	struct tm tm;
	char second[24];
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(second, sizeof second, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, 40, "%s.%06ldZ", second, ts.tv_nsec / 1000 % 1000000);
}

/* --- health --- */

struct health {
	json_t *servers;               /* owned */
	const struct cluster *cluster; /* of the row before */
	bool has_primary, all_have;
	unsigned clusters, replicas;
};

static void end_cluster(struct health *h)
{
	if (h->cluster)
		h->all_have &= h->has_primary;
	h->has_primary = false;
}

/* The rows of a cluster come together. */
static void health_row(const struct monitor_row *m, void *arg)
{
	struct health *h = arg;
	if (m->host->cluster != h->cluster) {
		end_cluster(h);
		h->cluster = m->host->cluster;
		h->clusters++;
	}
	h->has_primary |= m->role == HOST_PRIMARY;
	h->replicas += m->role == HOST_REPLICA;
	if (!h->servers)
		return;
	json_t *row = json_object();
	json_object_set_new(row, "host", json_text(m->host->name));
	json_object_set_new(row, "port", json_integer(m->host->port));
	json_object_set_new(row, "role", json_string(host_role_name(m->role)));
	json_object_set_new(row, "lag_seconds",
	                    m->lag_us == HOST_LAG_UNKNOWN ? json_null() : json_real((double)m->lag_us / 1e6));
	json_object_set_new(row, "error", *m->error ? json_text(m->error) : json_null());
	json_array_append_new(h->servers, row);
}

/* Every cluster that is watched has a primary. */
static bool look_at_servers(struct health *h)
{
	h->all_have = true;
	monitor_status(health_row, h);
	end_cluster(h);
	return h->all_have && h->clusters > 0;
}

bool report_health(struct buf *out, const struct usage_table *usage, bool *ok)
{
	struct health h = { .servers = json_array() };
	json_t *root = json_object();
	char now[40];
	now_text(now);
	*ok = look_at_servers(&h);
	json_object_set_new(root, "status", json_string(*ok ? "healthy" : "unhealthy"));
	json_object_set_new(root, "active_connections", json_integer((json_int_t)usage->servers - usage->idle_servers));
	json_object_set_new(root, "clients", json_integer(usage->clients));
	json_object_set_new(root, "server_connections", json_integer(usage->servers));
	json_object_set_new(root, "timestamp", json_string(now));
	json_object_set_new(root, "servers", h.servers);
	return put_json(out, root);
}

/* Ready: may be sent new clients. */
bool report_ready(struct buf *out, bool *ok)
{
	struct health h = { 0 };
	json_t *root = json_object();
	bool running = lifecycle_phase() == LIFECYCLE_RUNNING;
	*ok = look_at_servers(&h) && running;
	json_object_set_new(root, "ready", json_boolean(*ok));
	json_object_set_new(root, "shutting_down", json_boolean(!running));
	json_object_set_new(root, "replicas", json_integer(h.replicas));
	return put_json(out, root);
}

/* --- metrics --- */

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

/* A label's value with backslash, quote and newline escaped; cut when it is absurdly long. */
static const char *label(const char *value, char out[256])
{
	size_t n = 0;
	for (; *value && n < 252; value++) {
		if (*value == '\\' || *value == '"')
			out[n++] = '\\';
		out[n++] = *value;
		if (*value == '\n') {
			out[n - 1] = '\\';
			out[n++] = 'n';
		}
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

bool report_metrics(struct buf *out, const struct usage_table *t, const struct config *cfg)
{
	struct metrics m = { out, true };
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
	put_pools(&m, t);
	put_servers(&m);
	return m.ok;
}
