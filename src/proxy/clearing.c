/* proxy/clearing.c - see proxy/clearing.h. */
#include "proxy/clearing.h"

#include <string.h>
#include "base/mem.h"
#include "cluster/dbfacts.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/pool.h"
#include "proxy/segment.h"
#include "proxy/worker.h"
#include "sql/facts.h"
#include "sql/shapes.h"

enum {
	WAIT_US = 10 * 1000 * 1000,    /* at most so long for a load of facts */
	STATEMENT_US = 200 * 1000,     /* no load begins so long: VACUUM has looked around by then */
	DATABASE_US = 5 * 1000 * 1000, /* the same for a database that is about to go */
};

/* To every other worker. */
struct order {
	struct loop_msg msg;
	struct worker *worker;       /* borrowed, for ever */
	const struct dbfacts *facts; /* borrowed, for ever: of which database */
};

static void retire(struct worker *w, const struct dbfacts *facts)
{
	struct pool *p;
	LIST_FOREACH(p, &w->pool_list, all)
	{
		if (p->du->facts == facts)
			pool_retire(p, "a client wants the database for itself");
	}
}

static void on_order(struct loop *loop, struct loop_msg *msg)
{
	struct order *o = CONTAINER_OF(msg, struct order, msg);
	(void)loop;
	retire(o->worker, o->facts);
	mem_free(o);
}

static void retire_everywhere(const struct worker *own, const struct dbfacts *facts)
{
	for (unsigned i = 0; i < workers_count(); i++) {
		struct worker *w = workers_get(i);
		if (w == own) {
			retire(w, facts);
			continue;
		}
		struct order *o = mem_zalloc(sizeof *o);
		*o = (struct order){ .msg = { .fn = on_order }, .worker = w, .facts = facts };
		loop_post(w->loop, &o->msg);
	}
}

static void wait_for(struct client *c, struct dbfacts *facts, uint64_t quiet_us)
{
	c->quiet = facts;
	c->quiet_us = quiet_us;
	c->quiet_until_us = loop_now_us(c->worker->loop) + WAIT_US;
}

void clearing_begin(struct client *c, const struct segment *seg)
{
	const struct sql_facts *f = seg->shape ? shape_facts(seg->shape) : NULL;
	enum sql_verb verb = f && f->n_stmts == 1 ? f->stmts[0].verb : SQL_EMPTY;
	c->quiet = NULL;
	if (verb == SQL_VACUUM)
		wait_for(c, c->du->facts, STATEMENT_US);
	if (verb != SQL_DATABASE || !f->stmts[0].name)
		return;
	/* One that nobody has ever used has no connections. */
	struct dbfacts *facts = dbfacts_find(c->du->db->cluster, f->stmts[0].name);
	if (!facts)
		return;
	wait_for(c, facts, DATABASE_US);
	(void)dbfacts_hush(facts, DATABASE_US);
	dbfacts_note_ddl(facts, DDL_OF_CODE); /* the next one of that name is another one */
	retire_everywhere(c->worker, facts);
}

bool clearing_waits(struct client *c)
{
	if (loop_now_us(c->worker->loop) < c->quiet_until_us && !dbfacts_hush(c->quiet, c->quiet_us))
		return true;
	c->quiet = NULL;
	return false;
}
