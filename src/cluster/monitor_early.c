/* src/cluster/monitor_early.c - B1 on the monitor's connections: does the primary show all that each standby has shown?
 * See cluster/early.h.
 *
 * Asked when somebody's transaction wants to move (cluster_want_shown()), for all of them together, and once in each
 * interval while the primary waits for synchronous standbys: what then stays hidden for long is told to the workers
 * (cluster.runners_ahead), so that transactions which may write begin at the primary. */
#include <inttypes.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/rules.h"
#include "monitor_priv.h"

enum { SNAPSHOT_GAP_US = 200, AHEAD_AFTER_US = 50 * MONO_MS };
static const uint32_t again_us[] = { 500, 1000, 2000, 5000, 10000, 20000 };

static bool is_asked(const struct mon_host *h)
{
	return h->state == MON_READY && h->facts.in_recovery && host_role(h->host) == HOST_REPLICA;
}

static void set_ahead(struct mon_host *h, bool ahead)
{
	if (h->runs_ahead == ahead)
		return;
	h->runs_ahead = ahead;
	atomic_fetch_add_explicit(&h->mc->c->runners_ahead, ahead ? 1u : -1u, memory_order_acq_rel);
	if (ahead)
		log_warning(NULL,
		            "monitor: %s:%d shows commits that wait for a synchronous standby: transactions that "
		            "may write begin at the primary",
		            h->host->name, h->host->port);
}

void mon_early_forget(struct mon_host *h)
{
	atomic_store_explicit(&h->host->shown_round, 0, memory_order_seq_cst);
	atomic_store_explicit(&h->host->shown_from, h->standby->min_round, memory_order_seq_cst);
	early_ids_free(&h->early);
	h->early_round = h->early_asked_round = 0;
	h->early_due = false;
	set_ahead(h, false);
}

void mon_early_forget_all(struct mon_cluster *mc)
{
	early_snapshot_free(&mc->snapshot);
	mc->snapshot_step = 0;
	mc->watch_us = 0;
	for (unsigned i = 0; i < mc->c->n_hosts; i++)
		mon_early_forget(&mc->hosts[i]);
}

static void publish_shown(struct mon_host *h)
{
	set_ahead(h, false);
	atomic_store_explicit(&h->host->shown_round, h->early_round, memory_order_seq_cst);
	cluster_notify(NEWS_ROUND);
}

void mon_on_snapshot(struct mon_host *h, const char *text, uint64_t now_us)
{
	struct mon_cluster *mc = h->mc;
	if (h != mc->primary)
		return;
	early_snapshot_free(&mc->snapshot);
	if (!early_parse_snapshot(text, &mc->snapshot))
		return;
	uint64_t want = atomic_load_explicit(&mc->c->want_shown_round, memory_order_seq_cst);
	bool pending = false;
	for (unsigned i = 0; i < mc->c->n_hosts; i++) {
		struct mon_host *s = &mc->hosts[i];
		if (!is_asked(s))
			continue;
		if (s->early.n && early_settle(&s->early, &mc->snapshot)) {
			publish_shown(s);
			s->early_due = s->early_round <= want;
		} else if (!s->early.n && s->command != CMD_HIDDEN) {
			s->early_due = true;
		}
		if (s->early.n && now_us >= s->early_since_us + AHEAD_AFTER_US)
			set_ahead(s, true);
		pending |= s->early.n != 0;
	}
	mc->snapshot_round = h->sent_round;
	mc->snapshot_step = pending ? mc->snapshot_step + 1 : 0;
}

void mon_on_hidden(struct mon_host *h, const char *text, uint64_t now_us)
{
	if (h->early_asked_round == 0)
		return; /* of another primary's snapshot */
	h->early_round = h->early_asked_round;
	early_ids_free(&h->early);
	if (!early_parse_ids(text, &h->early))
		return;
	h->early_since_us = now_us;
	if (h->early.n == 0)
		publish_shown(h);
}

static void note_due(struct mon_cluster *mc, uint64_t at_us)
{
	if (at_us < mc->due_us)
		mc->due_us = at_us;
}

/* Is a snapshot wanted that was taken later than the newest, and from when on? */
static bool wants_snapshot(struct mon_cluster *mc, uint64_t now_us, uint64_t *at_us)
{
	uint64_t want = atomic_load_explicit(&mc->c->want_shown_round, memory_order_seq_cst);
	bool asked = atomic_load_explicit(&mc->c->want_shown_until_us, memory_order_seq_cst) > now_us;
	bool watched = atomic_load_explicit(&mc->c->waits_for_standbys, memory_order_relaxed);
	bool pending = false, behind = false;
	for (unsigned i = 0; i < mc->c->n_hosts; i++) {
		const struct mon_host *s = &mc->hosts[i];
		if (!is_asked(s))
			continue;
		pending |= s->early.n != 0;
		behind |= atomic_load_explicit(&s->host->shown_round, memory_order_relaxed) <= want;
	}
	if (asked && behind && (pending || mc->snapshot_round <= want)) {
		unsigned step = mc->snapshot_step < ARRAY_LEN(again_us) ? mc->snapshot_step : ARRAY_LEN(again_us) - 1;
		*at_us = mc->snapshot_us + (pending ? again_us[step] : SNAPSHOT_GAP_US);
		return true;
	}
	*at_us = mc->watch_us;
	return watched || pending;
}

void mon_early_step(struct mon_cluster *mc, uint64_t now_us)
{
	uint64_t at_us;
	if (!mc->primary)
		return;
	if (mon_host_can_send(mc->primary) && wants_snapshot(mc, now_us, &at_us)) {
		if (at_us <= now_us) {
			mc->snapshot_us = now_us;
			mc->watch_us = now_us + mc->m->interval_us;
			mon_host_send(mc->primary, CMD_SNAPSHOT, now_us);
		} else {
			note_due(mc, at_us);
		}
	}
	for (unsigned i = 0; i < mc->c->n_hosts; i++) {
		struct mon_host *h = &mc->hosts[i];
		if (!h->early_due || !is_asked(h) || !mon_host_can_send(h) || mc->snapshot.xmax == 0)
			continue;
		h->early_due = false;
		h->early_asked_round = mc->snapshot_round;
		mon_host_send(h, CMD_HIDDEN, now_us);
	}
}
