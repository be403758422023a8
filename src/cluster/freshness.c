/* cluster/freshness.c - see cluster/freshness.h.
 *
 * The shape of every proof is the same: target(round) <= replay, where the replay position was asked for after the
 * round began, by a connection that was made before it began.  The first half says that the standby shows all that
 * had been acknowledged; the second that it is still the server that said so. */
#include "cluster/freshness.h"

#include <stddef.h>
#include "base/rules.h"

/* Sizes of WAL page headers (PostgreSQL, access/xlog_internal.h): the long one opens a segment. */
enum { PAGE_HEADER_BYTES = 24, SEGMENT_HEADER_BYTES = 40 };

static bool parse_hex32(const char **text, uint32_t *out)
{
	const char *p = *text;
	uint32_t value = 0;
	int digits = 0;
	for (; digits < 9; p++, digits++) {
		unsigned c = (unsigned char)*p, v;
		if (c >= '0' && c <= '9')
			v = c - '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			v = (c | 0x20) - 'a' + 10;
		else
			break;
		value = value << 4 | v;
	}
	*text = p;
	*out = value;
	return digits >= 1 && digits <= 8;
}

bool wal_parse_lsn(const char *text, uint64_t *out)
{
	uint32_t high, low;
	if (!text || !parse_hex32(&text, &high) || *text++ != '/' || !parse_hex32(&text, &low) || *text)
		return false;
	*out = (uint64_t)high << 32 | low;
	return true;
}

/* Right after a page has begun, the insert position stands behind the header of a page that holds no record yet, and
 * replay ends at the page's start.  Other offsets are real ends of records: 40 on a page that is not a segment's
 * first is one, and rounding it down would lose a commit. */
uint64_t wal_target(uint64_t lsn, struct wal_sizes sizes)
{
	if (RULE_BROKEN(B5) || sizes.block_bytes == 0 || sizes.segment_bytes == 0)
		return lsn;
	uint64_t in_segment = lsn % sizes.segment_bytes;
	if (in_segment == SEGMENT_HEADER_BYTES)
		return lsn - SEGMENT_HEADER_BYTES;
	if (lsn % sizes.block_bytes == PAGE_HEADER_BYTES && in_segment >= sizes.block_bytes)
		return lsn - PAGE_HEADER_BYTES;
	return lsn;
}

uint64_t wal_reachable(uint64_t flushed, struct wal_sizes sizes)
{
	return sizes.block_bytes == 0 || flushed % sizes.block_bytes == 0 ? 0 : flushed;
}

static void thin_out(struct wal_rounds *rounds)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < rounds->n; i++) {
		if (i < rounds->n / 2 && i % 2 == 1)
			continue;
		rounds->at[kept++] = rounds->at[i];
	}
	rounds->n = kept;
}

void wal_rounds_add(struct wal_rounds *rounds, const struct wal_round *r)
{
	const struct wal_round *newest = wal_rounds_newest(rounds);
	CHECK(!newest || r->round > newest->round);
	/* A primary's insert position never goes back while it lives; if it does, nothing older means anything. */
	if (newest && r->target < newest->target)
		rounds->n = 0;
	if (rounds->n == WAL_ROUNDS_MAX)
		thin_out(rounds);
	CHECK(rounds->n < WAL_ROUNDS_MAX);
	rounds->at[rounds->n++] = *r;
}

void wal_rounds_forget(struct wal_rounds *rounds, uint64_t upto_round)
{
	unsigned gone = 0;
	while (gone < rounds->n && rounds->at[gone].round <= upto_round)
		gone++;
	if (gone == 0)
		return;
	rounds->n -= gone;
	for (unsigned i = 0; i < rounds->n; i++)
		rounds->at[i] = rounds->at[i + gone];
}

const struct wal_round *wal_rounds_newest(const struct wal_rounds *rounds)
{
	return rounds->n ? &rounds->at[rounds->n - 1] : NULL;
}

static void take_proofs_back(struct standby *s, uint64_t round_now)
{
	s->min_round = round_now;
	s->has_replay = false;
	s->fresh_round = 0;
	s->fresh_sent_us = 0;
}

void standby_on_connect(struct standby *s, uint64_t round_now)
{
	s->connected = true;
	s->timeline = 0;
	take_proofs_back(s, round_now);
}

void standby_on_loss(struct standby *s)
{
	s->connected = false;
	s->timeline = 0;
	/* Mutant of B3: what was proved of the server that has gone is believed of the one that comes back. */
	if (!RULE_BROKEN(B3))
		take_proofs_back(s, s->min_round);
}

void standby_set_timelines(struct standby *s, uint32_t own, uint32_t primary, uint64_t round_now)
{
	if (own == s->timeline && primary == s->primary_timeline)
		return;
	s->timeline = own;
	s->primary_timeline = primary;
	if (!RULE_BROKEN(B7))
		take_proofs_back(s, round_now);
}

static bool timeline_counts(const struct standby *s)
{
	return RULE_BROKEN(B7) || (s->timeline != 0 && s->timeline == s->primary_timeline);
}

static bool round_is_proved(const struct standby *s, const struct wal_round *r)
{
	if (r->target > s->replay)
		return false;
	return RULE_BROKEN(B3) || (r->round > s->min_round && r->round <= s->replay_round);
}

static void note_catchup(struct standby *s, uint64_t took_us)
{
	/* Smooth over a few rounds, and yet a standby that has recovered is believed soon. */
	if (s->catchup_us == 0)
		s->catchup_us = took_us ? took_us : 1;
	else if (took_us < s->catchup_us)
		s->catchup_us = (s->catchup_us + took_us) / 2;
	else
		s->catchup_us = (s->catchup_us * 3 + took_us) / 4;
}

bool standby_on_sample(struct standby *s, const struct wal_rounds *rounds, uint64_t now_us)
{
	if (!s->connected || !s->has_replay || !timeline_counts(s))
		return false;
	for (unsigned i = rounds->n; i > 0; i--) {
		const struct wal_round *r = &rounds->at[i - 1];
		if (r->round <= s->fresh_round)
			return false;
		if (!round_is_proved(s, r))
			continue;
		DCHECK(RULE_BROKEN(B3) || r->round > s->min_round);
		s->fresh_round = r->round;
		s->fresh_sent_us = r->sent_us;
		/* A round that nobody waits for is polled lazily and not nudged: its time says nothing about a wait. */
		if (r->wanted)
			note_catchup(s, now_us > r->sent_us ? now_us - r->sent_us : 0);
		return true;
	}
	return false;
}

bool standby_on_poll(struct standby *s, const struct wal_rounds *rounds, const struct standby_reply *reply,
                     uint64_t now_us)
{
	if (!s->connected)
		return false;
	/* No position, or one that went back: not the server that we knew. */
	if (!reply->has_replay || (s->has_replay && reply->replay < s->replay)) {
		take_proofs_back(s, reply->sent_round > s->min_round ? reply->sent_round : s->min_round);
		return false;
	}
	s->has_replay = true;
	s->replay = reply->replay;
	s->replay_round = reply->sent_round;
	return standby_on_sample(s, rounds, now_us);
}

bool standby_is_current(const struct standby *s, const struct wal_rounds *rounds)
{
	const struct wal_round *newest = wal_rounds_newest(rounds);
	return s->fresh_round != 0 && (!newest || s->fresh_round >= newest->round);
}

uint64_t standby_behind_since(const struct standby *s, const struct wal_rounds *rounds)
{
	return standby_is_current(s, rounds) ? 0 : s->fresh_sent_us;
}

uint64_t standby_catchup(const struct standby *s, const struct wal_rounds *rounds, uint64_t now_us)
{
	for (unsigned i = 0; s->connected && i < rounds->n; i++) {
		const struct wal_round *r = &rounds->at[i];
		if (!r->wanted || r->round <= s->fresh_round || r->round <= s->min_round)
			continue;
		uint64_t age = now_us > r->sent_us ? now_us - r->sent_us : 0;
		return age > s->catchup_us ? age : s->catchup_us;
	}
	return s->catchup_us;
}

bool nudge_is_due(const struct wal_round *r, const struct standby *standbys, unsigned n, uint64_t now_us)
{
	if (RULE_BROKEN(B4) || r->flushed >= r->target || now_us < r->sent_us + NUDGE_AFTER_US)
		return false;
	/* While a standby is still busy with what is flushed, flushing more would not help it. */
	for (unsigned i = 0; i < n; i++) {
		const struct standby *s = &standbys[i];
		if (s->connected && s->has_replay && timeline_counts(s) && s->fresh_round < r->round &&
		    s->replay < r->target && s->replay >= r->reachable)
			return true;
	}
	return false;
}

uint64_t round_pace_due(const struct round_pace *p)
{
	uint64_t gap_us = p->sent_us + ROUND_GAP_US, burst_us = (uint64_t)ROUND_BURST * ROUND_PACE_US;
	uint64_t pace_us = p->paid_us > burst_us ? p->paid_us - burst_us : 0;
	return gap_us > pace_us ? gap_us : pace_us;
}

void round_pace_take(struct round_pace *p, uint64_t now_us)
{
	p->paid_us = (p->paid_us > now_us ? p->paid_us : now_us) + ROUND_PACE_US;
}
