/* proxy/moving.c - see proxy/moving.h.
 *
 * The standby's part is ended by COMMIT, so that settings which were made in it stay (C7), and nobody waits for that:
 * the server sees to it on its way back to the pool, while the client is already elsewhere. */
#include "proxy/moving.h"

#include "base/rules.h"
#include "proxy/consistency.h"
#include "proxy/database.h"
#include "proxy/plan.h"
#include "proxy/pool.h"
#include "proxy/relay.h"
#include "proxy/worker.h"

enum { PARK_AFTER_US = 50 * 1000 };

bool moving_is_repeatable(const struct client *c, const struct server *s)
{
	if (!c->seg.kept || c->seg.shown_rows || c->seg.retried || c->seg.role != ROLE_REPLICA)
		return false;
	switch (c->tx) {
	case CTX_NONE:
	case CTX_DEFERRED:
		return s->is_replica || c->txf.on_standby;
	case CTX_OPEN:
		return plan_may_move(c);
	case CTX_FAILED:
	case CTX_LOST:
		break;
	}
	return false;
}

bool moving_survives_loss(const struct client *c, const struct server *s)
{
	if (moving_is_repeatable(c, s))
		return true;
	if (c->seg.retried && s->connected_us >= c->seg.retried_us)
		return false;
	/* Half of a segment that is open: what else it will bring is not known. */
	if (!c->seg.kept || c->seg.shown_rows || c->seg.open || !c->seg.harmless || c->pins)
		return false;
	switch (c->tx) {
	case CTX_NONE:
	case CTX_DEFERRED:
		return true;
	case CTX_OPEN:
		return plan_may_begin_anew(c);
	case CTX_FAILED:
	case CTX_LOST:
		break;
	}
	return false;
}

void moving_defer(struct client *c)
{
	c->tx = CTX_DEFERRED;
	c->txf.on_standby = false;
	c->txf.ran = true;
}

void moving_leave(struct client *c)
{
	struct server *s = c->srv;
	moving_defer(c);
	s->only_read = true;
	s->suspect |= c->after_wants != 0; /* what it may have set there, nobody asks any more */
	relay_forget_kept(c, s);
	relay_unlink(c);
	server_release(s);
}

bool moving_is_fresh(struct client *c, const struct segment *seg)
{
	const struct server *s = c->srv;
	bool reads = seg->has_verdict && seg->verdict.target == ROUTE_REPLICA;
	if (!reads || !s->is_replica || c->tx == CTX_FAILED || (c->tx == CTX_OPEN && !plan_may_move(c)) ||
	    RULE_BROKEN(B8))
		return true;
	return consistency_still_admits(c, s->pool->host);
}

void moving_note_done(struct client *c)
{
	c->txf.touched |= !c->seg.harmless || c->seg.makes_state || c->seg.shows_time;
	if (!c->txf.on_standby)
		return;
	c->txf.ran = true;
	c->txf.has_state |= c->seg.makes_state;
	c->txf.shows_time |= c->seg.shows_time;
}

static bool is_parkable(const struct server *s, uint64_t now_us)
{
	const struct client *c = s->client;
	return s->state == SERVER_LINKED && c && c->srv == s && c->state == CLIENT_IDLE && c->tx == CTX_OPEN &&
	       buf_len(&c->in) == 0 && requests_len(&s->reqs) == 0 && now_us - c->request_us >= PARK_AFTER_US &&
	       plan_may_move(c);
}

void moving_park_idle(struct pool *p, uint64_t now_us)
{
	struct server *s, *next;
	if (RULE_BROKEN(C4))
		return;
	for (s = TAILQ_FIRST(&p->others); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (is_parkable(s, now_us))
			moving_leave(s->client);
	}
}
