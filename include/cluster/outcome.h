/* cluster/outcome.h - what became of a COMMIT whose answer was lost (A4).
 *
 *   worker: xid known, COMMIT sent, server lost -> outcome_ask()
 *   monitor's thread: waits for a primary -> asks it for pg_xact_status(), again while it is in progress -> fn()
 *
 * A transaction id is only as good as the history that it belongs to: after a crash that lost it, or a promotion of a
 * standby that never had it, the next client gets the same one.  So "committed" is believed only
 *   - of the very same instance of the server (one shared memory: no crash since; see host.instance), or
 *   - of a standby of that server, promoted since, which had replayed a later id while it was still in recovery.
 * "aborted", and an id that has not been given out yet, are believed of whoever is the primary now: a commit that is
 * not in its history is none.  All else is unknown.
 *
 * The question writes and commits itself, with synchronous_commit = on: what it reports as committed is on disk, and
 * where there are synchronous standbys on these too, before anybody is told.
 *
 * Threads: ask and cancel on the asker's thread, which is that of its loop; fn is called there, from the loop, once,
 * unless the request is cancelled first. */
#ifndef CLUSTER_OUTCOME_H
#define CLUSTER_OUTCOME_H

#include <stdint.h>
#include "base/check.h"
#include "cluster/topology.h"
#include "io/loop.h"

#define COMMIT_OUTCOMES(X)                                                                                             \
	X(UNKNOWN, "nobody can tell")                                                                                  \
	X(COMMITTED, "it was committed, durably")                                                                      \
	X(ABORTED, "it was not, and will not be")                                                                      \
	X(PENDING, "its backend is still at it: to be asked again")
enum commit_outcome {
#define COMMIT_OUTCOME_ENUM(id, doc) OUTCOME_##id,
	COMMIT_OUTCOMES(COMMIT_OUTCOME_ENUM)
#undef COMMIT_OUTCOME_ENUM
};

/* The transaction, as it was before its COMMIT was sent. */
struct outcome_mark {
	const struct host *host; /* borrowed, for ever: where it ran */
	uint64_t instance;       /* host->instance, read before xid was asked for; 0: not known */
	uint32_t timeline;       /* host->timeline, likewise */
	uint64_t xid;            /* all 64 bits */
};

/* Who is asked. */
struct outcome_witness {
	const struct host *host;
	uint64_t instance;
	uint32_t timeline;
	/* How it became what it is: the primary that it last followed, on which timeline, and an id that it had heard
	 * of by then: all below were given out there.  NULL: it was not seen in recovery. */
	const struct host *followed;
	uint32_t followed_timeline;
	uint64_t recovered_below;
};

/* status: what pg_xact_status() says; "future" for an id that was not given out; NULL where it says nothing.  Pure. */
enum commit_outcome outcome_judge(const struct outcome_mark *mark, const struct outcome_witness *w, const char *status);

struct outcome_request;                                             /* opaque */
typedef void (*outcome_fn)(void *arg, enum commit_outcome outcome); /* never PENDING */
/* deadline_us: CLOCK_MONOTONIC; then it is unknown. */
struct outcome_request *outcome_ask(const struct outcome_mark *mark, uint64_t deadline_us, struct loop *loop,
                                    outcome_fn fn, void *arg);
void outcome_cancel(struct outcome_request *r); /* NULL is fine */

#endif
