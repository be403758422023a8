/* cluster/freshness.h - what a sample of the primary and the polls of a standby prove.  Pure: no I/O, no clock.
 *
 * Rules B3 to B7 live here, apart from the sockets, so that they can be tested with made-up replies:
 *   B4  nudge_is_due()      when a position cannot be reached by waiting
 *   B5  wal_target()        a position just behind a page header is the end of the record before it
 *   B3  standby_on_poll()   a poll proves rounds that began before it was sent, on a connection older than the round
 *   B7  standby_set_timelines()
 * and how often it is worth while to ask: round_pace_due().
 *
 * Several rounds may be outstanding: one reply of a standby proves all whose target it has reached. */
#ifndef CLUSTER_FRESHNESS_H
#define CLUSTER_FRESHNESS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/check.h"

struct wal_sizes {
	uint32_t block_bytes, segment_bytes; /* wal_block_size, wal_segment_size; as the server says */
};

/* "16/B374D848"; the whole string must be a position. */
bool wal_parse_lsn(const char *text, uint64_t *out) MUSTCHECK;
/* B5: the position that a standby must have replayed to have all up to the insert position `lsn`. */
uint64_t wal_target(uint64_t lsn, struct wal_sizes sizes);

/* B4: how far a standby surely gets with what is flushed: to that position, or to nowhere that is known (0) where it is
 * a page's end, at which PostgreSQL's background writers stop also in the middle of a record. */
uint64_t wal_reachable(uint64_t flushed, struct wal_sizes sizes);

struct wal_round {
	uint64_t round;     /* as begun */
	uint64_t target;    /* by wal_target() */
	uint64_t flushed;   /* the primary's flush position in the same sample */
	uint64_t reachable; /* by wal_reachable() */
	uint64_t sent_us;   /* when the sample was sent */
	bool wanted; /* somebody waited for it, so that it was seen to: only then does catchup_us learn from it */
};

/* The outstanding rounds, oldest first; round and target grow.  When it is full it forgets every second one of the
 * older half: a proof then comes a little later, never wrongly. */
enum { WAL_ROUNDS_MAX = 64 };
struct wal_rounds {
	struct wal_round at[WAL_ROUNDS_MAX];
	unsigned n;
};
void wal_rounds_add(struct wal_rounds *rounds, const struct wal_round *r);
void wal_rounds_forget(struct wal_rounds *rounds, uint64_t upto_round); /* nobody needs these any more */
/* The newest round, or NULL. */
const struct wal_round *wal_rounds_newest(const struct wal_rounds *rounds);

struct standby {
	bool connected;
	bool has_replay;
	uint64_t min_round;    /* rounds up to this began before the connection: no proof (B3) */
	uint64_t replay;       /* position of the last poll answered */
	uint64_t replay_round; /* newest round begun when that poll was sent */
	uint32_t timeline;     /* 0 unknown */
	uint32_t primary_timeline;
	uint64_t fresh_round;   /* 0 none */
	uint64_t fresh_sent_us; /* when that round's sample was sent */
	uint64_t catchup_us;    /* moving average of sample to proof, of wanted rounds */
};

void standby_on_connect(struct standby *s, uint64_t round_now);
void standby_on_loss(struct standby *s);
/* The timelines as known now; a change of either takes all proofs back (rounds up to round_now do not count). */
void standby_set_timelines(struct standby *s, uint32_t own, uint32_t primary, uint64_t round_now);
/* A reply: replay position (has_replay false: NULL), and the newest round when the poll was sent.
 * True when the standby has become fresher. */
struct standby_reply {
	bool has_replay;
	uint64_t replay, sent_round;
};
bool standby_on_poll(struct standby *s, const struct wal_rounds *rounds, const struct standby_reply *reply,
                     uint64_t now_us);
/* A sample has arrived: perhaps the last poll proves it already. */
bool standby_on_sample(struct standby *s, const struct wal_rounds *rounds, uint64_t now_us);

/* 0 when the newest round is proved; else when the newest proved one was sampled. */
uint64_t standby_behind_since(const struct standby *s, const struct wal_rounds *rounds);
/* The average, or the age of the oldest wanted round that is still to be proved if that is more. */
uint64_t standby_catchup(const struct standby *s, const struct wal_rounds *rounds, uint64_t now_us);
/* Is every round up to the newest proved? */
bool standby_is_current(const struct standby *s, const struct wal_rounds *rounds);

/* B4: some standby has all that it can have of what the primary has flushed, but the round's target is not flushed, so
 * that it would wait for a background writer.  Asked about a round that somebody waits for. */
bool nudge_is_due(const struct wal_round *r, const struct standby *standbys, unsigned n, uint64_t now_us);
enum { NUDGE_AFTER_US = 1000 };

/* When the next round may begin.  One costs three processes a turn, so under load many readers had better share it:
 * ROUND_BURST rounds may follow each other ROUND_GAP_US apart, after that one each ROUND_PACE_US; each ROUND_PACE_US
 * without one gives one of the burst back.  A lone client hardly ever comes to the pace. */
enum { ROUND_GAP_US = 200, ROUND_PACE_US = 1000, ROUND_BURST = 16 };
struct round_pace {
	uint64_t sent_us; /* when the last round began, on demand or not */
	uint64_t paid_us; /* those on demand are paid for until then */
};
uint64_t round_pace_due(const struct round_pace *p);
void round_pace_take(struct round_pace *p, uint64_t now_us); /* one begins on demand */

#endif
