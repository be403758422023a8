/* control/show_sockets.c - SHOW CLIENTS, SERVERS, PINS and HOST_POOLS: one row per object, made on its worker.
 *
 * Where PgBouncer prints addresses of its objects (ptr, link), these are C-<id> and S-<id>, as in the log: an address
 * would tell an attacker where the heap is. */
#include "control/show_tables.h"

#include <stdio.h>
#include <string.h>
#include "base/mono.h"
#include "cluster/topology.h"
#include "control/admin.h"
#include "io/net.h"
#include "io/tls.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/listens.h"
#include "proxy/params.h"
#include "proxy/pool.h"
#include "proxy/server.h"
#include "proxy/worker.h"
#include "sql/facts.h"

#define SOCKET_COLUMNS                                                                                                 \
	{ "type", SHOW_TEXT }, { "user", SHOW_TEXT }, { "database", SHOW_TEXT }, { "replication", SHOW_TEXT },         \
	    { "state", SHOW_TEXT }, { "addr", SHOW_TEXT }, { "port", SHOW_INT }, { "local_addr", SHOW_TEXT },          \
	    { "local_port", SHOW_INT }, { "connect_time", SHOW_TEXT }, { "request_time", SHOW_TEXT },                  \
	    { "wait", SHOW_INT }, { "wait_us", SHOW_INT }, { "close_needed", SHOW_INT }, { "ptr", SHOW_TEXT },         \
	    { "link", SHOW_TEXT }, { "remote_pid", SHOW_INT }, { "tls", SHOW_TEXT },                                   \
	    { "application_name", SHOW_TEXT }, { "prepared_statements", SHOW_INT },                                    \
	{                                                                                                              \
		"id", SHOW_BIGINT                                                                                      \
	}

static const struct show_column clients_columns[] = {
	SOCKET_COLUMNS,         { "worker", SHOW_INT }, { "transaction", SHOW_TEXT },
	{ "route", SHOW_TEXT }, { "pinned", SHOW_INT }, { "channels", SHOW_INT },
};

static void put_addr(struct show_rows *r, const struct net_addr *addr)
{
	char host[NET_NAME_SIZE];
	if (!addr || addr->len == 0) {
		show_text(r, NULL);
		show_u64(r, 0);
		return;
	}
	show_text(r, net_addr_host(addr, host, sizeof host));
	show_u64(r, net_addr_port(addr));
}

/* A system call per row; only asked for by people. */
static void put_local_addr(struct show_rows *r, const struct stream *s)
{
	struct net_addr addr;
	put_addr(r, s->fd >= 0 && net_local_addr(s->fd, &addr) ? &addr : NULL);
}

static void put_tls(struct show_rows *r, const struct stream *s)
{
	char text[128];
	show_text(r, stream_is_tls(s) && stream_is_open(s) ? tls_describe(stream_ssl(s), text, sizeof text) : "");
}

/* --- CLIENTS --- */

/* The same four states as in SHOW POOLS (control/usage.c). */
static bool is_waiting(const struct client *c)
{
	return c->state == CLIENT_WAIT_SERVER || c->state == CLIENT_WAIT_FRESH || c->state == CLIENT_WAIT_PRIMARY ||
	       c->state == CLIENT_WAIT_QUIET || c->state == CLIENT_WAIT_OUTCOME || c->state == CLIENT_WAIT_LISTEN ||
	       c->state == CLIENT_WELCOME;
}

static const char *client_state_text(const struct client *c)
{
	if (is_waiting(c))
		return "waiting";
	return c->srv || c->state == CLIENT_ACTIVE || c->state == CLIENT_LOCAL ? "active" : "idle";
}

static const char *transaction_text(const struct client *c)
{
	static const char *const names[] = { [CTX_NONE] = "none",
		                             [CTX_DEFERRED] = "deferred",
		                             [CTX_OPEN] = "open",
		                             [CTX_FAILED] = "failed",
		                             [CTX_LOST] = "lost" };
	return names[c->tx];
}

static void put_wait(struct show_rows *r, const struct client *c, uint64_t now)
{
	uint64_t us = is_waiting(c) && c->wait_since_us && c->wait_since_us < now ? now - c->wait_since_us : 0;
	show_u64(r, us / MONO_SEC);
	show_u64(r, us % MONO_SEC);
}

/* PgBouncer's columns. */
static void put_client(struct show_rows *r, const struct client *c, const char *state, uint64_t now)
{
	show_text(r, "C");
	show_text(r, c->du ? c->du->user : admin_user(c));
	show_text(r, c->du ? c->du->database : "pgbouncer");
	show_text(r, c->state == CLIENT_RAW ? "yes" : "none");
	show_text(r, state);
	put_addr(r, c->peer);
	put_local_addr(r, &c->stream);
	show_time(r, c->connected_us);
	show_time(r, c->request_us);
	put_wait(r, c, now);
	show_u64(r, 0);
	show_printf(r, "C-%u", c->id);
	if (c->srv)
		show_printf(r, "S-%u", c->srv->id);
	else
		show_text(r, "");
	show_u64(r, 0);
	put_tls(r, &c->stream);
	show_text(r, c->application ? c->application : "");
	show_u64(r, HASH_COUNT(c->stmts.by_name));
	show_u64(r, c->id);
}

static void clients_row(struct show_rows *r, const struct client *c, uint64_t now)
{
	put_client(r, c, client_state_text(c), now);
	show_u64(r, c->worker->index);
	show_text(r, transaction_text(c));
	show_text(r, c->du ? route_mode_name(c->routing.route) : NULL);
	show_u64(r, c->pins != 0);
	show_u64(r, listens_count(c));
}

/* Clients that are still logging in are left out, as in PgBouncer; SHOW LISTS counts them. */
static bool is_shown(const struct client *c) { return c->du || c->state == CLIENT_LOCAL; }

static void clients_collect(struct worker *w, struct show_query *q)
{
	struct client_walk walk;
	const struct client *c;
	uint64_t now = loop_now_us(w->loop);
	for (c = client_walk_first(&walk, w); c; c = client_walk_next(&walk)) {
		if (is_shown(c))
			clients_row(&q->rows, c, now);
	}
}

const struct show_table show_clients = {
	"CLIENTS", "client connections", clients_columns, ARRAY_LEN(clients_columns), clients_collect, NULL, 0
};

/* --- SERVERS --- */

static const struct show_column servers_columns[] = {
	SOCKET_COLUMNS, { "worker", SHOW_INT }, { "host", SHOW_TEXT }, { "role", SHOW_TEXT }, { "pinned", SHOW_INT },
};

/* PgBouncer's words: "used" has lost its client and is not clean yet, "tested" runs a query of ours. */
static const char *server_state_text(const struct server *s)
{
	switch (s->state) {
	case SERVER_CONNECTING:
	case SERVER_TLS:
	case SERVER_LOGIN:
		return "new";
	case SERVER_IDLE:
		return "idle";
	case SERVER_LINKED:
		return "active";
	case SERVER_DRAINING:
		return "used";
	case SERVER_RESETTING:
		return "tested";
	case SERVER_FENCED:
		return "being_canceled";
	case SERVER_CLOSING:
	case SERVER_STATE_COUNT:
		break;
	}
	return "closing";
}

static void put_server(struct show_rows *r, const struct server *s, const char *state)
{
	const struct dbuser *du = s->pool->du;
	struct net_addr peer;
	const char *application = s->status ? server_status(s, "application_name") : NULL;
	show_text(r, "S");
	show_text(r, du->server_user);
	show_text(r, du->database);
	show_text(r, s->dedicated ? "yes" : "none");
	show_text(r, state);
	put_addr(r, s->stream.fd >= 0 && net_peer_addr(s->stream.fd, &peer) ? &peer : NULL);
	put_local_addr(r, &s->stream);
	show_time(r, s->connected_us);
	show_time(r, s->request_us);
	show_u64(r, 0);
	show_u64(r, 0);
	show_u64(r, s->close_needed || s->conn_epoch != s->pool->conn_epoch);
	show_printf(r, "S-%u", s->id);
	if (s->client)
		show_printf(r, "C-%u", s->client->id);
	else
		show_text(r, "");
	show_u64(r, s->backend_pid);
	put_tls(r, &s->stream);
	show_text(r, application ? application : "");
	show_u64(r, s->stmts.n);
	show_u64(r, s->id);
}

static void servers_row(struct show_rows *r, const struct server *s)
{
	put_server(r, s, server_state_text(s));
	show_u64(r, s->pool->worker->index);
	show_printf(r, "%s:%d", s->pool->host->name, s->pool->host->port);
	show_text(r, s->is_replica ? "replica" : "primary");
	show_u64(r, s->pinned);
}

static void servers_collect(struct worker *w, struct show_query *q)
{
	const struct pool *p;
	const struct server *s;
	LIST_FOREACH(p, &w->pool_list, all)
	{
		TAILQ_FOREACH(s, &p->others, link)
		servers_row(&q->rows, s);
		TAILQ_FOREACH(s, &p->idle, link)
		servers_row(&q->rows, s);
	}
}

const struct show_table show_servers = {
	"SERVERS", "server connections", servers_columns, ARRAY_LEN(servers_columns), servers_collect, NULL, 0
};

/* --- SOCKETS, ACTIVE_SOCKETS, FDS --- */

static const struct show_column sockets_columns[] = {
	SOCKET_COLUMNS,
	{ "recv_pos", SHOW_INT },
	{ "pkt_pos", SHOW_INT },
	{ "pkt_remain", SHOW_BIGINT },
	{ "send_pos", SHOW_INT },
	{ "send_remain", SHOW_BIGINT },
	{ "pkt_avail", SHOW_INT },
	{ "send_avail", SHOW_INT },
};

/* Positions in PgBouncer's buffers, said of ours: what has been sent on and is kept, what a large message still lacks,
 * what a slow reader has not taken yet, what has come and was not looked at. */
static void put_buffers(struct show_rows *r, size_t kept, uint64_t left, size_t pending, size_t unread)
{
	show_u64(r, 0);
	show_u64(r, kept);
	show_u64(r, left);
	show_u64(r, 0);
	show_u64(r, pending);
	show_u64(r, unread);
	show_u64(r, 0);
}

static void client_socket_row(struct show_rows *r, const struct client *c, uint64_t now)
{
	char state[32];
	snprintf(state, sizeof state, "cl_%s", client_state_text(c));
	put_client(r, c, state, now);
	put_buffers(r, c->emitted, c->raw_left, stream_pending(&c->stream), buf_len(&c->in) - c->emitted);
}

static void server_socket_row(struct show_rows *r, const struct server *s)
{
	char state[32];
	snprintf(state, sizeof state, "sv_%s", server_state_text(s));
	put_server(r, s, state);
	put_buffers(r, buf_len(&s->hold), s->raw_left, stream_pending(&s->stream), buf_len(&s->part));
}

static void visit_sockets(struct worker *w, struct show_query *q, bool only_active)
{
	struct client_walk walk;
	const struct client *c;
	const struct pool *p;
	const struct server *s;
	uint64_t now = loop_now_us(w->loop);
	for (c = client_walk_first(&walk, w); c; c = client_walk_next(&walk)) {
		if (is_shown(c) && !(only_active && strcmp(client_state_text(c), "idle") == 0))
			client_socket_row(&q->rows, c, now);
	}
	LIST_FOREACH(p, &w->pool_list, all)
	{
		TAILQ_FOREACH(s, &p->others, link)
		server_socket_row(&q->rows, s);
		TAILQ_FOREACH(s, &p->idle, link)
		{
			if (!only_active)
				server_socket_row(&q->rows, s);
		}
	}
}

static void sockets_collect(struct worker *w, struct show_query *q) { visit_sockets(w, q, false); }
static void active_sockets_collect(struct worker *w, struct show_query *q) { visit_sockets(w, q, true); }

const struct show_table show_sockets = { "SOCKETS",
	                                 "clients and servers with the state of their buffers",
	                                 sockets_columns,
	                                 ARRAY_LEN(sockets_columns),
	                                 sockets_collect,
	                                 NULL,
	                                 0 };
const struct show_table show_active_sockets = { "ACTIVE_SOCKETS",
	                                        "the same, without idle ones",
	                                        sockets_columns,
	                                        ARRAY_LEN(sockets_columns),
	                                        active_sockets_collect,
	                                        NULL,
	                                        0 };

static const struct show_column fds_columns[] = {
	{ "fd", SHOW_INT },
	{ "task", SHOW_TEXT },
	{ "user", SHOW_TEXT },
	{ "database", SHOW_TEXT },
	{ "addr", SHOW_TEXT },
	{ "port", SHOW_INT },
	{ "cancel", SHOW_BIGINT },
	{ "link", SHOW_INT },
	{ "client_encoding", SHOW_TEXT },
	{ "std_strings", SHOW_TEXT },
	{ "datestyle", SHOW_TEXT },
	{ "timezone", SHOW_TEXT },
	{ "password", SHOW_TEXT },
	{ "scram_client_key", SHOW_TEXT },
	{ "scram_server_key", SHOW_TEXT },
};

/* PgBouncer's successor reads its sockets and secrets here.  Ours shares the port instead, so no secret is shown. */
static void put_fd_rest(struct show_rows *r, int link, const struct params *view)
{
	static const char *const names[] = { "client_encoding", "standard_conforming_strings", "datestyle",
		                             "timezone" };
	show_text(r, NULL);
	show_i64(r, link);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		show_text(r, view ? params_get(view, names[i]) : NULL);
	for (int i = 0; i < 3; i++)
		show_text(r, NULL);
}

static void client_fd_row(struct show_rows *r, const struct client *c)
{
	show_i64(r, c->stream.fd);
	show_text(r, "client");
	show_text(r, c->du ? c->du->user : admin_user(c));
	show_text(r, c->du ? c->du->database : "pgbouncer");
	put_addr(r, c->peer);
	put_fd_rest(r, c->srv ? c->srv->stream.fd : 0, c->view);
}

static void server_fd_row(struct show_rows *r, const struct server *s)
{
	struct net_addr peer;
	show_i64(r, s->stream.fd);
	show_text(r, "server");
	show_text(r, s->pool->du->server_user);
	show_text(r, s->pool->du->database);
	put_addr(r, s->stream.fd >= 0 && net_peer_addr(s->stream.fd, &peer) ? &peer : NULL);
	put_fd_rest(r, s->client ? s->client->stream.fd : 0, s->status);
}

static void fds_collect(struct worker *w, struct show_query *q)
{
	struct client_walk walk;
	const struct client *c;
	const struct pool *p;
	const struct server *s;
	for (c = client_walk_first(&walk, w); c; c = client_walk_next(&walk)) {
		if (is_shown(c))
			client_fd_row(&q->rows, c);
	}
	LIST_FOREACH(p, &w->pool_list, all)
	{
		TAILQ_FOREACH(s, &p->others, link)
		server_fd_row(&q->rows, s);
		TAILQ_FOREACH(s, &p->idle, link)
		server_fd_row(&q->rows, s);
	}
}

const struct show_table show_fds = { "FDS",          "file descriptors; secrets are never shown",
	                             fds_columns,    ARRAY_LEN(fds_columns),
	                             fds_collect,    NULL,
	                             SHOW_ADMIN_ONLY };

/* --- PINS --- */

static const struct show_column pins_columns[] = {
	{ "client", SHOW_TEXT },       { "user", SHOW_TEXT },
	{ "database", SHOW_TEXT },     { "application_name", SHOW_TEXT },
	{ "server", SHOW_TEXT },       { "reasons", SHOW_TEXT },
	{ "connect_time", SHOW_TEXT }, { "request_time", SHOW_TEXT },
	{ "pinned_time", SHOW_TEXT },  { "age", SHOW_INT },
};

/* Every reason, in the order of sql/facts.h. */
static void put_pins(struct show_rows *r, uint32_t pins)
{
	char text[256] = "";
	size_t n = 0;
	for (int bit = 0; bit < SQL_PIN_COUNT; bit++) {
		if (!(pins >> bit & 1u) || n >= sizeof text)
			continue;
		n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? "," : "",
		                      sql_pin_name((enum sql_pin_bit)bit));
	}
	show_text(r, text);
}

static void pins_collect(struct worker *w, struct show_query *q)
{
	struct show_rows *r = &q->rows;
	struct client_walk walk;
	const struct client *c;
	for (c = client_walk_first(&walk, w); c; c = client_walk_next(&walk)) {
		const struct server *s = c->srv                  ? c->srv
		                         : c->kept[ROLE_PRIMARY] ? c->kept[ROLE_PRIMARY]
		                                                 : c->kept[ROLE_REPLICA];
		if (!c->pins || !c->du)
			continue;
		show_printf(r, "C-%u", c->id);
		show_text(r, c->du->user);
		show_text(r, c->du->database);
		show_text(r, c->application ? c->application : "");
		if (s)
			show_printf(r, "S-%u", s->id);
		else
			show_text(r, NULL);
		put_pins(r, c->pins);
		show_time(r, c->connected_us);
		show_time(r, c->request_us);
		show_time(r, c->pinned_us);
		show_u64(r, (loop_now_us(w->loop) - c->pinned_us) / 1000000);
	}
}

const struct show_table show_pins = { "PINS",
	                              "clients that keep their server connection, and why",
	                              pins_columns,
	                              ARRAY_LEN(pins_columns),
	                              pins_collect,
	                              NULL,
	                              0 };

/* --- HOST_POOLS --- */

static const struct show_column host_pools_columns[] = {
	{ "database", SHOW_TEXT },   { "user", SHOW_TEXT },       { "host", SHOW_TEXT },
	{ "role", SHOW_TEXT },       { "worker", SHOW_INT },      { "cl_waiting", SHOW_INT },
	{ "sv_idle", SHOW_INT },     { "sv_other", SHOW_INT },    { "sv_connecting", SHOW_INT },
	{ "pool_size", SHOW_INT },   { "budget_used", SHOW_INT }, { "failing", SHOW_INT },
	{ "last_error", SHOW_TEXT },
};

static void host_pools_collect(struct worker *w, struct show_query *q)
{
	struct show_rows *r = &q->rows;
	const struct pool *p;
	LIST_FOREACH(p, &w->pool_list, all)
	{
		show_text(r, p->du->database);
		show_text(r, p->du->user);
		show_printf(r, "%s:%d", p->host->name, p->host->port);
		show_text(r, host_role_name(host_role(p->host)));
		show_u64(r, w->index);
		show_u64(r, p->n_waiters);
		show_u64(r, p->n_idle);
		show_u64(r, p->n_others);
		show_u64(r, p->n_connecting);
		show_i64(r, pool_size(p));
		show_i64(r, atomic_load(&p->budget->connections));
		show_u64(r, p->failing);
		show_text(r, p->failing ? p->last_error.message : NULL);
	}
}

const struct show_table show_host_pools = { "HOST_POOLS",
	                                    "pools of each worker, per server",
	                                    host_pools_columns,
	                                    ARRAY_LEN(host_pools_columns),
	                                    host_pools_collect,
	                                    NULL,
	                                    0 };
