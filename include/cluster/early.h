/* cluster/early.h - commits that a standby shows and the primary does not show yet (B1).  Pure but for memory.
 *
 * The record of a commit reaches a standby before the primary's own snapshots have it: for microseconds mostly, and
 * with a synchronous standby that is away for as long as the writer waits.  What a standby has shown is shown by the
 * primary too once this has been found out, in this order:
 *
 *     primary   pg_current_snapshot()                  -> all that it does not show: its xip list, and xmax or more
 *     standby   which of these are committed for you?  -> none: done; else these are pending
 *     primary   pg_current_snapshot(), again           -> until it shows all that are pending
 *
 * Ids from xmax on belong to it: xmax is one more than the last id that has *ended*, so that a commit that waits on an
 * idle server is not in xip at all. */
#ifndef CLUSTER_EARLY_H
#define CLUSTER_EARLY_H

#include <stdbool.h>
#include <stdint.h>
#include "base/check.h"

struct early_ids {
	uint64_t *at; /* owned */
	unsigned n;
};

struct early_snapshot {
	uint64_t xmax;        /* 0: none was taken */
	struct early_ids xip; /* below xmax, still running */
};

/* "795:799:795,797", as pg_snapshot is printed.  False: it is not one, and *s is empty. */
bool early_parse_snapshot(const char *text, struct early_snapshot *s) MUSTCHECK;
/* "795,797" or "". */
bool early_parse_ids(const char *text, struct early_ids *ids) MUSTCHECK;
void early_snapshot_free(struct early_snapshot *s);
void early_ids_free(struct early_ids *ids);
/* The question to a standby, as SQL with search_path = pg_catalog: the ids of early_parse_ids().  Owned by the caller.
 */
char *early_question(const struct early_snapshot *s);
/* Forgets what the snapshot shows; true: nothing is left. */
bool early_settle(struct early_ids *pending, const struct early_snapshot *s);

#endif
