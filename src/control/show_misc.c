/* control/show_misc.c - SHOW tables of the process and of the cluster: CONFIG, VERSION, STATE, MEM, REPLICAS, WORKERS,
 * and PgBouncer's PEERS, PEER_POOLS and DNS_*, which its tools ask for and of which pgweir has little or nothing. */
#include "control/show_tables.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/mem.h"
#include "base/mono.h"
#include "base/version.h"
#include "cluster/monitor.h"
#include "control/lifecycle.h"
#include "control/usage.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/limits.h"
#include "proxy/orders.h"
#include "proxy/pool.h"
#include "proxy/server.h"
#include "proxy/worker.h"

/* --- CONFIG --- */

static const struct show_column config_columns[] = {
	{ "key", SHOW_TEXT }, { "value", SHOW_TEXT }, { "default", SHOW_TEXT }, { "changeable", SHOW_TEXT }
};

static void config_finish(struct show_query *q)
{
	for (size_t i = 0; i < options_count(); i++) {
		const struct conf_option *o = option_at(i);
		if (!option_is_global(o))
			continue;
		char *value = config_option_text(q->config, o);
		show_text(&q->rows, o->name);
		show_text(&q->rows, value);
		show_text(&q->rows, o->default_text);
		show_text(&q->rows, o->flags & OPTION_RESTART ? "no" : "yes");
		mem_free(value);
	}
}

const struct show_table show_config = { "CONFIG",      "settings", config_columns, ARRAY_LEN(config_columns), NULL,
	                                config_finish, 0 };

/* --- VERSION --- */

static const struct show_column version_columns[] = { { "version", SHOW_TEXT } };

static void version_finish(struct show_query *q) { show_text(&q->rows, SHOW_VERSION_TEXT); }

const struct show_table show_version = { "VERSION", "version", version_columns, 1, NULL, version_finish, 0 };

/* --- STATE --- */

static const struct show_column state_columns[] = { { "key", SHOW_TEXT }, { "value", SHOW_TEXT } };

static void state_finish(struct show_query *q)
{
	uint32_t orders = orders_of(NULL);
	bool paused = orders & ORDER_PAUSED, suspended = orders & ORDER_SUSPENDED;
	enum lifecycle_phase phase = lifecycle_phase();
	const struct {
		const char *key;
		bool value;
	} rows[] = { { "active", phase == LIFECYCLE_RUNNING && !paused && !suspended },
		     { "paused", paused },
		     { "suspended", suspended },
		     { "shutting_down", phase > LIFECYCLE_RUNNING } };
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		show_text(&q->rows, rows[i].key);
		show_text(&q->rows, rows[i].value ? "yes" : "no");
	}
}

const struct show_table show_state = {
	"STATE", "is it active, paused, shutting down", state_columns, ARRAY_LEN(state_columns), NULL, state_finish, 0
};

/* --- MEM --- */

static const struct show_column mem_columns[] = { { "name", SHOW_TEXT },
	                                          { "size", SHOW_INT },
	                                          { "used", SHOW_INT },
	                                          { "free", SHOW_INT },
	                                          { "memtotal", SHOW_BIGINT } };

static void mem_row(struct show_rows *r, const char *name, uint64_t size, uint64_t used, uint64_t spare, uint64_t total)
{
	show_text(r, name);
	show_u64(r, size);
	show_u64(r, used);
	show_u64(r, spare);
	show_u64(r, total);
}

/* Blocks are counted per worker: rows say which. */
static void mem_collect(struct worker *w, struct show_query *q)
{
	struct shapes_stats shapes = shapes_stats(w->shapes);
	uint64_t blocks = 0;
	char name[64];
	const struct client *c;
	TAILQ_FOREACH(c, &w->clients, link)
	blocks += c->in.cap == CLIENT_BLOCK_BYTES;
	snprintf(name, sizeof name, "client_blocks_%u", w->index);
	mem_row(&q->rows, name, CLIENT_BLOCK_BYTES, blocks, w->n_free_blocks,
	        (blocks + w->n_free_blocks) * CLIENT_BLOCK_BYTES);
	snprintf(name, sizeof name, "statement_shapes_%u", w->index);
	mem_row(&q->rows, name, shapes.count ? shapes.bytes / shapes.count : 0, shapes.count, 0, shapes.bytes);
}

static void mem_finish(struct show_query *q)
{
	const struct usage_table *t = q->usage;
	uint64_t awake = t->clients - t->dormant_clients;
	mem_row(&q->rows, "clients", sizeof(struct client), awake, 0, awake * sizeof(struct client));
	mem_row(&q->rows, "idle_clients", t->dormant_clients ? t->dormant_bytes / t->dormant_clients : 0,
	        t->dormant_clients, 0, t->dormant_bytes);
	mem_row(&q->rows, "servers", sizeof(struct server), t->servers, 0, t->servers * sizeof(struct server));
	mem_row(&q->rows, "pools", sizeof(struct pool), t->server_pools, 0, t->server_pools * sizeof(struct pool));
	size_t budgets = pool_budgets_count(), limits = limits_count(), shared = shared_dbs_count();
	mem_row(&q->rows, "pool_budgets", sizeof(struct pool_budget), budgets, 0, budgets * sizeof(struct pool_budget));
	mem_row(&q->rows, "limits", sizeof(struct limit), limits, 0, limits * sizeof(struct limit));
	mem_row(&q->rows, "databases", sizeof(struct shared_db), shared, 0, shared * sizeof(struct shared_db));
}

const struct show_table show_mem = { "MEM",          "memory of the larger tables",
	                             mem_columns,    ARRAY_LEN(mem_columns),
	                             mem_collect,    mem_finish,
	                             SHOW_USES_USAGE };

/* --- REPLICAS --- */

static const struct show_column replicas_columns[] = {
	{ "cluster", SHOW_TEXT },
	{ "host", SHOW_TEXT },
	{ "port", SHOW_INT },
	{ "address", SHOW_TEXT },
	{ "role", SHOW_TEXT },
	{ "timeline", SHOW_BIGINT },
	{ "lsn", SHOW_TEXT },
	{ "lag_us", SHOW_BIGINT },
	{ "replay_age_us", SHOW_BIGINT },
	{ "catchup_us", SHOW_BIGINT },
	{ "fresh_round", SHOW_BIGINT },
	{ "round", SHOW_BIGINT },
	{ "role_since", SHOW_TEXT },
	{ "system_identifier", SHOW_NUMERIC },
	{ "server_version", SHOW_INT },
	{ "error", SHOW_TEXT },
};

/* Under the monitor's mutex: only copies. */
static void replicas_row(const struct monitor_row *m, void *arg)
{
	struct show_rows *r = arg;
	show_text(r, m->host->cluster->label);
	show_text(r, m->host->name);
	show_i64(r, m->host->port);
	show_text(r, *m->address ? m->address : NULL);
	show_text(r, host_role_name(m->role));
	show_u64(r, m->timeline);
	if (m->lsn)
		show_printf(r, "%X/%08X", (unsigned)(m->lsn >> 32), (unsigned)m->lsn);
	else
		show_text(r, NULL);
	if (m->lag_us == HOST_LAG_UNKNOWN)
		show_text(r, NULL);
	else
		show_u64(r, m->lag_us);
	show_u64(r, m->replay_age_us);
	show_u64(r, m->catchup_us);
	show_u64(r, m->fresh_round);
	show_u64(r, m->round);
	show_time(r, m->since_us);
	show_u64(r, m->system_identifier);
	show_i64(r, m->server_version);
	show_text(r, *m->error ? m->error : NULL);
}

static void replicas_finish(struct show_query *q) { monitor_status(replicas_row, &q->rows); }

const struct show_table show_replicas = { "REPLICAS",
	                                  "servers: role, position, lag, last error",
	                                  replicas_columns,
	                                  ARRAY_LEN(replicas_columns),
	                                  NULL,
	                                  replicas_finish,
	                                  0 };

/* --- WORKERS --- */

static const struct show_column workers_columns[] = {
	{ "worker", SHOW_INT },        { "clients", SHOW_INT },         { "servers", SHOW_INT },
	{ "queries", SHOW_BIGINT },    { "cancels", SHOW_BIGINT },      { "shapes", SHOW_BIGINT },
	{ "shape_hits", SHOW_BIGINT }, { "shape_misses", SHOW_BIGINT }, { "shape_evictions", SHOW_BIGINT },
};

static void workers_collect_row(struct worker *w, struct show_query *q)
{
	struct shapes_stats shapes = shapes_stats(w->shapes);
	struct show_rows *r = &q->rows;
	const struct pool *p;
	unsigned servers = 0;
	LIST_FOREACH(p, &w->pool_list, all)
	servers += p->n_idle + p->n_others;
	show_u64(r, w->index);
	show_i64(r, atomic_load(&w->n_clients));
	show_u64(r, servers);
	show_u64(r, w->stats.total.queries);
	show_u64(r, w->stats.cancels);
	show_u64(r, shapes.count);
	show_u64(r, shapes.hits);
	show_u64(r, shapes.misses);
	show_u64(r, shapes.evicted);
}

const struct show_table show_workers = { "WORKERS",
	                                 "threads and their statement caches",
	                                 workers_columns,
	                                 ARRAY_LEN(workers_columns),
	                                 workers_collect_row,
	                                 NULL,
	                                 0 };

/* --- PEERS and DNS --- */

static const struct show_column peers_columns[] = {
	{ "peer_id", SHOW_INT }, { "host", SHOW_TEXT }, { "port", SHOW_INT }, { "pool_size", SHOW_INT }
};

static void peers_finish(struct show_query *q)
{
	for (int i = 0; i < q->config->n_peers; i++) {
		const struct conf_peer *p = &q->config->peers[i];
		show_i64(&q->rows, p->id);
		show_text(&q->rows, p->host);
		show_i64(&q->rows, p->port);
		show_i64(&q->rows, config_peer_pool_size(q->config, p));
	}
}

static const struct show_column peer_pools_columns[] = { { "peer_id", SHOW_INT },
	                                                 { "cl_active_cancel_req", SHOW_INT },
	                                                 { "cl_waiting_cancel_req", SHOW_INT },
	                                                 { "sv_active_cancel", SHOW_INT },
	                                                 { "sv_login", SHOW_INT } };
static const struct show_column dns_hosts_columns[] = { { "hostname", SHOW_TEXT },
	                                                { "ttl", SHOW_BIGINT },
	                                                { "addrs", SHOW_TEXT } };
/* One row per name: the cluster's servers may share one, and rows of a cluster come together. */
static void dns_row(const struct monitor_row *m, void *arg)
{
	struct show_rows *r = arg;
	size_t n = show_rows_count(r);
	const char *last = n ? show_cell(r, n - 1, 0) : NULL;
	if (!*m->address || (last && strcmp(last, m->host->name) == 0))
		return;
	show_text(r, m->host->name);
	show_u64(r, 0);
	show_text(r, m->address);
}

static void dns_hosts_finish(struct show_query *q) { monitor_status(dns_row, &q->rows); }

static const struct show_column dns_zones_columns[] = { { "zonename", SHOW_TEXT },
	                                                { "serial", SHOW_TEXT },
	                                                { "count", SHOW_INT } };

const struct show_table show_peers = {
	"PEERS", "configured peers", peers_columns, ARRAY_LEN(peers_columns), NULL, peers_finish, 0
};
const struct show_table show_peer_pools = { "PEER_POOLS",
	                                    "always empty: peers have no pools",
	                                    peer_pools_columns,
	                                    ARRAY_LEN(peer_pools_columns),
	                                    NULL,
	                                    NULL,
	                                    0 };
const struct show_table show_dns_hosts = { "DNS_HOSTS",
	                                   "servers' names and the addresses in use",
	                                   dns_hosts_columns,
	                                   ARRAY_LEN(dns_hosts_columns),
	                                   NULL,
	                                   dns_hosts_finish,
	                                   0 };
const struct show_table show_dns_zones = {
	"DNS_ZONES", "always empty", dns_zones_columns, ARRAY_LEN(dns_zones_columns), NULL, NULL, 0
};
