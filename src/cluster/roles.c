/* cluster/roles.c - see cluster/roles.h. */
#include "cluster/roles.h"

#include "base/rules.h"

const char *role_verdict_text(enum role_verdict verdict)
{
	static const char *const texts[] = {
#define ROLE_VERDICT_TEXT(id, text) [VERDICT_##id] = (text),
		ROLE_VERDICTS(ROLE_VERDICT_TEXT)
#undef ROLE_VERDICT_TEXT
	};
	return texts[verdict];
}

/* Which database system is this cluster?  The one that we knew, as long as any host still is of it (all may have been
 * replaced by a pg_upgrade); else the one of the most hosts, the first named among equals. */
static uint64_t choose_system(const struct host_view *hosts, unsigned n, uint64_t known)
{
	uint64_t best = known;
	unsigned best_votes = 0;
	for (unsigned i = 0; i < n; i++) {
		unsigned votes = 0;
		if (hosts[i].answer != ANSWER_FULL)
			continue;
		if (hosts[i].system_identifier == known)
			return known;
		for (unsigned k = 0; k < n; k++)
			votes +=
			    hosts[k].answer == ANSWER_FULL && hosts[k].system_identifier == hosts[i].system_identifier;
		if (votes > best_votes) {
			best_votes = votes;
			best = hosts[i].system_identifier;
		}
	}
	return best;
}

static enum host_role first_role(const struct host_view *h, uint64_t system)
{
	switch (h->answer) {
	case ANSWER_NOT_YET:
		return HOST_UNKNOWN;
	case ANSWER_NONE:
	case ANSWER_REFUSED:
		return HOST_DOWN;
	case ANSWER_FULL:
		break;
	}
	if (h->system_identifier != system)
		return HOST_DOWN;
	return h->in_recovery ? HOST_REPLICA : HOST_FENCED; /* claimants are fenced until one of them is chosen */
}

/* Sets d->primary to the claimant with the highest timeline, and the verdict. */
static void choose_primary(const struct host_view *hosts, unsigned n, struct role_decision *d)
{
	unsigned claimants = 0, at_best = 0;
	uint32_t best = 0;
	int chosen = -1;
	for (unsigned i = 0; i < n; i++) {
		if (d->role[i] != HOST_FENCED)
			continue;
		claimants++;
		if (chosen < 0 || hosts[i].timeline > best) {
			best = hosts[i].timeline;
			chosen = (int)i;
			at_best = 1;
		} else if (hosts[i].timeline == best) {
			at_best++;
		}
	}
	d->verdict = claimants == 0 ? VERDICT_NONE : claimants == 1 ? VERDICT_ONE : VERDICT_NEWER_WINS;
	if (at_best > 1 && !RULE_BROKEN(B7)) {
		d->verdict = VERDICT_SPLIT;
		chosen = -1;
	} else if (chosen >= 0 && best < d->memory.timeline && !RULE_BROKEN(B7)) {
		d->verdict = VERDICT_STALE;
		chosen = -1;
	}
	d->primary = chosen;
	if (chosen >= 0 && best > d->memory.timeline)
		d->memory.timeline = best;
}

static bool someone_is_awaited(const struct host_view *hosts, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (hosts[i].answer == ANSWER_NOT_YET)
			return true;
	}
	return false;
}

struct role_decision roles_decide(const struct host_view *hosts, unsigned n, const struct role_memory *memory)
{
	struct role_decision d = { .primary = -1, .verdict = VERDICT_NONE, .memory = *memory };
	CHECK(n <= CLUSTER_MAX_HOSTS);
	/* A pooler of a single server must work without any rights of its own, as other poolers do. */
	if (n == 1 && hosts[0].answer == ANSWER_REFUSED) {
		d.role[0] = HOST_PRIMARY;
		d.primary = 0;
		d.verdict = VERDICT_BLIND;
		return d;
	}
	uint64_t system = choose_system(hosts, n, memory->system_identifier);
	if (system != memory->system_identifier)
		d.memory = (struct role_memory){ .system_identifier = system };
	for (unsigned i = 0; i < n; i++) {
		d.role[i] = first_role(&hosts[i], system);
		d.foreign[i] = hosts[i].answer == ANSWER_FULL && hosts[i].system_identifier != system;
	}
	if (someone_is_awaited(hosts, n)) {
		d.verdict = VERDICT_EARLY;
		for (unsigned i = 0; i < n; i++)
			d.role[i] = d.role[i] == HOST_FENCED ? HOST_UNKNOWN : d.role[i];
		return d;
	}
	choose_primary(hosts, n, &d);
	DCHECK(d.primary < (int)n && (d.primary < 0 || hosts[d.primary].answer == ANSWER_FULL));
	if (d.primary >= 0)
		d.role[d.primary] = HOST_PRIMARY;
	return d;
}
