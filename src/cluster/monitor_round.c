/* src/cluster/monitor_round.c - roles, rounds, and when to ask whom.
 *
 * A step looks at everything that may be due and says when to look again; it runs after each reply, wake-up and timer.
 * Demand is (want_round, want_until_us) of the cluster.  While there is any:
 *
 *     primary:  --sample(r)--------------->   next sample as soon as a newer round is wanted (round_pace_due())
 *     standby:  --poll-->--poll--->--poll-----> at once, then after 0.1, 0.2, 0.5 ... 5 ms, until r is proved
 *
 * Without demand each interval's probes are a round of their own, and a standby that did not prove it at once is asked
 * a few times more, so that its lag is known. A standby whose proofs take long is asked in proportion. */
#include "monitor_priv.h"

#include <inttypes.h>
#include <string.h>
#include "base/log.h"
#include "base/rules.h"

enum { NUDGE_GAP_US = 2000, SLOW_US = 5000 };
static const uint32_t tight_us[] = { 0, 100, 200, 500, 1000, 2000, 5000 };
static const uint32_t lazy_us[] = { 0, 2000, 10000, 50000 };

static bool is_poll_worthy(const struct mon_host *h)
{
	const struct standby *s = h->standby;
	return h->state == MON_READY && h->facts.in_recovery && h->mc->primary && s->connected && s->timeline != 0 &&
	       (s->timeline == s->primary_timeline || RULE_BROKEN(B7)) && host_role(h->host) == HOST_REPLICA;
}

static bool has_demand(const struct mon_cluster *mc, uint64_t now_us)
{
	uint64_t want = atomic_load_explicit(&mc->c->want_round, memory_order_seq_cst);
	if (!mc->primary || atomic_load_explicit(&mc->c->want_until_us, memory_order_seq_cst) <= now_us)
		return false;
	for (unsigned i = 0; i < mc->c->n_hosts; i++) {
		if (is_poll_worthy(&mc->hosts[i]) && mc->standbys[i].fresh_round <= want)
			return true;
	}
	return false;
}

/* --- publishing --- */

static void publish_standby(struct mon_host *h, uint64_t now_us)
{
	struct host *host = h->host;
	const struct standby *s = h->standby;
	atomic_store_explicit(&host->behind_since_us, standby_behind_since(s, &h->mc->rounds), memory_order_relaxed);
	atomic_store_explicit(&host->catchup_us, standby_catchup(s, &h->mc->rounds, now_us), memory_order_relaxed);
	atomic_store_explicit(&host->fresh_round, s->fresh_round, memory_order_seq_cst);
}

/* Rounds that every standby has proved are of no more use; the newest stays, it tells who is current. */
static void forget_rounds(struct mon_cluster *mc)
{
	const struct wal_round *newest = wal_rounds_newest(&mc->rounds);
	uint64_t upto = newest ? newest->round - 1 : 0;
	for (unsigned i = 0; i < mc->c->n_hosts; i++) {
		if (is_poll_worthy(&mc->hosts[i]) && mc->standbys[i].fresh_round < upto)
			upto = mc->standbys[i].fresh_round;
	}
	wal_rounds_forget(&mc->rounds, upto);
}

/* --- polling --- */

static void schedule_poll(struct mon_host *h, bool demand, uint64_t now_us)
{
	unsigned step = h->poll_step;
	uint64_t delay_us;
	if (demand) {
		delay_us = tight_us[step < ARRAY_LEN(tight_us) ? step : ARRAY_LEN(tight_us) - 1];
		if (h->standby->catchup_us > SLOW_US && delay_us < h->standby->catchup_us / 8)
			delay_us = h->standby->catchup_us / 8;
	} else if (step < ARRAY_LEN(lazy_us)) {
		delay_us = lazy_us[step];
	} else {
		h->poll_us = 0; /* the next probe will tell */
		return;
	}
	uint64_t at_us = now_us + delay_us;
	if (h->poll_us == 0 || at_us < h->poll_us)
		h->poll_us = at_us;
}

/* After news about h: is another poll worth while, and when? */
static void plan_poll(struct mon_host *h, uint64_t now_us)
{
	struct mon_cluster *mc = h->mc;
	uint64_t want = atomic_load_explicit(&mc->c->want_round, memory_order_seq_cst);
	bool demand = has_demand(mc, now_us);
	if (!is_poll_worthy(h) || (standby_is_current(h->standby, &mc->rounds) && h->standby->fresh_round > want)) {
		h->poll_us = 0;
		h->poll_step = 0;
		return;
	}
	if (demand || !standby_is_current(h->standby, &mc->rounds))
		schedule_poll(h, demand, now_us);
}

void mon_on_replay(struct mon_host *h, bool has_replay, uint64_t replay, uint32_t timeline, uint64_t now_us)
{
	struct mon_cluster *mc = h->mc;
	struct standby_reply reply = { .has_replay = has_replay, .replay = replay, .sent_round = h->sent_round };
	uint64_t before = h->standby->fresh_round;
	if (has_replay)
		history_look(&h->followed, timeline, replay);
	if (timeline != h->standby->timeline)
		standby_set_timelines(h->standby, timeline, h->standby->primary_timeline, cluster_round(mc->c));
	bool fresher = standby_on_poll(h->standby, &mc->rounds, &reply, now_us);
	publish_standby(h, now_us);
	h->poll_us = 0;
	h->poll_step = fresher ? 0 : h->poll_step + 1;
	plan_poll(h, now_us);
	if (h->standby->fresh_round != before) {
		forget_rounds(mc);
		cluster_notify(NEWS_ROUND);
	}
}

void mon_on_sample(struct mon_host *h, uint64_t insert, uint64_t flush, uint64_t now_us)
{
	struct mon_cluster *mc = h->mc;
	bool news = false, demand = has_demand(mc, now_us);
	struct wal_round r = {
		.round = h->sent_round,
		.target = wal_target(insert, h->facts.sizes),
		.flushed = flush,
		.reachable = wal_reachable(flush, h->facts.sizes),
		.sent_us = h->sent_us,
		.wanted = demand,
	};
	if (h != mc->primary)
		return;
	wal_rounds_add(&mc->rounds, &r);
	struct cluster_sample sample = { .round = r.round,
		                         .lsn = r.target,
		                         .system_identifier = h->facts.system_identifier,
		                         .timeline = h->facts.timeline };
	if (mc->history.timeline == sample.timeline)
		memcpy(sample.past, mc->history.past, sizeof sample.past);
	cluster_publish_sample(mc->c, &sample);
	news = atomic_load_explicit(&mc->c->want_sample_until_us, memory_order_seq_cst) > now_us;
	for (unsigned i = 0; i < mc->c->n_hosts; i++) {
		struct mon_host *s = &mc->hosts[i];
		if (!is_poll_worthy(s))
			continue;
		if (!demand)
			s->poll_step = 0; /* an interval's round: a few polls for each */
		news |= standby_on_sample(s->standby, &mc->rounds, now_us);
		publish_standby(s, now_us);
		if (s->command == CMD_NONE)
			plan_poll(s, now_us);
	}
	if (news) {
		forget_rounds(mc);
		cluster_notify(NEWS_ROUND);
	}
}

void mon_on_standby_lost(struct mon_host *h)
{
	standby_on_loss(h->standby);
	mon_early_forget(h);
	publish_standby(h, mono_now_us());
	h->poll_us = 0;
}

/* --- roles --- */

static struct host_view view_of(const struct mon_host *h)
{
	return (struct host_view){
		.answer = h->answer,
		.in_recovery = h->facts.in_recovery,
		.timeline = h->facts.timeline,
		.system_identifier = h->facts.system_identifier,
	};
}

static void log_role(const struct mon_host *h, enum host_role before, enum host_role now, bool foreign)
{
	enum log_level level = now == HOST_DOWN || now == HOST_FENCED ? LOG_WARNING : LOG_INFO;
	log_line(level, NULL, "monitor: %s:%d is %s, was %s (timeline %u%s)", h->host->name, h->host->port,
	         host_role_name(now), host_role_name(before), h->facts.timeline,
	         foreign ? ", another system identifier than the cluster's" : "");
}

static void log_verdict(struct mon_cluster *mc, enum role_verdict verdict)
{
	if (verdict == mc->verdict)
		return;
	enum log_level level = verdict == VERDICT_SPLIT || verdict == VERDICT_STALE ? LOG_ERROR
	                       : verdict == VERDICT_ONE                             ? LOG_INFO
	                                                                            : LOG_WARNING;
	if (verdict != VERDICT_EARLY)
		log_line(level, NULL, "monitor: cluster %s: %s", mc->c->label, role_verdict_text(verdict));
	mc->verdict = verdict;
}

/* Another primary, or the same on another timeline: targets of the old one mean nothing on the new. */
static void adopt_primary(struct mon_cluster *mc, struct mon_host *primary, uint64_t now_us)
{
	uint64_t round = cluster_round(mc->c);
	bool another = primary && primary != mc->last_primary;
	if (primary != mc->primary)
		mon_early_forget_all(mc);
	mc->primary = primary;
	if (!primary)
		return;
	mc->last_primary = primary;
	history_go_on(&mc->history, primary->facts.timeline, &primary->followed.proved);
	if (another) {
		mc->rounds.n = 0;
		cluster_publish_sample(mc->c, &(struct cluster_sample){ 0 });
		dbfacts_distrust(mc->c);
	}
	for (unsigned i = 0; i < mc->c->n_hosts; i++) {
		struct standby *s = &mc->standbys[i];
		if (s->primary_timeline != primary->facts.timeline) {
			standby_set_timelines(s, s->timeline, primary->facts.timeline, round);
			mc->rounds.n = 0;
		}
		if (mc->hosts[i].state == MON_READY && !mc->hosts[i].facts.in_recovery && s->connected)
			standby_on_loss(s); /* it has been promoted: not a standby any more */
		publish_standby(&mc->hosts[i], now_us);
	}
}

void mon_cluster_decide(struct mon_cluster *mc, uint64_t now_us)
{
	struct host_view views[CLUSTER_MAX_HOSTS];
	enum host_role before[CLUSTER_MAX_HOSTS];
	unsigned n = mc->c->n_hosts;
	for (unsigned i = 0; i < n; i++) {
		views[i] = view_of(&mc->hosts[i]);
		before[i] = host_role(mc->c->hosts + i);
	}
	struct role_decision d = roles_decide(views, n, &mc->memory);
	mc->memory = d.memory;
	adopt_primary(mc, d.primary >= 0 ? &mc->hosts[d.primary] : NULL, now_us);
	for (unsigned i = 0; i < n; i++) {
		if (d.role[i] == before[i])
			continue;
		mc->hosts[i].since_us = now_us;
		log_role(&mc->hosts[i], before[i], d.role[i], d.foreign[i]);
	}
	log_verdict(mc, d.verdict);
	if (!cluster_publish_roles(mc->c, d.role, d.primary >= 0 ? &mc->c->hosts[d.primary] : NULL))
		return;
	for (unsigned i = 0; i < n; i++)
		mon_host_publish_row(&mc->hosts[i]);
}

/* --- the step --- */

static void note_due(struct mon_cluster *mc, uint64_t at_us)
{
	if (at_us < mc->due_us)
		mc->due_us = at_us;
}

static void step_sample(struct mon_cluster *mc, uint64_t want, uint64_t now_us)
{
	struct mon_host *p = mc->primary;
	if (cluster_round(mc->c) > want || !mon_host_can_send(p))
		return;
	uint64_t due_us = round_pace_due(&mc->pace);
	if (now_us < due_us) {
		note_due(mc, due_us);
		return;
	}
	round_pace_take(&mc->pace, now_us);
	mon_host_send(p, CMD_SAMPLE, now_us);
	/* Asked now, the standbys may answer with a position that the sample turns out to need. */
	for (unsigned i = 0; i < mc->c->n_hosts; i++) {
		if (is_poll_worthy(&mc->hosts[i]) && mc->hosts[i].command == CMD_NONE)
			schedule_poll(&mc->hosts[i], true, now_us);
	}
}

/* B4: once for all rounds begun until now, and not too often: each costs the primary a flush. */
static void step_nudge(struct mon_cluster *mc, uint64_t now_us)
{
	struct mon_host *p = mc->primary;
	if (p->nudge_refused || !mon_host_can_send(p))
		return;
	for (unsigned i = 0; i < mc->rounds.n; i++) {
		const struct wal_round *r = &mc->rounds.at[i];
		uint64_t at_us = r->sent_us + NUDGE_AFTER_US;
		if (r->round <= mc->nudged_round || r->flushed >= r->target)
			continue;
		if (at_us < mc->nudged_us + NUDGE_GAP_US)
			at_us = mc->nudged_us + NUDGE_GAP_US;
		if (at_us > now_us) {
			note_due(mc, at_us);
		} else if (nudge_is_due(r, mc->standbys, mc->c->n_hosts, now_us)) {
			mc->nudged_us = now_us;
			mc->nudged_round = cluster_round(mc->c);
			mon_host_send(p, CMD_NUDGE, now_us);
			return;
		}
	}
}

static void step_polls(struct mon_cluster *mc, uint64_t now_us, bool demand)
{
	for (unsigned i = 0; i < mc->c->n_hosts; i++) {
		struct mon_host *h = &mc->hosts[i];
		if (!is_poll_worthy(h)) {
			h->poll_us = 0;
			continue;
		}
		if (demand && h->poll_us == 0 && h->command == CMD_NONE)
			plan_poll(h, now_us);
		if (h->poll_us && h->poll_us <= now_us && mon_host_can_send(h)) {
			h->poll_us = 0;
			mon_host_send(h, CMD_POLL, now_us);
		} else if (h->poll_us && mon_host_can_send(h)) {
			note_due(mc, h->poll_us);
		}
	}
}

/* A worker that finds `serving` true does not wake us for a round that is already asked for: so it must be false
 * before we stop looking, and what is wanted is read once more after that. */
static bool update_serving(struct mon_cluster *mc, uint64_t now_us)
{
	bool demand = has_demand(mc, now_us);
	if (atomic_load_explicit(&mc->c->serving, memory_order_relaxed) == demand)
		return demand;
	atomic_store_explicit(&mc->c->serving, demand, memory_order_seq_cst);
	if (demand || !has_demand(mc, now_us))
		return demand;
	atomic_store_explicit(&mc->c->serving, true, memory_order_seq_cst);
	return true;
}

static void step_host(struct mon_host *h, uint64_t now_us)
{
	if (atomic_load_explicit(&h->host->suspect, memory_order_relaxed) &&
	    atomic_exchange_explicit(&h->host->suspect, false, memory_order_seq_cst))
		mon_host_suspect(h, now_us);
	mon_host_turn(h, now_us);
}

void mon_cluster_step(struct mon_cluster *mc, uint64_t now_us)
{
	if (mc->stepping)
		return;
	mc->stepping = true;
	mc->due_us = UINT64_MAX;
	/* The primary's probe first: it begins a round, which the standbys' probes can then prove. */
	if (mc->primary)
		step_host(mc->primary, now_us);
	for (unsigned i = 0; i < mc->c->n_hosts; i++)
		step_host(&mc->hosts[i], now_us);
	bool demand = update_serving(mc, now_us);
	if (demand) {
		step_sample(mc, atomic_load_explicit(&mc->c->want_round, memory_order_seq_cst), now_us);
		step_nudge(mc, now_us);
	}
	if (mc->primary && atomic_load_explicit(&mc->c->want_sample_until_us, memory_order_seq_cst) > now_us)
		step_sample(mc, atomic_load_explicit(&mc->c->want_sample_round, memory_order_seq_cst), now_us);
	step_polls(mc, now_us, demand);
	mon_early_step(mc, now_us);
	for (unsigned i = 0; i < mc->c->n_hosts; i++)
		note_due(mc, mon_host_due(&mc->hosts[i]));
	mc->stepping = false;
}
