/* control/explain_route.c - EXPLAIN ROUTE: where would this statement go, and by which rule?
 *
 * Asks the same code with the same facts as a client's statement outside a transaction would be judged by, on the
 * console's own worker.  Facts of a database that nobody uses are loaded first; that is waited for. */
#include <stdio.h>
#include <string.h>
#include "admin_priv.h"
#include "base/mono.h"
#include "cluster/dbfacts.h"
#include "cluster/topology.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/worker.h"
#include "sql/shapes.h"

enum { FACTS_LOOK_US = 20 * 1000 };
#define FACTS_WAIT_US (3 * MONO_SEC)

const struct show_column explain_route_columns[] = {
	{ "target", SHOW_TEXT },  { "reason", SHOW_TEXT }, { "rule", SHOW_TEXT },
	{ "replica", SHOW_TEXT }, { "object", SHOW_TEXT }, { "proved", SHOW_TEXT },
	{ "pins", SHOW_TEXT },    { "facts", SHOW_TEXT },  { "shape", SHOW_TEXT },
};
const unsigned explain_route_n_columns = ARRAY_LEN(explain_route_columns);

/* The one database that the configuration names, or NULL. */
static const char *only_database(const struct config *cfg)
{
	const char *name = NULL;
	for (int i = 0; i < cfg->n_databases; i++) {
		if (strcmp(cfg->databases[i].name, "*") == 0)
			continue;
		if (name)
			return NULL;
		name = cfg->databases[i].name;
	}
	return name;
}

static enum route_wish wish_of(enum route_mode mode)
{
	switch (mode) {
	case ROUTE_MODE_PRIMARY:
		return ROUTE_WISH_PRIMARY;
	case ROUTE_MODE_REPLICA:
		return ROUTE_WISH_REPLICA;
	case ROUTE_MODE_AUTO:
		break;
	}
	return ROUTE_WISH_AUTO;
}

/* Outside a transaction: what a transaction does to a statement depends on what it has done before. */
static struct route_policy policy_of(const struct dbuser *du, const struct sql_hint *hint)
{
	struct conf_routing routing = config_routing(du->config, du->conf, du->conf_user, NULL);
	enum route_mode mode = routing.route;
	if (hint->route.n && config_allow_route_hints(du->config, du->conf, du->conf_user, NULL))
		(void)!conf_parse_route(hint->route, &mode);
	return (struct route_policy){ wish_of(mode), ROUTE_TX_NONE };
}

/* Replicas that could serve it now: "h2:5432,h3:5432"; "" when there is none. */
static void usable_replicas(const struct dbuser *du, uint64_t now, char *out, size_t size)
{
	struct conf_routing routing = config_routing(du->config, du->conf, du->conf_user, NULL);
	const struct cluster *cl = du->db->cluster;
	size_t n = 0;
	*out = '\0';
	for (unsigned i = 0; i < cl->n_hosts && n < size; i++) {
		const struct host *h = &cl->hosts[i];
		if (host_is_usable_replica(h, routing.max_replica_lag_us, now))
			n += (size_t)snprintf(out + n, size - n, "%s%s:%d", n ? "," : "", h->name, h->port);
	}
}

static void pin_names(uint32_t pins, char *out, size_t size)
{
	size_t n = 0;
	*out = '\0';
	for (int bit = 0; bit < SQL_PIN_COUNT && n < size; bit++) {
		if (pins >> bit & 1u)
			n += (size_t)snprintf(out + n, size - n, "%s%s", n ? "," : "",
			                      sql_pin_name((enum sql_pin_bit)bit));
	}
}

static void answer(struct job *job, struct dbuser *du, const struct catalog *catalog, bool proved)
{
	struct show_rows *r = &job->query.rows;
	struct worker *w = job->worker;
	struct sqlparse_options options = { .std_strings = true };
	struct sql_hint hint = { 0 };
	char replicas[512], pins[256];
	struct sql_shape *shape = shape_ref(shapes_get(w->shapes, str_of(job->call.value), options, &hint));
	struct route_policy policy = policy_of(du, &hint);
	struct route_verdict v = shape_route(shape, proved ? catalog : NULL, &policy);
	usable_replicas(du, loop_now_us(w->loop), replicas, sizeof replicas);
	pin_names(v.pins, pins, sizeof pins);
	bool to_replica = v.target == ROUTE_REPLICA && *replicas;
	show_rows_init(r, explain_route_columns, explain_route_n_columns);
	show_text(r, to_replica ? "replica" : "primary");
	show_text(r, route_reason_name(v.reason));
	show_text(r, v.target == ROUTE_REPLICA && !to_replica ? "no usable replica" : route_reason_text(v.reason));
	show_text(r, to_replica ? replicas : NULL);
	show_text(r, v.what);
	show_text(r, v.proved ? "yes" : "no");
	show_text(r, pins);
	show_text(r, !catalog ? "none" : proved ? "proved" : "stale");
	show_text(r, shape_text(shape));
	shape_unref(shape);
	job_finish(job);
}

/* Facts are loaded on the monitor's thread; until they are proved everything unknown goes to the primary, which would
 * be a true answer, but not one to learn from. */
static void look(struct job *job)
{
	struct worker *w = job->worker;
	struct pgerr err;
	bool proved = false;
	const char *user = *job->call.user ? job->call.user : session_user(job->session);
	struct dbuser *du = dbuser_get(w, str_of(job->call.name), str_of(user), &err);
	if (!du) {
		job_fail(job, SQLSTATE_INVALID_CATALOG_NAME, "%s", err.message);
		return;
	}
	const struct catalog *catalog = dbuser_catalog(du, &proved);
	bool late = loop_now_us(w->loop) >= job->deadline_us;
	if ((catalog && proved) || late) {
		answer(job, du, catalog, proved);
		return;
	}
	dbfacts_want(du->facts);
	loop_timer_start(&job->timer, FACTS_LOOK_US);
}

static void on_timer(struct loop_timer *t) { look(CONTAINER_OF(t, struct job, timer)); }

void explain_route(struct job *job)
{
	if (!job->call.has_name) {
		const char *name = only_database(job->worker->runtime->config);
		if (!name || !str_copy(job->call.name, sizeof job->call.name, str_of(name))) {
			pgerr_set(&job->err, SQLSTATE_SYNTAX_ERROR, "for which database?");
			pgerr_hint(&job->err, "EXPLAIN ROUTE ON db [AS user] sql");
			job->failed = true;
			job_finish(job);
			return;
		}
	}
	job->deadline_us = loop_now_us(job->worker->loop) + FACTS_WAIT_US;
	loop_timer_init(&job->timer, job->worker->loop, on_timer);
	look(job);
}
