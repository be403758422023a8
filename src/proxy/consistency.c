/* proxy/consistency.c - see proxy/consistency.h. */
#include "proxy/consistency.h"

#include "base/mono.h"
#include "base/rules.h"
#include "cluster/balance.h"
#include "proxy/database.h"
#include "proxy/pool.h"
#include "proxy/relay.h"
#include "proxy/worker.h"

enum { EXPLORE_US = 200 * MONO_MS, SHOWN_WAIT_US = MONO_SEC };

static enum consistency level_of(const struct client *c)
{
	enum consistency level =
	    c->seg.consistency >= 0 ? (enum consistency)c->seg.consistency : c->routing.consistency;
	/* Who may write reads in order to write back. */
	if (c->has_token && level < CONSISTENCY_SESSION)
		level = CONSISTENCY_SESSION;
	bool may_write = c->tx != CTX_NONE && c->begin.read_only != SQL_YES;
	return may_write && level < c->routing.transaction_consistency ? c->routing.transaction_consistency : level;
}

/* The round that `host` must have proved a later one than, for this client's read. */
static uint64_t need_of(const struct client *c, const struct host *host, enum consistency level)
{
	const struct shared_db *db = c->du->db;
	uint64_t need = c->pos, other;
	if (c->read_host && c->read_host != host && c->read_round > need)
		need = c->read_round;
	if (level < CONSISTENCY_DATABASE)
		return need;
	if (level == CONSISTENCY_STRONG && c->arrived_round > need && !RULE_BROKEN(B8))
		need = c->arrived_round;
	other = atomic_load_explicit(&db->primary_round, memory_order_acquire);
	need = other > need ? other : need;
	for (unsigned i = 0; i < db->cluster->n_hosts; i++) {
		other = atomic_load_explicit(&db->read_round[i], memory_order_acquire);
		if (i != host->index && other > need)
			need = other;
	}
	return need;
}

static bool is_admitted(const struct client *c, const struct host *host, enum consistency level, uint64_t *need)
{
	if (level == CONSISTENCY_EVENTUAL)
		return true;
	uint64_t n = need_of(c, host, level);
	if (host_is_fresh(host, n))
		return true;
	if (n < *need)
		*need = n;
	return false;
}

/* The read goes to the primary because no replica will be in time, as it seems.  Now and then the monitor is asked all
 * the same, as by somebody who waits: otherwise nobody would learn that the replicas have become faster. */
static enum choice turn_away(struct cluster *cl, uint64_t need, uint64_t now)
{
	if (atomic_load_explicit(&cl->want_until_us, memory_order_relaxed) <= now)
		cluster_want_round(cl, need, now + EXPLORE_US);
	return CHOICE_NONE;
}

enum choice consistency_choose(struct client *c, struct host **host)
{
	struct cluster *cl = c->du->db->cluster;
	struct balance_candidate candidates[CLUSTER_MAX_HOSTS];
	enum consistency level = level_of(c);
	uint64_t need = UINT64_MAX, now = loop_now_us(c->worker->loop), wait = c->routing.replica_wait_us;
	const struct server *kept = c->kept[ROLE_REPLICA]; /* session mode: its own replica, or the primary */
	bool worth_waiting = false;
	unsigned n = 0;
	for (unsigned i = 0; i < cl->n_hosts; i++) {
		struct host *h = &cl->hosts[i];
		if (host_role(h) != HOST_REPLICA || (kept && kept->pool->host != h))
			continue;
		if (!host_is_usable_replica(h, c->routing.max_replica_lag_us, now)) {
			/* Not proved yet, or behind: a round may bring it back. */
			need = level == CONSISTENCY_EVENTUAL ? need
			       : need_of(c, h, level) < need ? need_of(c, h, level)
			                                     : need;
			worth_waiting |= level != CONSISTENCY_EVENTUAL && host_catchup_us(h) <= wait;
			continue;
		}
		if (is_admitted(c, h, level, &need))
			candidates[n++] = (struct balance_candidate){ h, atomic_load(&h->weight),
				                                      pool_outstanding(pool_get(c->du, h)) };
		else
			worth_waiting |= host_catchup_us(h) <= wait;
	}
	if (n) {
		*host = candidates[balance_pick(candidates, n, worker_random(c->worker))].host;
		return CHOICE_HOST;
	}
	if (need == UINT64_MAX || wait == 0)
		return CHOICE_NONE;
	if (!worth_waiting)
		return turn_away(cl, need, now);
	if (c->fresh_deadline_us == 0)
		c->fresh_deadline_us = now + wait;
	if (now >= c->fresh_deadline_us)
		return turn_away(cl, need, now);
	c->need_round = need;
	return CHOICE_WAIT;
}

bool consistency_still_admits(const struct client *c, const struct host *host)
{
	uint64_t need = UINT64_MAX;
	return host_is_usable_replica(host, c->routing.max_replica_lag_us, mono_now_us()) &&
	       is_admitted(c, host, level_of(c), &need);
}

bool consistency_admits(struct client *c, const struct host *host, uint64_t login_round)
{
	if (level_of(c) == CONSISTENCY_EVENTUAL || RULE_BROKEN(B3) || host_is_fresh(host, login_round))
		return true;
	uint64_t now = mono_now_us();
	if (c->fresh_deadline_us == 0)
		c->fresh_deadline_us = now + c->routing.replica_wait_us;
	c->need_round = login_round;
	return false;
}

enum choice consistency_may_move(struct client *c, const struct host *primary)
{
	struct cluster *cl = c->du->db->cluster;
	const struct host *standby = c->read_host;
	bool has_read = c->tx == CTX_DEFERRED && c->txf.ran && standby && standby != primary;
	if (LIKELY(!has_read) || RULE_BROKEN(B1))
		return CHOICE_HOST;
	/* Elsewhere the window is that between a commit's record and its end: documented, not looked into. */
	enum consistency level = level_of(c);
	bool matters =
	    level == CONSISTENCY_STRONG ||
	    (level != CONSISTENCY_EVENTUAL && atomic_load_explicit(&cl->waits_for_standbys, memory_order_acquire));
	if (!matters || host_is_shown(standby, c->read_round))
		return CHOICE_HOST;
	uint64_t now = mono_now_us(), wait = c->routing.replica_wait_us;
	if (c->awaits != AWAIT_SHOWN) {
		c->awaits = AWAIT_SHOWN;
		c->fresh_deadline_us = now + (wait > SHOWN_WAIT_US ? wait : SHOWN_WAIT_US);
	}
	return now < c->fresh_deadline_us ? CHOICE_WAIT : CHOICE_NONE;
}

void consistency_note_answer(struct client *c, struct host *host, bool is_primary)
{
	struct shared_db *db = c->du->db;
	/* B6: read after the bytes were received. */
	uint64_t round = cluster_round(db->cluster);
	if (is_primary) {
		if (RULE_BROKEN(B2) && !(c->seg.flags & SQL_F_WRITES))
			return;
		c->pos = round;
		round_advance(&db->primary_round, round);
	} else {
		c->read_host = host;
		c->read_round = round;
		if (db->cluster->n_hosts > 2)
			round_advance(&db->read_round[host->index], round);
	}
}

/* --- waiting --- */

static bool became_fresh(const struct client *c)
{
	struct cluster *cl = c->du->db->cluster;
	switch (c->awaits) {
	case AWAIT_FRESH:
		break;
	case AWAIT_SHOWN:
		return host_is_shown(c->read_host, c->read_round);
	case AWAIT_SAMPLE:
		return cluster_last_sample(cl).round > c->need_round;
	}
	for (unsigned i = 0; i < cl->n_hosts; i++) {
		if (host_role(&cl->hosts[i]) == HOST_REPLICA && host_is_fresh(&cl->hosts[i], c->need_round))
			return true;
	}
	return false;
}

void consistency_wait(struct client *c)
{
	struct worker *w = c->worker;
	client_set_state(c, CLIENT_WAIT_FRESH);
	c->wait_since_us = loop_now_us(w->loop);
	TAILQ_INSERT_TAIL(&w->fresh_wait, c, wait);
	w->stats.total.fresh_waits += c->awaits == AWAIT_FRESH;
	cluster_listener_set_waiting(&w->listener, true);
	switch (c->awaits) {
	case AWAIT_FRESH:
		cluster_want_round(c->du->db->cluster, c->need_round, c->fresh_deadline_us);
		break;
	case AWAIT_SHOWN:
		cluster_want_shown(c->du->db->cluster, c->read_round, c->fresh_deadline_us);
		break;
	case AWAIT_SAMPLE:
		cluster_want_sample(c->du->db->cluster, c->need_round, c->fresh_deadline_us);
	}
	uint64_t now = mono_now_us();
	if (became_fresh(c)) {
		loop_timer_start(&w->fresh_timer, 1); /* between the look and the flag: no message will come for it */
		w->fresh_timer_at_us = now;
	} else if (!loop_timer_is_running(&w->fresh_timer) || c->fresh_deadline_us < w->fresh_timer_at_us) {
		w->fresh_timer_at_us = c->fresh_deadline_us;
		loop_timer_start(&w->fresh_timer, c->fresh_deadline_us > now ? c->fresh_deadline_us - now : 1);
	}
}

void consistency_unwait(struct client *c) { TAILQ_REMOVE(&c->worker->fresh_wait, c, wait); }

/* Everybody is looked at anew; who still has to wait queues again at the end. */
void consistency_wake(struct worker *w)
{
	struct client *c;
	unsigned n = 0;
	TAILQ_FOREACH(c, &w->fresh_wait, wait)
	n++;
	cluster_listener_set_waiting(&w->listener, false);
	loop_timer_stop(&w->fresh_timer);
	while (n-- && (c = TAILQ_FIRST(&w->fresh_wait))) {
		TAILQ_REMOVE(&w->fresh_wait, c, wait);
		client_set_state(c, CLIENT_IDLE);
		if (c->awaits == AWAIT_SAMPLE)
			client_process(c);
		else
			relay_request(c);
	}
}

void consistency_on_timer(struct loop_timer *t) { consistency_wake(CONTAINER_OF(t, struct worker, fresh_timer)); }
