/* proxy/unnamed.c - see proxy/unnamed.h. */
#include "proxy/unnamed.h"

#include "base/mono.h"
#include "base/rules.h"
#include "emit_priv.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/pool.h"
#include "proxy/pstmt.h"
#include "proxy/segment.h"
#include "proxy/simple.h"
#include "proxy/worker.h"
#include "sql/shapes.h"

enum {
	TRUE_FIRST = 8,         /* executions before a text is taken to repeat; they give the first mean, too */
	SAMPLE_EVERY = 64,      /* a power of two */
	WINDOW = 64,            /* the mean goes over about so many executions */
	EXPECTED_FACTOR = 2,    /* a shared execution is expected to take up to this times the true ones' mean, ... */
	EXPECTED_MORE_US = 200, /* ... and so much */
	EXCESS_MAX_US = MONO_SEC,
	WELL_TRIED = 10000, /* shared executions without complaint, after which an earlier one is forgotten */
	REST_FIRST = 1000,  /* true executions */
	REST_MAX = 1 << 24,
	CUSTOM_PLANS = 5, /* that PostgreSQL makes before it thinks of a generic one */
	MADE_ANEW_US = MONO_SEC,
};

/* --- which texts --- */

/* 'f'::regproc is another function after DDL; of tables PostgreSQL itself sees to that, but never mind. */
static bool names_objects(const struct sql_facts *f)
{
	for (unsigned i = 0; i < f->types.n; i++) {
		if (str_has_prefix(str_of(f->types.v[i].name), STR("reg")))
			return true;
	}
	return false;
}

bool unnamed_fits(const struct sql_facts *f)
{
	const uint32_t unfit = SQL_F_TX_CONTROL_INSIDE | SQL_F_NO_TX_BLOCK | SQL_F_DDL | SQL_F_CODE_DDL |
	                       SQL_F_DROPS_STATEMENTS | SQL_F_MAY_TOUCH_SESSION | SQL_F_SNAPSHOT |
	                       SQL_F_LITERAL_SENSITIVE | SQL_F_INTO | SQL_F_UNKNOWN_NODE | SQL_F_LOCAL_SETTING |
	                       SQL_F_RESETS_SETTINGS | SQL_F_PREPARED_NAMES | SQL_F_SHOWS_PREPARED | SQL_F_SETS |
	                       SQL_F_CUSTOM_SETTING | SQL_F_ODD_PATH | SQL_F_DYNAMIC;
	if (f->multi || f->unparsed != SQL_UNPARSED_NONE || (f->flags & unfit) || f->pins || names_objects(f))
		return false;
	if ((f->flags & SQL_F_NOW_LITERAL) && !RULE_BROKEN(D1))
		return false;
	switch ((int)f->stmts[0].verb) {
	case SQL_SELECT:
	case SQL_INSERT:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_MERGE:
		return true;
	default:
		return false;
	}
}

static bool is_fit_text(struct unnamed_use *u, const struct segment *seg)
{
	if (UNLIKELY(u->fit == UNNAMED_FIT_UNKNOWN))
		u->fit = unnamed_fits(shape_facts(seg->shape)) ? UNNAMED_FIT : UNNAMED_UNFIT;
	return u->fit == UNNAMED_FIT;
}

enum unnamed_way unnamed_turn(struct unnamed_use *u)
{
	if (u->seen < TRUE_FIRST) {
		u->seen++;
		return UNNAMED_TRUE;
	}
	if (UNLIKELY(u->rest)) {
		u->rest--;
		return UNNAMED_TRUE;
	}
	return ++u->turn % SAMPLE_EVERY == 0 ? UNNAMED_TRUE : UNNAMED_SHARED;
}

enum unnamed_way unnamed_choose(const struct client *c, const struct segment *seg)
{
	struct unnamed_use *u = &seg->msgs[0].text->unnamed;
	bool alone = c->tx == CTX_NONE || RULE_BROKEN(D3);
	/* Without facts nobody knows when to parse anew; in the client's own session a temporary table may hide
	 * another. */
	bool kept = c->stmts.keeps_unnamed; /* and then it matters which columns the client was told (columns.h) */
	if (!c->shares_unnamed || !alone || kept || c->pins || !seg->facts_id || !seg->shape || !is_fit_text(u, seg))
		return UNNAMED_PLAIN;
	return unnamed_turn(u);
}

/* --- on a server --- */

bool unnamed_is_current(const struct client *c, const struct segment *seg, const struct sstmt *at)
{
	const struct worker *w = c->worker;
	if (!at || !at->present || at->made_for != emit_settings(c) || at->epoch != w->texts.epoch)
		return false;
	if (c->custom_unnamed && at->runs >= CUSTOM_PLANS)
		return false;
	return at->facts_id == seg->facts_id && loop_now_us(w->loop) - at->parsed_us < MADE_ANEW_US;
}

void unnamed_note_parsed(const struct client *c, const struct segment *seg, struct sstmt *at)
{
	at->facts_id = seg->facts_id;
	at->parsed_us = loop_now_us(c->worker->loop);
	at->runs = 0;
}

/* --- is it worth it? (D4) --- */

static void note_true(struct unnamed_use *u, uint64_t us)
{
	if (u->n_true < WINDOW)
		u->n_true++;
	u->true_us += ((float)us - u->true_us) / (float)u->n_true;
}

/* A sum of differences, and not a mean: a plan that is wrong for one value in a thousand shows by its great
 * differences, while a machine that stalls for a moment makes a few that are soon made up for. */
static void note_shared(struct unnamed_use *u, uint64_t us)
{
	u->excess_us += (float)us - (u->true_us * EXPECTED_FACTOR + EXPECTED_MORE_US);
	if (LIKELY(u->excess_us < 0))
		u->excess_us = 0;
	if (UNLIKELY(++u->n_shared == WELL_TRIED))
		u->rest_next = 0;
	if (LIKELY(u->excess_us < EXCESS_MAX_US) || RULE_BROKEN(D4))
		return;
	u->rest = u->rest_next ? u->rest_next : REST_FIRST;
	u->rest_next = u->rest < REST_MAX ? u->rest * 2 : u->rest;
	u->n_shared = 0;
	u->excess_us = 0;
}

void unnamed_note_done(const struct client *c, bool failed)
{
	struct unnamed_use *u = c->seg.simple ? simple_use(c) : c->stmts.unnamed ? &c->stmts.unnamed->unnamed : NULL;
	uint64_t us = loop_now_us(c->worker->loop) - c->seg.sent_us;
	if (!u || failed)
		return;
	if (c->seg.unnamed == UNNAMED_TRUE)
		note_true(u, us);
	else
		note_shared(u, us);
}
