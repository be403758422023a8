/* control/show_pools.c - SHOW tables made from what all workers add up to (control/usage.h).
 *
 * PgBouncer's names and order; what it counts and pgweir has no such thing for is 0.  A pool of pgweir is per server
 * too, but a row of SHOW POOLS is not: two rows with the same database and user would be one time series with two
 * values for PgBouncer's exporter.  SHOW HOST_POOLS has them apart. */
#include "control/show_tables.h"

#include <string.h>
#include "base/mono.h"
#include "control/stats_log.h"
#include "control/usage.h"
#include "proxy/orders.h"
#include "proxy/worker.h"

#define CONSOLE "pgbouncer"

static void zeros(struct show_rows *r, unsigned n)
{
	while (n--)
		show_u64(r, 0);
}

/* --- POOLS --- */

static const struct show_column pools_columns[] = {
	{ "database", SHOW_TEXT },
	{ "user", SHOW_TEXT },
	{ "cl_active", SHOW_INT },
	{ "cl_waiting", SHOW_INT },
	{ "cl_active_cancel_req", SHOW_INT },
	{ "cl_waiting_cancel_req", SHOW_INT },
	{ "sv_active", SHOW_INT },
	{ "sv_active_cancel", SHOW_INT },
	{ "sv_being_canceled", SHOW_INT },
	{ "sv_idle", SHOW_INT },
	{ "sv_used", SHOW_INT },
	{ "sv_tested", SHOW_INT },
	{ "sv_login", SHOW_INT },
	{ "maxwait", SHOW_INT },
	{ "maxwait_us", SHOW_INT },
	{ "pool_mode", SHOW_TEXT },
	{ "load_balance_hosts", SHOW_TEXT },
	{ "sv_pinned", SHOW_INT },
};

/* Connecting, handshake and login are one state in PgBouncer. */
static unsigned login_servers(const struct usage *u)
{
	return u->servers[SERVER_CONNECTING] + u->servers[SERVER_TLS] + u->servers[SERVER_LOGIN];
}

/* Waiting for a standby, for a primary or for the greeting is waiting too: what counts is that the client does. */
static void pools_row(struct show_rows *r, const struct usage *u, const struct config *cfg)
{
	const struct conf_database *db = config_database(cfg, str_of(u->database));
	show_text(r, u->database);
	show_text(r, u->user);
	show_u64(r, u->clients - u->waiting);
	show_u64(r, u->waiting);
	zeros(r, 2);
	show_u64(r, u->servers[SERVER_LINKED]);
	zeros(r, 1);
	show_u64(r, u->servers[SERVER_FENCED]);
	show_u64(r, u->servers[SERVER_IDLE]);
	show_u64(r, u->servers[SERVER_DRAINING]);
	show_u64(r, u->servers[SERVER_RESETTING]);
	show_u64(r, login_servers(u));
	show_u64(r, u->max_wait_us / MONO_SEC);
	show_u64(r, u->max_wait_us % MONO_SEC);
	show_text(r, pool_mode_name(u->pool_mode));
	show_text(r, load_balance_hosts_name(db ? db->load_balance_hosts : LOAD_BALANCE_ROUND_ROBIN));
	show_u64(r, u->pinned);
}

static void pools_finish(struct show_query *q)
{
	struct show_rows *r = &q->rows;
	for (const struct usage *u = q->usage->entries; u; u = u->hh.next)
		pools_row(r, u, q->config);
	show_text(r, CONSOLE);
	show_text(r, CONSOLE);
	show_u64(r, q->usage->console_clients);
	zeros(r, 12);
	show_text(r, "statement");
	show_text(r, NULL);
	show_u64(r, 0);
}

const struct show_table show_pools = { "POOLS",        "clients and servers per database and user",
	                               pools_columns,  ARRAY_LEN(pools_columns),
	                               NULL,           pools_finish,
	                               SHOW_USES_USAGE };

/* --- STATS --- */

/* PgBouncer's counters in its order: X(field of struct stats_block, name in SHOW STATS after total_, after avg_,
 * name in STATS_TOTALS, in STATS_AVERAGES, in TOTALS) */
#define PGBOUNCER_COUNTERS(X)                                                                                          \
	X(server_assignments, "server_assignment_count", "server_assignment_count", "server_assignment_count",         \
	  "server_assignment_count", "server_assignment_count")                                                        \
	X(xacts, "xact_count", "xact_count", "xact_count", "xact_count", "xact_count")                                 \
	X(queries, "query_count", "query_count", "query_count", "query_count", "query_count")                          \
	X(received_bytes, "received", "recv", "bytes_received", "bytes_received", "client_bytes")                      \
	X(sent_bytes, "sent", "sent", "bytes_sent", "bytes_sent", "server_bytes")                                      \
	X(xact_us, "xact_time", "xact_time", "xact_time", "xact_time", "xact_time")                                    \
	X(query_us, "query_time", "query_time", "query_time", "query_time", "query_time")                              \
	X(wait_us, "wait_time", "wait_time", "wait_time", "wait_time", "wait_time")                                    \
	X(client_parses, "client_parse_count", "client_parse_count", "client_parse_count", "avg_client_parse_count",   \
	  "ps_client_parse_count")                                                                                     \
	X(server_parses, "server_parse_count", "server_parse_count", "server_parse_count", "avg_server_parse_count",   \
	  "ps_server_parse_count")                                                                                     \
	X(binds, "bind_count", "bind_count", "bind_count", "avg_bind_count", "ps_bind_count")                          \
	X(logins, "client_login_count", "client_login_count", "client_login_count", "avg_client_login_count",          \
	  "client_login_count")

/* Ours, always at the right end. */
#define OWN_COUNTERS(X)                                                                                                \
	X(to_primary) X(to_replica) X(retries) X(fresh_waits) X(fresh_timeouts) X(moves) X(errors) X(local_answers)

static void put_counters(struct show_rows *r, const struct stats_block *b)
{
#define PUT_COUNTER(field, total, avg, totals, averages, by_row) show_u64(r, b->field);
	PGBOUNCER_COUNTERS(PUT_COUNTER)
#undef PUT_COUNTER
}

static void put_own_counters(struct show_rows *r, const struct stats_block *b)
{
#define PUT_COUNTER(field) show_u64(r, b->field);
	OWN_COUNTERS(PUT_COUNTER)
#undef PUT_COUNTER
}

enum stats_part { STATS_TOTAL = 1, STATS_AVERAGE = 2, STATS_OWN = 4 };

/* One function for four tables, so that they cannot disagree on the order. */
static void stats_row(struct show_rows *r, const char *database, const struct stats_block *total,
                      const struct stats_block *average, unsigned parts)
{
	show_text(r, database);
	if (parts & STATS_TOTAL)
		put_counters(r, total);
	if (parts & STATS_AVERAGE)
		put_counters(r, average);
	if (parts & STATS_OWN)
		put_own_counters(r, total);
}

/* Entries are sorted by database: a row ends where the name changes. */
static void stats_rows(struct show_query *q, unsigned parts)
{
	struct stats_block sum = { 0 }, average, none = { 0 };
	for (const struct usage *u = q->usage->entries, *next; u; u = next) {
		next = u->hh.next;
		stats_block_add(&sum, &u->stats);
		if (next && strcmp(next->database, u->database) == 0)
			continue;
		average = stats_average(u->database);
		stats_row(&q->rows, u->database, &sum, &average, parts);
		sum = none;
	}
	stats_row(&q->rows, CONSOLE, &none, &none, parts);
}

static void stats_finish(struct show_query *q) { stats_rows(q, STATS_TOTAL | STATS_AVERAGE | STATS_OWN); }
static void stats_totals_finish(struct show_query *q) { stats_rows(q, STATS_TOTAL); }
static void stats_averages_finish(struct show_query *q) { stats_rows(q, STATS_AVERAGE); }
static void routes_finish(struct show_query *q) { stats_rows(q, STATS_OWN); }

#define COLUMN_TOTAL(field, total, avg, totals, averages, by_row)    { "total_" total, SHOW_NUMERIC },
#define COLUMN_AVG(field, total, avg, totals, averages, by_row)      { "avg_" avg, SHOW_NUMERIC },
#define COLUMN_TOTALS(field, total, avg, totals, averages, by_row)   { totals, SHOW_NUMERIC },
#define COLUMN_AVERAGES(field, total, avg, totals, averages, by_row) { averages, SHOW_NUMERIC },
#define COLUMN_OWN(field)                                            { "total_" #field, SHOW_NUMERIC },
#define COLUMN_ROUTE(field)                                          { #field, SHOW_NUMERIC },
static const struct show_column stats_columns[] = { { "database", SHOW_TEXT },
	                                            PGBOUNCER_COUNTERS(COLUMN_TOTAL) PGBOUNCER_COUNTERS(COLUMN_AVG)
	                                                OWN_COUNTERS(COLUMN_OWN) };
static const struct show_column stats_totals_columns[] = { { "database", SHOW_TEXT },
	                                                   PGBOUNCER_COUNTERS(COLUMN_TOTALS) };
static const struct show_column stats_averages_columns[] = { { "database", SHOW_TEXT },
	                                                     PGBOUNCER_COUNTERS(COLUMN_AVERAGES) };
static const struct show_column routes_columns[] = { { "database", SHOW_TEXT }, OWN_COUNTERS(COLUMN_ROUTE) };

const struct show_table show_stats = {
	"STATS",        "totals since start and averages per second of the last stats_period",
	stats_columns,  ARRAY_LEN(stats_columns),
	NULL,           stats_finish,
	SHOW_USES_USAGE
};
const struct show_table show_stats_totals = { "STATS_TOTALS",
	                                      "totals since start, per database",
	                                      stats_totals_columns,
	                                      ARRAY_LEN(stats_totals_columns),
	                                      NULL,
	                                      stats_totals_finish,
	                                      SHOW_USES_USAGE };
const struct show_table show_stats_averages = { "STATS_AVERAGES",
	                                        "averages of the last stats_period, per database",
	                                        stats_averages_columns,
	                                        ARRAY_LEN(stats_averages_columns),
	                                        NULL,
	                                        stats_averages_finish,
	                                        SHOW_USES_USAGE };
const struct show_table show_routes = { "ROUTES",       "where segments went, per database",
	                                routes_columns, ARRAY_LEN(routes_columns),
	                                NULL,           routes_finish,
	                                SHOW_USES_USAGE };

static const struct show_column totals_columns[] = { { "name", SHOW_TEXT }, { "value", SHOW_NUMERIC } };

static void put_named(struct show_rows *r, const char *prefix, const char *name, uint64_t value)
{
	show_printf(r, "%s%s", prefix, name);
	show_u64(r, value);
}

static void totals_finish(struct show_query *q)
{
	struct stats_block average = stats_average(NULL);
	const struct {
		const char *prefix;
		const struct stats_block *block;
	} parts[] = { { "total_", &q->usage->total }, { "avg_", &average } };
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
#define PUT_NAMED(field, total, avg, totals, averages, row_name)                                                       \
	put_named(&q->rows, parts[i].prefix, row_name, parts[i].block->field);
		PGBOUNCER_COUNTERS(PUT_NAMED)
#undef PUT_NAMED
	}
}

const struct show_table show_totals = { "TOTALS",       "totals and averages over all databases",
	                                totals_columns, ARRAY_LEN(totals_columns),
	                                NULL,           totals_finish,
	                                SHOW_USES_USAGE };

/* --- DATABASES --- */

static const struct show_column databases_columns[] = {
	{ "name", SHOW_TEXT },
	{ "host", SHOW_TEXT },
	{ "port", SHOW_INT },
	{ "database", SHOW_TEXT },
	{ "force_user", SHOW_TEXT },
	{ "pool_size", SHOW_INT },
	{ "min_pool_size", SHOW_INT },
	{ "reserve_pool_size", SHOW_INT },
	{ "server_lifetime", SHOW_INT },
	{ "pool_mode", SHOW_TEXT },
	{ "load_balance_hosts", SHOW_TEXT },
	{ "max_connections", SHOW_INT },
	{ "current_connections", SHOW_INT },
	{ "max_client_connections", SHOW_INT },
	{ "current_client_connections", SHOW_INT },
	{ "paused", SHOW_INT },
	{ "disabled", SHOW_INT },
};

struct database_sum {
	unsigned servers, clients;
};

/* Per database name of the client, over its users. */
static struct database_sum sum_of_database(const struct usage_table *t, const char *name)
{
	struct database_sum s = { 0 };
	for (const struct usage *u = t->entries; u; u = u->hh.next) {
		if (strcmp(u->database, name) != 0)
			continue;
		s.servers += u->n_servers;
		s.clients += u->clients;
	}
	return s;
}

static void databases_row(struct show_query *q, const char *name, const struct conf_database *db)
{
	struct show_rows *r = &q->rows;
	const struct config *cfg = q->config;
	struct database_sum sum = sum_of_database(q->usage, name);
	show_text(r, name);
	show_text(r, db->host);
	show_i64(r, db->hosts[0].port);
	show_text(r, db->dbname ? db->dbname : name);
	show_text(r, db->user);
	show_i64(r, config_pool_size(cfg, db, NULL));
	show_i64(r, config_min_pool_size(cfg, db, NULL));
	show_i64(r, config_reserve_pool_size(cfg, db, NULL));
	show_u64(r, config_server_lifetime_us(cfg, db, NULL) / MONO_SEC);
	show_text(r, pool_mode_name(config_pool_mode(cfg, db, NULL)));
	show_text(r, load_balance_hosts_name(db->load_balance_hosts));
	show_i64(r, config_max_db_connections(cfg, db, NULL));
	show_u64(r, sum.servers);
	show_i64(r, config_max_db_client_connections(cfg, db, NULL));
	show_u64(r, sum.clients);
	uint32_t orders = orders_of(name);
	show_u64(r, (orders & (ORDER_PAUSED | ORDER_SUSPENDED)) != 0);
	show_u64(r, (orders & ORDER_DISABLED) != 0);
}

static void databases_console_row(struct show_query *q)
{
	struct show_rows *r = &q->rows;
	show_text(r, CONSOLE);
	show_text(r, NULL);
	show_i64(r, q->config->listen_port);
	show_text(r, CONSOLE);
	show_text(r, CONSOLE);
	zeros(r, 4);
	show_text(r, "statement");
	show_text(r, NULL);
	zeros(r, 6);
}

/* The entries of the file, then those that "*" serves at the moment. */
static void databases_finish(struct show_query *q)
{
	const struct config *cfg = q->config;
	const char *last = "";
	for (int i = 0; i < cfg->n_databases; i++) {
		if (strcmp(cfg->databases[i].name, "*") != 0)
			databases_row(q, cfg->databases[i].name, &cfg->databases[i]);
	}
	for (const struct usage *u = q->usage->entries; u; u = u->hh.next) {
		const struct conf_database *db = config_database(cfg, str_of(u->database));
		if (db && strcmp(db->name, "*") == 0 && strcmp(last, u->database) != 0)
			databases_row(q, u->database, db);
		last = u->database;
	}
	databases_console_row(q);
}

const struct show_table show_databases = { "DATABASES",
	                                   "configured databases and what they use",
	                                   databases_columns,
	                                   ARRAY_LEN(databases_columns),
	                                   NULL,
	                                   databases_finish,
	                                   SHOW_USES_USAGE };

/* --- USERS --- */

static const struct show_column users_columns[] = {
	{ "name", SHOW_TEXT },
	{ "pool_size", SHOW_TEXT }, /* as in PgBouncer, empty: not set for this user */
	{ "reserve_pool_size", SHOW_TEXT },
	{ "pool_mode", SHOW_TEXT },
	{ "max_user_connections", SHOW_INT },
	{ "current_connections", SHOW_INT },
	{ "max_user_client_connections", SHOW_INT },
	{ "current_client_connections", SHOW_INT },
};

static void put_own_int(struct show_rows *r, bool is_set, int value)
{
	char text[16] = "";
	if (is_set)
		snprintf(text, sizeof text, "%d", value);
	show_text(r, text);
}

static void users_row(struct show_query *q, const char *name)
{
	struct show_rows *r = &q->rows;
	const struct config *cfg = q->config;
	const struct conf_user *user = config_user(cfg, str_of(name));
	const struct usage_user *v;
	unsigned servers = 0;
	HASH_FIND_STR(q->usage->users, name, v);
	for (const struct usage *u = q->usage->entries; u; u = u->hh.next)
		servers += strcmp(u->user, name) == 0 ? u->n_servers : 0;
	show_text(r, name);
	put_own_int(r, user && conf_is_set(&user->over, pool_size), user ? user->over.pool_size : 0);
	put_own_int(r, user && conf_is_set(&user->over, reserve_pool_size), user ? user->over.reserve_pool_size : 0);
	show_text(r, user && conf_is_set(&user->over, pool_mode) ? pool_mode_name(user->over.pool_mode) : NULL);
	show_i64(r, config_max_user_connections(cfg, NULL, user));
	show_u64(r, servers);
	show_i64(r, config_max_user_client_connections(cfg, NULL, user));
	show_u64(r, v ? v->clients : 0);
}

static void users_finish(struct show_query *q)
{
	for (int i = 0; i < q->config->n_users; i++)
		users_row(q, q->config->users[i].name);
	for (const struct usage_user *v = q->usage->users; v; v = v->hh.next) {
		if (!config_user(q->config, str_of(v->name)))
			users_row(q, v->name);
	}
}

const struct show_table show_users = { "USERS",        "configured users, and those that have logged in",
	                               users_columns,  ARRAY_LEN(users_columns),
	                               NULL,           users_finish,
	                               SHOW_USES_USAGE };

/* --- LISTS --- */

static const struct show_column lists_columns[] = { { "list", SHOW_TEXT }, { "items", SHOW_INT } };

/* The rows of SHOW USERS. */
static uint64_t count_users(const struct show_query *q)
{
	uint64_t n = (uint64_t)q->config->n_users;
	for (const struct usage_user *v = q->usage->users; v; v = v->hh.next)
		n += config_user(q->config, str_of(v->name)) == NULL;
	return n;
}

static void lists_finish(struct show_query *q)
{
	const struct usage_table *t = q->usage;
	const struct config *cfg = q->config;
	const struct {
		const char *list;
		uint64_t items;
	} rows[] = {
		{ "databases", (uint64_t)cfg->n_databases + 1 },
		{ "users", count_users(q) },
		{ "peers", (uint64_t)cfg->n_peers },
		{ "pools", HASH_COUNT(t->entries) + 1 },
		{ "peer_pools", 0 },
		{ "free_clients", 0 },
		{ "used_clients", t->clients },
		{ "login_clients", t->login_clients },
		{ "free_servers", t->idle_servers },
		{ "used_servers", t->servers - t->idle_servers },
		{ "dns_names", 0 },
		{ "dns_zones", 0 },
		{ "dns_queries", 0 },
		{ "dns_pending", 0 },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		show_text(&q->rows, rows[i].list);
		show_u64(&q->rows, rows[i].items);
	}
}

const struct show_table show_lists = {
	"LISTS", "how many of everything", lists_columns, ARRAY_LEN(lists_columns), NULL, lists_finish, SHOW_USES_USAGE
};
