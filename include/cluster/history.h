/* cluster/history.h - what the primary certainly has of the timelines before its own.
 *
 * A promotion forks a timeline off another at a position that only the history file tells, and that is not for the
 * monitor's role to read.  But a standby's replay position, seen while it followed a timeline, is of that timeline, and
 * lies before any fork that it makes later.  So each timeline that came to an end before our eyes is known up to there;
 * what lies behind may have been lost with the old primary.
 * Pure; owner: who embeds it. */
#ifndef CLUSTER_HISTORY_H
#define CLUSTER_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

enum { HISTORY_MAX = 4 };

struct wal_past {
	uint32_t timeline; /* 0: none */
	uint64_t lsn;      /* all of that timeline up to here is in the primary's history */
};

struct wal_history {
	uint32_t timeline;                 /* the primary's; 0: there was none yet */
	struct wal_past past[HISTORY_MAX]; /* newest first */
};

/* A standby that is seen again and again: of which timeline, and up to where it had replayed that. */
struct wal_followed {
	struct wal_past seen;   /* by the last look: its position may be of a later timeline already */
	struct wal_past proved; /* by the one before, and it still followed the same one at the last */
};
void history_look(struct wal_followed *f, uint32_t timeline, uint64_t replayed);

/* The primary is on that timeline now; `before`: what it had followed as a standby. */
void history_go_on(struct wal_history *h, uint32_t timeline, const struct wal_past *before);
/* False: not known, or lost. */
bool history_has(const struct wal_past past[HISTORY_MAX], uint32_t timeline, uint64_t lsn);

#endif
