/* control/db_order.c - see control/db_order.h. */
#include "control/db_order.h"

#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "control/ask.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/orders.h"
#include "proxy/pool.h"
#include "proxy/server.h"
#include "proxy/worker.h"

/* By the name that clients use: two entries of one server database are two for the operator. */
static bool is_meant(const struct db_order *o, const struct dbuser *du)
{
	return !o->database || strcmp(o->database, du->database) == 0;
}

void db_order_note(const struct db_order *o)
{
	static const struct {
		uint32_t set, clear;
	} changes[] = {
		[DB_PAUSE] = { ORDER_PAUSED, 0 },
		[DB_SUSPEND] = { ORDER_SUSPENDED, 0 },
		[DB_RESUME] = { 0, ORDER_PAUSED | ORDER_SUSPENDED },
		[DB_RECONNECT] = { 0, 0 },
		[DB_KILL] = { ORDER_PAUSED, 0 },
		[DB_DISABLE] = { ORDER_DISABLED, 0 },
		[DB_ENABLE] = { 0, ORDER_DISABLED },
		[DB_COUNT] = { 0, 0 },
		[DB_COUNT_BUSY] = { 0, 0 },
	};
	orders_change(o->database, changes[o->action].set, changes[o->action].clear);
}

/* What runs there is cancelled first: a backend does not notice that nobody listens until it writes. */
static void cut_servers(struct pool *p)
{
	struct server *s, *next;
	for (s = TAILQ_FIRST(&p->others); s; s = next) {
		next = TAILQ_NEXT(s, link);
		s->expected_close = true;
		server_abandon(s, "KILL");
	}
}

static void kill_clients(struct worker *w, const struct db_order *o)
{
	struct client *c, *next;
	struct pgerr err;
	pgerr_set_fatal(&err, SQLSTATE_ADMIN_SHUTDOWN, "terminating connection due to administrator command");
	dormant_wake_all(w);
	for (c = TAILQ_FIRST(&w->clients); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->du && is_meant(o, c->du))
			client_close(c, &err, "KILL");
	}
}

/* In the middle of a request; an open transaction between two statements is not. */
static unsigned count_busy(const struct pool *p)
{
	const struct server *s;
	unsigned n = 0;
	TAILQ_FOREACH(s, &p->others, link)
	n += s->client && s->client->state == CLIENT_ACTIVE;
	return n;
}

/* Idle ones are gone already; connecting ones are of the old epoch too and count. */
static unsigned count_old(const struct pool *p)
{
	const struct server *s;
	unsigned n = 0;
	TAILQ_FOREACH(s, &p->others, link)
	n += s->conn_epoch != p->conn_epoch;
	return n;
}

static void order_pool(struct pool *p, struct db_order *o)
{
	switch (o->action) {
	case DB_PAUSE:
		pool_retire(p, "PAUSE");
		break;
	case DB_RECONNECT:
		pool_retire(p, "RECONNECT");
		break;
	case DB_KILL:
		pool_retire(p, "KILL");
		cut_servers(p);
		break;
	case DB_RESUME:
		pool_resume(p);
		return;
	case DB_DISABLE:
	case DB_ENABLE:
		return;
	case DB_SUSPEND:
	case DB_COUNT_BUSY:
		o->left += count_busy(p);
		return;
	case DB_COUNT:
		break;
	}
	o->left += count_old(p);
}

void db_order_apply(struct worker *w, void *order)
{
	struct db_order *o = order;
	struct pool *p;
	struct client_walk walk;
	const struct client *c;
	for (struct dbuser *du = w->dbusers; du; du = du->hh.next)
		dbuser_follow_orders(du);
	if (o->action == DB_KILL)
		kill_clients(w, o);
	LIST_FOREACH(p, &w->pool_list, all)
	{
		if (is_meant(o, p->du))
			order_pool(p, o);
	}
	for (c = client_walk_first(&walk, w); c; c = client_walk_next(&walk))
		o->clients += c->du && is_meant(o, c->du);
}

static void on_applied(void *arg) { mem_free(arg); }

void db_order_all(struct loop *main_loop, enum db_action action)
{
	struct db_order *o = mem_zalloc(sizeof *o);
	o->action = action;
	db_order_note(o);
	log_info(NULL, action == DB_PAUSE ? "pausing all databases" : "resuming all databases");
	if (!ask_workers(main_loop, db_order_apply, on_applied, o))
		mem_free(o);
}
