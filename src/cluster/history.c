/* cluster/history.c - see cluster/history.h. */
#include "cluster/history.h"

#include <string.h>

/* The answer's timeline and position need not be of the same moment: only the next answer tells that the timeline had
 * not changed when the position was taken. */
void history_look(struct wal_followed *f, uint32_t timeline, uint64_t replayed)
{
	if (timeline && timeline == f->seen.timeline)
		f->proved = f->seen;
	f->seen = (struct wal_past){ timeline, replayed };
}

/* Of the past that is known, what is before `timeline`; nothing, when that one is not in it: it may have forked off
 * elsewhere. */
static void cut(struct wal_history *h, uint32_t timeline)
{
	unsigned i = 0;
	if (h->timeline == timeline)
		return;
	while (i < HISTORY_MAX && h->past[i].timeline != timeline)
		i++;
	unsigned left = i < HISTORY_MAX ? HISTORY_MAX - i - 1 : 0;
	memmove(h->past, h->past + (HISTORY_MAX - left), left * sizeof *h->past);
	memset(h->past + left, 0, (HISTORY_MAX - left) * sizeof *h->past);
}

void history_go_on(struct wal_history *h, uint32_t timeline, const struct wal_past *before)
{
	if (timeline == 0 || timeline == h->timeline)
		return;
	if (before->timeline && before->timeline < timeline) {
		cut(h, before->timeline);
		memmove(h->past + 1, h->past, (HISTORY_MAX - 1) * sizeof *h->past);
		h->past[0] = *before;
	} else {
		memset(h->past, 0, sizeof h->past);
	}
	h->timeline = timeline;
}

bool history_has(const struct wal_past past[HISTORY_MAX], uint32_t timeline, uint64_t lsn)
{
	for (unsigned i = 0; i < HISTORY_MAX; i++) {
		if (past[i].timeline && past[i].timeline == timeline)
			return lsn <= past[i].lsn;
	}
	return false;
}
