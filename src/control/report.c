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
