/* proxy/lostcommit.c - see proxy/lostcommit.h.
 *
 * The id could be asked for with the first statement that writes, or read from pg_stat_activity; both would have to be
 * done for every transaction, too, and know less: here nothing runs between the answer and the COMMIT. */
#include "proxy/lostcommit.h"

#include "base/mem.h"
#include "cluster/dbfacts.h"
#include "cluster/outcome.h"
#include "proxy/consistency.h"
#include "proxy/database.h"
#include "proxy/local.h"
#include "proxy/pool.h"
#include "proxy/relay_priv.h"
#include "proxy/segment.h"
#include "proxy/server.h"
#include "proxy/worker.h"
#include "sql/shapes.h"
#include "wire/msg.h"

struct lostcommit {
	struct outcome_mark mark;
	struct outcome_request *request; /* owned or NULL */
	struct pgerr unknown;
};

bool lostcommit_is_asked(const struct client *c, const struct server *s, const struct segment *seg)
{
	if (LIKELY(c->tx != CTX_OPEN || !(c->routing.ask_commit_outcome || c->routing.transaction_replay)))
		return false;
	bool whole = seg->end == SEGMENT_SYNC || seg->end == SEGMENT_QUERY;
	if (!c->txf.touched || s->is_replica || c->seg.open || !whole || !seg->single || c->pins)
		return false;
	const struct sql_stmt *stmt = &shape_facts(seg->shape)->stmts[0];
	return stmt->verb == SQL_COMMIT && !stmt->chain;
}

void lostcommit_note_asked(struct client *c, const struct server *s)
{
	struct host *h = s->pool->host;
	if (!c->lost)
		c->lost = mem_zalloc(sizeof *c->lost);
	c->seg.asks_xid = true;
	c->lost->mark = (struct outcome_mark){ .host = h };
	if (server_is_misplaced(s))
		return; /* the monitor looks at another server by now */
	c->lost->mark.instance = atomic_load_explicit(&h->instance, memory_order_acquire);
	c->lost->mark.timeline = atomic_load_explicit(&h->timeline, memory_order_acquire);
}

void lostcommit_note_xid(struct client *c, const uint8_t *body, size_t have, size_t len)
{
	struct wire_reader values;
	struct str text;
	uint16_t n;
	uint64_t xid = 0;
	if (have < len || !msg_parse_data_row(body, have, &n, &values) || n != 1 || !msg_bind_next(&values, &text) ||
	    !text.p)
		return; /* NULL: it has none so far, and gets one in its COMMIT perhaps */
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] < '0' || text.p[i] > '9' || xid > (UINT64_MAX - 9) / 10)
			return;
		xid = xid * 10 + (uint64_t)(text.p[i] - '0');
	}
	c->lost->mark.xid = xid;
}

/* --- the outcome --- */

/* Its messages are still there, and none has been answered. */
static void say_committed(struct client *c)
{
	struct cluster *cl = c->du->db->cluster;
	struct host *primary = cluster_primary(cl);
	/* B2: as if the primary itself had answered. */
	consistency_note_answer(c, primary ? primary : &cl->hosts[c->lost->mark.host->index], true);
	relay_drop_scan(c);
	c->emitted = 0;
	c->seg.kept = c->seg.asks_xid = false;
	struct segment *seg = relay_scan(c);
	size_t len = seg->len;
	bool alive = local_answer(c, seg);
	relay_drop_scan(c);
	if (!alive)
		return;
	buf_consume(&c->in, len);
	client_process(c);
}

static void say_aborted(struct client *c)
{
	struct pgerr err;
	pgerr_set(&err, SQLSTATE_SERIALIZATION_FAILURE,
	          "the transaction was not committed: its server was lost before");
	pgerr_hint(&err, "The transaction can be tried again.");
	local_forget_transaction(c, false);
	client_fail_segment(c, &err);
}

static void on_outcome(void *arg, enum commit_outcome outcome)
{
	struct client *c = arg;
	struct pgerr unknown = c->lost->unknown; /* the client may not outlive being told */
	c->lost->request = NULL;
	client_set_state(c, CLIENT_IDLE);
	switch (outcome) {
	case OUTCOME_COMMITTED:
		say_committed(c);
		return;
	case OUTCOME_ABORTED:
		say_aborted(c);
		return;
	case OUTCOME_UNKNOWN:
	case OUTCOME_PENDING:
		client_fail_segment(c, &unknown);
	}
}

/* Nothing but COMMIT is to be said and done if it was committed. */
static bool is_plain(const struct client *c)
{
	return c->state == CLIENT_ACTIVE && c->seg.asks_xid && c->seg.kept && !c->seg.open && c->seg.shown_msgs == 0 &&
	       !c->seg.shown_rows && !c->pins && !c->seg.pins && !(c->tx_flags & SQL_F_SETS) && !c->odd_key &&
	       !c->maybe_custom && !c->after_wants;
}

/* It says so in the place of the id: it has not looked at the COMMIT. */
bool lostcommit_note_fatal(struct client *c, const struct server *s)
{
	if (!c->seg.asks_xid || c->state != CLIENT_ACTIVE)
		return false;
	for (uint32_t i = 0; i < requests_len(&s->reqs); i++)
		c->seg.unseen |= (requests_at(&s->reqs, i)->flags & REQF_XID) != 0;
	return is_plain(c) && (c->seg.unseen || c->lost->mark.xid);
}

bool lostcommit_begin(struct client *c, const struct server *s, const struct pgerr *unknown)
{
	if (!is_plain(c) || (c->lost->mark.xid == 0 && !c->seg.unseen) || s->fatal_shown)
		return false;
	const struct dbuser *du = c->du;
	if (c->tx_flags & SQL_F_DDL)
		dbfacts_note_ddl(du->facts, DDL_OF_CODE);
	if (c->seg.unseen) {
		client_set_state(c, CLIENT_IDLE);
		say_aborted(c);
		return true;
	}
	uint64_t until_us =
	    loop_now_us(c->worker->loop) + config_failover_timeout_us(du->config, du->conf, du->conf_user);
	c->lost->unknown = *unknown;
	client_set_state(c, CLIENT_WAIT_OUTCOME);
	c->wait_since_us = loop_now_us(c->worker->loop);
	c->lost->request = outcome_ask(&c->lost->mark, until_us, c->worker->loop, on_outcome, c);
	return true;
}

void lostcommit_free(struct client *c)
{
	if (!c->lost)
		return;
	outcome_cancel(c->lost->request);
	mem_free(c->lost);
	c->lost = NULL;
}
